//! Who is in line, in which order, and who stands aside with which reason.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use capstan_types::{JobId, QueueName, Reason, Timestamp};

use super::estimate::Estimates;
use super::score::{Factors, Scores};
use crate::model::Pending;
use crate::{Job, Policy, Settings, State};

/// Waiting jobs, sorted out.
pub(super) struct Line<'a> {
    /// Those to be considered, first come first.
    pub(super) jobs: Vec<Waiting<'a>>,
    /// Those that may not be considered now.
    pub(super) aside: Vec<(JobId, Reason)>,
    /// When the next of them has waited for so long that it goes to the front.
    pub(super) next_starving: Option<Timestamp>,
}

/// A job in line.
#[derive(Clone, Copy)]
pub(super) struct Waiting<'a> {
    pub(super) job: &'a Arc<Job>,
    /// For how long it may run, seconds.
    pub(super) walltime_secs: u64,
    /// Whether nobody else may be on its nodes.
    pub(super) is_exclusive: bool,
    /// Of what it asks of nodes.
    pub(super) hash: u64,
}

/// The place of a job: lowest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// Those for whom others are stopped come before all.
    is_uncalled: bool,
    /// Those who have waited too long come first, …
    is_patient: bool,
    /// … of the others those of the highest score, …
    score: Reverse<i64>,
    /// … and of equal ones those who came first.
    came: (Timestamp, JobId),
}

/// Lines up all jobs that may be considered at `now`.
pub(super) fn line_up<'a>(state: &'a State, policy: &Policy, now: Timestamp) -> Line<'a> {
    let mut estimates = Estimates::of(state, policy);
    let mut scores = Scores::of(state, policy, now);
    let settings = state.settings().map(AsRef::as_ref);
    let mut next_starving: Option<Timestamp> = None;
    let mut entries = Vec::new();
    let mut aside = Vec::new();
    let mut queues = Queues::of(settings);
    for pending in state.waiting() {
        let job = &pending.job;
        let id = match &job.array {
            None => job.id,
            // An array stands in line as its next member does, behind members that are to run again.
            Some(array) => match array.waiting.first() {
                Some(next) => JobId::member(job.id.seq, next),
                None => continue, // Its members speak for themselves.
            },
        };
        let queue_priority = match stands_aside(job, &mut queues, now) {
            Err(reason) => {
                aside.push((job.id, reason));
                continue;
            }
            Ok(priority) => priority,
        };
        let came = job.place.unwrap_or((job.queued, id));
        let starves_at = policy.starve_after_secs.map(|secs| came.0.plus_secs(secs));
        let has_starved = starves_at.is_some_and(|at| at <= now);
        let factors = Factors {
            queue_priority,
            since: came.0,
            size: pending.size,
            estimate_secs: estimates.of_job(pending),
        };
        let entry = Entry::of(pending, (came, has_starved), factors, (&mut scores, now));
        if let Some(at) = starves_at.filter(|_| entry.place.is_patient && !has_starved) {
            next_starving = Some(next_starving.map_or(at, |next| next.min(at)));
        }
        entries.push(entry);
    }
    entries.sort_unstable_by_key(|entry| entry.place);
    if scores.is_fair() {
        entries = by_turns(entries, &mut scores);
    }
    let mut jobs: Vec<Waiting<'a>> = entries.into_iter().map(|entry| entry.waiting).collect();
    let queues = settings.into_iter().flat_map(|settings| &settings.queues);
    for (queue, _) in queues.filter(|(_, queue)| queue.is("strict_fifo")) {
        keep_arrival(&mut jobs, queue);
    }
    Line {
        jobs,
        aside,
        next_starving,
    }
}

/// A job on its way into the line.
#[derive(Clone, Copy)]
struct Entry<'a> {
    place: Place,
    waiting: Waiting<'a>,
    estimate_secs: u64,
    /// Whose share it counts to.
    account: Option<usize>,
    /// Without what its user is owed.
    score: i64,
}

