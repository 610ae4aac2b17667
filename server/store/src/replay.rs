//! The past, read back: every record that is still kept, with the state before the first of them, so that any kept
//! decision can be made again and compared.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use capstan_core::State;

use crate::disk::read_state;
use crate::journal::{self, EndRule, Groups};
use crate::medium::{DiskFolder, Folder};
use crate::snapshot::{self, Kind};
use crate::{Record, StoreError, codec};

/// Records that are still kept, in order. Iterate it.
pub struct Replay {
    /// The state before the first record.
    pub start: State,
    /// The number of the first record; the next has the next number.
    pub first_record: u64,
    groups: Groups,
    group: VecDeque<Record>,
}

/// Reads the store in `dir`, which a server may have open, from the earliest state that can still be made.
///
/// # Errors
/// When the folder is no store or is damaged.
pub fn replay(dir: &Path) -> Result<Replay, StoreError> {
    let folder = DiskFolder::at(&dir.join("journal"));
    let snapshots = DiskFolder::at(&dir.join("snapshot"));
    let oldest = journal::segments(&folder)?
        .first()
        .map(|segment| segment.header.first);
    let oldest = oldest.ok_or_else(|| StoreError::Missing {
        path: folder.path().to_path_buf(),
    })?;
    let (start, last) = match oldest {
        1 => (State::default(), 0),
        _ => {
            let mut reachable = snapshot::list(&snapshots, Kind::Snapshot)?;
            reachable.retain(|last| last + 1 >= oldest);
            let last = *reachable.last().ok_or_else(|| StoreError::Missing {
                path: snapshots.path().to_path_buf(),
            })?;
            (read_state(&snapshots, (Kind::Snapshot, last))?, last)
        }
    };
    Ok(Replay {
        start,
        first_record: last + 1,
        groups: Groups::new(Arc::new(folder), last + 1, u64::MAX, EndRule::Trust)?,
        group: VecDeque::new(),
    })
}

impl Replay {
    /// The next group's records, as far as they come after the start.
    fn next_group(&mut self) -> Result<Option<VecDeque<Record>>, StoreError> {
        let Some(group) = self.groups.next()? else {
            return Ok(None);
        };
        let known = self.first_record.saturating_sub(group.first) as usize;
        let records = codec::decode_records(group.body)?;
        Ok(Some(records.into_iter().skip(known).collect()))
    }
}

impl Iterator for Replay {
    type Item = Result<Record, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(record) = self.group.pop_front() {
                return Some(Ok(record));
            }
            match self.next_group() {
                Ok(Some(group)) => self.group = group,
                Ok(None) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
