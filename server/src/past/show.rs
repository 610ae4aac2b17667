//! How a cycle is printed: the same text for the same decision, for people and as JSON.

use std::fmt::Write;
use std::sync::Arc;

use capstan_core::{NodeShare, Placement, Preemption, Settings};
use capstan_types::{JobId, ServerName, Timestamp};
use serde_json::{Value, json};

use super::cycle::{Cycle, Order, Stored};
use crate::view::words::slot_ranges;

/// Jobs of a cycle that a line of the list names.
const LISTED_MAX: usize = 8;

/// `2026-11-22 14:03:05.123 UTC`.
pub(super) fn moment(at: Timestamp) -> String {
    let text = at.to_string();
    let millis = at.0 % 1000;
    match text.strip_suffix(" UTC") {
        Some(bare) => format!("{bare}.{millis:03} UTC"),
        None => text,
    }
}

fn id(job: JobId, server: Option<&ServerName>) -> String {
    match server {
        Some(server) => job.on(server),
        None => job.to_string(),
    }
}

/// `node01 slots 0-1 cards 0,3`.
fn share(share: &NodeShare) -> String {
    let mut text = share.node.to_string();
    if !share.slots.is_empty() {
        text.push_str(" slots ");
        slot_ranges(&mut text, &share.slots);
    }
    if !share.cards.is_empty() {
        let cards: Vec<String> = share
            .cards
            .iter()
            .map(|card| card.index.to_string())
            .collect();
        put(&mut text, format_args!(" cards {}", cards.join(",")));
    }
    if share.memory_bytes > 0 {
        put(
            &mut text,
            format_args!(" memory {}mb", share.memory_bytes >> 20),
        );
    }
    text
}

fn placement(one: &Placement, server: Option<&ServerName>) -> String {
    let shares: Vec<String> = one.shares.iter().map(share).collect();
    format!("  {}  {}\n", id(one.job, server), shares.join(" + "))
}

/// The jobs that a cycle stops, if any.
fn stops(all: &[Preemption], server: Option<&ServerName>) -> String {
    let mut text = String::new();
    if !all.is_empty() {
        put(&mut text, format_args!("stops   {}\n", all.len()));
    }
    for one in all {
        let end = if one.requeue { "put back" } else { "ended" };
        let (job, other) = (id(one.job, server), id(one.for_job, server));
        put(&mut text, format_args!("  {job}  for {other}, {end}\n"));
    }
    text
}

/// Appends a cycle.
pub(super) fn cycle(cycle: &Cycle, is_json: bool, out: &mut Vec<u8>) {
    match is_json {
        true => {
            out.extend_from_slice(as_json(cycle).to_string().as_bytes());
            out.push(b'\n');
        }
        false => out.extend_from_slice(as_text(cycle).as_bytes()),
    }
}

fn as_text(cycle: &Cycle) -> String {
    let Cycle {
        at,
        after,
        plan,
        stored,
        server,
        waiting,
        running,
        nodes_up,
    } = cycle;
    let server = server.as_ref();
    let mut text = format!("cycle   {}, after record {after}\n", moment(*at));
    put(
        &mut text,
        format_args!("state   {waiting} waiting, {running} running, {nodes_up} nodes up\n"),
    );
    let placed = plan.placements.len();
    let how = match stored {
        Stored::Same { record } => format!("as stored in record {record}"),
        Stored::Differs { record, .. } => format!("NOT AS STORED in record {record}"),
        Stored::Nothing => "as stored: a cycle that places nothing stores nothing".to_owned(),
        Stored::Unstored => "and nothing was stored: no cycle was made at this time".to_owned(),
    };
    put(&mut text, format_args!("placed  {placed}, {how}\n"));
    for one in &plan.placements {
        text.push_str(&placement(one, server));
    }
    text.push_str(&stops(&plan.preemptions, server));
    if let Stored::Differs {
        placements,
        preemptions,
        is_exact,
        ..
    } = stored
    {
        put(&mut text, format_args!("stored  {}\n", placements.len()));
        for one in placements {
            text.push_str(&placement(one, server));
        }
        text.push_str(&stops(preemptions, server));
        text.push_str(match is_exact {
            true => "hint: another version of the server may have decided then\n",
            false => {
                "hint: the time it was planned for is not stored with it, only that of its storing\n"
            }
        });
    }
    put(&mut text, format_args!("waits   {}\n", plan.reasons.len()));
    for (job, reason) in &plan.reasons {
        put(
            &mut text,
            format_args!("  {}  {reason}\n", id(*job, server)),
        );
    }
    text
}

