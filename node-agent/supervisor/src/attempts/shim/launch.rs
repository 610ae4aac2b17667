//! From an entry to a running script: cgroup, files, outputs, then a login shell that reads the script's name.

use std::ffi::{CString, NulError};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use capstan_proto::wire::attempt_ended::Outcome;
use capstan_types::Env;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signalfd::SignalFd;
use nix::sys::stat::Mode;
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, pipe2};

use super::contained::{self, Carrier};
use super::control::{Control, Limits};
use super::delivery::Outgoing;
use super::output::{self, Streams};
use super::program::{NotStarted, Program, Step};
use super::terminal::{NotWatched, Terminal};
use super::{files, scratch, shell};
use crate::attempts::cgroup::{Bounds, Cgroup};
use crate::attempts::environment::{self, environment};
use crate::attempts::record::{Entry, Identity};

/// The umask of jobs, and of the output of jobs that ask for none.
const UMASK: u32 = 0o077;

/// Of what prologues print, so much is shown on a terminal.
const SHOWN_BYTES_MAX: usize = 64 << 10;

/// Why a script never ran, in a sentence for its user.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unstartable {
    #[error("the job id `{0}` cannot name a file on the node")]
    JobId(String),
    #[error("the agent did not say as whom the job runs")]
    NoIdentity,
    #[error("{path} cannot be written on the node: {source}")]
    File { path: String, source: io::Error },
    #[error("the cgroup of the job cannot be made: {0}")]
    Cgroup(io::Error),
    #[error("{stream} file {path} cannot be opened: {source}", path = path.display())]
    Output {
        stream: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("no terminal can be made for the job: {0}")]
    Terminal(io::Error),
    #[error("the streams of the job cannot be made: {0}")]
    Streams(io::Error),
    #[error("the rights of {user} cannot be taken on: {source}")]
    Rights { user: String, source: Errno },
    #[error("the shell `{0}` is no absolute path")]
    Shell(String),
    #[error("the script's arguments are too long: {0} bytes")]
    Arguments(usize),
    #[error("a variable or path of the job holds a NUL byte")]
    Nul(#[from] NulError),
    #[error("no process can be made for the job: {0}")]
    Fork(Errno),
    #[error("{step}: {source}")]
    Step { step: String, source: Errno },
}

impl Unstartable {
    /// What of this kind is the node's fault may go well at another time or on another node; what is the job's would fail
    /// again.
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::File { .. } | Self::Cgroup(_) | Self::Terminal(_) | Self::Streams(_) => {
                Outcome::PrologueFailed(self.to_string())
            }
            Self::JobId(_)
            | Self::NoIdentity
            | Self::Output { .. }
            | Self::Rights { .. }
            | Self::Shell(_)
            | Self::Arguments(_)
            | Self::Nul(_)
            // It may be the user who has too many processes.
            | Self::Fork(_)
            | Self::Step { .. } => Outcome::Unstartable(self.to_string()),
        }
    }
}

/// Everything that a script needs, made before it starts.
pub(super) struct Prepared<'a> {
    entry: &'a Entry,
    pub(super) identity: &'a Identity,
    /// To begin in, and whether these are all its groups.
    cgroup: Option<(Cgroup, bool)>,
    env: Env,
    streams: Streams,
    pub(super) files: files::Written,
    /// Of an interactive attempt.
    pub(super) terminal: Option<Terminal>,
}

/// A script that runs.
pub(super) struct Launched {
    pub(super) child: Pid,
    pub(super) streams: Kept,
    /// It began in its cgroup.
    pub(super) is_inside: bool,
    /// What became of output that could not be written where it was asked for.
    pub(super) messages: Vec<String>,
    pub(super) terminal: Option<Terminal>,
}

/// The job's streams, for what is written beside the script.
#[derive(Default)]
pub(in crate::attempts) struct Kept {
    pub(super) stdout: Option<File>,
    pub(super) stderr: Option<File>,
}

