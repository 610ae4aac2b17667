//! When time alone makes something due: a completed job ages out, a job's time comes, a silent node is judged.

use capstan_core::{Link, State};
use capstan_types::Timestamp;

/// The earliest time after `after` at which something is due; `None` when nothing will be without another event.
pub(super) fn next_due(state: &State, after: Timestamp) -> Option<Timestamp> {
    let settings = state.settings()?;
    let oldest = state.ended_until(Timestamp(u64::MAX));
    let ages_out = oldest.filter_map(|id| match &state.job(id)?.state {
        capstan_core::JobState::Ended(ended) => {
            Some(ended.at.plus_secs(settings.keep_completed_secs))
        }
        capstan_core::JobState::Pending
        | capstan_core::JobState::Starting(_)
        | capstan_core::JobState::Running(_)
        | capstan_core::JobState::Exiting(..) => None,
    });
    // Oldest first: the first one that is not overdue is the next.
    let ages_out = ages_out.take(AGED_OUT_AT_ONCE).find(|due| *due > after);
    let judged = state
        .nodes()
        .filter(|node| state.held_on(&node.name).next().is_some());
    let judged = judged.filter_map(|node| match node.link {
        Link::Lost(since) => Some(since.plus_secs(settings.node_lost_after_secs)),
        Link::Up(_) => None,
    });
    let time_comes = state.pending().filter_map(|job| job.not_before);
    let others = judged.chain(time_comes).filter(|due| *due > after);
    ages_out.into_iter().chain(others).min()
}

/// More jobs than this do not end in one instant that a tick has just dealt with.
const AGED_OUT_AT_ONCE: usize = 100_000;
