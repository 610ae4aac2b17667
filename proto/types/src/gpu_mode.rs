//! What a node request says of the mode of its cards: `nodes=1:gpus=2:exclusive_process:reseterr`.

use serde::{Deserialize, Serialize};

/// Compute mode that a request wants its cards in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum GpuMode {
    /// `default`, `shared`: several processes may use a card.
    Shared,
    /// `exclusive_thread`, `exclusive`: one thread may. Drivers of today take it for [`Self::ExclusiveProcess`].
    ExclusiveThread,
    /// `exclusive_process`: one process may.
    ExclusiveProcess,
}

impl GpuMode {
    /// Added to [`Self::number`] in `gpu_flags` when the request also says `reseterr`.
    pub const RESET_ERRORS: u32 = 1000;

    /// Reads a mode word of a node request, in any case.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Some(match word.to_ascii_lowercase().as_str() {
            "default" | "shared" => Self::Shared,
            "exclusive" | "exclusive_thread" => Self::ExclusiveThread,
            "exclusive_process" => Self::ExclusiveProcess,
            _ => return None,
        })
    }

    /// NVML's number of the mode, as `gpu_flags` and `qgpumode -m` have it.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Shared => 0,
            Self::ExclusiveThread => 1,
            Self::ExclusiveProcess => 3,
        }
    }
}
