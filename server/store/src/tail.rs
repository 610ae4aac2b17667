//! What is committed but not yet in the index: the writer puts it here, the follower takes it from here, and readers
//! find young payloads here. Also says how far the index is to be trusted.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use capstan_core::Payload;
use capstan_types::JobId;

use crate::Record;
use crate::codec::{self, OnPayload, Placed};
use crate::index::Index;
use crate::journal::Stored;

/// The writer waits when so many bytes wait for the index.
pub(crate) const TAIL_BYTES_MAX: u64 = 8 << 20;
/// It waits no longer than this: an index that hangs must not stop the server.
const ROOM_WAIT_MS_MAX: u64 = 10_000;
/// The follower takes at most about so many bytes at once.
const BATCH_BYTES: u64 = 512 << 10;
/// How long the follower lets changes gather: most jobs change several times in a row, and the index needs only the
/// last of it.
const GATHER_MS: u64 = 50;
/// The index is handed to the system at most this long after a change, so that a restart after a kill replays little.
const FLUSH_MS: u64 = 500;

/// How the index stands to the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The index and the tail together have everything.
    Following,
    /// The index lacks the records after the first number, up to the second; the tail has all after that.
    CatchingUp(u64, u64),
    /// There is no index to use, and the tail gathers nothing.
    Down,
}

/// The tail, shared by writer, follower and readers. The lock is never held while a disk is waited for.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    state: Mutex<TailState>,
    /// The follower waits here for work.
    work: Condvar,
    /// The writer waits here for room.
    room: Condvar,
}

#[derive(Debug)]
struct TailState {
    entries: VecDeque<Entry>,
    bytes: u64,
    payloads: HashMap<JobId, Young>,
    committed: u64,
    applied: u64,
    journal_bytes: u64,
    snapshots: u64,
    phase: Phase,
    index: Option<Arc<Index>>,
    ending: Option<Ending>,
}

/// One group.
#[derive(Debug)]
struct Entry {
    last: u64,
    bytes: u64,
    changes: Vec<Placed>,
}

/// A payload put (or removed) by record `last`.
#[derive(Debug)]
struct Young {
    last: u64,
    payload: Option<Arc<Payload>>,
}

/// How the follower ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// When everything is in the index.
    Clean,
    /// At once.
    Abandoned,
}

/// What the follower is to do next.
#[derive(Debug)]
pub(crate) enum Work {
    /// Take in these changes, up to this record.
    Apply(Vec<Placed>, u64),
    /// Nothing has come for a while: flush.
    Flush,
    /// The tail has let go of changes that the index lacks: read them from the journal.
    CatchUp,
    /// Come to an end.
    End(Ending),
}

/// What a reader finds here.
#[derive(Debug)]
pub(crate) enum Sight {
    /// The payload, or that it is removed.
    Young(Option<Arc<Payload>>),
    /// It is older: where to look.
    Older {
        phase: Phase,
        index: Option<Arc<Index>>,
        committed: u64,
    },
}

impl Default for TailState {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            bytes: 0,
            payloads: HashMap::new(),
            committed: 0,
            applied: 0,
            journal_bytes: 0,
            snapshots: 0,
            phase: Phase::Down,
            index: None,
            ending: None,
        }
    }
}

impl TailState {
    const fn is_crowded(&self) -> bool {
        self.bytes > TAIL_BYTES_MAX
    }

    fn let_go(&mut self) {
        self.entries = VecDeque::new();
        self.payloads = HashMap::new();
        self.bytes = 0;
    }
}

impl Tail {
    /// A tail behind record `committed`, in a journal of `journal_bytes` bytes since the last snapshot.
    pub(crate) fn new(committed: u64, journal_bytes: u64) -> Self {
        let tail = Self::default();
        let mut state = tail.lock();
        state.committed = committed;
        state.journal_bytes = journal_bytes;
        drop(state);
        tail
    }

    /// Makes room for another group: waits for the follower where that keeps up, and otherwise lets go of what the
    /// journal has as well.
    pub(crate) fn wait_for_room(&self) {
        let is_crowded =
            |state: &mut TailState| state.is_crowded() && state.phase == Phase::Following;
        let timeout = Duration::from_millis(ROOM_WAIT_MS_MAX);
        let waited = self
            .room
            .wait_timeout_while(self.lock(), timeout, is_crowded);
        let (mut state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            tracing::warn!("index is too far behind and will catch up from the journal");
        }
        if state.is_crowded() {
            state.let_go();
            state.phase = Phase::CatchingUp(state.applied, state.committed);
        }
    }

