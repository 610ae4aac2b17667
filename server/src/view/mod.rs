//! What people and programs see of the state: rows and attributes, as PBS names and orders them. Reads a snapshot,
//! changes nothing, asks nobody.

pub(crate) mod attributes;
pub(crate) mod counts;
pub(crate) mod criteria;
pub(crate) mod images;
pub(crate) mod nodes;
pub(crate) mod paths;
pub(crate) mod queues;
pub(crate) mod reservations;
pub(crate) mod rows;
pub(crate) mod samples;
pub(crate) mod selection;
pub(crate) mod server;
pub(crate) mod shares;
#[cfg(test)]
mod tests;
pub(crate) mod why;
pub(crate) mod words;

use capstan_core::{Job, JobState, Queue, Run, Scheduler, Usage};
use capstan_types::{QueueName, Reason, ServerName, Timestamp};

use crate::snapshot::Snapshot;
use crate::telemetry::Telemetry;

/// Torque's server asks its nodes for usage every 45 seconds, so a job that has just started shows none. Programs take
/// the missing values for a start; we know them earlier, and keep them back as long.
const USAGE_AFTER_SECS: u64 = 45;

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

    /// What a job has used; `None` before anything is known, and in the first [`USAGE_AFTER_SECS`] of an attempt.
    pub(crate) fn usage(self, job: &Job) -> Option<Usage> {
        let run = last_run(job)?;
        let live = match &job.state {
            JobState::Starting(_) | JobState::Running(_) | JobState::Exiting(..) => {
                if self.now.secs_since(start_time(run)) < USAGE_AFTER_SECS {
                    return None;
                }
                let own = self.telemetry.usage(&run.shares.first()?.node, run.attempt);
                own.map(|own| crate::usage::on_all_nodes(self.telemetry, run, own))
            }
            JobState::Pending | JobState::Ended(_) => return Some(run.usage),
        };
        live.or(Some(run.usage).filter(|usage| *usage != Usage::default()))
    }

    /// What its container waits for, while its image is on its way to a node.
    pub(crate) fn image_state(self, job: &Job) -> Option<Box<str>> {
        if let Some(Reason::ImageComes { image, on }) = self.reason(job) {
            let progress = self.image_progress(job).unwrap_or_default();
            return Some(format!("getting image {image} on {on}{progress}").into());
        }
        let is_there = matches!(job.state, JobState::Starting(_) | JobState::Running(_));
        let run = last_run(job).filter(|_| is_there)?;
        run.shares
            .iter()
            .find_map(|share| self.telemetry.image_wait(&share.node, run.attempt))
    }

    /// ": 40 % (…)", of an image that is on its way for a job that waits.
    fn image_progress(self, job: &Job) -> Option<String> {
        let Some(Reason::ImageComes { image, on }) = self.reason(job) else {
            return None;
        };
        let uid = job.spec.owner.uid;
        let text = self.telemetry.image_pull(on, image, uid)?;
        Some(format!(": {text}"))
    }

    /// Why it waits, or that it started. With Torque's way of scheduling in Torque's own sentences, which programs compare
    /// whole; with ours the same sentence, and then what exactly is missing.
    ///
    /// Holds, start times and dependencies are attributes of their own, and Torque has no comment for them.
    pub(crate) fn comment(self, job: &Job) -> Option<String> {
        if let Some(reason) = self.reason(job) {
            return Some(match self.snapshot.settings().scheduler {
                Scheduler::Fifo => reason.headline().to_owned(),
                Scheduler::Packing => self.explanation(job).unwrap_or_default(),
            });
        }
        if let Some(comment) = &job.comment {
            return Some(comment.to_string());
        }
        last_run(job).map(|run| words::started_on(start_time(run)))
    }

    /// Why the job waits, in full, for those who can read more than Torque says; `None` when nothing keeps it.
    pub(crate) fn explanation(self, job: &Job) -> Option<String> {
        let is_waiting = matches!(job.state, JobState::Pending);
        let reason = self.snapshot.reason(job.id).filter(|_| is_waiting)?;
        let progress = self.image_progress(job).unwrap_or_default();
        Some(match &job.comment {
            Some(comment) => format!("{reason}{progress}; {comment}"),
            None => format!("{reason}{progress}"),
        })
    }

    /// The reason of the last plan, where Torque's scheduler would have written it into the comment.
    fn reason(self, job: &Job) -> Option<&'a Reason> {
        let may_be_considered = matches!(job.state, JobState::Pending)
            && job.effective_holds().is_empty()
            && job.not_before.is_none_or(|time| time <= self.now);
        let reason = self.snapshot.reason(job.id).filter(|_| may_be_considered)?;
        match reason {
            Reason::Held(_)
            | Reason::WaitingUntil(_)
            | Reason::DependsOn(_)
            | Reason::ArraySlotLimit(_) => None,
            Reason::NotEnoughCards { .. }
            | Reason::NotEnoughSlots { .. }
            | Reason::NotEnoughSlotsInAll { .. }
            | Reason::NotEnoughMemory { .. }
            | Reason::NotEnoughNodes { .. }
            | Reason::NoNodeUp
            | Reason::NodesDown { .. }
            | Reason::NodeDown(_)
            | Reason::NodeOffline(_)
            | Reason::NoNodeLike(_)
            | Reason::CardsNotClean { .. }
            | Reason::BehindJob(_)
            | Reason::QueueStopped(_)
            | Reason::NoDestination(_)
            | Reason::RunLimit(_)
            | Reason::Window { .. }
            | Reason::ReservationBegins { .. }
            | Reason::ReservationEnds { .. }
            | Reason::ReservationFull(_)
            | Reason::QueueClosed { .. }
            | Reason::QueueCloses { .. }
            | Reason::Preempting { .. }
            | Reason::ImageComes { .. }
            | Reason::ImageRefused { .. }
            | Reason::EngineAway { .. } => Some(reason),
        }
    }

    /// `E` or `R`, as `queue_type` shows it.
    pub(crate) fn queue_type(self, queue: &QueueName) -> char {
        let queue = self.snapshot.settings().queues.get(queue);
        if queue.is_some_and(Queue::is_routing) {
            'R'
        } else {
            'E'
        }
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
