//! What readers see: an immutable picture of the state, made anew after every stored group. Reading never waits for
//! the engine, whatever it is doing.

use std::sync::{Arc, PoisonError, RwLock};

use capstan_core::{Plan, State};
use capstan_store::Statistics;
use capstan_types::{JobId, Reason};

/// The state after a stored group, with what the last plan said of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    /// The state; shares its structure with the engine's.
    pub(crate) state: State,
    /// The last plan.
    pub(crate) plan: Arc<Plan>,
    /// Counts of the store.
    pub(crate) statistics: Statistics,
}

impl Snapshot {
    /// Why `job` did not start at the last plan; `None` when that plan did not know it yet or started it.
    #[must_use]
    pub(crate) fn reason(&self, job: JobId) -> Option<&Reason> {
        let reasons = &self.plan.reasons;
        let found = reasons.binary_search_by_key(&job, |(id, _)| *id);
        found.ok().map(|at| &reasons[at].1)
    }

    /// The settings in force.
    ///
    /// # Panics
    /// Before the first event: no edge is open then.
    #[must_use]
    pub(crate) fn settings(&self) -> &Arc<capstan_core::Settings> {
        let settings = self.state.settings();
        settings.expect("the engine stores ServerStarted before any edge is open")
    }
}

/// Where the engine puts the latest snapshot and readers find it. The lock is held for a pointer's copy only.
#[derive(Debug, Default)]
pub(crate) struct Latest(RwLock<Arc<Snapshot>>);

impl Latest {
    /// The latest snapshot.
    #[must_use]
    pub(crate) fn get(&self) -> Arc<Snapshot> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Replaces it.
    pub(crate) fn put(&self, snapshot: Snapshot) {
        let snapshot = Arc::new(snapshot);
        let mut place = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *place, snapshot);
        drop(place);
        drop(old); // Outside of the lock: it may be the last of a large old state.
    }
}
