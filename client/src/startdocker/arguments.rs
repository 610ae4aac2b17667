//! The command line of `startdocker`: `[-u "OPTIONS"] [-D DIR] [-P DIR] (-s SCRIPT | -c "LINE") IMAGE`. What the
//! options of `-u` mean, the agent decides.

/// Printed behind an error of the command line, and by `-h`.
pub(super) const USAGE: &str = r#"usage: startdocker [-u "DOCKER OPTIONS"] [-D DATA_DIR] [-P PROC_DIR] (-s SCRIPT | -c "COMMAND LINE") IMAGE"#;

/// What was asked on the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Arguments {
    /// `-u`; more than one are one after the other.
    pub(super) engine_options: String,
    /// `-D`
    pub(super) data_folder: String,
    /// `-P`
    pub(super) proc_folder: String,
    /// `-s`
    pub(super) script: Option<String>,
    /// `-c`
    pub(super) command_line: Option<String>,
    /// The image.
    pub(super) image: String,
    /// Run the job's own script in the job's own image. For the agent's shims, so no option that people are told of.
    pub(super) job_script: bool,
}

/// What a shim says to run the job's script in its container.
const JOB_SCRIPT: &str = "--job-script";

/// Why a command line is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadArguments {
    /// `-h`: no error, but nothing to run either.
    #[error("help")]
    Help,
    /// An option without its value.
    #[error("option -{0} needs a value")]
    NoValue(char),
    /// An option that is not ours.
    #[error("unknown option {0}: options of docker run go into -u \"…\"")]
    Unknown(String),
    /// Both.
    #[error("-s and -c exclude each other")]
    BothPrograms,
    /// Neither.
    #[error("one of -s SCRIPT and -c \"COMMAND LINE\" is needed")]
    NoProgram,
    /// No image.
    #[error("IMAGE is missing")]
    NoImage,
    /// Words behind the image.
    #[error("'{0}' is one word too many: quote the command line of -c and the options of -u")]
    TooMany(String),
}

/// Reads the command line. Options may stand behind the image as well.
pub(super) fn parse(words: impl IntoIterator<Item = String>) -> Result<Arguments, BadArguments> {
    let mut arguments = Arguments::default();
    let mut image = None;
    let mut only_operands = false;
    let mut words = words.into_iter().peekable();
    if words.next_if(|word| word == JOB_SCRIPT).is_some() {
        return match words.next() {
            Some(word) => Err(BadArguments::TooMany(word)),
            None => Ok(Arguments {
                job_script: true,
                ..Arguments::default()
            }),
        };
    }
    while let Some(word) = words.next() {
        match word.strip_prefix('-') {
            Some("-") if !only_operands => only_operands = true,
            Some("h" | "-help") if !only_operands => return Err(BadArguments::Help),
            Some(option) if !only_operands && !option.is_empty() => {
                let mut letters = option.chars();
                let letter = letters.next().unwrap_or_default();
                if !matches!(letter, 'u' | 'D' | 'P' | 's' | 'c') {
                    return Err(BadArguments::Unknown(word));
                }
                let attached = Some(letters.as_str().to_owned()).filter(|value| !value.is_empty());
                let value = attached
                    .or_else(|| words.next())
                    .ok_or(BadArguments::NoValue(letter))?;
                arguments.set(letter, value);
            }
            _ if image.is_some() => return Err(BadArguments::TooMany(word)),
            _ => image = Some(word),
        }
    }
    match (&arguments.script, &arguments.command_line) {
        (Some(_), Some(_)) => return Err(BadArguments::BothPrograms),
        (None, None) => return Err(BadArguments::NoProgram),
        (Some(_), None) | (None, Some(_)) => {}
    }
    arguments.image = image
        .filter(|image| !image.is_empty())
        .ok_or(BadArguments::NoImage)?;
    Ok(arguments)
}

impl Arguments {
    fn set(&mut self, letter: char, value: String) {
        match letter {
            'u' if self.engine_options.is_empty() => self.engine_options = value,
            'u' => self.engine_options = format!("{} {value}", self.engine_options),
            'D' => self.data_folder = value,
            'P' => self.proc_folder = value,
            's' => self.script = Some(value),
            _ => self.command_line = Some(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &[&str]) -> Result<Arguments, BadArguments> {
        parse(line.iter().map(|&word| word.to_owned()))
    }

    fn check(line: &[&str], expected: BadArguments) {
        assert_eq!(parsed(line), Err(expected), "{line:?}");
    }

    #[test]
    fn lines_of_real_users_are_read() {
        let seen = parsed(&["-u", "-it", "-c", "/bin/bash", "bit:5000/deepo"]).expect("line");
        assert_eq!(
            (seen.engine_options.as_str(), seen.image.as_str()),
            ("-it", "bit:5000/deepo")
        );
        let seen = parsed(&[
            "-P",
            "/gdata/u/proc1",
            "-s",
            "shell/my.sh",
            "-D",
            "/gdata/u/proj1",
            "i",
        ])
        .expect("line");
        assert_eq!(
            (seen.proc_folder.as_str(), seen.data_folder.as_str()),
            ("/gdata/u/proc1", "/gdata/u/proj1")
        );
        assert_eq!(seen.script.as_deref(), Some("shell/my.sh"));
        let seen = parsed(&["i", "-cwhich python", "-u", "-i", "-u", "-t"]).expect("line");
        assert_eq!(seen.command_line.as_deref(), Some("which python"));
        assert_eq!(seen.engine_options, "-i -t");
    }

    #[test]
    fn a_wrong_line_says_what_is_wrong() {
        check(&["-c", "a", "-s", "b", "i"], BadArguments::BothPrograms);
        check(&["i"], BadArguments::NoProgram);
        check(&["-c", "a"], BadArguments::NoImage);
        check(&["-c", "a", ""], BadArguments::NoImage);
        check(&["-c"], BadArguments::NoValue('c'));
        check(
            &["-c", "which", "python", "i"],
            BadArguments::TooMany("i".into()),
        );
        check(
            &["-v", "/a:/b", "-c", "a", "i"],
            BadArguments::Unknown("-v".into()),
        );
        check(
            &["--privileged", "-c", "a", "i"],
            BadArguments::Unknown("--privileged".into()),
        );
        check(&["-h"], BadArguments::Help);
        check(&[], BadArguments::NoProgram);
    }
}
