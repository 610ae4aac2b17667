//! What an attempt's groups bound: memory, and cores by a quota of time or by a set of cores; and which of the two a site's
//! attempts get. Groups that only weigh are made here as well.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use capstan_proto::wire::LaunchSpec;
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;
use serde::Deserialize;

use super::{Cgroup, CgroupTree, SHARES_PER_CORE, WEIGHT_MAX, WEIGHT_PER_CORE, make};
use crate::attempts::fence::{DEVICES, PROGRAMS, close_leaf};
use crate::attempts::record::{Entry, Guard};

/// The hierarchy of version 1 that names cores.
pub(super) const CPUSET: &str = "cpuset";
/// Microseconds in which a quota counts, as the kernel has it.
const PERIOD_US: u64 = 100_000;
/// Of one core.
const PERCENT: u64 = 100;

/// How a site bounds the cores of attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CoreLimit {
    /// By the very cores where slots are this host's cores, else by time.
    #[default]
    Auto,
    /// By the very cores that its slots are; by time where they are none.
    Cpuset,
    /// By time on any core.
    Quota,
    /// Not at all: who competes gets what the number of slots weighs, and idle cores are everybody's.
    Shares,
}

/// What this host has to bound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostCores {
    /// How.
    pub limit: CoreLimit,
    /// Numbers of the cores that the agent may run on, ascending.
    pub cores: Vec<u32>,
    /// The number of slots was counted on this host, and not set by hand.
    pub are_counted: bool,
}

impl HostCores {
    /// The cores of this host that we may run on. `are_counted`: slots were made of their number.
    #[must_use]
    pub fn ask(limit: CoreLimit, are_counted: bool) -> Self {
        let allowed = sched_getaffinity(Pid::from_raw(0));
        let is_ours = |core: &usize| allowed.is_ok_and(|set| set.is_set(*core).unwrap_or(false));
        let cores = (0..CpuSet::count()).filter(is_ours).map(|core| core as u32);
        Self {
            limit,
            cores: cores.collect(),
            are_counted,
        }
    }

    /// Whether attempts may be bound to cores: then their groups need the hierarchy that does it.
    #[must_use]
    pub fn may_pin(&self) -> bool {
        match self.limit {
            CoreLimit::Auto => self.are_counted,
            CoreLimit::Cpuset => true,
            CoreLimit::Quota | CoreLimit::Shares => false,
        }
    }

    /// What an attempt may use. A card brings its part of the node's cores along, which the scheduler keeps free for it:
    /// a job that asks for one card and says nothing of cores still has some for its data.
    pub(in crate::attempts) fn bound(&self, spec: &LaunchSpec) -> CoreBound {
        let all = self.cores.len() as u32;
        // A server of an earlier version tells nothing of the node's slots.
        if self.limit == CoreLimit::Shares || spec.node_slots == 0 || all == 0 {
            return CoreBound::default();
        }
        let slice = spec.node_slots.checked_div(spec.node_cards).unwrap_or(0);
        let slice = slice.saturating_mul(spec.cards.len() as u32);
        let own = spec.cores.max(1);
        let are_cores = spec.node_slots == all && spec.slots.len() as u32 == own;
        if self.may_pin() && are_cores && slice <= own && own < all {
            let pinned = spec.slots.iter().map(|slot| self.cores.get(*slot as usize));
            let pinned: Option<Vec<String>> = pinned.map(|core| Some(core?.to_string())).collect();
            if let Some(pinned) = pinned {
                let cpus = pinned.join(",");
                return CoreBound { percent: 0, cpus };
            }
        }
        // Where there are fewer slots than cores (threads of one core, say), a slot is several of them.
        let of_slot = (PERCENT * u64::from(all) / u64::from(spec.node_slots)).max(PERCENT);
        let percent = u64::from(own.max(slice)) * of_slot;
        let is_all = percent >= PERCENT * u64::from(all);
        CoreBound {
            percent: if is_all { 0 } else { percent as u32 },
            cpus: String::new(),
        }
    }
}

