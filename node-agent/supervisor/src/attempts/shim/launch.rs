//! From an entry to a running script: cgroup, files, outputs, then the child, the user's rights and the shell.
#![expect(
    unsafe_code,
    reason = "clone and signal dispositions have no safe form"
)]

use std::ffi::{CString, NulError};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use capstan_types::Env;
use nix::errno::Errno;
use nix::sched::{CloneFlags, clone};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{
    Gid, Pid, Uid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, execve, geteuid, setgroups,
    setresgid, setresuid, setsid,
};

use super::output::Streams;
use super::user::{AsUser, groups};
use super::{files, output, shell};
use crate::attempts::cgroup::Cgroup;
use crate::attempts::environment::{self, environment};
use crate::attempts::record::{Entry, Identity};

/// The umask of jobs that ask for none.
const UMASK: u32 = 0o077;

/// Why a script never ran, in a sentence for its user. A second try would fail as well.
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
    #[error("{stream} file {path} is no absolute path", path = path.display())]
    RelativeOutput { stream: &'static str, path: PathBuf },
    #[error(
        "output folder {folder} does not exist, and {parent} does not belong to {user}",
        folder = folder.display(), parent = parent.display()
    )]
    OutputFolder {
        folder: PathBuf,
        parent: PathBuf,
        user: String,
    },
    #[error("the output files cannot be shared: {0}")]
    Streams(io::Error),
    #[error("the rights of {user} cannot be taken on: {source}")]
    Rights { user: String, source: Errno },
    #[error("the shell `{0}` is no absolute path")]
    Shell(String),
    #[error("a variable or path of the job holds a NUL byte")]
    Nul(#[from] NulError),
    #[error("no process can be made for the job: {0}")]
    Fork(Errno),
    #[error("{step}: {source}")]
    Step { step: String, source: Errno },
}

/// A script that runs.
pub(super) struct Launched {
    pub(super) child: Pid,
    pub(super) files: files::Written,
    pub(super) stderr: Option<File>,
    /// It began in its cgroup.
    pub(super) is_inside: bool,
}

/// What the child does before it executes the shell, in this order.
#[derive(Clone, Copy)]
enum Step {
    Session,
    Cgroup,
    Streams,
    Limits,
    Rights,
    Folder,
    Shell,
}

/// Everything the child needs, made before it begins.
struct Plan<'a> {
    entry: &'a Entry,
    identity: &'a Identity,
    cgroup: Option<Cgroup>,
    streams: Streams,
    null: File,
    folder: CString,
    shell: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    umask: Mode,
}

/// Starts the script of `entry`; when this returns, the shell has been executed.
pub(super) fn launch(entry: &Entry) -> Result<Launched, Unstartable> {
    let identity = entry.identity.as_ref().ok_or(Unstartable::NoIdentity)?;
    // Without a limit to hold from the first moment, the job starts sooner and enters its group while it runs.
    let is_bounded = entry.spec.memory_bytes.is_some();
    let cgroup = Cgroup::at(&entry.cgroups).filter(|_| is_bounded);
    if let Some(cgroup) = &cgroup {
        let made = cgroup.create(entry.spec.cores, entry.spec.memory_bytes);
        made.map_err(Unstartable::Cgroup)?;
    }
    let is_inside = cgroup.is_some();
    let files = files::write(entry, identity)?;
    let plan = plan(entry, identity, cgroup)?;
    let stderr = plan.streams.stderr.try_clone().ok();
    let child = start(&plan)?;
    Ok(Launched {
        child,
        files,
        stderr,
        is_inside,
    })
}

fn plan<'a>(
    entry: &'a Entry,
    identity: &'a Identity,
    cgroup: Option<Cgroup>,
) -> Result<Plan<'a>, Unstartable> {
    let spec = &entry.spec;
    let host = nix::unistd::gethostname().unwrap_or_default();
    let env = environment(entry, identity, &host.to_string_lossy());
    let shell = environment::shell(spec, identity, &entry.node);
    if !shell.starts_with('/') {
        return Err(Unstartable::Shell(shell));
    }
    // The message cannot tell "no umask" from 0, and a job that shares all it writes by accident is the worse error.
    let mask = match spec.umask {
        0 => UMASK,
        asked => asked & 0o777,
    };
    let mask = Mode::from_bits_truncate(mask);
    let streams = open_streams(entry, identity, &env, mask)?;
    let line = shell::command_line(
        &shell,
        &entry.script_file(),
        &spec.script_arguments,
        &entry.commands_folder,
    );
    let arguments = [shell::login_name(&shell), "-c".to_owned(), line];
    let folder = match spec.initial_folder.as_str() {
        "" => identity.home.as_str(),
        folder => folder,
    };
    Ok(Plan {
        entry,
        identity,
        cgroup,
        streams,
        null: File::open("/dev/null").map_err(Unstartable::Streams)?,
        folder: CString::new(folder)?,
        shell: CString::new(shell)?,
        arguments: arguments
            .into_iter()
            .map(CString::new)
            .collect::<Result<_, _>>()?,
        environment: env
            .iter()
            .map(|(name, value)| CString::new(format!("{name}={value}")))
            .collect::<Result<_, _>>()?,
        umask: mask,
    })
}

