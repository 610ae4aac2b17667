//! What the site looks at on a node when an attempt begins or has ended: the health script, by Torque's events `jobstart`
//! and `jobend`. Whether there is one, and what it says, is the agent's affair.

use std::fmt;
use std::sync::{Arc, OnceLock};

use super::table::Supervisor;

/// A look at the node around attempts. Both calls block for as long as the look takes.
pub trait NodeCheck: Send + Sync {
    /// Before an attempt begins: what speaks against it. `None` when nothing does, or nothing is looked at then.
    fn at_start(&self) -> Option<String>;
    /// When nothing of an attempt is left, before its end is reported.
    fn at_end(&self);
}

/// The node's looks, once the agent has attached them.
#[derive(Clone, Default)]
pub(super) struct Checks(Arc<OnceLock<Arc<dyn NodeCheck>>>);

impl Checks {
    /// As [`NodeCheck::at_start`], away from the event loop.
    pub(super) async fn at_start(&self) -> Option<String> {
        let check = self.0.get()?.clone();
        let looked = tokio::task::spawn_blocking(move || check.at_start()).await;
        // A look that breaks off says nothing against the node.
        looked.ok().flatten()
    }

    pub(super) async fn at_end(&self) {
        let Some(check) = self.0.get().cloned() else {
            return;
        };
        let _broken_off = tokio::task::spawn_blocking(move || check.at_end()).await;
    }
}

impl fmt::Debug for Checks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Checks")
            .field(&self.0.get().is_some())
            .finish()
    }
}

impl Supervisor {
    /// Has the node looked at around attempts from now on. Only the first call counts.
    pub fn attach_check(&self, check: Arc<dyn NodeCheck>) {
        let _attached = self.site.checks.0.set(check);
    }
}