/// How much of the host's cores an attempt may use; nothing set: all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::attempts) struct CoreBound {
    /// Time on any cores, in hundredths of one core; 0 for any amount.
    pub(in crate::attempts) percent: u32,
    /// `0,3`: on these only; empty for all.
    pub(in crate::attempts) cpus: String,
}

/// All that the groups of an attempt bound.
#[derive(Clone, Debug, Default)]
pub(in crate::attempts) struct Bounds {
    slots: u64,
    cores: CoreBound,
    memory_bytes: Option<u64>,
    /// Devices that are closed.
    guards: Vec<Guard>,
}

impl Bounds {
    pub(in crate::attempts) fn of(entry: &Entry) -> Self {
        Self {
            slots: u64::from(entry.spec.cores.max(1)),
            cores: CoreBound {
                percent: entry.core_percent,
                cpus: entry.cpus.clone(),
            },
            memory_bytes: entry.spec.memory_bytes,
            guards: match &entry.fence {
                Some(fence) => fence.guards.clone(),
                None => Vec::new(),
            },
        }
    }

    #[cfg(test)]
    pub(super) fn new(slots: u64, cores: CoreBound, memory_bytes: Option<u64>) -> Self {
        Self {
            slots,
            cores,
            memory_bytes,
            guards: Vec::new(),
        }
    }
}

impl CgroupTree {
    /// The same tree, in which attempts can be bound to cores; unchanged where this host cannot.
    #[must_use]
    pub fn with_cores_pinned(mut self) -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        if self.mounts.iter().any(|(name, _)| name.is_empty()) {
            self.hand_down(&["+cpuset"]);
            return self;
        }
        let Some(mount) = super::mount_of(&mounts, CPUSET) else {
            return self;
        };
        let mut folder = mount.clone();
        for part in Path::new(&self.base) {
            folder.push(part);
            if make(&folder).and_then(|_| inherit(&folder)).is_err() {
                return self;
            }
        }
        self.mounts.push((CPUSET.to_owned(), mount));
        self
    }
}

impl Cgroup {
    /// Makes the groups, bounds their memory and cores, closes devices to them, and weighs their claim on the processor.
    ///
    /// # Errors
    /// When a group cannot be made or its memory cannot be bounded.
    pub(in crate::attempts) fn create(&self, bounds: &Bounds) -> io::Result<()> {
        for folder in &self.folders {
            let path = Path::new(&folder.path);
            make(path)?;
            match folder.controller.as_str() {
                "memory" => bound_memory(path, bounds.memory_bytes)?,
                "cpu" => bound_time(path, bounds),
                CPUSET => {
                    inherit(path)?;
                    pin(path, &bounds.cores.cpus);
                }
                "" => bound_unified(path, bounds)?,
                name @ (DEVICES | PROGRAMS) => close_leaf(path, name, &bounds.guards)?,
                _ => {}
            }
        }
        Ok(())
    }
}

fn bound_memory(path: &Path, limit: Option<u64>) -> io::Result<()> {
    let Some(limit) = limit else { return Ok(()) };
    fs::write(path.join("memory.limit_in_bytes"), limit.to_string())?;
    // Without swap accounting in the kernel this file is missing.
    let _absent = fs::write(path.join("memory.memsw.limit_in_bytes"), limit.to_string());
    Ok(())
}

/// What is not taken costs fairness and nothing else.
fn bound_time(path: &Path, bounds: &Bounds) {
    if bounds.slots > 1 {
        let shares = bounds.slots * SHARES_PER_CORE;
        let _refused = fs::write(path.join("cpu.shares"), shares.to_string());
    }
    if bounds.cores.percent > 0 {
        let quota = u64::from(bounds.cores.percent) * PERIOD_US / PERCENT;
        let _refused = fs::write(path.join("cpu.cfs_period_us"), PERIOD_US.to_string());
        let _refused = fs::write(path.join("cpu.cfs_quota_us"), quota.to_string());
    }
}

fn pin(path: &Path, cpus: &str) {
    if !cpus.is_empty() {
        // A core that was taken offline since leaves the attempt with all of them.
        let _refused = fs::write(path.join("cpuset.cpus"), cpus);
    }
}

