//! Queues, as `qstat -Q` and `qstat -Qf` show them.

use std::collections::HashMap;

use capstan_core::Queue;
use capstan_proto::{Refusal, wire};
use capstan_types::Pbse;

use super::attributes::Attributes;
use super::counts::{self, Counts};
use super::{Scene, words};

/// The queue of this name, or all.
///
/// # Errors
/// A queue that is not there.
pub(crate) fn queues(scene: Scene<'_>, name: &str) -> Result<wire::StatQueuesReply, Refusal> {
    let settings = scene.snapshot.settings();
    if !name.is_empty() && !settings.queues.contains_key(name) {
        return Err(Refusal::new(
            Pbse::Unkque,
            format!("cannot locate queue {name}"),
        ));
    }
    let counted = counts::by_queue(scene);
    let wanted = settings.queues.values();
    let wanted = wanted.filter(|queue| name.is_empty() || queue.name.as_str() == name);
    let queues = wanted.map(|queue| {
        let counts = counted.get(&queue.name).copied().unwrap_or_default();
        row(queue, &counts)
    });
    Ok(wire::StatQueuesReply {
        queues: queues.collect(),
    })
}

fn row(queue: &Queue, counts: &Counts) -> wire::QueueRow {
    let by_letter = counts.by_letter();
    let jobs: HashMap<String, u32> = by_letter
        .map(|(letter, jobs)| (letter.to_string(), u32::try_from(jobs).unwrap_or(u32::MAX)))
        .collect();
    wire::QueueRow {
        name: queue.name.to_string(),
        max_running: 0,
        enabled: queue.is_enabled,
        started: queue.is_started,
        jobs,
        routing: false,
        attributes: attributes(queue, counts),
    }
}

fn attributes(queue: &Queue, counts: &Counts) -> Vec<wire::Attribute> {
    let mut list = Attributes::default();
    list.put("queue_type", "Execution");
    list.put_some(
        "Priority",
        Some(queue.priority).filter(|priority| *priority != 0),
    );
    list.put("total_jobs", counts.total());
    list.put("state_count", counts.state_count());
    for (name, value) in queue.resources_max.iter() {
        list.put_resource("resources_max", name, value);
    }
    for (name, value) in queue.resources_default.iter() {
        list.put_resource("resources_default", name, value);
    }
    list.put("enabled", words::boolean(queue.is_enabled));
    list.put("started", words::boolean(queue.is_started));
    list.0
}
