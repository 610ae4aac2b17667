//! An attempt's cgroup, in version 1 (freezer and, where present, memory, cpu, cpuacct and pids) and version 2. Without
//! rights for cgroups there is none, and the shim falls back to being its processes' sub-reaper.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use capstan_types::AttemptId;
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

pub(super) use self::bounds::Bounds;
pub use self::bounds::{CoreLimit, HostCores};
pub(super) use self::measured::CgroupUsage;
use super::aimed;
use super::fence::{DEVICES, Ground, PROGRAMS};
use super::record::{CgroupFolder, Entry};
use crate::kernel_file;

mod bounds;
mod measured;

/// Hierarchies of version 1 in which an attempt gets a folder. The freezer is what makes killing certain; the
/// others bound and measure. Docker makes its own folders in the rest.
const CONTROLLERS: [&str; 5] = ["freezer", "memory", "cpu", "cpuacct", "pids"];
/// In version 2 a group with processes cannot hand controllers to groups below it, and containers live below the
/// attempt: so the job's own processes get a leaf of their own. Where devices are closed that is so in version 1 as well:
/// containers get their cards from their engine.
pub(super) const LEAF: &str = "job";
/// Weight of one core among attempts that compete for the processor, in version 1 and 2. Idle cores may be used by
/// all: jobs that ask for one card and no core count on having more than one for their data.
const SHARES_PER_CORE: u64 = 1024;
const WEIGHT_PER_CORE: u64 = 100;
const WEIGHT_MAX: u64 = 10_000;
/// A job that forks faster than this many looks can follow keeps some processes outside until its end.
const GATHER_ROUNDS_MAX: usize = 100;
/// How long a kill may take before it is given up; a process in uninterruptible sleep cannot be killed at all.
const KILL_WAIT: Duration = Duration::from_secs(10);

/// The part of the cgroup tree that belongs to one agent.
#[derive(Clone, Debug, Default)]
pub struct CgroupTree {
    /// Controller and mount point; an empty controller is version 2. Empty without rights.
    pub(super) mounts: Vec<(String, PathBuf)>,
    /// `capstan/1a2b3c4d`: two agents on one host never share one.
    pub(super) base: String,
    /// Where cards are kept from processes.
    pub(super) fence: Option<Ground>,
}