impl Kept {
    /// Tells the user something, at the end of the stderr file.
    pub(super) fn say(&self, what: &str) {
        self.append(&format!("=>> PBS: {what}\n"));
    }

    /// Adds whole lines to the stderr file.
    pub(super) fn append(&self, lines: &str) {
        if let Some(stderr) = &self.stderr {
            output::append(stderr, lines);
        }
    }
}

/// Makes what the script of `entry` needs: group, files, outputs. A terminal, if it gets one, is to be had at a socket of
/// this name in the current folder.
pub(super) fn prepare<'a>(
    entry: &'a Entry,
    terminal_name: &Path,
) -> Result<Prepared<'a>, Unstartable> {
    let identity = entry.identity.as_ref().ok_or(Unstartable::NoIdentity)?;
    // Without a limit to hold or a card to open from the first moment, the job starts sooner and enters its group while it
    // runs.
    let cgroup = Cgroup::to_begin_in(entry);
    if let Some((cgroup, _)) = &cgroup {
        let made = cgroup.create(&Bounds::of(entry));
        made.map_err(Unstartable::Cgroup)?;
    }
    let files = files::write(entry, identity)?;
    scratch::make(entry, identity).map_err(|(path, source)| Unstartable::File { path, source })?;
    let host = nix::unistd::gethostname().unwrap_or_default();
    let env = environment(entry, identity, &host.to_string_lossy());
    let terminal = Terminal::open(entry, identity, terminal_name.as_os_str());
    let terminal = terminal.map_err(Unstartable::Terminal)?;
    let streams = match &terminal {
        Some(terminal) => on_terminal(terminal).map_err(Unstartable::Terminal)?,
        None => output::open(entry, identity, &env, output_mask(entry))?,
    };
    Ok(Prepared {
        entry,
        identity,
        cgroup,
        env,
        streams,
        files,
        terminal,
    })
}

fn on_terminal(terminal: &Terminal) -> io::Result<Streams> {
    Ok(Streams {
        stdout: terminal.slave()?,
        stderr: terminal.slave()?,
        messages: Vec::new(),
        outgoing: Vec::new(),
    })
}

