//! What the server must do in the world after a change is stored. Every effect may be repeated.

use std::sync::Arc;

use capstan_types::{AgentId, AttemptId, NodeName, Timestamp};

use crate::Job;

/// An order to the world.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Tell the node to start the job's current attempt (the script's node is the first share).
    StartAttempt {
        /// Where.
        node: NodeName,
        /// The job as it is now, in state Starting.
        job: Arc<Job>,
    },
    /// Tell the node to stop an attempt.
    StopAttempt {
        /// Where.
        node: NodeName,
        /// Which.
        attempt: AttemptId,
        /// Seconds between SIGTERM and SIGKILL.
        grace_secs: u32,
    },
    /// Tell the node what limits hold for an attempt from now on; those that are `None` stay as they are.
    AdjustAttempt {
        /// Where.
        node: NodeName,
        /// Which.
        attempt: AttemptId,
        /// Seconds from its start.
        walltime_secs: Option<u64>,
        /// CPU seconds.
        cput_secs: Option<u64>,
        /// Bytes on that node.
        memory_bytes: Option<u64>,
    },
    /// The end of an attempt is stored: its agent may forget it.
    ForgetAttempt {
        /// Where.
        node: NodeName,
        /// Which.
        attempt: AttemptId,
    },
    /// Answer an agent's hello: these attempts should run there.
    WelcomeNode {
        /// Where.
        node: NodeName,
        /// The agent that said hello.
        agent: AgentId,
        /// What should run.
        attempts: Vec<AttemptId>,
    },
    /// Tell the node to get the image of a waiting job, on its owner's terms.
    PrepareImage {
        /// Where.
        node: NodeName,
        /// As the job names it.
        image: Box<str>,
        /// The job.
        job: Arc<Job>,
    },
    /// Nobody waits any more for an image that the node was told to get.
    DropImage {
        /// Where.
        node: NodeName,
        /// As the order named it.
        image: Box<str>,
        /// On whose terms.
        uid: u32,
    },
    /// Write a line of the accounting log.
    Account {
        /// When it happened.
        at: Timestamp,
        /// The job as it is now.
        job: Arc<Job>,
        /// Which record.
        record: Account,
    },
}

/// Who had a job deleted. Prints as PBS names a requestor: "user@host".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// "user@host".
    pub by: Box<str>,
    /// `qdel -m`: what the owner is to be told; empty for nothing.
    pub message: Box<str>,
}

impl From<&str> for Deletion {
    /// By "user@host", without a message.
    fn from(by: &str) -> Self {
        let message = Box::default();
        let by = by.into();
        Self { by, message }
    }
}

impl std::fmt::Display for Deletion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.by)
    }
}

/// Kinds of accounting records, by PBS's letters.
#[derive(Clone, Debug, PartialEq)]
pub enum Account {
    /// Q: entered a queue.
    Queued,
    /// S: started.
    Started,
    /// E: ended.
    Ended,
    /// D: deleted by request.
    Deleted(Deletion),
    /// A: aborted by the server.
    Aborted,
    /// R: requeued to run again.
    Rerun,
    /// No record: its files could not be copied to its node, for this reason; its owner is told.
    StageInFailed(Box<str>),
    /// No record: its output or other files could not be copied from its node, as told here; its owner is told.
    NotDelivered(Box<str>),
}
