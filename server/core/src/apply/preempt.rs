//! Running jobs that a plan stops for a waiting one are told so. A plan is made of a state that may have changed since: who
//! may not be stopped any more is left alone, and then so are all others that were to make room for the same job; the
//! next plan decides anew.

use std::sync::Arc;

use super::draft::Draft;
use crate::model::preemption::PreemptionRules;
use crate::{
    Account, Effect, Job, JobEvent, Preemption, PreemptionRight, Rejection, Run, StopOrder,
};

/// For so long behind the last grace a job for which others were stopped goes before all others: nodes have to see their
/// cards clean, and plans have to be made.
const SETTLE_SECS: u64 = 120;

pub(super) fn preempt(draft: &mut Draft, preemptions: &[Preemption]) -> Result<(), Rejection> {
    for of_job in preemptions.chunk_by(|one, other| one.for_job == other.for_job) {
        let Some(job) = of_job.first().and_then(|first| waiting(draft, first)) else {
            continue;
        };
        if of_job.iter().all(|one| is_still_right(draft, &job, one)) {
            for one in of_job {
                stop(draft, &job, one)?;
            }
            let grace = of_job.iter().map(|one| one.grace_secs).max().unwrap_or(0);
            let mut job = Job::clone(&job);
            job.first_until = Some(draft.now.plus_secs(u64::from(grace) + SETTLE_SECS));
            draft.put(job)?;
        }
    }
    Ok(())
}

/// The job for which room is made, if it still waits for nothing else.
fn waiting(draft: &Draft, preemption: &Preemption) -> Option<Arc<Job>> {
    let job = draft.state.resolve(preemption.for_job)?;
    (!job.is_array() && job.is_eligible(draft.now)).then_some(job)
}

fn is_still_right(draft: &Draft, job: &Job, preemption: &Preemption) -> bool {
    let settings = draft.state.settings();
    let rules = settings.and_then(|settings| PreemptionRules::of(settings));
    let victim = draft.state.job_of(preemption.attempt);
    let (Some(rules), Some(victim)) = (rules, victim) else {
        return false;
    };
    let has_right = |priority: i64| match preemption.right {
        PreemptionRight::Priority => rules
            .preempts_below(&job.queue)
            .is_some_and(|below| priority < below),
        PreemptionRight::Guarantee => rules.guarantee(&job.spec.owner.group).is_some(),
    };
    rules.stoppable(victim, draft.now).is_ok_and(|how| {
        victim.id == preemption.job && how.requeue == preemption.requeue && has_right(how.priority)
    })
}

fn stop(draft: &mut Draft, job: &Job, preemption: &Preemption) -> Result<(), Rejection> {
    let victim = draft.job(preemption.job)?;
    let Some(Run {
        attempt, shares, ..
    }) = victim.state.run().cloned()
    else {
        return Ok(());
    };
    let grace_secs = preemption.grace_secs;
    let by: Box<str> = match preemption.right {
        PreemptionRight::Priority => {
            format!("preempted by job {} of queue {}", job.id, job.queue).into()
        }
        PreemptionRight::Guarantee => {
            let group = &job.spec.owner.group;
            format!(
                "preempted by job {} of group {group}, whose cards it had",
                job.id
            )
            .into()
        }
    };
    let mut victim = Job::clone(&victim);
    let end = if preemption.requeue {
        "requeued"
    } else {
        "canceled"
    };
    victim.comment = Some(format!("{by}; {end}").into());
    victim.preempted = Some(draft.now);
    let order = StopOrder {
        at: draft.now,
        grace_secs,
        requeue: preemption.requeue,
        by,
        for_job: Some(job.id),
    };
    let victim = draft.advance(victim, JobEvent::StopOrdered(order))?;
    if !preemption.requeue {
        draft.account(&victim, Account::Aborted);
    }
    let node = shares.first().map(|share| share.node.clone());
    draft.effects.extend(node.map(|node| Effect::StopAttempt {
        node,
        attempt,
        grace_secs,
    }));
    Ok(())
}
