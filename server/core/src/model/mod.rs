//! The values that decisions are made of: jobs, nodes, queues, and the state that holds them.

mod job;
mod node;
mod owner;
mod queue;
mod scheduler;
mod settings;
mod state;
mod ties;
mod vnode;

pub use capstan_types::Holds;
pub use job::{
    ArrayState, Ended, IllegalTransition, Job, JobEvent, JobSpec, JobState, MemberFates, Run,
    StopOrder, Usage,
};
pub use node::{Card, Inventory, Link, Node, NodeShare, ShareCard};
pub use owner::Owner;
pub use queue::{Queue, QueueType};
pub use scheduler::Scheduler;
pub use settings::Settings;
pub use state::State;
pub use ties::{MembersWait, Sync, Tie, Ties};
