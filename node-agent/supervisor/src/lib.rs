//! What should run on this node against what does run: attempts and their shims, containers and their door,
//! the link to the server. Names neither NVML nor bollard: those live behind [`ports`].

pub mod attempts;
pub mod containers;
pub mod ports;
