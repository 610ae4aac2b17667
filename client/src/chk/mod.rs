//! `chk_gpu`, `chk_gpuused` and `chk_res`: cards and nodes at a glance, under the names that users of the sites know. They
//! show nothing that `pbsnodes` and `qstat` would not, so nobody needs rights for them.

mod scene;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use capstan_proto::wire::{
    JobAttributes, StatJobsRequest, StatNodesRequest, stat_jobs_request::Detail,
};
use jiff::tz::TimeZone;

use crate::command::{Call, Failure, exit_status, refusal};
use crate::door::{self, Doors, Server};
use crate::output::assignments;
use crate::output::screen::Screen;
use scene::{Card, Job, Node};

/// Jobs that wait and are listed; of thousands nobody reads more.
const WAITING_MAX: usize = 200;
/// Cards of one line of the map.
const NAME_COLUMNS: usize = 12;

/// Draws the map of all cards.
///
/// # Errors
/// Misuse, a server that is not there.
pub(crate) async fn gpu<W: Write>(call: &Call, screen: &mut Screen<W>) -> Result<u8, Failure> {
    let operands = operands(call, "usage: chk_gpu [NODE]", 1)?;
    let node = operands.first();
    let Seen { nodes, jobs, rows } = look(call, node).await?;
    let is_here = |row: &&JobAttributes| {
        node.is_none()
            || Job::read(row).is_some_and(|job| nodes.iter().any(|it| job.nodes.contains(&it.name)))
    };
    let listed: Vec<&JobAttributes> = rows.iter().filter(is_here).collect();
    list(screen.out(), &listed);
    screen
        .out()
        .extend_from_slice(map(&nodes, &jobs).as_bytes());
    Ok(0)
}

/// Lists every card with its use and whose it is.
///
/// # Errors
/// Misuse, a server or a node that is not there.
pub(crate) async fn gpu_used<W: Write>(call: &Call, screen: &mut Screen<W>) -> Result<u8, Failure> {
    let operands = operands(call, "usage: chk_gpuused [NODE]", 1)?;
    let Seen { nodes, jobs, .. } = look(call, operands.first()).await?;
    screen
        .out()
        .extend_from_slice(used(&nodes, &jobs).as_bytes());
    Ok(0)
}

/// Shows a node's load and memory, and what jobs on it use.
///
/// # Errors
/// Misuse, a server or a node that is not there.
pub(crate) async fn resources<W: Write>(
    call: &Call,
    screen: &mut Screen<W>,
) -> Result<u8, Failure> {
    let usage = "usage: chk_res NODE [USER]";
    let operands = operands(call, usage, 2)?;
    let Some(node) = operands.first() else {
        return Err(Failure::new(2, usage));
    };
    let Seen { nodes, jobs, .. } = look(call, Some(node)).await?;
    let user = operands.get(1).map(String::as_str);
    for node in &nodes {
        screen
            .out()
            .extend_from_slice(node_and_jobs(node, &jobs, user).as_bytes());
    }
    Ok(0)
}

fn operands(call: &Call, usage: &str, count_max: usize) -> Result<Vec<String>, Failure> {
    let parsed = call.parse(&[]);
    if parsed.problems().next().is_some() || parsed.operands.len() > count_max {
        return Err(Failure::new(2, usage));
    }
    Ok(parsed.operands)
}

/// What is looked at.
struct Seen {
    /// The node, or all.
    nodes: Vec<Node>,
    /// Jobs that hold something.
    jobs: Vec<Job>,
    /// All jobs, as the server lists them.
    rows: Vec<JobAttributes>,
}

async fn look(call: &Call, node: Option<&String>) -> Result<Seen, Failure> {
    let mut doors = Doors::new(call, door::patience(None, &call.env));
    let mut server = doors.to("").await?;
    let failed = |status: tonic::Status| {
        let refusal = refusal(&status);
        Failure::new(
            exit_status(refusal.error),
            format!("{}: {}", call.program, refusal.text()),
        )
    };
    let request = StatNodesRequest {
        node: node.cloned().unwrap_or_default(),
    };
    let reply = server
        .stat_nodes(request)
        .await
        .map_err(failed)?
        .into_inner();
    let nodes = reply.nodes.iter().map(Node::read).collect();
    let rows = waiting_and_running(&mut server).await.map_err(failed)?;
    let jobs = rows.iter().filter_map(Job::read).collect();
    Ok(Seen { nodes, jobs, rows })
}

async fn waiting_and_running(server: &mut Server) -> Result<Vec<JobAttributes>, tonic::Status> {
    let request = StatJobsRequest {
        detail: Detail::Full.into(),
        expand_arrays: true,
        hide_completed: true,
        ..StatJobsRequest::default()
    };
    let mut batches = server.stat_jobs(request).await?.into_inner();
    let mut jobs = Vec::new();
    while let Some(batch) = batches.message().await? {
        jobs.extend(batch.jobs);
    }
    Ok(jobs)
}

