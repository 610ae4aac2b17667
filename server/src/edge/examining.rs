//! `qsub --explain` and `--dry-run`: what would become of a submission. It is decided by the very code that decides
//! submissions and plans, on a copy of the latest snapshot's state, so that nothing is stored, no number is used and the
//! engine hears nothing of it. How many of these plans are made at once, and by whom, is bounded here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use capstan_core::{
    Confidence, Event, Explanation, Job, Plan, PlanOrder, Reply, State, Submission, Suggestion,
    explain,
};
use capstan_proto::wire::examine_reply::Outlook;
use capstan_proto::{Refusal, wire};
use capstan_types::{JobId, Pbse, Timestamp};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tonic::Status;

use super::Door;
use super::identity::Person;
use super::refusal::{edge_status, status};
use super::submitting;
use crate::clock;
use crate::engine::Refused;
use crate::snapshot::Snapshot;
use crate::telemetry::Telemetry;
use crate::view::Scene;
use crate::view::attributes::attributes;

/// Plans made at once for examinations.
const EXAMINATIONS_AT_ONCE_MAX: usize = 2;
/// Examinations under way or waiting, of everybody.
const EXAMINATIONS_MAX: usize = 64;
/// Of one user.
const EXAMINATIONS_OF_USER_MAX: usize = 4;
/// After an examination its place stays empty for as long as it took, at most so long: a user who asks again and again
/// gets no more than half of what the host has for this.
const REST_MAX: Duration = Duration::from_secs(1);
/// Shares of a job that are told one by one; an array may start thousands of members at once.
const PARTS_MAX: usize = 1000;

/// The examinations under way.
#[derive(Debug)]
pub(crate) struct Examinations {
    places: Arc<Semaphore>,
    of_users: Arc<Mutex<BTreeMap<u32, usize>>>,
}

impl Default for Examinations {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(EXAMINATIONS_AT_ONCE_MAX)),
            of_users: Arc::default(),
        }
    }
}

/// One of them; gives its place in the count back when dropped.
#[derive(Debug)]
pub(super) struct Counted {
    uid: u32,
    of_users: Arc<Mutex<BTreeMap<u32, usize>>>,
}

fn lock(of_users: &Mutex<BTreeMap<u32, usize>>) -> MutexGuard<'_, BTreeMap<u32, usize>> {
    // A count is never left half changed.
    of_users.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Examinations {
    /// Counts one more of this user's.
    ///
    /// # Errors
    /// There are as many as there may be.
    pub(super) fn count(&self, uid: u32) -> Result<Counted, Refusal> {
        let mut of_users = lock(&self.of_users);
        let own = of_users.get(&uid).copied().unwrap_or(0);
        let all: usize = of_users.values().sum();
        if own >= EXAMINATIONS_OF_USER_MAX || all >= EXAMINATIONS_MAX {
            let whose = if own >= EXAMINATIONS_OF_USER_MAX {
                "yours"
            } else {
                "everybody's"
            };
            let detail =
                format!("as many questions as there may be at once are being answered, {whose}");
            let hint = "try again when they are done; submitting is not affected";
            return Err(Refusal::new(Pbse::ServerBusy, detail).with_hint(hint.to_owned()));
        }
        of_users.insert(uid, own + 1);
        Ok(Counted {
            uid,
            of_users: self.of_users.clone(),
        })
    }

    /// Does `work`, which costs the processor something, on a thread for that when there is a place.
    ///
    /// # Errors
    /// The server ends.
    pub(super) async fn in_turn<T: Send + 'static>(
        &self,
        counted: Counted,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Status> {
        let place = self.places.clone().acquire_owned().await;
        let place = place.map_err(|_| Status::unavailable("the server ends"))?;
        let (answer, answered) = oneshot::channel();
        // A task of its own: who hangs up does not get the place back sooner.
        tokio::spawn(async move {
            let began = Instant::now();
            let done = tokio::task::spawn_blocking(work).await;
            // Nobody may be left to hear it.
            answer.send(done).ok();
            rest(began.elapsed(), place, counted).await;
        });
        let done = answered.await.ok().and_then(Result::ok);
        done.ok_or_else(|| Status::internal("the examination was cut off"))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut of_users = lock(&self.of_users);
        match of_users.get(&self.uid).copied() {
            Some(count) if count > 1 => drop(of_users.insert(self.uid, count - 1)),
            Some(_) | None => drop(of_users.remove(&self.uid)),
        }
    }
}

