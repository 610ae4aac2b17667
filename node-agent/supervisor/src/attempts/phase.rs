//! How far an attempt is, as the server hears it: in reports, and in the hello.

use capstan_proto::wire::{
    AttemptEnded, AttemptStarted, Done, KnownAttempt, agent_message::Message, known_attempt,
};
use capstan_types::AttemptId;

/// How far an attempt is, as the server hears it.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    Starting,
    Running(AttemptStarted),
    Ended(Box<AttemptEnded>),
}

impl Phase {
    pub(super) fn report(&self) -> Option<Message> {
        match self {
            Self::Starting => None,
            Self::Running(started) => Some(Message::Started(*started)),
            Self::Ended(ended) => Some(Message::Ended(AttemptEnded::clone(ended))),
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running(_) => "running",
            Self::Ended(_) => "ended",
        }
    }

    /// As the hello has it.
    pub(super) fn known(&self, attempt: AttemptId, job_id: &str) -> KnownAttempt {
        let phase = match self {
            Self::Starting => known_attempt::Phase::Starting(Done {}),
            Self::Running(started) => known_attempt::Phase::Running(*started),
            Self::Ended(ended) => known_attempt::Phase::Ended(AttemptEnded::clone(ended)),
        };
        KnownAttempt {
            attempt: attempt.0,
            job_id: job_id.to_owned(),
            phase: Some(phase),
        }
    }
}