impl CgroupTree {
    /// Finds the hierarchies of this host that may be written, and makes `base` in each.
    #[must_use]
    pub fn find(base: &str) -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let writable =
            |(_, mount): &(String, PathBuf)| fs::create_dir_all(mount.join(base)).is_ok();
        let mounts: Vec<_> = hierarchies(&mounts).into_iter().filter(writable).collect();
        let kills =
            |(controller, _): &(String, PathBuf)| controller.is_empty() || controller == "freezer";
        if !mounts.iter().any(kills) {
            return Self::default();
        }
        let tree = Self {
            mounts,
            base: base.to_owned(),
            fence: None,
        };
        tree.hand_down_controllers();
        tree
    }

    /// Whether this host lets us use cgroups.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        !self.mounts.is_empty()
    }

    /// The attempt's path, relative to the root of every hierarchy; empty when cgroups are not usable.
    #[must_use]
    pub(super) fn relative(&self, attempt: AttemptId) -> String {
        if self.mounts.is_empty() {
            return String::new();
        }
        format!("/{}/{attempt}", self.base)
    }

    /// Where the attempt's groups are, whether they exist or not.
    #[must_use]
    pub(super) fn folders(&self, attempt: AttemptId) -> Vec<CgroupFolder> {
        let folder = |(controller, mount): &(String, PathBuf)| {
            let path = mount.join(&self.base).join(attempt.to_string());
            CgroupFolder {
                controller: controller.clone(),
                path: path.to_string_lossy().into_owned(),
            }
        };
        self.mounts.iter().map(folder).collect()
    }

    /// Attempts that have a group here, from whatever time.
    #[must_use]
    pub(super) fn attempts(&self) -> Vec<AttemptId> {
        let mut found: Vec<AttemptId> = self
            .mounts
            .iter()
            .filter_map(|(_, mount)| fs::read_dir(mount.join(&self.base)).ok())
            .flatten()
            .filter_map(|folder| attempt_of_name(folder.ok()?.file_name().to_str()?))
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The attempt of process `pid`, by the kernel's word.
    #[must_use]
    pub(super) fn attempt_of(&self, pid: u32) -> Option<AttemptId> {
        if self.mounts.is_empty() {
            return None;
        }
        let groups = kernel_file::text(format!("/proc/{pid}/cgroup")).ok()?;
        let decisive = self.mounts.first().map(|(controller, _)| controller)?;
        attempt_in(&groups, decisive, &self.base)
    }

    /// Removes our folders, as far as they are empty.
    pub fn remove(&self) {
        self.remove_fence();
        for (_, mount) in &self.mounts {
            // Busy folders still hold attempts, which outlive us on purpose.
            let base = mount.join(&self.base);
            let _busy = fs::remove_dir(&base);
            // Shared with other agents of this host: the last one to go takes it along.
            let _busy = base.parent().map(fs::remove_dir);
        }
    }

    fn hand_down_controllers(&self) {
        self.hand_down(&["+memory", "+cpu", "+pids"]);
    }

    /// Lets the groups of version 2 below ours have these controllers.
    fn hand_down(&self, controllers: &[&str]) {
        for (_, mount) in self.mounts.iter().filter(|(name, _)| name.is_empty()) {
            let mut folder = mount.clone();
            let parts = Path::new(&self.base).iter().map(Some);
            for part in parts.chain([None]) {
                for controller in controllers {
                    // One that this kernel does not offer is not measured or bounded; nothing else depends on it.
                    let _absent = fs::write(folder.join("cgroup.subtree_control"), controller);
                }
                folder.extend(part);
            }
        }
    }
}

/// Where the hierarchy of version 1 with `controller` is mounted.
pub(super) fn mount_of(mounts: &str, controller: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, mount, "cgroup", options, ..] = fields[..] else {
            return None;
        };
        let has = options.split(',').any(|option| option == controller);
        has.then(|| PathBuf::from(mount))
    })
}

/// The hierarchies worth using, from the text of `/proc/self/mounts`, the one that decides about membership first:
/// version 1 where it has a freezer, else version 2.
fn hierarchies(mounts: &str) -> Vec<(String, PathBuf)> {
    let mut unified = None;
    let mut first = vec![None; CONTROLLERS.len()];
    for line in mounts.lines() {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, mount, kind, options, ..] = fields[..] else {
            continue;
        };
        match kind {
            "cgroup2" => unified = Some((String::new(), PathBuf::from(mount))),
            "cgroup" => {
                for (slot, controller) in first.iter_mut().zip(CONTROLLERS) {
                    if options.split(',').any(|option| option == controller) {
                        *slot = Some((controller.to_owned(), PathBuf::from(mount)));
                    }
                }
            }
            _ => {}
        }
    }
    if first[0].is_some() {
        return first.into_iter().flatten().collect();
    }
    unified.into_iter().collect()
}

fn attempt_of_name(name: &str) -> Option<AttemptId> {
    Some(AttemptId(name.strip_prefix("att-")?.parse().ok()?))
}

/// Reads the text of `/proc/PID/cgroup`; only the decisive hierarchy counts.
fn attempt_in(groups: &str, decisive: &str, base: &str) -> Option<AttemptId> {
    let path = groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let is_decisive = controllers.split(',').any(|name| name == decisive);
        is_decisive.then_some(path)
    })?;
    let below = path.strip_prefix('/')?.strip_prefix(base)?;
    let name = below.strip_prefix('/')?.split('/').next()?;
    attempt_of_name(name)
}

/// The groups of one attempt.
#[derive(Clone, Debug)]
pub(super) struct Cgroup {
    folders: Vec<CgroupFolder>,
}

