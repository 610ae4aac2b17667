//! The follower: a thread that takes committed changes into the index, makes the index again when it is lost, and
//! writes snapshots. Nothing that is acknowledged depends on it; when the disk refuses the index, the store goes on
//! without it and tries again from time to time.

use std::error::Error;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::codec::{Place, PlaceFile, kind};
use crate::index::{Fault, Index, Mark, RawEntry};
use crate::medium::Folder;
use crate::payload::read_place;
use crate::places::{Places, move_aside};
use crate::snapshot::{self, Kind, Part, SnapshotWriter};
use crate::tail::{Ending, Tail, Work};
use crate::{Options, RebuildReason, StoreError, history, journal};

/// Between two tries to use or make an index, milliseconds.
const RETRY_MS: u64 = 5_000;
/// Entries written to the index at once when there are many.
const WRITE_BATCH: usize = 512;

/// The thread, seen from the store.
#[derive(Debug)]
pub(crate) struct Follower {
    tail: Arc<Tail>,
    thread: Option<JoinHandle<Result<(), StoreError>>>,
}

/// How the index was found, which decides what the follower begins with.
#[derive(Debug)]
pub(crate) enum Found {
    /// It can be followed up from here.
    Good(Index, Mark),
    /// It is not there any more: make it.
    Nothing,
    /// The system refused it: try again later.
    Refused,
}

impl Follower {
    /// Starts the thread.
    pub(crate) fn start(
        places: Places,
        options: Options,
        tail: Arc<Tail>,
        found: Found,
    ) -> Result<Self, StoreError> {
        let path = places.index();
        let mut work = Following {
            places,
            options,
            tail: tail.clone(),
            index: None,
            snapshot_at: options.snapshot_after_bytes,
        };
        let is_refused = matches!(found, Found::Refused);
        if let Found::Good(index, mark) = found {
            work.raise(index, mark);
        }
        let body = move || {
            let tail = work.tail.clone();
            let ended = catch_unwind(AssertUnwindSafe(|| work.run(is_refused)));
            ended.unwrap_or_else(|_| {
                tail.lower();
                tracing::error!("the index follower panicked; payloads are read from the journal");
                Err(work.failed("the follower panicked"))
            })
        };
        let thread = thread::Builder::new()
            .name("store-index".to_owned())
            .spawn(body);
        let thread = thread.map_err(StoreError::io("start a thread for", &path))?;
        Ok(Self {
            tail,
            thread: Some(thread),
        })
    }

    /// Ends the thread and waits for it.
    pub(crate) fn end(&mut self, ending: Ending) -> Result<(), StoreError> {
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        self.tail.end(ending);
        thread.join().unwrap_or(Ok(()))
    }
}

/// The thread, seen from inside.
struct Following {
    places: Places,
    options: Options,
    tail: Arc<Tail>,
    index: Option<(Arc<Index>, Mark)>,
    /// Journal growth at which the next snapshot is due, bytes.
    snapshot_at: u64,
}

impl Following {
    fn run(&mut self, mut is_refused: bool) -> Result<(), StoreError> {
        let mut last_moved: Option<Instant> = None;
        loop {
            if self.index.is_none() {
                let ending = match is_refused {
                    true => self.tail.rest(Duration::from_millis(RETRY_MS)),
                    false => self.tail.ending(),
                };
                match ending {
                    Some(Ending::Abandoned) => return Ok(()),
                    Some(Ending::Clean) if is_refused => {
                        return Err(self.failed("it cannot be used now"));
                    }
                    Some(Ending::Clean) | None => {}
                }
            }
            let fault = match self.make_and_follow() {
                Ok(()) => return Ok(()),
                Err(fault) => fault,
            };
            self.index = None;
            self.tail.lower();
            tracing::warn!(index = %self.places.index().display(), %fault, "index cannot be used");
            // A broken one is made again at once, but not again and again.
            is_refused = match &fault {
                Fault::Refused(_) => true,
                Fault::Broken(reason) => {
                    let is_soon = last_moved
                        .is_some_and(|time| time.elapsed().as_millis() < u128::from(RETRY_MS));
                    last_moved = Some(Instant::now());
                    let moved = move_aside(&self.places.index(), reason);
                    if let Err(error) = &moved {
                        tracing::warn!(%error, "broken index cannot be moved aside");
                    }
                    is_soon || moved.is_err()
                }
            };
        }
    }

