//! How long a waiting job is expected to run: as its user's last jobs like it did. Only the order of jobs looks at this;
//! what a job may hold, and until when, is said by its walltime.

use crate::model::{Pending, UserHistory};
use crate::{Job, Policy, RunTimes, State};

/// The estimates of one plan.
pub(super) struct Estimates<'a> {
    state: &'a State,
    is_wanted: bool,
    /// By profile, once asked for.
    known: Vec<Option<Option<RunTimes>>>,
    user: Option<(&'a str, Option<&'a UserHistory>)>,
}

/// What makes jobs alike: user, name, size.
type Like<'a> = (&'a str, &'a str, u32);

impl<'a> Estimates<'a> {
    pub(super) fn of(state: &'a State, policy: &Policy) -> Self {
        let is_wanted = policy.weights.shortness != 0;
        Self {
            state,
            is_wanted,
            known: vec![None; state.profile_bound()],
            user: None,
        }
    }

    /// Seconds; at most the walltime, which is also what counts for a user without history.
    pub(super) fn of_job(&mut self, pending: &'a Pending) -> u64 {
        self.of_alike((pending.profile, pending.walltime_secs), || Some(pending))
    }

    /// The same for jobs of a profile and walltime, of which `one` finds one.
    pub(super) fn of_alike(
        &mut self,
        (profile, walltime_secs): (Option<u32>, u64),
        one: impl FnOnce() -> Option<&'a Pending>,
    ) -> u64 {
        if !self.is_wanted {
            return walltime_secs;
        }
        let at = profile.map_or(usize::MAX, |at| at as usize);
        let known = match self.known.get(at) {
            Some(Some(known)) => *known,
            Some(None) | None => {
                let found = one().and_then(|one| self.look_up(like(&one.job, one.size)));
                if let Some(place) = self.known.get_mut(at) {
                    *place = Some(found);
                }
                found
            }
        };
        known.map_or(walltime_secs, |times| times.estimate_secs(walltime_secs))
    }

    fn look_up(&mut self, like: Like<'a>) -> Option<RunTimes> {
        let (user, name, size) = like;
        let history = match self.user {
            Some((last, history)) if last == user => history,
            Some(_) | None => {
                let history = self.state.history_of(user);
                self.user = Some((user, history));
                history
            }
        }?;
        let get = |name: &str, size: u32| history.get(name)?.get(&size);
        let past = get(name, size).or_else(|| get("", size));
        let past = past.or_else(|| get("", 0));
        past.copied()
    }
}

fn like(job: &Job, size: u32) -> Like<'_> {
    (&job.spec.owner.user, &job.spec.name, size)
}
