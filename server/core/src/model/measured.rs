//! What the samples of an attempt said: how busy its cards and cores were, what memory it held. Kept with the job, and of
//! no weight in any decision.

use serde::{Deserialize, Serialize};

/// A thing that was looked at again and again. Saturates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Series {
    /// Weighed by time.
    pub mean: u32,
    /// The highest.
    pub peak: u32,
    /// The last.
    pub last: u32,
}

/// What samples of an attempt said, on the node of its script.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// How many there were.
    pub samples: u32,
    /// Of one core: 250 is two and a half.
    pub cpu_percent: Series,
    /// Memory of the host in MiB, without cache that would be given back first.
    pub memory_mib: Series,
    /// Load of its cards, the mean over them.
    pub card_percent: Series,
    /// Memory of all its cards, MiB.
    pub card_memory_mib: Series,
    /// Power of all its cards, watts.
    pub power_watts: Series,
    /// Read from disks, kilobytes.
    pub read_kb: u64,
    /// Written to disks, kilobytes.
    pub written_kb: u64,
    /// Load and power of its cards were never seen: no driver tells those of parts of divided cards.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_load_unknown: bool,
}
