//! The port to the container engine, in the supervisor's words. Calls are named for the wished state: each may be
//! repeated, after a crash of ours or of the engine, and the result is the same.

use std::collections::BTreeMap;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::pin::Pin;

use bytes::Bytes;
use capstan_types::{AgentId, AttemptId, CardId};
use futures_util::Stream;
use tokio::io::AsyncWrite;

use crate::images::ImageStore;

/// What the engine says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineFacts {
    /// `20.10.24+dfsg1`.
    pub version: String,
    /// How the engine names cgroups: a slice name is needed with systemd, a path otherwise.
    pub cgroups: CgroupDriver,
    /// Names of the OCI runtimes it knows.
    pub runtimes: Vec<String>,
    /// The engine resolves CDI device names.
    pub has_cdi: bool,
    /// The engine has an init of its own to put in front of the program.
    pub has_init: bool,
    /// Where images and containers lie: never to be mounted into one.
    pub root: PathBuf,
    /// Containers survive a restart of the engine.
    pub keeps_containers: bool,
    /// The engine sees the mounts that we make; false when it lives in another mount namespace.
    pub shares_mounts: bool,
    /// Names of the images that it holds, and which those are; at most [`EngineFacts::IMAGES_MAX`].
    pub images: BTreeMap<String, ImageId>,
}

impl EngineFacts {
    /// The most images that are told of.
    pub const IMAGES_MAX: usize = 200;
    /// The longest name of an image, in bytes; longer ones are left out.
    pub const IMAGE_BYTES_MAX: usize = 255;

    /// Names of images as they are told: in order, each once, none that is endless or no name, not too many.
    #[must_use]
    pub fn named(images: impl IntoIterator<Item = (String, ImageId)>) -> BTreeMap<String, ImageId> {
        let is_name = |(name, _): &(String, ImageId)| {
            name.len() <= Self::IMAGE_BYTES_MAX
                && !name.contains("<none>")
                && name.bytes().all(|byte| byte.is_ascii_graphic())
        };
        let images: BTreeMap<String, ImageId> = images.into_iter().filter(is_name).collect();
        images.into_iter().take(Self::IMAGES_MAX).collect()
    }
}

/// Who makes the engine's cgroups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CgroupDriver {
    /// The engine itself.
    #[default]
    Cgroupfs,
    /// systemd: parents are slices.
    Systemd,
    /// Nobody: no limits.
    Nobody,
}

/// Content hash of an image, `sha256:…`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageId(pub String);

/// The engine's id of a container.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContainerId(pub String);

/// Whom a container belongs to; the engine keeps it as labels, so it survives everybody's restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The agent that started it: several agents may share one engine.
    pub agent: AgentId,
    /// The attempt it ends with.
    pub attempt: AttemptId,
    /// `123.server`.
    pub job: String,
    /// Name of the user.
    pub user: String,
}

/// A container that somebody's agent started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedContainer {
    /// The engine's id.
    pub id: ContainerId,
    /// As [`ContainerSpec::name`].
    pub name: String,
    /// From its labels.
    pub owner: Owner,
    /// It has a terminal.
    pub terminal: bool,
    /// To the second, by the engine's clock.
    pub created: std::time::SystemTime,
    /// Created, but never started: its starter was interrupted.
    pub never_started: bool,
}

/// How the cards reach the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cards {
    /// No device request: none are granted, or the cards are simulated.
    ByEnvironment,
    /// The engine's device request for NVIDIA, by UUID.
    Nvidia(Vec<CardId>),
    /// CDI names `nvidia.com/gpu=UUID`.
    Cdi(Vec<CardId>),
}

/// A bind mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// Absolute path on the host, already resolved.
    pub source: PathBuf,
    /// Absolute path inside.
    pub target: PathBuf,
    /// Nobody inside may write.
    pub read_only: bool,
}

/// Everything about a container, decided. What is not here is fixed in the adapter: all capabilities dropped,
/// no new privileges, private namespaces, never restarted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerSpec {
    /// Unique on the host; starting the same name twice finds the first.
    pub name: String,
    /// Image as the user named it.
    pub image: String,
    /// Program and arguments; empty runs the image's own.
    pub command: Vec<String>,
    /// `NAME=value`.
    pub environment: Vec<String>,
    /// Absolute folder inside that the program starts in.
    pub workdir: PathBuf,
    /// Numeric ids: uid and primary group.
    pub user: (u32, u32),
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// In any order; targets are distinct.
    pub binds: Vec<Bind>,
    /// The granted cards.
    pub cards: Cards,
    /// Size of `/dev/shm` in bytes.
    pub shm_bytes: u64,
    /// Parent cgroup (cgroupfs path or slice).
    pub cgroup_parent: Option<String>,
    /// A limit of its own, where no parent cgroup bounds the memory.
    pub memory_bytes: Option<u64>,
    /// Processes and threads at most.
    pub pids_max: u32,
    /// Run under the engine's init.
    pub init: bool,
    /// Stdin is forwarded.
    pub interactive: bool,
    /// A terminal, of this size at first.
    pub terminal: Option<TerminalSize>,
    /// What the user asked for beside all this.
    pub wishes: Wishes,
    /// What the site excepts for this user.
    pub grants: Grants,
    /// Whose it is.
    pub owner: Owner,
}