/// What would become of a submission of `person`.
///
/// # Errors
/// The refusal that the submission would get; or that too many are being examined.
pub(super) async fn examine(
    door: &Door,
    person: Arc<Person>,
    request: wire::ExamineRequest,
) -> Result<wire::ExamineReply, Status> {
    let wire::ExamineRequest { submission } = request;
    let counted = door.examinations.count(person.uid).map_err(edge_status)?;
    let snapshot = door.latest.get();
    let submission = submission.unwrap_or_default();
    let submission = submitting::read(door, &snapshot, &person, submission).await?;
    let telemetry = door.telemetry.clone();
    let judge = move || judge(&snapshot, &telemetry, submission);
    let judged = door.examinations.in_turn(counted, judge).await?;
    judged.map_err(|rejection| status(&Refused::Rejected(rejection), &person.as_caller()))
}

/// Keeps the place for as long as its use took.
async fn rest(took: Duration, place: OwnedSemaphorePermit, counted: Counted) {
    drop(counted);
    tokio::time::sleep(took.min(REST_MAX)).await;
    drop(place);
}

/// Submits and plans on a copy of the state.
fn judge(
    snapshot: &Snapshot,
    telemetry: &Telemetry,
    submission: Submission,
) -> Result<wire::ExamineReply, capstan_core::Rejection> {
    let now = clock::wall();
    let variables = submission.payload.variables.clone();
    let mut state = snapshot.state.clone();
    let submitted = Event::Submit(Box::new(submission));
    let outcome = capstan_core::apply(&mut state, &submitted, now)?;
    let Reply::Submitted(id) = outcome.reply else {
        return Ok(wire::ExamineReply::default());
    };
    let plan = capstan_core::plan(&state, now);
    let seen = Snapshot {
        state: state.clone(),
        plan: Arc::new(plan.clone()),
        statistics: snapshot.statistics,
    };
    let scene = Scene {
        snapshot: &seen,
        telemetry,
        now,
    };
    let job = state.job(id);
    Ok(wire::ExamineReply {
        job: job.map(|job| attributes(scene, job, Some(&variables))),
        defaults: job.map(|job| defaults(&seen, job)).unwrap_or_default(),
        outlook: Some(outlook(&state, &plan, id, now)),
    })
}

/// What the job got without asking, and from whom.
fn defaults(snapshot: &Snapshot, job: &Job) -> Vec<wire::DefaultResource> {
    let queue = snapshot.settings().queues.get(&job.queue);
    let of_queue = |name: &str| {
        let resources = queue.and_then(|queue| queue.attributes.resources("resources_default"));
        resources.is_some_and(|resources| resources.get(name).is_some())
    };
    let got = job.spec.defaulted.iter().filter_map(|name| {
        let value = job.spec.resources.get(name)?;
        let of = match of_queue(name) {
            true => format!("queue {}", job.queue),
            false => "the server".to_owned(),
        };
        Some(wire::DefaultResource {
            name: name.to_string(),
            value: value.to_owned(),
            of,
        })
    });
    got.collect()
}

