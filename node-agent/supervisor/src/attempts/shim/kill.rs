//! All processes of an attempt, seen from their shim: signalling, killing to the last one, and what they used.

use std::time::{Duration, Instant};

use capstan_proto::wire;
use nix::errno::Errno;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::Signal;
use nix::sys::time::TimeVal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::verdict::Exit;
use crate::attempts::aimed;
use crate::attempts::cgroup::{Bounds, Cgroup, CgroupUsage};
use crate::attempts::proc;

/// A process in uninterruptible sleep cannot be killed; after so long the attempt is reported all the same, and the
/// agent looks at the cards before they are lent again.
const KILL_WAIT: Duration = Duration::from_secs(60);
const PAUSE_MAX: Duration = Duration::from_millis(20);

pub(super) struct Processes {
    child: Pid,
    exit: Option<Exit>,
    has_children: bool,
    cgroup: Option<Cgroup>,
    /// The job's processes are in the cgroup. Not from the start: see [`Processes::enter_cgroup`].
    is_inside: bool,
}

impl Processes {
    pub(super) fn new(child: Pid, cgroup: Option<Cgroup>, is_inside: bool) -> Self {
        Self {
            child,
            exit: None,
            has_children: true,
            cgroup,
            is_inside,
        }
    }

    /// Whether the job's processes are still to be moved into their cgroup.
    pub(super) fn is_outside(&self) -> bool {
        self.cgroup.is_some() && !self.is_inside
    }

    /// Makes the cgroup and moves the job into it, while it runs.
    ///
    /// Doing so first would cost every job the 10 to 20 ms in which the kernel waits for all processors before a
    /// process changes its cgroup. Until then nothing escapes: we are the sub-reaper of all that the job forks.
    pub(super) fn enter_cgroup(&mut self, bounds: &Bounds) {
        self.is_inside = true;
        let Some(cgroup) = &self.cgroup else { return };
        let family = || proc::family(std::process::id());
        let made = cgroup.create(bounds);
        if made.and_then(|()| cgroup.gather(family)).is_err() {
            // It is followed by descent instead, as on a host without cgroups.
            let _partly = cgroup.remove();
            self.cgroup = None;
        }
    }

