//! What a store says of itself: what an open found, and what was done since.

use std::fmt;
use std::path::PathBuf;

/// What [`crate::DiskStore::open`] found and did. Its `Display` is one line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenReport {
    /// Number of the last stored record; 0 for an empty store.
    pub last_record: u64,
    /// Records read from the journal because the index did not have them.
    pub replayed_records: u64,
    /// Bytes of a half-written group, never acknowledged, that were cut off the journal.
    pub torn_bytes: u64,
    /// How the index was found.
    pub index: IndexReport,
}

/// How the index was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IndexReport {
    /// There was no store yet.
    New,
    /// Whole; missed records were taken in from the journal.
    Good,
    /// It was made again from snapshot and journal.
    Rebuilt {
        /// Why.
        reason: RebuildReason,
        /// Where the old one is now, when there was one.
        kept_as: Option<PathBuf>,
    },
    /// It cannot be used now (a full disk, usually). All works without it, payloads are read slowly; it is tried
    /// again from time to time.
    Unavailable {
        /// Why.
        problem: Box<str>,
    },
}

/// Why the index was made again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RebuildReason {
    /// Its folder is not there.
    Missing,
    /// sled refused or panicked, or the contents contradict their checksum.
    Damaged(Box<str>),
    /// It has records that the journal does not have: the journal's end was lost, or one of the two comes from a
    /// backup.
    NewerThanJournal {
        /// The last record in the index.
        index: u64,
        /// The last record in the journal.
        journal: u64,
    },
    /// The journal begins behind what it has.
    OlderThanJournal {
        /// The last record in the index.
        index: u64,
        /// The first record in the journal.
        journal: u64,
    },
    /// It refers to payloads in a snapshot (0: in the journal's beginning) that is gone.
    Dangling {
        /// The last record in that snapshot.
        snapshot: u64,
    },
    /// Written in another format.
    Format,
    /// An earlier sled of this process, which failed, still holds its lock.
    Held,
    /// The server was stopped while it was being made.
    Unfinished,
}

impl OpenReport {
    /// Whether an administrator should know: something was lost, damaged or cannot be used.
    #[must_use]
    pub const fn is_remarkable(&self) -> bool {
        self.torn_bytes > 0
            || matches!(
                self.index,
                IndexReport::Rebuilt { .. } | IndexReport::Unavailable { .. }
            )
    }
}

impl fmt::Display for OpenReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (last, replayed) = (self.last_record, self.replayed_records);
        write!(
            f,
            "{last} records stored, {replayed} replayed from the journal, {}",
            self.index
        )?;
        match self.torn_bytes {
            0 => Ok(()),
            torn => write!(f, ", {torn} bytes of an unacknowledged group cut off"),
        }
    }
}

impl fmt::Display for IndexReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::New => f.write_str("store is new"),
            Self::Good => f.write_str("index is good"),
            Self::Rebuilt { reason, kept_as } => {
                write!(f, "index rebuilt because {reason}")?;
                match kept_as {
                    Some(path) => write!(f, " (the old one is {})", path.display()),
                    None => Ok(()),
                }
            }
            Self::Unavailable { problem } => write!(f, "index cannot be used now: {problem}"),
        }
    }
}

impl fmt::Display for RebuildReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("it was missing"),
            Self::Damaged(problem) => write!(f, "it was damaged: {problem}"),
            Self::NewerThanJournal { index, journal } => {
                write!(
                    f,
                    "it had record {index}, but the journal ends at {journal}"
                )
            }
            Self::OlderThanJournal { index, journal } => {
                write!(
                    f,
                    "it ended at record {index}, but the journal begins at {journal}"
                )
            }
            Self::Dangling { snapshot } => {
                write!(f, "it refers to snapshot {snapshot}, which is gone")
            }
            Self::Format => f.write_str("it had another format"),
            Self::Held => f.write_str("sled did not let go of it after a failure"),
            Self::Unfinished => f.write_str("it was not finished"),
        }
    }
}

/// Counts since the store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Groups committed; each is one frame and one write.
    pub groups: u64,
    /// Records committed.
    pub records: u64,
    /// Journal syncs (fdatasync, and fsync where a segment begins).
    pub fsyncs: u64,
    /// Bytes written to the journal.
    pub bytes: u64,
    /// Groups refused and undone.
    pub refused_groups: u64,
    /// Records that the index has not taken in yet.
    pub index_lag_records: u64,
    /// Snapshots written.
    pub snapshots: u64,
}