fn as_json(cycle: &Cycle) -> Value {
    let Cycle {
        at,
        after,
        plan,
        stored,
        server,
        waiting,
        running,
        nodes_up,
    } = cycle;
    let server = server.as_ref();
    let all = |placements: &[Placement]| -> Value {
        placements
            .iter()
            .map(|one| placement_json(one, server))
            .collect()
    };
    let reasons = plan.reasons.iter();
    let reasons: Value = reasons
        .map(|(job, reason)| json!({"job": id(*job, server), "reason": reason.to_string()}))
        .collect();
    let stops = |all: &[Preemption]| -> Value {
        let stopped = all.iter().map(|one| {
            json!({"job": id(one.job, server), "for": id(one.for_job, server), "requeued": one.requeue})
        });
        stopped.collect()
    };
    let (verdict, record, then, stopped) = match stored {
        Stored::Same { record } => ("same", Some(*record), Value::Null, Value::Null),
        Stored::Differs {
            record,
            placements,
            preemptions,
            ..
        } => (
            "differs",
            Some(*record),
            all(placements),
            stops(preemptions),
        ),
        Stored::Nothing => ("nothing", None, Value::Null, Value::Null),
        Stored::Unstored => ("unstored", None, Value::Null, Value::Null),
    };
    json!({
        "at_ms": at.0,
        "at": moment(*at),
        "after_record": after,
        "state": {"waiting": waiting, "running": running, "nodes_up": nodes_up},
        "placements": all(&plan.placements),
        "preemptions": stops(&plan.preemptions),
        "waiting": reasons,
        "stored": {"verdict": verdict, "record": record, "placements": then, "preemptions": stopped},
    })
}

fn placement_json(one: &Placement, server: Option<&ServerName>) -> Value {
    let shares = one.shares.iter().map(|share| {
        let cards = share
            .cards
            .iter()
            .map(|card| json!({"uuid": card.uuid.to_string(), "index": card.index}));
        json!({
            "node": share.node.to_string(),
            "slots": share.slots,
            "cards": cards.collect::<Vec<Value>>(),
            "memory_bytes": share.memory_bytes,
        })
    });
    json!({"job": id(one.job, server), "shares": shares.collect::<Vec<Value>>()})
}

/// The list of cycles, under way.
pub(super) struct Listing {
    is_json: bool,
    is_empty: bool,
}

impl Listing {
    pub(super) const fn new(is_json: bool) -> Self {
        Self {
            is_json,
            is_empty: true,
        }
    }

    /// Appends one cycle: a line, or an element.
    pub(super) fn add(
        &mut self,
        record: u64,
        order: &Order<'_>,
        settings: Option<&Arc<Settings>>,
        out: &mut Vec<u8>,
    ) {
        let server = settings.map(|settings| &settings.server);
        let jobs = order.placements.iter().map(|one| id(one.job, server));
        let text = match self.is_json {
            true => {
                let jobs: Vec<String> = jobs.collect();
                let begin = if self.is_empty { "{\"cycles\":[" } else { "," };
                let value = json!({"at_ms": order.at.0, "at": moment(order.at), "record": record, "jobs": jobs});
                format!("{begin}{value}")
            }
            false => {
                let named: Vec<String> = jobs.take(LISTED_MAX).collect();
                let more = order.placements.len() - named.len();
                let more = if more > 0 {
                    format!(" and {more} more")
                } else {
                    String::new()
                };
                let (at, named) = (moment(order.at), named.join(" "));
                format!("{at}  record {record}  {named}{more}\n")
            }
        };
        self.is_empty = false;
        out.extend_from_slice(text.as_bytes());
    }

    /// Ends it.
    pub(super) fn end(self, out: &mut Vec<u8>) {
        match (self.is_json, self.is_empty) {
            (true, true) => out.extend_from_slice(b"{\"cycles\":[]}\n"),
            (true, false) => out.extend_from_slice(b"]}\n"),
            (false, true) => out.extend_from_slice(b"no cycle of that time placed anything\n"),
            (false, false) => {}
        }
    }
}

/// Appends how many cycles were as they were stored.
pub(super) fn count(same: u64, differing: u64, is_json: bool, out: &mut Vec<u8>) {
    let text = match is_json {
        true => json!({"same": same, "differing": differing}).to_string(),
        false => format!("{same} cycles as stored, {differing} not"),
    };
    out.extend_from_slice(text.as_bytes());
    out.push(b'\n');
}

fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what).expect("a String takes everything");
}
