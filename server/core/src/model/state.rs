//! The state: what is stored, and the indexes that are made of it. [`State::absorb`] is the only way to change it,
//! so that a restart, a replay and a decision all do the same. Cloning shares everything and costs nothing: readers
//! hold a clone while the engine goes on.

mod live;
mod told;

use std::sync::Arc;

use capstan_types::{AttemptId, JobId, JobPart, NodeName, QueueName, ReservationId, Timestamp};
use imbl::{OrdMap, OrdSet};

use super::{
    Forecasts, History, Job, JobState, Load, Node, NodeShare, Payer, Pending, Profiles,
    Reservation, Rows, RunTimes, RunTimesKey, Running, Settings, Spending, UserHistory,
};
use crate::Change;

/// Everything the scheduler knows.
#[derive(Clone, Debug, Default)]
pub struct State {
    settings: Option<Arc<Settings>>,
    jobs: OrdMap<JobId, Arc<Job>>,
    nodes: OrdMap<NodeName, Arc<Node>>,
    next_seq: u64,
    next_attempt: u64,
    pending: OrdMap<JobId, Pending>,
    profiles: Profiles,
    rows: Rows,
    attempts: OrdMap<AttemptId, Running>,
    /// (node, attempt) → share: what is held where.
    held: OrdMap<(NodeName, AttemptId), NodeShare>,
    ended: OrdSet<(Timestamp, JobId)>,
    /// (job waited for, waiting job).
    dependants: OrdSet<(JobId, JobId)>,
    /// Jobs that have not ended, by queue, user and group; members of arrays count one by one.
    live: OrdMap<(QueueName, Box<str>, Box<str>), u64>,
    /// What jobs that have ended have used of late.
    spendings: OrdMap<Payer, Arc<Spending>>,
    history: History,
    reservations: OrdMap<ReservationId, Arc<Reservation>>,
    /// How good forecasts have been.
    pub(super) forecasts: Arc<Forecasts>,
    /// (when it was called likely to have started, waiting job).
    told: OrdSet<(Timestamp, JobId)>,
    /// How much waits and runs.
    pub(super) load: Load,
}

impl State {
    /// The settings in force; `None` before the first [`crate::Event::ServerStarted`].
    #[must_use]
    pub fn settings(&self) -> Option<&Arc<Settings>> {
        self.settings.as_ref()
    }

    /// A job.
    #[must_use]
    pub fn job(&self, id: JobId) -> Option<&Arc<Job>> {
        self.jobs.get(&id)
    }

    /// All jobs in id order, ended ones included.
    pub fn jobs(&self) -> impl Iterator<Item = &Arc<Job>> {
        self.jobs.values()
    }

    /// The job and all members of the array that `seq` numbers.
    pub fn submission(&self, seq: u64) -> impl Iterator<Item = &Arc<Job>> {
        let (first, last) = (JobId::whole(seq), JobId::member(seq, u32::MAX));
        self.jobs.range(first..=last).map(|(_, job)| job)
    }

    /// How many jobs there are, ended ones included.
    #[must_use]
    pub fn job_count(&self) -> usize {
        self.jobs.len()
    }

    /// Jobs in state Pending, held ones included, in id order.
    pub fn pending(&self) -> impl Iterator<Item = &Arc<Job>> {
        self.pending.values().map(|pending| &pending.job)
    }

    /// One of them with what every plan asks of it.
    pub(crate) fn waiting_job(&self, id: JobId) -> Option<&Pending> {
        self.pending.get(&id)
    }

    /// The same with what every plan asks of them.
    pub(crate) fn waiting(&self) -> impl ExactSizeIterator<Item = &Pending> {
        self.pending.values()
    }

    /// Waiting jobs by row.
    pub(crate) const fn rows(&self) -> &Rows {
        &self.rows
    }

    /// The profiles of waiting jobs are below this.
    pub(crate) fn profile_bound(&self) -> usize {
        self.profiles.bound()
    }

    /// The job whose current attempt this is.
    #[must_use]
    pub fn job_of(&self, attempt: AttemptId) -> Option<&Arc<Job>> {
        self.attempts.get(&attempt).map(|running| &running.job)
    }

