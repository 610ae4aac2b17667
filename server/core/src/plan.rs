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
mod limits;
mod order;
mod request;

use capstan_types::{ChunkTarget, JobId, NodeSpec, Reason, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{JobSpec, NodeShare, OrderProblem, Rejection, State};
pub(crate) use feasible::{can_run_user, feasible};

/// A job to start, and what it gets; the script runs on the first share's node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The job (for an array member: its own id, though it has no record yet).
    pub job: JobId,
    /// What it gets, per node.
    pub shares: Vec<NodeShare>,
}

/// What `spec` gets now, on `hosts` instead of what it asks for if given: whoever is in line before it is passed by.
pub(crate) fn place_now(
    state: &State,
    spec: &JobSpec,
    hosts: Option<&NodeSpec>,
) -> Result<Vec<NodeShare>, Rejection> {
    let mut cluster = cluster::Cluster::new(state);
    let mut key = request::ShapeKey::of(spec);
    if let Some(hosts) = hosts {
        key.chunks = &hosts.chunks;
        key.loose_slots = None;
        let named = hosts.chunks.iter().find_map(|chunk| match &chunk.target {
            ChunkTarget::Named(name) if !is_known(state, name) => Some(name.clone()),
            ChunkTarget::Named(_) | ChunkTarget::Count(_) => None,
        });
        if let Some(name) = named {
            return Err(Rejection::Order(OrderProblem::NoSuchHost(name)));
        }
    }
    let shape = fit::Shape::new(key, 0, &cluster);
    fit::fit(&mut cluster, &shape).ok_or_else(|| fit::shortage(&cluster, &shape))
}

fn is_known(state: &State, name: &str) -> bool {
    let mut nodes = state.nodes();
    nodes.any(|node| *node.name.as_str() == *name || node.has_property(name))
}

/// A decision over all waiting jobs. A value: nothing has happened yet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Jobs to start, in the order decided.
    pub placements: Vec<Placement>,
    /// Why each other pending job does not start, by id ascending; for an array, why its next member does not.
    pub reasons: Vec<(JobId, Reason)>,
}

/// Plans all pending jobs of `state` at `now`. Planning twice gives the same plan. While the server's `scheduling` is
/// false nothing starts, and nobody is told why, as in Torque.
#[must_use]
pub fn plan(state: &State, now: Timestamp) -> Plan {
    if state
        .settings()
        .is_some_and(|settings| !settings.is_scheduling())
    {
        return Plan::default();
    }
    let line = order::line_up(state, now);
    let mut plan = Plan {
        placements: Vec::new(),
        reasons: line.aside,
    };
    let mut desk = desk::Desk::new(state, now);
    for job in line.jobs {
        desk.serve(job, &mut plan);
    }
    plan.reasons.sort_unstable_by_key(|(job, _)| *job);
    plan
}
