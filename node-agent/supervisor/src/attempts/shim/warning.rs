//! The signal before the end of the walltime: who of an attempt hears it. A warning is for those who catch it, so it never
//! ends anybody: programs without a handler go on until the end itself.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::attempts::cgroup::Cgroup;
use crate::attempts::proc;

/// Sends `signal` to the script and its programs, and to the main processes of containers in `cgroup`, as far as they
/// catch it; how many did. `commands` is the folder of our own commands.
pub(super) fn warn(signal: Signal, cgroup: Option<&Cgroup>, commands: &str) -> usize {
    let own = std::process::id();
    let family = proc::descendants(&proc::all(), own);
    let inside = cgroup.map(Cgroup::everybody).unwrap_or_default();
    // The command that started a container would pass the signal on: its container then heard it twice.
    let starter = (!inside.is_empty())
        .then(|| file_id(&format!("{commands}/startdocker")))
        .flatten();
    let is_starter =
        |pid: u32| starter.is_some() && file_id(&format!("/proc/{pid}/exe")) == starter;
    let programs = family.into_iter().filter(|pid| !is_starter(*pid));
    let mains = inside.into_iter().filter(|pid| is_main_of_container(*pid));
    let wanted: BTreeSet<u32> = programs
        .chain(mains)
        .filter(|pid| catches(*pid, signal))
        .collect();
    let sent = wanted.into_iter().filter(|pid| {
        // It may have ended since.
        kill(Pid::from_raw(*pid as i32), signal).is_ok()
    });
    sent.count()
}

fn file_id(path: &str) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

fn catches(pid: u32, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    is_caught(&status, signal)
}

/// By the text of `/proc/PID/status`: `SigCgt` has a bit for every signal with a handler.
fn is_caught(status: &str, signal: Signal) -> bool {
    let line = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let mask = line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (signal as u32 - 1)) != 0)
}

/// Whether it is the first process of a namespace below ours.
fn is_main_of_container(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
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
    fn the_main_process_of_a_container_is_the_first_of_its_own_namespace() {
        assert!(is_first_below("NSpid:\t4711\t1\n"));
        assert!(!is_first_below("NSpid:\t4711\t7\n"));
        assert!(!is_first_below("NSpid:\t1\n"));
        assert!(!is_first_below(""));
    }
}
