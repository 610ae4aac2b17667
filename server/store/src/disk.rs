//! The store on disk: how journal, index and snapshots are put together again at a start, and the commit.
//!
//! A start reads the state from the index and then what the journal has beyond it. When the index is not to be had,
//! the state comes from the newest snapshot and the journal behind that, and the follower makes the index again.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use capstan_core::State;

use crate::follower::{Follower, Found};
use crate::index::{Fault, Index, Mark, SpecSharing};
use crate::journal::{self, End, EndRule, Groups, Journal};
use crate::medium::{DiskFolder, Folder};
use crate::payload::DiskReader;
use crate::places::{Places, move_aside};
use crate::snapshot::{self, Kind, Part};
use crate::tail::{Ending, Tail};
use crate::{
    IndexReport, OpenReport, PayloadReader, RebuildReason, Record, Statistics, Store, StoreError,
    codec, history,
};

/// Sizes that an administrator or a test may want otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// A new journal segment is begun when the current one is this large, bytes.
    pub segment_bytes: u64,
    /// A snapshot is written when the journal has grown by this since the last, bytes (and by the size of the last
    /// snapshot, so that the work stays in proportion). Of the journal behind the snapshot before it, no more is then
    /// kept than the history needs.
    pub snapshot_after_bytes: u64,
    /// Cache of the index, bytes.
    pub index_cache_bytes: u64,
    /// The past that can be replayed goes back at least so far, seconds, if there is so much of it and no more than
    /// `history_bytes_max`; 0 keeps what a recovery needs and nothing more.
    pub history_secs: u64,
    /// Journal and snapshots that are kept for nothing but the history, bytes. They are given up when the disk is full.
    pub history_bytes_max: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 8 << 20,
            snapshot_after_bytes: 32 << 20,
            index_cache_bytes: 4 << 20,
            history_secs: 7 * 24 * 3600,
            history_bytes_max: 1 << 30,
        }
    }
}

/// The store on disk. Dropping it without [`Store::close`] is like a kill: nothing committed is lost.
#[derive(Debug)]
pub struct DiskStore {
    journal: Journal,
    places: Places,
    tail: Arc<Tail>,
    follower: Follower,
    /// Held for as long as the store is open.
    _lock: Option<File>,
}

impl DiskStore {
    /// Opens the store in `dir`, making it when there is none (the folder above must be there), and reads the state.
    ///
    /// # Errors
    /// When the folder cannot be used, another server uses it, or acknowledged data is damaged or missing.
    pub fn open(dir: &Path, options: Options) -> Result<(Self, State, OpenReport), StoreError> {
        DiskFolder::make(dir).map_err(StoreError::io("make", dir))?;
        let lock = lock(dir)?;
        let folder = |name: &str| -> Result<Arc<dyn Folder>, StoreError> {
            let path = dir.join(name);
            let folder = DiskFolder::make(&path).map_err(StoreError::io("make", &path))?;
            Ok(Arc::new(folder))
        };
        let places = Places {
            dir: dir.to_path_buf(),
            journal: folder("journal")?,
            snapshots: folder("snapshot")?,
        };
        Self::open_places(places, Some(lock), options)
    }

    /// As [`Self::open`], wherever the files are.
    pub(crate) fn open_places(
        places: Places,
        lock: Option<File>,
        options: Options,
    ) -> Result<(Self, State, OpenReport), StoreError> {
        let segments = journal::segments(&*places.journal)?;
        let snapshots = snapshot::list(&*places.snapshots, Kind::Snapshot)?;
        let (found, start) = match segments.first() {
            None if snapshots.is_empty() && !places.index().exists() => {
                (Found::Nothing, Start::nothing(&places, options)?)
            }
            None => {
                let path = places.journal.path().join("00000001.log");
                return Err(StoreError::Missing { path });
            }
            Some(_) => assemble(&places, options)?,
        };
        let newest = snapshots.first().copied().unwrap_or(0);
        let behind = segments
            .iter()
            .filter(|segment| segment.header.first > newest);
        let journal_bytes = behind.map(|segment| segment.size).sum();

        let Start {
            state,
            journal,
            report,
        } = start;
        let tail = Arc::new(Tail::new(journal.last(), journal_bytes));
        let follower = Follower::start(places.clone(), options, tail.clone(), found)?;
        let store = Self {
            journal,
            places,
            tail,
            follower,
            _lock: lock,
        };
        Ok((store, state, report))
    }
}

