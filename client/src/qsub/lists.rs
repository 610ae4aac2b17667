//! The comma lists of `qsub`: resources, exported variables, users and shells per host.

use crate::command::{Environment, Failure};

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
    for item in text.split(',') {
        let (name, host) = item.split_once('@').unwrap_or((item, ""));
        let name = name.trim_start();
        let has_host = item.contains('@');
        if name.is_empty()
            || name.contains(char::is_whitespace)
            || (has_host && host.trim().is_empty())
        {
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
/// A part that is no `name=value`; a combination that Torque refuses in one argument.
pub(crate) fn resource_requests(text: &str) -> Result<Vec<(String, String)>, Failure> {
    if text.contains(",procs=") && text.contains("nodes=") {
        return Err(misuse("qsub: illegal -l value"));
    }
    let mut found = Vec::new();
    for part in split_commas(text) {
        let pair = part
            .split_once('=')
            .map(|(name, value)| (name.trim(), value.trim()));
        let Some((name, value)) = pair.filter(|(name, _)| !name.is_empty()) else {
            let text = format!("Cannot find an attr=value pair in comma separated value '{part}'");
            return Err(Failure::new(1, text));
        };
        found.push((name.to_owned(), unquoted(value).to_owned()));
    }
    Ok(found)
}

/// Reads the argument of `-v`: `NAME=value` up to the next comma, `NAME` with the value that the caller has; one that
/// the caller has not is left out. (Torque makes a variable called `name` of it.)
///
/// # Errors
/// An element without a name.
pub(crate) fn exported_variables(
    text: &str,
    env: &Environment,
) -> Result<Vec<(String, String)>, Failure> {
    let mut exports: Vec<(String, String)> = Vec::new();
    for element in split_escaped(text) {
        let (name, value) = match element.split_once('=') {
            Some((name, value)) => (name, Some(value).filter(|value| !value.is_empty())),
            None => (element.as_str(), None),
        };
        if name.is_empty() {
            return Err(Failure::new(3, "invalid -v syntax"));
        }
        // `NAME=` takes the caller's value, as in Torque; without one the variable is empty.
        let inherited = || env.get(name).or(element.contains('=').then_some(""));
        let Some(value) = value.or_else(inherited) else {
            continue;
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
        assert_eq!(resource_requests("nodes=1,procs=2").unwrap_err().status, 2);
    }

    #[test]
    fn variables_take_the_callers_value_unless_they_have_one() {
        let env = Environment(vec![
            ("A".into(), "from env, with comma".into()),
            ("B".into(), "b".into()),
        ]);
        let check = |text: &str, expected: &str| {
            let exports = exported_variables(text, &env).unwrap();
            let shown: Vec<_> = exports.iter().map(|(n, v)| format!("{n}={v}")).collect();
            assert_eq!(shown.join(";"), expected, "{text}");
        };
        check("A,X=1", "A=from env, with comma;X=1");
        check("UNSET,B", "B=b");
        check("B=,C=", "B=b;C=");
        check("D=x,B", "D=x;B=b");
        check(r"D=x\,y", "D=x,y");
        check("D=1,D=2", "D=2");
        assert_eq!(
            exported_variables("=1", &env),
            Err(Failure::new(3, "invalid -v syntax"))
        );
        assert_eq!(exported_variables("A,,B", &env).unwrap_err().status, 3);
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
    }
}
