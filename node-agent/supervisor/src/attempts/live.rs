//! Attempts that are alive here: who belongs to which, and what each uses.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::SystemTime;

use capstan_proto::wire::{AttemptEnded, AttemptUse, Usage, attempt_ended::Outcome};
use capstan_types::{AttemptId, Env};
use tokio::sync::Notify;

use super::cgroup::{Cgroup, CgroupTree};
use super::environment::environment;
use super::gang::Failed;
use super::ledger::AttemptFile;
use super::proc;
use super::record::{Entry, Identity, ShimRecord};
use super::sampling::Meter;
use crate::ports::AttemptContext;

/// Longest chain of ancestors that is followed.
const ANCESTORS_MAX: usize = 4096;
const PAGE_KB: u64 = 4;
/// Clock ticks of `/proc` in a second.
const TICKS_PER_SEC: u64 = 100;

/// An attempt from the moment its shim may run until it is known to have ended.
#[derive(Debug)]
pub(super) struct LiveAttempt {
    pub(super) entry: Entry,
    file: AttemptFile,
    shim: RwLock<ShimRecord>,
    /// A program inside it has called the door: there may be containers.
    used_door: AtomicBool,
    vmem_kb_peak: AtomicU64,
    /// What was seen of it, again and again.
    meter: Mutex<Meter>,
    /// Stopped as a whole, by order; or perhaps, by an agent before us.
    is_paused: AtomicBool,
    tasks: AtomicU32,
    /// The first task of a gang that failed.
    failed: OnceLock<Failed>,
    /// What became of the container that is the job, when it is one: nothing, or the node's problem with it.
    beginning: OnceLock<Option<String>>,
    /// Told when its cards are seen at work, where somebody wants to know.
    pub(super) cards_used: Notify,
}

/// All of them, shared with the door.
#[derive(Clone, Debug, Default)]
pub(super) struct LiveTable {
    attempts: Arc<RwLock<BTreeMap<AttemptId, Arc<LiveAttempt>>>>,
    /// When all of them were last looked at, on the sampler's clock.
    looked_ms: Arc<AtomicU64>,
}

impl LiveAttempt {
    pub(super) fn new(entry: Entry, file: AttemptFile) -> Self {
        Self {
            entry,
            file,
            shim: RwLock::default(),
            used_door: AtomicBool::new(false),
            vmem_kb_peak: AtomicU64::new(0),
            meter: Mutex::default(),
            is_paused: AtomicBool::new(false),
            tasks: AtomicU32::new(2),
            failed: OnceLock::new(),
            beginning: OnceLock::new(),
            cards_used: Notify::new(),
        }
    }

    pub(super) fn set_shim(&self, shim: ShimRecord) {
        *self.shim.write().unwrap_or_else(PoisonError::into_inner) = shim;
    }

    fn shim(&self) -> ShimRecord {
        *self.shim.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`Self::shim`], when need be from the mark that the shim made before it started the script: a program of the
    /// attempt may call before we have heard from the shim.
    pub(super) fn marked_shim(&self) -> ShimRecord {
        let shim = self.shim();
        if shim.pid != 0 {
            return shim;
        }
        let contents = self.file.read().ok();
        contents
            .and_then(|contents| contents.shim)
            .unwrap_or_default()
    }

    /// Which words its shim knows at its terminal. Reads the attempt's file.
    pub(super) fn terminal_version(&self) -> u32 {
        let contents = self.file.read().ok();
        let mark = contents.and_then(|contents| contents.shim);
        mark.map_or(0, |shim| shim.version)
    }

    /// A restarted agent cannot know who called its predecessor.
    pub(super) fn assume_containers(&self) {
        self.used_door.store(true, Ordering::Relaxed);
    }

    pub(super) fn may_have_containers(&self) -> bool {
        self.used_door.load(Ordering::Relaxed)
    }

