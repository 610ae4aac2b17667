//! `qsub`: what a job gets from its queue, what the limits say, whether any nodes could ever run it.

use std::sync::Arc;

use capstan_types::{JobId, QueueName};

pub(super) use super::asked::fill_in;
use super::dependencies::{self, Bonds};
use super::draft::Draft;
use super::limits::{Candidate, Entry};
use super::{Reply, asked, limits, prepare, routing};
use crate::{
    Account, ArrayState, Job, JobSpec, JobState, Queue, QueueRefusal, Rejection, Settings,
    Submission, Tries,
};

/// Range of `qsub -p`.
const PRIORITY: std::ops::RangeInclusive<i32> = -1024..=1023;

pub(super) fn submit(draft: &mut Draft, submission: &Submission) -> Result<(), Rejection> {
    let settings = draft.state.settings().cloned();
    let settings = settings.ok_or_else(|| Rejection::UnknownQueue(wished_queue(submission)))?;
    let queue = find_queue(&settings, submission)?;
    check_sizes(draft, &settings, submission)?;
    let mut wish = submission.spec.clone();
    limit_slots(&mut wish, &settings)?;
    asked::derive(&mut wish)?;
    let owner = &submission.spec.owner;
    draft.require_holds(submission.holds, owner.uid, &owner.user)?;

    let (queue, spec) = routing::enter(&settings, queue, Entry::Submitted, &mut |queue, entry| {
        enter(draft, &wish, queue, entry)
    })?;
    let (depends, ties) = (&submission.depends, &submission.ties);
    let bonds = dependencies::read(draft, None, owner, depends, ties)?;
    accept(draft, submission, (spec, queue.name.clone()), &bonds)
}

/// What becomes of a job in `queue`, or why it may not enter. `wish` is without what another queue gave it.
///
/// # Errors
/// What the queue has against it; that no nodes could ever run it, unless an operator says so.
pub(super) fn enter(
    draft: &Draft,
    wish: &JobSpec,
    queue: &Queue,
    entry: Entry,
) -> Result<JobSpec, Rejection> {
    let candidate = Candidate {
        spec: wish,
        asked: &wish.resources,
    };
    limits::check(&draft.state, queue, candidate, entry)?;
    let mut spec = wish.clone();
    if queue.is_routing() {
        return Ok(spec);
    }
    let settings = draft.state.settings().map(AsRef::as_ref);
    fill_in(&mut spec, &asked::defaults(settings, queue))?;
    asked::require_features(&mut spec, queue);
    if let Some(settings) = settings
        && settings.requires_containers(&queue.name)
        && settings.image_of(&queue.name, &spec).is_none()
    {
        return Err(limits::refusal(queue, &spec, QueueRefusal::NoImage));
    }
    prepare::check_name(&draft.state, &spec)?;
    if entry != Entry::Ordered {
        let ever = limits::check_ever(settings, queue, &spec);
        ever.map_err(|why| limits::refusal(queue, &spec, why))?;
        asked::check_nodes(&draft.state, &spec, Some(&queue.name))?;
    }
    Ok(spec)
}

fn accept(
    draft: &mut Draft,
    submission: &Submission,
    (spec, queue): (JobSpec, QueueName),
    bonds: &Bonds,
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
        waits_for: bonds.waits_for.clone(),
        ties: bonds.ties.clone(),
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
        preempted: None,
        first_until: None,
        forced: None,
        forced_members: Vec::new(),
        tries: Tries::default(),
        forecast: None,
        waits: Vec::new(),
    };
    job.eligible = job.is_eligible(now).then_some(now);
    draft.put_payload(job.id, submission.payload.clone());
    let job = draft.put(job)?;
    draft.account(&job, Account::Queued);
    draft.reply = Reply::Submitted(job.id);
    dependencies::bind_others(draft, job.id, bonds)
}

fn wished_queue(submission: &Submission) -> QueueName {
    submission
        .queue
        .clone()
        .unwrap_or_else(|| QueueName::from("batch"))
}

fn find_queue<'a>(settings: &'a Settings, submission: &Submission) -> Result<&'a Queue, Rejection> {
    let name = submission.queue.clone();
    let name = name.or_else(|| settings.default_queue());
    let name = name.ok_or(Rejection::NoDefaultQueue)?;
    let is_asked_for = submission.queue.is_some();
    settings.queues.get(&name).ok_or(match is_asked_for {
        true => Rejection::UnknownQueue(name),
        false => Rejection::NoDefaultQueue,
    })
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
        let (members, max) = (array.indices.len(), settings.max_job_array_size());
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

/// `max_slot_limit`: an array may not name a higher limit, and gets this one when it names none.
fn limit_slots(spec: &mut JobSpec, settings: &Settings) -> Result<(), Rejection> {
    let (Some(max), Some(request)) = (settings.max_slot_limit(), spec.array.as_mut()) else {
        return Ok(());
    };
    match request.slot_limit {
        Some(limit) if limit > max => Err(Rejection::SlotLimitTooHigh { limit, max }),
        Some(_) => Ok(()),
        None => {
            request.slot_limit = Some(max);
            Ok(())
        }
    }
}