    /// Follows until the end is asked for.
    fn make_and_follow(&mut self) -> Result<(), Fault> {
        let (index, mut mark) = match &self.index {
            Some((index, mark)) => (index.clone(), *mark),
            None => self.make()?,
        };
        mark = self.catch_up(&index, mark)?;
        let mut is_dirty = true;
        loop {
            match self.tail.next_work(is_dirty) {
                Work::Apply(changes, last) => {
                    mark = index.apply(mark, &changes, last)?;
                    self.tail.applied(last);
                    is_dirty = true;
                    mark = self.snapshot_if_due(&index, mark)?;
                }
                Work::Flush => {
                    index.flush()?;
                    is_dirty = false;
                }
                Work::CatchUp => mark = self.catch_up(&index, mark)?,
                Work::End(Ending::Abandoned) => return Ok(()),
                Work::End(Ending::Clean) => {
                    mark = self.snapshot_if_due(&index, mark)?;
                    self.write_image(&index, mark)?;
                    return index.sync();
                }
            }
        }
    }

    /// Opens the index that is there, or makes a new one from the last snapshot.
    fn make(&mut self) -> Result<(Arc<Index>, Mark), Fault> {
        let path = self.places.index();
        let (index, mark) = match Index::open(&path, self.options.index_cache_bytes) {
            Ok((index, mark)) => {
                self.places.check(mark)?;
                index.load(mark)?;
                (index, mark)
            }
            Err(Fault::Broken(RebuildReason::Missing)) => self.rebuild(&path)?,
            Err(fault) => return Err(fault),
        };
        Ok(self.raise(index, mark))
    }

    fn raise(&mut self, index: Index, mark: Mark) -> (Arc<Index>, Mark) {
        let index = Arc::new(index);
        self.tail.raise(index.clone(), mark.last);
        self.index = Some((index.clone(), mark));
        (index, mark)
    }

    fn rebuild(&self, path: &Path) -> Result<(Index, Mark), Fault> {
        tracing::info!(index = %path.display(), "making the index from snapshot and journal");
        let index = Index::create(path, self.options.index_cache_bytes)?;
        let made = self.fill(&index);
        match made {
            Ok(mark) => Ok((index, mark)),
            Err(fault) => {
                // Half an index is no evidence of anything; it would only take room.
                drop(index);
                if let Err(error) = fs::remove_dir_all(path) {
                    tracing::warn!(%error, "unfinished index cannot be removed");
                }
                Err(Fault::Refused(fault.to_string().into()))
            }
        }
    }

    /// Fills a new index from the newest good snapshot.
    fn fill(&self, index: &Index) -> Result<Mark, Fault> {
        let refused = |error: StoreError| Fault::Refused(error.to_string().into());
        let mut mark = Mark::EMPTY;
        let Some(last) = newest_whole_snapshot(&*self.places.snapshots).map_err(refused)? else {
            return index.write(mark, Vec::new(), 0);
        };
        let mut batch: Vec<RawEntry> = Vec::new();
        let mut fault = None;
        let source = (Kind::Snapshot, last);
        let visited = snapshot::visit(
            &*self.places.snapshots,
            source,
            Part::All,
            |key, value, at| {
                let value = match key.first() {
                    Some(&kind::PAYLOAD) => {
                        Place::of(PlaceFile::Snapshot(last), at, value).to_value()?
                    }
                    _ => value.to_vec(),
                };
                batch.push((key.to_vec(), Some(value)));
                if batch.len() >= WRITE_BATCH && fault.is_none() {
                    match index.write(mark, std::mem::take(&mut batch), 0) {
                        Ok(next) => mark = next,
                        Err(problem) => fault = Some(problem),
                    }
                }
                Ok(())
            },
        );
        visited.map_err(refused)?;
        match fault {
            Some(fault) => Err(fault),
            None => index.write(Mark { base: last, ..mark }, batch, last),
        }
    }

    /// Takes in what the journal has and the tail has not.
    fn catch_up(&self, index: &Index, mut mark: Mark) -> Result<Mark, Fault> {
        let until = self.tail.catch_up_until();
        if mark.last >= until {
            self.tail.applied(mark.last);
            return Ok(mark);
        }
        let refused = |error: StoreError| Fault::Refused(error.to_string().into());
        let journal = self.places.journal.clone();
        let groups = journal::Groups::new(journal, mark.last + 1, until, journal::EndRule::Trust);
        let mut groups = groups.map_err(refused)?;
        let (mut changes, mut last) = (Vec::new(), mark.last);
        loop {
            let group = groups.next().map_err(refused)?;
            let is_end = group.is_none();
            if let Some(group) = group {
                let records = group.placed().map_err(refused)?;
                let missed = records
                    .into_iter()
                    .zip(group.first..)
                    .filter(|(_, number)| *number > mark.last);
                for (record, number) in missed {
                    changes.extend(record);
                    last = number;
                }
            }
            if changes.len() >= WRITE_BATCH || (is_end && last > mark.last) {
                mark = index.apply(mark, &changes, last)?;
                changes.clear();
                self.tail.applied(last);
            }
            if is_end || self.tail.ending() == Some(Ending::Abandoned) {
                break;
            }
        }
        if self.tail.ending() == Some(Ending::Abandoned) {
            return Ok(mark);
        }
        match mark.last >= until {
            true => Ok(mark),
            false => Err(Fault::Refused("the journal ends too early".into())),
        }
    }

