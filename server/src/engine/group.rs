//! A group of decided requests on its way to the disk, and what to make of it there.

use capstan_core::{Effect, Event, Outcome, Rejection, ReportedPhase};
use capstan_store::{Record, StoreError};
use capstan_types::Timestamp;

use super::dispatch::Answerer;
use super::inbox::Answer;

/// A group that is not stored yet.
#[derive(Default)]
pub(super) struct Pending {
    pub(super) records: Vec<Record>,
    pub(super) effects: Vec<Effect>,
    pub(super) answers: Vec<(Answerer, Answer)>,
    /// Something has changed that a plan looks at.
    pub(super) is_plan_wanted: bool,
}

impl Pending {
    pub(super) fn add(
        &mut self,
        event: Event,
        at: Timestamp,
        outcome: Result<Outcome, Rejection>,
        answerer: Answerer,
    ) {
        let result = match outcome {
            Ok(outcome) => {
                let Outcome {
                    changes,
                    effects,
                    reply,
                } = outcome;
                self.is_plan_wanted |= is_plan_wanted_after(&event) && !changes.is_empty();
                self.effects.extend(effects);
                if !changes.is_empty() {
                    self.records.push(Record { at, event, changes });
                }
                self.answers.push((answerer, Ok(reply)));
                return;
            }
            Err(rejection) => Err(rejection.into()),
        };
        self.answers.push((answerer, result));
    }
}

/// Whether a plan after `event` may find more than one before it.
fn is_plan_wanted_after(event: &Event) -> bool {
    match event {
        // A held job takes nothing from anybody, and its hold speaks for itself.
        Event::Submit(submission) => submission.holds.is_empty(),
        Event::ServerStarted(_)
        | Event::Delete(_)
        | Event::Hold(_)
        | Event::Release(_)
        | Event::Alter(_)
        | Event::Move(_)
        | Event::Rerun(_)
        | Event::Run(_)
        | Event::Swap(_)
        | Event::AlterNode(_)
        | Event::Manage(_)
        | Event::NodeAttached(_)
        | Event::NodeDetached { .. }
        | Event::NodeChanged { .. }
        | Event::CardsUnclean { .. }
        | Event::Tick
        | Event::Reserve(_)
        | Event::CancelReservation(_)
        | Event::CardsFailed { .. }
        | Event::ImagePrepared { .. } => true,
        Event::Reported { report, .. } => match report.phase {
            ReportedPhase::Starting | ReportedPhase::Running { .. } | ReportedPhase::Using(_) => {
                false
            }
            ReportedPhase::Exited { .. }
            | ReportedPhase::Unstartable { .. }
            | ReportedPhase::Lost { .. }
            | ReportedPhase::StageInFailed { .. }
            | ReportedPhase::PrologueFailed { .. } => true,
        },
        // What a job holds it keeps, moving or not.
        Event::Suspend(_) => false,
        // The plan that placed these has said why the others wait.
        Event::Placed(_) | Event::Planned(_) => false,
    }
}

/// The event's name, for spans.
pub(super) const fn name(event: &Event) -> &'static str {
    match event {
        Event::ServerStarted(_) => "server_started",
        Event::Submit(_) => "submit",
        Event::Delete(_) => "delete",
        Event::Hold(_) => "hold",
        Event::Release(_) => "release",
        Event::Alter(_) => "alter",
        Event::Move(_) => "move",
        Event::Rerun(_) => "rerun",
        Event::Run(_) => "run",
        Event::Swap(_) => "swap",
        Event::Suspend(_) => "suspend",
        Event::AlterNode(_) => "alter_node",
        Event::Manage(_) => "manage",
        Event::NodeAttached(_) => "node_attached",
        Event::NodeDetached { .. } => "node_detached",
        Event::NodeChanged { .. } => "node_changed",
        Event::CardsUnclean { .. } => "cards_unclean",
        Event::Reported { .. } => "reported",
        Event::Placed(_) => "placed",
        Event::Planned(_) => "planned",
        Event::Tick => "tick",
        Event::Reserve(_) => "reserve",
        Event::CancelReservation(_) => "cancel_reservation",
        Event::CardsFailed { .. } => "cards_failed",
        Event::ImagePrepared { .. } => "image_prepared",
    }
}

/// Whether the server cannot go on after this: what is stored is not known, or cannot be read.
pub(super) const fn is_fatal(error: &StoreError) -> bool {
    match error {
        StoreError::Poisoned { .. }
        | StoreError::Damaged { .. }
        | StoreError::Missing { .. }
        | StoreError::Format { .. }
        | StoreError::InUse { .. } => true,
        StoreError::Full { .. }
        | StoreError::Io { .. }
        | StoreError::TooLarge { .. }
        | StoreError::Index { .. }
        | StoreError::Codec { .. } => false,
    }
}
