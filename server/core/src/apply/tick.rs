//! What time alone does: ended jobs age out, routing queues try their jobs again, reservations are over, and nodes that stay away too long are lost.

use std::sync::Arc;

use capstan_types::{JobId, JobPart, NodeName, Timestamp};

use super::attempt;
use super::draft::Draft;
use super::rerouting;
use super::reserve;
use crate::{Job, JobState, Link, Rejection, Settings};

pub(super) fn tick(draft: &mut Draft) -> Result<(), Rejection> {
    let Some(settings) = draft.state.settings().cloned() else {
        return Ok(());
    };
    judge_lost_nodes(draft, &settings)?;
    reserve::pass(draft)?;
    rerouting::retry(draft, &settings)?;
    age_out(draft, &settings);
    Ok(())
}

/// Rerunnable jobs with any share on a node that is lost get another attempt elsewhere. The old one is disowned: its
/// node may only be cut off and is told to stop it when it comes back.
fn judge_lost_nodes(draft: &mut Draft, settings: &Settings) -> Result<(), Rejection> {
    let is_lost = |link: Link| match link {
        Link::Lost(since) => since.plus_secs(settings.node_lost_after_secs) <= draft.now,
        Link::Up(_) | Link::Never | Link::New => false,
    };
    let lost = draft.state.nodes().filter(|node| is_lost(node.link));
    let lost: Vec<NodeName> = lost.map(|node| node.name.clone()).collect();
    for node in lost {
        let attempts: Vec<_> = draft
            .state
            .held_on(&node)
            .map(|(attempt, _)| attempt)
            .collect();
        for attempt in attempts {
            let job = draft
                .state
                .job_of(attempt)
                .filter(|job| goes_on_elsewhere(job))
                .cloned();
            if let Some(job) = job {
                give_up(draft, &job, &node)?;
            }
        }
    }
    Ok(())
}

/// A job that was to stop anyway need not wait for a node that may never come back.
fn goes_on_elsewhere(job: &Job) -> bool {
    job.spec.is_rerunnable || matches!(job.state, JobState::Exiting(..))
}

fn give_up(draft: &mut Draft, job: &Arc<Job>, node: &NodeName) -> Result<(), Rejection> {
    let Some(run) = job.state.run().cloned() else {
        return Ok(());
    };
    attempt::lost(draft, job, &format!("node {node} is gone"))?;
    attempt::disown(draft, &run, 0);
    Ok(())
}

/// Forgets jobs that ended long enough ago, members before or with their array. A job that others still wait for
/// stays.
fn age_out(draft: &mut Draft, settings: &Settings) {
    let keep = settings.keep_completed_least_secs().saturating_mul(1000);
    let Some(until) = draft.now.0.checked_sub(keep).map(Timestamp) else {
        return;
    };
    let is_waited_for = |id: JobId| draft.state.dependants(id).next().is_some();
    let old = draft.state.ended_until(until);
    let old = old.filter(|id| is_of_age(draft, settings, *id) && !is_waited_for(*id));
    let old: Vec<JobId> = old.collect();
    for id in old {
        if id.part == JobPart::Array {
            let members: Vec<JobId> = draft.state.submission(id.seq).map(|job| job.id).collect();
            members
                .into_iter()
                .for_each(|member| draft.remove_job(member));
        } else {
            draft.remove_job(id);
        }
    }
}

/// Whether an ended job was shown for as long as its queue wants.
fn is_of_age(draft: &Draft, settings: &Settings, id: JobId) -> bool {
    let ended = draft.state.job(id).and_then(|job| match &job.state {
        JobState::Ended(ended) => Some((ended.at, job.queue.as_str())),
        JobState::Pending
        | JobState::Starting(_)
        | JobState::Running(_)
        | JobState::Exiting(..) => None,
    });
    ended.is_some_and(|(at, queue)| at.plus_secs(settings.keep_completed_secs(queue)) <= draft.now)
}
