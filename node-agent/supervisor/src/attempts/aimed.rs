//! Signals that reach whom they are meant for: a number that was read from `/proc` or a group may belong to a process of
//! somebody else by the time it is used. Each process is held by a descriptor, found again while it is held, and only then
//! sent the signal (`pidfd_open(2)`).

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

use nix::sys::signal::{Signal, kill};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};

/// Processes that are held at a time: a program may have 1,024 descriptors, as a rule.
const HELD_MAX: usize = 256;

/// A process that is to be sent a signal.
enum Aim {
    Held(OwnedFd),
    /// A kernel before 5.3, or no descriptor is left: its number is all there is.
    Number,
}

/// Sends `signal` to those of `pids` that `again` finds as well, once they are held; how many got it.
pub(crate) fn send(
    pids: &BTreeSet<u32>,
    signal: Signal,
    again: impl Fn() -> BTreeSet<u32>,
) -> usize {
    let pids: Vec<u32> = pids.iter().copied().collect();
    let batch = |pids: &[u32]| {
        let held: Vec<_> = pids
            .iter()
            .filter_map(|&pid| Some((pid, aim(pid)?)))
            .collect();
        if held.is_empty() {
            return 0;
        }
        // Who lives and is held has its number for itself: this look is at the same process.
        let meant = again();
        let hits = held
            .iter()
            .filter(|(pid, aim)| meant.contains(pid) && shoot(*pid, aim, signal));
        hits.count()
    };
    pids.chunks(HELD_MAX).map(batch).sum()
}

/// Sends `signal` to `pid`, if `is_meant` says so once it is held; whether it got it.
pub(crate) fn send_one(pid: u32, signal: Signal, is_meant: impl FnOnce() -> bool) -> bool {
    aim(pid).is_some_and(|aim| is_meant() && shoot(pid, &aim, signal))
}

/// Holds a process; nothing when there is none.
fn aim(pid: u32) -> Option<Aim> {
    // 0 and what is negative would mean whole groups of processes.
    let number = i32::try_from(pid).ok().filter(|&pid| pid > 0)?;
    match pidfd_open(Pid::from_raw(number)?, PidfdFlags::empty()) {
        Ok(held) => Some(Aim::Held(held)),
        Err(Errno::SRCH | Errno::INVAL) => None,
        Err(_) => Some(Aim::Number),
    }
}

fn shoot(pid: u32, aim: &Aim, signal: Signal) -> bool {
    let named = rustix::process::Signal::from_named_raw(signal as i32);
    match (aim, named) {
        (Aim::Held(held), Some(named)) => pidfd_send_signal(held, named).is_ok(),
        (Aim::Number, _) | (Aim::Held(_), None) => {
            kill(nix::unistd::Pid::from_raw(pid as i32), signal).is_ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    fn sleeper() -> Child {
        Command::new("sleep").arg("300").spawn().unwrap()
    }

    #[test]
    fn who_is_not_found_again_while_held_is_spared() {
        let (mut meant, mut other) = (sleeper(), sleeper());
        let pids = BTreeSet::from([meant.id(), other.id()]);
        let sent = send(&pids, Signal::SIGKILL, || BTreeSet::from([meant.id()]));
        assert_eq!(sent, 1);
        assert!(!meant.wait().unwrap().success());
        assert!(other.try_wait().unwrap().is_none(), "it lives");
        assert!(!send_one(other.id(), Signal::SIGKILL, || false));
        assert!(other.try_wait().unwrap().is_none(), "it lives");
        assert!(send_one(other.id(), Signal::SIGTERM, || true));
        assert!(!other.wait().unwrap().success());
    }

    #[test]
    fn a_process_that_ends_while_it_is_looked_for_passes_its_signal_to_nobody() {
        let mut gone = sleeper();
        let pid = gone.id();
        let is_sent = send_one(pid, Signal::SIGKILL, || {
            gone.kill().unwrap();
            gone.wait().unwrap();
            // As a process of the same number would be: the kernel gives it away from now on.
            true
        });
        assert!(!is_sent);
    }

    #[test]
    fn no_number_means_a_whole_group_of_processes() {
        for pid in [0, u32::MAX, i32::MAX as u32 + 1] {
            assert!(!send_one(pid, Signal::SIGCONT, || true), "{pid}");
        }
    }

    #[test]
    fn more_are_reached_than_can_be_held_at_a_time() {
        let mut all: Vec<Child> = (0..HELD_MAX + 3).map(|_| sleeper()).collect();
        let pids: BTreeSet<u32> = all.iter().map(Child::id).collect();
        assert_eq!(send(&pids, Signal::SIGKILL, || pids.clone()), all.len());
        for child in &mut all {
            assert!(!child.wait().unwrap().success());
        }
    }
}
