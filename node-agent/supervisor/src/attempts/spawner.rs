//! Where shims come from. Forking a large process with threads is slow and unsafe, so the agent starts one small
//! single-threaded child of itself, which forks shims on request. When it is gone, shims are executed one by one.
#![expect(
    unsafe_code,
    reason = "fork and taking over descriptors have no safe form"
)]

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
    sendmsg, socketpair,
};
use nix::unistd::{ForkResult, fork, setsid};

use super::cgroup::CgroupTree;
use super::ledger::AttemptFile;
use super::shim;
use super::shim::detach_streams;
use super::tasks;

/// The word that makes our binary a spawner; its stdin is the socket on which it is asked.
pub const SPAWNER_COMMAND: &str = "spawner";
/// The word that makes our binary a shim, with the path of the attempt's file behind it.
pub const SHIM_COMMAND: &str = "shim";
/// What is asked of the spawner instead of an attempt's file when a task is to run; no path of ours looks like these.
const TASK: &str = "task";
/// The same when it is a program that a person runs.
const SESSION: &str = "session";
/// Longest path of an attempt's file.
const PATH_BYTES_MAX: usize = 4096;

/// The spawner and the socket on which it is asked.
#[derive(Debug)]
struct Running {
    socket: OwnedFd,
    process: Child,
}

/// Starts shims.
#[derive(Debug)]
pub(super) struct Spawner {
    program: PathBuf,
    cgroups: CgroupTree,
    running: Mutex<Option<Running>>,
}

impl Spawner {
    /// A spawner that runs `program` (our own binary) with [`SPAWNER_COMMAND`] or [`SHIM_COMMAND`], in the group of `cgroups`
    /// that has no cards: what it forks is there already.
    #[must_use]
    pub(super) fn new(program: PathBuf, cgroups: CgroupTree) -> Self {
        Self {
            program,
            cgroups,
            running: Mutex::new(None),
        }
    }

    /// Starts a shim for the attempt whose file is `file`; the connection to it closes when it ends, or never began. Blocks
    /// for a moment.
    ///
    /// # Errors
    /// When neither the spawner nor a shim of its own can be started.
    pub(super) fn start(&self, file: &Path) -> io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        if !self.ask(file, &[theirs.as_fd()])? {
            self.execute(file, theirs)?;
        }
        Ok(ours)
    }

    /// Starts a process that holds a program of a person's, which is told what to run on the connection; `engine` is that
    /// to an engine that runs it. Blocks for a moment.
    ///
    /// # Errors
    /// When the spawner cannot be started.
    pub(super) fn start_session(&self, engine: Option<&OwnedFd>) -> io::Result<UnixStream> {
        self.start_with(SESSION, engine.map(AsFd::as_fd))
    }

    /// Starts a process for a task, which is told what to run on the connection; `streams` are its stdout and stderr. Blocks
    /// for a moment.
    ///
    /// # Errors
    /// When the spawner cannot be started.
    pub(super) fn start_task(&self, streams: &[OwnedFd]) -> io::Result<UnixStream> {
        self.start_with(TASK, streams.iter().map(AsFd::as_fd))
    }

    fn start_with<'a>(
        &self,
        what: &str,
        streams: impl IntoIterator<Item = BorrowedFd<'a>>,
    ) -> io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let mut passed = vec![theirs.as_fd()];
        for stream in streams {
            passed.push(stream);
        }
        match self.ask(Path::new(what), &passed)? {
            true => Ok(ours),
            false => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Ends the spawner, and waits until it has.
    pub(super) fn end(&self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Running {
            socket,
            mut process,
        }) = running.take()
        {
            drop(socket);
            let _reaped = process.wait();
        }
    }

    /// Asks the spawner; false when it does not take what it is asked, although it was started anew.
    fn ask(&self, what: &Path, passed: &[BorrowedFd<'_>]) -> io::Result<bool> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        // One that died is noticed by asking it; the second one is asked once.
        for _ in 0..2 {
            let mut spawner = match running.take() {
                Some(spawner) => spawner,
                None => self.start_spawner()?,
            };
            if request(&spawner.socket, what, passed).is_ok() {
                *running = Some(spawner);
                return Ok(true);
            }
            drop(spawner.socket);
            // Closed on both sides, so it has ended or is about to.
            let _reaped = spawner.process.wait();
        }
        Ok(false)
    }

    /// Starts one shim as a program of its own.
    ///
    /// # Errors
    /// When it cannot be executed.
    pub(super) fn start_by_exec(&self, file: &Path) -> io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        self.execute(file, theirs)?;
        Ok(ours)
    }

    fn execute(&self, file: &Path, agent: UnixStream) -> io::Result<()> {
        let mut shim = Command::new(&self.program)
            .arg(SHIM_COMMAND)
            .arg(file)
            .stdin(Stdio::from(OwnedFd::from(agent)))
            .stdout(Stdio::null())
            .spawn()?;
        // The program forks the real shim and leaves, so this wait is short and no child of ours remains.
        shim.wait().map(drop)
    }

    fn start_spawner(&self) -> io::Result<Running> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        let process = Command::new(&self.program)
            .arg0("capstan-agent")
            .arg(SPAWNER_COMMAND)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .spawn()?;
        if let Err(error) = self.cgroups.keep_from_cards(process.id()) {
            // Each shim sees to it by itself, which takes longer, and starts nothing when that fails.
            tracing::warn!(%error, "shims have to leave the agent's devices one by one");
        }
        // It ends when our end of the socket closes.
        Ok(Running {
            socket: ours,
            process,
        })
    }
}

