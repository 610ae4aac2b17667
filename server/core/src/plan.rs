//! Which waiting jobs start now, where, and why the others do not.
//!
//! Jobs are lined up by a score of named factors. Each gets what it asks for if that is free for as long as it may run;
//! for the first that does not fit, nodes are reserved from the time at which it will, and whoever is behind it starts
//! only where that delays no reservation. Who waits long enough goes to the front, so that everybody starts in the end.

mod card_types;
mod chunks;
mod cluster;
mod decide;
mod desk;
mod estimate;
mod explain;
mod feasible;
mod fit;
mod image;
mod inside;
mod kinds;
mod lending;
mod limits;
mod lots;
mod order;
mod preempt;
mod realm;
mod request;
mod reserve;
mod score;
mod setting_aside;
mod shape;
mod slices;
mod stock;
mod timeline;
mod together;
mod why;
mod windows;

use capstan_types::{AttemptId, ChunkTarget, JobId, NodeName, NodeSpec, Reason, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{Job, NodeShare, OrderProblem, Policy, PreemptionRight, Rejection, State};
pub use decide::decide;
use desk::Desk;
pub(crate) use feasible::{can_run_user, feasible};
pub use image::PrepareOrder;
use order::Candidates;
pub(crate) use realm::OWNING_QUEUES_MAX;
pub(crate) use score::log2;
pub(crate) use setting_aside::{expected_end, set_nodes_aside};
pub(crate) use together::misfit;
pub use why::{
    Amount, Awaited, Blocker, Confidence, ExpectedStart, Explanation, Factor, Holder, Lack,
    LinePlace, NearNode, Sooner, Suggestion, explain, waited,
};

/// A job to start, and what it gets; the script runs on the first share's node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The job (for an array member: its own id, though it has no record yet).
    pub job: JobId,
    /// What it gets, per node.
    pub shares: Vec<NodeShare>,
}

/// What `job` gets now, on `hosts` instead of what it asks for if given: whoever is in line before it is passed by. Beside
/// it those of these nodes that lack its image; nodes that hold it are taken first.
pub(crate) fn place_now(
    state: &State,
    job: &Job,
    hosts: Option<&NodeSpec>,
    now: Timestamp,
) -> Result<(Vec<NodeShare>, Vec<NodeName>), Rejection> {
    let mut cluster = cluster::Cluster::new(state, Timestamp(0));
    let mut key = request::ShapeKey::of(&job.spec);
    let settings = state.settings();
    key.needs = settings.and_then(|settings| settings.image_of(&job.queue, &job.spec));
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
    let mut shape = fit::Shape::new(key, 0, &cluster);
    shape.look_for_images(&cluster, now);
    let span = cluster.span(0);
    if let Some(best) = image::fit_best(&mut cluster, &mut shape, span) {
        return Ok(best);
    }
    let lack = image::lacks_image(&mut cluster, &mut shape, span);
    if let Some(Reason::EngineAway { on, problem }) = lack {
        return Err(Rejection::Order(OrderProblem::EngineAway { on, problem }));
    }
    Err(fit::shortage(&cluster, &shape))
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
    /// Jobs that were considered, first in line first, those that start included; an array stands for its members.
    pub line: Vec<JobId>,
    /// Nodes reserved for jobs that do not fit now, in the order in which they were.
    pub promises: Vec<Promise>,
    /// Running jobs to stop so that others fit, one waiting job after the other.
    pub preemptions: Vec<Preemption>,
    /// Images to be fetched for jobs that wait for nothing else, or soon will.
    pub preparations: Vec<PrepareOrder>,
    /// When the plan would be another one though nothing has happened: a job has waited too long then, or has run long
    /// enough to be stopped.
    pub look_again: Option<Timestamp>,
}

/// A running job to stop so that a waiting one fits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preemption {
    /// The job to stop.
    pub job: JobId,
    /// Its attempt.
    pub attempt: AttemptId,
    /// The job that is to fit (of an array: the member).
    pub for_job: JobId,
    /// Why it may.
    pub right: PreemptionRight,
    /// Back to its queue, and not ended.
    pub requeue: bool,
    /// Between SIGTERM and SIGKILL, seconds.
    pub grace_secs: u32,
}

/// Nodes reserved for a job that does not fit now. Whoever starts before does not make it wait longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promise {
    /// The job (of an array: the member).
    pub job: JobId,
    /// When it starts at the latest, if everybody uses up his walltime and nothing with a higher score comes.
    pub start: Timestamp,
    /// When it will have ended.
    pub until: Timestamp,
    /// What it gets, per node.
    pub nodes: Vec<Promised>,
}

/// What of a node is reserved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promised {
    /// The node.
    pub node: NodeName,
    /// Slots.
    pub slots: u32,
    /// Cards.
    pub cards: u32,
    /// Memory.
    pub memory_bytes: u64,
}

/// Plans all pending jobs of `state` at `now`. Planning twice gives the same plan. While the server's `scheduling` is
/// false nothing starts, and nobody is told why, as in Torque.
#[must_use]
pub fn plan(state: &State, now: Timestamp) -> Plan {
    let Some((policy, mut desk)) = open(state, now) else {
        return Plan::default();
    };
    let mut candidates = Candidates::of(state, &policy, now);
    let line = candidates.line_up();
    let mut plan = Plan {
        reasons: line.aside,
        line: line.jobs.iter().map(|waiting| waiting.job.id).collect(),
        ..Plan::default()
    };
    plan.reasons.reserve(line.jobs.len());
    for waiting in line.jobs {
        desk.serve(waiting, &mut plan);
    }
    finish(&mut plan, desk, candidates.next_starving);
    plan.reasons.sort_unstable_by_key(|(job, _)| *job);
    plan
}

/// The desk, if anything starts at all.
fn open(state: &State, now: Timestamp) -> Option<(Policy, Desk<'_>)> {
    let settings = state.settings()?;
    let policy = Policy::of(settings);
    settings
        .is_scheduling()
        .then(|| (policy, Desk::new(state, &policy, now)))
}

/// What is known when all have been served.
fn finish(plan: &mut Plan, mut desk: Desk<'_>, next_starving: Option<Timestamp>) {
    desk.prepare(plan);
    plan.promises = desk.promises();
    let look_again = next_starving.into_iter().chain(desk.preemptor.look_again());
    let look_again = look_again.chain(desk.windows.next_change());
    let look_again = look_again.chain(desk.look_again());
    let look_again = look_again.chain(desk.tries_image_again());
    plan.look_again = look_again.min();
    plan.preemptions = desk.preemptor.take_chosen();
}
