//! Running jobs that are told to stop for a waiting one: the cheapest set found that makes room for it, and no more than
//! it needs. What comes free as soon anyway is counted first. Which nodes the job gets is decided when they are free;
//! until then they are reserved for it as for any other job that does not fit.

mod book;
mod choice;

use std::collections::BTreeMap;

use capstan_types::{JobId, Reason, Timestamp};

use super::Preemption;
use super::cluster::{Cluster, OVERDUE_SECS};
use super::fit::Shape;
use super::timeline::Span;
use crate::model::Pending;
use crate::model::limit::cards;
use crate::model::preemption::PreemptionRules;
use crate::{Job, PreemptionRight, State};
use book::{Book, Candidate, held_cards};
use choice::Trial;

/// For so many jobs a plan looks for others to stop: each look costs as much as some reservations.
const TRIES_MAX: usize = 16;

/// Who is told to stop in one plan.
#[derive(Clone)]
pub(super) struct Preemptor<'a> {
    state: &'a State,
    now: Timestamp,
    /// `None` where no job is ever stopped for another: then nothing is looked at.
    rules: Option<PreemptionRules<'a>>,
    /// What groups to which cards are guaranteed use or were promised, thousandths of a card.
    used: BTreeMap<Box<str>, u64>,
    /// Made when the first job asks.
    book: Option<Book<'a>>,
    tries: usize,
    chosen: Vec<Preemption>,
    look_again: Option<Timestamp>,
}

/// What a job that does not fit may expect of this.
pub(super) enum Way {
    /// Nothing: it waits like all others.
    None,
    /// What it needs will be free as soon as if others were stopped: it gets a reservation, whoever else has one.
    Kept,
    /// Likewise, because others are being stopped for it.
    Cleared(Reason),
}

/// What a waiting job may have stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rights<'a> {
    /// Jobs of queues with a lower priority than this.
    below: Option<i64>,
    /// Jobs on lent cards, of all groups but this.
    group: Option<&'a str>,
}

impl<'a> Preemptor<'a> {
    pub(super) fn new(state: &'a State, now: Timestamp) -> Self {
        let settings = state.settings();
        let rules = settings.and_then(|settings| PreemptionRules::of(settings));
        let mut used = BTreeMap::new();
        if let Some(rules) = &rules {
            used.extend(rules.groups().map(|group| (group.into(), 0)));
        }
        let mut preemptor = Self {
            state,
            now,
            rules,
            used,
            book: None,
            tries: 0,
            chosen: Vec::new(),
            look_again: None,
        };
        if !preemptor.used.is_empty() {
            for (_, job) in state.running() {
                preemptor.use_cards(job, held_cards(job));
            }
        }
        preemptor
    }

    /// Whether nobody is ever stopped for another.
    pub(super) const fn is_idle(&self) -> bool {
        self.rules.is_none()
    }

    /// Who is to be told.
    pub(super) fn take_chosen(&mut self) -> Vec<Preemption> {
        std::mem::take(&mut self.chosen)
    }

    /// When another plan may find more to tell though nothing has happened.
    pub(super) const fn look_again(&self) -> Option<Timestamp> {
        self.look_again
    }

    /// Takes a job into account that starts now or has nodes reserved for it.
    pub(super) fn count(&mut self, job: &Job) {
        if !self.used.is_empty() {
            self.use_cards(job, wanted_cards(job));
        }
    }

    fn use_cards(&mut self, job: &Job, cards: u64) {
        if let Some(used) = self.used.get_mut(&job.spec.owner.group) {
            *used = used.saturating_add(cards);
        }
    }

