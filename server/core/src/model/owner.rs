//! Whose a job is.

use serde::{Deserialize, Serialize};

/// Whose job it is, by the kernel's word at submission.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Login name.
    pub user: Box<str>,
    /// Its uid on the server host.
    pub uid: u32,
    /// Its login group's name (`egroup`).
    pub group: Box<str>,
    /// The host it was submitted on.
    pub host: Box<str>,
    /// Its other groups, where a queue's access list asks for them (`acl_group_sloppy`).
    #[serde(default)]
    pub groups: Vec<Box<str>>,
}
