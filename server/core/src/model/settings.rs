//! The settings that decisions depend on; part of the state, so that a replay uses those of its time. What `qmgr` sets is
//! in attributes; what only the settings file sets has fields of its own.

use std::collections::BTreeMap;

use capstan_types::{
    AccessList, AttributeObject, AttributeValue, Attributes, Dialect, NodeName, QueueName,
    ServerName, Zone,
};
use serde::{Deserialize, Serialize};

use super::{Queue, Scheduler};

const ROOT: u32 = 0;

/// Between SIGTERM and SIGKILL when nobody says.
const KILL_DELAY_SECS: u32 = 2;

/// Settings in force. All durations are seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub struct Settings {
    /// The server's name, behind the dot of job ids.
    pub server: ServerName,
    /// The name of the server's host, as in `alice@host`.
    pub host: Box<str>,
    /// Whether `qmgr` rules from now on what the settings file said first.
    pub is_seeded: bool,
    /// The server's attributes.
    pub attributes: Attributes,
    /// All queues, by name.
    pub queues: BTreeMap<QueueName, Queue>,
    /// What is configured of nodes (`np`, `properties` …), whether an agent has come for them or not.
    pub nodes: BTreeMap<NodeName, Attributes>,
    /// A node without a connection for so long is shown as down.
    pub node_down_after_secs: u64,
    /// A node without a connection for so long is lost: its rerunnable jobs are requeued. The others keep their
    /// attempt, for it may well go on there: they end as lost when the node comes back without it, or by `qdel -p`.
    pub node_lost_after_secs: u64,
    /// Largest script, bytes.
    pub script_bytes_max: u64,
    /// Most members of one array, whatever `max_job_array_size` says.
    pub array_members_max: u64,
    /// Most jobs that have not ended.
    pub live_jobs_max: u64,
    /// Nodes that the settings file declares, in its order; others come behind them.
    pub declared: Vec<NodeName>,
    /// In which order jobs start, and where.
    pub scheduler: Scheduler,
    /// The tongue that counts where Torque and PBS Pro contradict each other.
    pub dialect: Dialect,
    /// The time zone of the server's host, by which hours of the day are meant.
    pub zone: Zone,
}

impl Settings {
    /// Whether something is told that Torque has no words for (`job_samples`, `job_footer`): as it is set, else only where
    /// the site has not chosen to be like Torque.
    #[must_use]
    pub fn tells(&self, name: &str) -> bool {
        let is_like_torque = self.scheduler == Scheduler::Fifo;
        self.attributes.boolean(name).unwrap_or(!is_like_torque)
    }

    /// Settings of a server of this name, on a host of this name, with one queue, `batch`, whose jobs get a week; what a
    /// settings file changes.
    #[must_use]
    pub fn new(server: ServerName) -> Self {
        let batch = Queue::new(QueueName::from("batch"));
        let mut settings = Self {
            host: server.as_str().into(),
            attributes: Attributes::new(AttributeObject::Server),
            queues: BTreeMap::from([(batch.name.clone(), batch)]),
            nodes: BTreeMap::new(),
            is_seeded: true,
            node_down_after_secs: 30,
            node_lost_after_secs: 300,
            script_bytes_max: 16 << 20,
            array_members_max: 100_000,
            live_jobs_max: 1_000_000,
            declared: Vec::new(),
            scheduler: Scheduler::default(),
            dialect: Dialect::default(),
            zone: Zone::utc(),
            server,
        };
        settings.set_fresh();
        settings.set("default_queue", "batch");
        settings
    }

    /// Sets what a fresh server of Torque has set.
    pub fn set_fresh(&mut self) {
        let fresh = [
            ("scheduling", "True"),
            ("log_events", "2047"),
            ("mail_from", "adm"),
            ("query_other_jobs", "True"),
            ("node_check_rate", "150"),
            ("tcp_timeout", "300"),
            ("job_stat_rate", "300"),
            ("poll_jobs", "True"),
            ("down_on_error", "True"),
            ("mom_job_sync", "True"),
            ("keep_completed", "300"),
            ("moab_array_compatible", "True"),
            ("nppcu", "1"),
            ("timeout_for_job_delete", "120"),
            ("timeout_for_job_requeue", "120"),
            ("note_append_on_error", "True"),
        ];
        for (name, value) in fresh {
            self.set(name, value);
        }
        let host = AttributeValue::List(vec![self.host.clone()]);
        self.attributes.put("acl_hosts", Some(host));
    }

