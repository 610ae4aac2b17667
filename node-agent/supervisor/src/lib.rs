//! What should run on this node against what does run: attempts and their shims, containers and their door. Names
//! neither NVML nor bollard, which live behind [`ports`], nor the link to the server, which the daemon brings.

pub mod attempts;
pub mod cards;
pub mod containers;
pub mod images;
pub mod kernel_file;
pub mod ports;
