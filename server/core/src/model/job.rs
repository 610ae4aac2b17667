//! A job and its life. [`JobState::on`] is the one function that changes a job's state.

use std::sync::Arc;

use capstan_types::{
    ArrayRequest, AttemptId, Condition, Holds, JobId, JobPart, JoinPath, NodeSpec, Place,
    QueueName, ResourceList, Select, StagedFile, Timestamp, UserName,
};
use serde::{Deserialize, Serialize};

use super::{ArrayState, Forced, Forecast, Measured, NodeShare, Owner, Ties, Tries, Wait};

/// A submitted job. Cheap to clone but for its few own fields: the specification is shared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// What was asked for; changes only by `qalter`.
    pub spec: Arc<JobSpec>,
    /// Where it waits or ran.
    pub queue: QueueName,
    /// `-p`, −1024 to 1023.
    pub priority: i32,
    /// Holds set by people and by the server, without the one that dependencies imply.
    pub holds: Holds,
    /// Conditions not yet met, in the order typed; while there are any, the job has a dependency hold.
    pub waits_for: Vec<(Condition, JobId)>,
    /// What else it waits for of other jobs.
    #[serde(default)]
    pub ties: Ties,
    /// Not before this time (`-a`).
    pub not_before: Option<Timestamp>,
    /// Where it is in its life.
    pub state: JobState,
    /// When it was submitted (`ctime`).
    pub created: Timestamp,
    /// When it entered its queue (`qtime`); its age for ordering.
    pub queued: Timestamp,
    /// When it last became free to run (`etime`).
    pub eligible: Option<Timestamp>,
    /// When anything about it last changed (`mtime`).
    pub changed: Timestamp,
    /// Attempts so far (`start_count`).
    pub run_count: u32,
    /// What the server or an operator has to say about it.
    pub comment: Option<Box<str>>,
    /// For the array as a whole: its members that have no record of their own yet.
    pub array: Option<ArrayState>,
    /// Its place in line (age, id), when `qorder` gave it another's; else its own.
    #[serde(default)]
    pub place: Option<(Timestamp, JobId)>,
    /// When it was last told to stop to make room for another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preempted: Option<Timestamp>,
    /// Until then it goes before all others while it waits: jobs were stopped for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_until: Option<Timestamp>,
    /// What it was told of its start; `None` while it may not start anyway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forecast: Option<Forecast>,
    /// What it waited for before its last start, and how long: each class once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits: Vec<Wait>,
    /// An order to start it that waits for its image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forced: Option<Box<Forced>>,
    /// At an array: those for members without a record, each once, in order; at most [`Forced::MEMBERS_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forced_members: Vec<Forced>,
    /// What was tried in vain.
    #[serde(default, skip_serializing_if = "Tries::is_none")]
    pub tries: Tries,
}

/// What was asked for when the job was submitted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct JobSpec {
    /// `-N`, or the script's base name, or `STDIN`.
    pub name: Box<str>,
    /// Whose it is.
    pub owner: Owner,
    /// Everything of `-l`, with the queue's defaults filled in, as `Resource_List.*` shows it.
    pub resources: ResourceList,
    /// Names of those resources that are the queue's defaults: another queue takes them away again.
    #[serde(default)]
    pub defaulted: Vec<Box<str>>,
    /// The nodes that it needs, made from `nodes=` or `ncpus=`; read by placement.
    pub nodes: Option<NodeSpec>,
    /// `procs=`: so many slots on any nodes, several of them on one node or not; `nodes` is `None` then.
    #[serde(default)]
    pub loose_slots: Option<u32>,
    /// Memory per job in bytes (`mem`), shared evenly over its nodes by placement.
    pub memory_bytes: Option<u64>,
    /// `-r`.
    pub is_rerunnable: bool,
    /// `-o` with the host part split off, absolute; `$PBS_*` not expanded.
    pub stdout_path: Box<str>,
    /// `-e`, likewise.
    pub stderr_path: Box<str>,
    /// `-j`.
    pub join: JoinPath,
    /// `-k`: letters of `o` and `e`.
    pub keep: Box<str>,
    /// `-w`, else the folder of `qsub`: `PBS_O_WORKDIR`.
    pub work_folder: Box<str>,
    /// `-d`: folder to start in; empty for the home folder.
    pub initial_folder: Box<str>,
    /// `-S`; empty for the login shell.
    pub shell: Box<str>,
    /// `umask=`; `None` for 0077.
    pub umask: Option<u32>,
    /// `-F`, one string as typed.
    pub script_arguments: Box<str>,
    /// `-K`, or none for the queue's.
    pub kill_delay_secs: Option<u32>,
    /// `-t`.
    pub array: Option<ArrayRequest>,
    /// The chunks asked for with `select=`; `nodes` is the same in nodes.
    #[serde(default)]
    pub select: Option<Select>,
    /// How chunks are placed (`place=`); `None` for a job without `select=`, each of whose nodes is another one.
    #[serde(default)]
    pub placing: Option<Place>,
    /// The image of its container (`-l image=`), when it says: nodes that hold it are preferred.
    #[serde(default)]
    pub image: Option<Box<str>>,
    /// `-D`: the root folder of its processes; empty for the node's own.
    #[serde(default)]
    pub root_folder: Box<str>,
    /// `-T`: the kind of job, which chooses the site's `prologue.NAME` and `epilogue.NAME`; empty for none.
    #[serde(default)]
    pub job_type: Box<str>,
    /// Files to be copied to the node before it starts.
    #[serde(default)]
    pub stagein: Vec<StagedFile>,
    /// Files to be copied back when it has ended.
    #[serde(default)]
    pub stageout: Vec<StagedFile>,
    /// `qalter -v` has replaced its variables: those that the server adds at submission are gone with the others.
    #[serde(default)]
    pub has_own_variables: bool,
    /// Attributes that are kept and shown but decide nothing (Mail_Points, Account_Name, submit_args …), in order.
    pub shown: Vec<(Box<str>, Box<str>)>,
}

