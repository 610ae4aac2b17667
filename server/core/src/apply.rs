//! One event at one time: what changes, what must be done, what is answered, or why not.
//! Here is only who decides what; each noun has its own file.

mod alter;
mod array;
mod asked;
mod attempt;
mod authority;
mod cards;
mod circles;
mod delete;
mod dependants;
mod dependencies;
mod draft;
mod forecast;
mod history;
mod hold;
mod limits;
mod manage;
mod moving;
mod node;
mod order;
mod placed;
mod preempt;
mod prepare;
mod report;
mod rerouting;
mod rerun;
mod reserve;
mod routing;
mod run;
mod spending;
mod submit;
mod suspend;
mod tick;

use std::sync::Arc;

use capstan_types::{JobId, ReservationId, Timestamp};

use crate::{Change, Effect, Event, Rejection, Settings, State};
pub(crate) use asked::arrangement;
pub use dependencies::shown as depend_shown;
use draft::Draft;
pub use limits::QueueRefusal;
pub use manage::ManageProblem;
pub use rerouting::next_routing;

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
    /// Done, but for some members of the array.
    SomeUnchanged,
    /// The id of the new reservation.
    Reserved(ReservationId),
}

/// Decides `event`. On a refusal the state is as before.
///
/// # Errors
/// When the event is refused.
pub fn apply(state: &mut State, event: &Event, now: Timestamp) -> Result<Outcome, Rejection> {
    let mut draft = Draft::new(state, now);
    forecast::learn_of_late(&mut draft);
    decide(&mut draft, event)?;
    dependants::settle(&mut draft)?;
    let (decided, outcome) = draft.finish();
    *state = decided;
    Ok(outcome)
}

fn decide(draft: &mut Draft, event: &Event) -> Result<(), Rejection> {
    match event {
        Event::ServerStarted(settings) => server_started(draft, settings),
        Event::Submit(submission) => submit::submit(draft, submission)?,
        Event::Delete(order) => {
            delete::delete(draft, order)?;
            prepare::drop_unwanted(draft);
        }
        Event::Hold(order) => hold::hold(draft, order)?,
        Event::Release(order) => hold::release(draft, order)?,
        Event::Alter(order) => {
            alter::alter(draft, order)?;
            prepare::drop_unwanted(draft);
        }
        Event::Move(order) => moving::relocate(draft, order)?,
        Event::Rerun(order) => rerun::rerun(draft, order)?,
        Event::Run(order) => run::run(draft, order)?,
        Event::Swap(order) => order::swap(draft, order)?,
        Event::Suspend(order) => suspend::suspend(draft, order)?,
        Event::Manage(order) => manage::manage(draft, order)?,
        Event::AlterNode(order) => node::alter(draft, order)?,
        Event::NodeAttached(hello) => node::attached(draft, hello)?,
        Event::NodeDetached { node, agent } => node::detached(draft, node, agent),
        Event::NodeChanged { node, inventory } => node::changed(draft, node, inventory)?,
        Event::CardsUnclean { node, cards } => node::unclean(draft, node, cards)?,
        Event::Reported { node, report } => report::reported(draft, node, report)?,
        Event::Placed(placements) => placed::placed(draft, placements)?,
        Event::Planned(order) => {
            placed::planned(draft, order)?;
            preempt::preempt(draft, &order.preemptions)?;
            prepare::prepare(draft, &order.preparations);
        }
        Event::Tick => tick::tick(draft)?,
        Event::Reserve(order) => reserve::reserve(draft, order)?,
        Event::CancelReservation(order) => reserve::cancel(draft, order)?,
        Event::CardsFailed { node, cards } => cards::failed(draft, node, cards)?,
        Event::ImagePrepared { node, report } => prepare::prepared(draft, node, report)?,
    }
    Ok(())
}

/// The settings hold from now on. No agent is connected, and each gets the whole time again to come back.
fn server_started(draft: &mut Draft, settings: &Arc<Settings>) {
    draft.put_settings(settings.clone());
    node::all_lost(draft);
    node::add_configured(draft, settings);
}
