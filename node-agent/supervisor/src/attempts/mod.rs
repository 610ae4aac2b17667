//! Attempts on this node: the ledger that remembers them, the shims that run them, the keeper that follows each
//! from order to end, and the table that the server's orders act on.

pub(crate) mod aimed;
mod cgroup;
mod checks;
mod customer;
mod environment;
mod farewell;
mod fence;
mod figures;
mod footer;
mod gang;
mod guests;
mod identity;
mod interface;
mod intruders;
mod keeper;
mod ledger;
mod live;
mod outputs;
mod phase;
mod proc;
mod reconcile;
mod record;
mod sampling;
mod scratch_watch;
mod settling;
mod shim;
mod signalling;
mod sisters;
mod site;
mod spawner;
mod strays;
mod table;
mod tasks;
mod terminal;
mod witness;

pub(crate) use cgroup::remove_tree;
pub use cgroup::{CgroupTree, CoreLimit, HostCores};
pub use checks::NodeCheck;
pub use fence::{DeviceCgroup, NoFence};
pub use intruders::Intruders;
pub use ledger::LedgerError;
pub use record::{Damaged, MappedFolder};
pub use shim::only_roots;
pub use signalling::NotReached;
pub use site::{Site, SiteSettings, Surroundings};
pub use spawner::{SHIM_COMMAND, SPAWNER_COMMAND, execute_shim, serve as serve_spawner};
pub use table::{Held, Order, Supervisor};
pub use tasks::TaskWanted;
pub(crate) use tasks::is_passing;
pub use terminal::OpenedSession;
pub(crate) use terminal::{
    Ends as SessionEnds, EngineProgram, Seat, failed as session_failed, session,
};
pub use witness::Witness;
