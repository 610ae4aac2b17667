//! Which waiting jobs start now, where, and why the others do not.
//!
//! Strict order: a job that does not fit now keeps the nodes that are nearest to fitting it, and no job behind it
//! may use them. So nobody is overtaken on nodes that he waits for, and a job that fits an empty cluster starts in
//! the end, however many small ones come after it.

mod cluster;
mod desk;
mod explain;
mod feasible;
mod fit;
mod keep;
mod order;
mod request;

use capstan_types::{JobId, Reason, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{NodeShare, State};
pub(crate) use feasible::feasible;

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
    /// Why each other pending job does not start, by id ascending; for an array, why its next member does not.
    pub reasons: Vec<(JobId, Reason)>,
}

/// Plans all pending jobs of `state` at `now`. Planning twice gives the same plan.
#[must_use]
pub fn plan(state: &State, now: Timestamp) -> Plan {
    let line = order::line_up(state, now);
    let mut plan = Plan {
        placements: Vec::new(),
        reasons: line.aside,
    };
    let mut desk = desk::Desk::new(state);
    for job in line.jobs {
        desk.serve(job, &mut plan);
    }
    plan.reasons.sort_unstable_by_key(|(job, _)| *job);
    plan
}
