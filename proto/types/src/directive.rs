//! `#PBS` lines of a job script: which lines count, where scanning stops, how arguments split.

use std::fmt;

use crate::ParseError;

/// One directive line of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// Line number in the script, from 1 (of the first line, when continued).
    pub line: usize,
    /// The arguments behind the prefix, split as a shell splits them.
    pub arguments: Vec<String>,
}

/// A directive that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectiveError {
    /// Line number in the script, from 1.
    pub line: usize,
    /// What is wrong, and where in the line.
    pub error: ParseError,
}

impl fmt::Display for DirectiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.error)
    }
}

impl std::error::Error for DirectiveError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        None // `error` is part of the message already.
    }
}

/// The directives of `script` that begin with `prefix` (`#PBS`, in exactly this case); none when the prefix is empty.
///
/// Blanks may stand before the prefix, anything behind it (`#PBS-p 5`). Scanning stops at the first line that a shell
/// would run: not blank, no comment. A line that starts with `:` or `#!` does not stop it. A directive that ends in
/// `\` goes on in the next line. A byte order mark, CRLF ends and a missing last newline do not matter.
///
/// # Errors
/// An unmatched quote in a directive.
pub fn directives(
    script: impl AsRef<[u8]>,
    prefix: &str,
) -> Result<Vec<Directive>, DirectiveError> {
    let mut found = Vec::new();
    let script = script.as_ref();
    let script = script.strip_prefix(b"\xef\xbb\xbf").unwrap_or(script);
    let mut lines = (1..).zip(script.split(|&byte| byte == b'\n').map(without_return));
    while let Some((line, text)) = lines.next() {
        let arguments = text.trim_ascii_start().strip_prefix(prefix.as_bytes());
        let Some(arguments) = arguments.filter(|_| !prefix.is_empty()) else {
            if is_executable(text) {
                break;
            }
            continue;
        };
        let mut joined = arguments.to_vec();
        while joined.last() == Some(&b'\\') {
            joined.pop();
            let Some((_, next)) = lines.next() else { break };
            joined.extend_from_slice(next);
        }
        match split_arguments(&String::from_utf8_lossy(&joined)) {
            Ok(arguments) => found.push(Directive { line, arguments }),
            Err(error) => return Err(DirectiveError { line, error }),
        }
    }
    Ok(found)
}

/// Splits a line into arguments: blanks separate, `'…'` and `"…"` group and keep what is in them as it is, `\x`
/// outside of them is `x`.
///
/// # Errors
/// An unmatched quote; points at it.
pub fn split_arguments(line: &str) -> Result<Vec<String>, ParseError> {
    let mut arguments = Vec::new();
    let mut current: Option<String> = None;
    let mut rest = line;
    while let Some(character) = rest.chars().next() {
        let at = line.len() - rest.len();
        rest = &rest[character.len_utf8()..];
        match character {
            '\'' | '"' => {
                let (inside, behind) = rest
                    .split_once(character)
                    .ok_or_else(|| ParseError::new(line, at, "a quote that is closed again"))?;
                current.get_or_insert_default().push_str(inside);
                rest = behind;
            }
            '\\' => {
                let escaped = rest.chars().next();
                current
                    .get_or_insert_default()
                    .push(escaped.unwrap_or('\\'));
                rest = &rest[escaped.map_or(0, char::len_utf8)..];
            }
            blank if is_blank(blank) => arguments.extend(current.take()),
            other => current.get_or_insert_default().push(other),
        }
    }
    arguments.extend(current);
    Ok(arguments)
}

/// Whether a shell would run this line. A line that starts with `:` counts as a comment, as in Torque.
fn is_executable(line: &[u8]) -> bool {
    match line.trim_ascii_start() {
        [] | [b'#', ..] => false,
        _ => !line.starts_with(b":"),
    }
}

fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

const fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(script: &str, expected: &[&[&str]]) {
        let found = directives(script, "#PBS").unwrap();
        let seen: Vec<_> = found.iter().map(|directive| &directive.arguments).collect();
        assert_eq!(seen, expected, "{script:?}");
    }

    #[test]
    fn anything_may_follow_the_prefix_and_blanks_go_before_it() {
        check("#PBS -N x", &[&["-N", "x"]]);
        check("#PBS\t-N\tx\n", &[&["-N", "x"]]);
        check("#PBS-p 5\n", &[&["-p", "5"]]);
        check(" \t#PBS    -N  testjob", &[&["-N", "testjob"]]);
        check("#PBS\n", &[&[]]);
        check("#pbs -N x\n# PBS -N y\n##PBS -N z\n", &[]);
        check("", &[]);
    }

    #[test]
    fn scanning_stops_at_the_first_line_that_runs() {
        check(
            "#!/bin/sh\n\n# note\n:\n#PBS -h\necho\n#PBS -V\n",
            &[&["-h"]],
        );
        check(": anything $(x)\n#PBS -h", &[&["-h"]]);
        check(" :\n#PBS -h", &[]);
        check("  echo\n#PBS -h", &[]);
        check("#PBS -h\nx", &[&["-h"]]);
    }

    #[test]
    fn lines_end_as_they_like() {
        check(
            "\u{feff}#PBS -h\r\n\r\n#PBS -V\r\necho\r\n#PBS -z",
            &[&["-h"], &["-V"]],
        );
        check("#PBS -l a=1,\\\r\nb=2\r\n", &[&["-l", "a=1,b=2"]]);
    }

    #[test]
    fn a_backslash_joins_the_next_line() {
        check(
            "#PBS -N co\\\nnt -p \\\n11\n#PBS -h",
            &[&["-N", "cont", "-p", "11"], &["-h"]],
        );
        check("#PBS -h \\", &[&["-h"]]);
        check("#PBS -h \\\n", &[&["-h"]]);
        check("# note \\\n#PBS -h\n", &[&["-h"]]);
        let found = directives("\n#PBS -N \\\nx\n#PBS -h", "#PBS").unwrap();
        assert_eq!(found.iter().map(|d| d.line).collect::<Vec<_>>(), [2, 4]);
    }

    #[test]
    fn the_prefix_is_the_callers() {
        let count = |prefix| directives("#XX -N a\n#PBS -N b\n", prefix).unwrap().len();
        assert_eq!(
            (count("#XX"), count("#PBS"), count(""), count("# ")),
            (1, 1, 0, 0)
        );
    }

    #[test]
    fn bytes_that_are_no_text_do_no_harm() {
        let found = directives(b"#PBS -N a\xff\n\xff\n#PBS -h", "#PBS").unwrap();
        assert_eq!(found[0].arguments, ["-N", "a\u{fffd}"]);
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn arguments_split_as_in_a_shell() {
        let check = |line: &str, expected: &[&str]| {
            assert_eq!(split_arguments(line).unwrap(), expected, "{line:?}");
        };
        check("", &[]);
        check("  a\tb  ", &["a", "b"]);
        check("-v 'A=x y',B=\"it's\"", &["-v", "A=x y,B=it's"]);
        check(r"a\ b \'c \\ '\'", &["a b", "'c", r"\", r"\"]);
        check("'' \"\"", &["", ""]);
        check("é'ü'ö", &["éüö"]);
        check("a\\", &["a\\"]);
    }

    #[test]
    fn an_unmatched_quote_is_pointed_at() {
        let error = directives("\n#PBS -N 'x\n", "#PBS").unwrap_err();
        assert_eq!((error.line, error.error.at), (2, 4));
        assert_eq!(
            error.to_string(),
            "line 2: expected a quote that is closed again at ''x' in ' -N 'x'"
        );
    }
}
