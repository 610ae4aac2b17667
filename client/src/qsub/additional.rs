//! `-W name=value`: the attributes that Torque's qsub looks into, and any other by its name.

use capstan_types::JobReference;

use crate::command::Failure;

use super::draft::Draft;
use super::lists::{at_list, split_commas, unquoted};
use super::options::{illegal, misuse};

/// Names behind a comma that begin a new attribute. Any other `name=` behind a comma belongs to the value before it:
/// dependencies, stage lists and extension strings have commas of their own.
const NAMES: &[&str] = &[
    "depend",
    "fault_tolerant",
    "group_list",
    "interactive",
    "job_array_request",
    "job_radix",
    "stagein",
    "stageout",
    "umask",
    "x",
];

/// Applies the argument of one `-W`.
///
/// # Errors
/// A value that Torque's qsub refuses.
pub(crate) fn apply(draft: &mut Draft, text: &str) -> Result<(), Failure> {
    let text = text.trim_start();
    if text.is_empty() {
        return Err(illegal('W'));
    }
    for (name, value) in pairs(text) {
        attribute(draft, &name, unquoted(&value))?;
    }
    Ok(())
}

/// The attributes in one argument; text without a `name=` in front is the extension string `x`.
fn pairs(text: &str) -> Vec<(String, String)> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for part in split_commas(text) {
        let pair = part
            .split_once('=')
            .map(|(name, value)| (name.trim(), value.trim()));
        match (pair, pairs.last_mut()) {
            (Some((name, value)), None) if !name.is_empty() => {
                pairs.push((name.to_owned(), value.to_owned()))
            }
            (Some((name, value)), Some(_)) if NAMES.contains(&name) => {
                pairs.push((name.to_owned(), value.to_owned()))
            }
            (_, None) => pairs.push(("x".to_owned(), part.to_owned())),
            (_, Some((_, value))) => {
                value.push(',');
                value.push_str(part);
            }
        }
    }
    pairs
}

fn attribute(draft: &mut Draft, name: &str, value: &str) -> Result<(), Failure> {
    match name {
        "depend" => {
            if !is_dependency_list(value) {
                return Err(misuse(&format!(
                    "qsub: illegal -W dependency value: '{value}'"
                )));
            }
            draft.set(name, value);
        }
        "umask" => draft.set(name, umask(value)?),
        "stagein" | "stageout" => {
            if !value.split(',').all(is_stage_pair) {
                return Err(misuse(&format!("qsub: illegal -W value for {name}")));
            }
            append(draft, name, ',', value);
        }
        "group_list" => {
            if at_list(value).is_none_or(|list| !list.is_one_per_host) {
                return Err(misuse("qsub: illegal -W value grouplist"));
            }
            draft.set(name, value);
        }
        "interactive" => match value {
            "true" => draft.is_interactive = true,
            _ => return Err(illegal('W')),
        },
        "job_radix" => match value.parse::<u32>() {
            Ok(radix) if radix >= 2 => draft.set(name, value),
            Ok(_) => return Err(misuse("qsub: illegal -W. job_radix must be >= 2")),
            Err(_) => return Err(misuse("qsub: illegal -W value for job_radix")),
        },
        "fault_tolerant" => match value.chars().next() {
            Some('1' | 'T' | 't' | 'Y' | 'y') => draft.set(name, "True"),
            Some('0' | 'F' | 'f' | 'N' | 'n') => draft.set(name, "False"),
            _ => {
                return Err(misuse(&format!(
                    "qsub: invalid fault_tolerant value: {value}"
                )));
            }
        },
        "x" => append(draft, name, ';', value),
        name => draft.set(name, value),
    }
    Ok(())
}

fn append(draft: &mut Draft, name: &str, separator: char, value: &str) {
    let joined = match draft.get(name) {
        Some(before) => format!("{before}{separator}{value}"),
        None => value.to_owned(),
    };
    draft.set(name, joined);
}

/// `local@host:remote`.
fn is_stage_pair(text: &str) -> bool {
    let parts = text
        .split_once('@')
        .and_then(|(local, rest)| Some((local, rest.split_once(':')?)));
    parts.is_some_and(|(local, (host, remote))| {
        !local.is_empty() && !host.is_empty() && !remote.is_empty()
    })
}

