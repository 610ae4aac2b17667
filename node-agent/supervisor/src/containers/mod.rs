//! Containers of attempts: what of `startdocker`'s options is accepted, which folders and cards a container gets, who
//! its user is, and the door through which programs of attempts ask for one. Knows the engine only as a port.

mod bounds;
mod door;
mod engine;
mod entering;
mod environment;
#[cfg(test)]
mod escape_tests;
mod exceptions;
mod getting;
mod guests;
mod identity;
mod keeper;
mod looking;
mod marks;
mod mounts;
mod options;
mod plan;
mod preparing;
pub(crate) mod reach;
mod refusal;
mod refusals;
mod registry;
mod script;
mod session;
mod settings;
mod stage;
mod tasks;
mod used;
mod values;
mod words;

#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use door::Door;
pub use engine::{
    Attached, Bind, CHUNK_BYTES_MAX, Cards, CgroupDriver, ContainerEngine, ContainerId,
    ContainerSpec, EngineError, EngineFacts, EnterSpec, Entered, EnteredState, Grants, ImageId,
    Output, OwnedContainer, Owner, Seen, Signal, TerminalSize, Tmpfs, Ulimit, Wishes,
};
pub use exceptions::{BadException, Exception, ExceptionFile, resolve_exceptions};
pub use guests::{CONNECTIONS_PER_USER_MAX, Guest, guests};
pub use keeper::Keeper;
pub use preparing::{Customer, Unprepared};
pub use registry::CONTAINERS_PER_ATTEMPT_MAX;
pub use session::STDIN_WINDOW;
pub use settings::{
    BadVolume, CardsInContainers, ContainerSettings, DEFAULT_NETWORKS, DEFAULT_STAGE, Volume,
    VolumeFile, resolve_volumes,
};
