//! A queue: where jobs wait, and what it grants and refuses.

use capstan_types::{QueueName, ResourceList};
use serde::{Deserialize, Serialize};

/// Where jobs wait. From the settings file; the attributes that `qmgr` will set come with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Queue {
    /// Its name.
    pub name: QueueName,
    /// Whether it takes new jobs.
    pub is_enabled: bool,
    /// Whether its jobs may start.
    pub is_started: bool,
    /// Higher first.
    pub priority: i32,
    /// What a job gets when it does not say.
    pub resources_default: ResourceList,
    /// What a job may ask for at most; a job that does not ask for a limited resource passes.
    pub resources_max: ResourceList,
}

impl Queue {
    /// A queue that takes and starts jobs, limits nothing, and gives a job a week when it does not say.
    #[must_use]
    pub fn new(name: QueueName) -> Self {
        let mut resources_default = ResourceList::default();
        let set = resources_default.set("walltime", "168:00:00");
        set.expect("a week is a walltime");
        Self {
            name,
            is_enabled: true,
            is_started: true,
            priority: 0,
            resources_default,
            resources_max: ResourceList::default(),
        }
    }
}