fn request(socket: &OwnedFd, what: &Path, passed: &[BorrowedFd<'_>]) -> nix::Result<()> {
    let path = [IoSlice::new(what.as_os_str().as_bytes())];
    let passed: Vec<RawFd> = passed.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&passed)];
    sendmsg::<()>(
        socket.as_raw_fd(),
        &path,
        &rights,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )
    .map(drop)
}

/// The spawner's whole life: forks a shim for every request on stdin, until the agent closes it.
///
/// # Errors
/// When stdin is no socket of an agent.
pub fn serve() -> io::Result<()> {
    // Away from the agent's terminal: Ctrl-C there is for the agent.
    let _leader = setsid();
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    // SAFETY: ignoring is no code of ours; the kernel then reaps shims for us.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }?;
    detach_streams()?;
    loop {
        let (what, passed) = match receive(&socket) {
            Ok(Some(request)) => request,
            Ok(None) => return Ok(()),
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno.into()),
        };
        // SAFETY: this process has one thread, so the child may do all that the parent may.
        match unsafe { fork() } {
            Ok(ForkResult::Child) => {
                // Held open here, the agent would not notice the death of the spawner.
                drop(socket);
                begin(&what, passed);
            }
            // Dropping the agent's end tells it that nothing began.
            Ok(ForkResult::Parent { .. }) | Err(_) => drop(passed),
        }
    }
}

/// Forks the shim of [`SHIM_COMMAND`] into the background and returns. Its stdin may be the agent's connection.
///
/// # Errors
/// When the kernel refuses the fork.
pub fn execute_shim(file: &Path) -> io::Result<()> {
    let stdin = io::stdin().as_fd().try_clone_to_owned()?;
    let is_socket = nix::sys::stat::fstat(&stdin)
        .is_ok_and(|stat| stat.st_mode & nix::libc::S_IFMT == nix::libc::S_IFSOCK);
    // SAFETY: this process has one thread, so the child may do all that the parent may.
    match unsafe { fork() }? {
        ForkResult::Parent { .. } => Ok(()),
        ForkResult::Child => {
            detach_streams()?;
            become_shim(file, is_socket.then_some(stdin))
        }
    }
}

fn begin(what: &Path, passed: Vec<OwnedFd>) -> ! {
    let mut passed = passed.into_iter();
    if what == Path::new(SESSION) {
        if let Some(agent) = passed.next() {
            become_own();
            // The connection tells whether it ended well.
            let _told = tasks::session::run(agent, passed.next());
        }
        leave(false)
    }
    if what != Path::new(TASK) {
        become_shim(what, passed.next())
    }
    if let (Some(agent), Some(stdout), Some(stderr)) = (passed.next(), passed.next(), passed.next())
    {
        become_own();
        // The connection tells whether it ended well.
        let _told = tasks::shim::run(tasks::shim::Passed {
            agent,
            stdout,
            stderr,
        });
    }
    leave(false)
}

/// What a process needs that was forked off the spawner.
fn become_own() {
    // SAFETY: the default action runs no code of ours; ended children must be kept for us to reap.
    let _refused = unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) };
    // The kernel should not pick the accountant when a job has taken all memory.
    let _unprivileged = std::fs::write("/proc/self/oom_score_adj", "-500");
}

fn leave(is_failure: bool) -> ! {
    // SAFETY: leaves at once: what the spawner registered to run at its end is not ours to run.
    unsafe { nix::libc::_exit(i32::from(is_failure)) }
}

fn become_shim(file: &Path, agent: Option<OwnedFd>) -> ! {
    become_own();
    let outcome = shim::run(file, agent);
    if let Err(error) = &outcome {
        // Nobody listens to a shim; the reason lies beside the entry for who looks.
        let problem = AttemptFile::at(file.to_owned()).problem();
        let _unwritten = std::fs::write(problem, format!("{error:?}\n"));
    }
    leave(outcome.is_err())
}

/// One request: the attempt's file, [`TASK`] or [`SESSION`], and what is passed along. `None` when the agent has gone.
fn receive(socket: &OwnedFd) -> nix::Result<Option<(PathBuf, Vec<OwnedFd>)>> {
    let mut path = [0; PATH_BYTES_MAX];
    let mut rights = nix::cmsg_space!([RawFd; 4]);
    let mut parts = [IoSliceMut::new(&mut path)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut rights), flags)?;
    let length = message.bytes;
    let mut ours = Vec::new();
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(passed) = part {
            for fd in passed {
                // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
                ours.push(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
    }
    if length == 0 {
        return Ok(None);
    }
    let path = Path::new(std::ffi::OsStr::from_bytes(&path[..length]));
    Ok(Some((path.to_owned(), ours)))
}
