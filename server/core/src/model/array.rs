//! What an array as a whole knows of its members.

use capstan_types::IndexSet;
use serde::{Deserialize, Serialize};

/// Members of an array that have no record of their own yet: they are as the array is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ArrayState {
    /// Members not yet placed or touched one by one.
    pub waiting: IndexSet,
    /// Members with a record that is not ended.
    pub live: u32,
    /// Those of them that have an attempt now: what a slot limit (`-t 0-9%3`) counts.
    #[serde(default)]
    pub running: u32,
    /// Exit status of the first member that failed.
    pub worst_exit: Option<i32>,
    /// What has become of members so far, for those that wait for some of them.
    #[serde(default)]
    pub fates: MemberFates,
}

/// How many members of an array have come how far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberFates {
    /// Have started at least once.
    pub started: u32,
    /// Ended with exit status 0.
    pub ok: u32,
    /// Ended with another.
    pub failed: u32,
    /// Were deleted before they ever ran.
    pub never_ran: u32,
}