/// All jobs, those that run first, a line each.
fn list(out: &mut Vec<u8>, rows: &[&JobAttributes]) {
    let zone = TimeZone::system();
    let (running, waiting): (Vec<&JobAttributes>, Vec<_>) =
        rows.iter().partition(|row| Job::read(row).is_some());
    if rows.is_empty() {
        return out.extend_from_slice(b"No job waits or runs.\n\n");
    }
    out.extend_from_slice(assignments::HEADER.as_bytes());
    for job in running.iter().chain(waiting.iter().take(WAITING_MAX)) {
        assignments::line(out, job, &zone);
    }
    let more = waiting.len().saturating_sub(WAITING_MAX);
    if more > 0 {
        out.extend_from_slice(format!("and {more} more that wait: qstat --cards\n").as_bytes());
    }
    out.push(b'\n');
}

/// Per model: each node with a box per card; `[x]` is lent, `[!]` out of use, `[ ]` free.
fn map(nodes: &[Node], jobs: &[Job]) -> String {
    let mut models: BTreeMap<&str, Vec<&Node>> = BTreeMap::new();
    for node in nodes.iter().filter(|node| !node.cards.is_empty()) {
        let model = node.cards[0].model.as_str();
        models.entry(model).or_default().push(node);
    }
    let mut text = String::new();
    for (model, nodes) in models {
        let all = nodes
            .iter()
            .flat_map(|node| node.cards.iter().map(move |card| (*node, card)));
        let free = all
            .clone()
            .filter(|(node, card)| mark(node, card, jobs) == "[ ]");
        let (free, total) = (free.count(), all.count());
        let model = if model.is_empty() {
            "cards of unknown model"
        } else {
            model
        };
        let types: BTreeSet<&str> = nodes
            .iter()
            .flat_map(|node| node.properties.iter().map(String::as_str))
            .collect();
        let types = match types.is_empty() {
            true => String::new(),
            false => format!("; types {}", Vec::from_iter(types).join(" ")),
        };
        text.push_str(&format!("{model}: {free} of {total} free{types}\n"));
        for node in nodes {
            let marks: Vec<&str> = node
                .cards
                .iter()
                .map(|card| mark(node, card, jobs))
                .collect();
            let state = match node.state.as_str() {
                "free" => "",
                state => state,
            };
            let line = format!("  {:<NAME_COLUMNS$} {} {state}", node.name, marks.concat());
            text.push_str(line.trim_end());
            text.push('\n');
        }
    }
    if text.is_empty() {
        text.push_str("No node has cards.\n");
    }
    text
}

fn mark(node: &Node, card: &Card, jobs: &[Job]) -> &'static str {
    let is_lent = jobs.iter().any(|job| job.has(&node.name, &card.index));
    let is_down = ["down", "offline"]
        .iter()
        .any(|word| node.state.contains(word));
    match (is_lent, card.state.as_str()) {
        (true, _) => "[x]",
        (false, "Unavailable") => "[!]",
        (false, _) if is_down => "[!]",
        (false, _) => "[ ]",
    }
}

fn used(nodes: &[Node], jobs: &[Job]) -> String {
    let mut text = format!(
        "{:<NAME_COLUMNS$} {:>4} {:<24} {:>5} {:>10} {:>10} {:>6}  {}\n",
        "Node", "Card", "Model", "Use", "Used", "Memory", "Heat", "Job (user)"
    );
    for node in nodes {
        for card in &node.cards {
            let owners = jobs.iter().filter(|job| job.has(&node.name, &card.index));
            let owners: Vec<String> = owners
                .map(|job| format!("{} ({})", job.id, job.user))
                .collect();
            let owners = match (owners.is_empty(), card.state.as_str()) {
                (false, _) => owners.join(", "),
                (true, "Unavailable") => "out of use, see pbsnodes".to_owned(),
                (true, _) => "free".to_owned(),
            };
            let model: String = or_none(&card.model).chars().take(24).collect();
            text.push_str(&format!(
                "{:<NAME_COLUMNS$} {:>4} {model:<24} {:>5} {:>10} {:>10} {:>6}  {owners}\n",
                node.name,
                card.index,
                or_none(&card.load),
                or_none(&card.memory_used),
                or_none(&card.memory_total),
                or_none(&card.heat),
            ));
        }
        for message in &node.messages {
            text.push_str(&format!("{:<NAME_COLUMNS$} {message}\n", node.name));
        }
    }
    text
}