fn bound_unified(path: &Path, bounds: &Bounds) -> io::Result<()> {
    close_leaf(path, "", &bounds.guards)?;
    let weight = (bounds.slots * WEIGHT_PER_CORE).min(WEIGHT_MAX);
    let _refused = fs::write(path.join("cpu.weight"), weight.to_string());
    if bounds.cores.percent > 0 {
        let quota = u64::from(bounds.cores.percent) * PERIOD_US / PERCENT;
        let _refused = fs::write(path.join("cpu.max"), format!("{quota} {PERIOD_US}"));
    }
    if path.join("cpuset.cpus").exists() {
        pin(path, &bounds.cores.cpus);
    }
    let max = path.join("memory.max");
    if let Some(limit) = bounds.memory_bytes.filter(|_| max.exists()) {
        fs::write(max, limit.to_string())?;
        // Or what is over the limit is swapped out, and the job crawls instead of being told.
        let _absent = fs::write(path.join("memory.swap.max"), "0");
    }
    Ok(())
}

/// A group of version 1 has no cores and no memory nodes until it is told: those of its parent.
fn inherit(folder: &Path) -> io::Result<()> {
    let parent: PathBuf = folder.parent().map(Path::to_owned).unwrap_or_default();
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let own = fs::read_to_string(folder.join(file))?;
        if own.trim().is_empty() {
            fs::write(
                folder.join(file),
                fs::read_to_string(parent.join(file))?.trim(),
            )?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(limit: CoreLimit, cores: u32) -> HostCores {
        HostCores {
            limit,
            // Cores need not be numbered without gaps.
            cores: (0..cores).map(|core| core * 2).collect(),
            are_counted: true,
        }
    }

    /// (slots of the attempt, its cards), (slots of the node, its cards).
    fn spec(own: (&[u32], usize), node: (u32, u32)) -> LaunchSpec {
        LaunchSpec {
            slots: own.0.to_vec(),
            cores: own.0.len() as u32,
            cards: vec![capstan_proto::wire::Card::default(); own.1],
            node_slots: node.0,
            node_cards: node.1,
            ..LaunchSpec::default()
        }
    }

    fn check(host: &HostCores, spec: &LaunchSpec, percent: u32, cpus: &str) {
        let cpus = cpus.to_owned();
        assert_eq!(host.bound(spec), CoreBound { percent, cpus });
    }

    #[test]
    fn slots_that_are_cores_are_those_cores() {
        let eight = host(CoreLimit::Auto, 8);
        check(&eight, &spec((&[1, 3], 0), (8, 0)), 0, "2,6");
        check(&eight, &spec((&[0, 1, 2, 3, 4, 5, 6, 7], 0), (8, 0)), 0, "");
        let by_hand = HostCores {
            are_counted: false,
            ..eight
        };
        check(&by_hand, &spec((&[1, 3], 0), (8, 0)), 200, "");
    }

    #[test]
    fn slots_that_are_no_cores_are_time() {
        let eight = host(CoreLimit::Cpuset, 8);
        check(&eight, &spec((&[0], 0), (4, 0)), 200, "");
        check(&eight, &spec((&[0], 0), (64, 0)), 100, "");
        check(
            &host(CoreLimit::Quota, 8),
            &spec((&[2], 0), (8, 0)),
            100,
            "",
        );
    }

    #[test]
    fn a_card_brings_its_part_of_the_cores() {
        let eight = host(CoreLimit::Auto, 8);
        check(&eight, &spec((&[0], 1), (8, 4)), 200, "");
        check(&eight, &spec((&[0], 4), (8, 4)), 0, "");
        check(&eight, &spec((&[0, 1, 2], 1), (8, 4)), 0, "0,2,4");
    }

    #[test]
    fn a_site_may_leave_cores_to_weights_and_an_old_server_tells_nothing() {
        check(&host(CoreLimit::Shares, 8), &spec((&[0], 0), (8, 0)), 0, "");
        check(&host(CoreLimit::Auto, 8), &spec((&[0], 0), (0, 0)), 0, "");
    }
}
