//! The index: sled, under a guard. sled 0.34 panics on damaged files, loses its end silently when that is cut off, and
//! does not sync; so every call here turns a panic into an error, the contents carry a sum that is checked at a start,
//! and whatever fails is answered by making the index again.
//!
//! All entries are in one tree, because sled's batches are atomic within a tree only: the mark, which says up to which
//! record the index has followed, changes with the entries that it speaks of.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use capstan_core::{Change, State};
use capstan_types::JobId;

use crate::codec::{self, Place, Placed, kind};
use crate::{RebuildReason, StoreError};

/// Format of keys, values and mark together; another one is not read but made again.
const FORMAT: u16 = 1;
const MARK_KEY: &[u8] = &[kind::MARK];
/// sled lets go of its file on threads of its own, a moment after it was dropped; after an error perhaps never.
const LOCK_WAIT_MS_MAX: u64 = 2_000;
/// sled's words for that; it has no variant for it.
const LOCKED: &str = "could not acquire lock";

/// How far the index has followed, and the sum of its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The last record taken in.
    pub(crate) last: u64,
    /// The snapshot that older payloads are in; the others are in the journal behind it. 0 for none.
    pub(crate) base: u64,
    /// XOR over all entries but payloads.
    pub(crate) sum: u64,
}

/// Why the index does not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It must be made again.
    Broken(RebuildReason),
    /// The system has no room for it (or forbids it) now; what is there may be good.
    Refused(Box<str>),
}

/// The index, open. Reads are for any thread; only the follower writes.
#[derive(Debug)]
pub(crate) struct Index {
    path: PathBuf,
    db: sled::Db,
    /// sled's file, opened once more: its own flush writes, but does not sync.
    file: File,
}

impl Index {
    /// Opens the index in `path`, with its mark.
    pub(crate) fn open(path: &Path, cache_bytes: u64) -> Result<(Self, Mark), Fault> {
        if !path.is_dir() {
            return Err(Fault::Broken(RebuildReason::Missing));
        }
        let index = Self::open_any(path, cache_bytes)?;
        let mark = index.read_mark()?;
        Ok((index, mark))
    }

    /// Makes an empty index in `path`, where nothing is.
    pub(crate) fn create(path: &Path, cache_bytes: u64) -> Result<Self, Fault> {
        let made = DirBuilder::new().mode(0o700).create(path);
        made.map_err(|error| Fault::Refused(error.to_string().into()))?;
        Self::open_any(path, cache_bytes)
    }

