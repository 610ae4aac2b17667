//! `qrerun`: a running job is stopped and goes back to its place in the queue.

use std::sync::Arc;

use super::attempt;
use super::delete::members;
use super::draft::Draft;
use crate::{
    Caller, Effect, Job, JobEvent, JobState, OrderProblem, Rejection, RerunOrder, Run, StopOrder,
    Tries,
};

pub(super) fn rerun(draft: &mut Draft, order: &RerunOrder) -> Result<(), Rejection> {
    let job = draft.job(order.job)?;
    draft.require_owner(&job, order.job, &order.by)?;
    if job.has_ended() {
        return Err(Rejection::AlreadyEnded(order.job));
    }
    let targets: Vec<Arc<Job>> = match job.is_array() {
        true => members(draft, job.id)
            .into_iter()
            .filter(|member| member.state.run().is_some())
            .collect(),
        false => vec![job],
    };
    if targets.iter().all(|job| job.state.run().is_none()) {
        return Err(Rejection::Order(OrderProblem::NotRunning(order.job)));
    }
    if !draft.is_operator(order.by.uid, &order.by.user) {
        return Err(Rejection::Order(OrderProblem::MayNotRerun));
    }
    for job in &targets {
        rerun_one(draft, job, order)?;
    }
    Ok(())
}

fn rerun_one(draft: &mut Draft, job: &Arc<Job>, order: &RerunOrder) -> Result<(), Rejection> {
    let run = match &job.state {
        JobState::Exiting(_, stop) if !stop.requeue => {
            return Err(Rejection::Order(OrderProblem::Exiting(job.id)));
        }
        JobState::Starting(run) | JobState::Running(run) | JobState::Exiting(run, _) => run,
        JobState::Pending | JobState::Ended(_) => {
            return Err(Rejection::Order(OrderProblem::NotRunning(job.id)));
        }
    };
    if !job.spec.is_rerunnable {
        return Err(Rejection::Order(OrderProblem::NotRerunnable(job.id)));
    }
    let run = run.clone();
    let mut job = job.clone();
    Arc::make_mut(&mut job).tries = Tries::default();
    if order.force && !is_reachable(draft, &run) {
        let comment = format!("requeued by {} without its node", requestor(&order.by));
        attempt::requeue(draft, &job, run.attempt, comment)?;
        attempt::disown(draft, &run, 0);
        return Ok(());
    }
    stop(draft, &job, &run, &order.by)
}

/// As Torque does, with SIGKILL at once: the job has not asked for time to end.
fn stop(draft: &mut Draft, job: &Arc<Job>, run: &Run, by: &Caller) -> Result<(), Rejection> {
    let order = StopOrder {
        at: draft.now,
        grace_secs: 0,
        requeue: true,
        by: requestor(by),
        for_job: None,
    };
    let (attempt, grace_secs) = (run.attempt, order.grace_secs);
    let node = run.shares.first().map(|share| share.node.clone());
    draft.advance(Job::clone(job), JobEvent::StopOrdered(order))?;
    draft.effects.extend(node.map(|node| Effect::StopAttempt {
        node,
        attempt,
        grace_secs,
    }));
    Ok(())
}

/// Whether the agent that runs the script is connected.
fn is_reachable(draft: &Draft, run: &Run) -> bool {
    let node = run.shares.first();
    let node = node.and_then(|share| draft.state.node(&share.node));
    node.is_some_and(|node| node.is_up())
}

fn requestor(by: &Caller) -> Box<str> {
    format!("{}@{}", by.user, by.host).into()
}
