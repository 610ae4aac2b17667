//! What can happen to the scheduler. Events are stored with their times beside the changes they made.

use std::sync::Arc;

use capstan_types::{AgentId, AttemptId, CardId, Condition, JobId, NodeName, QueueName, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{Holds, Inventory, JobSpec, Payload, Placement, Settings, Tie, Usage};

/// Something that happened or is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// The server has started: these settings hold from now on, no agent is connected.
    ServerStarted(Arc<Settings>),
    /// `qsub`.
    Submit(Box<Submission>),
    /// `qdel`.
    Delete(DeleteOrder),
    /// `qhold`.
    Hold(HoldOrder),
    /// `qrls`.
    Release(HoldOrder),
    /// `pbsnodes -o -c -N`.
    AlterNode(NodeOrder),
    /// An agent connected and said what it has and runs.
    NodeAttached(Box<Hello>),
    /// An agent's connection is gone.
    NodeDetached {
        /// The node.
        node: NodeName,
        /// The agent whose connection it was.
        agent: AgentId,
    },
    /// A connected agent found other hardware.
    NodeChanged {
        /// The node.
        node: NodeName,
        /// What it has now.
        inventory: Box<Inventory>,
    },
    /// Cards of a node that may not be lent now (all of them; an empty list clears). To be sent whenever the agent's
    /// list differs from [`crate::Node::unclean`], not only when it differs from the agent's last: ends of attempts
    /// add to that list, and it outlives connections.
    CardsUnclean {
        /// The node.
        node: NodeName,
        /// The cards.
        cards: Vec<CardId>,
    },
    /// An agent reports of an attempt.
    Reported {
        /// The node it runs on.
        node: NodeName,
        /// What is reported.
        report: AttemptReport,
    },
    /// The plan's placements, from [`crate::plan()`].
    Placed(Vec<Placement>),
    /// Time has passed: completed jobs age out, waiting ones reach their time, lost nodes are judged.
    Tick,
}

/// Who asks, by the kernel's word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// Login name.
    pub user: Box<str>,
    /// uid; 0 may do anything.
    pub uid: u32,
    /// The host of the call.
    pub host: Box<str>,
}

/// A job to be queued. Grammar and types are checked; limits are the core's to check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Submission {
    /// What is asked for, without queue defaults.
    pub spec: JobSpec,
    /// Script and variables; stored by its own change, so left out of the stored event.
    #[serde(skip)]
    pub payload: Arc<Payload>,
    /// The queue asked for; `None` for the default.
    pub queue: Option<QueueName>,
    /// `-p`.
    pub priority: i32,
    /// `-h`.
    pub holds: Holds,
    /// `-a`.
    pub not_before: Option<Timestamp>,
    /// `-W depend`: jobs to wait for, in the order typed.
    pub depends: Vec<(Condition, JobId)>,
    /// `-W depend`: all else in it, in the order typed.
    #[serde(default)]
    pub ties: Vec<Tie>,
}

/// A job to be deleted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeleteOrder {
    /// The job, the array, or a member.
    pub job: JobId,
    /// Who asks.
    pub by: Caller,
    /// Seconds between SIGTERM and SIGKILL, when given.
    pub grace_secs: Option<u32>,
    /// Do not wait for the node (managers).
    pub purge: bool,
}

/// Holds to be set or released.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HoldOrder {
    /// The job, the array, or a member.
    pub job: JobId,
    /// Which.
    pub holds: Holds,
    /// Who asks.
    pub by: Caller,
}

/// What an administrator says of a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeOrder {
    /// The node.
    pub node: NodeName,
    /// New offline mark, when it changes.
    pub offline: Option<bool>,
    /// New note, when it changes.
    pub note: Option<Box<str>>,
    /// Who asks.
    pub by: Caller,
}

/// An agent's first words on a connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// Its node.
    pub node: NodeName,
    /// The agent.
    pub agent: AgentId,
    /// What it has.
    pub inventory: Inventory,
    /// Every attempt it knows, with the last word on each.
    pub attempts: Vec<AttemptReport>,
}

/// What an agent says of one attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttemptReport {
    /// The attempt.
    pub attempt: AttemptId,
    /// Where it is.
    pub phase: ReportedPhase,
}

/// Where an attempt is, by its agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ReportedPhase {
    /// In the agent's ledger, not yet running.
    Starting,
    /// Running.
    Running {
        /// Since when.
        at: Timestamp,
        /// Session id.
        session: u32,
    },
    /// Usage so far.
    Using(Usage),
    /// The script ran to its end or was stopped.
    Exited {
        /// When.
        at: Timestamp,
        /// PBS exit status.
        exit_status: i32,
        /// What it used.
        usage: Usage,
        /// Cards of it that are not clean yet.
        unclean: Vec<CardId>,
    },
    /// It never ran and would not on a second try: the job is to be held with this reason.
    Unstartable {
        /// When.
        at: Timestamp,
        /// Why, for the user.
        reason: Box<str>,
    },
    /// Nobody knows what became of it.
    Lost {
        /// When it was noticed.
        at: Timestamp,
        /// How.
        reason: Box<str>,
    },
}
