//! Images for jobs that wait: nodes are told to get them, say what came of it, and are told again when their agent comes
//! back. Who waits for an image that cannot be had is held after a few tries, and told why.

use std::sync::Arc;

use capstan_types::{JobId, NodeName, QueueName};

use super::draft::Draft;
use super::{limits, run};
use crate::{
    Effect, Holds, ImageProblem, ImageReport, Job, JobSpec, JobState, Node, OrderProblem,
    Preparation, PrepareOrder, Preparing, QueueRefusal, Rejection, State,
};

/// How the comment begins of a job that was held because of its image.
const HELD_FOR: &str = "Image cannot be had: ";

/// A name that only a site can have given must be known to some node; before any has come nobody knows.
pub(super) fn check_name(state: &State, spec: &JobSpec) -> Result<(), Rejection> {
    let Some(name) = spec.own_image().filter(|name| name.starts_with('@')) else {
        return Ok(());
    };
    let mut joined = state.nodes().filter(|node| node.has_joined()).peekable();
    let is_known = |node: &Arc<Node>| !node.image_meant(name).starts_with('@');
    match joined.peek().is_none() || joined.any(is_known) {
        true => Ok(()),
        false => Err(Rejection::Order(OrderProblem::UnknownImage(name.into()))),
    }
}

/// What follows from another image of a waiting job.
pub(super) fn rename(
    state: &State,
    queue: &QueueName,
    spec: &mut JobSpec,
) -> Result<(), Rejection> {
    let asked = spec.resources.get("image");
    let asked = asked.filter(|image| !image.is_empty());
    spec.image = spec.own_image().or(asked).map(Into::into);
    let settings = state.settings();
    let known = settings.and_then(|settings| Some((settings, settings.queues.get(queue)?)));
    if let Some((settings, known)) = known
        && settings.requires_containers(queue)
        && settings.image_of(queue, spec).is_none()
    {
        return Err(limits::refusal(known, spec, QueueRefusal::NoImage));
    }
    check_name(state, spec)
}

/// Tells nodes to get images, as a plan has it.
pub(super) fn prepare(draft: &mut Draft, orders: &[PrepareOrder]) {
    for order in orders {
        let job = draft.state.resolve(order.job);
        let waiting = job.filter(|job| matches!(job.state, JobState::Pending));
        let node = draft.state.node(&order.node).cloned();
        let (Some(job), Some(node)) = (waiting, node.filter(|node| node.is_usable())) else {
            continue;
        };
        let uid = job.spec.owner.uid;
        let known = node.preparation(&order.image, uid);
        if known.is_some_and(Preparation::is_coming) {
            continue;
        }
        let preparation = Preparation {
            image: order.image.clone(),
            uid,
            job: order.job,
            stage: Preparing::Coming { since: draft.now },
            failures: known.map_or(0, |known| known.failures),
        };
        put(draft, &node, preparation);
        draft.effects.push(Effect::PrepareImage {
            node: order.node.clone(),
            image: order.image.clone(),
            job,
        });
    }
}

/// What came of an order. Late words of orders that nobody remembers change nothing.
pub(super) fn prepared(
    draft: &mut Draft,
    name: &NodeName,
    report: &ImageReport,
) -> Result<(), Rejection> {
    let ImageReport {
        image,
        uid,
        problem,
    } = report;
    let Some(node) = draft.state.node(name).cloned() else {
        return Ok(());
    };
    let Some(known) = node.preparation(image, *uid).filter(|one| one.is_coming()) else {
        return Ok(());
    };
    let mut preparation = known.clone();
    let Some(problem) = problem else {
        preparation.stage = Preparing::There { since: draft.now };
        preparation.failures = 0;
        put(draft, &node, preparation);
        let waiting = wanting(draft, image, *uid);
        return run::resume(draft, waiting, (image, None));
    };
    preparation.failures = preparation.failures.saturating_add(1);
    let pause = Preparation::pause_secs(preparation.failures);
    preparation.stage = Preparing::Failed {
        until: draft.now.plus_secs(pause),
        problem: problem.text.clone(),
    };
    put(draft, &node, preparation);
    let most = match problem.is_lasting {
        true => Preparation::LASTING_FAILURES_MAX,
        false => Preparation::FAILURES_MAX,
    };
    let waiting = wanting(draft, image, *uid);
    run::resume(draft, waiting, (image, Some(&problem.text)))?;
    if failures(draft, image, *uid) >= most {
        hold_all(draft, (image, *uid), problem)?;
        forget(draft, image, *uid);
    }
    Ok(())
}

