//! The script: where it comes from, whether it is text, what its directives say.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use capstan_types::directives;

use crate::command::Failure;
use crate::getopt;

use super::checks::job_name;
use super::draft::{Draft, Reading};
use super::options::{OPTIONS, misuse};
use super::request::Place;

/// How much is read at most. The server's own limit is far lower; this one keeps `qsub < /dev/zero` from eating the host.
pub(crate) const BYTES_MAX: u64 = 64 << 20;
/// How far a script is looked at to tell text from a program.
const BYTES_LOOKED_AT: usize = 50;

/// A script that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Script {
    /// All of it.
    pub(crate) bytes: Vec<u8>,
    /// The job's name when no option gives one.
    pub(crate) default_name: String,
}

impl Script {
    /// Reads the script named by the operand; `-` or none is stdin, which may be anything.
    ///
    /// # Errors
    /// It is missing, no file, not readable, no text, or too large.
    pub(crate) fn load(operand: Option<&str>) -> Result<Self, Failure> {
        match operand {
            None | Some("" | "-") => Ok(Self {
                bytes: without_carriage_returns(read(std::io::stdin().lock())?),
                default_name: "STDIN".to_owned(),
            }),
            Some(path) => {
                let bytes = read_file(path)?;
                let name = path.rsplit('/').next().unwrap_or(path);
                Self::checked(bytes, name)
            }
        }
    }

    /// No script: an interactive job without one.
    pub(crate) fn none() -> Self {
        Self {
            bytes: Vec::new(),
            default_name: "STDIN".to_owned(),
        }
    }

    /// The script that runs a command: `qsub -- COMMAND ARGUMENT…`. It is named after the command.
    pub(crate) fn of_command(words: &[String]) -> Self {
        let line: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        let command = words.first().map_or("", String::as_str);
        let name = command.rsplit('/').next().unwrap_or(command);
        Self {
            bytes: format!("exec {}\n", line.join(" ")).into_bytes(),
            default_name: name.to_owned(),
        }
    }

    /// What `-x` names: a script, whose directives count, or any other program.
    pub(crate) fn of_program(path: &str) -> Self {
        let name = path.rsplit('/').next().unwrap_or(path);
        let script = read_file(path).and_then(|bytes| Self::checked(bytes, name));
        script.unwrap_or_else(|_| Self {
            bytes: Vec::new(),
            default_name: name.to_owned(),
        })
    }

    /// The same with a command in place of its text: the first word is found from where qsub was called, because the job
    /// begins elsewhere.
    pub(crate) fn with_command(&self, words: &[String], place: &Place) -> Self {
        let mut words = words.to_vec();
        if let Some(program) = words.first_mut() {
            let absolute = place.absolute(program);
            if program.contains('/') || Path::new(&absolute).is_file() {
                *program = absolute;
            }
        }
        let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        Self {
            bytes: words.join(" ").into_bytes(),
            default_name: self.default_name.clone(),
        }
    }

    fn checked(bytes: Vec<u8>, name: &str) -> Result<Self, Failure> {
        let is_text =
            |byte: &u8| !byte.is_ascii_control() || byte.is_ascii_whitespace() || *byte == 0x0b;
        if !bytes.iter().take(BYTES_LOOKED_AT).all(is_text) {
            return Err(Failure::new(1, "qsub:  file must be an ascii script"));
        }
        if bytes.windows(2).any(|pair| pair == b"\r\n") {
            return Err(Failure::new(
                1,
                "qsub:  script is written in DOS/Windows text format",
            ));
        }
        Ok(Self {
            bytes,
            default_name: name.to_owned(),
        })
    }

    /// Applies the script's directives to `draft`.
    ///
    /// # Errors
    /// An unmatched quote, an option that is refused.
    pub(crate) fn apply_directives(
        &self,
        prefix: &str,
        draft: &mut Draft,
        reading: &Reading<'_>,
    ) -> Result<(), Failure> {
        if prefix.is_empty() {
            return Ok(());
        }
        let found = directives(&self.bytes, prefix).map_err(|bad| {
            let at = bad.error.text.get(bad.error.at..);
            let quote = at.and_then(|rest| rest.chars().next()).unwrap_or('"');
            Failure::new(1, format!("qsub: unmatched {quote}"))
        })?;
        for directive in found {
            let parsed = getopt::parse("qsub", OPTIONS, &with_glued_equals(directive.arguments));
            draft.apply(&parsed.items, reading)?;
        }
        Ok(())
    }

    /// The job's name when no option gave one.
    ///
    /// # Errors
    /// The file's name is none for a job.
    pub(crate) fn name(&self) -> Result<&str, Failure> {
        job_name(&self.default_name).ok_or(misuse(
            "qsub: cannot form a valid job name from the script name",
        ))
    }
}

/// As one word for a shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

fn read_file(path: &str) -> Result<Vec<u8>, Failure> {
    let metadata = Path::new(path).metadata().map_err(|error| {
        let what = error.to_string();
        let what = what.split(" (os error").next().unwrap_or(&what).to_owned();
        Failure::new(
            1,
            format!("qsub: script file '{path}' cannot be loaded - {what}"),
        )
    })?;
    if !metadata.is_file() {
        return Err(Failure::new(1, "qsub: script not a file"));
    }
    let file = File::open(path).map_err(|_| misuse("qsub: opening script file:"))?;
    read(file)
}

