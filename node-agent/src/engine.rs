//! No container engine: what is used until one is reached. There is nothing to end, and the inventory says why.

use capstan_supervisor::ports::{Containers, ContainersError};
use capstan_types::AttemptId;

use crate::inventory::Engine;
use crate::link::AskEngine;

/// The absence of an engine.
pub(crate) struct NoEngine;

impl Containers for NoEngine {
    async fn end_attempt(&self, _attempt: AttemptId) -> Result<(), ContainersError> {
        Ok(())
    }

    async fn attempts_with_containers(&self) -> Result<Vec<AttemptId>, ContainersError> {
        Ok(Vec::new())
    }
}

impl AskEngine for NoEngine {
    async fn ask(&self) -> Engine {
        Engine {
            version: String::new(),
            problem: "this agent was built without a container engine".to_owned(),
        }
    }
}
