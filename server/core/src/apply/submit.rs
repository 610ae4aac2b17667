//! `qsub`: what a job gets from its queue, what the limits say, whether any nodes could ever run it.

use std::collections::BTreeSet;
use std::sync::Arc;

use capstan_types::{
    Condition, JobId, NodeSpec, QueueName, ResourceKind, ResourceList, Seconds, Size,
};

use super::Reply;
use super::dependants::verdict;
use super::draft::{Draft, News};
use crate::plan::feasible;
use crate::{Account, ArrayState, Job, JobSpec, JobState, Queue, Rejection, Settings, Submission};

/// Range of `qsub -p`.
const PRIORITY: std::ops::RangeInclusive<i32> = -1024..=1023;

pub(super) fn submit(draft: &mut Draft, submission: &Submission) -> Result<(), Rejection> {
    let settings = draft.state.settings().cloned();
    let settings = settings.ok_or_else(|| Rejection::UnknownQueue(wished_queue(submission)))?;
    let queue = find_queue(&settings, submission)?;
    check_sizes(draft, &settings, submission)?;
    let owner = &submission.spec.owner;
    draft.require_holds(submission.holds, owner.uid, &owner.user)?;

    let mut spec = submission.spec.clone();
    fill_in(&mut spec, &queue.resources_default)?;
    check_queue_limits(&spec, queue)?;
    feasible(&draft.state, &spec).map_err(Rejection::NeverFits)?;
    let waits_for = open_dependencies(draft, &submission.depends)?;
    accept(draft, submission, (spec, queue.name.clone(), waits_for))
}

fn accept(
    draft: &mut Draft,
    submission: &Submission,
    (spec, queue, waits_for): (JobSpec, QueueName, Vec<(Condition, JobId)>),
) -> Result<(), Rejection> {
    let now = draft.now;
    let seq = draft.take_seq();
    let array = spec.array.as_ref().map(|request| ArrayState {
        waiting: request.indices.clone(),
        ..ArrayState::default()
    });
    let mut job = Job {
        id: if array.is_some() {
            JobId::array(seq)
        } else {
            JobId::whole(seq)
        },
        spec: Arc::new(spec),
        queue,
        priority: submission
            .priority
            .clamp(*PRIORITY.start(), *PRIORITY.end()),
        holds: submission.holds,
        waits_for,
        ties: crate::Ties::default(),
        not_before: submission.not_before.filter(|time| *time > now),
        state: JobState::Pending,
        created: now,
        queued: now,
        eligible: None,
        changed: now,
        run_count: 0,
        comment: None,
        array,
        place: None,
    };
    job.eligible = job.is_eligible(now).then_some(now);
    draft.put_payload(job.id, submission.payload.clone());
    let job = draft.put(job)?;
    draft.account(&job, Account::Queued);
    draft.reply = Reply::Submitted(job.id);
    Ok(())
}

fn wished_queue(submission: &Submission) -> QueueName {
    submission
        .queue
        .clone()
        .unwrap_or_else(|| QueueName::from("batch"))
}

fn find_queue<'a>(settings: &'a Settings, submission: &Submission) -> Result<&'a Queue, Rejection> {
    let name = submission.queue.as_ref().unwrap_or(&settings.default_queue);
    let queue = settings
        .queues
        .get(name)
        .ok_or_else(|| Rejection::UnknownQueue(name.clone()))?;
    if !queue.is_enabled {
        return Err(Rejection::QueueDisabled(name.clone()));
    }
    Ok(queue)
}

fn check_sizes(
    draft: &Draft,
    settings: &Settings,
    submission: &Submission,
) -> Result<(), Rejection> {
    let (bytes, max) = (
        submission.payload.script.len() as u64,
        settings.script_bytes_max,
    );
    if bytes > max {
        return Err(Rejection::ScriptTooLarge { bytes, max });
    }
    if let Some(array) = &submission.spec.array {
        let (members, max) = (array.indices.len(), settings.array_members_max);
        if members > max || members == 0 {
            return Err(Rejection::ArrayTooLarge { members, max });
        }
    }
    // An array counts once, as it is one record until its members run.
    if draft.state.live_count() as u64 >= settings.live_jobs_max {
        return Err(Rejection::TooManyJobs(settings.live_jobs_max));
    }
    Ok(())
}

/// The three ways to say how much of which nodes; a default for one is not added where another was asked for.
const SHAPES: [&str; 3] = ["nodes", "ncpus", "procs"];

