//! Nodes: an agent that comes and what it knows, one that goes, other hardware, what operators say.
//!
//! On every connect both sides reconcile. The agent says what it knows; here is decided, attempt by attempt, what
//! goes on, what starts again, what is over, and what must be stopped because it is no job's any more.

use std::sync::Arc;

use capstan_types::{AgentId, AttemptId, CardId, NodeName};

use super::draft::Draft;
use super::manage::NOTE_BYTES_MAX;
use super::{alter, attempt, report};
use crate::{
    Effect, Hello, Inventory, Job, JobState, Link, Node, NodeOrder, Rejection, ReportedPhase,
    Settings,
};

/// A node for which no agent has come yet: what is known of it is what is configured.
pub(super) fn configured(name: NodeName, link: Link, settings: &Settings) -> Node {
    let mut node = Node {
        name,
        agent: AgentId::from(""),
        inventory: Inventory::default(),
        slots: 0,
        properties: Vec::new(),
        link,
        is_offline: false,
        note: Box::default(),
        unclean: Vec::new(),
        strays: Vec::new(),
        ordinal: 0,
        is_unwell: false,
        preparing: Vec::new(),
    };
    configure(&mut node, Some(settings));
    node
}

/// The nodes that are configured and not there yet are there from now on.
pub(super) fn add_configured(draft: &mut Draft, settings: &Settings) {
    let declared = settings.declared.iter();
    let declared = declared.filter(|name| settings.nodes.contains_key(*name));
    for name in declared.chain(settings.nodes.keys()) {
        if draft.state.node(name).is_none() {
            draft.put_node(configured(name.clone(), Link::Never, settings));
        }
    }
}

/// Every node's link is lost, and what the settings say of nodes holds anew.
pub(super) fn all_lost(draft: &mut Draft) {
    let nodes: Vec<Arc<Node>> = draft.state.nodes().cloned().collect();
    let settings = draft.state.settings().cloned();
    for node in nodes {
        let mut node = Node::clone(&node);
        node.link = match node.has_joined() {
            true => Link::Lost(draft.now),
            false => Link::Never,
        };
        configure(&mut node, settings.as_deref());
        draft.put_node(node);
    }
}

pub(super) fn attached(draft: &mut Draft, hello: &Hello) -> Result<(), Rejection> {
    let old = draft.state.node(&hello.node).cloned();
    let taken = old
        .as_ref()
        .is_some_and(|node| node.is_up() && node.agent != hello.agent);
    if taken {
        return Err(Rejection::NodeNameTaken(hello.node.clone()));
    }
    put_attached(draft, hello, old);
    miss_unknown(draft, hello)?;
    for known in &hello.attempts {
        let is_live = match known.phase {
            ReportedPhase::Starting | ReportedPhase::Running { .. } | ReportedPhase::Using(_) => {
                true
            }
            ReportedPhase::Exited { .. }
            | ReportedPhase::Unstartable { .. }
            | ReportedPhase::Lost { .. }
            | ReportedPhase::StageInFailed { .. }
            | ReportedPhase::PrologueFailed { .. } => false,
        };
        if is_live && report::current(draft, &hello.node, known.attempt).is_none() {
            attempt::add_stray(draft, &hello.node, known.attempt);
        }
        report::reported(draft, &hello.node, known)?;
    }
    restart_and_stop(draft, hello);
    super::prepare::resume(draft, &hello.node);
    let expected = draft.state.held_on(&hello.node).map(|(attempt, _)| attempt);
    let expected =
        expected.filter(|attempt| report::current(draft, &hello.node, *attempt).is_some());
    let welcome = Effect::WelcomeNode {
        node: hello.node.clone(),
        agent: hello.agent.clone(),
        attempts: expected.collect(),
    };
    // The answer to the hello comes before every order about single attempts.
    draft.effects.insert(0, welcome);
    Ok(())
}

fn put_attached(draft: &mut Draft, hello: &Hello, old: Option<Arc<Node>>) {
    let has = |card: &CardId| hello.inventory.cards.iter().any(|own| own.uuid == *card);
    let preparing = old.as_ref().map_or(Vec::new(), |old| old.preparing.clone());
    let (is_offline, note, unclean) = match old {
        Some(old) => {
            let unclean = old
                .unclean
                .iter()
                .filter(|card| has(card))
                .cloned()
                .collect();
            (old.is_offline, old.note.clone(), unclean)
        }
        None => (false, Box::default(), Vec::new()),
    };
    let mut unclean: Vec<CardId> = unclean;
    let not_clean = hello.unclean.iter().filter(|card| has(card));
    for card in not_clean {
        if !unclean.contains(card) {
            unclean.push(card.clone());
        }
    }
    let mut node = Node {
        name: hello.node.clone(),
        agent: hello.agent.clone(),
        inventory: hello.inventory.clone(),
        slots: 0,
        properties: Vec::new(),
        link: Link::Up(draft.now),
        is_offline,
        note,
        unclean,
        // What is astray shows when the agent's attempts are gone through.
        strays: Vec::new(),
        ordinal: 0,
        is_unwell: false,
        preparing,
    };
    configure(&mut node, draft.state.settings().map(AsRef::as_ref));
    draft.put_node(node);
}

/// Attempts that should be in the agent's ledger and are not: lost, unless it may never have heard of them.
fn miss_unknown(draft: &mut Draft, hello: &Hello) -> Result<(), Rejection> {
    let is_known = |attempt: AttemptId| hello.attempts.iter().any(|known| known.attempt == attempt);
    for (attempt, job) in scripts_on(draft, &hello.node) {
        match &job.state {
            JobState::Running(_) | JobState::Exiting(..) if !is_known(attempt) => {
                attempt::lost(
                    draft,
                    &job,
                    &format!("node {} came back without it", hello.node),
                )?;
            }
            JobState::Pending
            | JobState::Starting(_)
            | JobState::Running(_)
            | JobState::Exiting(..)
            | JobState::Ended(_) => {}
        }
    }
    Ok(())
}

