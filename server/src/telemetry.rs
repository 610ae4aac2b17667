//! What agents say with every heartbeat: how loaded their nodes and cards are, what attempts have used so far.
//! Never stored: after a restart the next heartbeat tells it anew. Written by the links, read by the edges.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use capstan_core::Usage;
use capstan_types::{AttemptId, CardId, NodeName, Timestamp};

/// The last heartbeat of one node.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct NodeTelemetry {
    /// When it came.
    pub(crate) at: Timestamp,
    /// One-minute load average.
    pub(crate) load_average: f64,
    /// Memory that can still be given out.
    pub(crate) memory_available_bytes: u64,
    /// What else the agent says of its host.
    pub(crate) host: Option<capstan_proto::wire::HostStatus>,
    /// What each card does, by UUID.
    pub(crate) cards: BTreeMap<CardId, CardTelemetry>,
    /// What each attempt has used so far.
    pub(crate) attempts: BTreeMap<AttemptId, Usage>,
    /// What attempts wait for whose containers have no image yet.
    pub(crate) image_waits: BTreeMap<AttemptId, Box<str>>,
    /// Short names of images, and what each stands for.
    pub(crate) image_offers: BTreeMap<Box<str>, Box<str>>,
    /// How far images are that waiting jobs wait for, by name and the user on whose terms they come.
    pub(crate) image_pulls: BTreeMap<(Box<str>, u32), Box<str>>,
    /// What an administrator should know of the node.
    pub(crate) notes: Vec<Box<str>>,
}

/// What a card does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CardTelemetry {
    /// 0 to 100.
    pub(crate) utilization_percent: u32,
    /// By anybody.
    pub(crate) memory_used_bytes: u64,
    /// 0 when the card does not say.
    pub(crate) temperature_celsius: u32,
    /// 0 when the card does not say.
    pub(crate) power_milliwatts: u32,
    /// What else it says.
    pub(crate) detail: CardDetail,
    /// Why it may not be lent, as its agent sees it.
    pub(crate) unfit: Option<Arc<Unfit>>,
}

/// Why a card may not be lent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unfit {
    /// How it is kept from jobs.
    pub(crate) kind: UnfitKind,
    /// Evidence, one line.
    pub(crate) reason: Box<str>,
    /// Since when, by the node's clock; 0 when it is not said.
    pub(crate) since: Timestamp,
}

/// How a card is kept from jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnfitKind {
    /// Somebody who is no job is on it; it is free again when nobody is.
    Dirty,
    /// What a job left on it could not be removed.
    Quarantined,
    /// It failed.
    Drained,
}

impl Unfit {
    /// "quarantined: …", for `pbsnodes` and logs.
    pub(crate) fn text(&self) -> String {
        let reason = &self.reason;
        match self.kind {
            UnfitKind::Dirty => format!("in use by no job: {reason}"),
            UnfitKind::Quarantined => format!("quarantined: {reason}"),
            UnfitKind::Drained => format!("drained: {reason}"),
        }
    }
}

/// What a card may say beside load and memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CardDetail {
    /// 0 to 100.
    pub(crate) memory_utilization_percent: Option<u32>,
    /// 0 to 100.
    pub(crate) fan_percent: Option<u32>,
    /// NVML's number: default, exclusive thread, prohibited, exclusive process.
    pub(crate) compute_mode: Option<u32>,
    /// A display is attached.
    pub(crate) display: Option<bool>,
    /// Error correction is on.
    pub(crate) ecc: Option<bool>,
    /// Errors corrected since the last reset.
    pub(crate) single_bit_errors: Option<u64>,
    /// Errors not corrected since the last reset.
    pub(crate) double_bit_errors: Option<u64>,
    /// Device and vendor in PCI's configuration space.
    pub(crate) pci_device_id: Option<u32>,
}

/// The last heartbeat of every node.
#[derive(Debug, Default)]
pub(crate) struct Telemetry(RwLock<BTreeMap<NodeName, Arc<NodeTelemetry>>>);

impl Telemetry {
    /// The last heartbeat of `node`.
    #[must_use]
    pub(crate) fn of(&self, node: &NodeName) -> Option<Arc<NodeTelemetry>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(node)
            .cloned()
    }

    /// What `attempt`, whose script runs on `node`, has used so far.
    #[must_use]
    pub(crate) fn usage(&self, node: &NodeName, attempt: AttemptId) -> Option<Usage> {
        self.of(node)?.attempts.get(&attempt).copied()
    }

    /// What `attempt` waits for whose container on `node` has no image yet.
    #[must_use]
    pub(crate) fn image_wait(&self, node: &NodeName, attempt: AttemptId) -> Option<Box<str>> {
        self.of(node)?.image_waits.get(&attempt).cloned()
    }

    /// How far `image` is on its way to `node` on the terms of `uid`.
    #[must_use]
    pub(crate) fn image_pull(&self, node: &NodeName, image: &str, uid: u32) -> Option<Box<str>> {
        self.of(node)?
            .image_pulls
            .get(&(image.into(), uid))
            .cloned()
    }

    pub(crate) fn put(&self, node: &NodeName, heartbeat: NodeTelemetry) {
        let mut nodes = self.0.write().unwrap_or_else(PoisonError::into_inner);
        nodes.insert(node.clone(), Arc::new(heartbeat));
    }

    pub(crate) fn forget(&self, node: &NodeName) {
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(node);
    }
}