impl<'a> Entry<'a> {
    fn of(
        pending: &'a Pending,
        (came, has_starved): ((Timestamp, JobId), bool),
        factors: Factors,
        (scores, now): (&mut Scores<'a>, Timestamp),
    ) -> Self {
        let job = &pending.job;
        let is_uncalled = job.first_until.is_none_or(|until| until <= now);
        let account = scores.account(job);
        // Of somebody who has had more than his share every job starves some day: that is no way around the shares.
        let goes_first = has_starved && !scores.is_ahead(account);
        let is_patient = is_uncalled && !goes_first;
        let score = match is_patient {
            true => scores.of_job(job, factors),
            false => 0,
        };
        let owed = scores.of_account(account.filter(|_| is_patient));
        Self {
            place: Place {
                is_uncalled,
                is_patient,
                score: Reverse(score.saturating_add(owed)),
                came,
            },
            waiting: Waiting {
                job,
                walltime_secs: pending.walltime_secs,
                is_exclusive: pending.is_exclusive,
                hash: pending.hash,
            },
            estimate_secs: factors.estimate_secs,
            account,
            score,
        }
    }
}

/// So many jobs are lined up by turns; those behind them will hardly start in this plan.
const TURNS_MAX: usize = 10_000;

/// Has users take turns: who is next is charged with what his job is expected to use, before it is asked who comes after
/// him. `entries` are in order but for that.
fn by_turns<'a>(entries: Vec<Entry<'a>>, scores: &mut Scores<'a>) -> Vec<Entry<'a>> {
    let mut line = Vec::with_capacity(entries.len());
    let mut of_account: BTreeMap<Option<usize>, VecDeque<usize>> = BTreeMap::new();
    for (at, entry) in entries.iter().enumerate() {
        match entry.place.is_patient {
            true => of_account.entry(entry.account).or_default().push_back(at),
            false => line.push(at),
        }
    }
    let place = |at: usize, scores: &Scores<'_>| {
        let entry = &entries[at];
        let owed = scores.of_account(entry.account);
        Place {
            score: Reverse(entry.score.saturating_add(owed)),
            ..entry.place
        }
    };
    let firsts = of_account.values().filter_map(|jobs| jobs.front());
    let mut next: BTreeSet<(Place, usize)> = firsts.map(|at| (place(*at, scores), *at)).collect();
    while line.len() < TURNS_MAX
        && let Some((_, at)) = next.pop_first()
    {
        line.push(at);
        let entry = &entries[at];
        scores.charge(entry.account, &entry.waiting.job.spec, entry.estimate_secs);
        let jobs = of_account.entry(entry.account).or_default();
        jobs.pop_front();
        next.extend(jobs.front().map(|at| (place(*at, scores), *at)));
    }
    let mut rest: Vec<usize> = of_account.into_values().flatten().collect();
    rest.sort_unstable();
    line.extend(rest);
    line.into_iter().map(|at| entries[at]).collect()
}

/// Gives the places in line that the jobs of `queue` have to these jobs in the order in which they came.
fn keep_arrival(jobs: &mut [Waiting<'_>], queue: &QueueName) {
    let is_of_queue = |waiting: &Waiting<'_>| waiting.job.queue == *queue;
    let mut own: Vec<Waiting<'_>> = jobs.iter().copied().filter(is_of_queue).collect();
    own.sort_by_key(|waiting| waiting.job.place());
    let places = jobs.iter_mut().filter(|waiting| is_of_queue(waiting));
    places
        .zip(own)
        .for_each(|(place, waiting)| *place = waiting);
}

/// The priority of its queue, or why the job is not in line.
fn stands_aside<'a>(job: &'a Job, queues: &mut Queues<'a>, now: Timestamp) -> Result<i64, Reason> {
    if !job.holds.is_empty() {
        return Err(Reason::Held(job.effective_holds()));
    }
    if let Some((_, on)) = job.waits_for.first() {
        return Err(Reason::DependsOn(*on));
    }
    if job.ties.hold() {
        let awaited = job.ties.awaited().next();
        return Err(awaited.map_or(Reason::Held(job.effective_holds()), Reason::DependsOn));
    }
    if let Some(time) = job.not_before.filter(|time| *time > now) {
        return Err(Reason::WaitingUntil(time));
    }
    // A queue that is gone from the settings starts nothing, and its jobs say so.
    let priority = queues.priority(&job.queue);
    priority.ok_or_else(|| queues.why_not(&job.queue))
}

/// The priorities of queues whose jobs may start. Most jobs are in the queue of the one before them.
struct Queues<'a> {
    settings: Option<&'a Settings>,
    last: Option<(&'a QueueName, Option<i64>)>,
}

impl<'a> Queues<'a> {
    const fn of(settings: Option<&'a Settings>) -> Self {
        let last = None;
        Self { settings, last }
    }

    fn priority(&mut self, name: &'a QueueName) -> Option<i64> {
        if let Some((_, priority)) = self.last.filter(|(last, _)| *last == name) {
            return priority;
        }
        let queue = self.settings.and_then(|all| all.queues.get(name));
        let started = queue.filter(|queue| queue.is_started() && !queue.is_routing());
        let priority = started.map(|queue| queue.priority());
        self.last = Some((name, priority));
        priority
    }

    fn why_not(&self, name: &QueueName) -> Reason {
        let queue = self.settings.and_then(|all| all.queues.get(name));
        match queue.is_some_and(|queue| queue.is_started()) {
            true => Reason::NoDestination(name.clone()),
            false => Reason::QueueStopped(name.clone()),
        }
    }
}
