//! What people and programs see of the state: rows and attributes, as PBS names and orders them. Reads a snapshot,
//! changes nothing, asks nobody.

pub(crate) mod attributes;
pub(crate) mod counts;
pub(crate) mod nodes;
pub(crate) mod paths;
pub(crate) mod queues;
pub(crate) mod rows;
pub(crate) mod selection;
pub(crate) mod server;
#[cfg(test)]
mod tests;
pub(crate) mod words;

use capstan_core::{Job, JobState, Run, Usage};
use capstan_types::{ServerName, Timestamp};

use crate::snapshot::Snapshot;
use crate::telemetry::Telemetry;

/// What a view is made from.
#[derive(Clone, Copy)]
pub(crate) struct Scene<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) telemetry: &'a Telemetry,
    pub(crate) now: Timestamp,
}

impl<'a> Scene<'a> {
    pub(crate) fn server(self) -> &'a ServerName {
        &self.snapshot.settings().server
    }

    /// What a job has used; `None` before anything is known.
    pub(crate) fn usage(self, job: &Job) -> Option<Usage> {
        let run = last_run(job)?;
        let live = match &job.state {
            JobState::Starting(_) | JobState::Running(_) | JobState::Exiting(..) => {
                let node = &run.shares.first()?.node;
                self.telemetry.usage(node, run.attempt)
            }
            JobState::Pending | JobState::Ended(_) => return Some(run.usage),
        };
        live.or(Some(run.usage).filter(|usage| *usage != Usage::default()))
    }

    /// What there is to say about a job: why it waits, or that it started.
    ///
    /// Holds and start times are attributes of their own, and Torque has no comment for them.
    pub(crate) fn comment(self, job: &Job) -> Option<String> {
        use capstan_types::Reason;
        if let Some(comment) = &job.comment {
            // Why it was put back is worth knowing, but so is what it waits for now.
            let waits = job.effective_holds().is_empty();
            let reason = self.snapshot.reason(job.id).filter(|_| waits);
            return Some(reason.map_or_else(
                || comment.to_string(),
                |reason| format!("{reason}; {comment}"),
            ));
        }
        if let Some(run) = last_run(job) {
            return Some(words::started_on(start_time(run)));
        }
        let reason = self.snapshot.reason(job.id)?;
        let speaks_for_itself = matches!(reason, Reason::Held(_) | Reason::WaitingUntil(_));
        (!speaks_for_itself).then(|| reason.to_string())
    }
}

/// The job's current attempt, or its last when it is over.
pub(crate) fn last_run(job: &Job) -> Option<&Run> {
    match &job.state {
        JobState::Pending => None,
        JobState::Starting(run) | JobState::Running(run) | JobState::Exiting(run, _) => Some(run),
        JobState::Ended(ended) => ended.run.as_ref(),
    }
}

/// When an attempt started: by its node, or when it was ordered as long as the node has not said.
pub(crate) fn start_time(run: &Run) -> Timestamp {
    run.started.map_or(run.placed, |(at, _)| at)
}