/// How often an image failed on all nodes since it last came there.
fn failures(draft: &Draft, image: &str, uid: u32) -> u32 {
    let nodes = draft.state.nodes();
    let known = nodes.filter_map(|node| node.preparation(image, uid));
    known.fold(0, |sum, known| sum.saturating_add(known.failures))
}

/// Holds all that wait for an image: their users release them when they have mended it.
fn hold_all(
    draft: &mut Draft,
    (image, uid): (&str, u32),
    problem: &ImageProblem,
) -> Result<(), Rejection> {
    for id in wanting(draft, image, uid) {
        let mut job = Job::clone(&*draft.job(id)?);
        let text = &problem.text;
        job.holds = job.holds.with(Holds::USER);
        job.eligible = None;
        job.comment = Some(
            format!("{HELD_FOR}{text}; mend that or name another with qalter -W image=, then qrls")
                .into(),
        );
        draft.put(job)?;
    }
    Ok(())
}

/// Whether the comment says that the server held the job because of its image: whoever releases it has dealt with it.
pub(super) fn is_held_for_image(job: &Job) -> bool {
    let comment = job.comment.as_deref();
    comment.is_some_and(|comment| comment.starts_with(HELD_FOR))
}

/// What failed is forgotten: whoever wants the image anew has it tried anew.
fn forget(draft: &mut Draft, image: &str, uid: u32) {
    let is_of = |one: &Preparation| one.is_of(image, uid) && !one.is_coming();
    let nodes = draft.state.nodes();
    let nodes = nodes.filter(|node| node.preparing.iter().any(is_of));
    let nodes: Vec<Arc<Node>> = nodes.cloned().collect();
    for node in nodes {
        let mut node = Node::clone(&node);
        node.preparing.retain(|one| !is_of(one));
        draft.put_node(node);
    }
}

/// An agent has come back: it is told again what it may have missed, as far as somebody still waits for it.
pub(super) fn resume(draft: &mut Draft, name: &NodeName) {
    let Some(node) = draft.state.node(name).cloned() else {
        return;
    };
    for known in node.preparing.iter().filter(|one| one.is_coming()) {
        let job = wanting(draft, &known.image, known.uid).first().copied();
        if let Some(job) = job.and_then(|id| draft.state.job(id)).cloned() {
            draft.effects.push(Effect::PrepareImage {
                node: name.clone(),
                image: known.image.clone(),
                job,
            });
        }
    }
    drop_unwanted(draft);
}

/// Nodes stop getting images that nobody waits for any more. Costs nodes, and the waiting jobs only while any image is
/// on its way.
pub(super) fn drop_unwanted(draft: &mut Draft) {
    let nodes = draft.state.nodes();
    let busy = nodes.filter(|node| node.preparing.iter().any(Preparation::is_coming));
    let busy: Vec<Arc<Node>> = busy.cloned().collect();
    for node in busy {
        let mut kept = Node::clone(&node);
        kept.preparing.retain(|known| {
            !known.is_coming() || !wanting(draft, &known.image, known.uid).is_empty()
        });
        if kept.preparing.len() == node.preparing.len() {
            continue;
        }
        for gone in &node.preparing {
            if !kept.preparing.contains(gone) {
                draft.effects.push(Effect::DropImage {
                    node: node.name.clone(),
                    image: gone.image.clone(),
                    uid: gone.uid,
                });
            }
        }
        draft.put_node(kept);
    }
}

/// The jobs that wait and run in `image`, arrays for their members, on the terms of `uid`.
fn wanting(draft: &Draft, image: &str, uid: u32) -> Vec<JobId> {
    let Some(settings) = draft.state.settings() else {
        return Vec::new();
    };
    let waiting = draft.state.pending();
    let wanting = waiting.filter(|job| settings.may_want(job, image, uid));
    wanting.map(|job| job.id).collect()
}

fn put(draft: &mut Draft, node: &Node, preparation: Preparation) {
    let mut node = node.clone();
    let known = node
        .preparing
        .iter_mut()
        .find(|one| one.is_of(&preparation.image, preparation.uid));
    match known {
        Some(known) => *known = preparation,
        None => node.preparing.push(preparation),
    }
    if node.preparing.len() > Preparation::COUNT_MAX {
        let old = node.preparing.iter().position(|one| !one.is_coming());
        node.preparing.remove(old.unwrap_or(0));
    }
    draft.put_node(node);
}
