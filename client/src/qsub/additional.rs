//! `-W name=value`: the attributes that Torque's qsub looks into, and any other by its name.

use capstan_types::{JobReference, WarningSignal, is_image_wish};

use crate::command::Failure;
use crate::dialect::Dialect;

use super::checks;
use super::draft::{Draft, Reading};
use super::options::{illegal, misuse};

/// Names behind a comma that begin a new attribute. Any other `name=` behind a comma belongs to the value before it:
/// dependencies and extension strings have commas of their own. (Torque takes the whole argument for one value.)
const NAMES: &[&str] = &[
    "block",
    "depend",
    "fault_tolerant",
    "group_list",
    "image",
    "interactive",
    "job_array_request",
    "job_radix",
    "sandbox",
    "signal",
    "gang",
    "stagein",
    "stageout",
    "umask",
    "x",
];
/// Longest number of `job_radix`, digits.
const RADIX_DIGITS_MAX: usize = 4;

/// Applies the argument of one `-W`.
///
/// # Errors
/// A value that Torque's qsub refuses.
pub(crate) fn apply(draft: &mut Draft, text: &str, reading: &Reading<'_>) -> Result<(), Failure> {
    let text = text.trim_start();
    if text.is_empty() {
        return Err(illegal('W'));
    }
    for (name, value) in pairs(text) {
        attribute(draft, &name, &value, reading)?;
    }
    Ok(())
}

/// The names in the argument of one `-W`.
pub(super) fn names(text: &str) -> Vec<String> {
    let pairs = pairs(text.trim_start()).into_iter();
    pairs.map(|(name, _)| name).collect()
}

/// The attributes in one argument, without its quotes. Text without a name or a value is the extension string `x`; a
/// stage list goes on to the end, whatever its words look like.
fn pairs(text: &str) -> Vec<(String, String)> {
    let text = text.replace(['"', '\''], "");
    let pair = |part: &str| {
        let (name, value) = part.split_once('=')?;
        let (name, value) = (name.trim(), value.trim_start());
        let is_name = !name.is_empty() && !name.contains(char::is_whitespace);
        (is_name && !value.is_empty()).then(|| (name.to_owned(), value.to_owned()))
    };
    let mut pairs: Vec<(String, String)> = Vec::new();
    for part in text.split(',') {
        let is_staging = pairs
            .last()
            .is_some_and(|(name, _)| name == "stagein" || name == "stageout");
        match (pair(part), pairs.last_mut()) {
            (Some(pair), None) => pairs.push(pair),
            (Some(pair), Some(_)) if !is_staging && NAMES.contains(&pair.0.as_str()) => {
                pairs.push(pair);
            }
            (None, None) => pairs.push(("x".to_owned(), part.to_owned())),
            (_, Some((_, value))) => {
                value.push(',');
                value.push_str(part);
            }
        }
    }
    pairs
}

fn radix(value: &str) -> Result<&str, Failure> {
    let is_number = value.bytes().all(|b| b.is_ascii_digit());
    match value.parse::<u32>().ok() {
        Some(radix) if is_number && value.len() <= RADIX_DIGITS_MAX => match radix >= 2 {
            true => Ok(value),
            false => Err(misuse("qsub: illegal -W. job_radix must be >= 2")),
        },
        Some(_) | None => Err(misuse("qsub: illegal -W value for job_radix")),
    }
}

