//! The server around the real core: a disk that holds committed changes only, and the rule persist, then act.

use std::sync::Arc;

use capstan_core::{
    Effect, Event, JobState, Outcome, PlanOrder, Rejection, Settings, State, apply, plan,
};
use capstan_types::{JobId, NodeName, Timestamp};

use crate::truth::Truth;

pub(crate) struct Server {
    pub(crate) state: State,
    /// What a restart reads.
    disk: State,
    settings: Arc<Settings>,
    /// The next commit fails: nothing of it reaches the disk.
    pub(crate) is_disk_full: bool,
}

/// What came of an event.
pub(crate) enum Answer {
    Stored(Outcome),
    Refused(Rejection),
    NotStored,
}

impl Server {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            state: State::default(),
            disk: State::default(),
            settings: Arc::new(settings),
            is_disk_full: false,
        }
    }

    /// Decides and commits. Effects are the caller's to carry out, after this.
    pub(crate) fn decide(&mut self, event: &Event, now: Timestamp, truth: &mut Truth) -> Answer {
        let before = self.state.clone();
        let outcome = match apply(&mut self.state, event, now) {
            Ok(outcome) => outcome,
            Err(Rejection::Illegal(illegal)) => panic!("our own mistake: {illegal} by {event:?}"),
            Err(rejection) => return Answer::Refused(rejection),
        };
        if self.is_disk_full && !outcome.changes.is_empty() {
            self.is_disk_full = false;
            self.state = before;
            return Answer::NotStored;
        }
        outcome
            .changes
            .iter()
            .for_each(|change| self.disk.absorb(change));
        check_news(&before, &outcome, truth);
        Answer::Stored(outcome)
    }

    /// The process dies; another begins with what the disk has.
    pub(crate) fn restart(&mut self, now: Timestamp, truth: &mut Truth) {
        let stored: Vec<_> = self.disk.as_changes().collect();
        let live: Vec<_> = self.state.as_changes().collect();
        assert!(stored == live, "the disk has what the server knows");
        self.state = State::default();
        stored.iter().for_each(|change| self.state.absorb(change));
        let started = Event::ServerStarted(self.settings.clone());
        while !matches!(self.decide(&started, now, truth), Answer::Stored(_)) {}
    }

    pub(crate) fn plan(&self, now: Timestamp) -> Event {
        let made = plan(&self.state, now);
        assert_eq!(
            made,
            plan(&self.state, now),
            "planning twice gives one plan"
        );
        let explained = made.reasons.len() + made.placements.len();
        assert!(
            explained >= self.waiting(),
            "each waiting job is placed or has a reason"
        );
        Event::Planned(PlanOrder {
            at: now,
            placements: made.placements,
            preparations: made.preparations,
            ..PlanOrder::default()
        })
    }

    fn waiting(&self) -> usize {
        let has_members = |job: &&Arc<capstan_core::Job>| {
            let array = job.array.as_ref();
            array.is_none_or(|array| !array.waiting.is_empty())
        };
        self.state.pending().filter(has_members).count()
    }

    /// Nothing is lent twice; checked after every step.
    pub(crate) fn check(&self) {
        let mut last: Option<&NodeName> = None;
        let mut slots: Vec<u16> = Vec::new();
        let mut cards: Vec<&str> = Vec::new();
        for (node, _, share) in self.state.held() {
            if last != Some(node) {
                slots.clear();
                cards.clear();
                last = Some(node);
            }
            for slot in &share.slots {
                assert!(!slots.contains(slot), "slot {slot} of {node} is lent twice");
                slots.push(*slot);
            }
            for card in &share.cards {
                assert!(
                    !cards.contains(&card.uuid.as_str()),
                    "card {} is lent twice",
                    card.uuid
                );
                cards.push(card.uuid.as_str());
            }
        }
        let holding: usize = self
            .state
            .running()
            .map(|(_, job)| job.state.run().map_or(0, |run| run.shares.len()))
            .sum();
        assert_eq!(
            self.state.held().count(),
            holding,
            "only attempts hold anything"
        );
    }
}

/// Every end that is stored must be the truth, and no end is taken back.
fn check_news(before: &State, outcome: &Outcome, truth: &mut Truth) {
    for change in &outcome.changes {
        if let capstan_core::Change::RemoveJob(id) = change {
            truth.check_removal(*id, &outcome.effects);
        }
        if let capstan_core::Change::PutJob(job) = change {
            let old = before.job(job.id).map(|old| &old.state);
            match (&job.state, old) {
                (state, Some(JobState::Ended(_))) => assert!(
                    matches!(state, JobState::Ended(_)),
                    "{} lives again",
                    job.id
                ),
                (JobState::Ended(ended), _) => truth.check_end(job, ended),
                _ => truth.check_reruns(job),
            }
        }
    }
    for effect in &outcome.effects {
        if let Effect::StartAttempt { job, .. } = effect {
            assert!(
                matches!(job.state, JobState::Starting(_)),
                "{} is ordered to start",
                job.id
            );
        }
    }
}

/// The node that an effect is for, and the job behind it when it is about one.
pub(crate) fn target(effect: &Effect) -> Option<&NodeName> {
    match effect {
        Effect::StartAttempt { node, .. }
        | Effect::StopAttempt { node, .. }
        | Effect::AdjustAttempt { node, .. }
        | Effect::ForgetAttempt { node, .. }
        | Effect::PrepareImage { node, .. }
        | Effect::DropImage { node, .. }
        | Effect::WelcomeNode { node, .. } => Some(node),
        Effect::Account { .. } => None,
    }
}

/// Ids of all jobs, for orders of clients.
pub(crate) fn ids(state: &State) -> Vec<JobId> {
    state.jobs().map(|job| job.id).collect()
}
