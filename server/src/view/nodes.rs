//! Nodes, as `pbsnodes` shows them: what the state says of them, and the last heartbeat as Torque's `status` and
//! `gpu_status`.

use std::fmt::Write;

use capstan_core::{Card, Link, Node, NodeShare};
use capstan_proto::{Refusal, wire};
use capstan_types::{AttemptId, Pbse};

use super::attributes::Attributes;
use super::{Scene, words};
use crate::telemetry::NodeTelemetry;

/// The node of this name, all nodes with a property (`:S`), or all.
///
/// # Errors
/// A node or a property that is not there, and no nodes at all.
pub(crate) fn nodes(scene: Scene<'_>, wanted: &str) -> Result<wire::StatNodesReply, Refusal> {
    let is_wanted = |node: &Node| match wanted.strip_prefix(':') {
        Some(property) => node.has_property(property),
        None => wanted.is_empty() || node.name.as_str() == wanted,
    };
    let found = scene.snapshot.state.nodes().filter(|node| is_wanted(node));
    let nodes: Vec<wire::NodeRow> = found.map(|node| row(scene, node)).collect();
    match (nodes.is_empty(), wanted) {
        (false, _) => Ok(wire::StatNodesReply { nodes }),
        (true, "") => {
            let detail = "node list is empty - no agent has attached yet";
            Err(Refusal::new(Pbse::Nonodes, detail))
        }
        (true, _) => Err(Refusal::new(Pbse::Unknode, "cannot locate specified node")),
    }
}

fn row(scene: Scene<'_>, node: &Node) -> wire::NodeRow {
    let held: Vec<(AttemptId, &NodeShare)> = scene.snapshot.state.held_on(&node.name).collect();
    let heartbeat = scene.telemetry.of(&node.name);
    let state = state(scene, node, &held);
    let cards = &node.inventory.cards;
    let mut list = Attributes::default();
    list.put("state", &state);
    list.put("power_state", "Running");
    list.put("np", node.slots);
    list.put_some(
        "properties",
        Some(node.properties.join(",")).filter(|p| !p.is_empty()),
    );
    list.put("ntype", "cluster");
    list.put_some(
        "jobs",
        Some(jobs(scene, &held)).filter(|jobs| !jobs.is_empty()),
    );
    list.put("status", status(scene, node, &held, heartbeat.as_deref()));
    list.put_some("note", Some(&node.note).filter(|note| !note.is_empty()));
    if !cards.is_empty() {
        list.put("gpus", cards.len());
        list.put("gpu_status", gpu_status(node, &held, heartbeat.as_deref()));
    }
    wire::NodeRow {
        name: node.name.to_string(),
        state,
        note: node.note.to_string(),
        attributes: list.0,
        simulated: node.inventory.simulated,
    }
}

/// `free`, or a comma list of what keeps it from being so.
fn state(scene: Scene<'_>, node: &Node, held: &[(AttemptId, &NodeShare)]) -> String {
    let slots: usize = held.iter().map(|(_, share)| share.slots.len()).sum();
    let down_after = scene.snapshot.settings().node_down_after_secs;
    let is_down = match node.link {
        Link::Up(_) => false,
        Link::Lost(since) => scene.now >= since.plus_secs(down_after),
    };
    let words = [
        (is_down, "down"),
        (node.is_offline, "offline"),
        (slots >= usize::from(node.slots), "job-exclusive"),
    ];
    let words: Vec<&str> = words
        .into_iter()
        .filter(|(is_so, _)| *is_so)
        .map(|(_, w)| w)
        .collect();
    match words.is_empty() {
        true => "free".to_owned(),
        false => words.join(","),
    }
}

/// `0-1/374.hn1,2/375.hn1`.
fn jobs(scene: Scene<'_>, held: &[(AttemptId, &NodeShare)]) -> String {
    let mut held = held.to_vec();
    held.sort_by_key(|(_, share)| share.slots.first().copied());
    let mut text = String::new();
    for (attempt, share) in held {
        let Some(job) = scene.snapshot.state.job_of(attempt) else {
            continue;
        };
        if !text.is_empty() {
            text.push(',');
        }
        words::slot_ranges(&mut text, &share.slots);
        text.extend(["/", &job.id.on(scene.server())]);
    }
    text
}

