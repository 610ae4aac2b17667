//! Whose running jobs may be stopped for whose waiting ones: what the site has said of preemption, and of cards that are
//! guaranteed to groups. Here is who may be stopped; who is, the plan chooses.

use capstan_types::{QueueName, Timestamp};
use serde::{Deserialize, Serialize};

use super::share_policy::read_entry;
use super::{Job, JobState, Queue, Run, Settings};

/// A job that was stopped for another is not stopped so again for so long when nobody says, seconds.
const AGAIN_AFTER_SECS: u64 = 3600;
/// Between SIGTERM and SIGKILL of a job that is stopped for another, when nobody says, seconds.
const GRACE_SECS: u32 = 60;
/// The longest such time that can be set, seconds: whoever waits for it waits no longer than a day.
const GRACE_SECS_MAX: u64 = 86_400;

/// What becomes of a job that is stopped for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preemptable {
    /// It goes back to its place in the queue; one that may not run twice is not stopped.
    Requeue,
    /// It ends.
    Cancel,
}

/// By which right a job has another one stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PreemptionRight {
    /// Its queue preempts, and the other's has a lower `Priority`.
    Priority,
    /// Its group uses less than is guaranteed to it, and the other runs on cards that were lent.
    Guarantee,
}

/// What the site has said.
#[derive(Clone, Debug)]
pub(crate) struct PreemptionRules<'s> {
    settings: &'s Settings,
    again_after_secs: u64,
    /// By group, in thousandths of a card.
    guarantees: Vec<(Box<str>, u64)>,
}

/// How a job may be stopped now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stoppable {
    /// Its queue's.
    pub(crate) priority: i64,
    /// Back to the queue, and not ended.
    pub(crate) requeue: bool,
    /// Between SIGTERM and SIGKILL, seconds.
    pub(crate) grace_secs: u32,
}

impl Preemptable {
    /// Reads the word for it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "requeue" => Some(Self::Requeue),
            "cancel" => Some(Self::Cancel),
            _ => None,
        }
    }
}

impl Queue {
    /// What becomes of its running jobs when they are stopped for others; `None` when they are not.
    #[must_use]
    pub fn preemptable(&self) -> Option<Preemptable> {
        self.attributes
            .text("preemptable")
            .and_then(Preemptable::parse)
    }

    /// Whether running jobs of queues with a lower `Priority` are stopped for its waiting ones.
    #[must_use]
    pub fn preempts(&self) -> bool {
        self.is("preempts")
    }

    /// Between SIGTERM and SIGKILL of its jobs when they are stopped for others, seconds.
    #[must_use]
    pub fn preempt_grace_secs(&self) -> u32 {
        let set = self.attributes.limit("preempt_grace");
        let secs = set.map(|secs| secs.min(GRACE_SECS_MAX));
        let secs = secs.and_then(|secs| u32::try_from(secs).ok());
        secs.unwrap_or(GRACE_SECS)
    }

    /// Its jobs are not stopped for others before they have run for so long, seconds.
    #[must_use]
    pub fn preempt_after_secs(&self) -> u64 {
        self.attributes.limit("preempt_after").unwrap_or(0)
    }
}

impl<'s> PreemptionRules<'s> {
    /// `None` when no job is ever stopped for another.
    pub(crate) fn of(settings: &'s Settings) -> Option<Self> {
        let mut queues = settings.queues.values();
        if !queues.any(|queue| queue.preemptable().is_some()) {
            return None;
        }
        let attributes = &settings.attributes;
        let guarantees = attributes.list("guaranteed_cards").iter();
        let guarantees: Vec<_> = guarantees.filter_map(|entry| read_entry(entry)).collect();
        if guarantees.is_empty() && !settings.queues.values().any(Queue::preempts) {
            return None;
        }
        let again_after = attributes.limit("preempt_again_after");
        Some(Self {
            settings,
            again_after_secs: again_after.unwrap_or(AGAIN_AFTER_SECS),
            guarantees,
        })
    }

    /// The groups to which cards are guaranteed.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &str> {
        self.guarantees.iter().map(|(group, _)| &**group)
    }

    /// What is guaranteed to a group, thousandths of a card; what was said last counts.
    pub(crate) fn guarantee(&self, group: &str) -> Option<u64> {
        let mut entries = self.guarantees.iter().rev();
        let found = entries.find(|(name, _)| **name == *group);
        found.map(|(_, cards)| *cards)
    }

    /// The priority below which jobs are stopped for those of `queue`; `None` when none are.
    pub(crate) fn preempts_below(&self, queue: &QueueName) -> Option<i64> {
        let queue = self.settings.queues.get(queue)?;
        queue.preempts().then(|| queue.priority())
    }

    /// How `job` may be stopped at `now`.
    ///
    /// # Errors
    /// It may not; the time from which it may when all goes on as it does, if there is one.
    pub(crate) fn stoppable(
        &self,
        job: &Job,
        now: Timestamp,
    ) -> Result<Stoppable, Option<Timestamp>> {
        let (run, queue) = (live(&job.state), self.settings.queues.get(&job.queue));
        let (run, queue) = run.zip(queue).ok_or(None)?;
        let requeue = match queue.preemptable().ok_or(None)? {
            Preemptable::Requeue if !job.spec.is_rerunnable => return Err(None),
            Preemptable::Requeue => true,
            Preemptable::Cancel => false,
        };
        // Who is still being started, however long that takes, has not run yet.
        let began = run.started.map_or(now, |(at, _)| at);
        let grown = began.plus_secs(queue.preempt_after_secs());
        let again = job.preempted.map(|at| at.plus_secs(self.again_after_secs));
        let from = again.map_or(grown, |again| again.max(grown));
        if from > now {
            return Err(Some(from));
        }
        Ok(Stoppable {
            priority: queue.priority(),
            requeue,
            grace_secs: queue.preempt_grace_secs(),
        })
    }
}

/// The attempt of a job that nobody has told to stop.
const fn live(state: &JobState) -> Option<&Run> {
    match state {
        JobState::Starting(run) | JobState::Running(run) => Some(run),
        JobState::Pending | JobState::Exiting(..) | JobState::Ended(_) => None,
    }
}
