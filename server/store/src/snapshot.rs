//! Snapshots: everything the index holds after a given record, in one checksummed file, from which the index can be
//! made again when the journal no longer reaches back to the beginning. The state stands before the payloads, so that
//! a start reads the former only, and the index refers to the payloads in it.
//!
//! An *image* is a snapshot of the state alone, written at a clean end: reading it is the fastest start.

use std::path::PathBuf;
use std::sync::Arc;

use crate::StoreError;
use crate::codec::kind;
use crate::frame::{FILE_HEADER_BYTES, FRAME_HEADER_BYTES, FileHeader, FrameReader, Next};
use crate::medium::{Folder, Medium};

/// First bytes of a snapshot.
const MAGIC: [u8; 8] = *b"CAPSSNAP";
/// A frame is written when it has grown this large.
const CHUNK_BYTES: usize = 256 << 10;
/// Snapshots kept: the newest, and the one before it in case that is damaged.
pub(crate) const SNAPSHOTS_KEPT: usize = 2;

const TEMPORARY: &str = "unfinished";

/// What a chunk holds: the first byte of its body.
mod section {
    pub(super) const STATE: u8 = b's';
    pub(super) const PAYLOADS: u8 = b'p';
    pub(super) const END: u8 = b'e';
}

/// How much of a snapshot is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The entries that make the state.
    State,
    /// The payloads.
    Payloads,
    /// Both, the state first.
    All,
}

/// What a file in the folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// State and payloads.
    Snapshot,
    /// The state alone.
    Image,
}

impl Kind {
    const fn extension(self) -> &'static str {
        match self {
            Self::Snapshot => ".snap",
            Self::Image => ".state",
        }
    }

    /// How many are kept; snapshots of the history beside that.
    const fn kept(self) -> usize {
        match self {
            Self::Snapshot => SNAPSHOTS_KEPT,
            Self::Image => 1,
        }
    }

    /// The file's name.
    pub(crate) fn name(self, last: u64) -> String {
        format!("{last:010}{}", self.extension())
    }
}

/// The last record that each file of this kind includes, newest first.
pub(crate) fn list(folder: &dyn Folder, kind: Kind) -> Result<Vec<u64>, StoreError> {
    let names = folder
        .names()
        .map_err(StoreError::io("list", folder.path()))?;
    let last = |name: &String| name.strip_suffix(kind.extension())?.parse::<u64>().ok();
    let mut found: Vec<u64> = names.iter().filter_map(last).collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    Ok(found)
}

/// Removes all but the newest files of this kind; returns the last record of the oldest one kept.
pub(crate) fn prune(folder: &dyn Folder, kind: Kind) -> Result<Option<u64>, StoreError> {
    let found = list(folder, kind)?;
    let (kept, old) = found.split_at(found.len().min(kind.kept()));
    for last in old {
        let path = folder.path().join(kind.name(*last));
        folder
            .remove(&kind.name(*last))
            .map_err(StoreError::io("remove", &path))?;
    }
    Ok(kept.last().copied())
}

/// Removes what an attempt to write a snapshot has left, which takes room.
pub(crate) fn discard(folder: &dyn Folder) {
    if let Err(error) = folder.remove(TEMPORARY) {
        tracing::debug!(%error, "nothing to discard");
    }
}

/// A snapshot being written. Nothing of it counts before [`Self::finish`].
pub(crate) struct SnapshotWriter {
    folder: Arc<dyn Folder>,
    medium: Box<dyn Medium>,
    header: FileHeader,
    at: u64,
    chunk: Vec<u8>,
    section: u8,
    items: u32,
    chunks: u64,
}

impl SnapshotWriter {
    /// Begins the snapshot that includes all records up to `last`.
    pub(crate) fn begin(folder: Arc<dyn Folder>, last: u64) -> Result<Self, StoreError> {
        let path = folder.path().join(TEMPORARY);
        let header = FileHeader::new(last);
        let begun = folder.create(TEMPORARY).and_then(|medium| {
            medium.write_at(0, &header.to_bytes(MAGIC))?;
            Ok(medium)
        });
        Ok(Self {
            medium: begun.map_err(StoreError::io("write", &path))?,
            folder,
            header,
            at: FILE_HEADER_BYTES,
            chunk: Vec::new(),
            section: section::STATE,
            items: 0,
            chunks: 0,
        })
    }

    /// Adds an entry, the state's before the payloads'; returns where its value will be in the file.
    pub(crate) fn add(&mut self, key: &[u8], value: &[u8]) -> Result<u64, StoreError> {
        let section = match key.first() {
            Some(&kind::PAYLOAD) => section::PAYLOADS,
            _ => section::STATE,
        };
        if self.items > 0 && (section != self.section || self.chunk.len() >= CHUNK_BYTES) {
            self.write_chunk()?;
        }
        if self.items == 0 {
            self.begin_chunk(section);
        }
        self.items += 1;
        self.chunk
            .extend_from_slice(&(key.len() as u32).to_le_bytes());
        self.chunk
            .extend_from_slice(&(value.len() as u32).to_le_bytes());
        self.chunk.extend_from_slice(key);
        let at = self.at + self.chunk.len() as u64;
        self.chunk.extend_from_slice(value);
        Ok(at)
    }