impl Cgroup {
    /// The groups recorded in an entry; `None` when there are none.
    #[must_use]
    pub(super) fn at(folders: &[CgroupFolder]) -> Option<Self> {
        (!folders.is_empty()).then(|| Self {
            folders: folders.to_vec(),
        })
    }

    /// The group in which the script of `entry` begins because it may open cards, and whether that is all groups. Entering
    /// only what closes devices leaves the others to when they are worth their cost.
    pub(super) fn to_begin_in(entry: &Entry) -> Option<(Self, bool)> {
        let all = Self::at(&entry.cgroups)?;
        let fence = entry.fence.as_ref().filter(|fence| fence.opens_cards);
        if entry.spec.memory_bytes.is_some() {
            return Some((all, true));
        }
        let fence = fence?;
        let (fencing, others): (Vec<_>, Vec<_>) = all
            .folders
            .into_iter()
            .partition(|folder| folder.controller == fence.controller);
        let is_whole = others.is_empty();
        Self::at(&fencing).map(|cgroup| (cgroup, is_whole))
    }

    /// Bounds the memory of an attempt that runs, where its group is there and the kernel takes it: less than is in use
    /// may be refused.
    pub(super) fn limit_memory(&self, bytes: u64) {
        let limit = bytes.to_string();
        for folder in &self.folders {
            let path = Path::new(&folder.path);
            let files: &[&str] = match folder.controller.as_str() {
                // The second may never be below the first, so one of the two orders works.
                "memory" => &[
                    "memory.limit_in_bytes",
                    "memory.memsw.limit_in_bytes",
                    "memory.limit_in_bytes",
                ],
                "" => &["memory.max"],
                _ => &[],
            };
            for file in files.iter().map(|file| path.join(file)) {
                // Only a file that is there: writing must not make one in a folder that is no group.
                if file.exists() {
                    let _refused = fs::write(file, &limit);
                }
            }
        }
    }

    /// Moves the calling process into the groups.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn enter(&self) -> io::Result<()> {
        self.folders
            .iter()
            .try_for_each(|folder| fs::write(process_folder(folder).join("cgroup.procs"), "0"))
    }

    /// Moves another process into the groups; one that has ended is no error.
    pub(super) fn adopt(&self, pid: u32) -> io::Result<()> {
        for folder in &self.folders {
            match fs::write(process_folder(folder).join("cgroup.procs"), pid.to_string()) {
                Err(error) if error.raw_os_error() == Some(Errno::ESRCH as i32) => return Ok(()),
                other => other?,
            }
        }
        Ok(())
    }

    /// Moves a family into the groups that goes on forking meanwhile: whoever is found outside is moved, until nobody
    /// is found. `family` looks who belongs to it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn gather(&self, family: impl Fn() -> BTreeSet<u32>) -> io::Result<()> {
        for _ in 0..GATHER_ROUNDS_MAX {
            let inside: BTreeSet<u32> = self.processes().into_iter().collect();
            let outside: Vec<u32> = family().difference(&inside).copied().collect();
            if outside.is_empty() {
                break;
            }
            outside.into_iter().try_for_each(|pid| self.adopt(pid))?;
        }
        Ok(())
    }

    /// Pids of the job's own processes.
    #[must_use]
    pub(super) fn processes(&self) -> Vec<u32> {
        let folder = self.folders.first().map(process_folder);
        let pids = folder.map(|folder| processes(&folder)).unwrap_or_default();
        pids.into_iter().map(|pid| pid.as_raw() as u32).collect()
    }

    /// Pids of the job's own processes and of those in containers below.
    pub(super) fn everybody(&self) -> BTreeSet<u32> {
        let folder = self.folders.first().map(|folder| Path::new(&folder.path));
        folder.map(pids_below).unwrap_or_default()
    }

    /// Whether any of the groups is there.
    pub(super) fn exists(&self) -> bool {
        let is_there = |folder: &CgroupFolder| Path::new(&folder.path).exists();
        self.folders.iter().any(is_there)
    }

    /// Whether all of the groups are there: a process can enter.
    pub(super) fn is_whole(&self) -> bool {
        let is_there = |folder| process_folder(folder).exists();
        self.folders.iter().all(is_there)
    }

    /// Whether no process is left, in containers below it neither.
    pub(super) fn is_empty(&self) -> bool {
        let folder = self.folders.first().map(|folder| Path::new(&folder.path));
        folder.is_none_or(|folder| processes_below(folder).is_empty())
    }

    /// Kills every process in the groups and below; false when some could not be killed in time.
    ///
    /// Version 1 has no single order for this. Frozen processes cannot fork, so all of them get the signal; it acts
    /// when they thaw. `between` runs after every round, for a parent to reap its dead.
    #[must_use]
    pub(super) fn kill_all(&self, mut between: impl FnMut()) -> bool {
        let Some(folder) = self.folders.first() else {
            return true;
        };
        let path = Path::new(&folder.path);
        let deadline = Instant::now() + KILL_WAIT;
        let mut pause = Duration::from_millis(1);
        while !processes_below(path).is_empty() {
            if Instant::now() > deadline {
                return false;
            }
            if folder.controller.is_empty() && fs::write(path.join("cgroup.kill"), "1").is_ok() {
                // Done by the kernel.
            } else {
                freeze_and_kill(path, folder.controller == "freezer");
            }
            std::thread::sleep(pause);
            between();
            pause = (pause * 2).min(Duration::from_millis(50));
        }
        true
    }

    /// Removes the groups; false while something still lives in them or below.
    #[must_use]
    pub(super) fn remove(&self) -> bool {
        // No short cut: each hierarchy is tried, although an earlier one is busy.
        let removed = |folder: &CgroupFolder| remove_tree(Path::new(&folder.path));
        self.folders
            .iter()
            .map(removed)
            .fold(true, |all, one| all & one)
    }
}

