//! A job that holds something, with what every plan and forecast asks of it, reckoned once and not each time: all of those
//! are looked at when a reservation is made.

use std::sync::Arc;

use super::Job;
use super::pending::walltime_secs;

/// A job with an attempt.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    pub(crate) job: Arc<Job>,
    /// For how long it may run, seconds.
    pub(crate) walltime_secs: u64,
    /// In which unit it counts, and how much of it: as [`super::JobSpec::kind_and_size`].
    pub(crate) kind_and_size: (usize, u64),
}

impl Running {
    pub(crate) fn of(job: Arc<Job>) -> Self {
        Self {
            walltime_secs: walltime_secs(&job),
            kind_and_size: job.spec.kind_and_size(),
            job,
        }
    }
}
