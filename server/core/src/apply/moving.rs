//! `qmove`: a waiting job leaves its queue for another. What the old queue gave it goes, what the new one gives comes.

use std::sync::Arc;

use capstan_types::QueueName;

use super::alter::strip_defaults;
use super::delete::members;
use super::draft::Draft;
use super::submit::{check_queue_limits, fill_in};
use crate::plan::feasible;
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
    check_queue(draft, &queue, &order.by, &job)?;
    if job.queue == queue {
        return Err(Rejection::Order(OrderProblem::AlreadyInQueue(
            order.job, queue,
        )));
    }
    let moved = draft.put(relocated(draft, &job, &queue, &order.by)?)?;
    draft.account(&moved, Account::Queued);
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

/// Whether there is such a queue, and whether it takes jobs of those who are no operators.
fn check_queue(draft: &Draft, name: &QueueName, by: &Caller, job: &Job) -> Result<(), Rejection> {
    let settings = draft.state.settings();
    let queue = settings.and_then(|settings| settings.queues.get(name));
    let queue = queue.ok_or_else(|| Rejection::UnknownQueue(name.clone()))?;
    let is_bound = !draft.is_operator(by.uid, &by.user) && job.queue != *name;
    match is_bound && !queue.is_enabled() {
        true => Err(Rejection::QueueDisabled(name.clone())),
        false => Ok(()),
    }
}

/// The job as it is in its new queue, at the end of the line there.
pub(super) fn relocated(
    draft: &Draft,
    job: &Arc<Job>,
    name: &QueueName,
    by: &Caller,
) -> Result<Job, Rejection> {
    let settings = draft.state.settings();
    let queue = settings.and_then(|settings| settings.queues.get(name));
    let queue = queue.ok_or_else(|| Rejection::UnknownQueue(name.clone()))?;
    let mut spec = JobSpec::clone(&job.spec);
    strip_defaults(&mut spec);
    fill_in(&mut spec, queue.resources_default())?;
    if !draft.is_operator(by.uid, &by.user) {
        check_queue_limits(&spec, queue)?;
        feasible(&draft.state, &spec).map_err(Rejection::NeverFits)?;
    }
    let mut job = Job::clone(job);
    job.spec = Arc::new(spec);
    job.queue = name.clone();
    job.queued = draft.now;
    job.place = None;
    Ok(job)
}
