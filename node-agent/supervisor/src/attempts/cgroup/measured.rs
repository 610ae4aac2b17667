//! What the kernel measured in the groups of an attempt: processor time, memory, and whom it killed for want of it.

use std::path::Path;
use std::time::Duration;

use super::{Cgroup, subfolders};
use crate::kernel_file;

/// What the kernel measured in a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::attempts) struct CgroupUsage {
    /// CPU time, if measured.
    pub(in crate::attempts) cpu: Option<Duration>,
    /// Highest memory use, if measured.
    pub(in crate::attempts) memory_peak_bytes: Option<u64>,
}

impl Cgroup {
    /// What was measured so far.
    #[must_use]
    pub(in crate::attempts) fn usage(&self) -> CgroupUsage {
        let mut usage = CgroupUsage::default();
        for folder in &self.folders {
            let path = Path::new(&folder.path);
            match folder.controller.as_str() {
                "cpuacct" => {
                    usage.cpu = number(&path.join("cpuacct.usage")).map(Duration::from_nanos);
                }
                "memory" => {
                    usage.memory_peak_bytes = number(&path.join("memory.max_usage_in_bytes"));
                }
                "" => {
                    usage.cpu =
                        field(&path.join("cpu.stat"), "usage_usec").map(Duration::from_micros);
                    usage.memory_peak_bytes = number(&path.join("memory.peak"))
                        .or_else(|| number(&path.join("memory.current")));
                }
                _ => {}
            }
        }
        usage
    }

    /// Processes killed because the group was out of memory.
    #[must_use]
    pub(in crate::attempts) fn memory_kills(&self) -> u64 {
        let kills = self.folders.iter().map(|folder| {
            let path = Path::new(&folder.path);
            match folder.controller.as_str() {
                "memory" => kills_below(path),
                "" => field(&path.join("memory.events"), "oom_kill").unwrap_or(0),
                _ => 0,
            }
        });
        kills.sum()
    }
}

/// Version 1 counts a kill in the victim's own group, which may be a container's.
fn kills_below(path: &Path) -> u64 {
    let own = field(&path.join("memory.oom_control"), "oom_kill").unwrap_or(0);
    let below = subfolders(path)
        .iter()
        .map(|folder| kills_below(folder))
        .sum::<u64>();
    own + below
}

fn number(path: &Path) -> Option<u64> {
    kernel_file::text(path).ok()?.trim().parse().ok()
}

fn field(path: &Path, name: &str) -> Option<u64> {
    let text = kernel_file::text(path).ok()?;
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(key, _)| *key == name)?.1.trim().parse().ok()
}