    /// Attempts that hold something now, with their jobs, in attempt order.
    pub fn running(&self) -> impl Iterator<Item = (AttemptId, &Arc<Job>)> {
        let running = self.reckoned_running();
        running.map(|(attempt, running)| (attempt, &running.job))
    }

    /// The same with what is reckoned of them.
    pub(crate) fn reckoned_running(&self) -> impl Iterator<Item = (AttemptId, &Running)> {
        let attempts = self.attempts.iter();
        attempts.map(|(attempt, running)| (*attempt, running))
    }

    /// What is held on `node`, by attempt.
    pub fn held_on(&self, node: &NodeName) -> impl Iterator<Item = (AttemptId, &NodeShare)> {
        let (first, last) = (AttemptId(0), AttemptId(u64::MAX));
        let range = self
            .held
            .range((node.clone(), first)..=(node.clone(), last));
        range.map(|((_, attempt), share)| (*attempt, share))
    }

    /// All that is held, in the order of node names, then attempts.
    pub fn held(&self) -> impl Iterator<Item = (&NodeName, AttemptId, &NodeShare)> {
        let held = self.held.iter();
        held.map(|((node, attempt), share)| (node, *attempt, share))
    }

    /// A job, or a member of an array that has no record of its own yet: it is as the array is.
    #[must_use]
    pub fn resolve(&self, id: JobId) -> Option<Arc<Job>> {
        if let Some(job) = self.jobs.get(&id) {
            return Some(job.clone());
        }
        let JobPart::Member(index) = id.part else {
            return None;
        };
        let array = self.jobs.get(&JobId::array(id.seq))?;
        let is_waiting = array
            .array
            .as_ref()
            .is_some_and(|state| state.waiting.contains(index));
        is_waiting.then(|| Arc::new(array.as_member(index)))
    }

    /// Jobs that ended at or before `time`, oldest first.
    pub fn ended_until(&self, time: Timestamp) -> impl Iterator<Item = JobId> {
        let oldest_first = self.ended.iter();
        oldest_first
            .take_while(move |(at, _)| *at <= time)
            .map(|(_, job)| *job)
    }

    /// Pairs of (job waited for, waiting job), where the first is a member of the array that `seq` numbers.
    pub fn dependants_of_members(&self, seq: u64) -> impl Iterator<Item = (JobId, JobId)> {
        let from = (JobId::member(seq, 0), JobId::whole(0));
        let range = self.dependants.range(from..);
        range.take_while(move |(on, _)| on.seq == seq).copied()
    }

    /// Jobs that wait for something of `job`.
    pub fn dependants(&self, job: JobId) -> impl Iterator<Item = JobId> {
        let from = (job, JobId::whole(0));
        let range = self.dependants.range(from..);
        range
            .take_while(move |(on, _)| *on == job)
            .map(|(_, waiting)| *waiting)
    }

    /// A node.
    #[must_use]
    pub fn node(&self, name: &NodeName) -> Option<&Arc<Node>> {
        self.nodes.get(name)
    }

