//! Which jobs a listing is about: an id in any accepted form, a queue, or all; arrays as one line or member by member.

use std::borrow::Cow;
use std::sync::Arc;

use capstan_core::{Job, Queue, State};
use capstan_proto::{Refusal, wire};
use capstan_types::{Dialect, JobId, JobPart, JobReference, Pbse, QueueName};

use crate::snapshot::Snapshot;

/// Of a finished job in PBS Pro's dialect, to who does not ask for finished ones.
const HISTORY: &str = "Job has finished, use -x or -H to obtain historical job information";

/// A job of a listing.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    /// A job with a record.
    Job(Arc<Job>),
    /// A member of an array that has no record of its own yet.
    Member(Arc<Job>, u32),
}

impl Item {
    /// The job's own record, or its array's while it has none.
    pub(crate) fn record(&self) -> &Job {
        let (Self::Job(job) | Self::Member(job, _)) = self;
        job
    }

    /// The job.
    pub(crate) fn job(&self) -> Cow<'_, Job> {
        match self {
            Self::Job(job) => Cow::Borrowed(job),
            Self::Member(array, index) => Cow::Owned(array.as_member(*index)),
        }
    }
}

/// Who looks, as far as it decides what is shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Viewer<'a> {
    /// Login name.
    pub(crate) user: &'a str,
    /// Managers and operators see everybody's jobs, whatever `query_other_jobs` says.
    pub(crate) sees_all: bool,
}

impl Viewer<'_> {
    /// Whether `job` is his to see.
    fn may_see(self, snapshot: &Snapshot, job: &Job) -> bool {
        self.may_see_of(snapshot, &job.spec.owner.user)
    }

    /// Whether jobs of `owner` are his to see.
    pub(crate) fn may_see_of(self, snapshot: &Snapshot, owner: &str) -> bool {
        self.sees_all || *owner == *self.user || snapshot.settings().query_other_jobs()
    }
}

/// The jobs that `request` is about, in id order.
///
/// # Errors
/// An id or a queue that is not there, and what is neither; another's job that the viewer may not see.
pub(crate) fn select(
    snapshot: &Snapshot,
    viewer: Viewer<'_>,
    request: &wire::StatJobsRequest,
) -> Result<Vec<Item>, Refusal> {
    let state = &snapshot.state;
    let operand = request.operand.as_str();
    let mut items = match operand.as_bytes().first() {
        Some(digit) if digit.is_ascii_digit() => {
            let id = job_id(snapshot, operand)?;
            let items = one(state, id, request.expand_arrays)?;
            if !items
                .iter()
                .all(|item| viewer.may_see(snapshot, item.record()))
            {
                return Err(Refusal::new(Pbse::Perm, ""));
            }
            items
        }
        Some(_) | None => {
            let queue = wanted_queue(snapshot, operand)?;
            let jobs = state.jobs().filter(|job| {
                queue.as_ref().is_none_or(|queue| job.queue == *queue)
                    && viewer.may_see(snapshot, job)
            });
            listing(state, jobs, request.expand_arrays)
        }
    };
    if request.arrays_only {
        items.retain(|item| item.record().array.is_some());
    }
    if request.exec_only {
        items.retain(|item| !passes_through(snapshot, item.record()));
    }
    line_up(&mut items);
    let hide_completed = request.hide_completed || hides_history(snapshot, request);
    if !request.users.is_empty() || hide_completed {
        let count = items.len();
        items.retain(|item| {
            let job = item.record();
            let owner = &*job.spec.owner.user;
            let is_theirs = request.users.is_empty() || request.users.iter().any(|u| u == owner);
            is_theirs && !(hide_completed && job.has_ended())
        });
        let is_history = names_a_job(operand) && count > 0 && items.is_empty();
        if is_history && hides_history(snapshot, request) {
            return Err(Refusal::new(Pbse::Unkjobid, HISTORY));
        }
    }
    Ok(items)
}

fn names_a_job(operand: &str) -> bool {
    operand.starts_with(|first: char| first.is_ascii_digit())
}

/// In PBS Pro's dialect what is over is history, and shown only to who asks for that (`-x`).
fn hides_history(snapshot: &Snapshot, request: &wire::StatJobsRequest) -> bool {
    let dialect = match request.dialect.as_str() {
        "" => snapshot.settings().dialect,
        named => Dialect::parse(named).unwrap_or_default(),
    };
    dialect == Dialect::Pro && !request.include_finished
}

/// All jobs that the viewer may see, arrays member by member: what `qselect` chooses from.
pub(crate) fn every(snapshot: &Snapshot, viewer: Viewer<'_>, exec_only: bool) -> Vec<Item> {
    let jobs = snapshot.state.jobs().filter(|job| {
        viewer.may_see(snapshot, job) && !(exec_only && passes_through(snapshot, job))
    });
    let mut items = listing(&snapshot.state, jobs, true);
    line_up(&mut items);
    items
}

/// Jobs that `qorder` gave another's place stand there in listings as well.
fn line_up(items: &mut [Item]) {
    if items.iter().any(|item| item.record().place.is_some()) {
        items.sort_by_key(|item| {
            let record = item.record();
            record.place.map_or(record.id.seq, |(_, id)| id.seq)
        });
    }
}

/// The queue of a destination (`queue`, `queue@server`); `None` for all of them (`@server` and nothing).
///
/// # Errors
/// A queue that is not there.
pub(crate) fn wanted_queue(
    snapshot: &Snapshot,
    destination: &str,
) -> Result<Option<QueueName>, Refusal> {
    let queue = destination
        .split_once('@')
        .map_or(destination, |(queue, _)| queue);
    match queue {
        "" => Ok(None),
        queue if snapshot.settings().queues.contains_key(queue) => Ok(Some(queue.into())),
        _ => Err(Refusal::new(Pbse::Unkque, "")),
    }
}

/// Whether the job waits in a queue that only passes jobs on.
fn passes_through(snapshot: &Snapshot, job: &Job) -> bool {
    let queue = snapshot.settings().queues.get(&job.queue);
    queue.is_some_and(Queue::is_routing)
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
