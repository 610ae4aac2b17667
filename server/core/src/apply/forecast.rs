//! What waiting jobs are told of their start, and what is learnt from it when they do start.

use std::sync::Arc;

use super::draft::Draft;
use crate::{Change, Forecast, Job, JobState};

/// The forecast that `job` has from now on: a new one when it begins to wait, or waits for something else than before.
pub(super) fn told(draft: &Draft, before: Option<&Job>, job: &Job) -> Option<Forecast> {
    if !matches!(job.state, JobState::Pending) {
        return job.forecast;
    }
    if !job.is_eligible(draft.now) {
        return None;
    }
    let is_as_before = |before: &Job| {
        matches!(before.state, JobState::Pending)
            && before.queue == job.queue
            && before.priority == job.priority
            && Arc::ptr_eq(&before.spec, &job.spec)
    };
    let kept = job.forecast.filter(|_| before.is_some_and(is_as_before));
    kept.or_else(|| Some(draft.state.forecast(job, draft.now)))
}

/// Learns of those who should have started by now and have not.
pub(super) fn learn_of_late(draft: &mut Draft) {
    let known = draft.state.forecasts();
    let mut late = draft
        .state
        .told_between(known.seen_until(), draft.now)
        .peekable();
    if late.peek().is_none() {
        return;
    }
    let forecasts = Arc::new(known.after_late(late, draft.now));
    draft.put_forecasts(Change::PutForecasts(forecasts));
}

/// Learns from the start of `job`, which is about to be placed.
pub(super) fn learn(draft: &mut Draft, job: &Job) {
    let Some(told) = job.told_before(draft.now) else {
        return;
    };
    let forecasts = draft.state.forecasts().after(told, draft.now);
    draft.put_forecasts(Change::PutForecasts(Arc::new(forecasts)));
}