impl Prepared<'_> {
    /// The job's streams, once more, for what runs around its script. Nobody attends to a terminal before and after the
    /// shell: what is written then is kept in a file without a name. As in Torque, that of prologues is shown at the
    /// beginning of the session, and that of epilogues goes nowhere.
    pub(super) fn kept(&self) -> Kept {
        if self.terminal.is_none() {
            return self.again();
        }
        let folder = format!("{}/spool", self.entry.state_folder);
        let flags = OFlag::O_TMPFILE.bits();
        let file = File::options()
            .read(true)
            .write(true)
            .mode(0o600)
            .custom_flags(flags)
            .open(folder);
        // What cannot be kept is not shown.
        let file = file.ok();
        Kept {
            stdout: file.as_ref().and_then(|file| file.try_clone().ok()),
            stderr: file,
        }
    }

    /// Shows on the terminal what was written before the shell.
    pub(super) fn show(&mut self, kept: &Kept) {
        let (Some(terminal), Some(file)) = (&mut self.terminal, &kept.stdout) else {
            return;
        };
        let mut bytes = vec![0; SHOWN_BYTES_MAX];
        let count = file.read_at(&mut bytes, 0).unwrap_or(0);
        terminal.show(&bytes[..count]);
    }

    /// The shell is started when somebody sits at the terminal; limits that are ordered meanwhile come behind `limits`.
    pub(super) fn wait_for_terminal(
        &mut self,
        control: &mut Control,
        signals: &SignalFd,
        mut limits: Vec<Limits>,
    ) -> Result<Vec<Limits>, NotWatched> {
        let Some(terminal) = &mut self.terminal else {
            return Ok(limits);
        };
        let kind = terminal.wait_for_first(control, signals, &mut limits)?;
        let kind = match kind.as_str() {
            "" => "dumb",
            kind => kind,
        };
        self.env.set("TERM", kind);
        // No script begins with a line that puts the site's commands in front.
        let folder = &self.entry.commands_folder;
        if !folder.is_empty() {
            let path = format!("{folder}:{}", self.env.get("PATH").unwrap_or_default());
            self.env.set("PATH", path);
        }
        Ok(limits)
    }

    /// Tells whoever waits at the terminal that there will be no shell.
    pub(super) fn dismiss(&mut self, exit_status: i32, why: &str) {
        if let Some(mut terminal) = self.terminal.take() {
            terminal.notice(why);
            terminal.finish(exit_status);
        }
    }

    /// Streams that are to be copied to other hosts when the job is over.
    pub(super) fn outgoing(&self) -> Vec<Outgoing> {
        self.streams.outgoing.clone()
    }

    fn again(&self) -> Kept {
        Kept {
            stdout: self.streams.stdout.try_clone().ok(),
            stderr: self.streams.stderr.try_clone().ok(),
        }
    }

    /// Starts the script; when this returns, the shell has been executed.
    pub(super) fn start(self) -> Result<Launched, Unstartable> {
        let kept = self.again();
        let Self {
            entry,
            identity,
            cgroup,
            env,
            streams,
            files: _, // Who removes them has a copy.
            terminal,
        } = self;
        let Streams {
            stdout,
            stderr,
            messages,
            outgoing: _, // Who delivers them has a copy.
        } = streams;
        let is_inside = cgroup.as_ref().is_some_and(|(_, is_whole)| *is_whole);
        let first = first_program(entry, identity, terminal.as_ref())?;
        let program = Program {
            identity,
            cgroup: cgroup.map(|(cgroup, _)| cgroup),
            stdin: first.stdin,
            stdout,
            stderr,
            folder: CString::new(environment::start_folder(&entry.spec, identity))?,
            arguments: first.arguments,
            paths: first.paths,
            environment: match entry.spec.image.is_empty() {
                true => variables(&env)?,
                false => contained::environment(&env)?,
            },
            umask: job_mask(entry),
            has_terminal: terminal.is_some(),
            limits: Some(&entry.spec),
        };
        let child = program
            .start()
            .map_err(|problem| unstartable(problem, &program))?;
        Ok(Launched {
            child,
            streams: kept,
            is_inside,
            messages,
            terminal,
        })
    }
}

/// What the job begins with.
struct First {
    paths: Vec<CString>,
    arguments: Vec<CString>,
    stdin: File,
}

/// A login shell that is told of the script, or what carries the job's container.
fn first_program(
    entry: &Entry,
    identity: &Identity,
    terminal: Option<&Terminal>,
) -> Result<First, Unstartable> {
    if let Some(Carrier { paths, arguments }) = contained::carrier(entry)? {
        let stdin = match terminal {
            Some(terminal) => terminal.slave(),
            None => File::open("/dev/null"),
        };
        let stdin = stdin.map_err(Unstartable::Streams)?;
        return Ok(First {
            paths,
            arguments,
            stdin,
        });
    }
    let shell = environment::shell(&entry.spec, identity, &entry.node);
    if !shell.starts_with('/') {
        return Err(Unstartable::Shell(shell));
    }
    if let Some(terminal) = terminal {
        let mut arguments = vec![CString::new(shell::login_name(&shell))?];
        if !entry.spec.script.is_empty() {
            // `-x`: the shell is told what to run instead of reading it from the terminal.
            arguments.push(c"-c".to_owned());
            arguments.push(CString::new(entry.spec.script.clone())?);
        }
        return Ok(First {
            stdin: terminal.slave().map_err(Unstartable::Streams)?,
            arguments,
            paths: vec![CString::new(shell)?],
        });
    }
    Ok(First {
        stdin: told(entry, &shell)?,
        arguments: vec![CString::new(shell::login_name(&shell))?],
        paths: vec![CString::new(shell)?],
    })
}