    /// All nodes in name order.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.values()
    }

    /// The number that the next submission gets, from 1.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.next_seq.max(1)
    }

    /// The number of the next submission as listings show it: 0 before the first, as in Torque.
    #[must_use]
    pub const fn next_seq_shown(&self) -> u64 {
        self.next_seq
    }

    /// The id that the next attempt gets, from 1.
    #[must_use]
    pub fn next_attempt(&self) -> AttemptId {
        AttemptId(self.next_attempt.max(1))
    }

    /// What a payer's jobs have used of late.
    #[must_use]
    pub fn spending(&self, payer: &Payer) -> Option<&Arc<Spending>> {
        self.spendings.get(payer)
    }

    /// What all payers' jobs have used of late, by group, then by user.
    pub fn spendings(&self) -> impl ExactSizeIterator<Item = &Arc<Spending>> {
        self.spendings.values()
    }

    /// How long the last jobs like this ran.
    #[must_use]
    pub fn run_times(&self, key: &RunTimesKey) -> Option<RunTimes> {
        self.history.get(key)
    }

    pub(crate) fn history_of(&self, user: &str) -> Option<&UserHistory> {
        self.history.of_user(user)
    }

    /// What of the history goes when something of `key` is kept.
    pub(crate) fn crowded_out(&self, key: &RunTimesKey) -> Vec<RunTimesKey> {
        self.history.crowded_out(key)
    }

    /// A reservation.
    #[must_use]
    pub fn reservation(&self, id: ReservationId) -> Option<&Arc<Reservation>> {
        self.reservations.get(&id)
    }

    /// All reservations, oldest first.
    pub fn reservations(&self) -> impl ExactSizeIterator<Item = &Arc<Reservation>> {
        self.reservations.values()
    }

    /// The reservation whose jobs are in `queue`.
    #[must_use]
    pub fn reservation_of_queue(&self, queue: &QueueName) -> Option<&Arc<Reservation>> {
        if self.reservations.is_empty() {
            return None;
        }
        let id = queue.as_str().parse().ok()?;
        let found = self.reservation(id);
        found.filter(|made| made.has_queue() && *queue.as_str() == *id.to_string())
    }

    /// Takes one change in.
    pub fn absorb(&mut self, change: &Change) {
        match change {
            Change::PutJob(job) => self.put_job(job.clone()),
            Change::RemoveJob(id) => self.remove_job(*id),
            Change::PutPayload(..) => {}
            Change::PutNode(node) => {
                let old = self.nodes.insert(node.name.clone(), node.clone());
                self.load.count_node(old.as_deref(), Some(node));
            }
            Change::RemoveNode(name) => {
                let old = self.nodes.remove(name);
                self.load.count_node(old.as_deref(), None);
            }
            Change::PutSettings(settings) => self.settings = Some(settings.clone()),
            Change::SetNextSeq(next) => self.next_seq = *next,
            Change::SetNextAttempt(next) => self.next_attempt = *next,
            Change::PutSpending(spending) => {
                self.spendings
                    .insert(spending.payer.clone(), spending.clone());
            }
            Change::RemoveSpending(payer) => {
                self.spendings.remove(payer);
            }
            Change::PutRunTimes(key, times) => self.history.put(key, Some(*times)),
            Change::RemoveRunTimes(key) => self.history.put(key, None),
            Change::PutReservation(made) => {
                self.reservations.insert(made.id, made.clone());
            }
            Change::RemoveReservation(id) => {
                self.reservations.remove(id);
            }
            Change::PutForecasts(forecasts) => self.forecasts = forecasts.clone(),
        }
    }

    /// The changes that make this state out of an empty one (payloads excepted): a snapshot.
    pub fn as_changes(&self) -> impl Iterator<Item = Change> {
        let counters = [
            Change::SetNextSeq(self.next_seq),
            Change::SetNextAttempt(self.next_attempt),
        ];
        let settings = self.settings.iter().cloned().map(Change::PutSettings);
        let nodes = self.nodes.values().cloned().map(Change::PutNode);
        let jobs = self.jobs.values().cloned().map(Change::PutJob);
        let spendings = self.spendings.values().cloned().map(Change::PutSpending);
        let history = self.history.iter();
        let history = history.map(|(key, times)| Change::PutRunTimes(key, times));
        let reservations = self.reservations.values().cloned();
        let reservations = reservations.map(Change::PutReservation);
        let is_told = *self.forecasts != Forecasts::default();
        let forecasts = is_told.then(|| Change::PutForecasts(self.forecasts.clone()));
        counters
            .into_iter()
            .chain(settings)
            .chain(nodes)
            .chain(jobs)
            .chain(spendings)
            .chain(history)
            .chain(reservations)
            .chain(forecasts)
    }

    fn put_job(&mut self, job: Arc<Job>) {
        let old = self.jobs.insert(job.id, job.clone());
        self.count(old.as_deref(), Some(&job));
        self.load.count_job(old.as_deref(), Some(&job));
        self.index_told(old.as_deref(), Some(&job));
        match old {
            Some(old) if is_indexed_alike(&old, &job) => {
                if let JobState::Pending = job.state {
                    self.put_pending(job);
                } else if let Some(run) = job.state.run() {
                    self.attempts.insert(run.attempt, Running::of(job));
                }
            }
            Some(old) => {
                self.unindex(&old);
                self.index(job);
            }
            None => self.index(job),
        }
    }

    fn put_pending(&mut self, job: Arc<Job>) {
        let mut pending = Pending::of(job);
        // The new one first: so a profile that stays keeps its number.
        pending.profile = Some(self.profiles.add(&pending.job));
        let old = self.pending.insert(pending.job.id, pending.clone());
        if let Some(old) = &old {
            self.profiles.remove(&old.job);
        }
        if old
            .as_ref()
            .is_some_and(|old| Rows::is_same_place(old, &pending))
        {
            return;
        }
        if let Some(old) = old {
            self.rows.remove(&old);
        }
        self.rows.add(&pending);
    }

    fn remove_job(&mut self, id: JobId) {
        if let Some(old) = self.jobs.remove(&id) {
            self.count(Some(&old), None);
            self.load.count_job(Some(&old), None);
            self.index_told(Some(&old), None);
            self.unindex(&old);
        }
    }

    /// Keeps the account of jobs that have not ended.
    fn count(&mut self, old: Option<&Job>, new: Option<&Job>) {
        let of = |job: Option<&Job>| job.map_or(0, live_jobs);
        let is_same_place = match (old, new) {
            (Some(old), Some(new)) => {
                let (one, other) = (&old.spec.owner, &new.spec.owner);
                old.queue == new.queue && one.user == other.user && one.group == other.group
            }
            (None, _) | (_, None) => false,
        };
        if is_same_place && of(old) == of(new) {
            return;
        }
        let key = |job: &Job| {
            let owner = &job.spec.owner;
            (job.queue.clone(), owner.user.clone(), owner.group.clone())
        };
        if let Some(old) = old.filter(|old| live_jobs(old) > 0) {
            let left = self.live.get(&key(old)).copied().unwrap_or(0);
            match left.saturating_sub(live_jobs(old)) {
                0 => self.live.remove(&key(old)),
                left => self.live.insert(key(old), left),
            };
        }
        if let Some(new) = new.filter(|new| live_jobs(new) > 0) {
            let jobs = self.live.get(&key(new)).copied().unwrap_or(0);
            self.live.insert(key(new), jobs + live_jobs(new));
        }
    }

    fn index(&mut self, job: Arc<Job>) {
        // What an ended job waited for is history.
        if !job.has_ended() {
            for on in job.awaited() {
                self.dependants.insert((on, job.id));
            }
        }
        match &job.state {
            JobState::Pending => self.put_pending(job),
            JobState::Starting(run) | JobState::Running(run) | JobState::Exiting(run, _) => {
                self.attempts.insert(run.attempt, Running::of(job.clone()));
                for share in run.shares.iter() {
                    self.held
                        .insert((share.node.clone(), run.attempt), share.clone());
                }
            }
            JobState::Ended(ended) => {
                self.ended.insert((ended.at, job.id));
            }
        }
    }

    fn unindex(&mut self, job: &Job) {
        for on in job.awaited() {
            self.dependants.remove(&(on, job.id));
        }
        match &job.state {
            JobState::Pending => {
                if let Some(old) = self.pending.remove(&job.id) {
                    self.profiles.remove(&old.job);
                    self.rows.remove(&old);
                }
            }
            JobState::Starting(run) | JobState::Running(run) | JobState::Exiting(run, _) => {
                self.attempts.remove(&run.attempt);
                for share in run.shares.iter() {
                    self.held.remove(&(share.node.clone(), run.attempt));
                }
            }
            JobState::Ended(ended) => {
                self.ended.remove(&(ended.at, job.id));
            }
        }
    }
}

/// How many jobs that have not ended a record stands for: of an array, its members without a record of their own.
fn live_jobs(job: &Job) -> u64 {
    match &job.array {
        _ if job.has_ended() => 0,
        Some(array) => array.waiting.len(),
        None => 1,
    }
}

/// Whether both records of a job are found in the same places: most changes of a record move it nowhere.
fn is_indexed_alike(old: &Job, new: &Job) -> bool {
    let is_same_state = match (&old.state, &new.state) {
        (JobState::Pending, JobState::Pending) => true,
        (JobState::Ended(old), JobState::Ended(new)) => old.at == new.at,
        (old, new) => match (old.run(), new.run()) {
            (Some(old), Some(new)) => old.attempt == new.attempt && old.shares == new.shares,
            (None, _) | (_, None) => false,
        },
    };
    is_same_state && old.waits_for == new.waits_for && old.ties == new.ties
}
