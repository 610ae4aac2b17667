//! `-s` and `-c`: which program runs in the container. A script without the execute bit, without an interpreter line
//! or with CRLF line ends runs all the same, and one line says what was done about it.

use std::path::{Path, PathBuf};

use capstan_proto::wire::LaunchSpec;

use super::mounts::Mounts;
use super::reach::{Facts, Kind, Reached, Rights};
use super::refusal::Refused;
use super::words;

/// How far into a script we look for its interpreter line and its line ends.
const HEAD_BYTES: u64 = 64 * 1024;
/// A script with CRLF line ends is copied without them up to this size.
const COPY_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Longest command line.
const LINE_BYTES_MAX: usize = 128 * 1024;

/// What runs in the container.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Program {
    /// Program and arguments.
    pub(super) command: Vec<String>,
    /// A copy of the script without CR, to be mounted over it.
    pub(super) copy: Option<ScriptCopy>,
    /// What the person should know.
    pub(super) notice: Option<String>,
}

/// The text of a script to be mounted in its place.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ScriptCopy {
    /// Without CR.
    pub(super) bytes: Vec<u8>,
    /// Where the script appears inside.
    pub(super) target: PathBuf,
}

/// `-c`: the words themselves when nothing in the line needs a shell, so that signals reach the program and not a
/// shell in front of it; else `/bin/sh -c`.
///
/// # Errors
/// An empty or endless line, an unmatched quote.
pub(super) fn of_command_line(line: &str) -> Result<Program, Refused> {
    const BUILTINS: &[&str] = &[
        ".", ":", "alias", "cd", "command", "eval", "exec", "exit", "export", "if", "read", "set",
        "shift", "source", "test", "time", "trap", "type", "ulimit", "umask", "unset", "wait",
        "while", "for", "case", "until",
    ];
    if line.contains('\0') || line.len() > LINE_BYTES_MAX {
        return Err(Refused::Request {
            what: "the command line of -c is too long or has a NUL in it",
        });
    }
    let split = words::split(line).map_err(|source| Refused::OptionsQuote {
        options: line.to_owned(),
        source,
    })?;
    let Some(first) = split.words.first() else {
        return Err(Refused::Request {
            what: "the command line of -c is empty",
        });
    };
    let command = match split.needs_shell || BUILTINS.contains(&first.as_str()) {
        true => vec!["/bin/sh".into(), "-c".into(), line.into()],
        false => split.words,
    };
    Ok(Program {
        command,
        ..Program::default()
    })
}

/// Where the scripts of jobs appear in their containers.
pub(super) const JOB_FOLDER: &str = "/.capstan";

/// The job's own script. Without an interpreter line it is read by the shell of `-S`, else by the one that Torque would
/// take, where the image has it. Without any text it is a session, and a shell.
///
/// # Errors
/// A quote in its arguments is not closed.
pub(super) fn of_job(job: &LaunchSpec) -> Result<Program, Refused> {
    const BEST_SHELL: &str =
        "if command -v bash >/dev/null 2>&1; then exec bash \"$@\"; fi; exec /bin/sh \"$@\"";
    let named = job
        .shell
        .split(',')
        .find(|part| part.starts_with('/') && !part.contains('@'));
    let shell = match named {
        Some(path) => vec![path.to_owned()],
        None => ["/bin/sh", "-c", BEST_SHELL, "sh"]
            .map(str::to_owned)
            .into(),
    };
    if job.script.is_empty() {
        return Ok(Program {
            command: shell,
            ..Program::default()
        });
    }
    let head = &job.script[..job.script.len().min(HEAD_BYTES as usize)];
    let target = format!("{JOB_FOLDER}/{}.SC", file_name(&job.job_id));
    let mut command = interpreter_line(head).unwrap_or(shell);
    command.push(target.clone());
    let arguments = job.script_arguments.trim();
    let split = words::split(arguments).map_err(|source| Refused::OptionsQuote {
        options: arguments.to_owned(),
        source,
    })?;
    if split.needs_shell {
        // As typed: the shell splits and expands them, as it does outside of a container.
        let mut through = vec![
            "/bin/sh".to_owned(),
            "-c".to_owned(),
            format!("exec \"$@\" {arguments}"),
            "sh".to_owned(),
        ];
        through.append(&mut command);
        command = through;
    } else {
        command.extend(split.words);
    }
    let bytes = without_cr(&job.script);
    let target = target.into();
    Ok(Program {
        command,
        copy: Some(ScriptCopy { bytes, target }),
        notice: None,
    })
}

/// `123.server`, `4[5].server` as a file's name.
fn file_name(job: &str) -> String {
    job.chars()
        .filter(|c| c.is_ascii_alphanumeric() || "._-[]".contains(*c))
        .collect()
}

/// Where a relative script may lie.
pub(super) struct Places<'a> {
    /// `-P`, when given.
    pub(super) proc_folder: Option<&'a Path>,
    /// The home folder.
    pub(super) home: &'a Path,
    /// The caller's current folder.
    pub(super) current: Option<&'a Path>,
}

