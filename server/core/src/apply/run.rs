//! `qrun`: an operator starts a waiting job now, past the line, its holds and the scheduler, on nodes of his choice.

use std::sync::Arc;

use capstan_types::{JobId, JobPart};

use super::draft::Draft;
use super::placed::{has_room_in_array, start};
use crate::plan::place_now;
use crate::{Holds, Job, JobState, OrderProblem, Rejection, RunOrder, Ties};

pub(super) fn run(draft: &mut Draft, order: &RunOrder) -> Result<(), Rejection> {
    let job = draft.job(order.job)?;
    draft.require_owner(&job, order.job, &order.by)?;
    match &job.state {
        JobState::Ended(_) => return Err(Rejection::AlreadyEnded(order.job)),
        JobState::Exiting(..) => return Err(Rejection::Order(OrderProblem::Exiting(order.job))),
        JobState::Starting(_) | JobState::Running(_) => {
            return Err(Rejection::Order(OrderProblem::AlreadyRunning(order.job)));
        }
        JobState::Pending => {}
    }
    draft.require_operator(&order.by)?;
    let settings = draft.state.settings();
    let queue = settings.and_then(|settings| settings.queues.get(&job.queue));
    if !queue.is_some_and(|queue| queue.is_started()) {
        return Err(Rejection::Order(OrderProblem::QueueStopped(
            job.queue.clone(),
        )));
    }
    if queue.is_some_and(|queue| queue.is_routing()) {
        return Err(Rejection::Order(OrderProblem::WrongState(order.job)));
    }
    match job.id.part {
        JobPart::Array => run_array(draft, &job, order),
        JobPart::Whole | JobPart::Member(_) => run_one(draft, &job, order),
    }
}

fn run_one(draft: &mut Draft, job: &Arc<Job>, order: &RunOrder) -> Result<(), Rejection> {
    check_slots(draft, job)?;
    let shares = place_now(&draft.state, &job.spec, order.hosts.as_ref())?;
    // Whoever starts it by force does not want it to wait for others.
    let mut job = Job::clone(job);
    job.waits_for.clear();
    job.ties = Ties::default();
    job.holds = job.holds.without(Holds::SLOT);
    start(draft, &Arc::new(job), &shares)
}

/// As many waiting members as find room; at least one must.
fn run_array(draft: &mut Draft, array: &Arc<Job>, order: &RunOrder) -> Result<(), Rejection> {
    let waiting: Vec<u32> = match &array.array {
        Some(state) => state.waiting.iter().collect(),
        None => Vec::new(),
    };
    for (at, index) in waiting.iter().enumerate() {
        let member = draft.job(JobId::member(array.id.seq, *index))?;
        match run_one(draft, &member, order) {
            Ok(()) => {}
            Err(_) if at > 0 => return Ok(()),
            Err(rejection) => return Err(rejection),
        }
    }
    match waiting.is_empty() {
        true => Err(Rejection::Order(OrderProblem::AlreadyRunning(array.id))),
        false => Ok(()),
    }
}

fn check_slots(draft: &Draft, job: &Job) -> Result<(), Rejection> {
    if has_room_in_array(draft, job) {
        return Ok(());
    }
    let array = draft.state.job(JobId::array(job.id.seq));
    let running = array
        .and_then(|array| array.array.as_ref())
        .map_or(0, |members| members.running);
    let limit = job.spec.array.as_ref().and_then(|array| array.slot_limit);
    let limit = limit.unwrap_or(u32::MAX);
    Err(Rejection::Order(OrderProblem::SlotLimit { limit, running }))
}
