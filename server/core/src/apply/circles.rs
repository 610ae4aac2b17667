//! Jobs that would wait for themselves, through however many others. Jobs that start together stand and fall as one: what
//! one of them waits for, all do.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use capstan_types::{JobId, JobPart};

use super::dependencies::Bonds;
use super::draft::Draft;
use crate::{Job, JobState, Rejection, Sync};

/// Most jobs that are looked at for a circle. Who builds more than this must wait for some of them to end.
const CIRCLE_JOBS_MAX: usize = 100_000;
/// Most jobs of a circle that are named.
const CIRCLE_NAMED_MAX: usize = 50;

/// Refuses `bonds` of the job `own` (not there yet, for a new one) that would make a job wait for itself.
///
/// # Errors
/// The way from the job back to itself.
pub(super) fn refuse_circles(
    draft: &Draft,
    own: Option<JobId>,
    bonds: &Bonds,
) -> Result<(), Rejection> {
    let mates = match &bonds.ties.sync {
        Some(Sync::With(master)) => [vec![*master], mates(draft, *master)].concat(),
        Some(Sync::Count { joined, .. }) => joined.clone(),
        None => Vec::new(),
    };
    let targets = bonds.before.iter().map(|(_, target)| *target);
    let goals: Vec<JobId> = targets.clone().chain(own).chain(mates.clone()).collect();
    if goals.is_empty() {
        return Ok(()); // Nobody waits for a job that is not there yet.
    }
    let start = own.unwrap_or_else(|| JobId::whole(draft.state.next_seq()));
    if let Some(mate) = targets.clone().find(|target| mates.contains(target)) {
        return Err(Rejection::DependencyLoop(vec![start, mate, start]));
    }
    let mut search = Search {
        draft,
        own,
        start,
        goals,
        waited_by: BTreeMap::new(),
        ahead: Vec::new(),
    };
    let first = bonds.waits_for.iter().map(|(_, on)| *on);
    let arrays = bonds.ties.members.iter().map(|wait| wait.array);
    first
        .chain(arrays)
        .try_for_each(|id| search.reach(id, start))?;
    for mate in mates.into_iter().filter(|mate| *mate != start) {
        search.waited_by.entry(mate).or_insert(start);
        search.go_on_from(mate)?;
    }
    search.finish()
}

/// A walk along what is waited for.
struct Search<'d> {
    draft: &'d Draft,
    own: Option<JobId>,
    /// Where the walk begins.
    start: JobId,
    /// Where it may not end: what waits for the start, and the start itself.
    goals: Vec<JobId>,
    /// Who was found to be waited for by whom first.
    waited_by: BTreeMap<JobId, JobId>,
    ahead: Vec<JobId>,
}

impl Search<'_> {
    /// `by` waits for `id`.
    fn reach(&mut self, id: JobId, by: JobId) -> Result<(), Rejection> {
        let is_end = id == self.start || self.goals.iter().any(|goal| concerns(id, *goal));
        if is_end || self.waited_by.len() > CIRCLE_JOBS_MAX {
            return Err(self.circle(id, by));
        }
        if let Entry::Vacant(place) = self.waited_by.entry(id) {
            place.insert(by);
            self.ahead.push(id);
        }
        Ok(())
    }

    fn go_on_from(&mut self, id: JobId) -> Result<(), Rejection> {
        let mut waits = waits_of(self.draft, id).into_iter();
        waits.try_for_each(|next| self.reach(next, id))
    }

    fn finish(mut self) -> Result<(), Rejection> {
        while let Some(id) = self.ahead.pop() {
            self.go_on_from(id)?;
            for mate in mates(self.draft, id) {
                // As it is stored `own` may be of a set still that it is about to leave.
                if self.own != Some(mate) {
                    self.reach(mate, id)?;
                }
            }
        }
        Ok(())
    }

    /// From the start to `by`, which waits for `end`, and back to the start.
    fn circle(&self, end: JobId, by: JobId) -> Rejection {
        let mut way = vec![self.start];
        way.extend(Some(end).filter(|end| *end != self.start));
        let mut at = by;
        while at != self.start && way.len() < CIRCLE_NAMED_MAX {
            way.push(at);
            match self.waited_by.get(&at) {
                Some(before) => at = *before,
                None => break,
            }
        }
        way.push(self.start);
        way.reverse();
        Rejection::DependencyLoop(way)
    }
}

/// Whether what holds one of them holds the other: equal, or an array and a member of it.
fn concerns(one: JobId, other: JobId) -> bool {
    let is_array = |id: JobId| id.part == JobPart::Array;
    one == other || (one.seq == other.seq && (is_array(one) || is_array(other)))
}

/// What `id` waits for; for an array also what its members with a record do.
fn waits_of(draft: &Draft, id: JobId) -> Vec<JobId> {
    let job = draft.state.resolve(id).into_iter();
    let is_array = id.part == JobPart::Array;
    let members = draft.state.submission(id.seq).filter(|_| is_array).cloned();
    let jobs = job.chain(members).filter(|job| !job.has_ended());
    let waits = |job: &Job| -> Vec<JobId> {
        let jobs = job.waits_for.iter().map(|(_, on)| *on);
        let arrays = job.ties.members.iter().map(|wait| wait.array);
        jobs.chain(arrays).collect()
    };
    jobs.flat_map(|job| waits(&job)).collect()
}

/// The waiting jobs that the waiting job `id` starts together with, so far as its set is complete yet. Arrays have their
/// own pace.
fn mates(draft: &Draft, id: JobId) -> Vec<JobId> {
    let Some(job) = draft.state.job(id) else {
        return Vec::new();
    };
    let joined = |master: JobId| match draft.state.job(master).map(|job| &job.ties.sync) {
        Some(Some(Sync::Count { joined, .. })) => joined.clone(),
        Some(Some(Sync::With(_)) | None) | None => Vec::new(),
    };
    let known = match &job.ties.sync {
        Some(Sync::Count { joined, .. }) => joined.clone(),
        Some(Sync::With(master)) => [vec![*master], joined(*master)].concat(),
        None => job.ties.set.clone(),
    };
    let is_one = |job: &Job| matches!(job.state, JobState::Pending) && !job.is_array();
    if !is_one(job) {
        return Vec::new();
    }
    let mates = known.into_iter().filter(|mate| *mate != id);
    mates
        .filter(|mate| draft.state.job(*mate).is_some_and(|mate| is_one(mate)))
        .collect()
}