    fn open_any(path: &Path, cache_bytes: u64) -> Result<Self, Fault> {
        let config = sled::Config::new().path(path).cache_capacity(cache_bytes);
        let config = config.mode(sled::Mode::LowSpace).flush_every_ms(None);
        let deadline = Instant::now() + Duration::from_millis(LOCK_WAIT_MS_MAX);
        let db = loop {
            match guard(|| config.open()) {
                Err(Fault::Refused(problem)) if problem.contains(LOCKED) => {
                    // The store's own lock is ours, so it is a sled of this very process that holds on.
                    if Instant::now() >= deadline {
                        return Err(Fault::Broken(RebuildReason::Held));
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
                other => break other?,
            }
        };
        let file = File::open(path.join("db"))
            .map_err(|error| Fault::Refused(error.to_string().into()))?;
        let path = path.to_path_buf();
        Ok(Self { path, db, file })
    }

    fn read_mark(&self) -> Result<Mark, Fault> {
        let mark = guard(|| self.db.get(MARK_KEY))?;
        let mark = mark.ok_or(Fault::Broken(RebuildReason::Unfinished))?;
        let bytes: &[u8; 26] = mark[..]
            .try_into()
            .map_err(|_| Fault::Broken(RebuildReason::Format))?;
        let (format, rest) = bytes.split_at(2);
        if format != FORMAT.to_be_bytes() {
            return Err(Fault::Broken(RebuildReason::Format));
        }
        let number = |bytes: &[u8]| {
            bytes
                .iter()
                .fold(0, |number, byte| number << 8 | u64::from(*byte))
        };
        Ok(Mark {
            last: number(&rest[..8]),
            base: number(&rest[8..16]),
            sum: number(&rest[16..]),
        })
    }

    /// Reads the state, payloads left aside, and checks that it is what was written.
    pub(crate) fn load(&self, mark: Mark) -> Result<State, Fault> {
        let mut state = State::default();
        let mut sum = 0;
        let mut sharing = SpecSharing::default();
        self.visit(&kind::STATE, |key, value| {
            sum ^= entry_sum(key, value);
            let change =
                codec::change_of(key, value).map_err(|error| damaged(&error.to_string()))?;
            if let Some(change) = change {
                state.absorb(&sharing.share(change));
            }
            Ok::<(), Fault>(())
        })?;
        match sum == mark.sum {
            true => Ok(state),
            false => Err(damaged("its contents are not what was written")),
        }
    }

    /// Takes in changes, in order, and then has followed up to record `last`. All or nothing.
    pub(crate) fn apply(&self, mark: Mark, changes: &[Placed], last: u64) -> Result<Mark, Fault> {
        let mut newest: BTreeMap<Vec<u8>, Option<&Placed>> = BTreeMap::new();
        for change in changes {
            for (key, is_put) in codec::keys(&change.0) {
                newest.insert(key, is_put.then_some(change));
            }
        }
        let mut entries = Vec::with_capacity(newest.len());
        for (key, change) in newest {
            let value = change.map_or(Ok(None), codec::value);
            entries.push((key, value.map_err(|error| damaged(&error.to_string()))?));
        }
        self.write(mark, entries, last)
    }

    /// Sets and removes entries, each key once, and moves the mark.
    pub(crate) fn write(
        &self,
        mark: Mark,
        entries: Vec<RawEntry>,
        last: u64,
    ) -> Result<Mark, Fault> {
        let mut batch = sled::Batch::default();
        let mut sum = mark.sum;
        for (key, value) in entries {
            if key.first() != Some(&kind::PAYLOAD) {
                if let Some(old) = guard(|| self.db.get(&key))? {
                    sum ^= entry_sum(&key, &old);
                }
                if let Some(new) = &value {
                    sum ^= entry_sum(&key, new);
                }
            }
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        let mut bytes = FORMAT.to_be_bytes().to_vec();
        bytes.extend_from_slice(&last.to_be_bytes());
        bytes.extend_from_slice(&mark.base.to_be_bytes());
        bytes.extend_from_slice(&sum.to_be_bytes());
        batch.insert(MARK_KEY, bytes);
        guard(|| self.db.apply_batch(batch))?;
        let base = mark.base;
        Ok(Mark { last, base, sum })
    }

    /// Where the payload stored under `id` is.
    pub(crate) fn payload_place(&self, id: JobId) -> Result<Option<Place>, StoreError> {
        let key = codec::job_key(kind::PAYLOAD, id);
        match guard(|| self.db.get(key)) {
            Ok(Some(value)) => Place::from_value(&value).map(Some),
            Ok(None) => Ok(None),
            Err(fault) => Err(StoreError::Index {
                path: self.path.clone(),
                problem: fault.to_string().into(),
            }),
        }
    }

    /// Calls `visit` with the key and value of each entry of these kinds.
    pub(crate) fn visit<E: From<Fault>>(
        &self,
        kinds: &[u8],
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        for kind in kinds {
            let mut entries = self.db.scan_prefix([*kind]);
            while let Some((key, value)) = guard(|| entries.next().transpose())? {
                visit(&key, &value)?;
            }
        }
        Ok(())
    }

    /// Hands everything to the system, so that it survives a kill of this process.
    pub(crate) fn flush(&self) -> Result<(), Fault> {
        guard(|| self.db.flush()).map(drop)
    }

    /// Makes everything durable.
    pub(crate) fn sync(&self) -> Result<(), Fault> {
        self.flush()?;
        self.file
            .sync_data()
            .map_err(|error| Fault::Refused(error.to_string().into()))
    }
}

impl Mark {
    /// Of an empty index.
    pub(crate) const EMPTY: Self = Self {
        last: 0,
        base: 0,
        sum: 0,
    };
}

/// A key, and its value unless it is to be removed.
pub(crate) type RawEntry = (Vec<u8>, Option<Vec<u8>>);

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Broken(reason) => reason.fmt(f),
            Self::Refused(problem) => f.write_str(problem),
        }
    }
}

/// Jobs that were submitted alike share their specification again, as they did before the restart (the members of an
/// array), or better (a script submitted many times).
#[derive(Default)]
pub(crate) struct SpecSharing(Option<Arc<capstan_core::JobSpec>>);

impl SpecSharing {
    pub(crate) fn share(&mut self, change: Change) -> Change {
        let Change::PutJob(mut job) = change else {
            return change;
        };
        match &self.0 {
            Some(spec) if **spec == *job.spec => {
                if let Some(job) = Arc::get_mut(&mut job) {
                    job.spec = spec.clone();
                }
            }
            Some(_) | None => self.0 = Some(job.spec.clone()),
        }
        Change::PutJob(job)
    }
}

/// The part of one entry in the sum: changes of key or value change it, and the order of entries does not matter.
fn entry_sum(key: &[u8], value: &[u8]) -> u64 {
    let sum = u64::from(crc32c::crc32c(key)) << 32 | u64::from(crc32c::crc32c(value));
    // The finish of splitmix64. Without it equal changes of two checksums would cancel out.
    let sum = (sum ^ sum >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let sum = (sum ^ sum >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    sum ^ sum >> 31
}

fn damaged(problem: &str) -> Fault {
    Fault::Broken(RebuildReason::Damaged(problem.into()))
}

/// Runs one call of sled; a panic in it is a fault.
fn guard<T>(call: impl FnOnce() -> sled::Result<T>) -> Result<T, Fault> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(sled::Error::Io(error))) if is_refusal(&error) => {
            Err(Fault::Refused(error.to_string().into()))
        }
        Ok(Err(error)) => Err(damaged(&error.to_string())),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(damaged(&format!(
                "sled panicked: {}",
                text.unwrap_or("no reason given")
            )))
        }
    }
}

/// Whether the system refuses now what it may grant later, which says nothing of the contents.
fn is_refusal(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    let kinds = [
        K::StorageFull,
        K::QuotaExceeded,
        K::FileTooLarge,
        K::PermissionDenied,
        K::ReadOnlyFilesystem,
    ];
    kinds.contains(&error.kind()) || error.to_string().contains(LOCKED)
}