    /// Writes a snapshot when the journal has grown enough, and lets go of what is no longer needed. A snapshot that
    /// fails is tried again later; only a fault of the index is one here.
    fn snapshot_if_due(&mut self, index: &Index, mark: Mark) -> Result<Mark, Fault> {
        let grown = self.tail.journal_bytes();
        if grown < self.snapshot_at {
            return Ok(mark);
        }
        match self.write_snapshot(index, mark) {
            Ok((mark, bytes)) => {
                self.tail.snapshot_written(grown);
                self.snapshot_at = self.options.snapshot_after_bytes.max(bytes);
                Ok(mark)
            }
            Err(CopyError::Index(fault)) => Err(fault),
            Err(CopyError::Disk(error)) => {
                tracing::warn!(
                    error = &error as &dyn Error,
                    "snapshot failed; the journal goes on growing"
                );
                self.snapshot_at = grown + self.options.snapshot_after_bytes / 4;
                snapshot::discard(&*self.places.snapshots);
                Ok(mark)
            }
        }
    }

    /// Copies everything into a snapshot and lets the index refer to the payloads there; returns the snapshot's size.
    fn write_snapshot(&self, index: &Index, mark: Mark) -> Result<(Mark, u64), CopyError> {
        let last = mark.last;
        let mut writer = SnapshotWriter::begin(self.places.snapshots.clone(), last)?;
        index.visit(&kind::STATE, |key, value| {
            Ok::<_, CopyError>(writer.add(key, value).map(drop)?)
        })?;
        let mut moved: Vec<RawEntry> = Vec::new();
        index.visit(&[kind::PAYLOAD], |key, value| {
            let payload = read_place(&self.places, Place::from_value(value)?)?;
            let at = writer.add(key, &payload)?;
            let place = Place::of(PlaceFile::Snapshot(last), at, &payload);
            moved.push((key.to_vec(), Some(place.to_value()?)));
            Ok::<_, CopyError>(())
        })?;
        let bytes = writer.finish(Kind::Snapshot)?;
        let mut mark = mark;
        for part in moved.chunks(WRITE_BATCH) {
            mark = index.write(mark, part.to_vec(), last)?;
        }
        mark = index.write(Mark { base: last, ..mark }, Vec::new(), last)?;
        // What the index referred to before may go only when it durably no longer does.
        index.sync()?;
        history::prune(&self.places, self.options.into())?;
        tracing::info!(record = last, bytes, "snapshot written");
        Ok((mark, bytes))
    }

    /// Writes the image from which the next start reads the state. Without it that start is slower, no more.
    fn write_image(&self, index: &Index, mark: Mark) -> Result<(), Fault> {
        let folder = &self.places.snapshots;
        let write = || -> Result<(), CopyError> {
            if snapshot::list(&**folder, Kind::Image)?.first() == Some(&mark.last) {
                return Ok(());
            }
            let mut writer = SnapshotWriter::begin(folder.clone(), mark.last)?;
            index.visit(&kind::STATE, |key, value| {
                Ok::<_, CopyError>(writer.add(key, value).map(drop)?)
            })?;
            writer.finish(Kind::Image)?;
            snapshot::prune(&**folder, Kind::Image)?;
            Ok(())
        };
        match write() {
            Ok(()) => Ok(()),
            Err(CopyError::Index(fault)) => Err(fault),
            Err(CopyError::Disk(error)) => {
                tracing::warn!(
                    error = &error as &dyn Error,
                    "image of the state is not written"
                );
                snapshot::discard(&**folder);
                Ok(())
            }
        }
    }

    fn failed(&self, problem: &str) -> StoreError {
        StoreError::Index {
            path: self.places.index(),
            problem: problem.into(),
        }
    }
}

/// Why a snapshot could not be made.
#[derive(Debug)]
enum CopyError {
    Index(Fault),
    Disk(StoreError),
}

impl From<Fault> for CopyError {
    fn from(fault: Fault) -> Self {
        Self::Index(fault)
    }
}

impl From<StoreError> for CopyError {
    fn from(error: StoreError) -> Self {
        Self::Disk(error)
    }
}

/// The last record of the newest snapshot that is whole.
fn newest_whole_snapshot(folder: &dyn Folder) -> Result<Option<u64>, StoreError> {
    let mut first_error = None;
    for last in snapshot::list(folder, Kind::Snapshot)? {
        match snapshot::visit(folder, (Kind::Snapshot, last), Part::All, |_, _, _| Ok(())) {
            Ok(_) => return Ok(Some(last)),
            Err(error) => {
                tracing::warn!(error = &error as &dyn Error, "snapshot cannot be used");
                first_error.get_or_insert(error);
            }
        }
    }
    first_error.map_or(Ok(None), Err)
}
