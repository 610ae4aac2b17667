//! What the kernel says of an attempt now, from the files of its cgroup, in version 1 and 2; what a hierarchy does not count
//! is summed up over processes. A few small reads per attempt: this is done every few seconds for all of them.

use std::path::Path;

use super::super::proc;
use super::super::record::CgroupFolder;
use crate::kernel_file;

/// Processes of one attempt whose own counts are read where its group has none.
const PROCESSES_MAX: usize = 256;
const PAGE_KB: u64 = 4;
/// One tick of `/proc` in microseconds.
const TICK_US: u64 = 10_000;

/// What is in use, and what was used since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) cpu_us: u64,
    pub(super) memory_kb: u64,
    pub(super) read_kb: u64,
    pub(super) written_kb: u64,
}

/// Reads the counts of an attempt whose shim is `shim`; without groups, or before it is inside of them, of the processes
/// below the shim.
pub(super) fn counts(folders: &[CgroupFolder], shim: u32) -> Counts {
    let mut cpu_us = None;
    let mut memory_kb = None;
    let mut io = None;
    for folder in folders {
        let path = Path::new(&folder.path);
        match folder.controller.as_str() {
            "cpuacct" => cpu_us = number(&path.join("cpuacct.usage")).map(|nanos| nanos / 1000),
            "memory" => {
                let used = number(&path.join("memory.usage_in_bytes"));
                memory_kb = used.map(|used| working_set_kb(path, used, "total_inactive_file"));
            }
            "" => {
                cpu_us = field(&path.join("cpu.stat"), "usage_usec");
                let used = number(&path.join("memory.current"));
                memory_kb = used.map(|used| working_set_kb(path, used, "inactive_file"));
                io = kernel_file::text(path.join("io.stat"))
                    .ok()
                    .map(|text| io_stat(&text));
            }
            _ => {}
        }
    }
    let is_used = |count: Option<u64>| count.filter(|count| *count > 0);
    let (cpu_us, memory_kb) = (is_used(cpu_us), is_used(memory_kb));
    // Before the first moments are over the attempt is not in its group.
    let by_hand = match (cpu_us, memory_kb, io) {
        (Some(_), Some(_), Some(_)) => Counts::default(),
        _ => of_processes(folders, shim),
    };
    let (read_kb, written_kb) = io.unwrap_or((by_hand.read_kb, by_hand.written_kb));
    Counts {
        cpu_us: cpu_us.unwrap_or(by_hand.cpu_us),
        memory_kb: memory_kb.unwrap_or(by_hand.memory_kb),
        read_kb,
        written_kb,
    }
}

/// As the container world counts: what is in use without file pages that would be given back first.
fn working_set_kb(path: &Path, used: u64, inactive: &str) -> u64 {
    let inactive = field(&path.join("memory.stat"), inactive).unwrap_or(0);
    used.saturating_sub(inactive) / 1024
}

/// `8:0 rbytes=1024 wbytes=0 rios=…` for each disk, in kilobytes.
fn io_stat(text: &str) -> (u64, u64) {
    let sum = |name: &str| {
        let words = text.split_ascii_whitespace();
        let values = words.filter_map(|word| word.strip_prefix(name)?.parse::<u64>().ok());
        values.fold(0, u64::saturating_add) / 1024
    };
    (sum("rbytes="), sum("wbytes="))
}

fn of_processes(folders: &[CgroupFolder], shim: u32) -> Counts {
    let group = folders
        .first()
        .map(|folder| Path::new(&folder.path).join("cgroup.procs"));
    let listed = group.and_then(|file| kernel_file::text(file).ok());
    let listed: Vec<u32> = listed
        .iter()
        .flat_map(|text| text.lines().filter_map(|line| line.parse().ok()))
        .collect();
    let pids = match listed.is_empty() {
        true => proc::family(shim).into_iter().collect(),
        false => listed,
    };
    let mut counts = Counts::default();
    for pid in pids.into_iter().filter(|pid| *pid > 0).take(PROCESSES_MAX) {
        if let Some(stat) = proc::stat(pid) {
            counts.cpu_us += stat.cpu_ticks * TICK_US;
            counts.memory_kb += stat.resident_pages * PAGE_KB;
        }
        let io = kernel_file::text(format!("/proc/{pid}/io")).unwrap_or_default();
        let bytes = |name: &str| {
            let value = io.lines().find_map(|line| line.strip_prefix(name));
            value
                .and_then(|value| value.trim().parse::<u64>().ok())
                .unwrap_or(0)
        };
        counts.read_kb += bytes("read_bytes:") / 1024;
        counts.written_kb += bytes("write_bytes:") / 1024;
    }
    counts
}

fn number(path: &Path) -> Option<u64> {
    kernel_file::text(path).ok()?.trim().parse().ok()
}

fn field(path: &Path, name: &str) -> Option<u64> {
    let text = kernel_file::text(path).ok()?;
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(key, _)| *key == name)?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn group(controller: &str, files: &[(&str, &str)]) -> (tempfile::TempDir, CgroupFolder) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let path = folder.path().to_string_lossy().into_owned();
        let controller = controller.to_owned();
        (folder, CgroupFolder { controller, path })
    }

    #[test]
    fn both_versions_of_groups_are_read() {
        let (_kept, unified) = group(
            "",
            &[
                ("cpu.stat", "usage_usec 1500\nuser_usec 1000\n"),
                ("memory.current", "3072000\n"),
                ("memory.stat", "anon 1\ninactive_file 1024000\n"),
                (
                    "io.stat",
                    "8:0 rbytes=2048 wbytes=1024 rios=1\n8:16 rbytes=1024 wbytes=0\n",
                ),
            ],
        );
        let expected = Counts {
            cpu_us: 1500,
            memory_kb: 2000,
            read_kb: 3,
            written_kb: 1,
        };
        assert_eq!(counts(&[unified], 0), expected);
        let (_kept, memory) = group(
            "memory",
            &[
                ("memory.usage_in_bytes", "3072000\n"),
                ("memory.stat", "total_inactive_file 1024000\n"),
            ],
        );
        let (_kept2, cpu) = group("cpuacct", &[("cpuacct.usage", "1500000\n")]);
        let seen = counts(&[memory, cpu], 0);
        assert_eq!((seen.cpu_us, seen.memory_kb), (1500, 2000));
    }

    #[test]
    fn without_groups_the_processes_below_the_shim_are_summed_up() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        // Between its fork and its program it may have no memory of its own.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        let mut seen = Counts::default();
        while seen.memory_kb == 0 && std::time::Instant::now() < deadline {
            seen = counts(&[], std::process::id());
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(seen.memory_kb > 0, "{seen:?}");
    }
}