/// What Torque's daemon would have reported, as far as we know it.
fn status(
    scene: Scene<'_>,
    node: &Node,
    held: &[(AttemptId, &NodeShare)],
    heartbeat: Option<&NodeTelemetry>,
) -> String {
    let inventory = &node.inventory;
    let physical = inventory.memory_bytes >> 10;
    // A comma in a value would begin the next item.
    let plain = |text: &str| text.replace([',', '\n'], ";");
    let mut text = format!(
        "opsys=linux,uname={},totmem={physical}kb",
        plain(&inventory.uname)
    );
    if let Some(heartbeat) = heartbeat {
        let available = heartbeat.memory_available_bytes >> 10;
        put(&mut text, format_args!(",availmem={available}kb"));
    }
    put(
        &mut text,
        format_args!(",physmem={physical}kb,ncpus={}", inventory.cores),
    );
    if let Some(heartbeat) = heartbeat {
        put(
            &mut text,
            format_args!(",loadave={:.2}", heartbeat.load_average),
        );
    }
    let state = if node.is_up() { "free" } else { "down" };
    put(
        &mut text,
        format_args!(",gres=,netload=0,state={state},varattr= ,cpuclock=Fixed"),
    );
    if !inventory.engine.is_empty() {
        put(
            &mut text,
            format_args!(",engine={}", plain(&inventory.engine)),
        );
    }
    let report = heartbeat.map_or_else(
        || match node.link {
            Link::Up(at) | Link::Lost(at) => at,
        },
        |heartbeat| heartbeat.at,
    );
    put(&mut text, format_args!(",rectime={},jobs=", report.secs()));
    let jobs = held
        .iter()
        .filter_map(|(attempt, _)| scene.snapshot.state.job_of(*attempt));
    let jobs: Vec<String> = jobs.map(|job| job.id.on(scene.server())).collect();
    text.push_str(&jobs.join(" "));
    for message in messages(node) {
        put(&mut text, format_args!(",message={}", plain(&message)));
    }
    text
}

/// What an administrator should know of the node.
fn messages(node: &Node) -> Vec<String> {
    let inventory = &node.inventory;
    let mut messages = Vec::new();
    if !inventory.gpu_problem.is_empty() {
        messages.push(format!("gpu: {}", inventory.gpu_problem));
    }
    if !inventory.engine_problem.is_empty() {
        messages.push(format!("engine: {}", inventory.engine_problem));
    }
    if !node.unclean.is_empty() {
        let cards: Vec<&str> = node.unclean.iter().map(|card| card.as_str()).collect();
        messages.push(format!("cards in use by no job: {}", cards.join(" ")));
    }
    if !node.strays.is_empty() {
        messages.push(format!(
            "{} old attempts are being stopped",
            node.strays.len()
        ));
    }
    if inventory.simulated {
        messages.push("cards are simulated".to_owned());
    }
    messages
}

/// `gpu[0]=gpu_id=…;gpu_product_name=…,driver_ver=…,timestamp=…`.
fn gpu_status(
    node: &Node,
    held: &[(AttemptId, &NodeShare)],
    heartbeat: Option<&NodeTelemetry>,
) -> String {
    let mut text = String::new();
    for card in &node.inventory.cards {
        let is_lent = held
            .iter()
            .flat_map(|(_, share)| &share.cards)
            .any(|c| c.uuid == card.uuid);
        let is_clean = !node.unclean.contains(&card.uuid);
        let state = match (is_lent, is_clean) {
            (true, _) => "Exclusive",
            (false, true) => "Unallocated",
            (false, false) => "Unavailable",
        };
        one_card(&mut text, card, state, heartbeat);
        text.push(',');
    }
    let driver = node
        .inventory
        .cards
        .first()
        .map(|card| &*card.driver)
        .unwrap_or_default();
    let at = heartbeat
        .map(|heartbeat| words::ctime(heartbeat.at))
        .unwrap_or_default();
    put(
        &mut text,
        format_args!("driver_ver={driver},timestamp={at}"),
    );
    text
}

fn one_card(text: &mut String, card: &Card, state: &str, heartbeat: Option<&NodeTelemetry>) {
    let (id, model) = (&card.pci_address, card.model.replace([',', ';'], " "));
    put(
        text,
        format_args!(
            "gpu[{}]=gpu_id={id};gpu_uuid={};gpu_product_name={model};gpu_memory_total={} MB",
            card.index,
            card.uuid,
            card.memory_bytes >> 20
        ),
    );
    let used = heartbeat.and_then(|heartbeat| heartbeat.cards.get(&card.uuid));
    if let Some(used) = used {
        let (memory, percent) = (used.memory_used_bytes >> 20, used.utilization_percent);
        let heat = used.temperature_celsius;
        put(
            text,
            format_args!(
                ";gpu_memory_used={memory} MB;gpu_utilization={percent}%;gpu_temperature={heat} C"
            ),
        );
    }
    put(text, format_args!(";gpu_mode=Default;gpu_state={state}"));
}

fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what).expect("a String takes everything");
}