/// What a user may ask for of their own container; checked, and within the user's rights.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Name of the host inside.
    pub hostname: Option<String>,
    /// In place of the image's own; an empty word takes it away.
    pub entrypoint: Option<Vec<String>>,
    /// Nothing but mounts can be written.
    pub read_only: bool,
    /// Memory as folders.
    pub tmpfs: Vec<Tmpfs>,
    /// Limits of processes.
    pub ulimits: Vec<Ulimit>,
    /// `NAME:ADDRESS`.
    pub hosts: Vec<String>,
    /// Addresses of name servers.
    pub dns: Vec<String>,
    /// The engine's name of a network.
    pub network: Option<String>,
    /// None of them is ours.
    pub labels: Vec<(String, String)>,
    /// Name or number.
    pub stop_signal: Option<String>,
    /// Billionths of a core.
    pub nano_cpus: Option<u64>,
}

/// A folder in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tmpfs {
    /// Absolute, inside.
    pub target: String,
    /// As mount options.
    pub settings: String,
}

/// A limit of processes; none is no limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ulimit {
    /// `nofile` …
    pub name: String,
    /// In force at first.
    pub soft: Option<u64>,
    /// What the soft one may be raised to.
    pub hard: Option<u64>,
}

/// What only an exception of the site allows; nothing by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// `--privileged`; the user stays the user.
    pub privileged: bool,
    /// `--cap-add`.
    pub capabilities: Vec<String>,
    /// `--device`: outside, inside, rights.
    pub devices: Vec<(String, String, String)>,
    /// `--pid=host`.
    pub pid_host: bool,
    /// `--uts=host`.
    pub uts_host: bool,
    /// `--userns=host`.
    pub userns_host: bool,
    /// `--cgroupns=host`.
    pub cgroupns_host: bool,
    /// `--ipc=host`, to the letter.
    pub ipc_host: bool,
    /// `--security-opt`.
    pub security: Vec<String>,
    /// `--runtime`.
    pub runtime: Option<String>,
    /// `--sysctl`.
    pub sysctls: Vec<(String, String)>,
}

/// Rows and columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalSize {
    /// Lines, at least 1.
    pub rows: u16,
    /// Columns, at least 1.
    pub columns: u16,
}

/// A piece of output, at most [`CHUNK_BYTES_MAX`] long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Standard output, or the terminal.
    Stdout(Bytes),
    /// Standard error; never with a terminal.
    Stderr(Bytes),
}

/// Largest piece of output or input that travels in one message.
pub const CHUNK_BYTES_MAX: usize = 32 * 1024;

/// How much of the output somebody already has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Bytes of stdout (or terminal).
    pub stdout: u64,
    /// Bytes of stderr.
    pub stderr: u64,
}

/// A started container with its streams. Dropping it detaches; the container runs on.
pub struct Attached {
    /// The engine's id.
    pub id: ContainerId,
    /// Ends when the container does, or when the engine goes away. Nothing is read ahead of the reader.
    pub output: Pin<Box<dyn Stream<Item = std::io::Result<Output>> + Send>>,
    /// Stdin; shutting it down is the end of file inside. None when the container takes no input.
    pub input: Option<Pin<Box<dyn AsyncWrite + Send>>>,
}

/// A program to be run in a container that runs, by its user and within what the container may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnterSpec {
    /// Program and arguments.
    pub command: Vec<String>,
    /// `NAME=value`, beside the container's own.
    pub environment: Vec<String>,
    /// Its streams are a terminal of this size.
    pub terminal: Option<TerminalSize>,
}

/// One that runs. Dropping it detaches.
#[derive(Debug)]
pub struct Entered {
    /// The engine's connection to it, in the form of the Docker Engine API: what is written is its stdin, shutting that down
    /// is the end of file; what is read is its output, in frames unless it has a terminal, and ends when the program does.
    pub stream: OwnedFd,
    /// What was read already.
    pub first: Vec<u8>,
}

/// How it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnteredState {
    /// The exit code, once it has ended.
    pub exit: Option<i32>,
    /// Its process, as the host numbers it.
    pub pid: Option<i32>,
    /// In which container.
    pub container: ContainerId,
}