/// Where a job is in its life.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum JobState {
    /// It waits: queued, held or waiting for its time.
    Pending,
    /// An attempt has been ordered; its node has not said yet that it runs.
    Starting(Run),
    /// Its attempt runs.
    Running(Run),
    /// Its attempt has been told to stop.
    Exiting(Run, StopOrder),
    /// It is over; kept for history.
    Ended(Ended),
}

/// One attempt and what it holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The attempt.
    pub attempt: AttemptId,
    /// What it holds, the script's node first.
    pub shares: Arc<[NodeShare]>,
    /// When it was ordered.
    pub placed: Timestamp,
    /// When the script started, by the node's clock, and its session id.
    pub started: Option<(Timestamp, u32)>,
    /// Last known usage.
    pub usage: Usage,
    /// Its processes are stopped (`qsig -s suspend`); what it holds it keeps.
    #[serde(default)]
    pub is_suspended: bool,
    /// Its limits were altered since it was ordered: an agent that connects anew is told them again.
    #[serde(default)]
    pub is_altered: bool,
    /// Once it is over: images that its containers were made of, each with its digest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<Box<str>>,
}

/// Why and how a running job was told to stop; decides what becomes of it when the attempt has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StopOrder {
    /// When.
    pub at: Timestamp,
    /// Seconds between SIGTERM and SIGKILL.
    pub grace_secs: u32,
    /// Back to the queue afterwards instead of ending (requeue); otherwise it was deleted.
    pub requeue: bool,
    /// Who or what ordered it, for comment and accounting: "alice@hn1".
    pub by: Box<str>,
    /// The waiting job for which it makes room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_job: Option<JobId>,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// When (`comp_time`).
    pub at: Timestamp,
    /// PBS exit status; `None` when the job never ran.
    pub exit_status: Option<i32>,
    /// Its last attempt, when there was one; its shares are history and hold nothing.
    pub run: Option<Run>,
    /// Why it ended, in words, when it was not by itself: a limit, memory, a prologue. Empty else.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub cause: Box<str>,
}

/// Resources used, as PBS counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// CPU seconds.
    pub cput_secs: u64,
    /// Peak resident memory, kilobytes.
    pub mem_kb: u64,
    /// Peak virtual memory, kilobytes.
    pub vmem_kb: u64,
    /// Seconds since the start.
    pub walltime_secs: u64,
    /// What its node's samples said; `None` when there was time for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured: Option<Measured>,
}

/// What can happen to a job's state.
#[derive(Clone, Debug, PartialEq)]
pub enum JobEvent {
    /// An attempt was ordered.
    Placed(Run),
    /// Its node says that the script runs: attempt, time, session id.
    Started(AttemptId, Timestamp, u32),
    /// Its processes are stopped, or go on.
    Suspended(AttemptId, bool),
    /// Its limits were altered.
    Altered(AttemptId),
    /// The attempt was told to stop.
    StopOrdered(StopOrder),
    /// Back to the queue: the attempt ended in a way that calls for another.
    Requeued(AttemptId),
    /// It is over.
    Ended(Ended),
}