/// Adds the queue's defaults and makes of it all what placement reads. Asking for nothing is asking for a slot.
pub(super) fn fill_in(spec: &mut JobSpec, defaults: &ResourceList) -> Result<(), Rejection> {
    spec.defaulted.clear();
    let asked =
        |resources: &ResourceList| SHAPES.iter().any(|shape| resources.get(shape).is_some());
    let has_shape = asked(&spec.resources);
    let had_nodes = spec.resources.get("nodes").is_some();
    let mut resources = ResourceList::default();
    for (name, value) in spec.resources.iter().filter(|(name, _)| *name != "nodect") {
        put(&mut resources, name, value)?;
        if name == "nodes" {
            put_node_count(&mut resources)?;
        }
    }
    for (name, value) in defaults.iter().filter(|(name, _)| *name != "nodect") {
        let is_other_shape = has_shape && SHAPES.contains(&name);
        if resources.get(name).is_none() && !is_other_shape {
            put(&mut resources, name, value)?;
            spec.defaulted.push(name.into());
        }
    }
    if !asked(&resources) {
        put(&mut resources, "nodes", "1")?;
        spec.defaulted.push("nodes".into());
    }
    if !had_nodes {
        put_node_count(&mut resources)?;
    }
    spec.loose_slots = None;
    spec.nodes = match (
        resources.get("nodes"),
        resources.count("ncpus"),
        resources.count("procs"),
    ) {
        (Some(nodes), _, _) => Some(parse(nodes)?),
        (None, None, Some(procs)) => {
            spec.loose_slots = Some(procs.max(1));
            None
        }
        (None, Some(ncpus), _) => Some(parse(&format!("1:ppn={}", ncpus.max(1)))?),
        (None, None, None) => Some(parse("1")?),
    };
    spec.memory_bytes = resources
        .size("mem")
        .map(Size::bytes)
        .filter(|bytes| *bytes > 0);
    spec.resources = resources;
    Ok(())
}

/// `nodect`, as Torque derives it: the nodes of `nodes=`, else 1.
fn put_node_count(resources: &mut ResourceList) -> Result<(), Rejection> {
    let count = match resources.get("nodes") {
        Some(nodes) => parse(nodes)?.node_count(),
        None => 1,
    };
    put(resources, "nodect", &count.to_string())
}

/// Values were checked where they came in; one that is refused here all the same can never be met.
fn put(resources: &mut ResourceList, name: &str, value: &str) -> Result<(), Rejection> {
    let set = resources.set(name, value);
    set.map_err(|error| Rejection::NeverFits(format!("{name}: {error}").into()))
}

fn parse(nodes: &str) -> Result<NodeSpec, Rejection> {
    NodeSpec::parse(nodes).map_err(|error| Rejection::NeverFits(format!("nodes: {error}").into()))
}

/// `resources_max`: a job that does not ask for a limited resource passes, as in Torque.
pub(super) fn check_queue_limits(spec: &JobSpec, queue: &Queue) -> Result<(), Rejection> {
    for (resource, limit) in queue.resources_max.iter() {
        let Some(asked) = spec.resources.get(resource) else {
            continue;
        };
        if is_over(resource, asked, limit) {
            return Err(Rejection::OverQueueLimit {
                queue: queue.name.clone(),
                resource: resource.into(),
                asked: asked.into(),
                limit: limit.into(),
            });
        }
    }
    Ok(())
}

pub(super) fn is_over(resource: &str, asked: &str, limit: &str) -> bool {
    let measure = |text: &str| match capstan_types::resource_kind(resource)? {
        ResourceKind::Time => Seconds::parse(text).ok().map(|span| span.0),
        ResourceKind::Size => Size::parse(text).ok().map(Size::bytes),
        ResourceKind::Count => text.parse().ok(),
        ResourceKind::Nodes => NodeSpec::parse(text)
            .ok()
            .map(|nodes| u64::from(nodes.node_count())),
        ResourceKind::Integer => text
            .parse::<i64>()
            .ok()
            .map(|number| number.max(0).unsigned_abs()),
        ResourceKind::Boolean | ResourceKind::Text => None,
    };
    match (measure(asked), measure(limit)) {
        (Some(asked), Some(limit)) => asked > limit,
        (None, _) | (_, None) => false,
    }
}

/// The conditions that are not met yet. Torque refuses those that are met already and waits for ever for those that
/// cannot be; people expect the opposite (recorded session H03).
pub(super) fn open_dependencies(
    draft: &Draft,
    depends: &[(Condition, JobId)],
) -> Result<Vec<(Condition, JobId)>, Rejection> {
    let mut open = Vec::new();
    for &(condition, on) in depends.iter().collect::<BTreeSet<_>>() {
        let bad = Rejection::BadDependency(condition, on);
        let Some(parent) = draft.state.resolve(on) else {
            return Err(bad);
        };
        match News::of(&parent).and_then(|news| verdict(condition, news)) {
            Some(true) => {}
            Some(false) => return Err(bad),
            None => open.push((condition, on)),
        }
    }
    Ok(open)
}
