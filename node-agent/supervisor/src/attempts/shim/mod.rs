//! The shim: a small process of its own session that runs one attempt's script as the user, outlives the agent,
//! enforces the limits, leaves no process behind, and writes durably how it ended.
//!
//! Single-threaded on purpose: it changes its effective user while it opens files, and it forks.

mod control;
mod files;
pub(super) mod kill;
pub(super) mod launch;
mod output;
pub(super) mod program;
mod shell;
mod staging;
pub(super) mod user;
mod verdict;

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use capstan_proto::wire::{self, attempt_ended::Outcome};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::setsid;

use self::control::{Control, Limits, Order, Stop};
use self::kill::Processes;
use self::launch::Launched;
pub(super) use self::launch::detach_streams;
pub(super) use self::output::paths as output_paths;
use self::staging::{Copied, NotStaged, Staging};
use self::verdict::Cause;
use super::cgroup::Cgroup;
use super::ledger::{AttemptFile, LedgerError, LockedFile};
use super::proc;
use super::record::{Entry, ShimRecord};

/// An agent that looks whether a shim lives holds the lock for an instant; a shim tries again so often.
const LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(2);
/// CPU time is looked at so often when it is limited.
const CPU_POLL: Duration = Duration::from_secs(2);
/// How often an end is tried on a disk that refuses it, a second apart; then the attempt counts as lost.
const END_TRIES: u32 = 600;
/// A job that lives so long gets a cgroup; shorter ones, by the thousand, would pay for it more than they cost.
const CGROUP_AFTER: Duration = Duration::from_millis(100);
/// The longest that one `poll` sleeps.
const POLL_MAX: Duration = Duration::from_secs(3600);

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
        ..ShimRecord::default()
    };
    locked.mark(&record)?;
    let mut control = Control::open(&file, agent).map_err(kernel("listen"))?;

    let ended = match stage_in(&entry, &signals, &mut control) {
        Err(ended) => *ended,
        Ok(copied) => match launch::launch(&entry) {
            Err(problem) => {
                files::remove(&entry, None);
                let outcome = Outcome::Unstartable(problem.to_string());
                ended(&entry, outcome, wire::Usage::default())
            }
            Ok(launched) => {
                record.session = launched.child.as_raw() as u32;
                record.started_ms = now_ms();
                // The marks of a shim only serve reports; a full disk must not end a job that runs.
                let _unmarked = locked.mark(&record);
                control.started(&record);
                Shim::new(&entry, launched, &signals).attend(&mut control, copied)
            }
        },
    };
    if let Some(cgroup) = Cgroup::at(&entry.cgroups) {
        // What cannot be killed keeps its group; the agent looks once more.
        let _busy = cgroup.remove();
    }
    write_end(&mut locked, &ended)
}

/// Copies files to the node; the attempt's end, when the script cannot start for want of one.
fn stage_in(
    entry: &Entry,
    signals: &SignalFd,
    control: &mut Control,
) -> Result<Copied, Box<wire::AttemptEnded>> {
    let Some(identity) = entry
        .identity
        .as_ref()
        .filter(|_| !entry.spec.stage_in.is_empty())
    else {
        return Ok(Copied::default());
    };
    let staging = Staging {
        entry,
        identity,
        signals,
    };
    let problem = match staging.copy_in(control) {
        Ok(copied) => return Ok(copied),
        Err(problem) => problem,
    };
    Err(Box::new(match problem {
        NotStaged::Failed(message) => {
            let line = |text: &str| text.lines().next().unwrap_or_default().to_owned();
            let cause = message.lines().nth(2).map(line).unwrap_or_default();
            let reason = format!("{}: {cause}", line(&message));
            let ended = ended(
                entry,
                Outcome::StageInFailed(reason),
                wire::Usage::default(),
            );
            wire::AttemptEnded {
                messages: vec![message],
                ..ended
            }
        }
        NotStaged::Stopped(stop) => {
            let signal = Signal::try_from(stop.signal).unwrap_or(Signal::SIGTERM);
            let status = verdict::exit_status(
                Some(Cause::Stopped(signal)),
                verdict::Exit::Signal(signal as i32),
            );
            ended(entry, Outcome::ExitStatus(status), wire::Usage::default())
        }
    }))
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
    }
}

/// An order to end that is under way: the first signal is sent, the last one is due.
struct Ending {
    cause: Cause,
    kill_at: Instant,
}

struct Shim<'a> {
    entry: &'a Entry,
    signals: &'a SignalFd,
    processes: Processes,
    files: files::Written,
    stderr: Option<File>,
    started: Instant,
    walltime_secs: Option<u64>,
    cput_secs: Option<u64>,
    ending: Option<Ending>,
    messages: Vec<String>,
}

impl<'a> Shim<'a> {
    fn new(entry: &'a Entry, launched: Launched, signals: &'a SignalFd) -> Self {
        let Launched {
            child,
            files,
            stderr,
            is_inside,
            messages,
        } = launched;
        let cgroup = Cgroup::at(&entry.cgroups);
        Self {
            entry,
            signals,
            processes: Processes::new(child, cgroup, is_inside),
            files,
            stderr,
            started: Instant::now(),
            walltime_secs: entry.spec.walltime_secs,
            cput_secs: entry.spec.cput_secs,
            ending: None,
            messages,
        }
    }