/// Makes a group; whether it was not there before.
pub(super) fn make(path: &Path) -> io::Result<bool> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        // Somebody has tidied away our folder, which was empty.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(path).map(|()| true)
        }
        other => other.map(|()| true),
    }
}

fn process_folder(folder: &CgroupFolder) -> PathBuf {
    let path = PathBuf::from(&folder.path);
    if ["", DEVICES, PROGRAMS].contains(&folder.controller.as_str()) {
        path.join(LEAF)
    } else {
        path
    }
}

fn processes(folder: &Path) -> Vec<Pid> {
    let text = kernel_file::text(folder.join("cgroup.procs")).unwrap_or_default();
    let pids = text.lines().filter_map(|line| line.parse().ok());
    // A process of another pid namespace shows as 0, and 0 would mean our own group.
    pids.filter(|&pid| pid > 0).map(Pid::from_raw).collect()
}

fn subfolders(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

fn processes_below(folder: &Path) -> Vec<Pid> {
    let mut all = processes(folder);
    for below in subfolders(folder) {
        all.extend(processes_below(&below));
    }
    all
}

fn pids_below(folder: &Path) -> BTreeSet<u32> {
    let all = processes_below(folder).into_iter();
    all.map(|pid| pid.as_raw() as u32).collect()
}

fn freeze_and_kill(path: &Path, can_freeze: bool) {
    let state = path.join("freezer.state");
    if can_freeze {
        // A freeze that fails leaves a plain kill, repeated by the caller until nobody is left.
        let _refused = fs::write(&state, "FROZEN");
    }
    // Some may have ended since.
    let _killed = aimed::send(&pids_below(path), Signal::SIGKILL, || pids_below(path));
    if can_freeze {
        let _refused = fs::write(&state, "THAWED");
    }
}

/// Removes a group and those that containers left below it; false when something lives in one of them.
pub(crate) fn remove_tree(path: &Path) -> bool {
    match fs::remove_dir(path) {
        Ok(()) => return true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return true,
        Err(_) => {}
    }
    for below in subfolders(path) {
        remove_tree(&below);
    }
    fs::remove_dir(path).is_ok()
}

#[cfg(test)]
mod tests;