/// A change of state that must not be. Our own mistake, or a late report of an old attempt.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("a job that is {state} cannot be {event}")]
pub struct IllegalTransition {
    /// The state's name.
    pub state: &'static str,
    /// The event's name.
    pub event: &'static str,
}

impl JobState {
    /// The state after `event`. Reports of any attempt but the current one are refused.
    ///
    /// # Errors
    /// When the event cannot happen in this state.
    pub fn on(self, event: JobEvent) -> Result<Self, IllegalTransition> {
        use JobEvent as E;
        match (self, event) {
            (Self::Pending, E::Placed(run)) => Ok(Self::Starting(run)),
            (Self::Starting(run) | Self::Running(run), E::Started(attempt, at, session))
                if run.attempt == attempt =>
            {
                let started = Some((at, session));
                Ok(Self::Running(Run { started, ..run }))
            }
            (Self::Exiting(run, order), E::Started(attempt, at, session))
                if run.attempt == attempt =>
            {
                let started = Some((at, session));
                Ok(Self::Exiting(Run { started, ..run }, order))
            }
            (Self::Running(run), E::Suspended(attempt, is_suspended)) if run.attempt == attempt => {
                Ok(Self::Running(Run {
                    is_suspended,
                    ..run
                }))
            }
            (Self::Starting(run), E::Altered(attempt)) if run.attempt == attempt => {
                let is_altered = true;
                Ok(Self::Starting(Run { is_altered, ..run }))
            }
            (Self::Running(run), E::Altered(attempt)) if run.attempt == attempt => {
                let is_altered = true;
                Ok(Self::Running(Run { is_altered, ..run }))
            }
            (Self::Starting(run) | Self::Running(run), E::StopOrdered(order)) => {
                Ok(Self::Exiting(run, order))
            }
            // A second order may shorten the grace or turn a requeue into a deletion, never the other way.
            (Self::Exiting(run, old), E::StopOrdered(new)) => {
                let requeue = old.requeue && new.requeue;
                Ok(Self::Exiting(run, StopOrder { requeue, ..new }))
            }
            (
                Self::Starting(run) | Self::Running(run) | Self::Exiting(run, _),
                E::Requeued(attempt),
            ) if run.attempt == attempt => Ok(Self::Pending),
            (Self::Pending, E::Ended(ended)) if ended.run.is_none() => Ok(Self::Ended(ended)),
            (Self::Starting(run) | Self::Running(run) | Self::Exiting(run, _), E::Ended(ended))
                if ended
                    .run
                    .as_ref()
                    .is_some_and(|last| last.attempt == run.attempt) =>
            {
                Ok(Self::Ended(ended))
            }
            (state, event) => Err(IllegalTransition {
                state: state.name(),
                event: event.name(),
            }),
        }
    }

    /// The attempt that holds resources now.
    #[must_use]
    pub fn run(&self) -> Option<&Run> {
        match self {
            Self::Starting(run) | Self::Running(run) | Self::Exiting(run, _) => Some(run),
            Self::Pending | Self::Ended(_) => None,
        }
    }

    /// For messages: "pending", "running" …
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Starting(_) => "starting",
            Self::Running(_) => "running",
            Self::Exiting(..) => "exiting",
            Self::Ended(_) => "ended",
        }
    }
}

impl JobEvent {
    const fn name(&self) -> &'static str {
        match self {
            Self::Placed(_) => "placed",
            Self::Started(..) => "started",
            Self::Suspended(..) => "suspended or resumed",
            Self::Altered(_) => "altered while it runs",
            Self::StopOrdered(_) => "told to stop",
            Self::Requeued(_) => "requeued",
            Self::Ended(_) => "ended",
        }
    }
}

impl JobSpec {
    /// Whether nobody else may be on its nodes: `place=excl`, `qsub -n`.
    #[must_use]
    pub fn is_exclusive(&self) -> bool {
        let mut shown = self.shown.iter();
        self.placing.as_ref().is_some_and(Place::is_exclusive)
            || shown.any(|(name, value)| &**name == "node_exclusive" && &**value == "True")
    }
}

