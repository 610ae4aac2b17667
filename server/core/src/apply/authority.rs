//! Who may do what: owners to their own jobs, operators to all jobs and nodes, managers everything, root always.

use std::sync::Arc;

use capstan_types::JobId;

use super::draft::Draft;
use crate::{Caller, Holds, Job, JobState, OrderProblem, Rejection, Settings};

const ROOT: u32 = 0;

impl Draft {
    /// A job that `by` may order about, and that is not over or about to be.
    pub(super) fn live_job(&self, id: JobId, by: &Caller) -> Result<Arc<Job>, Rejection> {
        let job = self.job(id)?;
        self.require_owner(&job, id, by)?;
        match &job.state {
            JobState::Ended(_) => Err(Rejection::AlreadyEnded(id)),
            JobState::Exiting(..) => Err(Rejection::Order(OrderProblem::Exiting(id))),
            JobState::Pending | JobState::Starting(_) | JobState::Running(_) => Ok(job),
        }
    }

    pub(super) fn require_manager(&self, by: &Caller) -> Result<(), Rejection> {
        let allowed = is_manager(self.state.settings().map(AsRef::as_ref), by.uid, &by.user);
        allowed.then_some(()).ok_or(Rejection::NotManager)
    }

    pub(super) fn require_operator(&self, by: &Caller) -> Result<(), Rejection> {
        let allowed = self.is_operator(by.uid, &by.user);
        allowed.then_some(()).ok_or(Rejection::NotOperator)
    }

    pub(super) fn require_owner(&self, job: &Job, id: JobId, by: &Caller) -> Result<(), Rejection> {
        let allowed = *job.spec.owner.user == *by.user || self.is_operator(by.uid, &by.user);
        allowed.then_some(()).ok_or(Rejection::NotOwner(id))
    }

    /// Owners set and release user holds, operators also their own kind, managers all.
    pub(super) fn require_holds(
        &self,
        holds: Holds,
        uid: u32,
        user: &str,
    ) -> Result<(), Rejection> {
        if holds.without(Holds::USER).is_empty() {
            return Ok(());
        }
        if holds.contains(Holds::SYSTEM) {
            let settings = self.state.settings().map(AsRef::as_ref);
            let is_allowed = is_manager(settings, uid, user);
            return is_allowed.then_some(()).ok_or(Rejection::NotManager);
        }
        let is_allowed = self.is_operator(uid, user);
        is_allowed.then_some(()).ok_or(Rejection::NotOperator)
    }

    pub(super) fn is_operator(&self, uid: u32, user: &str) -> bool {
        let settings = self.state.settings().map(AsRef::as_ref);
        is_manager(settings, uid, user)
            || settings.is_some_and(|settings| settings.is_operator(uid, user, &settings.host))
    }
}

/// Every caller is known to the kernel of this host, or of a node that is trusted as this host is.
fn is_manager(settings: Option<&Settings>, uid: u32, user: &str) -> bool {
    uid == ROOT || settings.is_some_and(|settings| settings.is_manager(uid, user, &settings.host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_may_always() {
        assert!(is_manager(None, 0, "root"));
        assert!(!is_manager(None, 1000, "root"));
    }
}