fn attribute(
    draft: &mut Draft,
    name: &str,
    value: &str,
    reading: &Reading<'_>,
) -> Result<(), Failure> {
    match name {
        "depend" => {
            if !is_dependency_list(value) {
                return Err(misuse(&format!(
                    "qsub: illegal -W dependency value: '{value}'"
                )));
            }
            draft.set(name, value);
        }
        "umask" => {
            draft.is_ambiguous |= !value.starts_with('0');
            draft.set(name, umask(value, reading.dialect)?);
        }
        "stagein" | "stageout" => {
            let refuse = || misuse(&format!("qsub: illegal -W value for {name}"));
            let files = checks::stage_list(value).ok_or_else(refuse)?;
            append(draft, name, ',', files);
        }
        "group_list" => {
            let refuse = || misuse("qsub: illegal -W value grouplist");
            draft.set(name, checks::one_per_host(value).ok_or_else(refuse)?);
        }
        "signal" => match WarningSignal::parse(value) {
            Ok(warning) => draft.set(name, warning.to_string()),
            Err(error) => {
                let text = format!("qsub: illegal -W value for signal: {error}");
                return Err(misuse(&text));
            }
        },
        "gang" if matches!(value, "end" | "keep") => draft.set(name, value),
        "gang" => {
            let text =
                format!("qsub: illegal -W value for gang: '{value}' is neither end nor keep");
            return Err(misuse(&text));
        }
        "image" if is_image_wish(value) => draft.set(name, value),
        "image" => {
            let text = format!("qsub: illegal -W value for image: '{value}' is no image name");
            return Err(misuse(&text));
        }
        "interactive" => match value {
            "true" => draft.is_interactive = true,
            _ => return Err(illegal('W')),
        },
        "job_radix" => draft.set(name, radix(value)?),
        "fault_tolerant" => match value.chars().next() {
            Some('1' | 'T' | 't' | 'Y' | 'y') => draft.set(name, "True"),
            Some('0' | 'F' | 'f' | 'N' | 'n') => draft.set(name, "False"),
            _ => {
                let text = format!("qsub: invalid fault_tolerant value: {value}");
                return Err(misuse(&text));
            }
        },
        "block" => match value {
            "true" => draft.waits = true,
            "false" => draft.waits = false,
            _ => return Err(illegal('W')),
        },
        // The home folder is where jobs start; a folder per job is not made here.
        "sandbox" if value.eq_ignore_ascii_case("home") => {}
        "sandbox" => {
            let text = format!("qsub: -W sandbox={value} is not supported: only sandbox=HOME is");
            return Err(Failure::new(2, text));
        }
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

/// A leading zero means octal, in PBS Pro's dialect every number is; travels as a decimal number, as Torque stores it.
fn umask(text: &str, dialect: Dialect) -> Result<String, Failure> {
    let digits = text.strip_prefix('0').unwrap_or(text);
    if digits.len() > 3 {
        return Err(misuse(&format!(
            "qsub: Invalid umask value, too many digits: {text}"
        )));
    }
    let is_octal = text.starts_with('0') || dialect == Dialect::Pro;
    match digits {
        digits if !is_octal => Ok(digits.to_owned()),
        "" => Ok("0".to_owned()),
        digits => Ok(u32::from_str_radix(digits, 8)
            .map_err(|_| illegal('W'))?
            .to_string()),
    }
}

/// Whether the form is right: known types, job ids behind them. An empty list of ids is the server's to refuse.
pub(crate) fn is_dependency_list(text: &str) -> bool {
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
    use crate::command::Environment;

    fn check(text: &str, expected: Result<&str, &str>) {
        let mut draft = Draft::default();
        let env = Environment::default();
        let reading = Reading {
            env: &env,
            dialect: Dialect::Torque,
        };
        let seen = apply(&mut draft, text, &reading).map(|()| {
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
        check(
            "stagein=a@hn1:/b,stageout=c@hn1:/d",
            Ok("stagein=a@hn1:/b,stageout=c@hn1:/d"),
        );
        check("depend=", Ok("x=depend="));
        check("x=a,b=c,umask=1", Ok("x=a,b=c umask=1"));
        check("Priority=7", Ok("Priority=7"));
        check("job_array_request=0-3", Ok("job_array_request=0-3"));
        check("two words=x", Ok("x=two words=x"));
        check("sandbox=HOME", Ok(""));
        check(
            "image=bit:5000/deepo:1,umask=1",
            Ok("image=bit:5000/deepo:1 umask=1"),
        );
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
        check("job_radix=x", Err("[qsub: illegal -W value for job_radix]"));
        check("group_list=a,b", Err("[qsub: illegal -W value grouplist]"));
        check("interactive=yes", Err("[qsub: illegal -W value]"));
        check(
            "fault_tolerant=maybe",
            Err("[qsub: invalid fault_tolerant value: maybe]"),
        );
        check(
            "sandbox=PRIVATE",
            Err("qsub: -W sandbox=PRIVATE is not supported: only sandbox=HOME is"),
        );
        check(
            "image=$(id)",
            Err("[qsub: illegal -W value for image: '$(id)' is no image name]"),
        );
        check(" ", Err("[qsub: illegal -W value]"));
    }
}
