//! What to change so that a job starts sooner, if not now. For a job that has nodes reserved each change is brought to the
//! desk and asks for a reservation in its turn; for others the line is worked off in the mind as for the expected start.

use capstan_types::Timestamp;

use super::changes::{Candidate, LINE_MAX, asking};
use super::outlook::Reckoner;
use super::standing::{Place, Places, desk_at};
use super::{Asked, Confidence, ExpectedStart};
use crate::model::Pending;
use crate::plan::desk::Desk;
use crate::{Policy, State};

/// Most changes that are tried: each costs about as much as the expected start itself.
const TRIES_MAX: usize = 8;
/// Most that are told.
const SOONER_MAX: usize = 3;
/// Less than that is nothing to change a request for: seconds, …
const GAIN_LEAST_SECS: u64 = 300;
/// … and this part of the wait that is expected.
const GAIN_LEAST_PART: u64 = 10;

/// A change that helps.
pub(super) struct Helps {
    /// Its kind, and its place among those.
    pub(super) place: (usize, usize),
    pub(super) start: Start,
}

/// When a job would start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    Now,
    At(Timestamp, Confidence),
}

/// Of each kind of changes the mildest with which the job starts so much sooner that it is worth it. Those of each kind were
/// tried at the job's own place in line and do not start it now there.
pub(super) fn that_help<'a, 'k: 'a>(
    (asked, policy): (&Asked<'a>, &Policy),
    (start, reckoner): (ExpectedStart, &mut Reckoner<'_>),
    kinds: impl Iterator<Item = &'k [Candidate]>,
    desk: Option<Desk<'a>>,
) -> Vec<Helps> {
    let wait_secs = start.at.secs_since(asked.now);
    let gain_secs = GAIN_LEAST_SECS.max(wait_secs / GAIN_LEAST_PART);
    let Some(most_secs) = wait_secs.checked_sub(gain_secs) else {
        return Vec::new();
    };
    let latest = asked.now.plus_secs(most_secs);
    let Some(mut trial) = Trial::of((asked, policy), (start, latest), reckoner, desk) else {
        return Vec::new();
    };
    let is_worth_it = |start: &Start| match start {
        Start::Now => true,
        Start::At(at, _) => *at <= latest,
    };
    let mut found = Vec::new();
    for (number, kind) in kinds.enumerate() {
        for (at, candidate) in kind.iter().enumerate() {
            if found.len() == SOONER_MAX || trial.tries_left == 0 {
                return found;
            }
            trial.tries_left -= 1;
            if let Some(start) = trial.start(candidate).filter(is_worth_it) {
                let place = (number, at);
                found.push(Helps { place, start });
                break;
            }
        }
    }
    found
}

/// How changes are tried.
struct Trial<'a, 't, 'r> {
    asked: &'t Asked<'a>,
    policy: &'t Policy,
    places: Places<'a>,
    tries_left: usize,
    /// A later start is not worth a change.
    latest: Timestamp,
    /// At which nodes are reserved for those before the job.
    desk: Desk<'a>,
    /// Nothing where users take turns: every change may change the line, and a whole plan decides.
    reckoner: Option<&'t mut Reckoner<'r>>,
    /// Whether nodes are reserved for the job as it is.
    is_firm: bool,
}

