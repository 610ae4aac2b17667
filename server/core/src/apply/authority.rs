//! Who may do what: owners to their own jobs, operators to all jobs and nodes, managers everything, root always.

use capstan_types::JobId;

use super::draft::Draft;
use crate::{Caller, Holds, Job, Rejection, Settings};

const ROOT: u32 = 0;

impl Draft {
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

    /// Owners set and release user holds; the others are for operators.
    pub(super) fn require_holds(
        &self,
        holds: Holds,
        uid: u32,
        user: &str,
    ) -> Result<(), Rejection> {
        let is_allowed = holds.without(Holds::USER).is_empty() || self.is_operator(uid, user);
        is_allowed.then_some(()).ok_or(Rejection::NotOperator)
    }

    fn is_operator(&self, uid: u32, user: &str) -> bool {
        let settings = self.state.settings().map(AsRef::as_ref);
        is_manager(settings, uid, user)
            || settings.is_some_and(|settings| names(&settings.operators, user))
    }
}

fn is_manager(settings: Option<&Settings>, uid: u32, user: &str) -> bool {
    uid == ROOT || settings.is_some_and(|settings| names(&settings.managers, user))
}

fn names(users: &[Box<str>], user: &str) -> bool {
    users.iter().any(|name| **name == *user)
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
