//! What can go wrong with a store, and which of it passes.

use std::io;
use std::path::{Path, PathBuf};

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No room on the disk, or over a quota or file size limit. Passes when there is room again.
    #[error("no room left to write {path}: free space on this file system")]
    Full {
        /// The file.
        path: PathBuf,
        /// The system's word.
        #[source]
        source: io::Error,
    },
    /// The system refused or failed.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's word.
        #[source]
        source: io::Error,
    },
    /// A failed write could not be undone, so what is stored is not known until the store is opened again.
    #[error("the journal {path} is in doubt after a failed write: restart the server")]
    Poisoned {
        /// The journal segment.
        path: PathBuf,
    },
    /// A group that is larger than a frame may be. Never passes.
    #[error("a group of {bytes} bytes is over the limit of {bytes_max}")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The largest allowed.
        bytes_max: u64,
    },
    /// Acknowledged data can no longer be read.
    #[error("{path} is damaged at byte {offset} ({problem}): {remedy}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in the file, in bytes.
        offset: u64,
        /// What is wrong there.
        problem: &'static str,
        /// What an administrator can do.
        remedy: &'static str,
    },
    /// A file that the journal needs is not there.
    #[error("{path} is missing, but files after it are there: restore it from a backup")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// Written by a newer version of Capstan.
    #[error("{path} has format {found}, this version reads up to {known}: run the newer server")]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u16,
        /// The newest format known.
        known: u16,
    },
    /// Another process has the store open.
    #[error("{path} is in use by another server")]
    InUse {
        /// The lock file.
        path: PathBuf,
    },
    /// The index failed; the journal is whole, and the index will be made again.
    #[error("the index in {path} failed: {problem}")]
    Index {
        /// Its folder.
        path: PathBuf,
        /// What it said.
        problem: Box<str>,
    },
    /// A value could not be turned into bytes or back.
    #[error("cannot {action} a stored value: {problem}")]
    Codec {
        /// What was tried.
        action: &'static str,
        /// Why not.
        problem: Box<str>,
    },
}

impl StoreError {
    /// Whether the same commit may succeed later without a restart.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        match self {
            Self::Full { .. } | Self::Io { .. } | Self::Index { .. } => true,
            Self::Poisoned { .. }
            | Self::TooLarge { .. }
            | Self::Damaged { .. }
            | Self::Missing { .. }
            | Self::Format { .. }
            | Self::InUse { .. }
            | Self::Codec { .. } => false,
        }
    }

    /// Whether it is for want of room on the disk.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. })
    }

    /// Makes a function for `map_err`: the failure of `action` on `path`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| {
            let path = path.to_path_buf();
            match is_full(&source) {
                true => Self::Full { path, source },
                false => Self::Io {
                    action,
                    path,
                    source,
                },
            }
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(
        error.kind(),
        K::StorageFull | K::QuotaExceeded | K::FileTooLarge
    )
}
