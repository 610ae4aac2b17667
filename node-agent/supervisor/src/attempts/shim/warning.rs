//! The signal before the end of the walltime: who of an attempt hears it. A warning is for those who catch it, so it never
//! ends anybody: programs without a handler go on until the end itself.

use std::collections::BTreeSet;
use std::fs;

use nix::sys::signal::Signal;

use crate::attempts::aimed;
use crate::attempts::cgroup::Cgroup;
use crate::attempts::proc;
use crate::kernel_file;

/// What carries a container's streams and signals is called so, whatever name it was started by.
const CARRIER: &str = "capstan";

/// Sends `signal` to the script and its programs, and to the main processes of containers in `cgroup`, as far as they
/// catch it; how many did.
pub(super) fn warn(signal: Signal, cgroup: Option<&Cgroup>) -> usize {
    let all = proc::all();
    let family = proc::descendants(&all, std::process::id());
    let inside = cgroup.map(Cgroup::everybody).unwrap_or_default();
    let firsts: BTreeSet<u32> = inside
        .iter()
        .copied()
        .filter(|pid| is_first(*pid))
        .collect();
    // The first process may be one that only reaps: what it runs is its child.
    let is_main = |pid: &u32| {
        let parent = all.get(pid).map(|stat| stat.parent);
        firsts.contains(pid) || parent.is_some_and(|parent| firsts.contains(&parent))
    };
    let mains: BTreeSet<u32> = inside.iter().copied().filter(is_main).collect();
    // The command that started a container would pass the signal on: its container then heard it twice.
    let hears = |pid: &u32| mains.is_empty() || !is_carrier(*pid);
    let programs: BTreeSet<u32> = family.into_iter().filter(hears).collect();
    let wanted = programs.union(&mains).copied();
    let wanted: BTreeSet<u32> = wanted.filter(|pid| catches(*pid, signal)).collect();
    let again = || {
        let mut found = proc::descendants(&proc::all(), std::process::id());
        found.extend(cgroup.map(Cgroup::everybody).unwrap_or_default());
        found
    };
    // Some may have ended since.
    aimed::send(&wanted, signal, again)
}

fn is_carrier(pid: u32) -> bool {
    let program = fs::read_link(format!("/proc/{pid}/exe"));
    program.is_ok_and(|program| program.file_name().is_some_and(|name| name == CARRIER))
}

fn catches(pid: u32, signal: Signal) -> bool {
    let status = kernel_file::text(format!("/proc/{pid}/status")).unwrap_or_default();
    is_caught(&status, signal)
}

/// By the text of `/proc/PID/status`: `SigCgt` has a bit for every signal with a handler.
fn is_caught(status: &str, signal: Signal) -> bool {
    let line = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let mask = line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (signal as u32 - 1)) != 0)
}

/// Whether it is the first process of a namespace below ours.
fn is_first(pid: u32) -> bool {
    let status = kernel_file::text(format!("/proc/{pid}/status")).unwrap_or_default();
    is_first_below(&status)
}

fn is_first_below(status: &str) -> bool {
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    let pids: Vec<&str> = line.unwrap_or_default().split_ascii_whitespace().collect();
    pids.len() > 1 && pids.last() == Some(&"1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_handler_hears() {
        let status = "Name:\tbash\nSigIgn:\t0000000000000200\nSigCgt:\t0000000000010002\n";
        assert!(is_caught(status, Signal::SIGINT) && is_caught(status, Signal::SIGCHLD));
        assert!(!is_caught(status, Signal::SIGUSR1), "ignored");
        assert!(!is_caught("", Signal::SIGUSR1));
    }

    #[test]
    fn the_first_process_of_a_container_is_the_first_of_its_own_namespace() {
        assert!(is_first_below("NSpid:\t4711\t1\n"));
        assert!(!is_first_below("NSpid:\t4711\t7\n"));
        assert!(!is_first_below("NSpid:\t1\n"));
        assert!(!is_first_below(""));
    }
}