impl Job {
    /// The letter that PBS shows: T Q H W R S E C.
    #[must_use]
    pub fn letter(&self, now: Timestamp) -> char {
        match &self.state {
            // An array runs while a member does, and is queued else, held or not: its members show their holds.
            JobState::Pending if self.array.as_ref().is_some_and(|array| array.running > 0) => 'R',
            JobState::Pending if self.is_array() => 'Q',
            JobState::Pending if !self.effective_holds().is_empty() => 'H',
            JobState::Pending if self.not_before.is_some_and(|time| time > now) => 'W',
            JobState::Pending => 'Q',
            JobState::Running(run) if run.is_suspended => 'S',
            JobState::Starting(_) | JobState::Running(_) => 'R',
            JobState::Exiting(..) => 'E',
            JobState::Ended(_) => 'C',
        }
    }

    /// Its holds, with the system hold that unmet dependencies imply.
    #[must_use]
    pub fn effective_holds(&self) -> Holds {
        match self.waits_for.is_empty() && !self.ties.hold() {
            true => self.holds,
            false => self.holds.with(Holds::SYSTEM),
        }
    }

    /// All jobs that it waits for, some perhaps twice.
    pub fn awaited(&self) -> impl Iterator<Item = JobId> {
        let jobs = self.waits_for.iter().map(|(_, on)| *on);
        jobs.chain(self.ties.awaited())
    }

    /// Whether placement may consider it now (its queue permitting).
    #[must_use]
    pub fn is_eligible(&self, now: Timestamp) -> bool {
        matches!(self.state, JobState::Pending)
            && self.effective_holds().is_empty()
            && self.not_before.is_none_or(|time| time <= now)
    }

    /// The member `index` of this array as it is before it has a record of its own: as the array is, and held as well
    /// when it is beyond the limits of the array.
    #[must_use]
    pub fn as_member(&self, index: u32) -> Self {
        let holds = match self.is_beyond_limits(index) {
            true => self.holds.with(Holds::SLOT),
            false => self.holds,
        };
        Self {
            id: JobId::member(self.id.seq, index),
            holds,
            run_count: 0,
            tries: Tries::default(),
            array: None,
            preempted: None,
            first_until: None,
            forced: None,
            forced_members: Vec::new(),
            forecast: self.forecast.map(|told| Forecast {
                is_of_array: true,
                ..told
            }),
            ..self.clone()
        }
    }

    /// Whether member `index`, which has no record yet, is beyond the array's slot limit or idle limit.
    fn is_beyond_limits(&self, index: u32) -> bool {
        let array = self.array.as_ref();
        array.is_some_and(|array| array.waiting.below(index) >= self.members_free())
    }

    /// How many of the array's members without a record of their own are not held by its limits: the first ones.
    #[must_use]
    pub fn members_free(&self) -> u64 {
        let (slots, idle) = self.members_room();
        slots.min(idle)
    }

    /// How many of the array's members without a record of their own could start at once: as one starts, the next one
    /// is idle in its stead.
    #[must_use]
    pub fn members_startable(&self) -> usize {
        let (slots, idle) = self.members_room();
        match idle {
            0 => 0,
            _ => usize::try_from(slots).unwrap_or(usize::MAX),
        }
    }

    /// How many more members the slot limit and the idle limit let go, each at most as many as wait.
    fn members_room(&self) -> (u64, u64) {
        let (Some(array), Some(request)) = (&self.array, &self.spec.array) else {
            return (0, 0);
        };
        let waiting = array.waiting.len();
        let left = |limit: Option<u32>, taken: u32| {
            let left = limit.map(|limit| u64::from(limit.saturating_sub(taken)));
            left.map_or(waiting, |left| left.min(waiting))
        };
        let idle = array.live.saturating_sub(array.running);
        (
            left(request.slot_limit, array.live),
            left(request.idle_limit, idle),
        )
    }

    /// Whether it is the array as a whole, which never runs itself.
    #[must_use]
    pub const fn is_array(&self) -> bool {
        matches!(self.id.part, JobPart::Array)
    }

    /// Its place in line among jobs of equal priority: first come, first served, unless `qorder` said otherwise.
    #[must_use]
    pub fn place(&self) -> (Timestamp, JobId) {
        self.place.unwrap_or((self.queued, self.id))
    }

    /// Whether it is over.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        matches!(self.state, JobState::Ended(_))
    }

    /// Whether `user` owns it.
    #[must_use]
    pub fn is_owned_by(&self, user: &UserName) -> bool {
        *self.spec.owner.user == *user.as_str()
    }
}
