//! The site's submit filter: a program that gets the script on stdin and qsub's arguments, and whose stdout takes the
//! script's place. It runs as the user who submits, and without a shell: arguments are arguments whatever is in them.

use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::command::Failure;
use crate::torque_cfg::SiteFile;

use super::script::BYTES_MAX;

/// Where Torque looks when the site's file names no filter.
const DEFAULT: &str = "/usr/local/sbin/torque_submitfilter";
/// With this status a filter refuses a job; `exit -1` in bash is it.
const REJECTS: i32 = 255;

/// A submit filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter(PathBuf);

impl Filter {
    /// The filter of this site, if it has one.
    ///
    /// # Errors
    /// The site's file names one that is not there.
    pub(crate) fn of(site: &SiteFile) -> Result<Option<Self>, Failure> {
        match site.get("SUBMITFILTER") {
            Some(named) if Path::new(named).exists() => Ok(Some(Self(named.into()))),
            Some(named) => {
                let text = format!("qsub: invalid submit filter: \"{named}\"");
                Err(Failure::new(1, text))
            }
            None => Ok(Path::new(DEFAULT).exists().then(|| Self(DEFAULT.into()))),
        }
    }

    /// What the filter makes of `script`.
    ///
    /// # Errors
    /// It refuses the job, fails, or says too much.
    pub(crate) fn pass(&self, args: &[String], script: &[u8]) -> Result<Vec<u8>, Failure> {
        let failed = || {
            let text = "qsub: submit filter returned an error code, aborting job submission.";
            Failure::new(1, text)
        };
        let mut child = self.start(args).map_err(|_| failed())?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let (Some(mut stdin), Some(stdout)) = (stdin, stdout) else {
            return Err(failed());
        };
        let filtered = std::thread::scope(|scope| {
            // A filter may write before it has read everything; one that reads nothing is right as well, which is why
            // it does not matter whether everything was written.
            scope.spawn(move || stdin.write_all(script).is_ok());
            read_all(stdout)
        });
        if filtered.is_none() && child.kill().is_err() {
            return Err(failed());
        }
        let status = child.wait().map_err(|_| failed())?;
        match (status.code(), filtered) {
            (Some(0), Some(filtered)) => Ok(filtered),
            (Some(REJECTS), _) => {
                let why =
                    "qsub: Your job has been administratively rejected by the queueing system.";
                let more = "qsub: There may be a more detailed explanation prior to this notice.";
                Err(Failure::new(1, format!("{why}\n{more}")))
            }
            _ => Err(failed()),
        }
    }

    fn start(&self, args: &[String]) -> std::io::Result<Child> {
        let run = |mut command: Command| {
            let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
            piped.args(args).spawn()
        };
        match run(Command::new(&self.0)) {
            // A script without a first line that names its interpreter.
            Err(error) if error.raw_os_error() == Some(libc::ENOEXEC) => {
                let mut shell = Command::new("/bin/sh");
                shell.arg(&self.0);
                run(shell)
            }
            started => started,
        }
    }
}

/// Everything, unless it is too much.
fn read_all(mut from: impl Read) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    match from.by_ref().take(BYTES_MAX + 1).read_to_end(&mut bytes) {
        Ok(_) if bytes.len() as u64 <= BYTES_MAX => Some(bytes),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Some(bytes),
        Ok(_) | Err(_) => None,
    }
}

/// The options that a filter adds to an interactive job: lines `#PBS -X VALUE`, in any case. Other lines say nothing, and a
/// line that is too short for an option ends them, as in Torque.
pub(crate) fn added_options(output: &[u8]) -> Vec<Vec<String>> {
    const START: &str = "#pbs -";
    let text = String::from_utf8_lossy(output);
    let lines = text.lines().filter(|line| !line.is_empty());
    let options = lines.take_while(|line| line.len() >= 4).filter_map(|line| {
        let start = line.get(..START.len())?;
        let rest = &line[START.len()..];
        if !start.eq_ignore_ascii_case(START) {
            return None;
        }
        let letter = rest.chars().next()?;
        let value = rest[letter.len_utf8()..].trim_start();
        let value = (!value.is_empty()).then(|| value.to_owned());
        Some(
            [Some(format!("-{letter}")), value]
                .into_iter()
                .flatten()
                .collect(),
        )
    });
    options.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(text: &str, args: &[&str], script: &[u8]) -> Result<String, Failure> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("filter");
        // Written by another process: a file that this one has open for writing cannot be run, nor while a child that
        // another test starts just then still has it.
        let mut writer = Command::new("/bin/sh")
            .args(["-c", "cat >\"$0\" && chmod 755 \"$0\""])
            .arg(&path)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = writer.stdin.take().unwrap();
        stdin.write_all(text.as_bytes()).unwrap();
        drop(stdin);
        assert!(writer.wait().unwrap().success());
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        let filtered = Filter(path).pass(&args, script)?;
        Ok(String::from_utf8(filtered).unwrap())
    }

    #[test]
    fn what_it_prints_takes_the_place_of_the_script() {
        let filter = "#!/bin/sh\necho '#PBS -N filtered'\ncat\nfor a; do echo \"# $a\"; done\n";
        let args = ["-N", "a b; $(x)"];
        let expected = "#PBS -N filtered\ntrue\n# -N\n# a b; $(x)\n";
        assert_eq!(pass(filter, &args, b"true\n"), Ok(expected.to_owned()));
        // Without a first line that names an interpreter, and without reading a script larger than a pipe.
        let script = vec![b'x'; 1 << 20];
        assert_eq!(pass("echo short\n", &[], &script), Ok("short\n".to_owned()));
    }

    #[test]
    fn it_may_refuse_a_job_or_fail() {
        let rejected = pass("#!/bin/sh\nexit 255\n", &[], b"").unwrap_err();
        assert_eq!(rejected.status, 1);
        assert!(
            rejected
                .text
                .starts_with("qsub: Your job has been administratively rejected")
        );
        let text = "qsub: submit filter returned an error code, aborting job submission.";
        for bad in [
            "#!/bin/sh\nexit 3\n",
            "#!/bin/sh\nkill -9 $$\n",
            "#!/nosuch/interpreter\n",
        ] {
            assert_eq!(pass(bad, &[], b""), Err(Failure::new(1, text)), "{bad}");
        }
    }

    #[test]
    fn a_filter_that_is_not_there_is_named() {
        let site = SiteFile::parse("SUBMITFILTER /nosuch/filter\n");
        let text = "qsub: invalid submit filter: \"/nosuch/filter\"";
        assert_eq!(Filter::of(&site), Err(Failure::new(1, text)));
    }

    #[test]
    fn options_are_added_to_interactive_jobs() {
        let added =
            added_options(b"#PBS -l walltime=60\n\nnote that\n#pbs -h\n#PBSx\nend\n#PBS -V\n");
        let shown: Vec<String> = added.iter().map(|words| words.join(" ")).collect();
        assert_eq!(shown, ["-l walltime=60", "-h"]);
    }
}
