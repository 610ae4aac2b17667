//! The whole answer to why one job waits, made when somebody asks, of a state and the plan that was made of it: what
//! blocks the job, who holds what it lacks, when it will start, and what to change so that it starts sooner. It costs a
//! small part of a plan: of the line only those before the job are served again for whom nodes are reserved.

mod blockers;
mod changes;
mod outlook;
mod sooner;
mod standing;

use std::sync::Arc;

use capstan_types::{Condition, JobId, JobPart, NodeName, QueueName, Reason, Timestamp};
use serde::{Deserialize, Serialize};

use super::Plan;
use crate::model::Pending;
use crate::{Job, JobState, State, Wait};

/// Why a job waits, for how long, and what would help.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// Why it does not start now: as the plan said. `None` when it is not known yet, or does not wait.
    pub reason: Option<Reason>,
    /// All that keeps it from starting, what nobody has to wait for first.
    pub blockers: Vec<Blocker>,
    /// What it lacks, and where; `None` when nodes would be free.
    pub lack: Option<Lack>,
    /// Where it stands.
    pub place: Option<LinePlace>,
    /// When it starts; `None` while that is not for the scheduler to say.
    pub start: Option<ExpectedStart>,
    /// Changes with which it would start now, least first.
    pub suggestions: Vec<Suggestion>,
    /// Milder ones with which it would start later than now and sooner than it will.
    pub sooner: Vec<Sooner>,
}

/// One thing that keeps a job from starting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Blocker {
    /// A reason of the plan, or what would be one if the others were gone.
    Reason(Reason),
    /// Another job.
    Awaited {
        /// What must become of it.
        condition: Condition,
        /// Which.
        job: JobId,
        /// What has.
        is: Awaited,
    },
}

/// What has become of a job that is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Awaited {
    /// It waits.
    Waiting,
    /// It runs, by its walltime until then.
    Running(Timestamp),
    /// It has ended, or is gone, in a way that is not the one waited for.
    Never,
}

/// What a job lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lack {
    /// What it wants of each node.
    pub wanted: Amount,
    /// Of so many nodes.
    pub nodes: u32,
    /// So many could give it now.
    pub ready: u32,
    /// Nodes that are nearest to giving it, nearest first.
    pub nearest: Vec<NearNode>,
    /// Jobs that hold something of these nodes; who ends first comes first.
    pub holders: Vec<Holder>,
}

/// So much of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// Cards.
    pub cards: u32,
    /// Slots.
    pub slots: u32,
    /// Memory.
    pub memory_bytes: u64,
}

/// A node that could nearly take a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NearNode {
    /// Its name.
    pub node: NodeName,
    /// What is free of it.
    pub free: Amount,
    /// Cards that nobody has and that are not clean.
    pub unclean: u32,
}

/// Who has what others wait for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The job.
    pub job: JobId,
    /// Whose.
    pub user: Box<str>,
    /// On which node.
    pub node: NodeName,
    /// What of it.
    pub held: Amount,
    /// Until when at the latest, by its walltime; `None` without one.
    pub until: Option<Timestamp>,
}

/// A place in line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinePlace {
    /// Jobs before it; an array is one.
    pub before: u64,
    /// Jobs in line.
    pub in_line: u64,
    /// What its place was made of: points by name.
    pub factors: Vec<Factor>,
}

/// A part of a score.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Factor {
    /// Its name, as in the attribute `weight_NAME`.
    pub name: Box<str>,
    /// Thousandths of a point.
    pub milli_points: i64,
}

/// When a job starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpectedStart {
    /// When.
    pub at: Timestamp,
    /// How sure that is.
    pub confidence: Confidence,
    /// By when it starts with a likelihood of four in five.
    pub likely_by: Timestamp,
    /// That was said when it came, and it is past now: the job is one in five.
    pub is_overdue: bool,
}

/// How sure an expected start is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Confidence {
    /// Nodes are reserved from then on: it starts then or sooner, unless something with a higher score comes.
    Firm,
    /// By the work before it in line and how long such jobs have run.
    Likely,
    /// Little is known: too much is before it, or nothing of how long that will run.
    Guess,
}

