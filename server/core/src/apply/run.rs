//! `qrun`: an operator starts a waiting job now, past the line, its holds and the scheduler, on nodes of his choice.
//! What runs in an image starts when that is there: nodes are not held while it comes.

use std::sync::Arc;

use capstan_types::{JobId, JobPart, NodeName, NodeSpec};

use super::draft::Draft;
use super::placed::{has_room_in_array, start};
use super::prepare;
use crate::plan::place_now;
use crate::{Forced, Holds, Job, JobState, OrderProblem, PrepareOrder, Rejection, RunOrder, Ties};

pub(super) fn run(draft: &mut Draft, order: &RunOrder) -> Result<(), Rejection> {
    let job = draft.job(order.job)?;
    draft.require_owner(&job, order.job, &order.by)?;
    match &job.state {
        JobState::Ended(_) => return Err(Rejection::AlreadyEnded(order.job)),
        JobState::Exiting(..) => return Err(Rejection::Order(OrderProblem::Exiting(order.job))),
        JobState::Starting(_) | JobState::Running(_) => {
            return Err(Rejection::Order(OrderProblem::AlreadyRunning(order.job)));
        }
        JobState::Pending => {}
    }
    draft.require_operator(&order.by)?;
    check_queue(draft, &job)?;
    let wish = Wish {
        job: order.job,
        hosts: order.hosts.as_ref(),
    };
    go(draft, &job, wish)
}

fn check_queue(draft: &Draft, job: &Job) -> Result<(), Rejection> {
    let settings = draft.state.settings();
    let queue = settings.and_then(|settings| settings.queues.get(&job.queue));
    if !queue.is_some_and(|queue| queue.is_started()) {
        return Err(Rejection::Order(OrderProblem::QueueStopped(
            job.queue.clone(),
        )));
    }
    if queue.is_some_and(|queue| queue.is_routing()) {
        return Err(Rejection::Order(OrderProblem::WrongState(job.id)));
    }
    Ok(())
}

/// What was ordered.
#[derive(Clone, Copy)]
struct Wish<'a> {
    job: JobId,
    hosts: Option<&'a NodeSpec>,
}

/// What became of an order.
enum Course {
    Started,
    /// Its image has to come first.
    Waits,
}

fn go(draft: &mut Draft, job: &Arc<Job>, wish: Wish<'_>) -> Result<(), Rejection> {
    match job.id.part {
        JobPart::Array => run_array(draft, job, wish),
        JobPart::Whole | JobPart::Member(_) => run_one(draft, job, wish).map(|_| ()),
    }
}

fn run_one(draft: &mut Draft, job: &Arc<Job>, wish: Wish<'_>) -> Result<Course, Rejection> {
    check_slots(draft, job)?;
    let (shares, lacking) = place_now(&draft.state, job, wish.hosts, draft.now)?;
    if !lacking.is_empty() {
        wait_for_image(draft, job, wish, lacking)?;
        return Ok(Course::Waits);
    }
    // Whoever starts it by force does not want it to wait for others.
    let mut job = Job::clone(job);
    job.waits_for.clear();
    job.ties = Ties::default();
    job.holds = job.holds.without(Holds::SLOT);
    start(draft, &Arc::new(job), &shares)?;
    Ok(Course::Started)
}

/// As many waiting members as find room; at least one must.
fn run_array(draft: &mut Draft, array: &Arc<Job>, wish: Wish<'_>) -> Result<(), Rejection> {
    let waiting: Vec<u32> = match &array.array {
        Some(state) => state.waiting.iter().collect(),
        None => Vec::new(),
    };
    for (at, index) in waiting.iter().enumerate() {
        let member = draft.job(JobId::member(array.id.seq, *index))?;
        match run_one(draft, &member, wish) {
            Ok(Course::Started) => {}
            // For those behind it too.
            Ok(Course::Waits) => return Ok(()),
            Err(_) if at > 0 => return Ok(()),
            Err(rejection) => return Err(rejection),
        }
    }
    match waiting.is_empty() {
        true => Err(Rejection::Order(OrderProblem::AlreadyRunning(array.id))),
        false => Ok(()),
    }
}

