//! Keeps the state across restarts: every decided event is on disk before anyone hears of it, and a restart finds
//! exactly what was acknowledged. Decides how and where things are stored; what is stored is the core's to say.
//!
//! Two layers. The *journal* (`journal/NNNNNNNN.log`, checksummed, append-only, fdatasync'ed) is the truth and is all
//! that a commit waits for. The *index* (sled, `index/`) follows it on a thread of its own, so that a start reads the
//! jobs and not their history. It can be lost at any time and is then made again from the last *snapshot*
//! (`snapshot/NNNNNNNNNN.snap`) and the journal behind that. The journal before the last snapshot but one serves nothing
//! but [`replay`]; it is kept for as long as the options say, with the snapshots from which it can be replayed.
//! Payloads stay where they were written, in journal and snapshots, and the index says where. A clean end leaves an
//! *image* of the state (`snapshot/NNNNNNNNNN.state`), which a start reads faster than sled.
//!
//! What a start finds, and what it then does:
//!
//! | found | done |
//! | --- | --- |
//! | half a group at the journal's end | cut off: it was never acknowledged |
//! | a bad frame anywhere else | refused, with file, offset and remedy |
//! | no index, or one that is damaged, unfinished, too old or newer than the journal | moved aside, made again |
//! | an index that the system refuses now (a full disk) | works without it, tries again |
//! | a damaged snapshot | the one before it, with the journal behind that |
//! | no journal, but an index or snapshots | refused |

mod codec;
mod disk;
mod error;
mod follower;
mod frame;
mod history;
mod index;
mod journal;
mod medium;
mod memory;
mod payload;
mod places;
mod replay;
mod report;
mod snapshot;
mod tail;

use std::sync::Arc;

use capstan_core::{Change, Event, Payload};
use capstan_types::{JobId, Timestamp};
use serde::{Deserialize, Serialize};

pub use disk::{DiskStore, Options};
pub use error::StoreError;
pub use memory::{MemoryDisk, MemoryStore};
pub use replay::{Replay, replay, replay_near};
pub use report::{IndexReport, OpenReport, RebuildReason, Statistics};

/// One decided event: what happened, when, and what it changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// When it was decided.
    pub at: Timestamp,
    /// What happened. A submission's payload is left out here and comes back empty: it is stored by its own change.
    pub event: Event,
    /// What it changed, in order.
    pub changes: Vec<Change>,
}

/// Where decided events are kept. One writer; payloads are read from any thread.
pub trait Store: Send {
    /// Stores `records` as one group: all of them are on disk when this returns, at the cost of one write and one
    /// fdatasync. May wait for the index when that is far behind.
    ///
    /// # Errors
    /// Nothing of the group is stored, and the next commit may succeed ([`StoreError::is_passing`]); or the store is
    /// [`StoreError::Poisoned`], refuses everything from then on, and only opening it again tells what is stored.
    fn commit(&mut self, records: &[Record]) -> Result<(), StoreError>;

    /// Reads payloads, from any thread, without waiting for the writer.
    fn payload_reader(&self) -> Arc<dyn PayloadReader>;

    /// Ends cleanly: the index has taken everything in and is synced, and a snapshot is written if one is due.
    ///
    /// # Errors
    /// When the index could not be finished. Nothing is lost by that: the next open catches up from the journal.
    fn close(self: Box<Self>) -> Result<(), StoreError>;

    /// Counts since the store was opened.
    fn statistics(&self) -> Statistics;
}

/// Reads the heavy part of submissions. Sees every payload whose commit has returned, and forgets it with its job.
pub trait PayloadReader: Send + Sync {
    /// The script and variables that were stored under `id` (of an array: the array's id).
    ///
    /// # Errors
    /// When the disk fails. A payload that is not there is `None`.
    fn payload(&self, id: JobId) -> Result<Option<Arc<Payload>>, StoreError>;
}
