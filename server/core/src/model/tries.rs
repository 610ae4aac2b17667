//! What was tried in vain with a job: too much of it, and the job is held until a person has dealt with the reason.

use serde::{Deserialize, Serialize};

/// Counted since the job came, or a person had it tried anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tries {
    /// Starts in a row that a node failed; none once it runs.
    pub failed_starts: u32,
    /// Attempts that were lost, or asked for another by their exit status.
    pub lost_attempts: u32,
}

impl Tries {
    /// Nothing was, as of nearly all jobs.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}
