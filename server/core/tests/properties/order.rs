//! Reservations, told once more without the plan's own words: whatever starts now, everybody who is promised nodes finds
//! them free at the promised time if all others use up their walltimes. So nobody who overtakes makes him wait longer.

use std::collections::BTreeMap;
use std::sync::Arc;

use capstan_core::{Event, Job, JobState, Node, NodeShare, Plan, State};
use capstan_types::{CardId, NodeName, Timestamp};

use crate::harness::World;

/// A job that says no walltime may go on for ever; what it holds never comes back.
const NEVER: Timestamp = Timestamp(u64::MAX);
/// What should have come back already may come back so much later.
const OVERDUE_SECS: u64 = 60;

/// What is used of a node from one time to another.
struct Use {
    node: NodeName,
    from: Timestamp,
    until: Timestamp,
    slots: u64,
    cards: u64,
    memory_bytes: u64,
    /// By an attempt that there is already.
    is_lent: bool,
}

/// For so many jobs that do not fit nodes are reserved.
pub(crate) fn set_depth(world: &mut World, depth: u32) {
    world.settings.set("backfill_depth", &depth.to_string());
    let settings = world.settings.clone();
    let nodes: Vec<Arc<Node>> = world.state.nodes().cloned().collect();
    world.must(&Event::ServerStarted(Arc::new(settings)));
    for node in nodes.iter().filter(|node| node.is_up()) {
        let name = node.name.as_str();
        world.attach(name, node.inventory.clone(), Vec::new());
    }
}

pub(crate) fn check(state: &State, plan: &Plan, now: Timestamp) {
    let uses = uses(state, plan, now);
    let mut by_node: BTreeMap<&NodeName, Vec<&Use>> = BTreeMap::new();
    for one in &uses {
        by_node.entry(&one.node).or_default().push(one);
    }
    for (name, uses) in by_node {
        let Some(node) = state.node(name) else {
            continue; // What is held on a node that is gone is nobody's to promise.
        };
        // What is used grows only when something begins.
        for at in uses.iter().map(|one| one.from) {
            let then = || {
                uses.iter()
                    .filter(move |one| one.from <= at && at < one.until)
            };
            let sum = |amount: fn(&Use) -> u64| {
                let all: u64 = then().map(|one| amount(one)).sum();
                let given = then().filter(|one| !one.is_lent);
                let given: u64 = given.map(|one| amount(one)).sum();
                // A node may have lost what was lent of it; no more of that is given then.
                if given == 0 { 0 } else { all }
            };
            let gives = (
                sum(|one| one.slots),
                sum(|one| one.cards),
                sum(|one| one.memory_bytes),
            );
            let has = (
                u64::from(node.slots),
                node.inventory.cards.len() as u64,
                node.inventory.memory_bytes,
            );
            assert!(
                gives.0 <= has.0 && gives.1 <= has.1 && gives.2 <= has.2,
                "{name} has {has:?} and gives {gives:?} at {at}: {plan:?}"
            );
        }
    }
    for promise in &plan.promises {
        assert!(promise.start > now, "{promise:?} could start now");
        let is_placed = plan.placements.iter().any(|one| one.job == promise.job);
        assert!(!is_placed, "{} starts and is promised", promise.job);
    }
}

fn uses(state: &State, plan: &Plan, now: Timestamp) -> Vec<Use> {
    let mut uses = Vec::new();
    for (_, job) in state.running() {
        let run = job.state.run().unwrap();
        let began = run.started.map_or(run.placed, |(at, _)| at);
        let until = match &job.state {
            JobState::Exiting(_, order) => {
                let killed = order.at.plus_secs(order.grace_secs.into());
                end(job, began).min(killed)
            }
            JobState::Pending
            | JobState::Starting(_)
            | JobState::Running(_)
            | JobState::Ended(_) => end(job, began),
        };
        let until = until.max(now.plus_secs(OVERDUE_SECS));
        uses.extend(
            run.shares
                .iter()
                .map(|share| lent(state, share, now, until)),
        );
    }
    for placement in &plan.placements {
        let job = state.resolve(placement.job).unwrap();
        let until = end(&job, now);
        let shares = placement.shares.iter();
        uses.extend(shares.map(|share| used(share, now, until)));
    }
    for promise in &plan.promises {
        uses.extend(promise.nodes.iter().map(|promised| Use {
            node: promised.node.clone(),
            from: promise.start,
            until: promise.until,
            slots: promised.slots.into(),
            cards: promised.cards.into(),
            memory_bytes: promised.memory_bytes,
            is_lent: false,
        }));
    }
    uses
}

fn end(job: &Job, began: Timestamp) -> Timestamp {
    let walltime = job.spec.resources.seconds("walltime");
    walltime.map_or(NEVER, |walltime| began.plus_secs(walltime.0))
}

/// What an attempt holds of what the node still has: a card or slot that it has lost is nobody's to give.
fn lent(state: &State, share: &NodeShare, from: Timestamp, until: Timestamp) -> Use {
    let node = state.node(&share.node);
    let has_card = |uuid: &CardId| {
        let mut cards = node.iter().flat_map(|node| &node.inventory.cards);
        cards.any(|card| card.uuid == *uuid)
    };
    let cards = share.cards.iter().filter(|card| has_card(&card.uuid));
    let slots = node.map_or(0, |node| node.slots);
    let there = share.slots.iter().filter(|slot| **slot < slots);
    Use {
        is_lent: true,
        cards: cards.count() as u64,
        slots: there.count() as u64,
        ..used(share, from, until)
    }
}

fn used(share: &NodeShare, from: Timestamp, until: Timestamp) -> Use {
    Use {
        node: share.node.clone(),
        from,
        until,
        slots: share.slots.len() as u64,
        cards: share.cards.len() as u64,
        memory_bytes: share.memory_bytes,
        is_lent: false,
    }
}
