//! Signals to an attempt while it runs, and pauses of all of it. The script's processes are found by descent from the
//! shim, as for a stop; containers hear of a signal from the programs inside that started them. A pause reaches what is
//! in the cgroup as well, containers included. Every call reads `/proc` and blocks for a moment.

use std::collections::BTreeSet;
use std::sync::Arc;

use capstan_proto::wire::known_attempt::Phase;
use capstan_proto::wire::{AttemptStarted, Done, KnownAttempt};
use capstan_types::AttemptId;
use nix::sys::signal::Signal;

use super::aimed;
use super::cgroup::Cgroup;
use super::live::LiveAttempt;
use super::proc;
use super::table::Supervisor;

/// A family that forks faster than this many looks can follow is not stopped as a whole.
const STOP_ROUNDS_MAX: usize = 32;

/// Why an attempt was not reached.
#[derive(Debug, thiserror::Error)]
pub enum NotReached {
    /// It is not alive here.
    #[error("the attempt does not run on this node")]
    NotHere,
    /// Its script has not begun.
    #[error("the job's script has not started yet")]
    NotStarted,
    /// Nothing of it is left.
    #[error("no process of the job is left")]
    NoProcess,
    /// Its files could not be used as its user.
    #[error("{wanted} {path} as {user}")]
    File {
        /// "reading", "writing".
        wanted: &'static str,
        /// The file.
        path: String,
        /// The user.
        user: String,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// Its shim does not know how, or does not answer.
    #[error("the job's terminal cannot be reached: {problem}")]
    Terminal {
        /// What is wrong.
        problem: String,
    },
    /// Enough such requests are under way.
    #[error("too many files of jobs are being read")]
    Busy,
}

impl Supervisor {
    /// Whether the attempt's script has begun; `None` when it is not alive here.
    #[must_use]
    pub fn has_started(&self, attempt: AttemptId) -> Option<bool> {
        let live = self.live.get(attempt)?;
        Some(live.marked_shim().started_ms != 0)
    }

    /// Every attempt that is alive here, with how far it is.
    #[must_use]
    pub fn alive(&self) -> Vec<KnownAttempt> {
        let all = self.live.all();
        let known = all.iter().map(|live| {
            let shim = live.marked_shim();
            let started = AttemptStarted {
                attempt: live.entry.spec.attempt,
                session: shim.session,
                at_ms: shim.started_ms,
            };
            KnownAttempt {
                attempt: live.entry.spec.attempt,
                job_id: live.entry.spec.job_id.clone(),
                phase: Some(match shim.started_ms {
                    0 => Phase::Starting(Done {}),
                    _ => Phase::Running(started),
                }),
            }
        });
        known.collect()
    }

    /// Sends `signal` to every process of the script; without one only looks whether there is any.
    ///
    /// # Errors
    /// When the attempt is not alive here, or has no process to be signalled.
    pub fn signal(&self, attempt: AttemptId, signal: Option<Signal>) -> Result<(), NotReached> {
        let live = self.started(attempt)?;
        let processes = descendants(&live);
        if processes.is_empty() {
            return Err(NotReached::NoProcess);
        }
        if let Some(signal) = signal {
            aimed::send(&processes, signal, || descendants(&live));
        }
        Ok(())
    }

    /// Stops every process of the attempt, or lets them go on.
    ///
    /// # Errors
    /// When the attempt is not alive here, or has no process.
    pub fn pause(&self, attempt: AttemptId, is_stopped: bool) -> Result<(), NotReached> {
        let live = self.started(attempt)?;
        let found = match is_stopped {
            true => stop(&live),
            false => resume(&live),
        };
        match found {
            true => Ok(()),
            false => Err(NotReached::NoProcess),
        }
    }

    pub(super) fn started(&self, attempt: AttemptId) -> Result<Arc<LiveAttempt>, NotReached> {
        let live = self.live.get(attempt).ok_or(NotReached::NotHere)?;
        match live.marked_shim().started_ms {
            0 => Err(NotReached::NotStarted),
            _ => Ok(live),
        }
    }
}

/// Stops all, again and again until nobody new is found; whether anybody was.
fn stop(live: &LiveAttempt) -> bool {
    live.set_paused(true);
    let mut stopped = BTreeSet::new();
    for _ in 0..STOP_ROUNDS_MAX {
        let fresh: BTreeSet<u32> = everybody(live).difference(&stopped).copied().collect();
        if fresh.is_empty() {
            break;
        }
        aimed::send(&fresh, Signal::SIGSTOP, || everybody(live));
        stopped.extend(fresh);
    }
    !stopped.is_empty()
}

fn resume(live: &LiveAttempt) -> bool {
    live.set_paused(false);
    let all = everybody(live);
    aimed::send(&all, Signal::SIGCONT, || everybody(live));
    !all.is_empty()
}

/// Lets a paused attempt hear that it is to end.
pub(super) fn wake(live: &LiveAttempt) {
    if live.is_paused() {
        resume(live);
    }
}

/// Below the shim, which is the sub-reaper of all that the script forks. Nothing when the shim is gone.
fn descendants(live: &LiveAttempt) -> BTreeSet<u32> {
    let shim = live.marked_shim();
    let all = proc::all();
    let is_shim = all
        .get(&shim.pid)
        .is_some_and(|stat| stat.start_ticks == shim.start_ticks);
    match is_shim {
        true => proc::descendants(&all, shim.pid),
        false => BTreeSet::new(),
    }
}

fn everybody(live: &LiveAttempt) -> BTreeSet<u32> {
    let mut found = descendants(live);
    let cgroup = Cgroup::at(&live.entry.cgroups);
    found.extend(cgroup.map(|cgroup| cgroup.everybody()).unwrap_or_default());
    found.remove(&live.marked_shim().pid);
    found
}
