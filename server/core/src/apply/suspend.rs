//! `qsig -s suspend` and `resume`: a running job whose processes stand still keeps what it holds and is shown as S.

use super::draft::Draft;
use crate::{Job, JobEvent, JobState, OrderProblem, Rejection, SuspendOrder};

/// The agent has done it, or will: this is what the job is from now on.
pub(super) fn suspend(draft: &mut Draft, order: &SuspendOrder) -> Result<(), Rejection> {
    let job = draft.live_job(order.job, &order.by)?;
    let JobState::Running(run) = &job.state else {
        return Err(Rejection::Order(OrderProblem::WrongState(order.job)));
    };
    draft.require_operator(&order.by)?;
    if run.is_suspended == order.is_suspended {
        return Ok(());
    }
    let event = JobEvent::Suspended(run.attempt, order.is_suspended);
    draft.advance(Job::clone(&job), event)?;
    Ok(())
}