/// Nodes get the image while the job has nothing of them; then it is started, if there is room.
fn wait_for_image(
    draft: &mut Draft,
    job: &Job,
    wish: Wish<'_>,
    lacking: Vec<NodeName>,
) -> Result<(), Rejection> {
    let settings = draft.state.settings();
    let image = settings.and_then(|settings| settings.image_of(&job.queue, &job.spec));
    let Some(image) = image.map(Box::<str>::from) else {
        return Ok(());
    };
    let on = lacking.iter().map(NodeName::as_str);
    let on = on.collect::<Vec<_>>().join(", ");
    let forced = Forced {
        job: wish.job,
        image: image.clone(),
        hosts: wish.hosts.cloned(),
    };
    let mut kept = keep(draft, forced)?;
    let order = |node| PrepareOrder {
        node,
        image: image.clone(),
        job: job.id,
    };
    let orders: Vec<PrepareOrder> = lacking.into_iter().map(order).collect();
    prepare::prepare(draft, &orders);
    kept.comment = Some(match kept.id == wish.job {
        true => format!("qrun: it starts when image {image} has come to {on}").into(),
        false => format!(
            "qrun: {} starts when image {image} has come to {on}",
            wish.job
        )
        .into(),
    });
    draft.put(kept)?;
    Ok(())
}

/// The record with the order in it, in place of an older one for the same job: of members without a record, their array's.
fn keep(draft: &Draft, forced: Forced) -> Result<Job, Rejection> {
    if let Some(job) = draft.state.job(forced.job) {
        let mut kept = Job::clone(job);
        kept.forced = Some(Box::new(forced));
        return Ok(kept);
    }
    let mut kept = Job::clone(&*draft.job(JobId::array(forced.job.seq))?);
    kept.forced_members.retain(|old| old.job != forced.job);
    if kept.forced_members.len() >= Forced::MEMBERS_MAX {
        let (array, max) = (kept.id, Forced::MEMBERS_MAX);
        return Err(Rejection::Order(OrderProblem::TooManyForced { array, max }));
    }
    kept.forced_members.push(forced);
    Ok(kept)
}

/// An order for a member, which its array keeps, is void: the member has started, or somebody holds it.
pub(super) fn forget(draft: &mut Draft, member: JobId) -> Result<(), Rejection> {
    let array = draft.state.job(JobId::array(member.seq)).cloned();
    let is_of = |forced: &Forced| forced.job == member;
    if let Some(array) = array.filter(|array| array.forced_members.iter().any(is_of)) {
        let mut array = Job::clone(&array);
        array.forced_members.retain(|forced| !is_of(forced));
        draft.put(array)?;
    }
    Ok(())
}

/// An image has come that these waiting jobs want, or cannot be had: orders that waited for it go on.
pub(super) fn resume(
    draft: &mut Draft,
    waiting: Vec<JobId>,
    (image, problem): (&str, Option<&str>),
) -> Result<(), Rejection> {
    for id in waiting {
        let mut kept = Job::clone(&*draft.job(id)?);
        let is_for = |forced: &Forced| *forced.image == *image;
        let own = kept.forced.take_if(|forced| is_for(forced));
        let (mut orders, others) = kept.forced_members.into_iter().partition(is_for);
        kept.forced_members = others;
        // Those for single members may name nodes, so they come before one for all.
        orders.extend(own.map(|own| *own));
        if orders.is_empty() {
            continue;
        }
        kept.comment = problem.map(|problem| format!("qrun: {problem}").into());
        draft.put(kept)?;
        if problem.is_none() {
            run_all(draft, id, &orders)?;
        }
    }
    Ok(())
}

/// Carries out orders that `keeper` kept; what cannot be is told there.
fn run_all(draft: &mut Draft, keeper: JobId, orders: &[Forced]) -> Result<(), Rejection> {
    let mut refused = Vec::new();
    for forced in orders {
        if let Err(rejection) = again(draft, forced) {
            refused.push((forced, rejection));
        }
    }
    let Some((first, rejection)) = refused.first() else {
        return Ok(());
    };
    let whose = match first.job == keeper {
        true => String::new(),
        false => format!(" of {}", first.job),
    };
    let more = match refused.len() - 1 {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    let image = &first.image;
    let text = format!("qrun{whose}: image {image} has come, but {rejection}; try again{more}");
    let mut kept = Job::clone(&*draft.job(keeper)?);
    kept.comment = Some(text.into());
    draft.put(kept)?;
    Ok(())
}

fn again(draft: &mut Draft, forced: &Forced) -> Result<(), Rejection> {
    let job = draft.job(forced.job)?;
    if !matches!(job.state, JobState::Pending) {
        return Ok(());
    }
    check_queue(draft, &job)?;
    let wish = Wish {
        job: forced.job,
        hosts: forced.hosts.as_ref(),
    };
    go(draft, &job, wish)
}

fn check_slots(draft: &Draft, job: &Job) -> Result<(), Rejection> {
    if has_room_in_array(draft, job) {
        return Ok(());
    }
    let array = draft.state.job(JobId::array(job.id.seq));
    let running = array
        .and_then(|array| array.array.as_ref())
        .map_or(0, |members| members.running);
    let limit = job.spec.array.as_ref().and_then(|array| array.slot_limit);
    let limit = limit.unwrap_or(u32::MAX);
    Err(Rejection::Order(OrderProblem::SlotLimit { limit, running }))
}