impl Store for DiskStore {
    fn commit(&mut self, records: &[Record]) -> Result<(), StoreError> {
        if records.is_empty() {
            return Ok(());
        }
        self.tail.wait_for_room();
        let stored = match self.journal.append(records) {
            // What people want to be told comes before what they may want to look up.
            Err(StoreError::Full { .. }) if history::give_up(&self.places) => {
                self.journal.append(records)?
            }
            stored => stored?,
        };
        self.tail.push(records, stored, self.journal.last());
        Ok(())
    }

    fn payload_reader(&self) -> Arc<dyn PayloadReader> {
        Arc::new(DiskReader::new(self.tail.clone(), self.places.clone()))
    }

    fn close(mut self: Box<Self>) -> Result<(), StoreError> {
        self.follower.end(Ending::Clean)
    }

    fn statistics(&self) -> Statistics {
        let counts = self.journal.counts;
        let (index_lag_records, snapshots) = self.tail.counts();
        Statistics {
            groups: counts.groups,
            records: counts.records,
            fsyncs: counts.fsyncs,
            bytes: counts.bytes,
            refused_groups: counts.refused_groups,
            index_lag_records,
            snapshots,
        }
    }
}

impl Drop for DiskStore {
    fn drop(&mut self) {
        if let Err(error) = self.follower.end(Ending::Abandoned) {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "index left behind"
            );
        }
    }
}

/// Takes the lock that keeps two servers off one store.
fn lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join("lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path);
    let file = file.map_err(StoreError::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse { path }),
        Err(TryLockError::Error(error)) => Err(StoreError::io("lock", &path)(error)),
    }
}

/// What the server starts with.
struct Start {
    state: State,
    journal: Journal,
    report: OpenReport,
}

impl Start {
    /// A new store.
    fn nothing(places: &Places, options: Options) -> Result<Self, StoreError> {
        Ok(Self {
            state: State::default(),
            journal: Journal::create(places.journal.clone(), options.segment_bytes)?,
            report: OpenReport {
                last_record: 0,
                replayed_records: 0,
                torn_bytes: 0,
                index: IndexReport::New,
            },
        })
    }
}

/// Puts the state together from what is there.
fn assemble(places: &Places, options: Options) -> Result<(Found, Start), StoreError> {
    let begin = |state, read: &ReadOn, index| -> Result<Start, StoreError> {
        Ok(Start {
            state,
            journal: Journal::resume(places.journal.clone(), options.segment_bytes, read.end)?,
            report: OpenReport {
                last_record: read.end.next - 1,
                replayed_records: read.replayed,
                torn_bytes: read.torn_bytes,
                index,
            },
        })
    };
    let fault = match open_index(places, options) {
        Ok((index, mark, mut state)) => {
            let read = read_on(places, &mut state, mark.last)?;
            let journal = read.end.next - 1;
            if mark.last <= journal {
                let start = begin(state, &read, IndexReport::Good)?;
                return Ok((Found::Good(index, mark), start));
            }
            let index = mark.last;
            Fault::Broken(RebuildReason::NewerThanJournal { index, journal })
        }
        Err(fault) => fault,
    };
    let (found, report) = match fault {
        Fault::Broken(reason) => {
            let path = places.index();
            let kept_as =
                move_aside(&path, &reason).map_err(StoreError::io("move aside", &path))?;
            (Found::Nothing, IndexReport::Rebuilt { reason, kept_as })
        }
        Fault::Refused(problem) => (Found::Refused, IndexReport::Unavailable { problem }),
    };
    let (mut state, last) = newest_state(&*places.snapshots)?;
    let read = read_on(places, &mut state, last)?;
    if last >= read.end.next {
        return Err(ends_too_early(places, &read.end));
    }
    Ok((found, begin(state, &read, report)?))
}

