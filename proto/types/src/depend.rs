//! Dependencies between jobs: `afterok:1:2,afterany:3`.

use serde::{Deserialize, Serialize};

use crate::{JobReference, ParseError};

/// When a job that waits for another may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Condition {
    /// Once it has started.
    After,
    /// Once it has ended with exit status 0.
    AfterOk,
    /// Once it has ended with another exit status.
    AfterNotOk,
    /// Once it has ended.
    AfterAny,
}

/// One condition on one job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency {
    /// What must have happened.
    pub condition: Condition,
    /// To which job.
    pub job: JobReference,
}

/// A dependency list as typed in `-W depend=`.
pub type Dependencies = Vec<Dependency>;

impl Dependency {
    /// Reads `TYPE:JOB[:JOB…][,TYPE:JOB…]`.
    ///
    /// # Errors
    /// An unknown type, a missing or malformed job id.
    pub fn parse_list(text: &str) -> Result<Dependencies, ParseError> {
        Err(ParseError::new(text, 0, "a dependency type"))
    }
}
