//! What to do after the server has said what should run here. Pure.

use std::collections::{BTreeMap, BTreeSet};

use capstan_types::AttemptId;

/// Where an attempt that this agent knows has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Being started, or running.
    Live,
    /// Ended; kept until the server says that it may be forgotten.
    Ended,
}

/// What a difference asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// The server gave this attempt up while we were away: two attempts of one job must not run.
    Stop(AttemptId),
}

/// Compares what is known with what is wanted.
///
/// An ended attempt that is not wanted stays: only `forget` says that its end is on the server's disk. A wanted one
/// that is not known needs nothing: the server orders its start again, or has heard from our hello that it is lost.
#[must_use]
pub(super) fn reconcile(
    known: &BTreeMap<AttemptId, Known>,
    wanted: &BTreeSet<AttemptId>,
) -> Vec<Action> {
    known
        .iter()
        .filter_map(|(attempt, phase)| match phase {
            Known::Live if !wanted.contains(attempt) => Some(Action::Stop(*attempt)),
            Known::Live | Known::Ended => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(live: &[u64], ended: &[u64], wanted: &[u64], stopped: &[u64]) {
        let ids = |numbers: &[u64]| numbers.iter().copied().map(AttemptId).collect::<Vec<_>>();
        let live = ids(live).into_iter().map(|id| (id, Known::Live));
        let ended = ids(ended).into_iter().map(|id| (id, Known::Ended));
        let actions = reconcile(
            &live.chain(ended).collect(),
            &ids(wanted).into_iter().collect(),
        );
        let expected: Vec<Action> = ids(stopped).into_iter().map(Action::Stop).collect();
        assert_eq!(actions, expected);
    }

    #[test]
    fn live_attempts_that_nobody_wants_are_stopped() {
        check(&[], &[], &[], &[]);
        check(&[1, 2], &[], &[1, 2], &[]);
        check(&[1, 2], &[], &[2], &[1]);
        check(&[1, 2], &[], &[], &[1, 2]);
    }

    #[test]
    fn ended_attempts_wait_for_forget() {
        check(&[], &[1], &[], &[]);
        check(&[2], &[1], &[2], &[]);
    }

    #[test]
    fn wanted_attempts_that_are_unknown_are_the_servers_to_order() {
        check(&[], &[], &[3], &[]);
        check(&[1], &[], &[1, 3], &[]);
    }
}
