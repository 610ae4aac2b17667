//! When a job is expected to start: for one with a reservation when that begins, for others by working off the line
//! before it in the mind, each for as long as such jobs have run, on as many cards as there are.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use capstan_types::{JobId, LimitedOwner, Reason, Timestamp};

use super::{Asked, Confidence, ExpectedStart};
use crate::model::Running;
use crate::{Job, State};

/// Jobs before it in line that are looked at one by one; those behind them are taken to be like them.
const AHEAD_MAX: usize = 2000;
/// With more jobs than this before it an expected start is a guess.
const LIKELY_MAX: usize = 100;
/// What runs longer than expected is taken to run on for half as long as it has, and at least so long.
const OVERDUE_SECS: u64 = 60;

pub(super) fn of(asked: &Asked<'_>, reckoner: &mut Reckoner<'_>) -> Option<ExpectedStart> {
    let job = asked.job();
    let before = asked.place?;
    let (_, size) = job.spec.kind_and_size();
    let told = job.forecast.filter(|told| !told.is_of_array);
    let is_overdue = told.is_some_and(|told| told.likely_by < asked.now);
    let promises = &asked.plan.promises;
    let promise = promises.iter().find(|promise| asked.is_own(promise.job));
    let reckoned = reckoner.start(before, size);
    let sooner = asked.reason.and_then(|reason| not_before(asked, reason));
    let at = match (promise, reckoned) {
        // By what jobs like those that run have run it may well be sooner; by their walltimes it is then.
        (Some(promise), _) => promise.start.max(asked.now),
        (None, Some(at)) => sooner.map_or(at, |time| time.max(at)),
        (None, None) => return None,
    };
    let confidence = match promise {
        Some(_) => Confidence::Firm,
        None if before <= LIKELY_MAX && !is_overdue && sooner.is_none() => Confidence::Likely,
        None => Confidence::Guess,
    };
    // What was told stays: only that is scored. Who is overdue is told anew, by the same measure.
    let anew = || {
        let forecasts = asked.state.forecasts();
        let from = reckoned.map_or(at, |reckoned| reckoned.max(sooner.unwrap_or(reckoned)));
        forecasts.likely_by(from, asked.now)
    };
    let likely_by = told.filter(|_| !is_overdue).map(|told| told.likely_by);
    Some(ExpectedStart {
        at,
        confidence,
        likely_by: likely_by.unwrap_or_else(anew),
        is_overdue,
    })
}

/// Before that it is not for nodes that it waits: when a limit, a window or the hours of its queue let it go.
fn not_before(asked: &Asked<'_>, reason: &Reason) -> Option<Timestamp> {
    match reason {
        Reason::RunLimit(limit) => {
            let is_counted = |job: &Job| match &limit.whose {
                LimitedOwner::All => true,
                LimitedOwner::User(user) => job.spec.owner.user == *user,
                LimitedOwner::Group(group) => job.spec.owner.group == *group,
            };
            let running = asked.state.reckoned_running();
            let counted = running.filter(|(_, running)| is_counted(&running.job));
            counted
                .map(|(_, running)| likely_end(asked.state, running, asked.now))
                .min()
        }
        Reason::QueueClosed { opens, .. } => Some(*opens),
        Reason::ReservationBegins { starts, .. } => Some(*starts),
        Reason::ReservationEnds { again, .. } => *again,
        Reason::Window { starts, .. } => Some(*starts),
        Reason::QueueCloses { closes, .. } => Some(*closes),
        Reason::ArraySlotLimit(_) => {
            let running = asked.state.reckoned_running();
            let members = running.filter(|(_, running)| running.job.id.seq == asked.in_line.seq);
            members
                .map(|(_, running)| likely_end(asked.state, running, asked.now))
                .min()
        }
        Reason::ImageRefused { again, .. } => Some(*again),
        Reason::ImageComes { .. }
        | Reason::EngineAway { .. }
        | Reason::NotEnoughCards { .. }
        | Reason::NotEnoughSlots { .. }
        | Reason::NotEnoughSlotsInAll { .. }
        | Reason::NotEnoughMemory { .. }
        | Reason::NotEnoughNodes { .. }
        | Reason::NoNodeUp
        | Reason::NodesDown { .. }
        | Reason::NodeDown(_)
        | Reason::NodeOffline(_)
        | Reason::NoNodeLike(_)
        | Reason::CardsNotClean { .. }
        | Reason::BehindJob(_)
        | Reason::QueueStopped(_)
        | Reason::Held(_)
        | Reason::WaitingUntil(_)
        | Reason::DependsOn(_)
        | Reason::ReservationFull(_)
        | Reason::NoDestination(_)
        | Reason::Preempting { .. } => None,
    }
}

