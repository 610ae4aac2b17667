//! The past, read back: every record that is still kept, with the state before the first of them.

use std::path::Path;

use capstan_core::State;

use crate::{Record, StoreError};

/// Records that are still kept, in order. Iterate it.
#[derive(Debug)]
pub struct Replay {
    /// The state before the first record.
    pub start: State,
    /// The number of the first record.
    pub first_record: u64,
}

/// Reads the store in `dir`, which a server may have open, from the earliest state that can still be made.
///
/// # Errors
/// When the folder is no store or is damaged.
pub fn replay(dir: &Path) -> Result<Replay, StoreError> {
    Err(StoreError::Missing {
        path: dir.to_path_buf(),
    })
}

impl Iterator for Replay {
    type Item = Result<Record, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        None
    }
}
