//! Nodes, as `pbsnodes` shows them: what the state says of them, and the last heartbeat as Torque's `status` and
//! `gpu_status`.

use std::fmt::Write;

use capstan_core::{Card, CardTraits, Link, Node, NodeShare, ShareCard};
use capstan_proto::{Refusal, wire};
use capstan_types::{AttemptId, AttributeObject, CardId, Pbse, Version};

use super::attributes::Attributes;
use super::queues::{line, listing, set};
use super::{Scene, words};
use crate::telemetry::NodeTelemetry;

/// Where Torque's daemon on a node listens; programs read the ports, and nothing of ours listens there.
const SERVICE_PORT: u16 = 15002;
const MANAGER_PORT: u16 = 15003;
/// The release whose daemon the status looks like; programs check it. The agent's own is among the facts.
const TORQUE_VERSION: &str = "6.1.3.h5";
/// How the driver of the fake NVML library begins its version.
const SIMULATED: &str = "simulated";

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
    let mut found: Vec<_> = found.collect();
    // As in the nodes file: in the order in which they were declared or first came.
    found.sort_by_key(|node| node.ordinal);
    let nodes: Vec<wire::NodeRow> = found.iter().map(|node| row(scene, node)).collect();
    match (nodes.is_empty(), wanted) {
        (false, _) => Ok(wire::StatNodesReply { nodes }),
        (true, "") => {
            let detail = "node list is empty - check 'server_priv/nodes' file";
            Err(Refusal::new(Pbse::Nonodes, detail))
        }
        (true, _) => Err(Refusal::new(Pbse::Unknode, "cannot locate specified node")),
    }
}

fn row(scene: Scene<'_>, node: &Node) -> wire::NodeRow {
    let held: Vec<(AttemptId, &NodeShare)> = scene.snapshot.state.held_on(&node.name).collect();
    let heartbeat = scene.telemetry.of(&node.name);
    let state = state(scene, node, &held);
    let cards = node.inventory.cards.len();
    let configured = scene.snapshot.settings().nodes.get(&node.name);
    let one = |name: &str, value: &dyn std::fmt::Display| vec![line(name, "", value)];
    let some = |name: &str, value: String| match value.is_empty() {
        true => Vec::new(),
        false => vec![line(name, "", value)],
    };
    let found = |name: &str| match name {
        "state" => one(name, &state),
        "power_state" => one(name, &"Running"),
        "np" => one(name, &node.slots),
        "properties" => some(name, node.properties.join(",")),
        "ntype" => one(name, &"cluster"),
        "jobs" => some(name, jobs(scene, &held)),
        "status" if node.has_joined() => {
            one(name, &status(scene, node, &held, heartbeat.as_deref()))
        }
        "note" => some(name, node.note.to_string()),
        "gpus" if cards > 0 => one(name, &cards),
        "gpu_status" => {
            let said = gpu_status(node, &held, heartbeat.as_deref());
            some(name, said.unwrap_or_default())
        }
        _ => match (configured.map(|node| set(node, name)), name) {
            (Some(lines), _) if !lines.is_empty() => lines,
            (_, "mom_service_port") => one(name, &SERVICE_PORT),
            (_, "mom_manager_port") => one(name, &MANAGER_PORT),
            (lines, _) => lines.unwrap_or_default(),
        },
    };
    let attributes = listing(AttributeObject::Node, found);
    wire::NodeRow {
        name: node.name.to_string(),
        state,
        note: node.note.to_string(),
        attributes,
        simulated: node.inventory.simulated,
        facts: facts(node, heartbeat.as_deref()),
    }
}

/// What Torque has no attribute for.
fn facts(node: &Node, heartbeat: Option<&NodeTelemetry>) -> Vec<wire::Attribute> {
    let mut list = Attributes::default();
    let host = heartbeat.and_then(|heartbeat| heartbeat.host.as_ref());
    list.put_some("agent_version", host.map(|host| &host.version));
    let engine = Some(&node.inventory.engine).filter(|engine| !engine.is_empty());
    list.put_some("container_engine", engine);
    let problems = messages(node, heartbeat).join("; ");
    list.put_some("problems", Some(problems).filter(|text| !text.is_empty()));
    list.0
}