/// Works off the line in the mind: what runs ends as jobs like it have, and who is before somebody goes first.
pub(super) struct Reckoner<'a> {
    asked: &'a Asked<'a>,
    /// Of the kind that the subject counts in: how much there is, …
    capacity: u64,
    /// … how much of it nobody has, …
    free: u64,
    /// … and when how much comes back.
    ends: BinaryHeap<End>,
    kind: usize,
    /// Of the first in line: what each takes, for how many seconds.
    ahead: Vec<Option<(u64, u64)>>,
}

type End = Reverse<(Timestamp, u64)>;

impl<'a> Reckoner<'a> {
    pub(super) fn of(asked: &'a Asked<'a>) -> Self {
        let (state, now) = (asked.state, asked.now);
        let (kind, _) = asked.job().spec.kind_and_size();
        let (capacity, lent) = state.room(kind);
        let running = state.reckoned_running();
        let alike = running.filter(|(_, running)| running.kind_and_size.0 == kind);
        let ends = alike.map(|(_, running)| {
            Reverse((likely_end(state, running, now), running.kind_and_size.1))
        });
        Self {
            asked,
            capacity,
            free: capacity.saturating_sub(lent),
            ends: ends.collect(),
            kind,
            ahead: Vec::new(),
        }
    }

    /// Whether a job counts in the same kind, so that it can be reckoned with.
    pub(super) fn knows(&self, job: &Job) -> bool {
        job.spec.kind_and_size().0 == self.kind
    }

    /// When so much is free for one with so many before it in line, if all those go first. `None` when the cluster has not
    /// so much.
    pub(super) fn start(&mut self, before: usize, size: u64) -> Option<Timestamp> {
        if size > self.capacity {
            return None;
        }
        self.look_ahead(before);
        let now = self.asked.now;
        let (mut at, mut free, mut ends) = (now, self.free, self.ends.clone());
        let mut wait_for = |wanted: u64, run_secs: Option<u64>| {
            while free < wanted {
                let Some(Reverse((end, amount))) = ends.pop() else {
                    break;
                };
                at = at.max(end);
                free = free.saturating_add(amount);
            }
            if let Some(secs) = run_secs {
                free = free.saturating_sub(wanted);
                ends.push(Reverse((at.plus_secs(secs), wanted)));
            }
            at
        };
        let looked_at = before.min(self.ahead.len());
        let mut reached = now;
        for (wanted, run_secs) in self.ahead[..looked_at].iter().flatten() {
            reached = wait_for(*wanted, Some(*run_secs));
        }
        // As long again for as many again.
        let rest = before.saturating_sub(looked_at) as u64;
        let more = match looked_at {
            0 => 0,
            looked_at => reached.secs_since(now).saturating_mul(rest) / looked_at as u64,
        };
        let last = wait_for(size, None);
        Some(last.max(reached.plus_secs(more)))
    }

    /// Looks at the first in line, as many as there are before somebody and no more than [`AHEAD_MAX`].
    fn look_ahead(&mut self, before: usize) {
        let line = &self.asked.plan.line;
        let until = before.min(AHEAD_MAX).min(line.len());
        for id in line.iter().take(until).skip(self.ahead.len()) {
            let wanted = self.wanted(*id);
            self.ahead.push(wanted);
        }
    }

    /// What a waiting job takes, and for how many seconds.
    fn wanted(&self, id: JobId) -> Option<(u64, u64)> {
        let pending = self.asked.waiting_at(id)?;
        let job = &pending.job;
        let (kind, each) = job.spec.kind_and_size();
        if kind != self.kind || each > self.capacity || id == self.asked.in_line {
            return None;
        }
        let members = job.array.as_ref().map_or(1, |array| array.waiting.len());
        let all = each.saturating_mul(members);
        // Of an array as many members at once as there are cards, one after another.
        let rounds = all.div_ceil(self.capacity.max(1)).max(1);
        let state = self.asked.state;
        let secs = state.expected_run_secs_of(job, pending.walltime_secs, pending.size);
        Some((all.min(self.capacity), secs.saturating_mul(rounds)))
    }
}

/// When a running job ends by what jobs like it have taken.
fn likely_end(state: &State, running: &Running, now: Timestamp) -> Timestamp {
    let job = &running.job;
    let began = job.state.run().map_or(now, |run| run.placed);
    let size = u32::try_from(running.kind_and_size.1).unwrap_or(u32::MAX);
    let expected_secs = state.expected_run_secs_of(job, running.walltime_secs, size);
    let end = began.plus_secs(expected_secs);
    if end > now {
        return end;
    }
    let more = (now.secs_since(began) / 2).max(OVERDUE_SECS);
    let last = began.plus_secs(running.walltime_secs);
    let soon = now.plus_secs(OVERDUE_SECS);
    now.plus_secs(more).min(last).max(soon)
}
