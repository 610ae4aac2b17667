//! Why an event is refused. Values, not sentences: the edge chooses PBS's words.

use capstan_types::{AttemptId, Condition, JobId, NodeName, QueueName, ReservationId, Timestamp};

use crate::{IllegalTransition, ManageProblem, QueueRefusal};

/// A refusal. Nothing has changed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Rejection {
    /// No such job, or it has aged out.
    #[error("unknown job {0}")]
    UnknownJob(JobId),
    /// No such queue.
    #[error("unknown queue {0}")]
    UnknownQueue(QueueName),
    /// The job names no queue, and there is no default.
    #[error("there is no default queue")]
    NoDefaultQueue,
    /// The queue does not take this job.
    #[error("queue {queue} does not take a job of {owner}: {why}")]
    QueueRefuses {
        /// The queue.
        queue: QueueName,
        /// Whose job it is: `user@host`.
        owner: Box<str>,
        /// Why not.
        why: QueueRefusal,
    },
    /// None of the destinations of a routing queue takes this job.
    #[error("no destination of queue {0} takes the job")]
    NoDestination(QueueName),
    /// What a manager ordered cannot be.
    #[error(transparent)]
    Manage(#[from] ManageProblem),
    /// No set of nodes could ever run it, however idle: why.
    #[error("the cluster can never run this: {0}")]
    NeverFits(Box<str>),
    /// The script is larger than the setting allows.
    #[error("the script has {bytes} bytes, at most {max} are allowed")]
    ScriptTooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// The array has more members than the setting allows.
    #[error("the array has {members} members, at most {max} are allowed")]
    ArrayTooLarge {
        /// Its size.
        members: u64,
        /// The limit.
        max: u64,
    },
    /// The array asks for more members at once than the setting allows.
    #[error("at most {max} members of an array may run at once, not {limit}")]
    SlotLimitTooHigh {
        /// Asked for.
        limit: u32,
        /// The limit.
        max: u32,
    },
    /// The bound on live jobs is reached.
    #[error("there are {0} live jobs already, which is the limit")]
    TooManyJobs(u64),
    /// A dependency names a job that does not exist, or one of whom it can never be.
    #[error("{} on job {} cannot be: there is no such job, or it is no longer waiting", .0.name(), .1)]
    BadDependency(Condition, JobId),
    /// A condition can never be met: what it waits for has ended otherwise.
    #[error("{} on job {on} can never be met: {}", .condition.name(), how_it_ended(.exit_status))]
    DeadDependency {
        /// The condition.
        condition: Condition,
        /// The job that has ended, or the array of which too much has.
        on: JobId,
        /// Its exit status; `None` when it never ran.
        exit_status: Option<i32>,
    },
    /// Jobs would wait for each other: each for the next one, the last for the first. A job that is not there yet has the
    /// id that it would get.
    #[error("the jobs would wait for each other for ever: {}", circle(.0))]
    DependencyLoop(Vec<JobId>),
    /// The caller may not do that to this job.
    #[error("job {0} belongs to somebody else")]
    NotOwner(JobId),
    /// Only operators and managers may.
    #[error("only operators and managers may do this")]
    NotOperator,
    /// Only managers may.
    #[error("only managers may do this")]
    NotManager,
    /// The job is over.
    #[error("job {0} has ended")]
    AlreadyEnded(JobId),
    /// No such node.
    #[error("unknown node {0}")]
    UnknownNode(NodeName),
    /// Another agent has this node name and is connected.
    #[error("node name {0} belongs to another agent that is connected")]
    NodeNameTaken(NodeName),
    /// A report of an attempt that is not the job's current one.
    #[error("attempt {0} is not current")]
    StaleAttempt(AttemptId),
    /// Nothing to do: the job has none of the holds to release.
    #[error("job {0} has no such hold")]
    NotHeld(JobId),
    /// What a person ordered for a job cannot be.
    #[error(transparent)]
    Order(#[from] OrderProblem),
    /// A reservation cannot be made or taken back.
    #[error(transparent)]
    Reserve(#[from] ReserveProblem),
    /// Our own mistake.
    #[error(transparent)]
    Illegal(#[from] IllegalTransition),
}

fn how_it_ended(exit_status: &Option<i32>) -> String {
    match exit_status {
        Some(status) => format!("it has ended with status {status}"),
        None => "it was deleted, or too much of it has ended otherwise".to_owned(),
    }
}

/// `5 -> 7 -> 5`.
fn circle(jobs: &[JobId]) -> String {
    let names: Vec<String> = jobs.iter().map(ToString::to_string).collect();
    names.join(" -> ")
}

/// Why a reservation is not made or taken back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReserveProblem {
    /// Operators and managers make reservations, and users those for jobs where the site lets them.
    #[error(
        "only operators and managers may reserve; users may where the server has reservations_by_users = True, \
         without maintenance, dedicated time and force"
    )]
    NotAllowed,
    /// So many there may be.
    #[error("there are {max} reservations already, which is the limit")]
    TooMany {
        /// The limit.
        max: usize,
    },
    /// The end is not behind the beginning.
    #[error("a reservation ends after it begins")]
    NoTime,
    /// It is over before it is made.
    #[error("all of its time is in the past")]
    Past,
    /// One of its times begins before the one before it ends.
    #[error("it comes again before it is over: make it shorter, or let it come less often")]
    OverlapsItself,
    /// It comes too often.
    #[error("it comes more than {max} times: let it end sooner")]
    TooOften {
        /// The limit.
        max: usize,
    },
    /// No node has this name or property.
    #[error("there is no node {0}")]
    UnknownHost(Box<str>),
    /// No such queue.
    #[error("there is no queue {0}")]
    UnknownQueue(QueueName),
    /// Its nodes are not free in all of its time.
    #[error(
        "it wants {wanted} nodes or chunks, and {free} have enough free in all of its time{}",
        nearest(.fits_at)
    )]
    NotFree {
        /// Nodes wanted.
        wanted: u32,
        /// Nodes that could give a share.
        free: u32,
        /// The nearest later beginning with which it would fit.
        fits_at: Option<Timestamp>,
    },
    /// Jobs run into its time.
    #[error(
        "{jobs} running jobs may not be over when it begins; the last is job {job} on {node}, until {until}: \
         begin later, or force it, and it begins on each node when its jobs end"
    )]
    JobsRun {
        /// How many.
        jobs: u32,
        /// The one that ends last.
        job: JobId,
        /// One of its nodes.
        node: NodeName,
        /// When it is over by its walltime.
        until: Timestamp,
    },
    /// Another reservation has one of the nodes in that time.
    #[error("{other} has {node} in that time: take it back, or force this one")]
    Overlaps {
        /// The other.
        other: ReservationId,
        /// The node.
        node: NodeName,
    },
    /// No such reservation.
    #[error("unknown reservation {0}")]
    Unknown(ReservationId),
    /// The caller may not do that to this reservation.
    #[error("reservation {0} belongs to somebody else")]
    NotOwner(ReservationId),
}

