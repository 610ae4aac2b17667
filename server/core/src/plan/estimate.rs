//! How long a waiting job is expected to run: as its user's last jobs like it did. Only the order of jobs looks at this;
//! what a job may hold, and until when, is said by its walltime.

use std::collections::BTreeMap;

use capstan_types::Timestamp;

use crate::model::UserHistory;
use crate::{Job, Policy, State};

/// The estimates of one plan.
pub(super) struct Estimates<'a> {
    state: &'a State,
    is_wanted: bool,
    /// How long running jobs of the same user, name and size have run already: the next will not be done sooner.
    running: BTreeMap<Like<'a>, u64>,
    last: Option<(Like<'a>, Option<u64>)>,
    user: Option<(&'a str, Option<&'a UserHistory>)>,
}

/// What makes jobs alike: user, name, size.
type Like<'a> = (&'a str, &'a str, u32);

impl<'a> Estimates<'a> {
    pub(super) fn of(state: &'a State, policy: &Policy, now: Timestamp) -> Self {
        let is_wanted = policy.weights.shortness != 0;
        let mut running: BTreeMap<Like<'a>, u64> = BTreeMap::new();
        if is_wanted {
            for (_, job) in state.running() {
                let elapsed = job.state.run().map_or(0, |run| run.elapsed_secs(now));
                let longest = running.entry(like(job)).or_default();
                *longest = (*longest).max(elapsed);
            }
        }
        Self {
            state,
            is_wanted,
            running,
            last: None,
            user: None,
        }
    }

    /// Seconds; at most the walltime, which is also what counts for a user without history.
    pub(super) fn of_job(&mut self, job: &'a Job, walltime_secs: u64) -> u64 {
        if !self.is_wanted {
            return walltime_secs;
        }
        let like = like(job);
        // Most jobs are like the one before them.
        let known = match self.last {
            Some((last, known)) if last == like => known,
            Some(_) | None => {
                let known = self.look_up(like);
                self.last = Some((like, known));
                known
            }
        };
        known.map_or(walltime_secs, |secs| secs.min(walltime_secs))
    }

    fn look_up(&mut self, like: Like<'a>) -> Option<u64> {
        let (user, name, size) = like;
        let history = match self.user {
            Some((last, history)) if last == user => history,
            Some(_) | None => {
                let history = self.state.history_of(user);
                self.user = Some((user, history));
                history
            }
        };
        let get = |name: &str, size: u32| history?.get(name)?.get(&size);
        let past = get(name, size)
            .or_else(|| get("", size))
            .or_else(|| get("", 0));
        let past = past.map(|times| times.estimate_secs());
        let elapsed = self.running.get(&like).copied();
        past.map(|past| past.max(elapsed.unwrap_or(0)))
    }
}

fn like(job: &Job) -> Like<'_> {
    (&job.spec.owner.user, &job.spec.name, job.spec.size())
}
