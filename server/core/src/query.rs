//! Questions about jobs that run: may this person reach this job, where is its attempt, and do two nodes work on it
//! together? Reads the state and changes nothing.

use std::sync::Arc;

use capstan_types::{AttemptId, JobId, JobPart, NodeName};

use crate::{Job, JobState, Run, State};

/// Who wants to reach a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker<'a> {
    /// Login name.
    pub user: &'a str,
    /// An operator, a manager or root: may reach every job.
    pub is_operator: bool,
}

/// A running attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Reached {
    /// Its job.
    pub job: Arc<Job>,
    /// The attempt.
    pub attempt: AttemptId,
    /// Where its script runs.
    pub node: NodeName,
}

/// Why a job cannot be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreached {
    /// There is none of this id.
    #[error("no such job")]
    Unknown,
    /// It belongs to somebody else.
    #[error("the job belongs to somebody else")]
    NotOwner,
    /// It is being stopped.
    #[error("the job is exiting")]
    Exiting,
    /// It is over.
    #[error("the job has ended")]
    Ended,
    /// It waits.
    #[error("the job does not run")]
    NotRunning,
}

/// The attempts that `id` names: one of a job or a member, those of all running members of an array.
///
/// # Errors
/// In the order in which Torque looks: no such job, not the asker's, over, not running.
pub fn reach(state: &State, id: JobId, asker: Asker<'_>) -> Result<Vec<Reached>, Unreached> {
    let job = state.resolve(id).ok_or(Unreached::Unknown)?;
    if !asker.is_operator && *job.spec.owner.user != *asker.user {
        return Err(Unreached::NotOwner);
    }
    if id.part != JobPart::Array {
        return reached(&job).map(|reached| vec![reached]);
    }
    let members = state
        .submission(id.seq)
        .filter(|job| matches!(job.id.part, JobPart::Member(_)));
    let running: Vec<Reached> = members.filter_map(|job| reached(job).ok()).collect();
    match running.is_empty() {
        true if job.has_ended() => Err(Unreached::Ended),
        true => Err(Unreached::NotRunning),
        false => Ok(running),
    }
}

fn reached(job: &Arc<Job>) -> Result<Reached, Unreached> {
    match &job.state {
        JobState::Ended(_) => return Err(Unreached::Ended),
        JobState::Exiting(..) => return Err(Unreached::Exiting),
        JobState::Pending | JobState::Starting(_) | JobState::Running(_) => {}
    }
    let run = job.state.run().ok_or(Unreached::NotRunning)?;
    Ok(Reached {
        job: job.clone(),
        attempt: run.attempt,
        node: first_node(run).ok_or(Unreached::NotRunning)?,
    })
}

fn first_node(run: &Run) -> Option<NodeName> {
    run.shares.first().map(|share| share.node.clone())
}

/// The attempt of a job into which its owner may type: nobody else may, whatever he is, for what is typed is done in the
/// owner's name.
///
/// # Errors
/// As for [`reach`]; an array is not one job.
pub fn enter(state: &State, id: JobId, user: &str) -> Result<Reached, Unreached> {
    let job = state.resolve(id).ok_or(Unreached::Unknown)?;
    if *job.spec.owner.user != *user {
        return Err(Unreached::NotOwner);
    }
    reached(&job)
}

/// Why a node may not run a task for another.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSister {
    /// The attempt is over, or was never.
    #[error("attempt {0} is not running")]
    NotRunning(AttemptId),
    /// A node that has no part in it.
    #[error("node {1} has no part in attempt {0}")]
    NoShare(AttemptId, NodeName),
}

/// The job whose `attempt` holds something on both nodes.
///
/// # Errors
/// When the attempt is not the current one of a job, or either node has no share in it.
pub fn sisters<'a>(
    state: &'a State,
    attempt: AttemptId,
    one: &NodeName,
    other: &NodeName,
) -> Result<&'a Arc<Job>, NoSister> {
    let job = state.job_of(attempt).ok_or(NoSister::NotRunning(attempt))?;
    let run = job.state.run().ok_or(NoSister::NotRunning(attempt))?;
    for node in [one, other] {
        if !run.shares.iter().any(|share| share.node == *node) {
            return Err(NoSister::NoShare(attempt, node.clone()));
        }
    }
    Ok(job)
}
