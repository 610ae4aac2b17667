//! `qorder`: two waiting jobs change their places in line, and their queues when those differ.

use super::draft::Draft;
use super::moving::{is_running, relocated};
use crate::{Job, OrderProblem, Rejection, SwapOrder};

pub(super) fn swap(draft: &mut Draft, order: &SwapOrder) -> Result<(), Rejection> {
    let first = draft.live_job(order.first, &order.by)?;
    let second = draft.live_job(order.second, &order.by)?;
    for job in [&first, &second] {
        if is_running(job) {
            return Err(Rejection::Order(OrderProblem::WrongState(job.id)));
        }
    }
    if first.id == second.id {
        return Ok(());
    }
    let places = (first.place(), second.place());
    let (mut one, mut other) = match first.queue == second.queue {
        true => (Job::clone(&first), Job::clone(&second)),
        false => (
            relocated(draft, &first, &second.queue, &order.by)?,
            relocated(draft, &second, &first.queue, &order.by)?,
        ),
    };
    one.place = Some(places.1);
    other.place = Some(places.0);
    draft.put(one)?;
    draft.put(other)?;
    Ok(())
}
