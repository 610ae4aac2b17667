//! What can happen to the scheduler. Events are stored with their times beside the changes they made.

use std::sync::Arc;

use capstan_types::{
    AgentId, AttemptId, AttributeObject, CardId, Condition, IndexSet, JobId, NodeName, NodeSpec,
    QueueName, ReservationId, SetOperator, Span, Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::{
    Holds, ImageReport, Inventory, JobSpec, Payload, Placement, Preemption, PrepareOrder, Settings,
    Tie, Usage, Wait,
};

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
    /// `qalter`.
    Alter(Box<AlterOrder>),
    /// `qmove`.
    Move(MoveOrder),
    /// `qrerun`.
    Rerun(RerunOrder),
    /// `qrun`.
    Run(RunOrder),
    /// `qorder`.
    Swap(SwapOrder),
    /// `qsig -s suspend` and `resume`, once the agent has done it.
    Suspend(SuspendOrder),
    /// `pbsnodes -o -c -N`.
    AlterNode(NodeOrder),
    /// `qmgr` create, delete, set and unset.
    Manage(Box<ManageOrder>),
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
    /// The plan's placements, as they were stored before [`Event::Planned`] told of the plan's time as well.
    Placed(Vec<Placement>),
    /// Time has passed: completed jobs age out, waiting ones reach their time, lost nodes are judged.
    Tick,
    /// What [`crate::plan()`] decided at its time.
    Planned(PlanOrder),
    /// `pbs_rsub`.
    Reserve(Box<ReserveOrder>),
    /// `pbs_rdel`.
    CancelReservation(CancelOrder),
    /// Cards of a node have failed under whoever works on them. That they are not lent again is told by
    /// [`Event::CardsUnclean`].
    CardsFailed {
        /// The node.
        node: NodeName,
        /// Each with what happened to it, one line.
        cards: Vec<(CardId, Box<str>)>,
    },
    /// A node has, or could not get, an image that it was told to get for waiting jobs.
    ImagePrepared {
        /// The node.
        node: NodeName,
        /// What came of it.
        report: ImageReport,
    },
}

/// A plan that is to be carried out. It is made of the state before this event, so that with its time it can be made
/// again from the journal and compared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanOrder {
    /// The time for which it was made; the event itself is a little later.
    pub at: Timestamp,
    /// Jobs to start, in the order decided.
    pub placements: Vec<Placement>,
    /// Jobs to stop, those that are stopped for one job behind one another.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub preemptions: Vec<Preemption>,
    /// What those have waited for that waited, in the same order: it cannot be made again from the journal alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits: Vec<(JobId, Vec<Wait>)>,
    /// Images to be fetched for jobs that go on waiting.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub preparations: Vec<PrepareOrder>,
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
    /// Forget the job at once, whatever its node says (managers, and owners where `owner_purge` lets them).
    pub purge: bool,
    /// `-m`: for the mail to the owner; empty for none.
    #[serde(default)]
    pub message: Box<str>,
}

/// A job to be altered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlterOrder {
    /// The job, the array, or a member.
    pub job: JobId,
    /// Of an array only these members.
    pub members: Option<IndexSet>,
    /// Who asks.
    pub by: Caller,
    /// What is altered, in the order given.
    pub altered: Vec<Altered>,
    /// The new values, as if a job were submitted with nothing but them.
    pub wish: Box<Submission>,
    /// The new slot limit of an array, for [`Altered::SlotLimit`]; `None` lifts it.
    pub slot_limit: Option<u32>,
    /// The new comment, for [`Altered::Comment`].
    pub comment: Box<str>,
}

/// What of a job can be altered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Altered {
    /// `Job_Name`.
    Name,
    /// `Priority`.
    Priority,
    /// `Hold_Types`: exactly these from now on.
    Holds,
    /// `Execution_Time`.
    NotBefore,
    /// `depend`: exactly these from now on.
    Depends,
    /// `Resource_List.` with this behind it.
    Resource(Box<str>),
    /// `Output_Path`.
    Stdout,
    /// `Error_Path`.
    Stderr,
    /// `Join_Path`.
    Join,
    /// `Keep_Files`.
    Keep,
    /// `Rerunable`.
    Rerunnable,
    /// `Shell_Path_List`.
    Shell,
    /// `umask`.
    Umask,
    /// `job_arguments`.
    Arguments,
    /// `user_kill_delay`.
    KillDelay,
    /// `group_list`: shown, and the group it runs with.
    Group,
    /// `Variable_List`: the payload of the wish replaces the job's.
    Variables,
    /// `comment` (operators).
    Comment,
    /// How many members of the array may run at once.
    SlotLimit,
    /// Any other by its name, kept for show; without a value in the wish it is taken away.
    Shown(Box<str>),
}