fn node_and_jobs(node: &Node, jobs: &[Job], user: Option<&str>) -> String {
    let item = |name: &str| or_none(node.status.get(name).map_or("", String::as_str));
    let mut text = format!(
        "{}: {}, load {} on {} cores, {} slots, memory {} free of {}\n",
        node.name,
        node.state,
        item("loadave"),
        item("ncpus"),
        or_none(&node.slots),
        item("availmem"),
        item("physmem"),
    );
    text.push_str(&format!(
        "  {:<18} {:<12} {:<16} {:>10} {:>8} {:>12} {:>10} {:>10}\n",
        "Job", "User", "Name", "CPU time", "CPU %", "Memory", "Card use", "Card mem"
    ));
    let here = jobs.iter().filter(|job| job.nodes.contains(&node.name));
    for job in here.filter(|job| user.is_none_or(|user| job.user == user)) {
        let used = |name: &str| or_none(job.used.get(name).map_or("", String::as_str));
        text.push_str(&format!(
            "  {:<18} {:<12} {:<16} {:>10} {:>8} {:>12} {:>10} {:>10}\n",
            job.id,
            job.user,
            job.name,
            used("cput"),
            used("cpupercent_last"),
            used("mem"),
            used("gpu_util_last"),
            used("gpu_mem_last"),
        ));
    }
    text
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "--" } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster() -> (Vec<Node>, Vec<Job>) {
        let card = |index: u32, state: &str| Card {
            index: index.to_string(),
            model: "A100".into(),
            state: state.into(),
            load: "97%".into(),
            ..Card::default()
        };
        let node = |name: &str, state: &str, cards| Node {
            name: name.into(),
            state: state.into(),
            cards,
            ..Node::default()
        };
        let nodes = vec![
            node(
                "gpu01",
                "free",
                vec![
                    card(0, "Exclusive"),
                    card(1, "Unallocated"),
                    card(2, "Unavailable"),
                ],
            ),
            node("gpu02", "down", vec![card(0, "Unallocated")]),
            node("cpu01", "free", Vec::new()),
        ];
        let job = Job {
            id: "3.hn1".into(),
            user: "alice".into(),
            cards: vec![("gpu01".into(), "0".into())],
            nodes: vec!["gpu01".into()],
            used: [("cput".to_owned(), "00:01:00".to_owned())].into(),
            ..Job::default()
        };
        (nodes, vec![job])
    }

    #[test]
    fn the_map_shows_what_is_lent_free_and_out_of_use() {
        let (nodes, jobs) = cluster();
        let expected = "A100: 1 of 4 free\n  gpu01        [x][ ][!]\n  gpu02        [!] down\n";
        assert_eq!(map(&nodes, &jobs), expected);
        assert_eq!(map(&nodes[2..], &jobs), "No node has cards.\n");
        let mut typed = nodes;
        typed[0].properties = vec!["S".into(), "A100".into()];
        typed[1].properties = vec!["S".into()];
        let text = map(&typed, &jobs);
        assert!(
            text.starts_with("A100: 1 of 4 free; types A100 S\n"),
            "{text}"
        );
    }

    #[test]
    fn jobs_that_run_are_listed_first_and_of_many_that_wait_some() {
        let job = |id: usize, state: &str| JobAttributes {
            id: format!("{id}.hn1"),
            attributes: vec![capstan_proto::wire::Attribute {
                name: "job_state".into(),
                value: state.into(),
                ..Default::default()
            }],
            ..JobAttributes::default()
        };
        let jobs: Vec<_> = (0..WAITING_MAX + 3)
            .map(|id| job(id, if id == 7 { "R" } else { "Q" }))
            .collect();
        let mut out = Vec::new();
        list(&mut out, &jobs.iter().collect::<Vec<_>>());
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[1].starts_with("7.hn1 ") && lines[2].starts_with("0.hn1 "),
            "{text}"
        );
        assert_eq!(
            lines[lines.len() - 2],
            "and 2 more that wait: qstat --cards"
        );
        let mut out = Vec::new();
        list(&mut out, &[]);
        assert_eq!(out, b"No job waits or runs.\n\n");
    }

    #[test]
    fn each_card_is_listed_with_whose_it_is() {
        let (nodes, jobs) = cluster();
        let text = used(&nodes, &jobs);
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[1].starts_with("gpu01           0 A100 ") && lines[1].ends_with("3.hn1 (alice)")
        );
        assert!(
            lines[2].ends_with("  free") && lines[3].ends_with("out of use, see pbsnodes"),
            "{text}"
        );
    }

    #[test]
    fn a_users_jobs_on_a_node_are_listed() {
        let (nodes, jobs) = cluster();
        let text = node_and_jobs(&nodes[0], &jobs, Some("alice"));
        assert!(
            text.starts_with("gpu01: free, load -- on -- cores"),
            "{text}"
        );
        assert!(
            text.contains("\n  3.hn1              alice ") && text.contains("00:01:00"),
            "{text}"
        );
        assert!(!node_and_jobs(&nodes[0], &jobs, Some("bob")).contains("3.hn1"));
        assert!(!node_and_jobs(&nodes[1], &jobs, None).contains("3.hn1"));
    }
}