    /// Takes a committed group in, whose last record has number `last`.
    pub(crate) fn push(&self, records: &[Record], stored: Stored, last: u64) {
        let Stored { bytes, places } = stored;
        let mut places = places.into_iter();
        let mut state = self.lock();
        state.committed = last;
        state.journal_bytes += bytes;
        if state.phase == Phase::Down {
            return;
        }
        let mut changes = Vec::new();
        for change in records.iter().flat_map(|record| &record.changes) {
            let (young, place) = match codec::on_payload(change) {
                OnPayload::Put(id, payload) => (Some((id, Some(payload.clone()))), places.next()),
                OnPayload::Remove(id) => (Some((id, None)), None),
                OnPayload::Nothing => (None, None),
            };
            if let Some((id, payload)) = young {
                state.payloads.insert(id, Young { last, payload });
            }
            changes.push((change.clone(), place));
        }
        let is_first = state.entries.is_empty();
        state.entries.push_back(Entry {
            last,
            bytes,
            changes,
        });
        state.bytes += bytes;
        if is_first || state.bytes >= BATCH_BYTES {
            self.work.notify_one();
        }
    }

    /// Asks the follower to end.
    pub(crate) fn end(&self, ending: Ending) {
        self.lock().ending = Some(ending);
        self.work.notify_one();
    }

    /// What is known of the payload of `id`.
    pub(crate) fn sight(&self, id: JobId) -> Sight {
        let state = self.lock();
        match state.payloads.get(&id) {
            Some(young) => Sight::Young(young.payload.clone()),
            None => Sight::Older {
                phase: state.phase,
                index: state.index.clone(),
                committed: state.committed,
            },
        }
    }