impl Places<'_> {
    fn candidates(&self, script: &str) -> Vec<PathBuf> {
        if script.starts_with('/') {
            return vec![script.into()];
        }
        let folders = [self.proc_folder, Some(self.home), self.current];
        folders
            .into_iter()
            .flatten()
            .map(|folder| folder.join(script))
            .collect()
    }
}

/// `-s`. To be run with the user's rights.
///
/// # Errors
/// The script is nowhere, not mounted, not readable, or no script.
pub(super) fn of_script(
    script: &str,
    places: &Places<'_>,
    mounts: &Mounts,
    rights: &Rights,
) -> Result<Program, Refused> {
    let looked = places.candidates(script);
    if script.is_empty() || script.contains('\0') {
        return Err(Refused::Request {
            what: "the script of -s has no name",
        });
    }
    let mut found = None;
    for path in &looked {
        match mounts.inside(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => {
                return Err(Refused::Unreachable {
                    path: path.clone(),
                    source,
                });
            }
            Ok(place) => {
                found = Some((path, place));
                break;
            }
        }
    }
    let Some((path, place)) = found else {
        let script = script.to_owned();
        return Err(Refused::NoScript { script, looked });
    };
    let Some((inside, reached)) = place else {
        return Err(Refused::Script {
            path: path.clone(),
            problem: "it lies in no folder that the container sees: mount its folder with -P, -D or -v",
        });
    };
    program(&inside, &reached, rights)
}

fn program(inside: &Path, reached: &Reached, rights: &Rights) -> Result<Program, Refused> {
    let fail = |problem| Refused::Script {
        path: inside.to_owned(),
        problem,
    };
    if reached.facts.kind != Kind::File {
        return Err(fail("it is not a plain file"));
    }
    let Some(name) = inside.to_str() else {
        return Err(fail("its name is not UTF-8"));
    };
    let head = reached
        .read(HEAD_BYTES)
        .map_err(|source| Refused::Unreachable {
            path: inside.to_owned(),
            source,
        })?;
    let way = way(name, may_execute(&reached.facts, rights), &head).map_err(fail)?;
    let notice = (!way.said.is_empty()).then(|| {
        format!(
            "{name} {}: it is run with {}",
            way.said.join(" and "),
            way.before.join(" ")
        )
    });
    let mut command = match way.is_python {
        // An image has the one or the other name.
        true => vec![
            "/bin/sh".into(),
            "-c".into(),
            r#"if command -v python >/dev/null 2>&1; then exec python "$@"; fi; exec python3 "$@""#
                .into(),
            "startdocker".into(),
        ],
        false => way.before,
    };
    command.push(name.to_owned());
    let mut copy = None;
    if way.has_cr {
        let bytes = reached.read(COPY_BYTES_MAX + 1).unwrap_or_default();
        if bytes.len() as u64 > COPY_BYTES_MAX {
            return Err(fail(
                "it has CRLF line ends and is too large to be run without them",
            ));
        }
        copy = Some(ScriptCopy {
            bytes: without_cr(&bytes),
            target: inside.to_owned(),
        });
    }
    Ok(Program {
        command,
        copy,
        notice,
    })
}

/// How a script is run.
#[derive(Debug, Default, PartialEq, Eq)]
struct Way {
    /// Words in front of the script; none runs it directly.
    before: Vec<String>,
    /// `before` is Python by extension, under whichever name.
    is_python: bool,
    /// The line ends must go.
    has_cr: bool,
    /// What is unusual about it, for the notice.
    said: Vec<&'static str>,
}

fn way(name: &str, may_execute: bool, head: &[u8]) -> Result<Way, &'static str> {
    if head.starts_with(b"\x7fELF") {
        return match may_execute {
            true => Ok(Way::default()),
            false => Err("it is a program without the execute bit: chmod +x it"),
        };
    }
    let has_cr = head.windows(2).any(|pair| pair == b"\r\n");
    let interpreter = interpreter_line(head);
    let mut said = Vec::new();
    if !may_execute {
        said.push("has no execute bit");
    }
    if interpreter.is_none() {
        said.push("has no interpreter line");
    }
    if has_cr {
        said.push("has CRLF line ends");
    }
    if said.is_empty() {
        return Ok(Way::default());
    }
    let mut is_python = false;
    let before = interpreter.unwrap_or_else(|| {
        let extension = name
            .rsplit('/')
            .next()
            .and_then(|file| file.rsplit_once('.'));
        let word = match extension.map(|(_, extension)| extension) {
            Some("py") => {
                is_python = true;
                "python"
            }
            Some("bash") => "/bin/bash",
            Some("pl") => "perl",
            Some("rb") => "ruby",
            Some("R" | "r") => "Rscript",
            Some("lua") => "lua",
            _ => "/bin/sh",
        };
        vec![word.to_owned()]
    });
    Ok(Way {
        before,
        is_python,
        has_cr,
        said,
    })
}

