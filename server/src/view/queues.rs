//! Queues, as `qstat -Q`, `qstat -Qf` and `qmgr list` show them.

use std::collections::HashMap;

use capstan_core::Queue;
use capstan_proto::{Refusal, wire};
use capstan_types::{AttributeObject, Attributes, Pbse, QueueName};

use super::Scene;
use super::counts::{self, Counts};

/// The queue of this name, or all in the order in which they were created.
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
    let wanted = settings.queues_in_order().into_iter();
    let wanted = wanted.filter(|queue| name.is_empty() || queue.name.as_str() == name);
    let queues = wanted.map(|queue| {
        let counts = counted.get(&queue.name).copied().unwrap_or_default();
        row(scene, queue, &counts)
    });
    Ok(wire::StatQueuesReply {
        queues: queues.collect(),
    })
}

fn row(scene: Scene<'_>, queue: &Queue, counts: &Counts) -> wire::QueueRow {
    let by_letter = counts.by_letter();
    let jobs: HashMap<String, u32> = by_letter
        .map(|(letter, jobs)| (letter.to_string(), u32::try_from(jobs).unwrap_or(u32::MAX)))
        .collect();
    let max_running = queue.max_running().unwrap_or(0);
    wire::QueueRow {
        name: queue.name.to_string(),
        max_running: u32::try_from(max_running).unwrap_or(u32::MAX),
        enabled: queue.is_enabled(),
        started: queue.is_started(),
        jobs,
        routing: queue.is_routing(),
        attributes: attributes(scene, queue, counts),
    }
}

fn attributes(scene: Scene<'_>, queue: &Queue, counts: &Counts) -> Vec<wire::Attribute> {
    let found = |name: &str| match name {
        "total_jobs" => vec![line(name, "", counts.total())],
        "state_count" => vec![line(name, "", counts.state_count())],
        "mtime" => vec![line(name, "", queue.changed.secs())],
        "resources_assigned" => assigned(scene, Some(&queue.name)),
        _ => set(&queue.attributes, name),
    };
    listing(AttributeObject::Queue, found)
}

/// All attributes of a kind of thing in the order of listings; `found` says what there is of each.
pub(super) fn listing(
    object: AttributeObject,
    found: impl Fn(&'static str) -> Vec<wire::Attribute>,
) -> Vec<wire::Attribute> {
    let names = object.attributes().iter().map(|known| known.name);
    names.flat_map(found).collect()
}

/// The lines of an attribute that is set.
pub(super) fn set(attributes: &Attributes, name: &str) -> Vec<wire::Attribute> {
    let lines = attributes.lines_of(name);
    let lines = lines.iter();
    lines
        .map(|set| line(set.definition.name, set.resource, &set.value))
        .collect()
}

pub(super) fn line(name: &str, resource: &str, value: impl ToString) -> wire::Attribute {
    wire::Attribute {
        name: name.to_owned(),
        resource: resource.to_owned(),
        value: value.to_string(),
    }
}

/// `resources_assigned`: what the running jobs of a queue, or all, have asked for. Sizes in bytes, as in Torque.
pub(super) fn assigned(scene: Scene<'_>, queue: Option<&QueueName>) -> Vec<wire::Attribute> {
    let running = scene.snapshot.state.running();
    let wanted = running.filter(|(_, job)| queue.is_none_or(|queue| job.queue == *queue));
    let (mut mem, mut vmem, mut ncpus, mut nodect) = (0_u64, 0_u64, 0_u64, 0_u64);
    for (_, job) in wanted {
        let asked = &job.spec.resources;
        let bytes = |name| asked.size(name).map_or(0, |size| size.bytes());
        let count = |name| u64::from(asked.count(name).unwrap_or(0));
        mem = mem.saturating_add(bytes("mem"));
        vmem = vmem.saturating_add(bytes("vmem"));
        ncpus = ncpus.saturating_add(count("ncpus"));
        nodect = nodect.saturating_add(count("nodect"));
    }
    let sums = [
        ("mem", mem, "b"),
        ("ncpus", ncpus, ""),
        ("vmem", vmem, "b"),
        ("nodect", nodect, ""),
    ];
    let some = sums.into_iter().filter(|(_, sum, _)| *sum > 0);
    some.map(|(name, sum, unit)| line("resources_assigned", name, format!("{sum}{unit}")))
        .collect()
}
