//! Who is in line, in which order, and who stands aside with which reason.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use capstan_types::{JobId, QueueName, Reason, Timestamp};

use super::estimate::Estimates;
use super::score::{Factors, Scores};
use crate::model::{Pending, Row, RowKey};
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
    job: &'a Pending,
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

/// Waiting jobs and what they are lined up by.
pub(super) struct Candidates<'a> {
    /// When the next of them has waited for so long that it goes to the front.
    pub(super) next_starving: Option<Timestamp>,
    state: &'a State,
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
    /// None yet.
    pub(super) fn of(state: &'a State, policy: &Policy, now: Timestamp) -> Self {
        Self {
            next_starving: None,
            state,
            settings: state.settings().map(AsRef::as_ref),
            policy: *policy,
            now,
            scores: Scores::of(state, policy, now),
            estimates: Estimates::of(state, policy),
            profiles: vec![None; state.profile_bound()],
        }
    }

    /// Where a job stands in line; `None` when it stands aside, and why, if it waits for something at all.
    fn stand(&mut self, pending: &'a Pending) -> Result<Place, Option<Reason>> {
        let job = &pending.job;
        let (mut came, mut is_uncalled) = (pending.came, true);
        if !pending.is_plain {
            // An array stands in line as its next member does, behind members that are to run again.
            let next = job.array.as_ref().map(|array| array.waiting.first());
            let id = match next {
                None => job.id,
                Some(Some(next)) => JobId::member(job.id.seq, next),
                Some(None) => return Err(None), // Its members speak for themselves.
            };
            if let Some(reason) = stands_aside(job, self.now) {
                return Err(Some(reason));
            }
            came = job.place.unwrap_or((job.queued, id));
            is_uncalled = job.first_until.is_none_or(|until| until <= self.now);
        }
        let look = Look {
            profile: pending.profile,
            walltime_secs: pending.walltime_secs,
            size: pending.size,
            priority: pending.priority,
        };
        let place = self.place(look, (came, is_uncalled), || Some(pending));
        place.ok_or_else(|| Some(self.why_not(&job.queue)))
    }

    /// The place of a job that looks so, like which `one` finds one; `None` when its queue starts nothing.
    fn place(
        &mut self,
        look: Look,
        (came, is_uncalled): ((Timestamp, JobId), bool),
        one: impl Fn() -> Option<&'a Pending>,
    ) -> Option<Place> {
        let OfProfile { priority, account } = self.of_profile(look.profile, &one)?;
        let queue_priority = priority?;
        let starves_at = self.starves_at(came.0);
        let has_starved = starves_at.is_some_and(|at| at <= self.now);
        // Of somebody who has had more than his share every job starves some day: that is no way around the shares.
        let goes_first = has_starved && !self.scores.is_ahead(account);
        let is_patient = is_uncalled && !goes_first;
        if let Some(at) = starves_at.filter(|_| is_patient && !has_starved) {
            self.note_starving(at);
        }
        let score = match is_patient {
            true => {
                let factors = self.factors(look, (queue_priority, came.0), one);
                let score = self.scores.of_job(factors);
                score.saturating_add(self.scores.of_account(account))
            }
            false => 0,
        };
        Some(Place {
            is_uncalled,
            is_patient,
            score: Reverse(score),
            came,
        })
    }

    fn starves_at(&self, came: Timestamp) -> Option<Timestamp> {
        let after = self.policy.starve_after_secs;
        after.map(|secs| came.plus_secs(secs))
    }

    fn note_starving(&mut self, at: Timestamp) {
        self.next_starving = Some(self.next_starving.map_or(at, |next| next.min(at)));
    }

    fn factors(
        &mut self,
        look: Look,
        (queue_priority, since): (i64, Timestamp),
        one: impl FnOnce() -> Option<&'a Pending>,
    ) -> Factors {
        let alike = (look.profile, look.walltime_secs);
        Factors {
            queue_priority,
            priority: look.priority,
            since,
            size: look.size,
            estimate_secs: self.estimates.of_alike(alike, one),
        }
    }

    fn of_profile(
        &mut self,
        profile: Option<u32>,
        one: impl FnOnce() -> Option<&'a Pending>,
    ) -> Option<OfProfile> {
        let at = profile.map_or(usize::MAX, |at| at as usize);
        if let Some(Some(known)) = self.profiles.get(at) {
            return Some(*known);
        }
        let job = &one()?.job;
        let queue = self.settings.and_then(|all| all.queues.get(&job.queue));
        let started = queue.filter(|queue| queue.is_started() && !queue.is_routing());
        let found = OfProfile {
            priority: started.map(|queue| queue.priority()),
            account: self.scores.account(job),
        };
        if let Some(place) = self.profiles.get_mut(at) {
            *place = Some(found);
        }
        Some(found)
    }

    /// Why nothing starts from a queue. One that is gone from the settings starts nothing, and its jobs say so.
    fn why_not(&self, name: &QueueName) -> Reason {
        let queue = self.settings.and_then(|all| all.queues.get(name));
        match queue.is_some_and(|queue| queue.is_started()) {
            true => Reason::NoDestination(name.clone()),
            false => Reason::QueueStopped(name.clone()),
        }
    }

    /// Whether places do not depend on one another, and of jobs that differ in nothing else who came first is first: users
    /// do not take turns, no queue is in strict order, and waiting counts for nobody's harm.
    pub(super) fn is_simple(&self) -> bool {
        let has_turns = self.scores.has_turns() || self.strict_queues().next().is_some();
        !has_turns && self.policy.weights.age >= 0
    }

    /// The first of each row, and all that are in none.
    pub(super) fn heads(&mut self) -> Vec<Head> {
        let state = self.state;
        let mut heads = Vec::new();
        for (key, row) in state.rows().rows() {
            heads.extend(self.head(*key, *row));
        }
        for id in state.rows().singles() {
            let Some(pending) = state.waiting_job(id) else {
                continue;
            };
            heads.extend(self.stand(pending).ok().map(|place| Head {
                place,
                id,
                profile: pending.profile,
                walltime_secs: pending.walltime_secs,
                row: None,
            }));
        }
        heads
    }

    /// Who stands behind a head in its row.
    pub(super) fn behind(&mut self, head: &Head) -> Option<Head> {
        let (key, size) = head.row?;
        let first = self.state.rows().behind(key, head.place.came)?;
        self.head(key, Row { first, size })
    }

    fn head(&mut self, key: RowKey, row: Row) -> Option<Head> {
        let look = Look {
            profile: Some(key.profile),
            walltime_secs: key.walltime_secs,
            size: row.size,
            priority: key.priority,
        };
        let (state, id) = (self.state, row.first.1);
        let place = self.place(look, (row.first, true), || state.waiting_job(id))?;
        if let Some(time) = self.starved_since().filter(|time| row.first.0 <= *time) {
            // The head has starved; when the next of the row does matters as well.
            let next = state.rows().after(key, time);
            if let Some(at) = next.and_then(|(came, _)| self.starves_at(came)) {
                self.note_starving(at);
            }
        }
        Some(Head {
            place,
            id,
            profile: Some(key.profile),
            walltime_secs: key.walltime_secs,
            row: Some((key, row.size)),
        })
    }

    /// Who came then or before has starved.
    fn starved_since(&self) -> Option<Timestamp> {
        let millis = self.policy.starve_after_secs?.saturating_mul(1000);
        self.now.0.checked_sub(millis).map(Timestamp)
    }

    fn strict_queues(&self) -> impl Iterator<Item = &'a QueueName> + use<'a> {
        let queues = self.settings.into_iter().flat_map(|all| &all.queues);
        let strict = queues.filter(|(_, queue)| queue.is("strict_fifo"));
        strict.map(|(name, _)| name)
    }

    /// Lines them up.
    pub(super) fn line_up(&mut self) -> Line<'a> {
        let waiting = self.state.waiting();
        let mut entries = Vec::with_capacity(waiting.len());
        let mut aside = Vec::new();
        for job in waiting {
            match self.stand(job) {
                Ok(place) => entries.push(Entry { place, job }),
                Err(reason) => aside.extend(reason.map(|reason| (job.job.id, reason))),
            }
        }
        entries.sort_unstable();
        if self.scores.has_turns() {
            entries = self.by_turns(entries);
        }
        let mut jobs: Vec<&'a Pending> = entries.into_iter().map(|entry| entry.job).collect();
        for queue in self.strict_queues() {
            keep_arrival(&mut jobs, queue);
        }
        Line { jobs, aside }
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
        let job = entry.job;
        let of_profile = self.of_profile(job.profile, || Some(job));
        let priority = of_profile.and_then(|of| of.priority).unwrap_or(0);
        let look = Look {
            profile: job.profile,
            walltime_secs: job.walltime_secs,
            size: job.size,
            priority: job.priority,
        };
        let factors = self.factors(look, (priority, entry.place.came.0), || Some(job));
        Claim {
            estimate_secs: factors.estimate_secs,
            account: of_profile.and_then(|of| of.account),
            score: self.scores.of_job(factors),
        }
    }
}

/// What of a job counts for its place, but when it came.
#[derive(Clone, Copy)]
struct Look {
    profile: Option<u32>,
    /// Seconds.
    walltime_secs: u64,
    /// Cards in all, of a job without cards slots.
    size: u32,
    priority: i32,
}

/// The first of a row, or a job in no row; lowest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Head {
    place: Place,
    pub(super) id: JobId,
    pub(super) profile: Option<u32>,
    /// Seconds.
    pub(super) walltime_secs: u64,
    /// Its row, and what the jobs in it have of cards.
    row: Option<(RowKey, u32)>,
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
pub(super) fn stands_aside(job: &Job, now: Timestamp) -> Option<Reason> {
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
