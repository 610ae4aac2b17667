//! Jobs that wait in routing queues: tried again from time to time, first come first served, until a destination takes
//! them or the time that a job may wait there is over. A job that is held or has a time of its own waits as long, unless
//! the queue says otherwise (`route_held_jobs`, `route_waiting_jobs`), as in Torque.

use std::sync::Arc;

use capstan_types::Timestamp;

use super::alter::strip_defaults;
use super::delete::{drop_waiting, members};
use super::draft::Draft;
use super::moving::is_running;
use super::routing;
use super::submit::enter;
use crate::{Account, Ended, Job, JobEvent, JobSpec, Queue, Rejection, Settings, State};

/// Between two tries when `route_retry_time` does not say: Torque's PBS_NET_RETRY_TIME.
const RETRY_SECS: u64 = 30;
/// The shortest such time: each try looks at all jobs that wait.
const RETRY_SECS_MIN: u64 = 1;
/// Most jobs of one queue that are tried at once.
const TRIED_MAX: usize = 10_000;
/// Exit status of a job that waited for too long, as of one whose dependency failed: 256 + SIGTERM.
const EXIT_EXPIRED: i32 = 271;

/// Tries all jobs that wait in routing queues.
pub(super) fn retry(draft: &mut Draft, settings: &Arc<Settings>) -> Result<(), Rejection> {
    let state = draft.state.clone();
    for queue in waiting_queues(&state, settings) {
        let mut jobs = jobs_of(&draft.state, queue);
        jobs.sort_by_key(|job| job.place());
        for job in jobs.into_iter().take(TRIED_MAX) {
            match expires(queue, &job).is_some_and(|at| at <= draft.now) {
                true => expire(draft, &job)?,
                false => try_one(draft, settings, queue, &job)?,
            }
        }
    }
    Ok(())
}

/// When jobs in routing queues are to be tried next, where that was last done at `after`.
#[must_use]
pub fn next_routing(state: &State, after: Timestamp) -> Option<Timestamp> {
    let settings = state.settings()?;
    let queues = waiting_queues(state, settings);
    let due = queues.map(|queue| {
        let retry = queue.attributes.limit("route_retry_time");
        let retry = after.plus_secs(retry.unwrap_or(RETRY_SECS).max(RETRY_SECS_MIN));
        let ends = jobs_of(state, queue);
        let ends = ends.iter().filter_map(|job| expires(queue, job));
        ends.filter(|end| *end > after).fold(retry, Timestamp::min)
    });
    due.min()
}

/// Routing queues that are started and have jobs.
fn waiting_queues<'a>(
    state: &'a State,
    settings: &'a Settings,
) -> impl Iterator<Item = &'a Queue> + use<'a> {
    let routing = settings.queues.values();
    let routing = routing.filter(|queue| queue.is_routing() && queue.is_started());
    routing.filter(|queue| state.live_in_queue(&queue.name, None) > 0)
}

fn jobs_of(state: &State, queue: &Queue) -> Vec<Arc<Job>> {
    let pending = state.pending().filter(|job| job.queue == queue.name);
    // Members with records of their own go with their array.
    let own = pending.filter(|job| !matches!(job.id.part, capstan_types::JobPart::Member(_)));
    own.cloned().collect()
}

/// `route_lifetime`: when a job has waited there for too long.
fn expires(queue: &Queue, job: &Job) -> Option<Timestamp> {
    let secs = queue.attributes.limit("route_lifetime")?;
    (secs > 0).then(|| job.queued.plus_secs(secs))
}

fn expire(draft: &mut Draft, job: &Arc<Job>) -> Result<(), Rejection> {
    let mut job = Job::clone(job);
    job.comment = Some("Time in Route Queue Expired".into());
    drop_waiting(draft, &mut job);
    let ended = Ended {
        at: draft.now,
        exit_status: Some(EXIT_EXPIRED),
        run: None,
        cause: Box::default(),
    };
    let job = draft.advance(job, JobEvent::Ended(ended))?;
    draft.account(&job, Account::Aborted);
    Ok(())
}

fn try_one(
    draft: &mut Draft,
    settings: &Arc<Settings>,
    queue: &Queue,
    job: &Arc<Job>,
) -> Result<(), Rejection> {
    let is_held = !job.effective_holds().is_empty() && !queue.is("route_held_jobs");
    let waits = job.not_before.is_some_and(|time| time > draft.now);
    if is_held || (waits && !queue.is("route_waiting_jobs")) || is_running(job) {
        return Ok(());
    }
    let Some(moved) = handed_on(draft, settings, queue, job) else {
        return Ok(());
    };
    let moved = draft.put(moved)?;
    draft.account(&moved, Account::Queued);
    for member in members(draft, job.id) {
        let member = Job {
            spec: moved.spec.clone(),
            queue: moved.queue.clone(),
            queued: moved.queued,
            ..Job::clone(&member)
        };
        draft.put(member)?;
    }
    Ok(())
}

/// The job as it is in the first queue that takes it.
fn handed_on(draft: &Draft, settings: &Settings, queue: &Queue, job: &Job) -> Option<Job> {
    let mut asked = JobSpec::clone(&job.spec);
    strip_defaults(&mut asked);
    let (to, spec) = routing::hand_on(settings, queue, &mut |queue, entry| {
        enter(draft, &asked, queue, entry)
    })?;
    Some(Job {
        spec: Arc::new(spec),
        queue: to.name.clone(),
        queued: draft.now,
        place: None,
        ..job.clone()
    })
}
