//! A state in the making: what one event has changed so far. Nothing of it is seen before [`Draft::finish`], so a
//! refusal half-way costs nothing. Changes are made of what was touched, each thing once, in a fixed order.

use std::collections::BTreeSet;
use std::sync::Arc;

use capstan_types::{AttemptId, JobId, JobPart, NodeName, ReservationId, Timestamp};

use super::{Outcome, Reply, array, forecast, history, spending};
use crate::{
    Account, Change, Effect, Ended, Holds, Job, JobEvent, JobState, Node, Payer, Payload,
    Rejection, Reservation, Run, RunTimesKey, Settings, State,
};

pub(super) struct Draft {
    pub(super) state: State,
    pub(super) now: Timestamp,
    pub(super) effects: Vec<Effect>,
    pub(super) reply: Reply,
    /// What dependants may wait for, in the order it happened.
    pub(super) news: Vec<(JobId, News)>,
    jobs: BTreeSet<JobId>,
    nodes: BTreeSet<NodeName>,
    payers: BTreeSet<Payer>,
    run_times: BTreeSet<RunTimesKey>,
    reservations: BTreeSet<ReservationId>,
    forecasts: Option<Change>,
    payload: Option<(JobId, Arc<Payload>)>,
    settings: Option<Arc<Settings>>,
    next_seq: Option<u64>,
    next_attempt: Option<u64>,
}

/// What became of a job that others wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// It has started.
    Started,
    /// It ended with this exit status.
    Exited(i32),
    /// It was deleted before it ever ran.
    NeverRan,
    /// The server deleted it before it ever ran, because it could not.
    Aborted,
    /// Of an array: what has become of its members is counted anew.
    Counted,
}

impl Draft {
    pub(super) fn new(state: &State, now: Timestamp) -> Self {
        Self {
            state: state.clone(),
            now,
            effects: Vec::new(),
            reply: Reply::Done,
            news: Vec::new(),
            jobs: BTreeSet::new(),
            nodes: BTreeSet::new(),
            payers: BTreeSet::new(),
            run_times: BTreeSet::new(),
            reservations: BTreeSet::new(),
            forecasts: None,
            payload: None,
            settings: None,
            next_seq: None,
            next_attempt: None,
        }
    }

    /// The state with all that was decided, and the outcome to be stored.
    pub(super) fn finish(self) -> (State, Outcome) {
        let mut changes = Vec::with_capacity(self.jobs.len() + self.nodes.len() + 3);
        changes.extend(self.settings.map(Change::PutSettings));
        changes.extend(self.next_seq.map(Change::SetNextSeq));
        changes.extend(self.next_attempt.map(Change::SetNextAttempt));
        for name in self.nodes {
            changes.push(match self.state.node(&name) {
                Some(node) => Change::PutNode(node.clone()),
                None => Change::RemoveNode(name),
            });
        }
        changes.extend(
            self.payload
                .map(|(id, payload)| Change::PutPayload(id, payload)),
        );
        for id in self.jobs {
            changes.push(match self.state.job(id) {
                Some(job) => Change::PutJob(job.clone()),
                None => Change::RemoveJob(id),
            });
        }
        for key in self.run_times {
            changes.push(match self.state.run_times(&key) {
                Some(times) => Change::PutRunTimes(key, times),
                None => Change::RemoveRunTimes(key),
            });
        }
        for payer in self.payers {
            changes.push(match self.state.spending(&payer) {
                Some(spending) => Change::PutSpending(spending.clone()),
                None => Change::RemoveSpending(payer),
            });
        }
        for id in self.reservations {
            changes.push(match self.state.reservation(id) {
                Some(made) => Change::PutReservation(made.clone()),
                None => Change::RemoveReservation(id),
            });
        }
        changes.extend(self.forecasts);
        let outcome = Outcome {
            changes,
            effects: self.effects,
            reply: self.reply,
        };
        (self.state, outcome)
    }

    pub(super) fn put_settings(&mut self, settings: Arc<Settings>) {
        self.state.absorb(&Change::PutSettings(settings.clone()));
        self.settings = Some(settings);
    }

    /// Keeps a node; a new one stands behind all others.
    pub(super) fn put_node(&mut self, mut node: Node) {
        if node.ordinal == 0 {
            let old = self.state.node(&node.name).map(|node| node.ordinal);
            let last = || self.state.nodes().map(|node| node.ordinal).max();
            node.ordinal = old
                .filter(|ordinal| *ordinal > 0)
                .unwrap_or_else(|| last().unwrap_or(0) + 1);
        }
        self.nodes.insert(node.name.clone());
        self.state.absorb(&Change::PutNode(Arc::new(node)));
    }

    pub(super) fn put_payload(&mut self, id: JobId, payload: Arc<Payload>) {
        self.payload = Some((id, payload));
    }

    pub(super) fn take_seq(&mut self) -> u64 {
        let seq = self.state.next_seq();
        self.state.absorb(&Change::SetNextSeq(seq + 1));
        self.next_seq = Some(seq + 1);
        seq
    }

    pub(super) fn take_attempt(&mut self) -> AttemptId {
        let attempt = self.state.next_attempt();
        self.state.absorb(&Change::SetNextAttempt(attempt.0 + 1));
        self.next_attempt = Some(attempt.0 + 1);
        attempt
    }

