//! How far back the past can be replayed. A recovery needs the newest snapshots and the journal behind them; what is older
//! is history, kept for a time and up to a size, and given up when the disk is full. Decides what of it goes; what a
//! recovery needs never does.

use crate::codec;
use crate::frame::FileHeader;
use crate::journal::{self, EndRule, Groups, Segment};
use crate::places::Places;
use crate::snapshot::{self, Kind, SNAPSHOTS_KEPT};
use crate::{Options, StoreError};
use capstan_types::Timestamp;

/// How much of it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Keep {
    /// Seconds.
    pub(crate) secs: u64,
    /// Bytes.
    pub(crate) bytes_max: u64,
}

impl From<Options> for Keep {
    fn from(options: Options) -> Self {
        Self {
            secs: options.history_secs,
            bytes_max: options.history_bytes_max,
        }
    }
}

/// Removes what neither a recovery nor the history needs; returns how many files that were.
pub(crate) fn prune(places: &Places, keep: Keep) -> Result<usize, StoreError> {
    let folder = &*places.snapshots;
    let snapshots = snapshot::list(folder, Kind::Snapshot)?;
    let Some(needed) = snapshots.iter().take(SNAPSHOTS_KEPT).next_back().copied() else {
        return Ok(0);
    };
    let segments = journal::segments(&*places.journal)?;
    let oldest = oldest_kept(places, (&snapshots, &segments), needed, keep)?;
    let mut removed = 0;
    for last in snapshots.iter().filter(|last| **last < oldest) {
        let name = Kind::Snapshot.name(*last);
        let gone = folder.remove(&name);
        removed += is_gone(gone).map_err(StoreError::io("remove", &folder.path().join(&name)))?;
    }
    for segment in behind(&segments, oldest) {
        let name = journal::name(segment.number);
        let gone = places.journal.remove(&name);
        let path = places.journal.path().join(&name);
        removed += is_gone(gone).map_err(StoreError::io("remove", &path))?;
    }
    Ok(removed)
}

/// Gives the whole history up; whether that has made room.
pub(crate) fn give_up(places: &Places) -> bool {
    let nothing = Keep {
        secs: 0,
        bytes_max: 0,
    };
    match prune(places, nothing) {
        Ok(0) => false,
        Ok(files) => {
            tracing::warn!(
                files,
                "the disk is full: the history of the journal is given up"
            );
            true
        }
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "the history of the journal cannot be removed");
            false
        }
    }
}

/// 1 for a file that was removed, 0 for one that another thread was quicker to remove.
fn is_gone(result: std::io::Result<()>) -> std::io::Result<usize> {
    match result {
        Ok(()) => Ok(1),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

/// The segments that hold nothing behind record `last`.
fn behind(segments: &[Segment], last: u64) -> impl Iterator<Item = &Segment> {
    let pairs = segments.windows(2);
    let old = pairs.take_while(move |pair| pair[1].header.first <= last.saturating_add(1));
    old.map(|pair| &pair[0])
}

/// The last record of the oldest snapshot that is kept; 0 for the state before the first record of all.
fn oldest_kept(
    places: &Places,
    (snapshots, segments): (&[u64], &[Segment]),
    needed: u64,
    keep: Keep,
) -> Result<u64, StoreError> {
    let begins = segments.first().map_or(u64::MAX, |one| one.header.first);
    let beginning = (begins == 1).then_some(0);
    let older = snapshots.iter().copied().filter(|last| *last < needed);
    let older = older.filter(|last| begins <= last.saturating_add(1));
    if keep.secs == 0 {
        return Ok(needed);
    }
    let Some(newest) = newest_time(places, segments)? else {
        return Ok(needed);
    };
    let cutoff = Timestamp(newest.0.saturating_sub(keep.secs.saturating_mul(1000)));
    let (mut oldest, mut bytes) = (needed, 0_u64);
    for candidate in older.chain(beginning) {
        // Behind `oldest` lies all of the time that is wanted.
        if until(places, segments, oldest)?.is_some_and(|time| time <= cutoff) {
            break;
        }
        let own = behind(segments, oldest).map(|segment| segment.size);
        let beyond = behind(segments, candidate).map(|segment| segment.size);
        let journal = own.sum::<u64>().saturating_sub(beyond.sum());
        bytes += journal + snapshot_bytes(places, candidate);
        if bytes > keep.bytes_max {
            break;
        }
        oldest = candidate;
    }
    Ok(oldest)
}

/// When the first record of the last segment was decided that has any: one that was just begun has none yet.
fn newest_time(places: &Places, segments: &[Segment]) -> Result<Option<Timestamp>, StoreError> {
    for segment in segments.iter().rev() {
        let time = first_time(places, segment)?;
        if time.is_some() {
            return Ok(time);
        }
    }
    Ok(None)
}

/// A time that is not before record `last`, and not long after it: that of the next segment's first record; `None` when
/// there is none.
fn until(
    places: &Places,
    segments: &[Segment],
    last: u64,
) -> Result<Option<Timestamp>, StoreError> {
    let mut segments = segments.iter();
    match segments.find(|segment| segment.header.first > last) {
        Some(segment) => first_time(places, segment),
        None => Ok(None),
    }
}

/// When the first record of a segment was decided; `None` for an empty one.
fn first_time(places: &Places, segment: &Segment) -> Result<Option<Timestamp>, StoreError> {
    let FileHeader { first, .. } = segment.header;
    time_of(places.journal.clone(), first)
}

/// When record `number` was decided; `None` when it is not there yet.
pub(crate) fn time_of(
    journal: std::sync::Arc<dyn crate::medium::Folder>,
    number: u64,
) -> Result<Option<Timestamp>, StoreError> {
    let mut groups = Groups::new(journal, number, number, EndRule::Trust)?;
    let Some(group) = groups.next()? else {
        return Ok(None);
    };
    let times = codec::decode_times(group.body)?;
    let at = number.saturating_sub(group.first) as usize;
    Ok(times.get(at).copied())
}

/// The size of a snapshot; 0 when it is not there.
fn snapshot_bytes(places: &Places, last: u64) -> u64 {
    let opened = places.snapshots.open(&Kind::Snapshot.name(last));
    opened.and_then(|file| file.size()).unwrap_or(0)
}
