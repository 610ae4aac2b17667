//! A pending job with what every plan asks of it, reckoned once and not in each plan: a plan looks at all of them.

use std::sync::Arc;

use super::Job;

/// A job in state Pending.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) job: Arc<Job>,
    /// For how long it may run, seconds.
    pub(crate) walltime_secs: u64,
    /// Cards in all, of a job without cards slots.
    pub(crate) size: u32,
    /// Whether nobody else may be on its nodes.
    pub(crate) is_exclusive: bool,
}

impl Pending {
    pub(crate) fn of(job: Arc<Job>) -> Self {
        Self {
            walltime_secs: walltime_secs(&job),
            size: job.spec.size(),
            is_exclusive: job.spec.is_exclusive(),
            job,
        }
    }
}

/// A job without a walltime is taken to need a year: what it holds does not come back within any plan.
pub(crate) const ENDLESS_SECS: u64 = 366 * 24 * 3600;

/// For how long the job may run, seconds.
pub(crate) fn walltime_secs(job: &Job) -> u64 {
    job.spec
        .resources
        .seconds("walltime")
        .map_or(ENDLESS_SECS, |walltime| walltime.0.min(ENDLESS_SECS))
}
