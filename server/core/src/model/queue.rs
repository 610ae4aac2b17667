//! A queue: where jobs wait, and what it grants and refuses. What it is like is said by its attributes, as `qmgr` sets
//! them.

use std::sync::LazyLock;

use capstan_types::{
    AttributeObject, AttributeValue, Attributes, QueueName, ResourceList, Timestamp,
};
use serde::{Deserialize, Serialize};

/// Where jobs wait.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub struct Queue {
    /// Its name.
    pub name: QueueName,
    /// Its place in listings: queues stand in the order in which they were created.
    pub ordinal: u64,
    /// When it was last changed (`mtime`).
    pub changed: Timestamp,
    /// All that is set.
    pub attributes: Attributes,
}

/// What a queue does with its jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueType {
    /// Its jobs run.
    Execution,
    /// It hands its jobs on to other queues.
    Route,
}

/// How long a job of a queue made without `qmgr` may run when it does not say.
const A_WEEK: &str = "168:00:00";

static NO_RESOURCES: LazyLock<ResourceList> = LazyLock::new(ResourceList::default);

impl Queue {
    /// A queue as `qmgr` creates it: nothing is set, so it takes no jobs and starts none.
    #[must_use]
    pub const fn created(name: QueueName, ordinal: u64, now: Timestamp) -> Self {
        Self {
            name,
            ordinal,
            changed: now,
            attributes: Attributes::new(AttributeObject::Queue),
        }
    }

    /// A queue that takes and starts jobs, limits nothing, and gives a job a week when it does not say: what a site gets
    /// that says nothing about its queues.
    #[must_use]
    pub fn new(name: QueueName) -> Self {
        let mut queue = Self::created(name, 0, Timestamp(0));
        let open = [
            ("queue_type", "Execution"),
            ("resources_default.walltime", A_WEEK),
            ("enabled", "True"),
            ("started", "True"),
        ];
        for (name, value) in open {
            queue.set(name, value);
        }
        queue
    }

    /// Sets an attribute to a value that is known to be one.
    ///
    /// # Panics
    /// When it is not.
    pub fn set(&mut self, name: &str, value: &str) {
        let set = self.attributes.set(name, value);
        set.expect("the attribute and its value are written in the program");
    }

    /// What it does; `None` before anybody has said.
    #[must_use]
    pub fn queue_type(&self) -> Option<QueueType> {
        match self.attributes.text("queue_type")? {
            "Route" => Some(QueueType::Route),
            _ => Some(QueueType::Execution),
        }
    }

    /// Whether it hands its jobs on.
    #[must_use]
    pub fn is_routing(&self) -> bool {
        self.queue_type() == Some(QueueType::Route)
    }

    /// Whether it takes new jobs.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.is("enabled")
    }

    /// Whether its jobs may start.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.is("started")
    }

    /// Higher first.
    #[must_use]
    pub fn priority(&self) -> i64 {
        self.attributes.integer("Priority").unwrap_or(0)
    }

    /// What a job gets when it does not say.
    #[must_use]
    pub fn resources_default(&self) -> &ResourceList {
        self.resources("resources_default")
    }

    /// What a job may ask for at most; a job that does not ask for a limited resource passes.
    #[must_use]
    pub fn resources_max(&self) -> &ResourceList {
        self.resources("resources_max")
    }

    /// What a job must ask for at least; a job that does not ask for a limited resource passes.
    #[must_use]
    pub fn resources_min(&self) -> &ResourceList {
        self.resources("resources_min")
    }

    /// Most jobs in it that have not ended.
    #[must_use]
    pub fn max_queuable(&self) -> Option<u64> {
        self.attributes.limit("max_queuable")
    }

    /// Most jobs of it that run at once.
    #[must_use]
    pub fn max_running(&self) -> Option<u64> {
        self.attributes.limit("max_running")
    }

    /// Most jobs of one user that run at once.
    #[must_use]
    pub fn max_user_run(&self) -> Option<u64> {
        self.attributes.limit("max_user_run")
    }

    /// Most jobs of one group that run at once.
    #[must_use]
    pub fn max_group_run(&self) -> Option<u64> {
        self.attributes.limit("max_group_run")
    }

    /// How long its ended jobs are shown, when it has a say in that; seconds.
    #[must_use]
    pub fn keep_completed_secs(&self) -> Option<u64> {
        self.attributes.limit("keep_completed")
    }

    /// Between SIGTERM and SIGKILL, when it has a say in that; seconds.
    #[must_use]
    pub fn kill_delay_secs(&self) -> Option<u32> {
        let secs = self.attributes.limit("kill_delay")?;
        u32::try_from(secs).ok()
    }

    /// Where a routing queue's jobs may go, first choice first: queue names, as they were set.
    #[must_use]
    pub fn route_destinations(&self) -> &[Box<str>] {
        self.attributes.list("route_destinations")
    }

    /// When its jobs start, as it was set: `Mon-Fri 18:00-08:00,Sat,Sun`; `None` for always.
    #[must_use]
    pub fn active_hours(&self) -> Option<&str> {
        self.attributes.text("active_hours")
    }

    /// Whether a boolean attribute is set and true.
    #[must_use]
    pub fn is(&self, attribute: &str) -> bool {
        self.attributes.boolean(attribute).unwrap_or(false)
    }

    fn resources(&self, attribute: &str) -> &ResourceList {
        let set = self.attributes.resources(attribute);
        set.unwrap_or_else(|| &NO_RESOURCES)
    }
}

/// A queue as any version stored it: before `qmgr` there were no attributes.
#[derive(Deserialize)]
struct Stored {
    name: QueueName,
    #[serde(default)]
    ordinal: u64,
    #[serde(default)]
    changed: Timestamp,
    attributes: Option<Attributes>,
    is_enabled: Option<bool>,
    is_started: Option<bool>,
    priority: Option<i32>,
    resources_default: Option<ResourceList>,
    resources_max: Option<ResourceList>,
}

impl From<Stored> for Queue {
    fn from(stored: Stored) -> Self {
        let mut queue = Self::created(stored.name, stored.ordinal, stored.changed);
        if let Some(attributes) = stored.attributes {
            queue.attributes = attributes;
            return queue;
        }
        let resources = |list: Option<ResourceList>| {
            let list = list.filter(|list| !list.is_empty());
            list.map(AttributeValue::Resources)
        };
        let priority = stored.priority.filter(|priority| *priority != 0);
        let values = [
            ("queue_type", Some(AttributeValue::Text("Execution".into()))),
            (
                "Priority",
                priority.map(|priority| AttributeValue::Integer(priority.into())),
            ),
            ("resources_max", resources(stored.resources_max)),
            ("resources_default", resources(stored.resources_default)),
            ("enabled", stored.is_enabled.map(AttributeValue::Boolean)),
            ("started", stored.is_started.map(AttributeValue::Boolean)),
        ];
        for (name, value) in values {
            queue.attributes.put(name, value);
        }
        queue
    }
}