    /// Sets an attribute of the server to a value that is known to be one.
    ///
    /// # Panics
    /// When it is not.
    pub fn set(&mut self, name: &str, value: &str) {
        let set = self.attributes.set(name, value);
        set.expect("the attribute and its value are written in the program");
    }

    /// Puts a queue behind all others.
    pub fn add_queue(&mut self, mut queue: Queue) {
        queue.ordinal = self.next_ordinal();
        self.queues.insert(queue.name.clone(), queue);
    }

    /// The place of the next queue to be created.
    #[must_use]
    pub fn next_ordinal(&self) -> u64 {
        let last = self.queues.values().map(|queue| queue.ordinal).max();
        last.map_or(1, |last| last + 1)
    }

    /// All queues in the order in which they were created.
    #[must_use]
    pub fn queues_in_order(&self) -> Vec<&Queue> {
        let mut queues: Vec<&Queue> = self.queues.values().collect();
        queues.sort_by_key(|queue| queue.ordinal);
        queues
    }

    /// The queue of jobs that name none; there need not be one of that name.
    #[must_use]
    pub fn default_queue(&self) -> Option<QueueName> {
        self.attributes.text("default_queue").map(QueueName::from)
    }

    /// Users who may do anything, as `user@host` patterns; root always may.
    #[must_use]
    pub fn managers(&self) -> &[Box<str>] {
        self.attributes.list("managers")
    }

    /// Users who may operate jobs and nodes, as `user@host` patterns.
    #[must_use]
    pub fn operators(&self) -> &[Box<str>] {
        self.attributes.list("operators")
    }

    /// Whether this user may do anything.
    #[must_use]
    pub fn is_manager(&self, uid: u32, user: &str, host: &str) -> bool {
        uid == ROOT || AccessList(self.managers()).allows_user(user, host)
    }

    /// Whether this user may operate jobs and nodes; managers may.
    #[must_use]
    pub fn is_operator(&self, uid: u32, user: &str, host: &str) -> bool {
        self.is_manager(uid, user, host) || AccessList(self.operators()).allows_user(user, host)
    }

    /// Whether waiting jobs are placed; `qrun` places them all the same.
    #[must_use]
    pub fn is_scheduling(&self) -> bool {
        self.is("scheduling")
    }

    /// Whether everybody may see everybody's jobs.
    #[must_use]
    pub fn query_other_jobs(&self) -> bool {
        self.is("query_other_jobs")
    }

    /// How long an ended job of `queue` is shown.
    #[must_use]
    pub fn keep_completed_secs(&self, queue: &str) -> u64 {
        let own = self.queues.get(queue).and_then(Queue::keep_completed_secs);
        own.or_else(|| self.attributes.limit("keep_completed"))
            .unwrap_or(0)
    }

    /// The shortest time for which any ended job is shown.
    #[must_use]
    pub fn keep_completed_least_secs(&self) -> u64 {
        let all = self.attributes.limit("keep_completed").unwrap_or(0);
        let queues = self.queues.values().filter_map(Queue::keep_completed_secs);
        queues.fold(all, u64::min)
    }

    /// Between SIGTERM and SIGKILL for the jobs of `queue`, unless a job says otherwise.
    #[must_use]
    pub fn kill_delay_secs(&self, queue: &str) -> u32 {
        let own = self.queues.get(queue).and_then(Queue::kill_delay_secs);
        let all = || u32::try_from(self.attributes.limit("kill_delay")?).ok();
        own.or_else(all).unwrap_or(KILL_DELAY_SECS)
    }

    /// Most members of one array.
    #[must_use]
    pub fn max_job_array_size(&self) -> u64 {
        let set = self.attributes.limit("max_job_array_size");
        set.map_or(self.array_members_max, |set| {
            set.min(self.array_members_max)
        })
    }

