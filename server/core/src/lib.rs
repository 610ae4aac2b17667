//! Every decision of the scheduler: an event and a time make changes, effects or a refusal; a view and a time make
//! a plan. No clock, no randomness, no I/O, no async, no hash order: the same events at the same times give the same
//! state and the same decisions, so the past can be replayed and the simulator is the scheduler.

mod apply;
mod change;
mod effect;
mod event;
mod model;
mod plan;
pub mod query;
mod rejection;

pub use apply::{ManageProblem, Outcome, QueueRefusal, Reply, apply, depend_shown, next_routing};
pub use change::{Change, Payload};
pub use effect::{Account, Deletion, Effect};
pub use event::{
    AlterOrder, Altered, AttemptReport, Caller, CancelOrder, DeleteOrder, Directive, Event, Hello,
    HoldOrder, ManageCommand, ManageOrder, MoveOrder, NodeOrder, PlanOrder, ReportedPhase,
    RerunOrder, ReserveOrder, ReserveWish, RunOrder, Submission, SuspendOrder, SwapOrder,
};
pub use model::*;
pub use plan::{
    Amount, Awaited, Blocker, Confidence, ExpectedStart, Explanation, Factor, Holder, Lack,
    LinePlace, NearNode, Placement, Plan, Preemption, PrepareOrder, Sooner, Suggestion, decide,
    explain, plan, waited,
};
pub use rejection::{OrderProblem, Rejection, ReserveProblem};
