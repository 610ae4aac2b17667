//! The ports of the supervisor, in its own words. Calls are named for the wished state: repeating them is safe.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use capstan_proto::wire;
use capstan_types::{AttemptId, CardId};
use tokio::sync::{mpsc, watch};

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
    /// Compute capability, 8.9 as (8, 9); `None` when the driver does not say.
    pub compute: Option<(u32, u32)>,
    /// The memory node of the host that it is near to, when there is one such.
    pub numa_node: Option<u32>,
    /// Cards with the same number reach one another fastest; numbered from 0 in index order.
    pub island: u32,
    /// Its device node; `None` when the driver does not say.
    pub device: Option<CardDevice>,
}

/// Where the device nodes of a card are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CardDevice {
    /// N of `/dev/nvidiaN`; of the whole card, when this is a part of one.
    pub minor: u32,
    /// The numbers of the part of a divided card (MIG): GPU instance and compute instance.
    pub part: Option<(u32, u32)>,
}

/// The GPUs of this node. No driver, no library or a broken one is no error: zero cards and the reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GpuInventory {
    /// In index order.
    pub cards: Vec<GpuCard>,
    /// Version of the driver; empty when there is none.
    pub driver: String,
    /// The newest CUDA that the driver serves, as NVML counts (12010 is 12.1); 0 when it does not say.
    pub cuda_version: u32,
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
    /// What computes on it, as seen from the host.
    pub processes: Vec<CardProcess>,
    /// What else it says, for `pbsnodes`; not asked by [`Gpus::loads`].
    pub detail: GpuDetail,
    /// What it says of its own state; not asked by [`Gpus::loads`].
    pub health: GpuHealth,
}

/// A process that computes on a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CardProcess {
    /// As the host numbers it.
    pub pid: u32,
    /// Memory of the card that it holds; 0 when the driver does not say.
    pub memory_bytes: u64,
}

/// What a card says of its own state; what it does not say is well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GpuHealth {
    /// Rows of its memory wait to be remapped, or pages to be retired: only a reset mends it.
    pub is_repair_pending: bool,
    /// No spare row was left to remap a broken one.
    pub has_repair_failed: bool,
    /// Degrees Celsius at which the card protects itself by stopping.
    pub shutdown_celsius: Option<u32>,
}

/// What a card or its driver says unasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GpuEvent {
    /// An error of the driver's list (XID).
    Xid {
        /// The card; `None` when it does not even say which it is.
        card: Option<CardId>,
        /// NVIDIA's number.
        xid: u64,
    },
    /// An error in its memory that could not be corrected.
    Uncorrected {
        /// The card.
        card: Option<CardId>,
    },
}

/// Hears events; false when nobody wants to hear more.
pub type GpuListener = Box<dyn Fn(GpuEvent) -> bool + Send>;

/// What a card may say beside load and memory; `None` when it does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GpuDetail {
    /// 0 to 100.
    pub memory_utilization_percent: Option<u32>,
    /// 0 to 100.
    pub fan_percent: Option<u32>,
    /// NVML's number: 0 default, 1 exclusive thread, 2 prohibited, 3 exclusive process.
    pub compute_mode: Option<u32>,
    /// A display is attached.
    pub display: Option<bool>,
    /// Error correction is on.
    pub ecc: Option<bool>,
    /// Errors corrected since the last reset.
    pub single_bit_errors: Option<u64>,
    /// Errors not corrected since the last reset.
    pub double_bit_errors: Option<u64>,
    /// Device and vendor in PCI's configuration space.
    pub pci_device_id: Option<u32>,
}

/// NVML, as far as the supervisor cares. Every call may block for tens of milliseconds: call it off the event loop.
pub trait Gpus: Send + Sync + 'static {
    /// The cards of this node, asked anew.
    fn inventory(&self) -> GpuInventory;
    /// What each card does now; cards that do not answer are left out.
    fn usage(&self) -> Vec<GpuUse>;
    /// As [`Self::usage`] without details and health: cheap enough to be asked every second.
    fn loads(&self) -> Vec<GpuUse> {
        self.usage()
    }
    /// Tells `listener` from now on, from a thread of its own, what cards say unasked. A driver that has no events is
    /// silent.
    fn listen(&self, listener: GpuListener) {
        drop(listener);
    }
}

/// Settings of a card that an operator may change. Both calls may block: call them off the event loop.
pub trait CardControl: Send + Sync + 'static {
    /// Sets NVML's compute mode: 0 default, 1 exclusive thread, 2 prohibited, 3 exclusive process.
    ///
    /// # Errors
    /// When there is no such mode or card, or the driver refuses.
    fn set_compute_mode(&self, card: &CardId, mode: u32) -> Result<(), CardRefused>;
    /// Sets the counts of memory errors to zero: those since boot, or those of the card's whole life.
    ///
    /// # Errors
    /// When there is no such card, or the driver refuses.
    fn reset_errors(&self, card: &CardId, is_permanent: bool) -> Result<(), CardRefused>;
}

