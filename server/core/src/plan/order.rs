//! Who is in line, in which order, and who stands aside with which reason.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use capstan_types::{JobId, QueueName, Reason, Timestamp};

use super::estimate::Estimates;
use super::score::{Factors, Scores};
use crate::model::Pending;
use crate::{Job, Policy, Settings, State};

/// Waiting jobs, sorted out.
pub(super) struct Line<'a> {
    /// Those to be considered, first come first.
    pub(super) jobs: Vec<&'a Pending>,
    /// Those that may not be considered now.
    pub(super) aside: Vec<(JobId, Reason)>,
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

/// A job on its way into the line; lowest first.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    place: Place,
    pub(super) job: &'a Pending,
}

impl Ord for Entry<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place.cmp(&other.place)
    }
}

impl PartialOrd for Entry<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.place == other.place
    }
}

impl Eq for Entry<'_> {}

/// All waiting jobs, told apart into those that may be considered now, not in order yet, and others.
pub(super) struct Candidates<'a> {
    pub(super) entries: Vec<Entry<'a>>,
    aside: Vec<(JobId, Reason)>,
    /// When the next of them has waited for so long that it goes to the front.
    pub(super) next_starving: Option<Timestamp>,
    settings: Option<&'a Settings>,
    policy: Policy,
    now: Timestamp,
    scores: Scores<'a>,
    estimates: Estimates<'a>,
    /// By profile, once asked for.
    profiles: Vec<Option<OfProfile>>,
}

/// What holds for all jobs of a profile.
#[derive(Clone, Copy)]
struct OfProfile {
    /// Of its queue; `None` when nothing starts from there.
    priority: Option<i64>,
    /// Whose share it counts to.
    account: Option<usize>,
}

impl<'a> Candidates<'a> {
    /// All that wait at `now`.
    pub(super) fn of(state: &'a State, policy: &Policy, now: Timestamp) -> Self {
        let waiting = state.waiting();
        let mut candidates = Self {
            entries: Vec::with_capacity(waiting.len()),
            aside: Vec::new(),
            next_starving: None,
            settings: state.settings().map(AsRef::as_ref),
            policy: *policy,
            now,
            scores: Scores::of(state, policy, now),
            estimates: Estimates::of(state, policy),
            profiles: vec![None; state.profile_bound()],
        };
        for pending in waiting {
            candidates.look_at(pending);
        }
        candidates
    }

    fn look_at(&mut self, pending: &'a Pending) {
        let job = &pending.job;
        let (mut came, mut is_uncalled) = (pending.came, true);
        if !pending.is_plain {
            // An array stands in line as its next member does, behind members that are to run again.
            let next = job.array.as_ref().map(|array| array.waiting.first());
            let id = match next {
                None => job.id,
                Some(Some(next)) => JobId::member(job.id.seq, next),
                Some(None) => return, // Its members speak for themselves.
            };
            if let Some(reason) = stands_aside(job, self.now) {
                self.aside.push((job.id, reason));
                return;
            }
            came = job.place.unwrap_or((job.queued, id));
            is_uncalled = job.first_until.is_none_or(|until| until <= self.now);
        }
        let OfProfile { priority, account } = self.of_profile(pending);
        let Some(queue_priority) = priority else {
            self.aside.push((job.id, self.why_not(&job.queue)));
            return;
        };
        let starve_after = self.policy.starve_after_secs;
        let starves_at = starve_after.map(|secs| came.0.plus_secs(secs));
        let has_starved = starves_at.is_some_and(|at| at <= self.now);
        // Of somebody who has had more than his share every job starves some day: that is no way around the shares.
        let goes_first = has_starved && !self.scores.is_ahead(account);
        let is_patient = is_uncalled && !goes_first;
        if let Some(at) = starves_at.filter(|_| is_patient && !has_starved) {
            self.next_starving = Some(self.next_starving.map_or(at, |next| next.min(at)));
        }
        let score = match is_patient {
            true => {
                let factors = self.factors(pending, queue_priority, came.0);
                let score = self.scores.of_job(factors);
                score.saturating_add(self.scores.of_account(account))
            }
            false => 0,
        };
        self.entries.push(Entry {
            place: Place {
                is_uncalled,
                is_patient,
                score: Reverse(score),
                came,
            },
            job: pending,
        });
    }

    fn factors(&mut self, pending: &'a Pending, queue_priority: i64, since: Timestamp) -> Factors {
        Factors {
            queue_priority,
            priority: pending.priority,
            since,
            size: pending.size,
            estimate_secs: self.estimates.of_job(pending),
        }
    }

    fn of_profile(&mut self, pending: &'a Pending) -> OfProfile {
        let at = pending.profile.map_or(usize::MAX, |at| at as usize);
        if let Some(Some(known)) = self.profiles.get(at) {
            return *known;
        }
        let queue = self
            .settings
            .and_then(|all| all.queues.get(&pending.job.queue));
        let started = queue.filter(|queue| queue.is_started() && !queue.is_routing());
        let found = OfProfile {
            priority: started.map(|queue| queue.priority()),
            account: self.scores.account(&pending.job),
        };
        if let Some(place) = self.profiles.get_mut(at) {
            *place = Some(found);
        }
        found
    }

