//! The shim: a small process of its own session that runs one attempt's script as the user, outlives the agent,
//! enforces the limits, leaves no process behind, and writes durably how it ended.
//!
//! Single-threaded on purpose: it changes its effective user while it opens files, and it forks.

mod ask;
mod attend;
mod contained;
pub(super) mod control;
mod course;
mod delivery;
mod destination;
mod files;
mod fitness;
pub(super) mod hooks;
pub(super) mod kill;
pub(super) mod launch;
mod oom;
mod other_hosts;
mod output;
pub(super) mod program;
mod scratch;
mod shell;
mod sister_hooks;
mod staging;
pub(super) mod terminal;
pub(super) mod told;
pub(super) mod user;
mod verdict;
mod warning;

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, SystemTime};

use capstan_proto::wire::{self, attempt_ended::Outcome};
use nix::errno::Errno;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::setsid;

use self::control::Control;
use self::course::Course;
pub(super) use self::delivery::{clear as clear_outgoing, is_outgoing};
pub(super) use self::files::remove_all as remove_files;
pub use self::fitness::only_roots;
pub(super) use self::launch::detach_streams;
pub(super) use self::output::paths as output_paths;
pub(super) use self::scratch::{leave as leave_scratch, sweep as sweep_scratch};
pub(super) use self::shell::login_name;
use super::cgroup::Cgroup;
use super::ledger::{AttemptFile, LedgerError, LockedFile};
use super::proc;
use super::record::{Entry, ShimRecord};
use super::terminal::VERSION;

/// An agent that looks whether a shim lives holds the lock for an instant; a shim tries again so often.
const LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(2);
/// How often an end is tried on a disk that refuses it, a second apart; then the attempt counts as lost.
const END_TRIES: u32 = 600;

/// Why a shim gave up before it could write down an end.
#[derive(Debug, thiserror::Error)]
pub(super) enum ShimError {
    /// The attempt's file.
    #[error("the attempt's file is not usable")]
    Ledger(#[from] LedgerError),
    /// The kernel refused what every shim needs.
    #[error("cannot {wanted}")]
    Kernel {
        /// What was tried.
        wanted: &'static str,
        /// What the kernel said.
        #[source]
        source: Errno,
    },
}

fn kernel(wanted: &'static str) -> impl Fn(Errno) -> ShimError {
    move |source| ShimError::Kernel { wanted, source }
}

/// Runs the attempt whose file is `path` to its end. `agent` is the agent's connection, when it has one already.
///
/// Returns at once when another shim has the attempt, or had it.
///
/// # Errors
/// When nothing could be started, nor this be written down; the agent then finds neither lock nor end.
pub(super) fn run(path: &Path, agent: Option<OwnedFd>) -> Result<(), ShimError> {
    // A process that leads a group already cannot lead a session; then it is the leader that we want.
    let _leader = setsid();
    let file = AttemptFile::at(path.to_owned());
    let Some(mut locked) = lock(&file)? else {
        return Ok(());
    };
    let contents = file.read()?;
    if contents.ended.is_some() || contents.shim.is_some() {
        return Ok(());
    }
    let entry = contents.entry;
    set_child_subreaper(true).map_err(kernel("become a sub-reaper"))?;
    let mut blocked = SigSet::all();
    blocked.remove(Signal::SIGSEGV);
    blocked.thread_block().map_err(kernel("block signals"))?;
    let children = SigSet::from(Signal::SIGCHLD);
    let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
    let signals = SignalFd::with_flags(&children, flags).map_err(kernel("watch children"))?;
    let pid = std::process::id();
    let mut record = ShimRecord {
        pid,
        start_ticks: proc::stat(pid).map_or(0, |stat| stat.start_ticks),
        version: VERSION,
        ..ShimRecord::default()
    };
    locked.mark(&record)?;
    if let Some(problem) = stay_off_cards(&entry) {
        let outcome = Outcome::PrologueFailed(problem);
        return write_end(&mut locked, &ended(&entry, outcome, wire::Usage::default()));
    }
    let mut control = Control::open(&file, agent).map_err(kernel("listen"))?;

    let course = Course {
        entry: &entry,
        signals: &signals,
        control: &mut control,
    };
    let ended = course.run(|control, session| {
        record.session = session;
        record.started_ms = now_ms();
        // The marks of a shim only serve reports; a full disk must not end a job that runs.
        let _unmarked = locked.mark(&record);
        control.started(&record);
    });
    if let Some(cgroup) = Cgroup::at(&entry.cgroups) {
        // What cannot be killed keeps its group; the agent looks once more.
        let _busy = cgroup.remove();
    }
    write_end(&mut locked, &ended)
}

/// Makes sure that nothing that this process starts finds cards that are not its own; the problem, when it cannot.
pub(super) fn stay_off_cards(entry: &Entry) -> Option<String> {
    let problem = entry.fence.as_ref()?.enter().err()?;
    Some(format!(
        "{} cannot keep its cards from processes that have none: {problem}",
        entry.node
    ))
}

fn lock(file: &AttemptFile) -> Result<Option<LockedFile>, ShimError> {
    for _ in 0..LOCK_TRIES {
        if let Some(lock) = file.lock()? {
            return Ok(Some(lock));
        }
        std::thread::sleep(LOCK_PAUSE);
    }
    Ok(None)
}

fn write_end(file: &mut LockedFile, ended: &wire::AttemptEnded) -> Result<(), ShimError> {
    let mut tries = 0;
    loop {
        match file.end(ended) {
            Ok(()) => return Ok(()),
            Err(error) if tries == END_TRIES => return Err(error.into()),
            Err(_) => tries += 1,
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

fn ended(entry: &Entry, outcome: Outcome, usage: wire::Usage) -> wire::AttemptEnded {
    wire::AttemptEnded {
        attempt: entry.spec.attempt,
        at_ms: now_ms(),
        usage: Some(usage),
        outcome: Some(outcome),
        unclean_cards: Vec::new(),
        messages: Vec::new(),
        cause: String::new(),
        images: Vec::new(),
    }
}
