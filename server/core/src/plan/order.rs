//! Who is in line, in which order, and who stands aside with which reason.

use std::cmp::Reverse;
use std::sync::Arc;

use capstan_types::{JobId, Reason, Timestamp};

use crate::{Job, Scheduler, Settings, State};

/// Waiting jobs, sorted out.
pub(super) struct Line<'a> {
    /// Those to be considered, first come first.
    pub(super) jobs: Vec<&'a Arc<Job>>,
    /// Those that may not be considered now.
    pub(super) aside: Vec<(JobId, Reason)>,
}

/// Order: priority of the queue, priority of the job where the site's scheduler looks at it, age, id.
pub(super) fn line_up(state: &State, now: Timestamp) -> Line<'_> {
    let settings = state.settings();
    let ignores_priority = settings.is_some_and(|settings| settings.scheduler == Scheduler::Fifo);
    let mut line = Vec::new();
    let mut aside = Vec::new();
    for job in state.pending() {
        let id = match &job.array {
            None => job.id,
            // An array stands in line as its next member does, behind members that are to run again.
            Some(array) => match array.waiting.first() {
                Some(next) => JobId::member(job.id.seq, next),
                None => continue, // Its members speak for themselves.
            },
        };
        match stands_aside(job, state.settings().map(AsRef::as_ref), now) {
            Err(reason) => aside.push((job.id, reason)),
            Ok(queue_priority) => {
                let priority = if ignores_priority { 0 } else { job.priority };
                let (age, id) = job.place.unwrap_or((job.queued, id));
                let key = (Reverse(queue_priority), Reverse(priority), age, id);
                line.push((key, job));
            }
        }
    }
    // Stable and fast on what is nearly in order already, as ids and ages are.
    line.sort_by_key(|(key, _)| *key);
    Line {
        jobs: line.into_iter().map(|(_, job)| job).collect(),
        aside,
    }
}

/// The priority of its queue, or why the job is not in line.
fn stands_aside(job: &Job, settings: Option<&Settings>, now: Timestamp) -> Result<i64, Reason> {
    if !job.holds.is_empty() {
        return Err(Reason::Held(job.effective_holds()));
    }
    if let Some((_, on)) = job.waits_for.first() {
        return Err(Reason::DependsOn(*on));
    }
    if job.ties.hold() {
        let awaited = job.ties.awaited().next();
        return Err(awaited.map_or(Reason::Held(job.effective_holds()), Reason::DependsOn));
    }
    if let Some(time) = job.not_before.filter(|time| *time > now) {
        return Err(Reason::WaitingUntil(time));
    }
    // A queue that is gone from the settings starts nothing, and its jobs say so.
    match settings.and_then(|settings| settings.queues.get(&job.queue)) {
        Some(queue) if queue.is_started() => Ok(queue.priority()),
        Some(_) | None => Err(Reason::QueueStopped(job.queue.clone())),
    }
}