    /// How many records the index lacks, and how many snapshots were written.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let state = self.lock();
        (
            state.committed - state.applied.min(state.committed),
            state.snapshots,
        )
    }

    /// Waits for work; `is_dirty` when something is not flushed yet.
    pub(crate) fn next_work(&self, is_dirty: bool) -> Work {
        let mut state = self.lock();
        while state.entries.is_empty() {
            // The order matters: an abandoned store catches up with nothing, a clean end waits for everything.
            match (state.ending, state.phase) {
                (Some(Ending::Abandoned), _) => return Work::End(Ending::Abandoned),
                (_, Phase::CatchingUp(..)) => return Work::CatchUp,
                (Some(Ending::Clean), Phase::Following | Phase::Down) => {
                    return Work::End(Ending::Clean);
                }
                (None, Phase::Following | Phase::Down) => {}
            }
            if !is_dirty {
                state = self
                    .work
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let waited = self
                .work
                .wait_timeout(state, Duration::from_millis(FLUSH_MS));
            let (after, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = after;
            if timeout.timed_out() && state.entries.is_empty() {
                return Work::Flush;
            }
        }
        let gather = Duration::from_millis(GATHER_MS);
        let is_gathering =
            |state: &mut TailState| state.bytes < BATCH_BYTES && state.ending.is_none();
        let gathered = self.work.wait_timeout_while(state, gather, is_gathering);
        let (mut state, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        if state.ending == Some(Ending::Abandoned) {
            return Work::End(Ending::Abandoned);
        }
        if let Phase::CatchingUp(..) = state.phase {
            return Work::CatchUp;
        }
        let (mut changes, mut last, mut bytes) = (Vec::new(), 0, 0);
        while let Some(entry) = state.entries.pop_front() {
            changes.extend(entry.changes);
            last = entry.last;
            bytes += entry.bytes;
            if bytes >= BATCH_BYTES {
                break;
            }
        }
        state.bytes -= bytes;
        self.room.notify_all();
        Work::Apply(changes, last)
    }

    /// Waits for `timeout`, or less when the end comes.
    pub(crate) fn rest(&self, timeout: Duration) -> Option<Ending> {
        let waited = self
            .work
            .wait_timeout_while(self.lock(), timeout, |state| state.ending.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.ending
    }

    /// The end asked for, if any.
    pub(crate) fn ending(&self) -> Option<Ending> {
        self.lock().ending
    }

    /// The index has followed up to record `last`.
    pub(crate) fn applied(&self, last: u64) {
        let mut state = self.lock();
        if state.phase == Phase::Down {
            return;
        }
        state.applied = last;
        state.payloads.retain(|_, young| young.last > last);
        if state.payloads.is_empty() {
            state.payloads.shrink_to(1024);
        }
        if let Phase::CatchingUp(_, until) = state.phase {
            state.phase = match last >= until {
                true => Phase::Following,
                false => Phase::CatchingUp(last, until),
            };
        }
    }

    /// From now on changes gather here for `index`, which has followed up to record `last`.
    pub(crate) fn raise(&self, index: Arc<Index>, last: u64) {
        let mut state = self.lock();
        state.index = Some(index);
        state.applied = last;
        state.phase = match state.committed {
            committed if committed == last => Phase::Following,
            committed => Phase::CatchingUp(last, committed),
        };
    }

    /// The last record that the index must read from the journal; 0 for none.
    pub(crate) fn catch_up_until(&self) -> u64 {
        match self.lock().phase {
            Phase::CatchingUp(_, until) => until,
            Phase::Following | Phase::Down => 0,
        }
    }

    /// The index cannot be used.
    pub(crate) fn lower(&self) {
        let mut state = self.lock();
        state.phase = Phase::Down;
        state.index = None;
        state.let_go();
        self.room.notify_all();
    }

    /// How far the journal has grown since the last snapshot, in bytes.
    pub(crate) fn journal_bytes(&self) -> u64 {
        self.lock().journal_bytes
    }

    /// A snapshot was written when the journal had grown by `bytes`.
    pub(crate) fn snapshot_written(&self, bytes: u64) {
        let mut state = self.lock();
        state.journal_bytes -= bytes;
        state.snapshots += 1;
    }

    fn lock(&self) -> MutexGuard<'_, TailState> {
        // Every change in here is whole before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use capstan_core::{Change, Event, Payload};
    use capstan_types::{JobId, Timestamp};

    use super::{Ending, Phase, Sight, TAIL_BYTES_MAX, Tail, Work};
    use crate::Record;
    use crate::codec::{Place, PlaceFile};
    use crate::index::Index;
    use crate::journal::Stored;

    fn push(tail: &Tail, number: u64, bytes: u64) {
        let change = Change::PutPayload(JobId::whole(number), Arc::new(Payload::default()));
        let record = Record {
            at: Timestamp(number),
            event: Event::Tick,
            changes: vec![change],
        };
        let places = vec![Place::of(PlaceFile::Segment(1), 0, b"")];
        tail.push(&[record], Stored { bytes, places }, number);
    }

    fn index(dir: &tempfile::TempDir) -> Arc<Index> {
        Arc::new(Index::create(&dir.path().join("index"), 1 << 20).unwrap())
    }

    fn phase(tail: &Tail) -> Phase {
        match tail.sight(JobId::whole(99)) {
            Sight::Older { phase, .. } => phase,
            Sight::Young(_) => unreachable!("nobody put it"),
        }
    }

    #[test]
    fn changes_gather_while_the_index_catches_up_and_are_given_out_after() {
        let dir = tempfile::tempdir().unwrap();
        let tail = Tail::new(5, 0);
        tail.raise(index(&dir), 3);
        assert_eq!(
            (phase(&tail), tail.catch_up_until()),
            (Phase::CatchingUp(3, 5), 5)
        );
        push(&tail, 6, 100);
        assert!(matches!(tail.next_work(false), Work::CatchUp));
        assert!(matches!(tail.sight(JobId::whole(6)), Sight::Young(Some(_))));
        tail.applied(5);
        assert_eq!(phase(&tail), Phase::Following);
        assert!(matches!(tail.next_work(false), Work::Apply(changes, 6) if changes.len() == 1));
        tail.applied(6);
        assert!(matches!(tail.sight(JobId::whole(6)), Sight::Older { .. }));
    }

    #[test]
    fn crowded_tail_of_a_late_index_is_let_go_without_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let tail = Tail::new(5, 0);
        tail.raise(index(&dir), 3);
        push(&tail, 6, TAIL_BYTES_MAX + 1);
        tail.wait_for_room();
        assert_eq!(phase(&tail), Phase::CatchingUp(3, 6));
        push(&tail, 7, 1);
        assert!(matches!(tail.next_work(false), Work::CatchUp));
        tail.applied(6);
        assert!(matches!(tail.next_work(false), Work::Apply(_, 7)));
    }

    #[test]
    fn abandoned_tail_ends_at_once_and_a_clean_end_catches_up_first() {
        let dir = tempfile::tempdir().unwrap();
        let tail = Tail::new(5, 0);
        tail.raise(index(&dir), 3);
        tail.end(Ending::Clean);
        assert!(matches!(tail.next_work(false), Work::CatchUp));
        tail.end(Ending::Abandoned);
        assert!(matches!(
            tail.next_work(false),
            Work::End(Ending::Abandoned)
        ));
        push(&tail, 6, 1);
        assert!(matches!(
            tail.next_work(false),
            Work::End(Ending::Abandoned)
        ));
    }

    #[test]
    fn tail_without_an_index_gathers_nothing() {
        let tail = Tail::new(0, 0);
        push(&tail, 1, TAIL_BYTES_MAX + 1);
        tail.wait_for_room();
        assert_eq!((phase(&tail), tail.counts().0), (Phase::Down, 1));
    }
}
