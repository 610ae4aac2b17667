//! How the server orders waiting jobs and chooses nodes for them.

use serde::{Deserialize, Serialize};

/// The manner of the scheduler.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scheduler {
    /// Ours: by priority of queue and job, then age. A job that does not fit keeps the nodes nearest to fitting it, and
    /// jobs are packed, so that whole cards and nodes stay free.
    #[default]
    Packing,
    /// As Torque's `pbs_sched` does with the settings it comes with: first come, first served by queue priority, and who
    /// fits starts, unless a job has waited for [`Self::STARVING_SECS`]: nodes are then kept for it. Nodes are taken in
    /// the order in which they were declared; of several, the last is printed first and runs the script. `-p` is kept
    /// and shown, as there.
    Fifo,
}

impl Scheduler {
    /// After so long a job that waits under [`Self::Fifo`] is starving (`max_starve` of `pbs_sched`).
    pub const STARVING_SECS: u64 = 24 * 3600;

    /// Reads `packing` or `fifo`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "packing" => Some(Self::Packing),
            "fifo" => Some(Self::Fifo),
            _ => None,
        }
    }
}