    /// Reaps whoever ended (orphans come to us, as sub-reaper); how the script ended, once it has.
    pub(super) fn reap(&mut self) -> Option<Exit> {
        loop {
            match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) if pid == self.child => {
                    self.exit = Some(Exit::Code(code));
                }
                Ok(WaitStatus::Signaled(pid, signal, _)) if pid == self.child => {
                    self.exit = Some(Exit::Signal(signal as i32));
                }
                Ok(WaitStatus::StillAlive) => break,
                Err(Errno::ECHILD) => {
                    self.has_children = false;
                    break;
                }
                Ok(_) | Err(_) => {}
            }
        }
        self.exit
    }

    /// Whether none of the job's processes is left, as far as they were ours to reap.
    pub(super) fn are_gone(&self) -> bool {
        !self.has_children
    }

    /// How the script ended; killed, when it would not end.
    pub(super) fn exit(&self) -> Exit {
        self.exit.unwrap_or(Exit::Signal(Signal::SIGKILL as i32))
    }

    /// Sends `signal` to every process of the job.
    ///
    /// By descent and not by cgroup: containers are no children of ours, and hear of it from their clients.
    pub(super) fn signal(&self, signal: Signal) {
        signal_descendants(signal);
    }

    /// Kills every process that is left, daemons of their own session included.
    pub(super) fn end(&mut self) {
        self.reap();
        // Containers are no children of ours, but live below our group: they must end although no agent is there.
        let is_empty = self.cgroup.as_ref().is_none_or(Cgroup::is_empty);
        if !self.has_children && is_empty {
            return;
        }
        if let Some(cgroup) = self.cgroup.clone() {
            // What could not be killed in time is tried again below, by descent.
            let _all = cgroup.kill_all(|| {
                self.reap();
            });
        }
        let deadline = Instant::now() + KILL_WAIT;
        let mut pause = Duration::from_millis(1);
        self.reap();
        while self.has_children && Instant::now() < deadline {
            signal_descendants(Signal::SIGKILL);
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSE_MAX);
            self.reap();
        }
    }

    /// CPU time so far, of the living and the dead.
    pub(super) fn cpu_time(&self) -> Duration {
        let measured = self.measured().cpu;
        measured.unwrap_or_else(|| reaped_cpu_time() + living_cpu_time())
    }

    /// Virtual memory of the living, in bytes.
    pub(super) fn virtual_bytes(&self) -> u64 {
        let all = proc::all();
        let living = proc::descendants(&all, std::process::id());
        let stats = living.iter().filter_map(|pid| all.get(pid));
        stats.map(|stat| stat.virtual_bytes).sum()
    }

    /// What the attempt used. Virtual memory is only known to who looked while it ran: the agent adds that.
    pub(super) fn usage(&self, walltime: Duration) -> wire::Usage {
        let measured = self.measured();
        // The group has not seen the first moments, and containers are not reaped by us: the larger word is nearer.
        let cpu = measured.cpu.unwrap_or_default().max(reaped_cpu_time());
        let peak_kb = measured.memory_peak_bytes.unwrap_or_default() / 1024;
        let mem_kb = peak_kb.max(largest_process_kb());
        wire::Usage {
            cput_secs: cpu.as_secs(),
            mem_kb,
            vmem_kb: mem_kb,
            walltime_secs: walltime.as_secs(),
            // Only the agent looked.
            measures: None,
        }
    }

    /// Processes that the kernel killed because the attempt was out of memory.
    pub(super) fn memory_kills(&self) -> u64 {
        self.group().map_or(0, Cgroup::memory_kills)
    }

    fn measured(&self) -> CgroupUsage {
        self.group().map(Cgroup::usage).unwrap_or_default()
    }

    fn group(&self) -> Option<&Cgroup> {
        self.cgroup.as_ref().filter(|_| self.is_inside)
    }
}

/// Kills every process below this one and reaps it; gives up on those that cannot be killed.
pub(in crate::attempts) fn kill_descendants() {
    let deadline = Instant::now() + KILL_WAIT;
    let mut pause = Duration::from_millis(1);
    loop {
        signal_descendants(Signal::SIGKILL);
        loop {
            match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => break,
                Err(Errno::ECHILD) => return,
                Ok(_) | Err(_) => {}
            }
        }
        if Instant::now() > deadline {
            return;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

pub(in crate::attempts) fn signal_descendants(signal: Signal) {
    let descendants = || proc::descendants(&proc::all(), std::process::id());
    // Some may have ended since.
    let _sent = aimed::send(&descendants(), signal, descendants);
}

fn reaped_cpu_time() -> Duration {
    let span = |time: TimeVal| {
        Duration::from_micros(time.tv_sec() as u64 * 1_000_000 + time.tv_usec() as u64)
    };
    getrusage(UsageWho::RUSAGE_CHILDREN).map_or(Duration::ZERO, |usage| {
        span(usage.user_time()) + span(usage.system_time())
    })
}

fn living_cpu_time() -> Duration {
    let all = proc::all();
    let living = proc::descendants(&all, std::process::id());
    let ticks: u64 = living
        .iter()
        .filter_map(|pid| all.get(pid))
        .map(|stat| stat.cpu_ticks)
        .sum();
    // The kernel's user-visible tick is 10 ms on every architecture that Linux runs GPUs on.
    Duration::from_millis(ticks * 10)
}

fn largest_process_kb() -> u64 {
    getrusage(UsageWho::RUSAGE_CHILDREN).map_or(0, |usage| usage.max_rss().unsigned_abs())
}
