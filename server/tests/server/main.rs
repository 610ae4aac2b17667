//! The whole server in one process, on a store in memory or on disk, with clients on its Unix socket and scripted
//! agents on its TCP socket.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod agent;
mod asking;
mod cluster;
mod examining;
mod faults;
mod life;
mod managing;
mod orders;
