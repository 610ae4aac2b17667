//! `qhold` and `qrls`. On a running job a hold changes nothing now and counts when it is rerun, as in Torque.

use std::sync::Arc;

use capstan_types::JobPart;

use super::delete::members;
use super::draft::Draft;
use super::run;
use crate::{HoldOrder, Holds, Job, Rejection, Tries};

pub(super) fn hold(draft: &mut Draft, order: &HoldOrder) -> Result<(), Rejection> {
    for job in targets(draft, order)? {
        let mut job = Job::clone(&job);
        let holds = job.holds.with(order.holds);
        set(&mut job, holds);
        job.eligible = job.eligible.filter(|_| job.state.run().is_some());
        let job = draft.put(job)?;
        if let JobPart::Member(_) = job.id.part {
            run::forget(draft, job.id)?;
        }
    }
    Ok(())
}

pub(super) fn release(draft: &mut Draft, order: &HoldOrder) -> Result<(), Rejection> {
    let targets = targets(draft, order)?;
    let is_held = |job: &Arc<Job>| job.holds.without(order.holds) != job.holds;
    if !targets.iter().any(is_held) {
        return Err(Rejection::NotHeld(order.job));
    }
    for job in targets.iter().filter(|job| is_held(job)) {
        let mut job = Job::clone(job);
        let holds = job.holds.without(order.holds);
        set(&mut job, holds);
        if job.is_eligible(draft.now) {
            job.eligible = Some(draft.now);
        }
        draft.put(job)?;
    }
    Ok(())
}

/// Gives the job exactly these holds.
pub(super) fn set(job: &mut Job, holds: Holds) {
    if job.holds.contains(Holds::SYSTEM) && !holds.contains(Holds::SYSTEM) {
        // It said why the server held the job; whoever released it has dealt with it.
        job.comment = None;
        job.tries = Tries::default();
    }
    if !holds.contains(Holds::USER) && super::prepare::is_held_for_image(job) {
        job.comment = None;
    }
    if job.holds.with(holds) != job.holds {
        // Whoever holds it has the last word over an order to start it.
        job.forced = None;
        job.forced_members.clear();
    }
    job.holds = holds;
}

/// The job; for an array also its members that have a record of their own, for the others are as the array is.
fn targets(draft: &Draft, order: &HoldOrder) -> Result<Vec<Arc<Job>>, Rejection> {
    let job = draft.live_job(order.job, &order.by)?;
    draft.require_holds(order.holds, order.by.uid, &order.by.user)?;
    let mut targets = if job.is_array() {
        members(draft, job.id)
    } else {
        Vec::new()
    };
    targets.insert(0, job);
    Ok(targets)
}