/// `NAME=value` as the kernel takes it.
pub(in crate::attempts) fn variables(env: &capstan_types::Env) -> Result<Vec<CString>, NulError> {
    env.iter()
        .map(|(name, value)| CString::new(format!("{name}={value}")))
        .collect()
}

/// The mask of output files. The message cannot tell "no umask" from 0, and a job that shares all it writes by accident is
/// the worse error.
fn output_mask(entry: &Entry) -> Mode {
    let mask = match entry.spec.umask {
        0 => UMASK,
        asked => asked & 0o777,
    };
    Mode::from_bits_truncate(mask)
}

/// The mask of the script: Torque applies `umask=` to output files only, PBS Pro to the job as well.
pub(in crate::attempts) fn job_mask(entry: &Entry) -> Mode {
    match entry.spec.pro_dialect {
        true => output_mask(entry),
        false => Mode::from_bits_truncate(UMASK),
    }
}

/// A stdin from which the shell reads what to run, and behind it nothing.
fn told(entry: &Entry, shell: &str) -> Result<File, Unstartable> {
    let line = shell::command_line(
        shell,
        &entry.script_file(),
        &entry.spec.script_arguments,
        &entry.commands_folder,
    );
    let pipe = pipe2(OFlag::O_CLOEXEC).map_err(|errno| Unstartable::Streams(errno.into()))?;
    let (reading, mut writing) = (File::from(pipe.0), File::from(pipe.1));
    // Nobody reads yet: more than the pipe holds would wait for ever.
    nix::fcntl::fcntl(&writing, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
        .map_err(|errno| Unstartable::Streams(errno.into()))?;
    match writing.write_all(line.as_bytes()) {
        Ok(()) => Ok(reading),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(Unstartable::Arguments(line.len()))
        }
        Err(error) => Err(Unstartable::Streams(error)),
    }
}

fn unstartable(problem: NotStarted, program: &Program<'_>) -> Unstartable {
    let (step, source) = match problem {
        NotStarted::Fork(errno) => return Unstartable::Fork(errno),
        NotStarted::Step(step, errno) => (step, errno),
    };
    let user = &program.identity.user;
    let step = match step {
        Step::Session => "no session can be made for the job".to_owned(),
        Step::Cgroup => "the job cannot enter its cgroup".to_owned(),
        Step::Streams => "the output files cannot be handed to the job".to_owned(),
        Step::Limits => "the limits of the job cannot be set".to_owned(),
        Step::Rights => format!("the rights of {user} cannot be taken on"),
        Step::Folder => format!(
            "the working folder {} cannot be entered by {user}",
            program.folder.to_string_lossy()
        ),
        Step::Program => {
            let shell = program.paths.first().map(|path| path.to_string_lossy());
            format!("the shell {} cannot be run", shell.unwrap_or_default())
        }
    };
    Unstartable::Step { step, source }
}

/// Gives this process nothing of the agent's: input, output and errors go nowhere.
///
/// # Errors
/// When /dev/null cannot be opened.
pub(in crate::attempts) fn detach_streams() -> io::Result<()> {
    let null: OwnedFd = File::options()
        .read(true)
        .write(true)
        .open("/dev/null")?
        .into();
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_nodes_fault_is_tried_again_and_what_is_the_jobs_is_not() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let of_node = [
            Unstartable::File {
                path: "spool/script".to_owned(),
                source: full(),
            },
            Unstartable::Cgroup(full()),
        ];
        for problem in of_node {
            assert!(
                matches!(problem.outcome(), Outcome::PrologueFailed(_)),
                "{problem}"
            );
        }
        let of_job = [
            Unstartable::Output {
                stream: "stdout",
                path: "/home/alice/none/job.o1".into(),
                source: full(),
            },
            Unstartable::Shell("sh".to_owned()),
        ];
        for problem in of_job {
            assert!(
                matches!(problem.outcome(), Outcome::Unstartable(_)),
                "{problem}"
            );
        }
    }
}