    /// Most members of one array that may run at once, when that is limited; such an array that names no limit gets it.
    #[must_use]
    pub fn max_slot_limit(&self) -> Option<u32> {
        u32::try_from(self.attributes.limit("max_slot_limit")?).ok()
    }

    /// Whether a boolean attribute of the server is set and true.
    #[must_use]
    pub fn is(&self, attribute: &str) -> bool {
        self.attributes.boolean(attribute).unwrap_or(false)
    }
}

/// Settings as any version stored them: before `qmgr` there were no attributes, and the settings file ruled at every
/// start.
#[derive(Deserialize)]
struct Stored {
    server: ServerName,
    host: Option<Box<str>>,
    #[serde(default)]
    is_seeded: bool,
    attributes: Option<Attributes>,
    queues: BTreeMap<QueueName, Queue>,
    #[serde(default)]
    nodes: BTreeMap<NodeName, Attributes>,
    node_down_after_secs: u64,
    node_lost_after_secs: u64,
    script_bytes_max: u64,
    array_members_max: u64,
    live_jobs_max: u64,
    #[serde(default)]
    declared: Vec<NodeName>,
    #[serde(default)]
    scheduler: Scheduler,
    #[serde(default)]
    dialect: Dialect,
    #[serde(default)]
    zone: Zone,
    #[serde(flatten)]
    before: Before,
}

/// What had fields of its own before there were attributes.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Before {
    default_queue: Option<Box<str>>,
    node_properties: BTreeMap<NodeName, Vec<Box<str>>>,
    node_slots: BTreeMap<NodeName, u16>,
    managers: Vec<Box<str>>,
    operators: Vec<Box<str>>,
    keep_completed_secs: Option<i64>,
    kill_delay_secs: Option<i64>,
}

impl From<Stored> for Settings {
    fn from(stored: Stored) -> Self {
        let host = stored.host;
        let mut settings = Self {
            host: host.unwrap_or_else(|| stored.server.as_str().into()),
            server: stored.server,
            is_seeded: stored.is_seeded,
            attributes: Attributes::new(AttributeObject::Server),
            queues: stored.queues,
            nodes: stored.nodes,
            node_down_after_secs: stored.node_down_after_secs,
            node_lost_after_secs: stored.node_lost_after_secs,
            script_bytes_max: stored.script_bytes_max,
            array_members_max: stored.array_members_max,
            live_jobs_max: stored.live_jobs_max,
            declared: stored.declared,
            scheduler: stored.scheduler,
            dialect: stored.dialect,
            zone: stored.zone,
        };
        match stored.attributes {
            Some(attributes) => settings.attributes = attributes,
            None => settings.take_over(stored.before),
        }
        settings
    }
}

impl Settings {
    fn take_over(&mut self, before: Before) {
        self.set_fresh();
        let anywhere = |users: Vec<Box<str>>| {
            let users = users.iter().map(|user| format!("{user}@*").into());
            let users: Vec<Box<str>> = users.collect();
            (!users.is_empty()).then_some(AttributeValue::List(users))
        };
        let values = [
            ("managers", anywhere(before.managers)),
            ("operators", anywhere(before.operators)),
            (
                "default_queue",
                before.default_queue.map(AttributeValue::Text),
            ),
            (
                "keep_completed",
                before.keep_completed_secs.map(AttributeValue::Integer),
            ),
            (
                "kill_delay",
                before.kill_delay_secs.map(AttributeValue::Integer),
            ),
        ];
        for (name, value) in values {
            self.attributes.put(name, value);
        }
        for (node, properties) in before.node_properties {
            let properties = (!properties.is_empty()).then_some(AttributeValue::List(properties));
            self.node_mut(&node).put("properties", properties);
        }
        for (node, slots) in before.node_slots {
            let np = AttributeValue::Integer(slots.into());
            self.node_mut(&node).put("np", Some(np));
        }
    }

    /// What is configured of `node`, to be changed.
    pub fn node_mut(&mut self, node: &NodeName) -> &mut Attributes {
        let none = || Attributes::new(AttributeObject::Node);
        self.nodes.entry(node.clone()).or_insert_with(none)
    }
}
