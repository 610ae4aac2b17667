//! The comma lists of `qsub`: resources, exported variables, users and shells per host.

use crate::command::Failure;
use crate::dialect::Dialect;

use super::draft::Reading;
use super::options::misuse;

/// What is true of a list `name[@host][,…]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AtList {
    /// No host occurs twice; an entry without one counts as a host of its own.
    pub(crate) is_one_per_host: bool,
    /// Every name is an absolute path.
    pub(crate) is_absolute: bool,
}

/// Looks at `name[@host][,…]`; `None` when it is no such list.
pub(crate) fn at_list(text: &str) -> Option<AtList> {
    let mut hosts = Vec::new();
    let mut is_absolute = true;
    let is_name = |text: &str| {
        let is_odd = |c: char| c.is_whitespace() || c.is_control() || c == '#' || c == '@';
        !text.is_empty() && !text.contains(is_odd)
    };
    for item in text.split(',').map(str::trim) {
        let (name, host) = match item.split_once('@') {
            Some((name, host)) if is_name(host) => (name, host),
            Some(_) => return None,
            None => (item, ""),
        };
        if !is_name(name) {
            return None;
        }
        is_absolute &= name.starts_with('/');
        hosts.push(host);
    }
    let count = hosts.len();
    hosts.sort_unstable();
    hosts.dedup();
    Some(AtList {
        is_one_per_host: hosts.len() == count,
        is_absolute,
    })
}

/// Reads the argument of `-l`: names and values in order, blanks around them dropped, quotes keep commas together.
///
/// # Errors
/// A part that is no `name=value`; a combination that Torque refuses in one argument; a comma too many.
pub(crate) fn resource_requests(text: &str) -> Result<Vec<(String, String)>, Failure> {
    let illegal = || misuse("qsub: illegal -l value");
    if text.contains(",procs=") && text.contains("nodes=") {
        return Err(illegal());
    }
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let end = rest.find(['=', ',']).unwrap_or(rest.len());
        let name = rest[..end].trim_end();
        if name.is_empty() {
            return Err(illegal());
        }
        let Some(value) = rest[end..].strip_prefix('=') else {
            let text = format!("Cannot find an attr=value pair in comma separated value '{rest}'");
            return Err(Failure::new(1, text));
        };
        let value = split_commas(value).first().copied().unwrap_or("");
        found.push((name.to_owned(), unquoted(value.trim()).to_owned()));
        rest = &rest[end + 1 + value.len()..];
        if let Some(behind) = rest.strip_prefix(',') {
            rest = behind.trim_start();
            if rest.is_empty() {
                return Err(illegal());
            }
        }
    }
    Ok(found)
}

/// Reads the argument of `-v`: `NAME=value` up to the next comma, `NAME` with the value that the caller has, empty when
/// the caller has none. `NAME=` in front of a comma is `NAME`, at the end it is an empty value, as in Torque. (Torque
/// makes a variable called `name` of a last one that the caller has not, and eats the letter behind any other.) In PBS
/// Pro's dialect quotes keep commas together.
///
/// # Errors
/// An element without a name.
pub(crate) fn exported_variables(
    text: &str,
    reading: &Reading<'_>,
) -> Result<Vec<(String, String)>, Failure> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let elements = match reading.dialect {
        Dialect::Torque => split_escaped(text),
        Dialect::Pro => split_commas(text).into_iter().map(str::to_owned).collect(),
    };
    let mut exports: Vec<(String, String)> = Vec::new();
    let count = elements.len();
    for (at, element) in elements.into_iter().enumerate() {
        let (name, value) = match element.split_once('=') {
            Some((name, "")) if at + 1 < count => (name, None),
            Some((name, value)) => (name, Some(value)),
            // `-v A,` asks for A and nothing more.
            None if element.is_empty() && at > 0 && at + 1 == count => continue,
            None => (element.as_str(), None),
        };
        if name.is_empty() {
            return Err(Failure::new(3, "invalid -v syntax"));
        }
        let value = value.or_else(|| reading.env.get(name)).unwrap_or("");
        let value = match reading.dialect {
            Dialect::Torque => value,
            Dialect::Pro => unquoted(value),
        };
        match exports.iter_mut().find(|(key, _)| key == name) {
            Some(entry) => entry.1 = value.to_owned(),
            None => exports.push((name.to_owned(), value.to_owned())),
        }
    }
    Ok(exports)
}