fn read(from: impl Read) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    match from.take(BYTES_MAX + 1).read_to_end(&mut bytes) {
        Ok(_) if bytes.len() as u64 <= BYTES_MAX => Ok(bytes),
        Ok(_) => Err(Failure::new(
            1,
            format!("qsub: script is larger than {} MB", BYTES_MAX >> 20),
        )),
        // A closed stdin (`qsub <&-`) is an empty script, as in Torque.
        Err(error) if error.raw_os_error() == Some(libc::EBADF) => Ok(bytes),
        Err(error) if error.kind() == ErrorKind::OutOfMemory => {
            Err(Failure::new(2, "qsub: out of memory"))
        }
        Err(error) => Err(Failure::new(
            1,
            format!("qsub: error reading script file: {error}"),
        )),
    }
}

/// A script on stdin loses the carriage returns of its line ends; one in a file is refused for them.
fn without_carriage_returns(bytes: Vec<u8>) -> Vec<u8> {
    if !bytes.contains(&b'\r') {
        return bytes;
    }
    let is_kept = |at: &usize| bytes[*at] != b'\r' || bytes.get(at + 1) != Some(&b'\n');
    (0..bytes.len())
        .filter(is_kept)
        .map(|at| bytes[at])
        .collect()
}

/// In directives `nodes = 1:ppn=1` is one argument, though blanks separate it: a lone `=` joins its neighbours.
pub(super) fn with_glued_equals(arguments: Vec<String>) -> Vec<String> {
    let mut glued: Vec<String> = Vec::with_capacity(arguments.len());
    let mut is_open = false;
    for argument in arguments {
        let is_joint = argument == "=" && !glued.is_empty();
        match glued.last_mut() {
            Some(last) if is_joint || is_open => last.push_str(&argument),
            _ => glued.push(argument),
        }
        is_open = is_joint;
    }
    glued
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Environment;
    use crate::dialect::Dialect;

    #[test]
    fn a_lone_equals_sign_joins_its_neighbours() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(
            with_glued_equals(words("-l nodes = 1:ppn=1 -p 5")),
            words("-l nodes=1:ppn=1 -p 5")
        );
        assert_eq!(with_glued_equals(words("= a")), words("= a"));
    }

    #[test]
    fn stdin_loses_the_carriage_returns_of_line_ends_only() {
        assert_eq!(
            without_carriage_returns(b"a\r\nb\rc\r".to_vec()),
            b"a\nb\rc\r"
        );
    }

    #[test]
    fn a_program_is_no_script() {
        let refused = Script::checked(b"\x7fELF\x01\x02\x03".to_vec(), "bin.sh");
        assert_eq!(
            refused,
            Err(Failure::new(1, "qsub:  file must be an ascii script"))
        );
        assert!(Script::checked("#!/bin/sh\n\techo größe\n".into(), "x").is_ok());
        assert!(Script::checked(Vec::new(), "x").is_ok());
    }

    #[test]
    fn a_script_of_dos_is_refused_when_it_is_a_file() {
        let refused = Script::checked(b"true\r\n".to_vec(), "dos.sh").unwrap_err();
        let text = "qsub:  script is written in DOS/Windows text format";
        assert_eq!(refused, Failure::new(1, text));
    }

    #[test]
    fn a_command_becomes_a_script_that_runs_it() {
        let words = ["/bin/echo", "it's", "a b", "$x"].map(str::to_owned);
        let script = Script::of_command(&words);
        assert_eq!(
            String::from_utf8(script.bytes).unwrap(),
            "exec '/bin/echo' 'it'\\''s' 'a b' '$x'\n"
        );
        assert_eq!(script.default_name, "echo");
    }

    #[test]
    fn an_unmatched_quote_ends_it() {
        let script = Script::checked(b"#PBS -N \"open\n".to_vec(), "x.sh").unwrap();
        let env = Environment::default();
        let reading = Reading {
            env: &env,
            dialect: Dialect::Torque,
        };
        let mut draft = Draft::default();
        let refused = script.apply_directives("#PBS", &mut draft, &reading);
        assert_eq!(refused, Err(Failure::new(1, "qsub: unmatched \"")));
    }

    #[test]
    fn directives_are_weaker_than_what_is_applied_later() {
        let script = Script::checked(
            b"#!/bin/sh\n#PBS\t-N\ttabbed\n#PBS -l nodes=1:ppn=2,walltime=60\ntrue\n".to_vec(),
            "x.sh",
        );
        let mut draft = Draft::default();
        let env = Environment::default();
        let reading = Reading {
            env: &env,
            dialect: Dialect::Torque,
        };
        script
            .unwrap()
            .apply_directives("#PBS", &mut draft, &reading)
            .unwrap();
        let args = ["-l", "walltime=30", "-N", "typed"].map(str::to_owned);
        draft
            .apply(&getopt::parse("qsub", OPTIONS, &args).items, &reading)
            .unwrap();
        assert_eq!(draft.get("Job_Name"), Some("typed"));
        let resources: Vec<_> = draft
            .resources
            .iter()
            .map(|(n, v)| format!("{n}={v}"))
            .collect();
        assert_eq!(resources.join(","), "nodes=1:ppn=2,walltime=30");
    }
}