/// Opens the index and reads the state of its time, from the image when there is one of that time: that takes no time
/// of sled's, which opens meanwhile, and leaves its cache empty.
fn open_index(places: &Places, options: Options) -> Result<(Index, Mark, State), Fault> {
    let path = places.index();
    let (opened, image) = thread::scope(|scope| {
        let opening = scope.spawn(|| Index::open(&path, options.index_cache_bytes));
        let image = read_image(&*places.snapshots);
        let opened = opening.join();
        let panicked = |_| {
            Err(Fault::Broken(RebuildReason::Damaged(
                "sled panicked".into(),
            )))
        };
        (opened.unwrap_or_else(panicked), image)
    });
    let (index, mark) = opened?;
    places.check(mark)?;
    let state = match image {
        Some((state, last)) if last == mark.last => state,
        Some(_) | None => index.load(mark)?,
    };
    Ok((index, mark, state))
}

/// The state in the newest image, and the last record in it. Any trouble with it is no more than a slower start.
fn read_image(folder: &dyn Folder) -> Option<(State, u64)> {
    let last = *snapshot::list(folder, Kind::Image).ok()?.first()?;
    match read_state(folder, (Kind::Image, last)) {
        Ok(state) => Some((state, last)),
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "image of the state cannot be used"
            );
            None
        }
    }
}

/// The state in the newest snapshot that can be read, and the last record in it; without snapshots, nothing and 0.
pub(crate) fn newest_state(folder: &dyn Folder) -> Result<(State, u64), StoreError> {
    let mut first_error = None;
    for last in snapshot::list(folder, Kind::Snapshot)? {
        match read_state(folder, (Kind::Snapshot, last)) {
            Ok(state) => return Ok((state, last)),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "snapshot cannot be used"
                );
                first_error.get_or_insert(error);
            }
        }
    }
    first_error.map_or_else(|| Ok((State::default(), 0)), Err)
}

/// The state in a snapshot or image.
pub(crate) fn read_state(folder: &dyn Folder, source: (Kind, u64)) -> Result<State, StoreError> {
    let mut state = State::default();
    let mut sharing = SpecSharing::default();
    snapshot::visit(folder, source, Part::State, |key, value, _| {
        if let Some(change) = codec::change_of(key, value)? {
            state.absorb(&sharing.share(change));
        }
        Ok(())
    })?;
    Ok(state)
}

/// What reading on from a state found.
struct ReadOn {
    end: End,
    torn_bytes: u64,
    replayed: u64,
}

/// Takes the records after `last` into `state`, to the journal's end.
fn read_on(places: &Places, state: &mut State, last: u64) -> Result<ReadOn, StoreError> {
    let mut groups = Groups::new(places.journal.clone(), last + 1, u64::MAX, EndRule::Judge)?;
    let mut replayed = 0;
    let mut sharing = SpecSharing::default();
    while let Some(group) = groups.next()? {
        for (record, number) in codec::decode_changes(group.body)?
            .into_iter()
            .zip(group.first..)
        {
            if number <= last {
                continue;
            }
            replayed += 1;
            for change in record.changes {
                state.absorb(&sharing.share(change));
            }
        }
    }
    let path = PathBuf::from(places.journal.path());
    let (end, torn_bytes) = groups.end().ok_or(StoreError::Missing { path })?;
    Ok(ReadOn {
        end,
        torn_bytes,
        replayed,
    })
}

fn ends_too_early(places: &Places, end: &End) -> StoreError {
    StoreError::Damaged {
        path: places.journal.path().join(journal::name(end.segment)),
        offset: end.size,
        problem: "the journal ends before the snapshot does",
        remedy: "restore the journal and the snapshots from one backup",
    }
}
