//! The settings that decisions depend on; part of the state, so that a replay uses those of its time.

use std::collections::BTreeMap;

use capstan_types::{NodeName, QueueName, ServerName};
use serde::{Deserialize, Serialize};

use super::Queue;

/// Settings in force. All durations are seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The server's name, behind the dot of job ids.
    pub server: ServerName,
    /// The queue of jobs that name none.
    pub default_queue: QueueName,
    /// All queues, by name.
    pub queues: BTreeMap<QueueName, Queue>,
    /// Properties of nodes, by node name.
    pub node_properties: BTreeMap<NodeName, Vec<Box<str>>>,
    /// Slots of nodes where they are not their cores (`np`).
    pub node_slots: BTreeMap<NodeName, u16>,
    /// Users who may do anything; root always may.
    pub managers: Vec<Box<str>>,
    /// Users who may operate jobs and nodes.
    pub operators: Vec<Box<str>>,
    /// How long an ended job is shown.
    pub keep_completed_secs: u64,
    /// Between SIGTERM and SIGKILL, unless the job says otherwise.
    pub kill_delay_secs: u32,
    /// A node without a connection for so long is shown as down.
    pub node_down_after_secs: u64,
    /// A node without a connection for so long is lost: its rerunnable jobs are requeued. The others keep their
    /// attempt, for it may well go on there: they end as lost when the node comes back without it, or by `qdel -p`.
    pub node_lost_after_secs: u64,
    /// Largest script, bytes.
    pub script_bytes_max: u64,
    /// Most members of one array.
    pub array_members_max: u64,
    /// Most jobs that have not ended.
    pub live_jobs_max: u64,
}

impl Settings {
    /// Settings of a server of this name with one queue, `batch`, whose jobs get a week; what a settings file changes.
    #[must_use]
    pub fn new(server: ServerName) -> Self {
        let batch = Queue::new(QueueName::from("batch"));
        Self {
            server,
            default_queue: batch.name.clone(),
            queues: BTreeMap::from([(batch.name.clone(), batch)]),
            node_properties: BTreeMap::new(),
            node_slots: BTreeMap::new(),
            managers: Vec::new(),
            operators: Vec::new(),
            keep_completed_secs: 300,
            kill_delay_secs: 2,
            node_down_after_secs: 30,
            node_lost_after_secs: 300,
            script_bytes_max: 16 << 20,
            array_members_max: 100_000,
            live_jobs_max: 1_000_000,
        }
    }
}