    pub(super) fn remove_node(&mut self, name: &NodeName) {
        self.nodes.insert(name.clone());
        self.state.absorb(&Change::RemoveNode(name.clone()));
    }

    pub(super) fn set_next_seq(&mut self, next: u64) {
        self.state.absorb(&Change::SetNextSeq(next));
        self.next_seq = Some(next);
    }

    pub(super) fn remove_job(&mut self, id: JobId) {
        self.state.absorb(&Change::RemoveJob(id));
        self.jobs.insert(id);
    }

    /// The job, or a member of an array that has no record yet.
    pub(super) fn job(&self, id: JobId) -> Result<Arc<Job>, Rejection> {
        self.state.resolve(id).ok_or(Rejection::UnknownJob(id))
    }

    /// Changes the state of `job` and keeps it; the one place from which [`JobState::on`] is called.
    pub(super) fn advance(&mut self, mut job: Job, event: JobEvent) -> Result<Arc<Job>, Rejection> {
        job.state = job.state.on(event)?;
        self.put(job)
    }

    /// Keeps `job`, and its array's account of its members.
    pub(super) fn put(&mut self, mut job: Job) -> Result<Arc<Job>, Rejection> {
        job.changed = self.now;
        if !matches!(job.state, JobState::Pending) {
            job.holds = job.holds.without(Holds::SLOT);
        }
        let id = job.id;
        let before = self.state.job(id).cloned();
        job.forecast = forecast::told(self, before.as_deref(), &job);
        let after = Arc::new(job);
        if let Some((before, run)) = given_up(before.as_deref(), &after) {
            spending::charge(self, before, run);
        }
        self.state.absorb(&Change::PutJob(after.clone()));
        self.jobs.insert(id);
        if let (JobState::Ended(ended), false) = (&after.state, has_ended(before.as_ref())) {
            history::remember(self, &after, ended);
            self.news.push((id, fate(&after, ended)));
        }
        if let JobPart::Member(index) = id.part {
            array::count_member(self, index, before.as_ref(), &after)?;
        }
        Ok(after)
    }

    /// Keeps a member whose state and array do not change by it.
    pub(super) fn put_alone(&mut self, mut job: Job) {
        job.changed = self.now;
        self.jobs.insert(job.id);
        self.state.absorb(&Change::PutJob(Arc::new(job)));
    }

    pub(super) fn put_reservation(&mut self, made: Arc<Reservation>) {
        self.reservations.insert(made.id);
        self.state.absorb(&Change::PutReservation(made));
    }

    pub(super) fn remove_reservation(&mut self, id: ReservationId) {
        self.reservations.insert(id);
        self.state.absorb(&Change::RemoveReservation(id));
    }

    pub(super) fn put_spending(&mut self, change: Change, payer: Payer) {
        self.state.absorb(&change);
        self.payers.insert(payer);
    }

    /// Keeps what was learnt of forecasts; `change` is a [`Change::PutForecasts`].
    pub(super) fn put_forecasts(&mut self, change: Change) {
        self.state.absorb(&change);
        self.forecasts = Some(change);
    }

    pub(super) fn put_run_times(&mut self, change: Change, key: RunTimesKey) {
        self.state.absorb(&change);
        self.run_times.insert(key);
    }

    pub(super) fn account(&mut self, job: &Arc<Job>, record: Account) {
        let (at, job) = (self.now, job.clone());
        self.effects.push(Effect::Account { at, job, record });
    }

    /// Ends the array when none of its members is left to run or running.
    pub(super) fn end_array_if_done(&mut self, array: Job) -> Result<(), Rejection> {
        let Some(members) = array.array.as_ref() else {
            return Ok(());
        };
        if !members.waiting.is_empty() || members.live > 0 || array.has_ended() {
            self.put(array)?;
            return Ok(());
        }
        let exit_status = (array.run_count > 0).then(|| members.worst_exit.unwrap_or(0));
        let at = self.now;
        let ended = Ended {
            at,
            exit_status,
            run: None,
            cause: Box::default(),
        };
        self.advance(array, JobEvent::Ended(ended))?;
        Ok(())
    }
}

fn has_ended(job: Option<&Arc<Job>>) -> bool {
    job.is_some_and(|job| job.has_ended())
}

/// The attempt that `after` no longer has, with the job as it was: what it held is free from now on.
fn given_up<'a>(before: Option<&'a Job>, after: &Job) -> Option<(&'a Job, &'a Run)> {
    let before = before?;
    let run = before.state.run()?;
    let goes_on = after
        .state
        .run()
        .is_some_and(|now| now.attempt == run.attempt);
    (!goes_on).then_some((before, run))
}

fn fate(job: &Job, ended: &Ended) -> News {
    match ended.exit_status {
        None => News::NeverRan,
        Some(_) if ended.run.is_none() && !job.is_array() => News::Aborted,
        Some(status) => News::Exited(status),
    }
}

impl News {
    /// What an ended job means for those that wait for it; `None` while it has not ended.
    pub(super) fn of(job: &Job) -> Option<Self> {
        match &job.state {
            JobState::Ended(ended) => Some(fate(job, ended)),
            JobState::Running(_) => Some(Self::Started),
            JobState::Starting(run) | JobState::Exiting(run, _) => {
                run.started.map(|_| Self::Started)
            }
            JobState::Pending => job
                .array
                .as_ref()
                .filter(|array| array.running > 0)
                .map(|_| Self::Started),
        }
    }
}
