//! Job names: what `-N` takes, and the name of a job that was given none.

use crate::ParseError;

/// The longest job name, in characters.
pub const JOB_NAME_CHARS_MAX: usize = 256;

/// The name of a job whose script came from standard input.
pub const STDIN_JOB_NAME: &str = "STDIN";

/// Checks a name for `-N`: 1 to [`JOB_NAME_CHARS_MAX`] printable characters without blanks. It may start with a digit,
/// and, other than in Torque, have letters beyond ASCII.
///
/// # Errors
/// Points at the character that does not belong.
pub fn check_job_name(name: &str) -> Result<(), ParseError> {
    if name.is_empty() {
        return Err(ParseError::new(name, 0, "a job name"));
    }
    for (count, (at, character)) in name.char_indices().enumerate() {
        if count == JOB_NAME_CHARS_MAX {
            return Err(ParseError::new(
                name,
                at,
                "a name of at most 256 characters",
            ));
        }
        if !is_printable(character) {
            return Err(ParseError::new(name, at, "a printable character, no blank"));
        }
    }
    Ok(())
}

/// The name of a job that was given none: the last part of the script's path, or `STDIN`. Characters that `-N` would
/// not take become `_`.
#[must_use]
pub fn default_job_name(script: Option<&str>) -> String {
    let base = script.map(|path| {
        path.trim_end_matches('/')
            .rsplit('/')
            .next()
            .unwrap_or(path)
    });
    match base {
        None | Some("") => STDIN_JOB_NAME.to_owned(),
        Some(base) => {
            let characters = base.chars().take(JOB_NAME_CHARS_MAX);
            characters
                .map(|c| if is_printable(c) { c } else { '_' })
                .collect()
        }
    }
}

fn is_printable(character: char) -> bool {
    character.is_ascii_graphic() || (!character.is_ascii() && character.is_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_no_blanks_and_an_end() {
        let check = |name: &str, expected: Option<usize>| {
            assert_eq!(
                check_job_name(name).err().map(|error| error.at),
                expected,
                "{name}"
            );
        };
        check("testjob", None);
        check("1-st/job", None);
        check("实验", None);
        check(&"x".repeat(256), None);
        check("", Some(0));
        check("a b", Some(1));
        check("a\tb", Some(1));
        check("é\u{202e}", Some(2));
        check(&"é".repeat(257), Some(512));
    }

    #[test]
    fn a_job_without_name_is_called_after_its_script() {
        assert_eq!(default_job_name(Some("/home/u/train.sh")), "train.sh");
        assert_eq!(default_job_name(Some("my job.sh")), "my_job.sh");
        assert_eq!(default_job_name(None), "STDIN");
        assert_eq!(default_job_name(Some("/")), "STDIN");
        assert!(check_job_name(&default_job_name(Some(&"é \n".repeat(500)))).is_ok());
    }
}