/// `free`, or a comma list of what keeps it from being so.
fn state(scene: Scene<'_>, node: &Node, held: &[(AttemptId, &NodeShare)]) -> String {
    let slots: usize = held.iter().map(|(_, share)| share.slots.len()).sum();
    let down_after = scene.snapshot.settings().node_down_after_secs;
    let is_down = match node.link {
        Link::Up(_) => false,
        // In this order: "offline" and what follows are said of a node that was just created.
        Link::New => return "down,offline,MOM-list-not-sent".to_owned(),
        Link::Never => true,
        Link::Lost(since) => scene.now >= since.plus_secs(down_after),
    };
    let words = [
        (is_down || node.is_unwell, "down"),
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

/// What Torque's daemon would have reported, item by item in its order. An agent that says less of its host leaves
/// those items out.
fn status(
    scene: Scene<'_>,
    node: &Node,
    held: &[(AttemptId, &NodeShare)],
    heartbeat: Option<&NodeTelemetry>,
) -> String {
    let inventory = &node.inventory;
    let host = heartbeat.and_then(|heartbeat| heartbeat.host.as_ref());
    // A comma in a value would begin the next item.
    let plain = |text: &str| text.replace([',', '\n'], ";");
    let mut items = Items::default();
    items.put("opsys", host.map_or("linux", |host| host.system.as_str()));
    items.put("uname", plain(&inventory.uname));
    if let Some(host) = host {
        let sessions: Vec<String> = host.sessions.iter().map(u32::to_string).collect();
        // Torque's word for an empty list.
        let none = || "? 0".to_owned();
        let listed = Some(sessions.join(" ")).filter(|list| !list.is_empty());
        items.put("sessions", listed.unwrap_or_else(none));
        let count = Some(host.session_count).filter(|count| *count > 0);
        items.put(
            "nsessions",
            count.map_or_else(none, |count| count.to_string()),
        );
        items.put("nusers", host.user_count);
        items.put("idletime", host.idle_secs);
    }
    memory(&mut items, node, heartbeat);
    items.put(
        "ncpus",
        host.map_or(inventory.cores.into(), |host| host.cpus),
    );
    if let Some(heartbeat) = heartbeat {
        items.put("loadave", format_args!("{:.2}", heartbeat.load_average));
    }
    items.put("gres", "");
    items.put("netload", host.map_or(0, |host| host.network_bytes));
    items.put("state", if node.is_up() { "free" } else { "down" });
    items.put("varattr", " ");
    items.put("cpuclock", "Fixed");
    if let Some(host) = host {
        let mac = &host.mac_address;
        items.put_some("macaddr", Some(mac).filter(|mac| !mac.is_empty()));
        items.put("version", TORQUE_VERSION);
    }
    let report = match (heartbeat, node.link) {
        (Some(heartbeat), _) => heartbeat.at,
        (None, Link::Up(at) | Link::Lost(at)) => at,
        (None, Link::Never | Link::New) => capstan_types::Timestamp(0),
    };
    items.put("rectime", report.secs());
    let jobs = held
        .iter()
        .filter_map(|(attempt, _)| scene.snapshot.state.job_of(*attempt));
    let jobs: Vec<String> = jobs.map(|job| job.id.on(scene.server())).collect();
    items.put("jobs", jobs.join(" "));
    for message in messages(node, heartbeat) {
        items.put("message", plain(&message));
    }
    items.0
}

/// `totmem`, `availmem`, `physmem`: with swap, free of that, without.
fn memory(items: &mut Items, node: &Node, heartbeat: Option<&NodeTelemetry>) {
    let host = heartbeat.and_then(|heartbeat| heartbeat.host.as_ref());
    let known = node.inventory.memory_bytes >> 10;
    let physical = host.map_or(known, |host| host.physical_kb);
    items.put(
        "totmem",
        format_args!("{}kb", host.map_or(known, |host| host.total_kb)),
    );
    let available = heartbeat.map(|heartbeat| match &heartbeat.host {
        Some(host) => host.available_kb,
        None => heartbeat.memory_available_bytes >> 10,
    });
    if let Some(available) = available {
        items.put("availmem", format_args!("{available}kb"));
    }
    items.put("physmem", format_args!("{physical}kb"));
}

/// A list of `name=value` with commas between them, in the making.
#[derive(Default)]
struct Items(String);

impl Items {
    fn put(&mut self, name: &str, value: impl std::fmt::Display) {
        let comma = if self.0.is_empty() { "" } else { "," };
        put(&mut self.0, format_args!("{comma}{name}={value}"));
    }

    fn put_some(&mut self, name: &str, value: Option<impl std::fmt::Display>) {
        if let Some(value) = value {
            self.put(name, value);
        }
    }
}

/// What an administrator should know of the node.
fn messages(node: &Node, heartbeat: Option<&NodeTelemetry>) -> Vec<String> {
    let inventory = &node.inventory;
    let mut messages = Vec::new();
    if !inventory.health_problem.is_empty() {
        messages.push(inventory.health_problem.to_string());
    }
    if !inventory.gpu_problem.is_empty() {
        messages.push(format!("gpu: {}", inventory.gpu_problem));
    }
    if !inventory.engine_problem.is_empty() {
        messages.push(format!("engine: {}", inventory.engine_problem));
    }
    let notes = heartbeat.map(|heartbeat| &heartbeat.notes[..]);
    messages.extend(notes.unwrap_or_default().iter().map(ToString::to_string));
    let evidence = |card: &CardId| heartbeat?.cards.get(card)?.unfit.clone();
    let (known, others): (Vec<&CardId>, Vec<&CardId>) = node
        .unclean
        .iter()
        .partition(|card| evidence(card).is_some());
    for card in known {
        let index = inventory.cards.iter().find(|own| own.uuid == *card);
        let index = index.map_or_else(String::new, |card| format!("{} ", card.index));
        if let Some(unfit) = evidence(card) {
            messages.push(format!("card {index}({card}) {}", unfit.text()));
        }
    }
    if !others.is_empty() {
        let cards: Vec<&str> = others.iter().map(|card| card.as_str()).collect();
        messages.push(format!("cards in use by no job: {}", cards.join(" ")));
    }
    if !node.strays.is_empty() {
        messages.push(format!(
            "{} old attempts are being stopped",
            node.strays.len()
        ));
    }
    messages
}

/// `gpu[0]=gpu_id=…;gpu_product_name=…,driver_ver=…,timestamp=…`. `None` where the driver has no version: such cards
/// are only counted, as those that Torque knows from its nodes file and not from NVML.
fn gpu_status(
    node: &Node,
    held: &[(AttemptId, &NodeShare)],
    heartbeat: Option<&NodeTelemetry>,
) -> Option<String> {
    let driver = node.inventory.cards.first().map(|card| &*card.driver)?;
    let is_counted_only = driver.trim_start_matches(SIMULATED).trim().is_empty();
    if is_counted_only {
        return None;
    }
    let mut text = String::new();
    for card in &node.inventory.cards {
        let mut lent = held.iter().flat_map(|(_, share)| &share.cards);
        let lent = lent.find(|lent| lent.uuid == card.uuid);
        let is_clean = !node.unclean.contains(&card.uuid);
        let state = match (lent.map(ShareCard::is_whole), is_clean) {
            (Some(true), _) => "Exclusive",
            (Some(false), _) => "Shared",
            (None, true) => "Unallocated",
            (None, false) => "Unavailable",
        };
        one_card(&mut text, card, state, heartbeat);
        text.push(',');
    }
    let at = heartbeat
        .map(|heartbeat| words::ctime(heartbeat.at))
        .unwrap_or_default();
    put(
        &mut text,
        format_args!("driver_ver={driver},timestamp={at}"),
    );
    Some(text)
}

/// All keys that Torque makes of NVML's answers; those that the card does not answer are left out.
fn one_card(text: &mut String, card: &Card, state: &str, heartbeat: Option<&NodeTelemetry>) {
    let used = heartbeat.and_then(|heartbeat| heartbeat.cards.get(&card.uuid));
    let detail = used.map(|used| used.detail).unwrap_or_default();
    let model = card.model.replace([',', ';'], " ");
    put(
        text,
        format_args!("gpu[{}]=gpu_id={}", card.index, card.pci_address),
    );
    let mut key = |name: &str, value: Option<&dyn std::fmt::Display>| {
        if let Some(value) = value {
            put(text, format_args!(";{name}={value}"));
        }
    };
    let pci_device = detail.pci_device_id.map(|id| format!("{id:08X}"));
    key("gpu_pci_device_id", shown(&pci_device));
    key("gpu_pci_location_id", Some(&card.pci_address));
    key("gpu_uuid", Some(&card.uuid));
    key("gpu_product_name", Some(&model));
    let CardTraits {
        compute,
        cuda,
        numa_node,
        island,
    } = card.traits;
    let known = |version: Version| (!version.is_unknown()).then_some(version);
    key("gpu_compute_capability", shown(&known(compute)));
    key("gpu_cuda_version", shown(&known(cuda)));
    key("gpu_numa_node", shown(&numa_node));
    // An agent that says nothing of these says nothing of islands.
    let island = numa_node.map(|_| island).or((island > 0).then_some(island));
    key("gpu_island", shown(&island));
    let display = detail.display.map_or("Unknown", enabled);
    key("gpu_display", Some(&display));
    let percent = |value: Option<u32>| value.map(|value| format!("{value}%"));
    key("gpu_fan_speed", shown(&percent(detail.fan_percent)));
    let total = card.memory_bytes >> 20;
    key("gpu_memory_total", Some(&format_args!("{total} MB")));
    let memory = used.map(|used| format!("{} MB", used.memory_used_bytes >> 20));
    key("gpu_memory_used", shown(&memory));
    key("gpu_mode", Some(&mode(detail.compute_mode)));
    key("gpu_state", Some(&state));
    let load = percent(used.map(|used| used.utilization_percent));
    key("gpu_utilization", shown(&load));
    let memory_load = percent(detail.memory_utilization_percent);
    key("gpu_memory_utilization", shown(&memory_load));
    key("gpu_ecc_mode", shown(&detail.ecc.map(enabled)));
    key(
        "gpu_single_bit_ecc_errors",
        shown(&detail.single_bit_errors),
    );
    key(
        "gpu_double_bit_ecc_errors",
        shown(&detail.double_bit_errors),
    );
    let heat = used
        .map(|used| used.temperature_celsius)
        .filter(|heat| *heat > 0);
    key(
        "gpu_temperature",
        shown(&heat.map(|heat| format!("{heat} C"))),
    );
}

fn shown<T: std::fmt::Display>(value: &Option<T>) -> Option<&dyn std::fmt::Display> {
    value.as_ref().map(|value| value as &dyn std::fmt::Display)
}

const fn enabled(is_on: bool) -> &'static str {
    if is_on { "Enabled" } else { "Disabled" }
}

const fn mode(compute_mode: Option<u32>) -> &'static str {
    match compute_mode {
        Some(1) => "Exclusive_Thread",
        Some(2) => "Prohibited",
        Some(3) => "Exclusive_Process",
        Some(_) | None => "Default",
    }
}

fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what).expect("a String takes everything");
}

#[cfg(test)]
mod tests;