    /// Makes room for a job of this shape that does not fit now.
    pub(super) fn make_way(
        &mut self,
        (cluster, shape): (&mut Cluster<'a>, &Shape<'a>),
        waiting: &'a Pending,
        id: JobId,
    ) -> Way {
        let job = &waiting.job;
        let Some(rules) = &self.rules else {
            return Way::None;
        };
        let is_called = job.first_until.is_some_and(|until| until > self.now);
        let rights = self.rights(rules, job);
        if self.tries >= TRIES_MAX || !is_called && rights.is_none() {
            return Way::None;
        }
        cluster.know_timelines();
        let book = match self.book.take() {
            Some(book) => book,
            None => Book::of(self.state, rules, cluster, self.now),
        };
        let stopping = book.stopping(id);
        self.book = Some(book);
        let way = match stopping {
            Some(reason) => Way::Cleared(reason),
            // Whoever was stopped has gone. If it still does not fit, something else is the matter, and whoever is
            // stopped next would be stopped in vain as well.
            None if is_called => {
                self.look_again_at(job.first_until);
                Way::Kept
            }
            None => self.stop_others((cluster, shape), waiting, (id, rights)),
        };
        match way {
            Way::None => {}
            Way::Kept | Way::Cleared(_) => self.count(job),
        }
        way
    }

    fn rights(&self, rules: &PreemptionRules<'a>, job: &'a Job) -> Rights<'a> {
        let group = &*job.spec.owner.group;
        let wanted = wanted_cards(job);
        let used = self.used.get(group).copied().unwrap_or(0);
        let guarantee = rules.guarantee(group).filter(|_| wanted > 0);
        let is_owed = guarantee.is_some_and(|most| used.saturating_add(wanted) <= most);
        Rights {
            below: rules.preempts_below(&job.queue),
            group: is_owed.then_some(group),
        }
    }

    fn stop_others(
        &mut self,
        (cluster, shape): (&mut Cluster<'a>, &Shape<'a>),
        waiting: &'a Pending,
        (id, rights): (JobId, Rights<'a>),
    ) -> Way {
        let Some(book) = &mut self.book else {
            return Way::None;
        };
        if book.failed.contains(&(shape.number, rights)) {
            return Way::None;
        }
        self.tries += 1;
        let allowed = book.allowed(rights);
        let graces = allowed.iter().map(|at| book.candidates[*at].grace_secs);
        let soon = u64::from(graces.min().unwrap_or(0)).max(OVERDUE_SECS);
        let span =
            Span::of(self.now.plus_secs(soon), waiting.walltime_secs).of_guest(shape.key.guest);
        let mut trial = Trial::new((cluster, shape), span, &book.candidates);
        if trial.fits(&[]) {
            return Way::Kept;
        }
        let Some(victims) = trial.choose(&allowed) else {
            book.failed.push((shape.number, rights));
            let next = book.next_candidate;
            self.look_again_at(next);
            return Way::None;
        };
        for at in victims {
            let candidate = &mut book.candidates[at];
            candidate.is_chosen = true;
            let until = self.now.plus_secs(candidate.grace_secs.into());
            for (place, each) in &candidate.holds {
                cluster.hasten(*place, *each, (candidate.ends, until));
            }
            let preemption = candidate.preemption(id, rights);
            book.note(&preemption, self.now);
            self.chosen.push(preemption);
        }
        book.stopping(id).map_or(Way::Kept, Way::Cleared)
    }

    fn look_again_at(&mut self, time: Option<Timestamp>) {
        let times = self.look_again.into_iter().chain(time);
        self.look_again = times.filter(|time| *time > self.now).min();
    }
}

impl Rights<'_> {
    const fn is_none(self) -> bool {
        self.below.is_none() && self.group.is_none()
    }

    /// By which of them a job is stopped.
    fn over(self, candidate: &Candidate<'_>) -> Option<PreemptionRight> {
        let is_lower = self.below.is_some_and(|below| candidate.priority < below);
        let owner = &*candidate.job.spec.owner.group;
        let is_lent = candidate.is_lent && self.group.is_some_and(|group| *group != *owner);
        match (is_lower, is_lent) {
            (true, _) => Some(PreemptionRight::Priority),
            (false, true) => Some(PreemptionRight::Guarantee),
            (false, false) => None,
        }
    }
}

/// Thousandths of a card.
fn wanted_cards(job: &Job) -> u64 {
    cards(&job.spec).saturating_mul(1000)
}
