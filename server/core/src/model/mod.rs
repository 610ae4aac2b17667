//! The values that decisions are made of: jobs, nodes, queues, and the state that holds them.

mod decay;
mod fair_share;
mod forecast;
mod history;
mod job;
pub(crate) mod limit;
mod node;
mod owner;
mod pending;
mod policy;
pub(crate) mod preemption;
mod queue;
mod reservation;
mod scheduler;
mod settings;
pub(crate) mod share_policy;
mod spending;
mod state;
mod ties;
mod vnode;
mod wait;

pub use capstan_types::Holds;
pub use fair_share::{FACTOR_MAX, FairShare, Standing};
pub(crate) use forecast::Load;
pub use forecast::{Forecast, ForecastClass, Forecasts};
pub(crate) use history::{History, UserHistory};
pub use history::{RunTime, RunTimes, RunTimesKey};
pub use job::{
    ArrayState, Ended, IllegalTransition, Job, JobEvent, JobSpec, JobState, MemberFates, Run,
    StopOrder, Usage,
};
pub use node::{Card, CardTraits, Inventory, Link, Node, NodeShare, NumaNode, ShareCard};
pub use owner::Owner;
pub(crate) use pending::{ENDLESS_SECS, Pending, request_hash, walltime_secs};
pub use policy::{Policy, PolicyName, Weights};
pub use preemption::{Preemptable, PreemptionRight};
pub use queue::{Queue, QueueType};
pub use reservation::{Reservation, ReservationKind, ReservedShare};
pub use scheduler::Scheduler;
pub use settings::Settings;
pub use share_policy::SharePolicy;
pub use spending::{PAYERS_MAX, Payer, Spell, Spending};
pub use state::State;
pub use ties::{MembersWait, Sync, Tie, Ties};
pub use wait::{Wait, WaitBook, WaitedFor};