/// Interpreter and its one argument, as the kernel reads the line, without a CR.
fn interpreter_line(head: &[u8]) -> Option<Vec<String>> {
    let line = head.strip_prefix(b"#!")?.split(|&b| b == b'\n').next()?;
    let line = std::str::from_utf8(line)
        .ok()?
        .trim_matches([' ', '\t', '\r']);
    let (interpreter, argument) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    if interpreter.is_empty() {
        return None;
    }
    let mut words = vec![interpreter.to_owned()];
    words.extend(
        Some(argument.trim_start())
            .filter(|a| !a.is_empty())
            .map(str::to_owned),
    );
    Some(words)
}

fn may_execute(facts: &Facts, rights: &Rights) -> bool {
    let bit = match (
        facts.uid == rights.uid,
        facts.gid == rights.gid || rights.groups.contains(&facts.gid),
    ) {
        (true, _) => 0o100,
        (false, true) => 0o010,
        (false, false) => 0o001,
    };
    facts.mode & bit != 0
}

fn without_cr(bytes: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter().copied().peekable();
    while let Some(byte) = rest.next() {
        if byte != b'\r' || rest.peek().is_some_and(|&next| next != b'\n') {
            kept.push(byte);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, executable: bool, head: &str, before: &[&str], said: &[&str]) {
        let way = way(name, executable, head.as_bytes()).expect(head);
        assert_eq!(way.before, before, "{head:?}");
        assert_eq!(way.said, said, "{head:?}");
    }

    #[test]
    fn a_script_that_can_run_is_run_as_it_is() {
        check("/h/a.py", true, "#!/usr/bin/env python\n", &[], &[]);
        check("/h/a", true, "#!/bin/sh", &[], &[]);
        check("/h/a", true, "\x7fELF", &[], &[]);
        assert!(way("/h/a", false, b"\x7fELF").is_err());
    }

    #[test]
    fn a_script_that_cannot_run_by_itself_is_run_by_its_interpreter() {
        let no_bit = "has no execute bit";
        let no_line = "has no interpreter line";
        check(
            "/h/a.py",
            false,
            "#!/usr/bin/env python\n",
            &["/usr/bin/env", "python"],
            &[no_bit],
        );
        check(
            "/h/a.py",
            false,
            "#! /usr/bin/awk -f  \nx",
            &["/usr/bin/awk", "-f"],
            &[no_bit],
        );
        check("/h/a.py", true, "import x\n", &["python"], &[no_line]);
        check("/h/a.sh", true, "echo\n", &["/bin/sh"], &[no_line]);
        check("/h.py/a", false, "", &["/bin/sh"], &[no_bit, no_line]);
        check("/h/a.R", true, "#!\n", &["Rscript"], &[no_line]);
        check(
            "/h/a",
            true,
            "#!/bin/sh\r\necho\r\n",
            &["/bin/sh"],
            &["has CRLF line ends"],
        );
    }

    #[test]
    fn line_ends_go_and_other_carriage_returns_stay() {
        assert_eq!(without_cr(b"a\r\nb\rc\r\r\n\r"), b"a\nb\rc\r\n");
    }

    #[test]
    fn a_jobs_script_is_read_by_whom_it_names() {
        let command = |script: &str, shell: &str, arguments: &str| {
            let job = LaunchSpec {
                job_id: "7[2].hn1".into(),
                script: script.into(),
                shell: shell.into(),
                script_arguments: arguments.into(),
                ..LaunchSpec::default()
            };
            of_job(&job).expect("good").command
        };
        const SCRIPT: &str = "/.capstan/7[2].hn1.SC";
        assert_eq!(
            command("#!/usr/bin/env python\nx", "", ""),
            ["/usr/bin/env", "python", SCRIPT]
        );
        assert_eq!(
            command("x", "/bin/ksh", "a 'b c'"),
            ["/bin/ksh", SCRIPT, "a", "b c"]
        );
        assert_eq!(
            command("x", "/bin/zsh@other", "")
                .last()
                .map(String::as_str),
            Some(SCRIPT)
        );
        assert!(command("x", "", "")[2].contains("exec bash"));
        let through = command("x", "/bin/sh", "$HOME *");
        assert_eq!(
            through,
            [
                "/bin/sh",
                "-c",
                "exec \"$@\" $HOME *",
                "sh",
                "/bin/sh",
                SCRIPT
            ]
        );
        assert_eq!(command("", "/bin/sh", ""), ["/bin/sh"], "a session");
    }

    #[test]
    fn a_command_line_goes_to_a_shell_only_when_it_needs_one() {
        let command = |line| of_command_line(line).expect(line).command;
        assert_eq!(command("which python"), ["which", "python"]);
        assert_eq!(
            command("python -c 'import numpy'"),
            ["python", "-c", "import numpy"]
        );
        assert_eq!(command("/bin/bash"), ["/bin/bash"]);
        assert_eq!(command("cd /x && ls"), ["/bin/sh", "-c", "cd /x && ls"]);
        assert_eq!(command("echo $HOME"), ["/bin/sh", "-c", "echo $HOME"]);
        assert_eq!(command("ulimit -a"), ["/bin/sh", "-c", "ulimit -a"]);
        assert!(of_command_line("").is_err());
        assert!(of_command_line(" \t").is_err());
        assert!(of_command_line("echo 'a").is_err());
        assert!(of_command_line("a\0b").is_err());
    }
}