fn nearest(fits_at: &Option<Timestamp>) -> String {
    match fits_at {
        Some(at) => format!("; it would fit from {at} on"),
        None => String::new(),
    }
}

/// Why a job is not altered, moved, started, stopped or put elsewhere in line.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum OrderProblem {
    /// The job has been told to stop.
    #[error("job {0} is exiting")]
    Exiting(JobId),
    /// The job has an attempt already.
    #[error("job {0} has an attempt already")]
    AlreadyRunning(JobId),
    /// The job has an attempt, and this is for waiting jobs only; or has none, and this is for running ones.
    #[error("job {0} is not in the state for this")]
    WrongState(JobId),
    /// This cannot be altered while a job runs: the attribute.
    #[error("{0} cannot be altered while the job runs")]
    FixedWhileRunning(Box<str>),
    /// Only operators may let a running job have more of this resource.
    #[error("only operators may raise {0} of a running job")]
    MayNotRaise(Box<str>),
    /// The job is there already.
    #[error("job {0} is in queue {1} already")]
    AlreadyInQueue(JobId, QueueName),
    /// Only operators may have jobs run again.
    #[error("only operators may rerun jobs")]
    MayNotRerun,
    /// Its owner said that it must not run twice.
    #[error("job {0} may not be rerun")]
    NotRerunnable(JobId),
    /// There is no attempt to be stopped.
    #[error("job {0} does not run")]
    NotRunning(JobId),
    /// Its queue starts no jobs.
    #[error("queue {0} is not started")]
    QueueStopped(QueueName),
    /// As many members of the array run as its slot limit allows.
    #[error("the array runs {running} members of {limit} at once already")]
    SlotLimit {
        /// The limit.
        limit: u32,
        /// How many run.
        running: u32,
    },
    /// The image is called by a short name of a site that no node has.
    #[error("no node knows what image {0} stands for: qimages lists the names that there are")]
    UnknownImage(Box<str>),
    /// Nodes are free, and none of them has a container engine that answers.
    #[error("the container engine of {on} does not answer: {problem}")]
    EngineAway {
        /// One of them.
        on: NodeName,
        /// Why.
        problem: Box<str>,
    },
    /// So many orders for single members an array keeps.
    #[error(
        "{max} members of array {array} wait for their image to be started by qrun already: qrun the array, or wait"
    )]
    TooManyForced {
        /// The array.
        array: JobId,
        /// The limit.
        max: usize,
    },
    /// No node is called so, nor has this as a property.
    #[error("no node is called {0}")]
    NoSuchHost(Box<str>),
    /// Too little is free now.
    #[error("{wanted} nodes are wanted and {free} could take a share now")]
    NothingFree {
        /// Nodes wanted.
        wanted: u32,
        /// Nodes that could take a share of it now.
        free: u32,
    },
    /// Variables belong to an array as a whole.
    #[error("the variables of member {0} cannot be altered without those of its array")]
    SharedVariables(JobId),
    /// No member of the array could be altered.
    #[error("no member of array {0} could be altered")]
    MembersUnchanged(JobId),
}
