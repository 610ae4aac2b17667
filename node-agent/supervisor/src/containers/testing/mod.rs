//! For tests of this crate and of the adapters: an engine in memory, and the suite of rules that it and every real
//! engine must keep.

mod contract;
mod fake;
mod input;
mod program;
mod site;

pub use contract::{IMAGE, check_engine, spec};
pub use fake::FakeEngine;
pub use site::{Call, GROUP, Heard, TestSite, UID, USER, connect_as, request};
