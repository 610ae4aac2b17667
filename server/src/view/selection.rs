//! Which jobs a listing is about: an id in any accepted form, a queue, or all; arrays as one line or member by member.

use std::borrow::Cow;
use std::sync::Arc;

use capstan_core::{Job, State};
use capstan_proto::{Refusal, wire};
use capstan_types::{JobId, JobPart, JobReference, Pbse, QueueName};

use crate::snapshot::Snapshot;

/// A job of a listing.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    /// A job with a record.
    Job(Arc<Job>),
    /// A member of an array that has no record of its own yet.
    Member(Arc<Job>, u32),
}

impl Item {
    /// The job.
    pub(crate) fn job(&self) -> Cow<'_, Job> {
        match self {
            Self::Job(job) => Cow::Borrowed(job),
            Self::Member(array, index) => Cow::Owned(array.as_member(*index)),
        }
    }
}

/// The jobs that `request` is about, in id order.
///
/// # Errors
/// An id or a queue that is not there, and what is neither.
pub(crate) fn select(
    snapshot: &Snapshot,
    request: &wire::StatJobsRequest,
) -> Result<Vec<Item>, Refusal> {
    let state = &snapshot.state;
    let operand = request.operand.as_str();
    let mut items = match operand.as_bytes().first() {
        None => listing(state, state.jobs(), request.expand_arrays),
        Some(digit) if digit.is_ascii_digit() => {
            let id = job_id(snapshot, operand)?;
            one(state, id, request.expand_arrays)?
        }
        Some(_) => {
            let queue = operand.split_once('@').map_or(operand, |(queue, _)| queue);
            let is_known = queue.is_empty() || snapshot.settings().queues.contains_key(queue);
            if !is_known {
                return Err(Refusal::new(Pbse::Unkque, ""));
            }
            let queue = QueueName::from(queue);
            let jobs = state
                .jobs()
                .filter(|job| queue.as_str().is_empty() || job.queue == queue);
            listing(state, jobs, request.expand_arrays)
        }
    };
    if !request.users.is_empty() || request.hide_completed {
        items.retain(|item| {
            let (Item::Job(job) | Item::Member(job, _)) = item;
            let owner = &*job.spec.owner.user;
            let is_theirs = request.users.is_empty() || request.users.iter().any(|u| u == owner);
            is_theirs && !(request.hide_completed && job.has_ended())
        });
    }
    Ok(items)
}

/// Reads a job id as a person typed it.
///
/// # Errors
/// Another server's job, and what is no id.
pub(crate) fn job_id(snapshot: &Snapshot, typed: &str) -> Result<JobId, Refusal> {
    let reference: JobReference = typed.parse().map_err(|error| {
        Refusal::new(
            Pbse::Ivalreq,
            format!("illegally formed job identifier: {error}"),
        )
    })?;
    let ours = snapshot.settings().server.as_str();
    let is_ours = |name: &str| name == ours || ours.split('.').next() == Some(name);
    match reference
        .server
        .is_none_or(|server| is_ours(server.as_str()))
    {
        true => Ok(reference.id),
        false => Err(Refusal::new(Pbse::Unkjobid, "")),
    }
}

fn one(state: &State, id: JobId, expand: bool) -> Result<Vec<Item>, Refusal> {
    let unknown = || Refusal::new(Pbse::Unkjobid, "");
    match id.part {
        JobPart::Array if expand => {
            let array = state.job(id).ok_or_else(unknown)?;
            Ok(members(state, array))
        }
        JobPart::Whole | JobPart::Array => {
            let job = state.job(id).ok_or_else(unknown)?;
            Ok(vec![Item::Job(job.clone())])
        }
        JobPart::Member(_) => Ok(vec![Item::Job(state.resolve(id).ok_or_else(unknown)?)]),
    }
}

fn listing<'a>(state: &State, jobs: impl Iterator<Item = &'a Arc<Job>>, expand: bool) -> Vec<Item> {
    let mut items = Vec::with_capacity(state.job_count());
    for job in jobs {
        match job.id.part {
            JobPart::Array if expand => items.extend(members(state, job)),
            JobPart::Whole | JobPart::Array => items.push(Item::Job(job.clone())),
            // Listed with, or instead of, their array.
            JobPart::Member(_) => {}
        }
    }
    items
}

/// All members of an array by index, with and without a record.
fn members(state: &State, array: &Arc<Job>) -> Vec<Item> {
    let records = state
        .submission(array.id.seq)
        .filter_map(|job| match job.id.part {
            JobPart::Member(index) => Some((index, Item::Job(job.clone()))),
            JobPart::Whole | JobPart::Array => None,
        });
    let waiting = array.array.iter().flat_map(|state| state.waiting.iter());
    let waiting = waiting.map(|index| (index, Item::Member(array.clone(), index)));
    let mut members: Vec<(u32, Item)> = records.chain(waiting).collect();
    members.sort_by_key(|(index, _)| *index);
    members.into_iter().map(|(_, item)| item).collect()
}
