//! The harness of the end-to-end tests: a whole cluster in a temporary folder, ordinary users, waiting on states.

pub mod cluster;
pub mod engine;
pub mod images;
pub mod networks;
mod own_engine;
pub mod registry;
pub mod terminal;
pub mod users;
pub mod wait;

pub use cluster::{Cluster, Ran};
pub use networks::Networks;
pub use own_engine::OwnEngine;
pub use terminal::Terminal;
pub use users::User;
pub use wait::wait_until;