fn open_streams(
    entry: &Entry,
    identity: &Identity,
    env: &Env,
    mask: Mode,
) -> Result<Streams, Unstartable> {
    let rights = AsUser::become_user(identity).map_err(|source| Unstartable::Rights {
        user: identity.user.clone(),
        source,
    })?;
    let old = umask(mask);
    let streams = output::open(&entry.spec, identity, env);
    umask(old);
    drop(rights);
    streams
}

/// Stack of the child until it executes the shell.
const STACK_BYTES: usize = 128 * 1024;

fn start(plan: &Plan<'_>) -> Result<Pid, Unstartable> {
    let mut failure = None;
    let mut stack = vec![0; STACK_BYTES];
    let child = {
        let run = Box::new(|| {
            failure = Some(become_script(plan));
            // The status that a shell gives for a command it cannot run; nobody but us looks at it.
            127
        });
        // A child in our own memory, for which we stand still until it executes the shell: copying the page tables
        // first, only to drop them, was the dearest part of a start.
        let flags = CloneFlags::CLONE_VM | CloneFlags::CLONE_VFORK;
        // SAFETY: this process has one thread, and it waits; so the child has the memory for itself. It leaves by
        // exec or by the end of the closure, and what it changes beside memory (signals, files, rights) is its own.
        unsafe { clone(run, &mut stack, flags, Some(Signal::SIGCHLD as i32)) }
    };
    let child = child.map_err(Unstartable::Fork)?;
    let Some((step, source)) = failure else {
        return Ok(child);
    };
    // Reaped here, or it would be taken for the script.
    let _reaped = nix::sys::wait::waitpid(child, None);
    Err(Unstartable::Step {
        step: plan.failed(step),
        source,
    })
}

impl Plan<'_> {
    fn failed(&self, step: Step) -> String {
        let user = &self.identity.user;
        match step {
            Step::Session => "no session can be made for the job".to_owned(),
            Step::Cgroup => "the job cannot enter its cgroup".to_owned(),
            Step::Streams => "the output files cannot be handed to the job".to_owned(),
            Step::Limits => "the limits of the job cannot be set".to_owned(),
            Step::Rights => format!("the rights of {user} cannot be taken on"),
            Step::Folder => format!(
                "the working folder {} cannot be entered by {user}",
                self.folder.to_string_lossy()
            ),
            Step::Shell => format!("the shell {} cannot be run", self.shell.to_string_lossy()),
        }
    }
}

/// Turns the child into the script; returns only when that fails.
fn become_script(plan: &Plan<'_>) -> (Step, Errno) {
    let plain = |error: io::Error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
    let steps = || -> Result<(), (Step, Errno)> {
        let at = |step: Step| move |errno: Errno| (step, errno);
        setsid().map_err(at(Step::Session))?;
        if let Some(cgroup) = &plan.cgroup {
            cgroup
                .enter()
                .map_err(|error| (Step::Cgroup, plain(error)))?;
        }
        // The job is what the kernel should kill when memory runs out, not us who account for it.
        let _unprivileged = std::fs::write("/proc/self/oom_score_adj", "0");
        reset_signals();
        dup2_stdin(plan.null.as_fd()).map_err(at(Step::Streams))?;
        dup2_stdout(plan.streams.stdout.as_fd()).map_err(at(Step::Streams))?;
        dup2_stderr(plan.streams.stderr.as_fd()).map_err(at(Step::Streams))?;
        set_limits(plan.entry).map_err(at(Step::Limits))?;
        take_rights(plan.identity).map_err(at(Step::Rights))?;
        umask(plan.umask);
        chdir(plan.folder.as_c_str()).map_err(at(Step::Folder))?;
        let Err(errno) = execve(&plan.shell, &plan.arguments, &plan.environment);
        Err((Step::Shell, errno))
    };
    match steps() {
        Ok(()) => (Step::Shell, Errno::UnknownErrno),
        Err(failure) => failure,
    }
}

/// Rust ignores SIGPIPE and we block all; a shell must find signals as a login would leave them.
fn reset_signals() {
    for number in Signal::iterator() {
        // SAFETY: the default action runs no code of ours. KILL and STOP refuse, as they must.
        let _refused = unsafe { signal(number, SigHandler::SigDfl) };
    }
    // Unblocking a valid set cannot fail.
    let _unblocked = SigSet::all().thread_unblock();
}

fn set_limits(entry: &Entry) -> Result<(), Errno> {
    let spec = &entry.spec;
    let limits = [
        (spec.pmem_bytes, Resource::RLIMIT_DATA),
        (spec.pmem_bytes, Resource::RLIMIT_RSS),
        (spec.vmem_bytes, Resource::RLIMIT_AS),
        (spec.file_bytes, Resource::RLIMIT_FSIZE),
    ];
    for (limit, resource) in limits {
        if let Some(limit) = limit {
            setrlimit(resource, limit, limit)?;
        }
    }
    Ok(())
}

fn take_rights(identity: &Identity) -> Result<(), Errno> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    setgroups(&groups(identity))?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)
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
