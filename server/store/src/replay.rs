//! The past, read back: every record that is still kept, with the state before the first of them, so that any kept
//! decision can be made again and compared.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use capstan_core::State;
use capstan_types::Timestamp;

use crate::disk::read_state;
use crate::journal::{self, EndRule, Groups};
use crate::medium::{DiskFolder, Folder};
use crate::snapshot::{self, Kind};
use crate::{Record, StoreError, codec, history};

/// Records that are still kept, in order. Iterate it.
pub struct Replay {
    /// The state before the first record.
    pub start: State,
    /// The number of the first record; the next has the next number.
    pub first_record: u64,
    groups: Groups,
    group: VecDeque<Record>,
}

/// Reads the store in `dir`, which a server may have open, from the earliest state that can still be made. Nothing is
/// locked and nothing written; half a group at the end is passed over.
///
/// # Errors
/// When the folder is no store or is damaged.
pub fn replay(dir: &Path) -> Result<Replay, StoreError> {
    let past = Past::of(dir)?;
    let last = past.bases.last().copied();
    past.from(last)
}

/// As [`replay`], from the latest state whose next record is not after `time`; from the earliest when all are.
///
/// # Errors
/// As [`replay`].
pub fn replay_near(dir: &Path, time: Timestamp) -> Result<Replay, StoreError> {
    let past = Past::of(dir)?;
    let mut first_error = None;
    for base in &past.bases {
        let is_oldest = past.bases.last() == Some(base);
        let next = history::time_of(past.journal.clone(), base + 1)?;
        if !is_oldest && next.is_none_or(|next| next > time) {
            continue;
        }
        match past.from(Some(*base)) {
            Ok(replay) => return Ok(replay),
            // An older snapshot does as well, only slower.
            Err(error) => drop(first_error.get_or_insert(error)),
        }
    }
    first_error.map_or_else(|| past.from(None), Err)
}

/// What is still there of the past.
struct Past {
    journal: Arc<dyn Folder>,
    snapshots: DiskFolder,
    /// The last record in each state that can be made and from which the journal goes on, newest first; 0 for the state
    /// before the first record of all.
    bases: Vec<u64>,
}

impl Past {
    fn of(dir: &Path) -> Result<Self, StoreError> {
        let journal: Arc<dyn Folder> = Arc::new(DiskFolder::at(&dir.join("journal")));
        let snapshots = DiskFolder::at(&dir.join("snapshot"));
        let oldest = journal::segments(&*journal)?
            .first()
            .map(|segment| segment.header.first);
        let oldest = oldest.ok_or_else(|| StoreError::Missing {
            path: journal.path().to_path_buf(),
        })?;
        let mut bases = snapshot::list(&snapshots, Kind::Snapshot)?;
        bases.retain(|last| last + 1 >= oldest);
        if oldest == 1 {
            bases.push(0);
        }
        Ok(Self {
            journal,
            snapshots,
            bases,
        })
    }

    fn from(&self, base: Option<u64>) -> Result<Replay, StoreError> {
        let last = base.ok_or_else(|| StoreError::Missing {
            path: self.snapshots.path().to_path_buf(),
        })?;
        let start = match last {
            0 => State::default(),
            last => read_state(&self.snapshots, (Kind::Snapshot, last))?,
        };
        Ok(Replay {
            start,
            first_record: last + 1,
            groups: Groups::new(self.journal.clone(), last + 1, u64::MAX, EndRule::Trust)?,
            group: VecDeque::new(),
        })
    }
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
