//! The settings file as it is written: everything may be left out, nothing unknown is accepted.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

/// `server.toml` as written. Names carry their units. What is marked "first" counts for a server that starts for the
/// first time; from then on `qmgr` rules over it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SettingsFile {
    /// Behind the dot of job ids; the host's name when left out.
    pub server_name: Option<String>,
    /// The name by which this host is known, as in `alice@host`; what `hostname` prints when left out.
    pub host: Option<String>,
    /// Journal, state and accounting log.
    pub state_dir: Option<PathBuf>,
    /// The socket `server.sock` and `agents.addr`.
    pub run_dir: Option<PathBuf>,
    /// Where agents dial; port 0 picks a free one.
    pub agents_listen: Option<String>,
    /// How long an ended job is shown. First.
    pub keep_completed_secs: Option<u64>,
    /// Between SIGTERM and SIGKILL. First.
    pub kill_delay_secs: Option<u32>,
    /// How often an agent says that it lives.
    pub heartbeat_secs: Option<u32>,
    /// A node without a connection for so long is shown as down.
    pub node_down_after_secs: Option<u64>,
    /// A node down for so long is lost.
    pub node_lost_after_secs: Option<u64>,
    /// For so many days past decisions can be replayed, if that takes no more than `history_bytes_max`; 0 for as long as a
    /// recovery needs the journal.
    pub history_days: Option<u64>,
    /// What is kept for nothing but that, bytes.
    pub history_bytes_max: Option<u64>,
    /// Largest script.
    pub script_bytes_max: Option<u64>,
    /// Most members of one array, whatever `max_job_array_size` says.
    pub array_members_max: Option<u64>,
    /// Most jobs that have not ended.
    pub live_jobs_max: Option<u64>,
    /// `packing` or `fifo`: in which order jobs start, and where.
    pub scheduler: Option<String>,
    /// `torque` or `pbspro`: which counts where they contradict each other.
    pub dialect: Option<String>,
    /// Users who may do anything, `user` (on any host) or `user@host`; root always may. First.
    pub managers: Option<Vec<String>>,
    /// Users who may operate jobs and nodes. First.
    pub operators: Option<Vec<String>>,
    /// Whether root may submit jobs.
    pub root_may_submit: Option<bool>,
    /// The queue of jobs that name none. First.
    pub default_queue: Option<String>,
    /// Queues by name. First. Left out: the queue `batch`. An empty table: no queue at all.
    pub queues: Option<BTreeMap<String, QueueFile>>,
    /// Nodes by name; they stand in the order in which the file has them. First.
    #[serde(default)]
    pub nodes: BTreeMap<String, Spanned<NodeFile>>,
}

impl SettingsFile {
    /// The names of its nodes, in its order.
    pub(super) fn nodes_in_order(&self) -> Vec<&str> {
        let mut nodes: Vec<(usize, &str)> = self
            .nodes
            .iter()
            .map(|(name, node)| (node.span().start, name.as_str()))
            .collect();
        nodes.sort_unstable();
        nodes.into_iter().map(|(_, name)| name).collect()
    }
}

/// `[queues.NAME]`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueFile {
    /// Whether it takes new jobs.
    pub enabled: Option<bool>,
    /// Whether its jobs may start.
    pub started: Option<bool>,
    /// Higher first.
    pub priority: Option<i32>,
    /// What a job gets when it does not say.
    #[serde(default)]
    pub resources_default: BTreeMap<String, Value>,
    /// What a job may ask for at most.
    #[serde(default)]
    pub resources_max: BTreeMap<String, Value>,
}

/// `[nodes.NAME]`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeFile {
    /// Words that jobs may ask for.
    #[serde(default)]
    pub properties: Vec<String>,
    /// Slots, where they are not the cores.
    pub np: Option<u16>,
}

/// A resource value: `walltime = "01:00:00"` and `ncpus = 4` are both natural to write.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// A number.
    Number(u64),
    /// Anything else.
    Text(String),
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}
