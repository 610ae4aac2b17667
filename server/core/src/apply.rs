//! One event at one time: what changes, what must be done, what is answered, or why not.

use capstan_types::{JobId, Timestamp};

use crate::{Change, Effect, Event, Rejection, State};

/// What an event did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// To be stored, in order; already taken into the state.
    pub changes: Vec<Change>,
    /// To be done once the changes are stored, in order.
    pub effects: Vec<Effect>,
    /// To be answered once the changes are stored.
    pub reply: Reply,
}

/// The answer to an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Reply {
    /// Nothing but that it is done.
    #[default]
    Done,
    /// The id of the new job.
    Submitted(JobId),
}

/// Decides `event`. On a refusal the state is as before.
///
/// # Errors
/// When the event is refused.
pub fn apply(state: &mut State, event: &Event, now: Timestamp) -> Result<Outcome, Rejection> {
    let _ = (state, event, now);
    Ok(Outcome::default())
}
