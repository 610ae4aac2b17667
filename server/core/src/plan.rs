//! Which waiting jobs start now, where, and why the others do not.

use capstan_types::{JobId, Reason, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{NodeShare, State};

/// A job to start, and what it gets; the script runs on the first share's node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The job (for an array member: its own id, though it has no record yet).
    pub job: JobId,
    /// What it gets, per node.
    pub shares: Vec<NodeShare>,
}

/// A decision over all waiting jobs. A value: nothing has happened yet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Jobs to start, in the order decided.
    pub placements: Vec<Placement>,
    /// Why each other pending job does not start, by id ascending.
    pub reasons: Vec<(JobId, Reason)>,
}

/// Plans all pending jobs of `state` at `now`. Planning twice gives the same plan.
#[must_use]
pub fn plan(state: &State, now: Timestamp) -> Plan {
    let _ = (state, now);
    Plan::default()
}