/// What would become of job `id` of `state`, by this plan of it: the one place that explains a job to its submitter.
fn outlook(state: &State, plan: &Plan, id: JobId, now: Timestamp) -> Outlook {
    let own = || plan.placements.iter().filter(|one| one.job.seq == id.seq);
    if own().next().is_some() {
        let array = state.job(id).and_then(|job| job.array.as_ref());
        let parts = own().flat_map(|placement| {
            let shares = placement.shares.iter();
            shares.map(|share| part(state, placement.job, share))
        });
        return Outlook::Starts(wire::Start {
            parts: parts.take(PARTS_MAX).collect(),
            jobs: own().count() as u64,
            jobs_in_all: array.map_or(1, |array| array.waiting.len()),
        });
    }
    let reason = plan.reasons.iter().find(|(job, _)| *job == id);
    let is_scheduling = state
        .settings()
        .is_none_or(|settings| settings.is_scheduling());
    let reason = match reason {
        Some((_, reason)) => reason.to_string(),
        None if !is_scheduling => {
            "the scheduler is switched off (server attribute scheduling)".to_owned()
        }
        None => String::new(),
    };
    let Explanation {
        start,
        suggestions,
        sooner,
        ..
    } = explanation(state, plan, id, now);
    Outlook::Waits(wire::Wait {
        reason,
        place_in_line: place_in_line(plan, id),
        expected_start_secs: start.map(|start| start.at.secs()),
        confidence: start
            .map_or("", |start| sureness(start.confidence))
            .to_owned(),
        changes: suggestions.iter().map(option).collect(),
        sooner: sooner
            .iter()
            .map(|sooner| wire::wait::SoonerWith {
                change: option(&sooner.suggestion),
                at_secs: sooner.at.secs(),
                confidence: sureness(sooner.confidence).to_owned(),
            })
            .collect(),
    })
}

/// Why job `id` waits, in full: of the state in which the plan has been carried out.
fn explanation(state: &State, plan: &Plan, id: JobId, now: Timestamp) -> Explanation {
    let mut settled = state.clone();
    let order = PlanOrder {
        at: now,
        placements: plan.placements.clone(),
        preemptions: plan.preemptions.clone(),
        waits: Vec::new(),
        preparations: plan.preparations.clone(),
    };
    // It was just made of this state, and so it holds; if it did not, less would be known.
    drop(capstan_core::apply(
        &mut settled,
        &Event::Planned(order),
        now,
    ));
    explain(&settled, plan, id, now).unwrap_or_default()
}

const fn sureness(confidence: Confidence) -> &'static str {
    match confidence {
        Confidence::Firm => "firm",
        Confidence::Likely => "likely",
        Confidence::Guess => "guess",
    }
}

/// A change as an option of `qsub`.
fn option(suggestion: &Suggestion) -> String {
    match suggestion {
        Suggestion::Resource { name, value, .. } => format!("-l {name}={value}"),
        Suggestion::Queue(queue) => format!("-q {queue}"),
    }
}

/// Of those that wait, how many are considered before job `id`, and itself.
fn place_in_line(plan: &Plan, id: JobId) -> Option<u64> {
    let starts: BTreeSet<u64> = plan.placements.iter().map(|one| one.job.seq).collect();
    let mut waiting = plan.line.iter().filter(|job| !starts.contains(&job.seq));
    let before = waiting.position(|job| *job == id)?;
    Some(before as u64 + 1)
}

fn part(state: &State, job: JobId, share: &capstan_core::NodeShare) -> wire::start::Part {
    let server = state.settings().map(|settings| job.on(&settings.server));
    wire::start::Part {
        job_id: server.unwrap_or_default(),
        node: share.node.to_string(),
        slots: share.slots.iter().map(|slot| u32::from(*slot)).collect(),
        cards: share.cards.iter().map(|card| card.index).collect(),
        memory_bytes: share.memory_bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_examines_more_than_his_share_at_once() {
        let examinations = Examinations::default();
        let own: Vec<_> = (0..EXAMINATIONS_OF_USER_MAX)
            .map(|_| examinations.count(7).unwrap())
            .collect();
        let refused = examinations.count(7).unwrap_err();
        assert!(refused.text().contains("yours"), "{}", refused.text());
        let others: Vec<_> = (0..EXAMINATIONS_MAX - EXAMINATIONS_OF_USER_MAX)
            .map(|at| examinations.count(100 + at as u32).unwrap())
            .collect();
        assert!(
            examinations
                .count(8)
                .unwrap_err()
                .text()
                .contains("everybody's")
        );
        drop(own);
        assert!(examinations.count(7).is_ok());
        drop(others);
        assert!(lock(&examinations.of_users).is_empty());
    }
}
