//! How a job hangs together with others, beyond waiting for single jobs: members of arrays it waits for, releases it
//! waits for without knowing from whom, and jobs it starts together with.

use capstan_types::{Condition, JobId, Timestamp};
use serde::{Deserialize, Serialize};

/// What a job still waits for besides [`crate::Job::waits_for`]. What is met is taken out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ties {
    /// When `depend` was last set; entries are shown in the order in which they were made, on both sides.
    pub since: Timestamp,
    /// `afterokarray:7[][3]`: members of arrays that it waits for.
    pub members: Vec<MembersWait>,
    /// `on:N`: so many jobs must still name it in `before…`.
    pub on: u32,
    /// What it starts together with, until that is complete.
    pub sync: Option<Sync>,
    /// All jobs of its complete set, itself included: they start together or not at all. Empty without one.
    #[serde(default)]
    pub set: Vec<JobId>,
}

/// Waiting for members of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembersWait {
    /// What must have become of them.
    pub condition: Condition,
    /// The array.
    pub array: JobId,
    /// How many of them; `None` for all.
    pub count: Option<u32>,
}

/// A set of jobs that starts when it is complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sync {
    /// `synccount:N`: so many others are to join; these have.
    Count {
        /// How many.
        wanted: u32,
        /// Those that named it in `syncwith`.
        joined: Vec<JobId>,
    },
    /// `syncwith:JOB`: it starts when that one's set is complete.
    With(JobId),
}

/// What `-W depend` can ask for besides waiting for single jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tie {
    /// `beforeok:JOB`: that job (or array) waits for this one.
    Before(Condition, JobId),
    /// `afterokarray:ARRAY[COUNT]`.
    Members(MembersWait),
    /// `on:N`.
    On(u32),
    /// `synccount:N`.
    SyncCount(u32),
    /// `syncwith:JOB`.
    SyncWith(JobId),
}

impl Ties {
    /// Whether the job may not start for any of them.
    #[must_use]
    pub fn hold(&self) -> bool {
        let waits_for_set = match &self.sync {
            Some(Sync::Count { wanted, joined }) => joined.len() < *wanted as usize,
            Some(Sync::With(_)) => true,
            None => false,
        };
        !self.members.is_empty() || self.on > 0 || waits_for_set
    }

    /// The jobs that it waits for.
    pub fn awaited(&self) -> impl Iterator<Item = JobId> {
        let master = match self.sync {
            Some(Sync::With(master)) => Some(master),
            Some(Sync::Count { .. }) | None => None,
        };
        self.members.iter().map(|wait| wait.array).chain(master)
    }
}