    /// Why nothing starts from a queue. One that is gone from the settings starts nothing, and its jobs say so.
    fn why_not(&self, name: &QueueName) -> Reason {
        let queue = self.settings.and_then(|all| all.queues.get(name));
        match queue.is_some_and(|queue| queue.is_started()) {
            true => Reason::NoDestination(name.clone()),
            false => Reason::QueueStopped(name.clone()),
        }
    }

    /// Whether the order is that of the entries alone: users do not take turns, and no queue is in strict order.
    pub(super) fn is_simple(&self) -> bool {
        !self.scores.is_fair() && self.strict_queues().next().is_none()
    }

    fn strict_queues(&self) -> impl Iterator<Item = &'a QueueName> + use<'a> {
        let queues = self.settings.into_iter().flat_map(|all| &all.queues);
        let strict = queues.filter(|(_, queue)| queue.is("strict_fifo"));
        strict.map(|(name, _)| name)
    }

    /// Lines them up.
    pub(super) fn line_up(mut self) -> Line<'a> {
        let mut entries = std::mem::take(&mut self.entries);
        entries.sort_unstable();
        if self.scores.is_fair() {
            entries = self.by_turns(entries);
        }
        let mut jobs: Vec<&'a Pending> = entries.into_iter().map(|entry| entry.job).collect();
        for queue in self.strict_queues() {
            keep_arrival(&mut jobs, queue);
        }
        Line {
            jobs,
            aside: self.aside,
        }
    }

    /// Has users take turns: who is next is charged with what his job is expected to use, before it is asked who comes
    /// after him. `entries` are in order but for that.
    fn by_turns(&mut self, entries: Vec<Entry<'a>>) -> Vec<Entry<'a>> {
        let claims: Vec<Claim> = entries.iter().map(|entry| self.claim(entry)).collect();
        let mut line = Vec::with_capacity(entries.len());
        let mut of_account: BTreeMap<Option<usize>, VecDeque<usize>> = BTreeMap::new();
        for (at, entry) in entries.iter().enumerate() {
            match entry.place.is_patient {
                true => of_account
                    .entry(claims[at].account)
                    .or_default()
                    .push_back(at),
                false => line.push(at),
            }
        }
        let place = |at: usize, scores: &Scores<'_>| {
            let claim = &claims[at];
            let owed = scores.of_account(claim.account);
            Place {
                score: Reverse(claim.score.saturating_add(owed)),
                ..entries[at].place
            }
        };
        let scores = &mut self.scores;
        let firsts = of_account.values().filter_map(|jobs| jobs.front());
        let mut next: BTreeSet<(Place, usize)> =
            firsts.map(|at| (place(*at, scores), *at)).collect();
        while line.len() < TURNS_MAX
            && let Some((_, at)) = next.pop_first()
        {
            line.push(at);
            let claim = &claims[at];
            scores.charge(
                claim.account,
                &entries[at].job.job.spec,
                claim.estimate_secs,
            );
            let jobs = of_account.entry(claim.account).or_default();
            jobs.pop_front();
            next.extend(jobs.front().map(|at| (place(*at, scores), *at)));
        }
        let mut rest: Vec<usize> = of_account.into_values().flatten().collect();
        rest.sort_unstable();
        line.extend(rest);
        line.into_iter().map(|at| entries[at]).collect()
    }

    fn claim(&mut self, entry: &Entry<'a>) -> Claim {
        let OfProfile { priority, account } = self.of_profile(entry.job);
        let factors = self.factors(entry.job, priority.unwrap_or(0), entry.place.came.0);
        Claim {
            estimate_secs: factors.estimate_secs,
            account,
            score: self.scores.of_job(factors),
        }
    }
}

/// What a job has to say for itself when users take turns.
struct Claim {
    estimate_secs: u64,
    account: Option<usize>,
    /// Without what its user is owed.
    score: i64,
}

/// So many jobs are lined up by turns; those behind them will hardly start in this plan.
const TURNS_MAX: usize = 10_000;

/// Gives the places in line that the jobs of `queue` have to these jobs in the order in which they came.
fn keep_arrival(jobs: &mut [&Pending], queue: &QueueName) {
    let is_of_queue = |waiting: &&Pending| waiting.job.queue == *queue;
    let mut own: Vec<&Pending> = jobs.iter().copied().filter(is_of_queue).collect();
    own.sort_by_key(|waiting| waiting.job.place());
    let places = jobs.iter_mut().filter(|waiting| is_of_queue(waiting));
    places
        .zip(own)
        .for_each(|(place, waiting)| *place = waiting);
}

/// Why the job is not in line, but for its queue.
fn stands_aside(job: &Job, now: Timestamp) -> Option<Reason> {
    if !job.holds.is_empty() {
        return Some(Reason::Held(job.effective_holds()));
    }
    if let Some((_, on)) = job.waits_for.first() {
        return Some(Reason::DependsOn(*on));
    }
    if job.ties.hold() {
        let awaited = job.ties.awaited().next();
        return Some(awaited.map_or(Reason::Held(job.effective_holds()), Reason::DependsOn));
    }
    let time = job.not_before.filter(|time| *time > now);
    time.map(Reason::WaitingUntil)
}