impl<'a, 't, 'r> Trial<'a, 't, 'r> {
    /// `None` when nothing can be said of what would come of a change.
    fn of(
        (asked, policy): (&'t Asked<'a>, &'t Policy),
        (start, latest): (ExpectedStart, Timestamp),
        reckoner: &'t mut Reckoner<'r>,
        desk: Option<Desk<'a>>,
    ) -> Option<Self> {
        let places = Places::of(asked.state, policy, asked.now);
        let is_short = asked.plan.line.len() <= LINE_MAX;
        let reckoner = match (start.confidence, places.has_turns()) {
            (Confidence::Firm | Confidence::Likely, false) => Some(reckoner),
            (Confidence::Firm, true) if is_short => None,
            (Confidence::Firm | Confidence::Likely | Confidence::Guess, _) => return None,
        };
        Some(Self {
            asked,
            policy,
            places,
            tries_left: TRIES_MAX,
            latest,
            desk: desk.or_else(|| asking(asked, policy))?,
            reckoner,
            is_firm: start.confidence == Confidence::Firm,
        })
    }

    /// When the changed job would start.
    fn start<'k: 'a>(&mut self, candidate: &'k Candidate) -> Option<Start> {
        let (asked, job) = (self.asked, &candidate.job);
        if !self.desk.lets_wait_for_nodes(job) {
            return None;
        }
        if self.reckoner.is_none() {
            return planned(asked, &candidate.state);
        }
        let new = self.places.place(job);
        // Whom it would stand behind if it stood right behind itself are those before it.
        let before = match (self.before(new), asked.place) {
            (before, Some(own)) if before == own + 1 => own,
            (before, _) => before,
        };
        if self.has_turn(before) {
            return self.reserved(before, job);
        }
        let reckoner = self.reckoner.as_mut()?;
        if !reckoner.knows(&job.job) {
            return None;
        }
        let (_, size) = job.job.spec.kind_and_size();
        // Enough is free by number for who is said to start now, but not where it is needed; and a time that is sure is not
        // compared with one that is not.
        let at = reckoner.start(before, size);
        let at = at.filter(|at| *at > asked.now && !self.is_firm);
        at.map(|at| Start::At(at, Confidence::Likely))
    }

    /// When a job starts for which nodes are reserved behind so many others.
    fn reserved<'k: 'a>(&mut self, before: usize, job: &'k Pending) -> Option<Start> {
        let at = match self.asked.place == Some(before) {
            true => self.desk.reserved_by(job, self.latest),
            false => {
                let mut desk = desk_at(self.asked, self.policy, before)?;
                desk.promise_nothing_more();
                if desk.ask(job).is_none() {
                    return Some(Start::Now);
                }
                desk.reserved_by(job, self.latest)
            }
        };
        at.map(|at| Start::At(at, Confidence::Firm))
    }

    /// Whether nodes are reserved for who has so many before it in line. Whom a change lets pass, if any, is reserved for
    /// first, and of those it is not known whether any is left.
    fn has_turn(&self, before: usize) -> bool {
        let depth = usize::try_from(self.policy.backfill_depth).unwrap_or(usize::MAX);
        let passes_none = self.asked.place.is_some_and(|own| before <= own);
        let line = self.asked.plan.line.iter().take(before);
        let promises = self.asked.plan.promises.iter();
        let before = promises.filter(|promise| line.clone().any(|id| id.seq == promise.job.seq));
        passes_none && before.count() < depth.max(1)
    }

    /// How many are in line before a place.
    fn before(&mut self, new: Place) -> usize {
        let line = &self.asked.plan.line;
        let (mut low, mut high) = (0, line.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            // Those that start now are in no order any more.
            let mut waiting = (middle..high).filter_map(|at| {
                let other = self.asked.waiting_at(line[at])?;
                Some((at, other))
            });
            match waiting.next() {
                Some((at, other)) if self.places.place(other) < new => low = at + 1,
                Some(_) | None => high = middle,
            }
        }
        low
    }
}

/// When the job starts by a whole plan of the changed state.
fn planned(asked: &Asked<'_>, state: &State) -> Option<Start> {
    let again = crate::plan::plan(state, asked.now);
    let mut placements = again.placements.iter();
    if placements.any(|placement| asked.is_own(placement.job)) {
        return Some(Start::Now);
    }
    let mut promises = again.promises.iter();
    let own = promises.find(|promise| asked.is_own(promise.job));
    own.map(|promise| Start::At(promise.start, Confidence::Firm))
}
