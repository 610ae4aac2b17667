//! Where a job's output goes: joining, default names, and `$PBS_*` in paths.

use serde::{Deserialize, Serialize};

use crate::{JobId, JobPart, ParseError};

/// `-j`: which streams go into one file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum JoinPath {
    /// Two files.
    #[default]
    Separate,
    /// Both into the stdout file (`oe`).
    IntoStdout,
    /// Both into the stderr file (`eo`).
    IntoStderr,
}

impl JoinPath {
    /// Reads `oe`, `eo` or `n`.
    ///
    /// # Errors
    /// Anything else.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        match text {
            "n" => Ok(Self::Separate),
            "oe" => Ok(Self::IntoStdout),
            "eo" => Ok(Self::IntoStderr),
            _ => Err(ParseError::new(text, 0, "oe, eo or n")),
        }
    }

    /// As `Join_Path` shows it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Separate => "n",
            Self::IntoStdout => "oe",
            Self::IntoStderr => "eo",
        }
    }
}

/// One of the two streams that a job writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OutputStream {
    /// `-o`.
    Stdout,
    /// `-e`.
    Stderr,
}

impl OutputStream {
    /// The letter in file names and in `-k`.
    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            Self::Stdout => 'o',
            Self::Stderr => 'e',
        }
    }
}

/// The longest file name that Linux takes, in bytes (`NAME_MAX`).
const FILE_NAME_BYTES_MAX: usize = 255;

/// The longest path that Linux takes, in bytes (`PATH_MAX`).
const PATH_BYTES_MAX: usize = 4096;

/// The file of a stream when nobody named one: `NAME.o123`, `NAME.o123-4` for a member of an array. `job_name` is the
/// name as submitted, for members too; of a name with slashes the last part counts, and what Linux would not take is
/// cut off it.
#[must_use]
pub fn default_output_name(job_name: &str, id: JobId, stream: OutputStream) -> String {
    let letter = stream.letter();
    let suffix = match id.part {
        JobPart::Whole | JobPart::Array => format!(".{letter}{}", id.seq),
        JobPart::Member(index) => format!(".{letter}{}-{index}", id.seq),
    };
    let base = job_name.rsplit('/').next().unwrap_or(job_name);
    let mut end = base.len().min(FILE_NAME_BYTES_MAX - suffix.len());
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{suffix}", &base[..end])
}

/// The variables that `-o` and `-e` paths may use, as `$NAME` or `${NAME}`.
pub trait PathVariables {
    /// The value of a variable; `None` leaves the text as it is.
    fn value(&self, name: &str) -> Option<String>;
}

/// Expands `$NAME` and `${NAME}` in a path; unknown names stay as typed. So does a variable whose value would make the
/// path longer than any that Linux takes: values are the user's, and many times a long one would not fit in memory.
/// Values are not expanded again.
#[must_use]
pub fn expand_path(path: &str, variables: &impl PathVariables) -> String {
    let mut expanded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        rest = &rest[at..];
        let (name, length) = variable(rest);
        match variables.value(name).filter(|_| !name.is_empty()) {
            Some(value) if expanded.len() + value.len() <= PATH_BYTES_MAX => {
                expanded.push_str(&value);
            }
            Some(_) | None => expanded.push_str(&rest[..length]),
        }
        rest = &rest[length..];
    }
    expanded.push_str(rest);
    expanded
}

/// The name of the variable with which `text` begins, and how many bytes `$NAME` or `${NAME}` takes; an empty name and
/// 1 when the `$` is just a `$`.
fn variable(text: &str) -> (&str, usize) {
    let behind = &text[1..];
    let braced = behind.strip_prefix('{');
    let start = braced.unwrap_or(behind);
    let is_part =
        |at: usize, b: u8| b == b'_' || b.is_ascii_alphabetic() || (at > 0 && b.is_ascii_digit());
    let length = start
        .bytes()
        .enumerate()
        .take_while(|&(at, b)| is_part(at, b))
        .count();
    match braced {
        Some(inside) if inside[length..].starts_with('}') => (&inside[..length], length + 3),
        Some(_) => ("", 1),
        None => (&start[..length], length + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Job;

    impl PathVariables for Job {
        fn value(&self, name: &str) -> Option<String> {
            match name {
                "PBS_JOBID" => Some("12.hn1".to_owned()),
                "TRICK" => Some("$PBS_JOBID".to_owned()),
                "LONG" => Some("x".repeat(3000)),
                _ => None,
            }
        }
    }

    #[test]
    fn variables_expand_in_both_spellings() {
        let check = |path: &str, expected: &str| assert_eq!(expand_path(path, &Job), expected);
        check("/ghome/u/$PBS_JOBID.out", "/ghome/u/12.hn1.out");
        check("${PBS_JOBID}x$PBS_JOBID", "12.hn1x12.hn1");
        check("$PBS_JOBIDx $NOPE ${NOPE}", "$PBS_JOBIDx $NOPE ${NOPE}");
        check("$TRICK", "$PBS_JOBID");
        check("a$", "a$");
        check(
            "$$PBS_JOBID$1${}${PBS_JOBID${é}",
            "$12.hn1$1${}${PBS_JOBID${é}",
        );
        check("", "");
    }

    #[test]
    fn expansion_does_not_grow_without_end() {
        assert!(expand_path(&"$LONG".repeat(1000), &Job).len() < 10_000);
    }

    #[test]
    fn default_names_are_those_of_torque() {
        let check = |name: &str, id, stream, expected: &str| {
            assert_eq!(default_output_name(name, id, stream), expected);
        };
        use OutputStream::{Stderr, Stdout};
        check("testjob", JobId::whole(12), Stdout, "testjob.o12");
        check("testjob", JobId::whole(12), Stderr, "testjob.e12");
        check("arr", JobId::member(253, 4), Stdout, "arr.o253-4");
        check("arr", JobId::array(253), Stdout, "arr.o253");
        check("../../etc/x", JobId::whole(1), Stdout, "x.o1");
        let long = default_output_name(&"é".repeat(256), JobId::whole(1), Stdout);
        assert!(long.len() <= 255 && long.ends_with("é.o1"));
    }

    #[test]
    fn join_words_are_those_of_qsub() {
        for word in ["oe", "eo", "n"] {
            assert_eq!(JoinPath::parse(word).unwrap().as_str(), word);
        }
        assert!(JoinPath::parse("o").is_err());
    }
}