    /// Puts it in its place as a file of this kind, durably; returns its size in bytes.
    pub(crate) fn finish(mut self, kind: Kind) -> Result<u64, StoreError> {
        if self.items > 0 {
            self.write_chunk()?;
        }
        self.begin_chunk(section::END);
        self.write_chunk()?;
        let placed = self.medium.sync().and_then(|()| {
            self.folder
                .rename(TEMPORARY, &kind.name(self.header.first))?;
            self.folder.sync()
        });
        placed.map_err(StoreError::io("write", &self.path()))?;
        Ok(self.at)
    }

    fn begin_chunk(&mut self, section: u8) {
        FileHeader::begin(&mut self.chunk);
        self.chunk.push(section);
        self.section = section;
    }

    fn write_chunk(&mut self) -> Result<(), StoreError> {
        self.chunks += 1;
        self.header
            .finish(&mut self.chunk, self.chunks, self.items)?;
        let written = self.medium.write_at(self.at, &self.chunk);
        written.map_err(StoreError::io("write", &self.path()))?;
        self.at += self.chunk.len() as u64;
        self.items = 0;
        Ok(())
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join(TEMPORARY)
    }
}

/// Calls `visit` with the key and value of each entry, and with the value's place in the file; returns the file's size
/// in bytes.
///
/// # Errors
/// When it is damaged (entries may have been visited by then), or `visit` fails.
pub(crate) fn visit(
    folder: &dyn Folder,
    (kind, last): (Kind, u64),
    part: Part,
    mut visit: impl FnMut(&[u8], &[u8], u64) -> Result<(), StoreError>,
) -> Result<u64, StoreError> {
    let name = kind.name(last);
    let path = folder.path().join(&name);
    let medium = folder.open(&name).map_err(StoreError::io("open", &path))?;
    let header = FileHeader::read(&*medium, MAGIC, &path)?.filter(|header| header.first == last);
    let header = header.ok_or_else(|| damaged(path.clone(), 0, "its header is damaged"))?;
    let mut reader = FrameReader::new(medium, header, path)?;
    let mut chunks = 0;
    loop {
        let at = reader.at();
        let problem = match reader.next()? {
            Next::Frame(chunk, _) if chunk == chunks + 1 => None,
            Next::Frame(..) => Some("a part is missing"),
            Next::End => Some("its end is missing"),
            Next::Bad(problem) => Some(problem),
        };
        if let Some(problem) = problem {
            return Err(damaged(reader.path().to_path_buf(), at, problem));
        }
        chunks += 1;
        let (section, entries) = reader.body().split_first().unwrap_or((&section::END, &[]));
        match (*section, part) {
            (section::STATE, Part::Payloads) => {}
            (section::STATE, Part::State | Part::All)
            | (section::PAYLOADS, Part::Payloads | Part::All) => {
                let begin = at + FRAME_HEADER_BYTES as u64 + 1;
                let whole = visit_chunk(entries, begin, &mut visit)?;
                whole.ok_or_else(|| {
                    damaged(reader.path().to_path_buf(), at, "an entry is cut short")
                })?;
            }
            (section::PAYLOADS, Part::State) | (section::END, _) => return Ok(reader.size()),
            _ => {
                return Err(damaged(
                    reader.path().to_path_buf(),
                    at,
                    "a part of an unknown kind",
                ));
            }
        }
    }
}

/// Visits the entries of one chunk, which begin at `begin` in the file; `None` when they do not fill it.
fn visit_chunk(
    chunk: &[u8],
    begin: u64,
    visit: &mut impl FnMut(&[u8], &[u8], u64) -> Result<(), StoreError>,
) -> Result<Option<()>, StoreError> {
    let mut entries = chunk;
    while !entries.is_empty() {
        let Some(((key, value), rest)) = split_entry(entries) else {
            return Ok(None);
        };
        let at = begin + (chunk.len() - rest.len() - value.len()) as u64;
        visit(key, value, at)?;
        entries = rest;
    }
    Ok(Some(()))
}

type Entry<'a> = (&'a [u8], &'a [u8]);

fn split_entry(bytes: &[u8]) -> Option<(Entry<'_>, &[u8])> {
    let (key_bytes, rest) = bytes.split_first_chunk::<4>()?;
    let (value_bytes, rest) = rest.split_first_chunk::<4>()?;
    let (key, rest) = rest.split_at_checked(u32::from_le_bytes(*key_bytes) as usize)?;
    let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*value_bytes) as usize)?;
    Some(((key, value), rest))
}

fn damaged(path: PathBuf, offset: u64, problem: &'static str) -> StoreError {
    StoreError::Damaged {
        path,
        offset,
        problem,
        remedy: "restore this file from a backup, or move it away so that an older snapshot is used",
    }
}