/// What to change so that a job starts now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Suggestion {
    /// Other resources, as for `qalter -l`.
    Resource {
        /// Which.
        name: Box<str>,
        /// The value with which it would start.
        value: Box<str>,
        /// What of it differs, in short: "gpus=2", "walltime<=03:00:00", "3090|a40".
        change: Box<str>,
    },
    /// Another queue.
    Queue(QueueName),
}

/// What to change so that a job starts sooner, though not now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sooner {
    /// The change.
    pub suggestion: Suggestion,
    /// When it would start with it.
    pub at: Timestamp,
    /// How sure that is: firm, or likely.
    pub confidence: Confidence,
}

impl Explanation {
    /// Of a job that does not wait for anything, or is not known to.
    fn none() -> Self {
        Self::default()
    }
}

/// What a job has waited for before it started; of one that waits still, nothing.
#[must_use]
pub fn waited(job: &Job) -> &[Wait] {
    match &job.state {
        JobState::Pending => &[],
        JobState::Starting(_)
        | JobState::Running(_)
        | JobState::Exiting(..)
        | JobState::Ended(_) => &job.waits,
    }
}

/// Why `id` waits in `state`, for which `plan` was made and carried out: its placements run. `None` when there is no such
/// job. Costs much less than a plan, and still milliseconds: not for listings.
#[must_use]
pub fn explain(state: &State, plan: &Plan, id: JobId, now: Timestamp) -> Option<Explanation> {
    let job = state.resolve(id)?;
    if !matches!(job.state, JobState::Pending) {
        return Some(Explanation::none());
    }
    let Some(subject) = subject(&job) else {
        // All members of the array have records of their own: ask for those.
        return Some(Explanation::none());
    };
    // Whose place in line it is, and whose reason the plan told.
    let in_line = match (id.part, state.job(id)) {
        (JobPart::Member(_), None) => JobId::array(id.seq),
        (JobPart::Whole | JobPart::Array | JobPart::Member(_), _) => id,
    };
    let found = plan.reasons.binary_search_by_key(&in_line, |(id, _)| *id);
    let reason = found.ok().map(|at| plan.reasons[at].1.clone());
    let asked = Asked {
        state,
        plan,
        now,
        place: plan.line.iter().position(|id| *id == in_line),
        in_line,
        subject: &subject,
        reason: reason.as_ref(),
    };
    let found = blockers::find(&asked);
    let mut reckoner = outlook::Reckoner::of(&asked);
    let start = outlook::of(&asked, &mut reckoner);
    let (suggestions, sooner) = changes::that_help(&asked, found.desk, (start, &mut reckoner));
    let (blockers, lack, place) = (found.blockers, found.lack, standing::of(&asked));
    Some(Explanation {
        reason: reason.clone(),
        blockers,
        lack,
        place,
        start,
        suggestions,
        sooner,
    })
}

/// Who is asked about: the job, or the next member of an array.
fn subject(job: &Arc<Job>) -> Option<Pending> {
    let job = match &job.array {
        Some(array) => Arc::new(job.as_member(array.waiting.first()?)),
        None => job.clone(),
    };
    Some(Pending::of(job))
}

/// A question and what it is about.
struct Asked<'a> {
    state: &'a State,
    plan: &'a Plan,
    now: Timestamp,
    /// The id under which it stands in line.
    in_line: JobId,
    /// Its place in line; `None` when it stands aside, or came after the plan was made.
    place: Option<usize>,
    subject: &'a Pending,
    /// What the plan said of it.
    reason: Option<&'a Reason>,
}

impl<'a> Asked<'a> {
    fn job(&self) -> &'a Arc<Job> {
        &self.subject.job
    }

    /// The job in line at `at`, or its next member, if it still waits.
    fn waiting_at(&self, id: JobId) -> Option<&'a Pending> {
        self.state.waiting_job(id)
    }

    /// Whether a promise of the plan is the subject's.
    fn is_own(&self, promised: JobId) -> bool {
        match self.in_line.part {
            JobPart::Array => promised.seq == self.in_line.seq,
            JobPart::Whole | JobPart::Member(_) => promised == self.in_line,
        }
    }
}