/// A job to be moved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MoveOrder {
    /// The job or the array.
    pub job: JobId,
    /// Where to; `None` for the default queue.
    pub queue: Option<QueueName>,
    /// Who asks.
    pub by: Caller,
}

/// A running job to be stopped and put back in its queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RerunOrder {
    /// The job, the array, or a member.
    pub job: JobId,
    /// Also when its node does not answer: the attempt is then given up.
    pub force: bool,
    /// Who asks.
    pub by: Caller,
}

/// A waiting job to be started now, whatever is in line before it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunOrder {
    /// The job, the array, or a member.
    pub job: JobId,
    /// `-H`: asked for instead of what the job asks for.
    pub hosts: Option<NodeSpec>,
    /// Who asks.
    pub by: Caller,
}

/// Two waiting jobs that change places.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SwapOrder {
    /// One.
    pub first: JobId,
    /// The other.
    pub second: JobId,
    /// Who asks.
    pub by: Caller,
}

/// A running job whose processes were stopped, or go on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SuspendOrder {
    /// The job or the member.
    pub job: JobId,
    /// Stopped, or going on.
    pub is_suspended: bool,
    /// Who asks.
    pub by: Caller,
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

/// A reservation to be made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReserveOrder {
    /// Who asks.
    pub by: Caller,
    /// `-N`; may be empty.
    pub name: Box<str>,
    /// What is to be set aside.
    pub wish: ReserveWish,
    /// Who else may use it, as `user@host` patterns.
    pub users: Vec<Box<str>>,
    /// Groups that may use it.
    pub groups: Vec<Box<str>>,
    /// When, each time once: the edge has expanded what comes again.
    pub spans: Vec<Span>,
    /// The rule by which it comes again, for show; empty for none.
    pub rule: Box<str>,
    /// Also when jobs run on the nodes then, or other reservations have them: it begins on each node when they end.
    pub is_forced: bool,
}

/// What is to be set aside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ReserveWish {
    /// What this would get as a job, for the jobs of a queue of its own.
    Jobs(Box<JobSpec>),
    /// Whole nodes, for nobody.
    Maintenance {
        /// Nodes or `:PROPERTY`; empty for all.
        hosts: Vec<Box<str>>,
    },
    /// Whole nodes, for the jobs of these queues.
    Dedicated {
        /// The queues.
        queues: Vec<QueueName>,
        /// Nodes or `:PROPERTY`; empty for all.
        hosts: Vec<Box<str>>,
    },
}

/// A reservation to be taken back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CancelOrder {
    /// Which.
    pub reservation: ReservationId,
    /// Who asks.
    pub by: Caller,
}

/// What a manager or an operator says of the server, of queues or of nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ManageOrder {
    /// Who asks.
    pub by: Caller,
    /// What is to be done.
    pub command: ManageCommand,
    /// To what kind of thing.
    pub object: AttributeObject,
    /// To which: a queue or a node; empty or `@` for all queues or nodes, `:property` for all nodes that have it.
    pub name: Box<str>,
    /// What is set or unset, in the order given. All of it happens or nothing.
    pub directives: Vec<Directive>,
}

/// What `qmgr` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ManageCommand {
    /// Makes a queue or a node.
    Create,
    /// Removes a queue or a node.
    Delete,
    /// Sets attributes.
    Set,
    /// Unsets attributes.
    Unset,
}

/// One attribute to be set or unset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directive {
    /// The attribute.
    pub name: Box<str>,
    /// The resource; empty for none, or for all when unsetting.
    pub resource: Box<str>,
    /// How.
    pub operator: SetOperator,
    /// To what, or by what.
    pub value: Box<str>,
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
    /// Cards that it has not seen clean: none is lent before.
    #[serde(default)]
    pub unclean: Vec<CardId>,
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
        /// Why it ended, when it was not by itself; for the user, one line.
        #[serde(default)]
        cause: Box<str>,
        /// Images that its containers were made of, each with its digest.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        images: Vec<Box<str>>,
        /// Files that could not be copied to where they belong, in the words of Torque's mail; empty for none.
        #[serde(default, skip_serializing_if = "str::is_empty")]
        undelivered: Box<str>,
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
    /// The script never ran because a file could not be copied to the node.
    StageInFailed {
        /// When.
        at: Timestamp,
        /// Why, for the user.
        reason: Box<str>,
    },
    /// The script never ran because its node failed: a prologue did, or its disk is full. Another try may do.
    PrologueFailed {
        /// When.
        at: Timestamp,
        /// Which and how, for the user.
        reason: Box<str>,
    },
}
