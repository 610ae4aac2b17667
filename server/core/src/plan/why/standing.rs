//! The place of a job in line, and the desk as it stands when all before that place have been served.

use std::cmp::Reverse;

use capstan_types::{JobId, JobPart, Timestamp};

use super::{Asked, Factor, LinePlace};
use crate::model::Pending;
use crate::plan::desk::Desk;
use crate::plan::estimate::Estimates;
use crate::plan::score::{Factors, Scores};
use crate::{Plan, Policy, State};

/// Jobs with reservations that are served again before a job; behind more than that nothing is suggested to it.
const PROMISES_MAX: usize = 16;
/// Jobs that are served again because a change puts a job behind them.
const OVERTAKEN_MAX: usize = 2000;
const ONE: i64 = 1 << 16;

/// Where the job stands.
pub(super) fn of(asked: &Asked<'_>) -> Option<LinePlace> {
    let place = asked.place?;
    let policy = Policy::of(asked.state.settings()?);
    let mut line = Places::of(asked.state, &policy, asked.now);
    let factors = line.named(asked.subject);
    let factors = factors.into_iter().filter(|(_, points)| *points != 0);
    Some(LinePlace {
        before: still_waiting(asked.plan, place),
        in_line: still_waiting(asked.plan, asked.plan.line.len()),
        factors: factors
            .map(|(name, points)| Factor {
                name: name.into(),
                milli_points: points.saturating_mul(1000) / ONE,
            })
            .collect(),
    })
}

/// How many of the first jobs in line the plan has not started.
fn still_waiting(plan: &Plan, first: usize) -> u64 {
    let mut started: Vec<JobId> = plan.placements.iter().map(|placed| placed.job).collect();
    started.sort_unstable();
    let line = plan.line.iter().take(first);
    let waiting = line.filter(|id| started.binary_search(id).is_err());
    waiting.count() as u64
}

/// The order of the line, as far as single jobs are compared.
pub(super) struct Places<'a> {
    state: &'a State,
    policy: Policy,
    now: Timestamp,
    scores: Scores<'a>,
    estimates: Estimates<'a>,
}

/// A place: lowest first.
pub(super) type Place = (bool, Reverse<i64>, (Timestamp, JobId));

impl<'a> Places<'a> {
    pub(super) fn of(state: &'a State, policy: &Policy, now: Timestamp) -> Self {
        Self {
            state,
            policy: *policy,
            now,
            scores: Scores::of(state, policy, now),
            estimates: Estimates::of(state, policy),
        }
    }

    /// Whether users take turns, so that places depend on each other.
    pub(super) const fn has_turns(&self) -> bool {
        self.scores.has_turns()
    }

    fn factors(&mut self, pending: &'a Pending) -> Factors {
        let job = &pending.job;
        let queues = self.state.settings().map(|settings| &settings.queues);
        let queue = queues.and_then(|queues| queues.get(&job.queue));
        Factors {
            queue_priority: queue.map_or(0, |queue| queue.priority()),
            priority: pending.priority,
            since: job.place.map_or(job.queued, |(since, _)| since),
            size: pending.size,
            estimate_secs: self.estimates.of_job(pending),
        }
    }

    /// What the score is made of, by name, 65536ths of a point.
    fn named(&mut self, pending: &'a Pending) -> Vec<(&'static str, i64)> {
        let factors = self.factors(pending);
        let mut named = self.scores.parts(factors).to_vec();
        let account = self.scores.account(&pending.job);
        named.push(("fairshare", self.scores.of_account(account)));
        named
    }

    /// The job's place. Whose turn it is among users with equal claims is not looked at.
    pub(super) fn place(&mut self, pending: &'a Pending) -> Place {
        let job = &pending.job;
        let came = job.place.unwrap_or((job.queued, job.id));
        let starves_at = self.policy.starve_after_secs;
        let starves_at = starves_at.map(|secs| came.0.plus_secs(secs));
        let is_patient = starves_at.is_none_or(|at| at > self.now);
        let score = match is_patient {
            true => self.named(pending).into_iter().map(|(_, points)| points),
            false => return (false, Reverse(0), came),
        };
        (true, Reverse(score.fold(0, i64::saturating_add)), came)
    }
}

/// The desk when all before the job have been served: of those, whoever still waits gets nothing now, and has nodes
/// reserved or has not. `None` when too many have.
pub(super) fn desk<'a>(asked: &Asked<'a>, policy: &Policy) -> Option<Desk<'a>> {
    let place = asked.place.unwrap_or(asked.plan.line.len());
    desk_at(asked, policy, place)
}

/// The same before another place in line.
pub(super) fn desk_at<'a>(asked: &Asked<'a>, policy: &Policy, place: usize) -> Option<Desk<'a>> {
    let before = asked.plan.line.get(..place)?;
    let mut promised: Vec<(usize, JobId)> = Vec::new();
    for promise in &asked.plan.promises {
        let id = promise.job;
        let array = JobId::array(id.seq);
        let is_it = |line: &JobId| *line == id || *line == array && is_member(id);
        if let Some(at) = before.iter().position(is_it) {
            promised.push((at, before[at]));
        }
        if promised.len() > PROMISES_MAX {
            return None;
        }
    }
    promised.sort_unstable();
    promised.dedup();
    let mut desk = Desk::new(asked.state, policy, asked.now);
    let mut plan = Plan::default();
    for (_, id) in promised {
        if let Some(job) = asked.waiting_at(id) {
            desk.serve(job, &mut plan);
        }
    }
    Some(desk)
}

const fn is_member(id: JobId) -> bool {
    matches!(id.part, JobPart::Member(_))
}

/// The same for a job that a change puts at `new`: if that is further back, those that it lets pass are served as well.
/// `None` when those are too many to look at.
pub(super) fn desk_behind<'a>(
    asked: &Asked<'a>,
    policy: &Policy,
    (places, new): (&mut Places<'a>, Place),
) -> Option<Desk<'a>> {
    let mut desk = desk(asked, policy)?;
    let own = asked.place?;
    // Who has no reservation takes nothing from those behind it.
    if !asked
        .plan
        .promises
        .iter()
        .any(|promise| asked.is_own(promise.job))
    {
        return Some(desk);
    }
    let mut plan = Plan::default();
    let behind = asked.plan.line.get(own + 1..)?;
    for (passed, id) in behind.iter().enumerate() {
        let Some(job) = asked.waiting_at(*id) else {
            continue;
        };
        if places.place(job) >= new {
            break;
        }
        if passed >= OVERTAKEN_MAX {
            return None;
        }
        desk.serve(job, &mut plan);
    }
    Some(desk)
}
