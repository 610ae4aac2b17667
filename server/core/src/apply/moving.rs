//! `qmove`: a waiting job leaves its queue for another. What the old queue gave it goes, what the new one gives comes.

use std::sync::Arc;

use capstan_types::QueueName;

use super::alter::strip_defaults;
use super::delete::members;
use super::dependencies::check_set;
use super::draft::Draft;
use super::limits::Entry;
use super::routing;
use super::submit::enter;
use crate::{Account, Caller, Job, JobSpec, MoveOrder, OrderProblem, Rejection};

pub(super) fn relocate(draft: &mut Draft, order: &MoveOrder) -> Result<(), Rejection> {
    let job = draft.live_job(order.job, &order.by)?;
    if is_running(&job) {
        return Err(Rejection::Order(OrderProblem::WrongState(order.job)));
    }
    let default = draft.state.settings();
    let default = default.and_then(|settings| settings.default_queue());
    let Some(queue) = order.queue.clone().or(default) else {
        return Err(Rejection::UnknownQueue(job.queue.clone()));
    };
    if job.queue == queue {
        return Err(Rejection::Order(OrderProblem::AlreadyInQueue(
            order.job, queue,
        )));
    }
    let moved = draft.put(relocated(draft, &job, &queue, &order.by)?)?;
    draft.account(&moved, Account::Queued);
    if !draft.is_operator(order.by.uid, &order.by.user) {
        check_set(draft, job.id)?;
    }
    if job.is_array() {
        for member in members(draft, job.id) {
            let moved = relocated(draft, &member, &queue, &order.by)?;
            draft.put(moved)?;
        }
    }
    Ok(())
}

/// Of an array: whether any member runs.
pub(super) fn is_running(job: &Job) -> bool {
    let members = job.array.as_ref().map_or(0, |array| array.running);
    job.state.run().is_some() || members > 0
}

/// The job as it is in its new queue, at the end of the line there; a routing queue hands it on at once. Operators
/// move jobs past most limits.
pub(super) fn relocated(
    draft: &Draft,
    job: &Arc<Job>,
    name: &QueueName,
    by: &Caller,
) -> Result<Job, Rejection> {
    let unknown = || Rejection::UnknownQueue(name.clone());
    let settings = draft.state.settings().cloned().ok_or_else(unknown)?;
    let queue = settings.queues.get(name).ok_or_else(unknown)?;
    let mut asked = JobSpec::clone(&job.spec);
    strip_defaults(&mut asked);
    let entry = match draft.is_operator(by.uid, &by.user) {
        true => Entry::Ordered,
        false => Entry::Moved,
    };
    let (queue, mut spec) = routing::enter(&settings, queue, entry, &mut |queue, entry| {
        enter(draft, &asked, queue, entry)
    })?;
    let nodes = job.spec.resources.get("nodect");
    if let (None, Some(nodes)) = (spec.resources.get("nodect"), nodes) {
        // As in Torque it outlives the default that it was made of (recorded session E04).
        let set = spec.resources.set("nodect", nodes);
        set.map_err(|error| Rejection::NeverFits(error.to_string().into()))?;
    }
    let mut job = Job::clone(job);
    job.spec = Arc::new(spec);
    job.queue = queue.name.clone();
    job.queued = draft.now;
    job.place = None;
    Ok(job)
}
