//! What jobs wait for, in a few classes, and for how long: kept in memory while they wait, from plan to plan, and handed
//! to the job when it starts. So a finished job can say what it waited for, and a waiting one costs the disk nothing.
//! After a restart of the server the time before counts to what a job waits for first then.

use std::collections::BTreeMap;

use capstan_types::{JobId, JobPart, Reason, Timestamp};
use serde::{Deserialize, Serialize};

use super::State;

/// What a job waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum WaitedFor {
    /// A hold to be released.
    Hold,
    /// Another job.
    Dependency,
    /// Its time (`qsub -a`).
    Time,
    /// Its queue to be started, or to open.
    Queue,
    /// A limit on what may run at once.
    Limit,
    /// A reservation, maintenance or dedicated time.
    Window,
    /// Nodes to come back: those that it needs were down, offline or not clean.
    Nodes,
    /// Cards, cores or memory.
    Resources,
    /// Jobs before it in line, for which nodes were kept.
    Line,
    /// Its container's image to be fetched.
    Image,
}

/// How long a job waited for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// For what.
    pub what: WaitedFor,
    /// How long, in seconds.
    pub secs: u64,
}

impl WaitedFor {
    /// The class of a reason.
    #[must_use]
    pub const fn of(reason: &Reason) -> Self {
        match reason {
            Reason::Held(_) => Self::Hold,
            Reason::DependsOn(_) => Self::Dependency,
            Reason::WaitingUntil(_) => Self::Time,
            Reason::QueueStopped(_)
            | Reason::NoDestination(_)
            | Reason::QueueClosed { .. }
            | Reason::QueueCloses { .. } => Self::Queue,
            Reason::RunLimit(_) | Reason::ArraySlotLimit(_) => Self::Limit,
            Reason::Window { .. }
            | Reason::ReservationBegins { .. }
            | Reason::ReservationEnds { .. }
            | Reason::ReservationFull(_) => Self::Window,
            Reason::NoNodeUp
            | Reason::NodesDown { .. }
            | Reason::NodeDown(_)
            | Reason::NodeOffline(_)
            | Reason::NoNodeLike(_)
            | Reason::CardsNotClean { .. }
            | Reason::EngineAway { .. } => Self::Nodes,
            Reason::NotEnoughCards { .. }
            | Reason::NotEnoughSlots { .. }
            | Reason::NotEnoughSlotsInAll { .. }
            | Reason::NotEnoughMemory { .. }
            | Reason::NotEnoughNodes { .. }
            | Reason::Preempting { .. } => Self::Resources,
            Reason::BehindJob(_) => Self::Line,
            Reason::ImageComes { .. } | Reason::ImageRefused { .. } => Self::Image,
        }
    }

    /// A word for it, for programs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Dependency => "dependency",
            Self::Time => "time",
            Self::Queue => "queue",
            Self::Limit => "limit",
            Self::Window => "window",
            Self::Nodes => "nodes",
            Self::Resources => "resources",
            Self::Line => "line",
            Self::Image => "image",
        }
    }
}

/// What all waiting jobs have waited for so far, from plan to plan.
#[derive(Clone, Debug, Default)]
pub struct WaitBook {
    jobs: BTreeMap<JobId, Waiting>,
}

#[derive(Clone, Debug)]
struct Waiting {
    what: WaitedFor,
    since: Timestamp,
    /// What it waited for before, in the order in which it first did.
    before: Vec<Wait>,
}

impl WaitBook {
    /// Takes the reasons of a plan made at `now` into account, by id ascending as [`crate::Plan`] has them.
    pub fn note(&mut self, state: &State, reasons: &[(JobId, Reason)], now: Timestamp) {
        let known = std::mem::take(&mut self.jobs);
        let mut known = known.into_iter().peekable();
        let waiting = reasons.iter().map(|(id, reason)| {
            // Who is not among the reasons any more has gone without a word: deleted, or started by hand.
            while known.next_if(|(before, _)| before < id).is_some() {}
            let what = WaitedFor::of(reason);
            let found = known.next_if(|(before, _)| before == id);
            let waiting = match found {
                Some((_, mut waiting)) => {
                    waiting.turn_to(what, now);
                    waiting
                }
                None => Waiting {
                    what,
                    since: state.job(*id).map_or(now, |job| job.queued),
                    before: Vec::new(),
                },
            };
            (*id, waiting)
        });
        self.jobs = waiting.collect();
    }

    /// What `job`, which starts at `now`, has waited for.
    #[must_use]
    pub fn of(&self, job: JobId, now: Timestamp) -> Vec<Wait> {
        let array = matches!(job.part, JobPart::Member(_)).then(|| JobId::array(job.seq));
        let found = self.jobs.get(&job);
        let found = found.or_else(|| self.jobs.get(&array?));
        let Some(mut waiting) = found.cloned() else {
            return Vec::new();
        };
        let what = waiting.what;
        waiting.add(what, now);
        waiting.before
    }
}

impl Waiting {
    fn turn_to(&mut self, what: WaitedFor, now: Timestamp) {
        if what == self.what {
            return;
        }
        self.add(self.what, now);
        self.what = what;
        self.since = now;
    }

    fn add(&mut self, what: WaitedFor, now: Timestamp) {
        let secs = now.secs_since(self.since);
        let known = self.before.iter_mut().find(|wait| wait.what == what);
        match known {
            Some(wait) => wait.secs = wait.secs.saturating_add(secs),
            None if secs > 0 => self.before.push(Wait { what, secs }),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use capstan_types::Holds;

    use super::*;

    #[test]
    fn each_class_is_counted_from_plan_to_plan() {
        let mut book = WaitBook::default();
        let state = State::default();
        let job = JobId::whole(1);
        let held = || (job, Reason::Held(Holds::USER));
        let behind = || (job, Reason::BehindJob(JobId::whole(7)));
        let other = (JobId::whole(9), Reason::NoNodeUp);
        let at = |secs: u64| Timestamp(secs * 1000);
        book.note(&state, &[held(), other.clone()], at(100));
        book.note(&state, &[held()], at(130));
        book.note(&state, &[behind(), other], at(160));
        book.note(&state, &[held()], at(170));
        let waits = book.of(job, at(190));
        let expected = [(WaitedFor::Hold, 80), (WaitedFor::Line, 10)];
        assert_eq!(waits, expected.map(|(what, secs)| Wait { what, secs }));
        assert_eq!(book.of(JobId::whole(9), at(190)), []);
    }

    #[test]
    fn a_member_waited_for_what_its_array_did() {
        let mut book = WaitBook::default();
        let array = (JobId::array(3), Reason::NoNodeUp);
        book.note(&State::default(), &[array], Timestamp(0));
        let waits = book.of(JobId::member(3, 5), Timestamp(7000));
        let expected = Wait {
            what: WaitedFor::Nodes,
            secs: 7,
        };
        assert_eq!(waits, [expected]);
    }
}
