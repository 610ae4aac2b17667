//! `qdel`: what waits ends at once, what runs is told to stop, what has ended is refused.

use std::sync::Arc;

use capstan_types::{JobId, JobPart};

pub(super) use super::array::drop_waiting;
use super::attempt::{self, EXIT_DELETED, Remains};
use super::draft::Draft;
use crate::{
    Account, DeleteOrder, Deletion, Effect, Ended, Job, JobEvent, JobState, Rejection, StopOrder,
};

pub(super) fn delete(draft: &mut Draft, order: &DeleteOrder) -> Result<(), Rejection> {
    let job = draft.job(order.job)?;
    draft.require_owner(&job, order.job, &order.by)?;
    let settings = draft.state.settings();
    let owners_may = settings.is_some_and(|settings| settings.is("owner_purge"));
    match (order.purge, job.has_ended()) {
        (true, false) if !owners_may => draft.require_manager(&order.by)?,
        (false, true) => return Err(Rejection::AlreadyEnded(order.job)),
        // The history of an ended job is its owner's (PBS Pro's `qdel -x`).
        (true, true | false) | (false, false) => {}
    }
    match job.id.part {
        JobPart::Array if job.has_ended() => {}
        JobPart::Array => delete_array(draft, &job, order)?,
        JobPart::Whole | JobPart::Member(_) => delete_one(draft, &job, order)?,
    }
    if order.purge {
        vanish(draft, job.id);
    }
    Ok(())
}

/// As in Torque nothing is left of a job that was purged, not even its history; those that waited for it have their
/// news of its end.
fn vanish(draft: &mut Draft, id: JobId) {
    let gone: Vec<JobId> = match id.part {
        JobPart::Array => draft.state.submission(id.seq).map(|job| job.id).collect(),
        JobPart::Whole | JobPart::Member(_) => vec![id],
    };
    gone.into_iter().for_each(|job| draft.remove_job(job));
    // An array that has ended is nothing without its members.
    let left: Vec<(JobId, bool)> = draft
        .state
        .submission(id.seq)
        .take(2)
        .map(|job| (job.id, job.is_array() && job.has_ended()))
        .collect();
    if let ([(array, true)], JobPart::Member(_)) = (&left[..], id.part) {
        draft.remove_job(*array);
    }
}

fn delete_one(draft: &mut Draft, job: &Arc<Job>, order: &DeleteOrder) -> Result<(), Rejection> {
    match (&job.state, order.purge) {
        (JobState::Pending, _) => {
            let job = end_pending(draft, Job::clone(job))?;
            draft.account(&job, Account::Deleted(deletion(order)));
        }
        (JobState::Starting(run) | JobState::Running(run) | JobState::Exiting(run, _), true) => {
            draft.account(job, Account::Deleted(deletion(order)));
            let exit_status = attempt::canceled_exit(draft).or(Some(EXIT_DELETED));
            let remains = Remains::of_nothing(exit_status);
            attempt::end(draft, Job::clone(job), remains)?;
            attempt::disown(draft, run, 0);
        }
        (JobState::Starting(run) | JobState::Running(run) | JobState::Exiting(run, _), false) => {
            let stop = StopOrder {
                at: draft.now,
                grace_secs: order
                    .grace_secs
                    .unwrap_or_else(|| attempt::grace_secs(draft, job)),
                requeue: false,
                by: requestor(order),
                for_job: None,
            };
            let (grace_secs, attempt) = (stop.grace_secs, run.attempt);
            let node = run.shares.first().map(|share| share.node.clone());
            let job = draft.advance(Job::clone(job), JobEvent::StopOrdered(stop))?;
            draft.account(&job, Account::Deleted(deletion(order)));
            draft.effects.extend(node.map(|node| Effect::StopAttempt {
                node,
                attempt,
                grace_secs,
            }));
        }
        (JobState::Ended(_), _) => {}
    }
    Ok(())
}

/// Members that never had a record vanish without one: an array of 10,000 is deleted with one change.
fn delete_array(draft: &mut Draft, array: &Arc<Job>, order: &DeleteOrder) -> Result<(), Rejection> {
    let mut whole = Job::clone(array);
    drop_waiting(draft, &mut whole);
    let whole = draft.put(whole)?;
    draft.account(&whole, Account::Deleted(deletion(order)));
    for member in members(draft, array.id) {
        delete_one(draft, &member, order)?;
    }
    // The last of the members may have ended it already.
    let whole = Job::clone(&*draft.job(array.id)?);
    draft.end_array_if_done(whole)
}

/// The array's members with a record that have not ended.
pub(super) fn members(draft: &Draft, array: JobId) -> Vec<Arc<Job>> {
    let submission = draft.state.submission(array.seq);
    let live = submission.filter(|job| !job.is_array() && !job.has_ended());
    live.cloned().collect()
}

fn end_pending(draft: &mut Draft, job: Job) -> Result<Arc<Job>, Rejection> {
    // A job that ran before it was requeued has an exit status in nobody's eyes: Torque shows none either, unless the
    // site says what a deleted job is to show.
    let ended = Ended {
        at: draft.now,
        exit_status: attempt::canceled_exit(draft),
        run: None,
        cause: Box::default(),
    };
    draft.advance(job, JobEvent::Ended(ended))
}

fn deletion(order: &DeleteOrder) -> Deletion {
    Deletion {
        by: requestor(order),
        message: order.message.clone(),
    }
}

fn requestor(order: &DeleteOrder) -> Box<str> {
    format!("{}@{}", order.by.user, order.by.host).into()
}
