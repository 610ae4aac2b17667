//! Strict order, told once more without the plan's own words: the first job in line that does not start keeps as
//! many nodes as it asks for, of those that could ever serve it, from everyone behind it.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

use capstan_core::{Job, Node, Plan, State};
use capstan_types::{Chunk, ChunkTarget, JobId, NodeName, Timestamp};

pub(crate) fn check(state: &State, plan: &Plan, now: Timestamp) {
    let line = line(state, now);
    let is_placed = |id: JobId| plan.placements.iter().any(|placement| placement.job == id);
    let Some(first) = line.iter().position(|job| !is_placed(job.id)) else {
        return;
    };
    let job = &line[first];
    let (Some(nodes), None) = (&job.spec.nodes, &job.spec.array) else {
        return; // Arrays and loose slots have scenarios of their own.
    };
    let [chunk] = &nodes.chunks[..] else {
        return;
    };
    let memory = job
        .spec
        .memory_bytes
        .unwrap_or(0)
        .div_ceil(u64::from(chunk.node_count()));
    let suiting: Vec<&Arc<Node>> = state
        .nodes()
        .filter(|node| suits(node, chunk, memory))
        .collect();
    let wanted = chunk.node_count() as usize;
    if suiting.len() < wanted {
        return; // Nothing is kept for a job that cannot run on the nodes that are up.
    }
    let behind: BTreeSet<JobId> = line[first + 1..].iter().map(|job| job.id).collect();
    let is_behind = |id: JobId| behind.contains(&id) || behind.contains(&JobId::array(id.seq));
    let later = plan
        .placements
        .iter()
        .filter(|placement| is_behind(placement.job));
    let used: BTreeSet<&NodeName> = later
        .flat_map(|placement| &placement.shares)
        .map(|share| &share.node)
        .collect();
    let kept = suiting
        .iter()
        .filter(|node| !used.contains(&node.name))
        .count();
    assert!(
        kept >= wanted,
        "{} keeps {kept} of {wanted} nodes: {plan:?}",
        job.id
    );
}

/// Those that may start, in order; arrays as one, at the place of their next member.
fn line(state: &State, now: Timestamp) -> Vec<Arc<Job>> {
    let pending = state.pending().filter(|job| job.is_eligible(now));
    let mut line: Vec<_> = pending
        .filter(|job| {
            job.array
                .as_ref()
                .is_none_or(|array| !array.waiting.is_empty())
        })
        .cloned()
        .collect();
    line.sort_by_key(|job| {
        let next = job.array.as_ref().and_then(|array| array.waiting.first());
        let id = next.map_or(job.id, |index| JobId::member(job.id.seq, index));
        let place = job.place.unwrap_or((job.queued, id));
        (Reverse(job.priority), place)
    });
    line
}

fn suits(node: &Node, chunk: &Chunk, memory: u64) -> bool {
    let is_meant = match &chunk.target {
        ChunkTarget::Count(_) => true,
        ChunkTarget::Named(name) => *node.name.as_str() == **name,
    };
    is_meant
        && node.is_usable()
        && u32::from(node.slots) >= chunk.ppn
        && node.inventory.cards.len() >= chunk.gpus as usize
        && node.inventory.memory_bytes >= memory
}
