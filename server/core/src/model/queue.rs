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
