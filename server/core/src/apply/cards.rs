//! Cards that failed while somebody worked on them: a job that may run again goes back to the queue and runs elsewhere,
//! any other is told and goes on as far as it can.

use std::sync::Arc;

use capstan_types::{CardId, NodeName};

use super::attempt;
use super::draft::Draft;
use crate::{Effect, Job, JobEvent, JobState, Rejection, StopOrder};

/// May be repeated: a job that is being stopped, or was told, is left alone.
pub(super) fn failed(
    draft: &mut Draft,
    name: &NodeName,
    cards: &[(CardId, Box<str>)],
) -> Result<(), Rejection> {
    for (card, what) in cards {
        let held = draft.state.held_on(name);
        let on_it = held.filter(|(_, share)| share.cards.iter().any(|own| own.uuid == *card));
        let attempts: Vec<_> = on_it.map(|(attempt, _)| attempt).collect();
        for attempt in attempts {
            if let Some(job) = draft.state.job_of(attempt).cloned() {
                tell(
                    draft,
                    &job,
                    &format!("card {card} of node {name} failed: {what}"),
                )?;
            }
        }
    }
    Ok(())
}

fn tell(draft: &mut Draft, job: &Arc<Job>, text: &str) -> Result<(), Rejection> {
    let (JobState::Starting(run) | JobState::Running(run)) = &job.state else {
        return Ok(());
    };
    let attempt = run.attempt;
    let node = run.shares.first().map(|share| share.node.clone());
    let mut told = Job::clone(job);
    if !job.spec.is_rerunnable {
        let comment = format!("{text}; it may not be rerun and goes on");
        if job.comment.as_deref() != Some(&*comment) {
            told.comment = Some(comment.into());
            draft.put(told)?;
        }
        return Ok(());
    }
    let grace_secs = attempt::grace_secs(draft, job);
    told.comment = Some(format!("{text}; requeued").into());
    let order = StopOrder {
        at: draft.now,
        grace_secs,
        requeue: true,
        by: text.into(),
        for_job: None,
    };
    draft.advance(told, JobEvent::StopOrdered(order))?;
    draft.effects.extend(node.map(|node| Effect::StopAttempt {
        node,
        attempt,
        grace_secs,
    }));
    Ok(())
}
