//! What the kernel says about processes, from `/proc`: parents, sessions, start times, memory. No decisions.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;

use crate::kernel_file;

/// Fields of `/proc/PID/stat` that we use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProcessStat {
    /// Parent process.
    pub(super) parent: u32,
    /// Session.
    pub(super) session: u32,
    /// Clock ticks from boot to its start; with the pid this names a process for ever.
    pub(super) start_ticks: u64,
    /// CPU time of it and of its reaped children, in clock ticks.
    pub(super) cpu_ticks: u64,
    /// Virtual memory.
    pub(super) virtual_bytes: u64,
    /// Resident memory, in pages.
    pub(super) resident_pages: u64,
    /// A zombie: dead, but not yet reaped.
    pub(super) is_zombie: bool,
}

/// The process `pid`, if it exists.
#[must_use]
pub(super) fn stat(pid: u32) -> Option<ProcessStat> {
    parse_stat(&kernel_file::text(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(text: &str) -> Option<ProcessStat> {
    // The second field is the command in brackets and may hold anything, brackets and blanks included.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(ProcessStat {
        parent: number(4)? as u32,
        session: number(6)? as u32,
        start_ticks: number(22)?,
        cpu_ticks: number(14)? + number(15)? + number(16)? + number(17)?,
        virtual_bytes: number(23)?,
        resident_pages: number(24)?,
        is_zombie: fields.first() == Some(&"Z"),
    })
}

/// Every process of this host.
#[must_use]
pub(super) fn all() -> BTreeMap<u32, ProcessStat> {
    let Ok(folders) = fs::read_dir("/proc") else {
        return BTreeMap::new();
    };
    folders
        .filter_map(|folder| folder.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, stat(pid)?)))
        .collect()
}

/// All processes below `ancestor`, itself not included.
#[must_use]
pub(super) fn descendants(all: &BTreeMap<u32, ProcessStat>, ancestor: u32) -> BTreeSet<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (&pid, stat) in all {
        children.entry(stat.parent).or_default().push(pid);
    }
    let mut found = BTreeSet::new();
    let mut open = vec![ancestor];
    while let Some(pid) = open.pop() {
        for &child in children.get(&pid).into_iter().flatten() {
            if found.insert(child) {
                open.push(child);
            }
        }
    }
    found
}

/// All processes below `ancestor`, found by walking down from it and not by a look at everybody: cheap for a small
/// family. What is forked meanwhile may be missed.
pub(super) fn family(ancestor: u32) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    let mut open = vec![ancestor];
    while let Some(pid) = open.pop() {
        for child in children(pid) {
            if found.insert(child) {
                open.push(child);
            }
        }
    }
    found
}

/// The kernel lists children by the thread that made them.
fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let lists =
        threads.filter_map(|thread| kernel_file::text(thread.ok()?.path().join("children")).ok());
    lists
        .flat_map(|list| {
            let pids = list.split_ascii_whitespace().map(str::to_owned);
            pids.collect::<Vec<_>>()
        })
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

/// Processes of user `uid` that were started with `variable` (`NAME=value`) in their environment.
///
/// Good for finding what a dead shim left behind where there are no cgroups; never a proof of who somebody is.
#[must_use]
pub(super) fn with_variable(uid: u32, variable: &str) -> BTreeSet<u32> {
    use std::os::unix::fs::MetadataExt;
    let carries = |pid: &u32| {
        let folder = format!("/proc/{pid}");
        let is_theirs = fs::metadata(&folder).is_ok_and(|folder| folder.uid() == uid);
        is_theirs
            && fs::read(format!("{folder}/environ")).is_ok_and(|environ| {
                environ
                    .split(|&byte| byte == 0)
                    .any(|entry| entry == variable.as_bytes())
            })
    };
    all().into_keys().filter(carries).collect()
}

/// Real user id of `pid`.
#[must_use]
pub(super) fn real_uid(pid: u32) -> Option<u32> {
    let status = kernel_file::text(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// The kernel's boot id; empty when it does not say.
#[must_use]
pub(super) fn boot_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

/// 32 hex digits nobody can guess.
#[must_use]
pub(super) fn cookie() -> String {
    let mut bytes = [0; 16];
    // Without randomness the cookie is a constant: it is only used to find strays, never as a secret.
    let _read = fs::File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut bytes));
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn nobody_hides_behind_a_name_that_is_no_text() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join(OsStr::from_bytes(b"\xff) x\xfe"));
        fs::copy("/bin/sleep", &program).unwrap();
        let mut child = std::process::Command::new(&program)
            .arg("60")
            .spawn()
            .unwrap();
        let seen = stat(child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(seen.unwrap().parent, std::process::id());
    }

    #[test]
    fn a_command_with_brackets_does_not_shift_the_fields() {
        let tail = "S 7 9 9 0 -1 4194304 1 2 3 4 10 20 30 40 20 0 1 0 555 4096 12 1844";
        let stat = parse_stat(&format!("42 (evil) name) R 1) {tail}")).unwrap();
        assert_eq!(stat.parent, 7);
        assert_eq!(stat.session, 9);
        assert_eq!(stat.cpu_ticks, 100);
        assert_eq!(stat.start_ticks, 555);
        assert_eq!(stat.virtual_bytes, 4096);
        assert_eq!(stat.resident_pages, 12);
    }

    #[test]
    fn we_are_a_descendant_of_our_parent() {
        let pid = std::process::id();
        let all = all();
        assert!(descendants(&all, all[&pid].parent).contains(&pid));
        assert!(!descendants(&all, pid).contains(&pid));
        assert!(family(all[&pid].parent).contains(&pid));
    }
}