/// The parts between commas that are not in quotes.
pub(crate) fn split_commas(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut quote = None;
    let mut start = 0;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            (None, ',') => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// The parts between commas; `\,` is a comma inside a part.
fn split_escaped(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let part = parts.last_mut().expect("there is a part from the start");
        match c {
            '\\' if rest.peek() == Some(&',') => part.extend(rest.next()),
            ',' => parts.push(String::new()),
            c => part.push(c),
        }
    }
    parts
}

/// `text` without the quotes around it.
pub(crate) fn unquoted(text: &str) -> &str {
    let inner = |quote| {
        text.strip_prefix(quote)
            .and_then(|rest: &str| rest.strip_suffix(quote))
    };
    inner('"').or_else(|| inner('\'')).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Environment;

    #[test]
    fn resources_are_split_at_commas_and_blanks_around_names_are_dropped() {
        let check = |text: &str, expected: &[(&str, &str)]| {
            let expected: Vec<_> = expected
                .iter()
                .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
                .collect();
            assert_eq!(resource_requests(text), Ok(expected), "{text}");
        };
        check(
            "nodes=1:ppn=2,walltime=300",
            &[("nodes", "1:ppn=2"), ("walltime", "300")],
        );
        check("nodes = 1:ppn=1", &[("nodes", "1:ppn=1")]);
        check("walltime=", &[("walltime", "")]);
        check(
            "feature='a,b',mem=1gb",
            &[("feature", "a,b"), ("mem", "1gb")],
        );
    }

    #[test]
    fn a_resource_without_a_value_is_refused_in_the_words_of_torque() {
        let text = "Cannot find an attr=value pair in comma separated value 'walltime'";
        assert_eq!(resource_requests("walltime"), Err(Failure::new(1, text)));
        let rest = "Cannot find an attr=value pair in comma separated value 'walltime,mem=1gb'";
        let refused = resource_requests("nodes=1, walltime,mem=1gb");
        assert_eq!(refused, Err(Failure::new(1, rest)));
        for bad in ["nodes=1,procs=2", "nodes=1,", ",nodes=1", "=1", " ,"] {
            let refused = resource_requests(bad).unwrap_err();
            assert_eq!(
                (
                    refused.status,
                    refused.text.starts_with("[qsub: illegal -l value]")
                ),
                (2, true),
                "{bad}"
            );
        }
    }

    #[test]
    fn variables_take_the_callers_value_unless_they_have_one() {
        let env = Environment(vec![
            ("A".into(), "from env, with comma".into()),
            ("B".into(), "b".into()),
        ]);
        let reading = |dialect| Reading { env: &env, dialect };
        let check_in = |dialect, text: &str, expected: &str| {
            let exports = exported_variables(text, &reading(dialect)).unwrap();
            let shown: Vec<_> = exports.iter().map(|(n, v)| format!("{n}={v}")).collect();
            assert_eq!(shown.join(";"), expected, "{text}");
        };
        let check = |text: &str, expected: &str| check_in(Dialect::Torque, text, expected);
        check("A,X=1", "A=from env, with comma;X=1");
        check("UNSET,B", "UNSET=;B=b");
        check("B,UNSET", "B=b;UNSET=");
        check("B=,C=", "B=b;C=");
        check("A,B=", "A=from env, with comma;B=");
        check("B,", "B=b");
        check("", "");
        check("D='x,y'", "D='x;y'=");
        check_in(Dialect::Pro, "D='x,y',B", "D=x,y;B=b");
        check("D=x,B", "D=x;B=b");
        check(r"D=x\,y", "D=x,y");
        check("D=1,D=2", "D=2");
        assert_eq!(
            exported_variables("=1", &reading(Dialect::Torque)),
            Err(Failure::new(3, "invalid -v syntax"))
        );
        for bad in ["A,,B", ",A"] {
            let refused = exported_variables(bad, &reading(Dialect::Torque));
            assert_eq!(refused.unwrap_err().status, 3, "{bad}");
        }
    }

    #[test]
    fn lists_per_host_name_a_host_once() {
        let check = |text: &str, expected: Option<(bool, bool)>| {
            let seen = at_list(text).map(|list| (list.is_one_per_host, list.is_absolute));
            assert_eq!(seen, expected, "{text}");
        };
        check("bob@hn1,carol", Some((true, false)));
        check("/bin/sh", Some((true, true)));
        check("/bin/sh,/bin/bash", Some((false, true)));
        check("/bin/sh@gpu01,/bin/bash", Some((true, true)));
        check("@", None);
        check("", None);
        check("bob@", None);
        check("bob@a@b", None);
        check("bob,", None);
        check("#x", None);
        check(" bob , carol ", Some((false, false)));
    }
}
