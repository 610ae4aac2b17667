//! What a process is told that is to run a task, or to hold a program that a person runs. Numbers are never reused: the
//! process may be of a newer version than the agent.

use capstan_proto::wire::{SisterHooks, Variable, WindowSize};
use prost::Message;

use crate::attempts::environment::Place;
use crate::attempts::record::Entry;

/// What a process for a task is told.
#[derive(Clone, PartialEq, Message)]
pub(in crate::attempts) struct TaskOrder {
    #[prost(message, required, tag = "1")]
    pub(in crate::attempts) entry: Entry,
    #[prost(uint32, tag = "2")]
    pub(in crate::attempts) node: u32,
    #[prost(uint32, tag = "3")]
    pub(in crate::attempts) vnode: u32,
    #[prost(uint32, tag = "4")]
    pub(in crate::attempts) task: u32,
    #[prost(string, repeated, tag = "5")]
    pub(in crate::attempts) arguments: Vec<String>,
    #[prost(message, repeated, tag = "6")]
    pub(in crate::attempts) environment: Vec<Variable>,
    /// Empty: where the script began.
    #[prost(string, tag = "7")]
    pub(in crate::attempts) folder: String,
    /// In place of a program: the site's scripts for other nodes.
    #[prost(message, optional, tag = "40")]
    pub(in crate::attempts) hooks: Option<SisterHooks>,
    /// Somebody sits at it, or feeds it: it has all variables of the job, and without a command it is a login shell.
    #[prost(message, optional, tag = "60")]
    pub(in crate::attempts) session: Option<SessionTask>,
}

/// What is special about a program that a person runs in a job.
#[derive(Clone, PartialEq, Message)]
pub(in crate::attempts) struct SessionTask {
    /// Its streams are a terminal.
    #[prost(bool, tag = "1")]
    pub(in crate::attempts) has_terminal: bool,
    /// Of which kind.
    #[prost(string, tag = "2")]
    pub(in crate::attempts) term: String,
    /// Of which size; absent without one.
    #[prost(message, optional, tag = "3")]
    pub(in crate::attempts) window: Option<WindowSize>,
    /// The socket at which it is to be had, in a folder that only root can enter.
    #[prost(string, tag = "4")]
    pub(in crate::attempts) door: String,
    /// It goes on for a while when its client is lost.
    #[prost(bool, tag = "5")]
    pub(in crate::attempts) is_kept: bool,
    /// What the engine calls it, in whose container it runs.
    #[prost(string, tag = "6")]
    pub(in crate::attempts) entered: String,
    /// What was read from the engine's connection already.
    #[prost(bytes = "vec", tag = "7")]
    pub(in crate::attempts) first: Vec<u8>,
    /// A task of `pbsdsh`: it finds what such tasks find, reads nothing, and how it ended is kept until that is known.
    #[prost(bool, tag = "8")]
    pub(in crate::attempts) is_task: bool,
}

impl SessionTask {
    /// The name of its socket in the folder.
    pub(in crate::attempts) fn door_name(&self) -> &str {
        let name = self.door.rsplit_once('/');
        name.map_or(&self.door, |(_, name)| name)
    }
}

impl TaskOrder {
    pub(in crate::attempts) fn place(&self) -> Place {
        Place {
            node: self.node,
            vnode: self.vnode,
            task: self.task,
        }
    }
}