/// A signal for the container's first process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal(pub i32);

/// The container engine, as far as the supervisor cares.
pub trait ContainerEngine: ImageStore {
    /// What the engine is and can.
    fn facts(&self) -> impl Future<Output = Result<EngineFacts, EngineError>> + Send;

    /// The image's content id; [`EngineError::ImageMissing`] when this host does not have it.
    fn image(&self, name: &str) -> impl Future<Output = Result<ImageId, EngineError>> + Send;

    /// `NAME@sha256:…`: by which digests registries know an image; none of one that never was in a registry.
    fn repo_digests(
        &self,
        image: &ImageId,
    ) -> impl Future<Output = Result<Vec<String>, EngineError>> + Send;

    /// The content of a regular file of an image, at most `bytes_max` of it is accepted; none when it has no such
    /// file.
    fn file_of_image(
        &self,
        image: &ImageId,
        path: &str,
        bytes_max: usize,
    ) -> impl Future<Output = Result<Option<Vec<u8>>, EngineError>> + Send;

    /// Creates, attaches and starts the container, or finds the one of this name and attaches to it. When the
    /// start fails nothing is left behind.
    fn ensure_started(
        &self,
        spec: &ContainerSpec,
    ) -> impl Future<Output = Result<Attached, EngineError>> + Send;

    /// Attaches again to a container whose stream broke; output begins behind what was already `seen`.
    fn resume(
        &self,
        container: &OwnedContainer,
        seen: Seen,
    ) -> impl Future<Output = Result<Attached, EngineError>> + Send;

    /// The exit code (0–255) of the container's program, once it has ended.
    fn wait(&self, id: &ContainerId) -> impl Future<Output = Result<i32, EngineError>> + Send;

    /// Sends a signal; a container that has ended needs none.
    fn signal(
        &self,
        id: &ContainerId,
        signal: Signal,
    ) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Sets the size of the container's terminal; one that has ended has none.
    fn resize(
        &self,
        id: &ContainerId,
        size: TerminalSize,
    ) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Makes a program in a container that does not run yet; the engine's name of it. One that is never begun costs nothing
    /// and goes with the container.
    fn create_entered(
        &self,
        id: &ContainerId,
        spec: &EnterSpec,
    ) -> impl Future<Output = Result<String, EngineError>> + Send;

    /// Begins it, with a terminal of this size if it was made with one. The engine refuses to do so twice.
    fn enter(
        &self,
        id: &str,
        terminal: Option<TerminalSize>,
    ) -> impl Future<Output = Result<Entered, EngineError>> + Send;

    /// Sets the size of the terminal of such a program; one that has ended has none.
    fn resize_entered(
        &self,
        id: &str,
        size: TerminalSize,
    ) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// How such a program is.
    fn entered(&self, id: &str) -> impl Future<Output = Result<EnteredState, EngineError>> + Send;

    /// Kills the container if it runs and removes it with all it wrote outside of its mounts.
    fn ensure_removed(
        &self,
        id: &ContainerId,
    ) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Every container of this agent, running or not, those from before its last restart too.
    fn owned(
        &self,
        agent: &AgentId,
    ) -> impl Future<Output = Result<Vec<OwnedContainer>, EngineError>> + Send;
}

/// What the engine could not do.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Nobody answers, or the connection broke: a restart of the engine looks like this.
    #[error("container engine at {} does not answer", socket.display())]
    Unreachable {
        /// Its socket.
        socket: PathBuf,
        /// What the transport said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The image is not on this host, or its registry does not have it.
    #[error("image {image} is not there: {said}")]
    ImageMissing {
        /// As asked.
        image: String,
        /// The engine's words.
        said: String,
    },
    /// The program is not in the image.
    #[error("program not found in the image: {said}")]
    ProgramNotFound {
        /// The engine's words.
        said: String,
    },
    /// The program may not be executed.
    #[error("program cannot be executed: {said}")]
    ProgramNotExecutable {
        /// The engine's words.
        said: String,
    },
    /// The engine cannot hand cards to containers.
    #[error("engine cannot give cards to containers: {said}")]
    CardsUnavailable {
        /// The engine's words.
        said: String,
    },
    /// There is no such container (any more).
    #[error("no container {}", id.0)]
    NoContainer {
        /// As asked.
        id: ContainerId,
    },
    /// Any other refusal of the engine.
    #[error("container engine refuses ({status}): {said}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The engine's words.
        said: String,
    },
}

impl EngineError {
    /// The engine may be back in a moment.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::ImageMissing { .. }
            | Self::ProgramNotFound { .. }
            | Self::ProgramNotExecutable { .. }
            | Self::CardsUnavailable { .. }
            | Self::NoContainer { .. }
            | Self::Refused { .. } => false,
        }
    }
}