/// A leading zero means octal; travels as a decimal number, as Torque stores it.
fn umask(text: &str) -> Result<String, Failure> {
    let digits = text.strip_prefix('0').unwrap_or(text);
    if digits.len() > 3 {
        return Err(misuse(&format!(
            "qsub: Invalid umask value, too many digits: {text}"
        )));
    }
    if !text.starts_with('0') {
        return Ok(text.to_owned());
    }
    match digits {
        "" => Ok("0".to_owned()),
        digits => Ok(u32::from_str_radix(digits, 8)
            .map_err(|_| illegal('W'))?
            .to_string()),
    }
}

/// Whether the form is right: known types, job ids behind them. An empty list of ids is the server's to refuse.
fn is_dependency_list(text: &str) -> bool {
    text.split(',').all(|dependency| {
        let mut parts = dependency.trim().split(':');
        let kind = parts.next().unwrap_or("");
        let mut arguments = parts.map(str::trim).filter(|argument| !argument.is_empty());
        match kind {
            "on" | "synccount" => arguments.all(|count| count.parse::<u32>().is_ok()),
            "after" | "afterok" | "afternotok" | "afterany" | "before" | "beforeok"
            | "beforenotok" | "beforeany" | "syncwith" => arguments.all(is_job),
            "afterstartarray" | "afterokarray" | "afternotokarray" | "afteranyarray"
            | "beforestartarray" | "beforeokarray" | "beforenotokarray" | "beforeanyarray" => {
                arguments.all(is_array)
            }
            _ => false,
        }
    })
}

fn is_job(text: &str) -> bool {
    text.parse::<JobReference>().is_ok()
}

/// `12[]`, `12[][3]`: an array and how many of its members.
fn is_array(text: &str) -> bool {
    match text.split_once("[][") {
        Some((seq, rest)) => {
            let (count, server) = rest.split_once(']').unwrap_or(("", ""));
            count.parse::<u32>().is_ok() && is_job(&format!("{seq}[]{server}"))
        }
        None => is_job(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, &str>) {
        let mut draft = Draft::default();
        let seen = apply(&mut draft, text).map(|()| {
            let shown: Vec<_> = draft
                .attributes
                .iter()
                .map(|(n, v)| format!("{n}={v}"))
                .collect();
            shown.join(" ")
        });
        let seen = seen.map_err(|failure| failure.text.lines().next().unwrap_or("").to_owned());
        assert_eq!(
            seen,
            expected.map(str::to_owned).map_err(str::to_owned),
            "{text}"
        );
    }

    #[test]
    fn attributes_travel_as_torque_sends_them() {
        check(
            "depend=afterok:1.hn1:2,afterany:3",
            Ok("depend=afterok:1.hn1:2,afterany:3"),
        );
        check("depend=\"afterok:12\"", Ok("depend=afterok:12"));
        check("depend=afterok", Ok("depend=afterok"));
        check("depend=afterok:", Ok("depend=afterok:"));
        check(
            "depend=afterokarray:12[][3].hn1",
            Ok("depend=afterokarray:12[][3].hn1"),
        );
        check(
            "depend=afterok:1,umask=022",
            Ok("depend=afterok:1 umask=18"),
        );
        check("umask=0777", Ok("umask=511"));
        check("umask=77", Ok("umask=77"));
        check("foo", Ok("x=foo"));
        check("x=FLAGS:ADVRES", Ok("x=FLAGS:ADVRES"));
        check("foo=bar", Ok("foo=bar"));
        check("group_list=physics", Ok("group_list=physics"));
        check("stagein=a@hn1:/tmp/b", Ok("stagein=a@hn1:/tmp/b"));
    }

    #[test]
    fn values_that_torque_refuses_are_refused_in_its_words() {
        check(
            "depend=bogus:1",
            Err("[qsub: illegal -W dependency value: 'bogus:1']"),
        );
        check(
            "depend=afterok:abc",
            Err("[qsub: illegal -W dependency value: 'afterok:abc']"),
        );
        check(
            "umask=12345",
            Err("[qsub: Invalid umask value, too many digits: 12345]"),
        );
        check("stagein=foo", Err("[qsub: illegal -W value for stagein]"));
        check(
            "job_radix=1",
            Err("[qsub: illegal -W. job_radix must be >= 2]"),
        );
        check(" ", Err("[qsub: illegal -W value]"));
    }
}