/// Why a card is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CardRefused {
    /// No such mode.
    #[error("{0} is no compute mode")]
    NoMode(u32),
    /// The driver's word.
    #[error("the NVIDIA driver refuses: {said}")]
    Driver {
        /// What it said.
        said: String,
    },
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
    /// The script of an attempt with an image began, or it did not for a `problem` of this node's: then the attempt's job
    /// is put back when that ends, for its user can do nothing about it. The first word counts.
    fn note_beginning(&self, attempt: AttemptId, problem: Option<String>);
}

/// A program that is to run in an attempt beside its script.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TaskAsked {
    /// Index of a slot of the attempt, `PBS_VNODENUM`.
    pub place: u32,
    /// The program and its arguments.
    pub arguments: Vec<String>,
    /// Its number among the tasks of its call.
    pub rank: u32,
    /// Its call ends all of them with the first that fails.
    pub is_gang: bool,
    /// Added to what tasks see anyway.
    pub environment: Vec<wire::Variable>,
    /// 32 hexadecimal digits by which it is found again when a connection on the way was lost; without them it ends with
    /// the first that is.
    pub key: String,
    /// So many bytes of both its streams together have arrived before: it is not begun anew.
    pub from_byte: Option<u64>,
}

/// A task under way.
#[derive(Debug)]
pub struct TaskStarted {
    /// `PBS_TASKNUM`.
    pub number: u32,
    /// What it says; dropping this ends it, or, when it has a key, leaves it.
    pub reports: mpsc::Receiver<wire::task_report::Report>,
    /// What whoever wants it says.
    pub wish: watch::Sender<TaskWish>,
}

/// What whoever wants a task with a key says of it. When that is dropped without a word that it is over, somebody on the way
/// has gone, and the task goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskWish {
    /// So many bytes of both its streams together have arrived.
    pub seen_bytes: u64,
    /// It is not wanted any more, or its end is known.
    pub is_over: bool,
}

/// Why no task was started. Shown to whoever asked for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TaskRefused {
    /// Nothing to run.
    #[error("no program is named")]
    NoProgram,
    /// A word that no program can be given.
    #[error("an argument or variable holds a NUL byte, or a variable has no name")]
    Nul,
    /// More than a program can be given.
    #[error("arguments and variables of {bytes} bytes are too long")]
    TooLong {
        /// Their size.
        bytes: usize,
    },
    /// The attempt has fewer slots.
    #[error("the job has {places} places, and {place} is none of them")]
    NoPlace {
        /// What was asked for.
        place: u32,
        /// How many there are, counted from 0.
        places: usize,
    },
    /// The bound on tasks.
    #[error("{running} tasks of the job run on this node already; wait until some have ended")]
    TooMany {
        /// Those of the attempt.
        running: usize,
    },
    /// The user's share of the node's places.
    #[error(
        "you have {running} programs on this node already, and others need the rest; wait until some have ended"
    )]
    Share {
        /// Those of all the user's jobs.
        running: usize,
    },
    /// The attempt is over.
    #[error("the job is ending")]
    Ending,
    /// Tasks on other nodes go by the server.
    #[error("the server, by which other nodes are reached, does not answer")]
    NoServer,
    /// What it is to be found by again.
    #[error("the key of the task is not 32 hexadecimal digits")]
    BadKey,
}

impl TaskRefused {
    /// Whether a later try may do.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        match self {
            Self::NoServer => true,
            Self::NoProgram
            | Self::Nul
            | Self::TooLong { .. }
            | Self::NoPlace { .. }
            | Self::TooMany { .. }
            | Self::Share { .. }
            | Self::Ending
            | Self::BadKey => false,
        }
    }
}

/// Why a process does not become one of a job.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdoptRefused {
    /// No job of the caller's of this id runs here.
    #[error("no job {job} of yours runs on this node")]
    NoJob {
        /// What was asked for.
        job: String,
    },
    /// No process of the caller's.
    #[error("process {pid} is none of yours")]
    NotYours {
        /// What was asked for.
        pid: u32,
    },
    /// It would leave another job, whose limits it is under.
    #[error("process {pid} belongs to another job")]
    Belongs {
        /// What was asked for.
        pid: u32,
    },
    /// Without cgroups nothing holds a process that did not descend from the job.
    #[error("this node has no cgroups, without which a job cannot take on a process")]
    NoCgroups,
    /// The kernel refused.
    #[error("process {pid} cannot be moved: {problem}")]
    Refused {
        /// What was asked for.
        pid: u32,
        /// What the kernel said.
        problem: String,
    },
}

/// What the door asks of the tasks.
pub trait Tasks: Send + Sync + 'static {
    /// Starts a task in the attempt, here or on another of its nodes.
    ///
    /// # Errors
    /// When nothing was started.
    fn run_task(&self, attempt: AttemptId, asked: TaskAsked) -> Result<TaskStarted, TaskRefused>;

    /// Makes process `pid` one of the job's. Both must be `uid`'s. Blocks.
    ///
    /// # Errors
    /// When they are not, or the process cannot be moved.
    fn adopt(&self, uid: u32, job_id: &str, pid: u32) -> Result<(), AdoptRefused>;
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

    /// Images of which containers of `attempt` were made, with their digests, also when they are gone.
    fn images_of(&self, attempt: AttemptId) -> Vec<String> {
        let _none_known = attempt;
        Vec::new()
    }
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
