//! The ports of the supervisor, in its own words. Calls are named for the wished state: repeating them is safe.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use capstan_proto::wire;
use capstan_types::{AttemptId, CardId};
use tokio::sync::mpsc;

/// A GPU as its driver describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuCard {
    /// The UUID, `GPU-…`.
    pub uuid: CardId,
    /// NVML's index; may change at a reboot.
    pub index: u32,
    /// Product name.
    pub model: String,
    /// Memory of the card.
    pub memory_bytes: u64,
    /// `00000000:3B:00.0`.
    pub pci_address: String,
}

/// The GPUs of this node. No driver, no library or a broken one is no error: zero cards and the reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GpuInventory {
    /// In index order.
    pub cards: Vec<GpuCard>,
    /// Version of the driver; empty when there is none.
    pub driver: String,
    /// Why there are no cards, or not all of them.
    pub problem: Option<String>,
    /// The library says that it is the fake one of tests and the demo.
    pub simulated: bool,
}

/// What a card does now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuUse {
    /// The card.
    pub uuid: CardId,
    /// 0 to 100.
    pub utilization_percent: u32,
    /// Memory in use, by anybody.
    pub memory_used_bytes: u64,
    /// Degrees Celsius; 0 when the card does not say.
    pub temperature_celsius: u32,
    /// 0 when the card does not say.
    pub power_milliwatts: u32,
    /// Process ids that compute on it, as seen from the host.
    pub processes: Vec<u32>,
}

/// NVML, as far as the supervisor cares. Every call may block for tens of milliseconds: call it off the event loop.
pub trait Gpus: Send + Sync + 'static {
    /// The cards of this node, asked anew.
    fn inventory(&self) -> GpuInventory;
    /// What each card does now; cards that do not answer are left out.
    fn usage(&self) -> Vec<GpuUse>;
}

/// A process that called the agent's door, resolved to its attempt.
#[derive(Clone, Debug)]
pub struct AttemptContext {
    /// The attempt.
    pub attempt: AttemptId,
    /// What the server ordered.
    pub spec: Arc<wire::LaunchSpec>,
    /// The user's ids on this host, supplementary groups included.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups (with the primary one).
    pub groups: Vec<u32>,
    /// Home folder, from the passwd entry.
    pub home: PathBuf,
    /// Login shell, from the passwd entry.
    pub login_shell: PathBuf,
    /// The environment that the attempt's first process got (PBS_*, CUDA_VISIBLE_DEVICES …).
    pub environment: capstan_types::Env,
    /// Parent cgroup for containers (`/capstan/1a2b3c4d/att-57`, relative to each hierarchy's root); none without
    /// rights. It may not exist yet: the shim makes it only for attempts that live longer than a moment.
    pub cgroup: Option<String>,
    /// Where PBS_NODEFILE and PBS_GPUFILE lie.
    pub node_file: PathBuf,
    /// Exists only when the attempt has cards.
    pub gpu_file: Option<PathBuf>,
}

/// What the door asks of the attempts.
pub trait Attempts: Send + Sync + 'static {
    /// The live attempt that process `pid` belongs to, by its cgroup, else by its ancestry.
    /// Never by anything that the process itself says.
    fn attempt_of(&self, pid: u32) -> Option<AttemptContext>;
}

/// What the attempts ask of the containers.
pub trait Containers: Send + Sync + 'static {
    /// Ends and removes every container of `attempt`; returns when none is left. May be repeated.
    fn end_attempt(
        &self,
        attempt: AttemptId,
    ) -> impl Future<Output = Result<(), ContainersError>> + Send;

    /// Attempts that own a container on this host, including containers from before our last restart.
    fn attempts_with_containers(
        &self,
    ) -> impl Future<Output = Result<Vec<AttemptId>, ContainersError>> + Send;
}

/// Containers of an attempt could not be listed or ended.
#[derive(Debug, thiserror::Error)]
#[error("containers of {attempt:?} could not be {wanted}")]
pub struct ContainersError {
    /// The attempt, when the call was about one.
    pub attempt: Option<AttemptId>,
    /// "listed", "ended".
    pub wanted: &'static str,
    /// What the engine said.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// What a task of `pbsdsh` says: bytes, then one last word (an exit status or a failure).
pub type TaskWord = wire::task_report::Report;

/// Words of a task that may wait to be taken, each of at most [`TASK_BYTES_MAX`]: this bound is the credit of a task on
/// another node.
pub const TASK_WORDS_MAX: usize = 8;

/// Largest piece of a task's output in one word.
pub const TASK_BYTES_MAX: usize = 32 << 10;

/// A program of an attempt here wants a task run on another node of the same attempt.
#[derive(Debug)]
pub struct SisterTask {
    /// What and where; the number of the task is the link's to give.
    pub request: wire::TaskRequest,
    /// Where its words go, the last one included; dropping the receiver ends the task.
    pub words: mpsc::Sender<TaskWord>,
}

/// The way to the other nodes of an attempt, by the link to the server. A cheap handle.
#[derive(Clone, Debug)]
pub struct Sisters(mpsc::Sender<SisterTask>);

impl Sisters {
    /// Requests that may wait for the link.
    const WAITING_MAX: usize = 64;

    /// A handle, and where the link takes the requests.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<SisterTask>) {
        let (sender, receiver) = mpsc::channel(Self::WAITING_MAX);
        (Self(sender), receiver)
    }

    /// Has a task run on another node; what it says comes from the receiver, a word that it could not be run included.
    /// A receiver that ends without a last word is a link that ended. Dropping the receiver ends the task.
    pub async fn run(&self, request: wire::TaskRequest) -> mpsc::Receiver<TaskWord> {
        let (words, heard) = mpsc::channel(TASK_WORDS_MAX);
        // Without a link the words are dropped, which says it.
        let _gone = self.0.send(SisterTask { request, words }).await;
        heard
    }
}

/// Tasks that run here for programs of an attempt on another node, as the server orders them.
pub trait Tasks: Send + Sync + 'static {
    /// Runs the task; returns at once. What it says goes to `words`, waiting for room: that is the credit. When nobody
    /// listens any more (`words.closed()`), every process of the task is ended.
    fn run_task(&self, task: wire::RunTask, words: mpsc::Sender<TaskWord>);
}
