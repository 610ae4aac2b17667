//! What agents say of attempts. A report of an attempt that is no job's current one is answered with what the agent
//! must do about it; it changes nothing else.

use std::sync::Arc;

use capstan_types::{AttemptId, CardId, JobId, NodeName};

use super::attempt;
use super::draft::{Draft, News};
use crate::{
    Account, AttemptReport, Effect, Job, JobEvent, JobState, Node, Rejection, ReportedPhase,
};

pub(super) fn reported(
    draft: &mut Draft,
    node: &NodeName,
    report: &AttemptReport,
) -> Result<(), Rejection> {
    match current(draft, node, report.attempt) {
        Some(job) => on_current(draft, node, &job, report),
        None => {
            on_stale(draft, node, report);
            Ok(())
        }
    }
}

/// The job whose current attempt this is, if `node` is the one that runs its script.
pub(super) fn current(draft: &Draft, node: &NodeName, attempt: AttemptId) -> Option<Arc<Job>> {
    let job = draft.state.job_of(attempt)?;
    let is_here = job.state.run().and_then(|run| run.shares.first());
    is_here
        .filter(|share| share.node == *node)
        .map(|_| job.clone())
}

fn on_current(
    draft: &mut Draft,
    node: &NodeName,
    job: &Arc<Job>,
    report: &AttemptReport,
) -> Result<(), Rejection> {
    match &report.phase {
        // The server shows live usage from its own table: a change of the state for each would be a write for each.
        ReportedPhase::Starting | ReportedPhase::Using(_) => return Ok(()),
        ReportedPhase::Running { at, session } => {
            let is_known = job.state.run().is_some_and(|run| run.started.is_some());
            if is_known {
                return Ok(());
            }
            let started = JobEvent::Started(report.attempt, *at, *session);
            let job = Job::clone(&attempt::started(job));
            let job = draft.advance(job, started)?;
            draft.account(&job, Account::Started);
            if let JobState::Exiting(_, order) = &job.state {
                // The order to stop may have come to the node before the one to start.
                draft.effects.push(Effect::StopAttempt {
                    node: node.clone(),
                    attempt: report.attempt,
                    grace_secs: order.grace_secs,
                });
            }
            draft.news.push((job.id, News::Started));
            if job.spec.array.is_some() {
                draft.news.push((JobId::array(job.id.seq), News::Started));
            }
            return Ok(());
        }
        ReportedPhase::Exited {
            at: _, // By the node's clock; a job's history is in the server's time.
            exit_status,
            usage,
            unclean,
            cause,
            images,
            undelivered,
        } => {
            let told = attempt::told_undelivered(draft, job, (node, undelivered));
            attempt::exited(draft, &told, *exit_status, (*usage, cause, images))?;
            add_unclean(draft, node, unclean);
        }
        ReportedPhase::Unstartable { at: _, reason } => attempt::unstartable(draft, job, reason)?,
        ReportedPhase::Lost { at: _, reason } => attempt::lost(draft, job, reason)?,
        ReportedPhase::StageInFailed { at: _, reason } => {
            attempt::stage_in_failed(draft, job, reason)?;
        }
        ReportedPhase::PrologueFailed { at: _, reason } => {
            attempt::prologue_failed(draft, job, reason)?;
        }
    }
    forget(draft, node, report.attempt);
    Ok(())
}

/// Tells the agent what to do with an attempt that should not be there.
pub(super) fn on_stale(draft: &mut Draft, node: &NodeName, report: &AttemptReport) {
    let attempt = report.attempt;
    match &report.phase {
        // No stray is made of it here: on one connection reports come in order, so this is a repetition of what the
        // hello said or what was disowned since, and an attempt that has ended must not block its node.
        ReportedPhase::Starting | ReportedPhase::Running { .. } | ReportedPhase::Using(_) => {
            let settings = draft.state.settings();
            let grace_secs = settings.map_or(0, |settings| settings.kill_delay_secs(""));
            draft.effects.push(Effect::StopAttempt {
                node: node.clone(),
                attempt,
                grace_secs,
            });
        }
        ReportedPhase::Exited { unclean, .. } => {
            add_unclean(draft, node, unclean);
            remove_stray(draft, node, attempt);
            forget(draft, node, attempt);
        }
        ReportedPhase::Unstartable { .. }
        | ReportedPhase::Lost { .. }
        | ReportedPhase::StageInFailed { .. }
        | ReportedPhase::PrologueFailed { .. } => {
            remove_stray(draft, node, attempt);
            forget(draft, node, attempt);
        }
    }
}

fn forget(draft: &mut Draft, node: &NodeName, attempt: AttemptId) {
    let node = node.clone();
    draft.effects.push(Effect::ForgetAttempt { node, attempt });
}

fn remove_stray(draft: &mut Draft, name: &NodeName, attempt: AttemptId) {
    let Some(node) = draft
        .state
        .node(name)
        .filter(|node| node.strays.contains(&attempt))
    else {
        return;
    };
    let mut node = Node::clone(node);
    node.strays.retain(|stray| *stray != attempt);
    draft.put_node(node);
}

/// Cards that are not clean yet, as far as the node has them.
fn add_unclean(draft: &mut Draft, name: &NodeName, cards: &[CardId]) {
    let Some(node) = draft.state.node(name) else {
        return;
    };
    let is_new = |card: &&CardId| {
        !node.unclean.contains(card) && node.inventory.cards.iter().any(|own| own.uuid == **card)
    };
    let new: Vec<_> = cards.iter().filter(is_new).cloned().collect();
    if new.is_empty() {
        return;
    }
    let mut node = Node::clone(node);
    node.unclean.extend(new);
    draft.put_node(node);
}