    /// Waits for the end of the script, enforcing limits and taking orders; then clears up.
    fn attend(mut self, control: &mut Control, copied: Copied) -> wire::AttemptEnded {
        while !self.is_over() {
            self.wait(control);
            for order in control.orders() {
                match order {
                    Order::Stop(stop) => self.stop(stop),
                    Order::Limits(limits) => self.limit(limits),
                }
            }
            self.check_limits();
            if self.processes.is_outside() && self.started.elapsed() >= CGROUP_AFTER {
                self.processes.enter_cgroup(self.entry.spec.cores);
            }
            let is_due = |ending: &Ending| ending.kill_at <= Instant::now();
            if self.ending.as_ref().is_some_and(is_due) {
                break;
            }
        }
        self.processes.end();
        let usage = self.processes.usage(self.started.elapsed());
        let memory_kills = self.processes.memory_kills();
        let cause = self.ending.take().map(|ending| ending.cause);
        let cause = cause.or((memory_kills > 0).then_some(Cause::Memory));
        let status = verdict::exit_status(cause, self.processes.exit());
        if status == verdict::OUT_OF_MEMORY {
            let limit_kb = self.entry.spec.memory_bytes.unwrap_or(0) / 1024;
            self.say(&format!("mem {} exceeded limit {limit_kb}", usage.mem_kb));
        }
        self.stage_out(copied, control);
        files::remove(self.entry, Some(&self.files));
        wire::AttemptEnded {
            messages: self.messages,
            ..ended(self.entry, Outcome::ExitStatus(status), usage)
        }
    }

    /// The script ended. When that was our doing, the others who heard of it may take the time they were given: the
    /// login shell dies of a signal at once, while the script that it waited for catches it and tidies up.
    fn is_over(&mut self) -> bool {
        self.processes.reap().is_some() && (self.ending.is_none() || self.processes.are_gone())
    }

    /// Copies files from the node, whatever the job's exit status, and tells the user of those that stay.
    fn stage_out(&mut self, copied: Copied, control: &mut Control) {
        let Some(identity) = &self.entry.identity else {
            return;
        };
        let staging = Staging {
            entry: self.entry,
            identity,
            signals: self.signals,
        };
        for message in staging.copy_out(copied, control) {
            if let Some(stderr) = &mut self.stderr {
                output::append(stderr, &message);
            }
            self.messages.push(message);
        }
    }

    fn wait(&self, control: &Control) {
        let timeout = self.next_deadline().map_or(POLL_MAX, |deadline| {
            deadline.saturating_duration_since(Instant::now())
        });
        // Rounded up: waking a moment too early would spin until the deadline.
        let millis = timeout.min(POLL_MAX).as_micros().div_ceil(1000) as i32;
        let mut watched = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        watched.extend(control.watched());
        // Interrupted or not, the caller looks at everything.
        let _ready = poll(
            &mut watched,
            PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX),
        );
        while let Ok(Some(_child)) = self.signals.read_signal() {}
    }

    fn next_deadline(&self) -> Option<Instant> {
        if let Some(ending) = &self.ending {
            return Some(ending.kill_at);
        }
        let walltime = self.walltime_secs.map(Duration::from_secs);
        // A limit beyond what a clock can show is no limit.
        let walltime = walltime.and_then(|limit| self.started.checked_add(limit));
        let is_polled = self.cput_secs.is_some() || self.entry.spec.vmem_bytes.is_some();
        let cpu = is_polled.then(|| Instant::now() + CPU_POLL);
        let is_outside = self.processes.is_outside();
        let cgroup = is_outside.then(|| self.started + CGROUP_AFTER);
        [walltime, cpu, cgroup].into_iter().flatten().min()
    }

    fn check_limits(&mut self) {
        if self.ending.is_some() {
            return;
        }
        let spec = &self.entry.spec;
        let grace = Duration::from_secs(spec.kill_delay_secs.into());
        let elapsed = self.started.elapsed();
        if let Some(limit) = self.walltime_secs
            && elapsed >= Duration::from_secs(limit)
        {
            let used = elapsed.as_secs();
            self.end(Cause::Walltime, Signal::SIGTERM, grace);
            self.say(&format!("walltime {used} exceeded limit {limit}"));
            return;
        }
        if let Some(limit) = self.cput_secs {
            let used = self.processes.cpu_time().as_secs();
            if used > limit {
                self.end(Cause::CpuTime, Signal::SIGTERM, grace);
                self.say(&format!("cput {used} exceeded limit {limit}"));
                return;
            }
        }
        // One process is bounded by the kernel; all of them together are not.
        if let Some(limit) = self.entry.spec.vmem_bytes {
            let used = self.processes.virtual_bytes();
            if used > limit {
                self.end(Cause::Memory, Signal::SIGTERM, grace);
                self.say(&format!("vmem {used} exceeded limit {limit}"));
            }
        }
    }

    fn limit(&mut self, limits: Limits) {
        let Limits {
            walltime_secs,
            cput_secs,
        } = limits;
        self.walltime_secs = walltime_secs.or(self.walltime_secs);
        self.cput_secs = cput_secs.or(self.cput_secs);
    }

    fn stop(&mut self, stop: Stop) {
        let signal = Signal::try_from(stop.signal).unwrap_or(Signal::SIGTERM);
        let grace = if signal == Signal::SIGKILL {
            Duration::ZERO
        } else {
            stop.grace
        };
        match &mut self.ending {
            // Already ending for its own reason, which stays the reason; but it may not take longer than ordered.
            Some(ending) => ending.kill_at = ending.kill_at.min(Instant::now() + grace),
            None => self.end(Cause::Stopped(signal), signal, grace),
        }
    }

    fn end(&mut self, cause: Cause, signal: Signal, grace: Duration) {
        self.processes.signal(signal);
        let kill_at = Instant::now() + grace;
        self.ending = Some(Ending { cause, kill_at });
    }

    /// Tells the user why, at the end of the stderr file.
    fn say(&mut self, what: &str) {
        if let Some(stderr) = &mut self.stderr {
            output::append(stderr, &format!("=>> PBS: job killed: {what}\n"));
        }
    }
}