    /// The number of the next task, `PBS_TASKNUM`; the script is the first.
    pub(super) fn next_task(&self) -> u32 {
        self.tasks.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes down which task of a gang failed; false when another did before.
    pub(super) fn note_failed(&self, failed: Failed) -> bool {
        self.failed.set(failed).is_ok()
    }

    /// Takes down that its container began, or why it did not; the first word counts.
    pub(super) fn note_beginning(&self, problem: Option<String>) {
        // A carrier that asks again after a restart of ours is given the container that it has.
        let _known = self.beginning.set(problem);
    }

    /// Whether it is known if its container began: an agent before may have been the one that knew.
    pub(super) fn knows_beginning(&self) -> bool {
        self.beginning.get().is_some()
    }

    /// Why its container could not begin, through no fault of its user's.
    pub(super) fn not_begun(&self) -> Option<&str> {
        self.beginning.get()?.as_deref()
    }

    pub(super) fn failed(&self) -> Option<&Failed> {
        self.failed.get()
    }

    pub(super) fn set_paused(&self, is_paused: bool) {
        self.is_paused.store(is_paused, Ordering::Relaxed);
    }

    pub(super) fn is_paused(&self) -> bool {
        self.is_paused.load(Ordering::Relaxed)
    }

    /// The shim's process, once the script runs.
    pub(super) fn running_shim(&self) -> Option<u32> {
        let shim = self.shim();
        (shim.started_ms != 0).then_some(shim.pid)
    }

    /// When the script started, in milliseconds since 1970; 0 before.
    pub(super) fn started_ms(&self) -> u64 {
        self.shim().started_ms
    }

    /// Whether its end depends on what its cards do: a session that must not be idle.
    pub(super) fn must_be_used(&self) -> bool {
        let session = self.entry.spec.interactive;
        session.is_some_and(|session| session.idle_secs > 0)
    }

    /// The socket of its terminal.
    pub(super) fn terminal(&self) -> PathBuf {
        self.file.terminal()
    }

    pub(super) fn with_meter<T>(&self, what: impl FnOnce(&mut Meter) -> T) -> T {
        what(&mut self.meter.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the card of this UUID is lent to it.
    pub(super) fn has_card(&self, uuid: &str) -> bool {
        self.entry.spec.cards.iter().any(|card| card.uuid == uuid)
    }

    /// The highest virtual memory seen while it ran.
    pub(super) fn vmem_kb_peak(&self) -> u64 {
        self.vmem_kb_peak.load(Ordering::Relaxed)
    }

    pub(super) fn context(&self) -> Option<AttemptContext> {
        let host = nix::unistd::gethostname().unwrap_or_default();
        let host = host.to_string_lossy();
        context(&self.entry, |entry, identity| {
            environment(entry, identity, &host)
        })
    }

    /// What it uses now; `None` until it runs.
    fn usage(&self) -> Option<AttemptUse> {
        let shim = self.shim();
        if shim.started_ms == 0 {
            return None;
        }
        let cgroup = Cgroup::at(&self.entry.cgroups);
        let mut pids = cgroup.as_ref().map(Cgroup::processes).unwrap_or_default();
        if pids.is_empty() {
            pids.extend(proc::family(shim.pid));
        }
        let stats = pids.into_iter().filter_map(proc::stat);
        let (mut vmem_kb, mut resident_kb, mut ticks) = (0, 0, 0);
        for stat in stats {
            vmem_kb += stat.virtual_bytes / 1024;
            resident_kb += stat.resident_pages * PAGE_KB;
            ticks += stat.cpu_ticks;
        }
        let vmem_kb = self
            .vmem_kb_peak
            .fetch_max(vmem_kb, Ordering::Relaxed)
            .max(vmem_kb);
        let measured = cgroup.map(|cgroup| cgroup.usage()).unwrap_or_default();
        Some(AttemptUse {
            attempt: self.entry.spec.attempt,
            usage: Some(Usage {
                cput_secs: measured
                    .cpu
                    .map_or(ticks / TICKS_PER_SEC, |cpu| cpu.as_secs()),
                // What was allocated before the cgroup is not counted in it.
                mem_kb: measured
                    .memory_peak_bytes
                    .map_or(resident_kb, |bytes| resident_kb.max(bytes / 1024)),
                vmem_kb,
                walltime_secs: now_ms().saturating_sub(shim.started_ms) / 1000,
                measures: self.with_meter(|meter| meter.measures()),
            }),
        })
    }
}

impl LiveTable {
    /// Notes when all were looked at.
    pub(super) fn looked_at(&self, now_ms: u64) {
        self.looked_ms.store(now_ms, Ordering::Relaxed);
    }

    /// When all were last looked at, whoever did.
    pub(super) fn looked_ms(&self) -> u64 {
        self.looked_ms.load(Ordering::Relaxed)
    }

    pub(super) fn insert(&self, attempt: Arc<LiveAttempt>) {
        let mut table = self
            .attempts
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        table.insert(attempt.entry.attempt(), attempt);
    }

    pub(super) fn remove(&self, attempt: AttemptId) {
        let mut table = self
            .attempts
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        table.remove(&attempt);
    }

    pub(super) fn all(&self) -> Vec<Arc<LiveAttempt>> {
        let table = self.attempts.read().unwrap_or_else(PoisonError::into_inner);
        table.values().cloned().collect()
    }

    pub(super) fn get(&self, attempt: AttemptId) -> Option<Arc<LiveAttempt>> {
        let table = self.attempts.read().unwrap_or_else(PoisonError::into_inner);
        table.get(&attempt).cloned()
    }

    /// What each attempt uses now. Reads `/proc`: blocks.
    pub(super) fn usage(&self) -> Vec<AttemptUse> {
        let all = self.all();
        all.iter().filter_map(|attempt| attempt.usage()).collect()
    }

    /// The live attempt of process `pid`, by its cgroup, else by its ancestry.
    pub(super) fn attempt_of(&self, pid: u32, cgroups: &CgroupTree) -> Option<Arc<LiveAttempt>> {
        match cgroups.attempt_of(pid) {
            Some(attempt) => self.get(attempt),
            None => self.by_ancestry(pid),
        }
    }

    /// The context for the door, when the caller is the attempt's own user: a pid may have passed to another's
    /// process since it called.
    pub(super) fn context_of(&self, pid: u32, cgroups: &CgroupTree) -> Option<AttemptContext> {
        let before = proc::stat(pid)?.start_ticks;
        let live = self.attempt_of(pid, cgroups)?;
        let context = live.context()?;
        if proc::real_uid(pid)? != context.uid || proc::stat(pid)?.start_ticks != before {
            return None;
        }
        live.assume_containers();
        Some(context)
    }

    fn by_ancestry(&self, pid: u32) -> Option<Arc<LiveAttempt>> {
        let shims: BTreeMap<u32, Arc<LiveAttempt>> = self
            .all()
            .into_iter()
            .map(|attempt| (attempt.marked_shim().pid, attempt))
            .collect();
        if shims.is_empty() {
            return None;
        }
        let mut pid = pid;
        for _ in 0..ANCESTORS_MAX {
            let stat = proc::stat(pid)?;
            if let Some(attempt) = shims.get(&pid) {
                let is_shim = attempt.marked_shim().start_ticks == stat.start_ticks;
                return is_shim.then(|| attempt.clone());
            }
            if stat.parent <= 1 {
                return None;
            }
            pid = stat.parent;
        }
        None
    }
}

/// What the door is told of a process of an attempt here, whose script may run on another node; `None` when nobody knows
/// as whom it runs.
pub(super) fn context(
    entry: &Entry,
    environment: impl FnOnce(&Entry, &Identity) -> Env,
) -> Option<AttemptContext> {
    let identity = entry.identity.as_ref()?;
    let has_cards = !entry.spec.gpu_file.is_empty();
    Some(AttemptContext {
        attempt: entry.attempt(),
        spec: Arc::new(entry.spec.clone()),
        uid: identity.uid,
        gid: identity.gid,
        groups: identity.groups.clone(),
        home: PathBuf::from(&identity.home),
        login_shell: PathBuf::from(&identity.shell),
        environment: environment(entry, identity),
        cgroup: (!entry.cgroup.is_empty()).then(|| entry.cgroup.clone()),
        node_file: PathBuf::from(entry.node_file()),
        gpu_file: has_cards.then(|| PathBuf::from(entry.gpu_file())),
    })
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

/// An end that the agent itself has to report.
pub(super) fn ended(attempt: u64, outcome: Outcome) -> AttemptEnded {
    AttemptEnded {
        attempt,
        at_ms: now_ms(),
        usage: Some(Usage::default()),
        outcome: Some(outcome),
        unclean_cards: Vec::new(),
        messages: Vec::new(),
        cause: String::new(),
        images: Vec::new(),
    }
}