/// Orders that the agent may have missed are given again.
fn restart_and_stop(draft: &mut Draft, hello: &Hello) {
    let node = &hello.node;
    for (attempt, job) in scripts_on(draft, node) {
        match &job.state {
            JobState::Starting(_) => {
                let is_known = hello.attempts.iter().any(|known| known.attempt == attempt);
                if !is_known {
                    let node = node.clone();
                    draft.effects.push(Effect::StartAttempt { node, job });
                }
            }
            JobState::Exiting(_, order) => draft.effects.push(Effect::StopAttempt {
                node: node.clone(),
                attempt,
                grace_secs: order.grace_secs,
            }),
            JobState::Running(run) if run.is_altered => alter::tell_limits(draft, &job),
            JobState::Pending | JobState::Running(_) | JobState::Ended(_) => {}
        }
    }
}

/// The attempts whose script runs on `node`, in order.
fn scripts_on(draft: &Draft, node: &NodeName) -> Vec<(AttemptId, Arc<Job>)> {
    let held = draft.state.held_on(node);
    let here =
        held.filter_map(|(attempt, _)| Some((attempt, report::current(draft, node, attempt)?)));
    here.collect()
}

pub(super) fn detached(draft: &mut Draft, name: &NodeName, agent: &AgentId) {
    let node = draft
        .state
        .node(name)
        .filter(|node| node.is_up() && node.agent == *agent);
    if let Some(node) = node {
        let mut node = Node::clone(node);
        node.link = Link::Lost(draft.now);
        draft.put_node(node);
    }
}

pub(super) fn changed(
    draft: &mut Draft,
    name: &NodeName,
    inventory: &Inventory,
) -> Result<(), Rejection> {
    let mut node = Node::clone(known(draft, name)?);
    let had = |card: &CardId| node.inventory.cards.iter().any(|own| own.uuid == *card);
    // What comes while the node is up is lent once a heartbeat has seen it clean.
    let new = inventory.cards.iter().map(|card| &card.uuid);
    let new: Vec<CardId> = new.filter(|card| !had(card)).cloned().collect();
    node.inventory = inventory.clone();
    node.unclean
        .retain(|card| inventory.cards.iter().any(|own| own.uuid == *card));
    node.unclean.extend(new);
    configure(&mut node, draft.state.settings().map(AsRef::as_ref));
    put_if_changed(draft, node);
    Ok(())
}

pub(super) fn unclean(
    draft: &mut Draft,
    name: &NodeName,
    cards: &[CardId],
) -> Result<(), Rejection> {
    let mut node = Node::clone(known(draft, name)?);
    let own = node.inventory.cards.iter().map(|card| &card.uuid);
    node.unclean = own.filter(|card| cards.contains(card)).cloned().collect();
    put_if_changed(draft, node);
    Ok(())
}

pub(super) fn alter(draft: &mut Draft, order: &NodeOrder) -> Result<(), Rejection> {
    draft.require_operator(&order.by)?;
    let mut node = Node::clone(known(draft, &order.node)?);
    node.is_offline = order.offline.unwrap_or(node.is_offline);
    if let Some(note) = &order.note {
        node.note = note.clone();
    }
    put_if_changed(draft, node);
    Ok(())
}

fn known<'a>(draft: &'a Draft, name: &NodeName) -> Result<&'a Arc<Node>, Rejection> {
    let node = draft.state.node(name);
    node.ok_or_else(|| Rejection::UnknownNode(name.clone()))
}

fn put_if_changed(draft: &mut Draft, node: Node) {
    let is_same = draft
        .state
        .node(&node.name)
        .is_some_and(|old| **old == node);
    if !is_same {
        draft.put_node(node);
    }
}

/// Slots and properties as the settings have them. An agent that cannot tell its cores has one slot.
pub(super) fn configure(node: &mut Node, settings: Option<&Settings>) {
    let own = settings.and_then(|settings| settings.nodes.get(&node.name));
    let fallback = settings.and_then(|settings| settings.attributes.limit("np_default"));
    let np = own.and_then(|own| own.limit("np"));
    // What is asked of a node can only be counted in its own numbers; the bounds of `np` are checked where it is set.
    let slots = np.or(fallback).and_then(|np| u16::try_from(np).ok());
    node.slots = slots.unwrap_or(node.inventory.cores).max(1);
    node.properties = own.map_or_else(Vec::new, |own| own.list("properties").to_vec());
    let counts = settings.and_then(|settings| settings.attributes.boolean("down_on_error"));
    node.is_unwell = !node.inventory.health_problem.is_empty() && counts != Some(false);
    let appends = settings.and_then(|settings| settings.attributes.boolean("note_append_on_error"));
    if appends == Some(true) {
        note_problem(node);
    }
}

/// Puts what the health script complains of behind the node's note, once: it stays there when the script is content again,
/// until somebody has read it and takes it away. What does not fit is not begun.
fn note_problem(node: &mut Node) {
    let problem: String = (node.inventory.health_problem.chars())
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if problem.is_empty() || node.note.contains(&problem) {
        return;
    }
    let note = match node.note.is_empty() {
        true => problem,
        false => format!("{} - {problem}", node.note),
    };
    if note.len() <= NOTE_BYTES_MAX {
        node.note = note.into();
    }
}
