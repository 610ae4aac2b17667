//! What a plan knows of running jobs that may be stopped or are being stopped: what each would lose, what would come
//! back of which node, and for whom.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use capstan_types::{AttemptId, JobId, Reason, Timestamp};

use super::Rights;
use crate::model::preemption::PreemptionRules;
use crate::plan::Preemption;
use crate::plan::cluster::{Cluster, OVERDUE_SECS, end};
use crate::plan::request::Each;
use crate::{Job, JobState, PreemptionRight, State};

/// A card's work counts as that of so many cores, as in fair share.
const CORES_PER_CARD: u64 = 20;

#[derive(Clone)]
pub(super) struct Book<'a> {
    /// Who may be stopped, cheapest first.
    pub(super) candidates: Vec<Candidate<'a>>,
    /// When the next of the others may be.
    pub(super) next_candidate: Option<Timestamp>,
    /// Shapes for which nobody was found, with the rights that they had.
    pub(super) failed: Vec<(usize, Rights<'a>)>,
    /// For whom others are being stopped.
    stopping: BTreeMap<JobId, Stopping>,
}

/// A running job that may be stopped.
#[derive(Clone)]
pub(super) struct Candidate<'a> {
    pub(super) job: &'a Arc<Job>,
    attempt: AttemptId,
    /// Its queue's.
    pub(super) priority: i64,
    /// What of its work is lost, core-seconds.
    pub(super) lost: u64,
    requeue: bool,
    pub(super) grace_secs: u32,
    /// When what it holds comes back otherwise.
    pub(super) ends: Timestamp,
    /// Places of nodes, and what of them comes back.
    pub(super) holds: Vec<(usize, Each)>,
    /// It runs on cards beyond what is guaranteed to its group.
    pub(super) is_lent: bool,
    pub(super) is_chosen: bool,
}

/// Jobs that are being stopped for another.
#[derive(Clone)]
struct Stopping {
    /// Of those that may take longest the first by id.
    slowest: (Reverse<Timestamp>, JobId),
    since: Timestamp,
    grace_secs: u32,
    count: u32,
}

impl<'a> Book<'a> {
    pub(super) fn of(
        state: &'a State,
        rules: &PreemptionRules<'_>,
        cluster: &Cluster<'a>,
        now: Timestamp,
    ) -> Self {
        let mut book = Self {
            candidates: Vec::new(),
            next_candidate: None,
            failed: Vec::new(),
            stopping: BTreeMap::new(),
        };
        // A group's jobs fill what is guaranteed to it in the order in which they started; the others were lent theirs.
        let mut held: BTreeMap<&str, u64> = BTreeMap::new();
        for (attempt, job) in state.running() {
            if let JobState::Exiting(_, order) = &job.state {
                if let Some(for_job) = order.for_job {
                    book.add_stopping(for_job, job.id, (order.at, order.grace_secs));
                }
                continue;
            }
            let group = &*job.spec.owner.group;
            let of_group = held.entry(group).or_default();
            *of_group = of_group.saturating_add(held_cards(job));
            let is_lent = *of_group > rules.guarantee(group).unwrap_or(0);
            match rules.stoppable(job, now) {
                Ok(how) => {
                    let elapsed = job.state.run().map_or(0, |run| run.elapsed_secs(now));
                    book.candidates.push(Candidate {
                        job,
                        attempt,
                        priority: how.priority,
                        lost: weight(job).saturating_mul(elapsed),
                        requeue: how.requeue,
                        grace_secs: how.grace_secs,
                        ends: end(job, now.plus_secs(OVERDUE_SECS)),
                        holds: cluster.comes_back(job),
                        is_lent: is_lent && held_cards(job) > 0,
                        is_chosen: false,
                    });
                }
                Err(Some(from)) => {
                    let next = book.next_candidate;
                    book.next_candidate = Some(next.map_or(from, |next| next.min(from)));
                }
                Err(None) => {}
            }
        }
        book.candidates.sort_by_key(|candidate| {
            let Candidate {
                priority,
                lost,
                attempt,
                ..
            } = candidate;
            (*priority, *lost, Reverse(*attempt))
        });
        book
    }

    /// Whom a job with these rights may have stopped, cheapest first.
    pub(super) fn allowed(&self, rights: Rights<'_>) -> Vec<usize> {
        let all = self.candidates.iter().enumerate();
        let allowed =
            all.filter(|(_, candidate)| !candidate.is_chosen && rights.over(candidate).is_some());
        allowed.map(|(at, _)| at).collect()
    }

    /// What keeps `job`, when others are being stopped for it.
    pub(super) fn stopping(&self, job: JobId) -> Option<Reason> {
        let stopping = self.stopping.get(&job)?;
        Some(Reason::Preempting {
            job: stopping.slowest.1,
            others: stopping.count - 1,
            since: stopping.since,
            grace_secs: stopping.grace_secs,
        })
    }

    /// Takes a decision of this plan into account.
    pub(super) fn note(&mut self, preemption: &Preemption, now: Timestamp) {
        let order = (now, preemption.grace_secs);
        self.add_stopping(preemption.for_job, preemption.job, order);
    }

    fn add_stopping(&mut self, for_job: JobId, victim: JobId, (at, grace_secs): (Timestamp, u32)) {
        let slowest = (Reverse(at.plus_secs(grace_secs.into())), victim);
        let new = Stopping {
            slowest,
            since: at,
            grace_secs,
            count: 1,
        };
        match self.stopping.get_mut(&for_job) {
            Some(old) => {
                let count = old.count + 1;
                if slowest < old.slowest {
                    *old = new;
                }
                old.count = count;
            }
            None => {
                self.stopping.insert(for_job, new);
            }
        }
    }
}

impl Candidate<'_> {
    pub(super) fn preemption(&self, for_job: JobId, rights: Rights<'_>) -> Preemption {
        Preemption {
            job: self.job.id,
            attempt: self.attempt,
            for_job,
            right: rights.over(self).unwrap_or(PreemptionRight::Priority),
            requeue: self.requeue,
            grace_secs: self.grace_secs,
        }
    }
}

/// Cards that a running job holds, thousandths.
pub(super) fn held_cards(job: &Job) -> u64 {
    let run = job.state.run().into_iter();
    let cards = run
        .flat_map(|run| run.shares.iter())
        .flat_map(|share| &share.cards);
    cards.map(|card| u64::from(card.share)).sum()
}

/// How much work a second of a job is, core-seconds.
fn weight(job: &Job) -> u64 {
    let run = job.state.run().into_iter();
    let slots = run
        .flat_map(|run| run.shares.iter())
        .map(|share| share.slots.len() as u64);
    let cards = held_cards(job).saturating_mul(CORES_PER_CARD) / 1000;
    cards.max(slots.sum())
}
