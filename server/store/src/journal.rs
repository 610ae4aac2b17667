//! The journal's writer: appends groups of records, one frame, one write and one fdatasync each, and undoes a group
//! that the disk refused. Segments follow each other without a gap; only the last is written to.
//!
//! Space is not reserved in advance: on ext4 `fallocate` made fdatasync no faster (0.14 ms with and without), and
//! filling with zeros first made it 0.10 ms, which is not worth writing everything twice.

mod read;

use std::path::PathBuf;
use std::sync::Arc;

use crate::codec::{self, Place, PlaceFile};
use crate::frame::{FILE_HEADER_BYTES, FileHeader};
use crate::medium::{Folder, Medium};
use crate::{Record, StoreError};

pub(crate) use read::{EndRule, Groups, Segment, name, segments};

/// First bytes of a segment.
const MAGIC: [u8; 8] = *b"CAPSJRNL";
/// A write buffer larger than this is given back after use.
const BUFFER_KEPT_BYTES: usize = 256 << 10;

/// Where writing goes on: the last segment, its good length, and the number of the next record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    /// Number of the segment.
    pub(crate) segment: u64,
    /// Its good length in bytes.
    pub(crate) size: u64,
    /// The number that the next record gets.
    pub(crate) next: u64,
}

/// The writer.
#[derive(Debug)]
pub(crate) struct Journal {
    folder: Arc<dyn Folder>,
    segment_bytes: u64,
    open: Open,
    next: u64,
    is_poisoned: bool,
    buffer: Vec<u8>,
    pub(crate) counts: Counts,
}

/// The segment written to.
#[derive(Debug)]
struct Open {
    number: u64,
    header: FileHeader,
    medium: Box<dyn Medium>,
    size: u64,
}

/// A group that is stored.
#[derive(Debug)]
pub(crate) struct Stored {
    /// Its size in the journal, bytes.
    pub(crate) bytes: u64,
    /// Where its payloads are, in order.
    pub(crate) places: Vec<Place>,
}

/// What was done since the journal was opened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) groups: u64,
    pub(crate) records: u64,
    pub(crate) fsyncs: u64,
    pub(crate) bytes: u64,
    pub(crate) refused_groups: u64,
}

impl Journal {
    /// Begins the first journal of a new store.
    pub(crate) fn create(folder: Arc<dyn Folder>, segment_bytes: u64) -> Result<Self, StoreError> {
        let (open, counts) = (begin_segment(&*folder, 1, 1)?, Counts::default());
        Ok(Self::with(folder, segment_bytes, open, 1, counts))
    }

    /// Goes on at `end`, which [`Groups`] found; what lies behind it was never acknowledged and is cut off.
    pub(crate) fn resume(
        folder: Arc<dyn Folder>,
        segment_bytes: u64,
        end: End,
    ) -> Result<Self, StoreError> {
        let name = name(end.segment);
        let path = folder.path().join(&name);
        let medium = folder.open(&name).map_err(StoreError::io("open", &path))?;
        let header = FileHeader::read(&*medium, MAGIC, &path)?;
        let header = header.ok_or(StoreError::Missing { path: path.clone() })?;
        if medium.size().map_err(StoreError::io("read", &path))? > end.size {
            let cut = medium.truncate(end.size).and_then(|()| medium.sync());
            cut.map_err(StoreError::io("cut", &path))?;
        }
        let open = Open {
            number: end.segment,
            header,
            medium,
            size: end.size,
        };
        Ok(Self::with(
            folder,
            segment_bytes,
            open,
            end.next,
            Counts::default(),
        ))
    }

    fn with(
        folder: Arc<dyn Folder>,
        segment_bytes: u64,
        open: Open,
        next: u64,
        counts: Counts,
    ) -> Self {
        Self {
            folder,
            segment_bytes,
            open,
            next,
            is_poisoned: false,
            buffer: Vec::new(),
            counts,
        }
    }

    /// The number of the last record; 0 when there is none.
    pub(crate) const fn last(&self) -> u64 {
        self.next - 1
    }

    /// Appends one group.
    ///
    /// # Errors
    /// As [`crate::Store::commit`].
    pub(crate) fn append(&mut self, records: &[Record]) -> Result<Stored, StoreError> {
        if self.is_poisoned {
            return Err(StoreError::Poisoned { path: self.path() });
        }
        let result = self.try_append(records);
        if result.is_err() {
            self.counts.refused_groups += 1;
        }
        if self.buffer.capacity() > BUFFER_KEPT_BYTES {
            self.buffer = Vec::new();
        }
        result
    }

    fn try_append(&mut self, records: &[Record]) -> Result<Stored, StoreError> {
        if self.open.size >= self.segment_bytes {
            self.open = begin_segment(&*self.folder, self.open.number + 1, self.next)?;
            self.counts.fsyncs += 1;
        }
        FileHeader::begin(&mut self.buffer);
        let payloads = codec::encode_group(records, &mut self.buffer)?;
        let items = u32::try_from(records.len()).unwrap_or(u32::MAX);
        self.open
            .header
            .finish(&mut self.buffer, self.next, items)?;

        let Open { medium, size, .. } = &self.open;
        let mut action = "write";
        let written = medium.write_at(*size, &self.buffer).and_then(|()| {
            action = "sync";
            medium.sync()
        });
        if let Err(source) = written {
            return Err(self.undo(action, source));
        }
        let bytes = self.buffer.len() as u64;
        let (file, begin) = (PlaceFile::Segment(self.open.number), self.open.size);
        let place = |range: std::ops::Range<usize>| {
            Place::of(file, begin + range.start as u64, &self.buffer[range])
        };
        let places = payloads.into_iter().map(place).collect();
        self.open.size += bytes;
        self.next += records.len() as u64;
        self.counts.groups += 1;
        self.counts.records += records.len() as u64;
        self.counts.fsyncs += 1;
        self.counts.bytes += bytes;
        Ok(Stored { bytes, places })
    }

    /// Cuts a refused group off again. The cut is synced as well: otherwise a power cut could bring back a group that
    /// was refused.
    fn undo(&mut self, action: &'static str, source: std::io::Error) -> StoreError {
        let Open { medium, size, .. } = &self.open;
        let path = self.path();
        match medium.truncate(*size).and_then(|()| medium.sync()) {
            Ok(()) => StoreError::io(action, &path)(source),
            Err(second) => {
                self.is_poisoned = true;
                tracing::error!(file = %path.display(), %source, %second, "journal cannot be written or cut");
                StoreError::Poisoned { path }
            }
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join(name(self.open.number))
    }
}

/// Makes an empty segment whose first record will be `first`. On failure nothing durable has changed: a segment
/// without a whole header counts as not there, and the next try writes over it.
fn begin_segment(folder: &dyn Folder, number: u64, first: u64) -> Result<Open, StoreError> {
    let name = name(number);
    let path = folder.path().join(&name);
    let header = FileHeader::new(first);
    let made = folder.create(&name).and_then(|medium| {
        medium.write_at(0, &header.to_bytes(MAGIC))?;
        medium.sync()?;
        folder.sync()?;
        Ok(medium)
    });
    match made {
        Ok(medium) => Ok(Open {
            number,
            header,
            medium,
            size: FILE_HEADER_BYTES,
        }),
        Err(error) => {
            if let Err(second) = folder.remove(&name) {
                tracing::debug!(file = %path.display(), %second, "unfinished segment stays");
            }
            Err(StoreError::io("begin", &path)(error))
        }
    }
}

#[cfg(test)]
mod tests;
