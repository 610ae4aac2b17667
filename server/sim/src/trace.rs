//! Jobs of the past, whatever file they come from: when each came, what it asked for, how long it ran.

use std::sync::Arc;

use crate::Cluster;

/// The start of a trace that does not know its own: Monday, 2024-01-01 00:00 UTC, so that hours and weekdays of the
/// settings mean something definite.
pub(crate) const START_SECS: u64 = 1_704_067_200;

/// Most jobs of one simulation.
pub(crate) const JOBS_MAX: usize = 10_000_000;

/// Longest time in a trace: what a walltime can be (136 years).
pub(crate) const SECS_MAX: u64 = u32::MAX as u64;

/// Jobs in the order in which they came.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// What to call it: the file's name, and the slice.
    pub name: String,
    /// The jobs, earliest first.
    pub jobs: Vec<TraceJob>,
    /// `X-Nodes` and `X-SlotsPerNode` of the header.
    pub nodes: Option<u32>,
    /// Likewise.
    pub slots: Option<u32>,
    /// Jobs that never ran, or whose record is incomplete: left out.
    pub left_out: usize,
}

/// One job of the past.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceJob {
    /// Its number or id in the trace.
    pub label: Box<str>,
    /// When it came, seconds since 1970.
    pub submit_secs: u64,
    /// How long it ran, at most its walltime.
    pub runtime_secs: u64,
    /// What it asked for; what it took where it asked for nothing.
    pub walltime_secs: u64,
    /// What it asked for.
    pub ask: Ask,
    /// Whose it was.
    pub user: Arc<str>,
    /// Of which group.
    pub group: Arc<str>,
    /// In which queue, if the trace says.
    pub queue: Option<Arc<str>>,
    /// What it was called.
    pub name: Arc<str>,
}

/// What a job asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// So many slots, each a card with a core, on as few nodes as hold them, evenly.
    Slots(u32),
    /// Resources by name, as in `Resource_List`.
    Resources(Arc<[(Box<str>, Box<str>)]>),
}

impl Trace {
    /// The nodes of the header, each a slot one card with one core.
    #[must_use]
    pub fn own_cluster(&self) -> Option<(u32, u32)> {
        Some((self.nodes?, self.slots?))
    }

    /// Takes out what no nodes of `cluster` could ever hold; how many jobs that were.
    pub fn drop_larger_than(&mut self, cluster: &Cluster) -> usize {
        let all = self.jobs.len();
        self.jobs.retain(|job| match job.ask {
            Ask::Slots(slots) => cluster.holds(slots),
            Ask::Resources(_) => true, // The core knows.
        });
        all - self.jobs.len()
    }
}

/// Nodes and cards on each for a gang of `slots` on nodes of `per_node`: as few nodes as hold it, evenly filled.
#[must_use]
pub(crate) fn gang(slots: u32, per_node: u32) -> (u32, u32) {
    let nodes = slots.div_ceil(per_node.max(1)).max(1);
    (nodes, slots.div_ceil(nodes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gang_takes_as_few_nodes_as_hold_it_evenly() {
        let check = |slots, per_node, expected| {
            assert_eq!(gang(slots, per_node), expected, "{slots} on {per_node}");
        };
        check(1, 8, (1, 1));
        check(8, 8, (1, 8));
        check(9, 8, (2, 5));
        check(16, 8, (2, 8));
        check(17, 8, (3, 6));
        check(166, 1, (166, 1));
    }
}
