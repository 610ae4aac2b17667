//! Which of two batch systems counts where they contradict each other.

use serde::{Deserialize, Serialize};

/// The tongue of a server or a caller. Spellings of PBS Pro are understood in both; the dialect decides only where the
/// same words mean different things:
///
/// | what | `torque` | `pbspro` |
/// | --- | --- | --- |
/// | `-l select=TEXT` that is no request of chunks | any text, kept and shown, without effect | refused as an illegal value |
/// | `-l place=` without `select=` | unknown resource (189) | applies to the job's one chunk |
/// | `-t 0-9:2` | bad array request (235) | the same: steps belong to `-J` |
/// | `-J` | the job of a proxy user, with `-P` only | array members, with steps |
/// | letter of a running array | R | B |
/// | letter of an ended job | C, listed by every `qstat` for `keep_completed` seconds | F, and X for members, listed by `qstat -x` only |
/// | `qstat -x` | XML | ended jobs too |
/// | `exit_status` | `exit_status` | `Exit_status` |
/// | a condition on a job that has ended | met or refused | the same |
/// | `PBS_ARRAYID`, `PBS_ARRAY_INDEX` | the first | both |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Dialect {
    /// Torque 6.1.
    #[default]
    Torque,
    /// PBS Pro, OpenPBS.
    Pro,
}

impl Dialect {
    /// Reads `torque` or `pbspro` (`pro` for short), in any case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "torque" => Some(Self::Torque),
            "pbspro" | "pro" => Some(Self::Pro),
            _ => None,
        }
    }

    /// As settings spell it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Torque => "torque",
            Self::Pro => "pbspro",
        }
    }
}
