//! Values as bytes: a version, then MessagePack with named fields, so that a field can be added with a default and an
//! old value still reads. Format 1 is all there is; `tests/frozen` holds a store of it.

use std::ops::Range;
use std::sync::Arc;

use capstan_core::{
    Change, Event, Forecasts, Job, Node, Payer, Payload, Reservation, RunTimesKey, Settings,
    Spending,
};
use capstan_types::{JobId, JobPart, ReservationId, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Record, StoreError};

/// Version of the values that this version writes.
const VERSION: u8 = 1;

/// Appends `value` to `buffer`.
pub(crate) fn encode(
    value: &(impl Serialize + ?Sized),
    buffer: &mut Vec<u8>,
) -> Result<(), StoreError> {
    buffer.push(VERSION);
    let mut serializer = rmp_serde::Serializer::new(buffer).with_struct_map();
    value
        .serialize(&mut serializer)
        .map_err(|error| StoreError::Codec {
            action: "write",
            problem: error.to_string().into(),
        })
}

/// Reads a value back.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StoreError> {
    match bytes.split_first() {
        Some((&VERSION, value)) => {
            rmp_serde::from_slice(value).map_err(|error| unreadable(&error.to_string()))
        }
        Some((version, _)) => Err(unreadable(&format!("version {version} is not known"))),
        None => Err(unreadable("it is empty")),
    }
}

/// Where a payload lies in the store's files. The index holds these and not the payloads: sled keeps what was written
/// last in memory, several times what its cache is said to hold, and payloads are most of what is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) file: PlaceFile,
    /// Offset in the file, bytes.
    pub(crate) at: u64,
    /// Length, bytes.
    pub(crate) bytes: u32,
    /// crc32c of it.
    pub(crate) crc: u32,
}

/// A file that holds payloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PlaceFile {
    /// The journal segment of this number.
    Segment(u64),
    /// The snapshot that includes records up to this one.
    Snapshot(u64),
}

impl Place {
    /// The place of `value` at `at` in `file`.
    pub(crate) fn of(file: PlaceFile, at: u64, value: &[u8]) -> Self {
        Self {
            file,
            at,
            bytes: value.len() as u32,
            crc: crc32c::crc32c(value),
        }
    }

    /// As the index keeps it.
    pub(crate) fn to_value(self) -> Result<Vec<u8>, StoreError> {
        let (kind, number) = match self.file {
            PlaceFile::Segment(number) => (0_u8, number),
            PlaceFile::Snapshot(last) => (1, last),
        };
        let mut bytes = Vec::new();
        encode(&(kind, number, self.at, self.bytes, self.crc), &mut bytes)?;
        Ok(bytes)
    }

    /// Reads it back.
    pub(crate) fn from_value(value: &[u8]) -> Result<Self, StoreError> {
        let (kind, number, at, bytes, crc): (u8, u64, u64, u32, u32) = decode(value)?;
        let file = match kind {
            0 => PlaceFile::Segment(number),
            _ => PlaceFile::Snapshot(number),
        };
        Ok(Self {
            file,
            at,
            bytes,
            crc,
        })
    }
}

/// A change to be taken into the index; a payload's with its place.
pub(crate) type Placed = (Change, Option<Place>);

/// A [`Record`] as it is written: its payloads are left empty, because they stand before the records.
#[derive(Serialize)]
struct WrittenRecord<'a> {
    at: Timestamp,
    event: &'a Event,
    changes: Vec<Change>,
}

/// The part of a [`Record`] that makes the state; the event is passed over unread.
#[derive(Deserialize)]
pub(crate) struct Changed {
    pub(crate) changes: Vec<Change>,
}

/// The part of a [`Record`] that says when it was; all else is passed over unread.
#[derive(Deserialize)]
struct Timed {
    at: Timestamp,
}

/// When each record of a group was decided.
pub(crate) fn decode_times(body: &[u8]) -> Result<Vec<Timestamp>, StoreError> {
    let records: Vec<Timed> = decode(group_parts(body)?.1)?;
    Ok(records.into_iter().map(|record| record.at).collect())
}

/// Appends a group to `buffer`: the length of the payloads, each payload after its length, the records. Returns where
/// in the buffer the payloads are.
pub(crate) fn encode_group(
    records: &[Record],
    buffer: &mut Vec<u8>,
) -> Result<Vec<Range<usize>>, StoreError> {
    let begin = buffer.len();
    buffer.extend_from_slice(&[0; 4]);
    let mut ranges = Vec::new();
    let empty = Arc::new(Payload::default());
    let mut written = Vec::with_capacity(records.len());
    for record in records {
        let mut changes = record.changes.clone();
        for change in &mut changes {
            if let Change::PutPayload(_, payload) = change {
                let payload = std::mem::replace(payload, empty.clone());
                let start = buffer.len() + 4;
                buffer.extend_from_slice(&[0; 4]);
                encode(&*payload, buffer)?;
                let length = (buffer.len() - start) as u32;
                buffer[start - 4..start].copy_from_slice(&length.to_le_bytes());
                ranges.push(start..buffer.len());
            }
        }
        let Record { at, event, .. } = record;
        written.push(WrittenRecord {
            at: *at,
            event,
            changes,
        });
    }
    let length = (buffer.len() - begin - 4) as u32;
    buffer[begin..begin + 4].copy_from_slice(&length.to_le_bytes());
    encode(&written, buffer)?;
    Ok(ranges)
}

/// Where in the body of a group its payloads are, and where its records begin.
fn split_group(body: &[u8]) -> Option<(Vec<Range<usize>>, usize)> {
    let length = |at: usize| Some(u32::from_le_bytes(*body.get(at..)?.first_chunk()?) as usize);
    let records = 4 + length(0)?;
    let (mut ranges, mut at) = (Vec::new(), 4);
    while at < records {
        let start = at + 4;
        at = start + length(at)?;
        ranges.push(start..at);
    }
    (at == records && at <= body.len()).then_some((ranges, at))
}

fn group_parts(body: &[u8]) -> Result<(Vec<Range<usize>>, &[u8]), StoreError> {
    let parts = split_group(body).map(|(ranges, records)| (ranges, &body[records..]));
    parts.ok_or_else(|| unreadable("a group is cut short"))
}

/// Reads the changes of a group; payloads come back empty.
pub(crate) fn decode_changes(body: &[u8]) -> Result<Vec<Changed>, StoreError> {
    decode(group_parts(body)?.1)
}

/// A change, and where in the body of its group its payload is.
pub(crate) type Ranged = (Change, Option<Range<usize>>);

/// Reads the changes of each record of a group; payloads come back empty, with their ranges in the body.
pub(crate) fn decode_ranged(body: &[u8]) -> Result<Vec<Vec<Ranged>>, StoreError> {
    let (ranges, records) = group_parts(body)?;
    let mut ranges = ranges.into_iter();
    let records: Vec<Changed> = decode(records)?;
    let mut range = |change: Change| match on_payload(&change) {
        OnPayload::Put(..) => {
            let range = ranges
                .next()
                .ok_or_else(|| unreadable("a payload is missing"))?;
            Ok((change, Some(range)))
        }
        OnPayload::Remove(_) | OnPayload::Nothing => Ok((change, None)),
    };
    let records = records.into_iter();
    let ranged = records.map(|record| record.changes.into_iter().map(&mut range).collect());
    ranged.collect()
}

/// Reads a group, payloads and all.
pub(crate) fn decode_records(body: &[u8]) -> Result<Vec<Record>, StoreError> {
    let (ranges, records) = group_parts(body)?;
    let mut ranges = ranges.into_iter();
    let mut records: Vec<Record> = decode(records)?;
    for change in records.iter_mut().flat_map(|record| &mut record.changes) {
        if let Change::PutPayload(_, payload) = change {
            let range = ranges
                .next()
                .ok_or_else(|| unreadable("a payload is missing"))?;
            *payload = decode_payload(&body[range])?;
        }
    }
    Ok(records)
}

fn unreadable(problem: &str) -> StoreError {
    StoreError::Codec {
        action: "read",
        problem: problem.into(),
    }
}

/// What a change does to payloads.
#[derive(Clone, Copy, Debug)]
pub(crate) enum OnPayload<'a> {
    Put(JobId, &'a Arc<Payload>),
    Remove(JobId),
    Nothing,
}

/// What `change` does to payloads.
pub(crate) const fn on_payload(change: &Change) -> OnPayload<'_> {
    match change {
        Change::PutPayload(id, payload) => OnPayload::Put(*id, payload),
        Change::RemoveJob(id) => OnPayload::Remove(*id),
        Change::PutJob(_)
        | Change::PutNode(_)
        | Change::RemoveNode(_)
        | Change::PutSettings(_)
        | Change::SetNextSeq(_)
        | Change::SetNextAttempt(_)
        | Change::PutSpending(_)
        | Change::RemoveSpending(_)
        | Change::PutRunTimes(..)
        | Change::RemoveRunTimes(_)
        | Change::PutReservation(_)
        | Change::RemoveReservation(_)
        | Change::PutForecasts(_) => OnPayload::Nothing,
    }
}

/// First byte of the keys of the index, one per kind of value.
pub(crate) mod kind {
    pub(crate) const COUNTER: u8 = b'c';
    pub(crate) const FORECASTS: u8 = b'f';
    pub(crate) const JOB: u8 = b'j';
    pub(crate) const MARK: u8 = b'm';
    pub(crate) const NODE: u8 = b'n';
    pub(crate) const PAYLOAD: u8 = b'p';
    pub(crate) const RESERVATION: u8 = b'r';
    pub(crate) const SETTINGS: u8 = b's';
    pub(crate) const RUN_TIMES: u8 = b't';
    pub(crate) const SPENDING: u8 = b'u';
    /// Everything that makes the state, in the order in which it is loaded.
    pub(crate) const STATE: [u8; 8] = [
        COUNTER,
        SETTINGS,
        NODE,
        JOB,
        SPENDING,
        RUN_TIMES,
        RESERVATION,
        FORECASTS,
    ];
}

const NEXT_SEQ: &[u8] = b"cseq";
const NEXT_ATTEMPT: &[u8] = b"cattempt";
const SETTINGS: &[u8] = b"s";

/// The key of a job's record or payload. Orders as ids do.
pub(crate) fn job_key(kind: u8, id: JobId) -> Vec<u8> {
    let (part, index) = match id.part {
        JobPart::Whole => (0, 0),
        JobPart::Array => (1, 0),
        JobPart::Member(index) => (2, index),
    };
    let mut key = vec![kind];
    key.extend_from_slice(&id.seq.to_be_bytes());
    key.push(part);
    key.extend_from_slice(&index.to_be_bytes());
    key
}

/// The key of what a payer has used. The length keeps "a" of "bc" apart from "ab" of "c".
fn payer_key(payer: &Payer) -> Vec<u8> {
    let length = (payer.group.len() as u32).to_be_bytes();
    let parts: [&[u8]; 4] = [
        &[kind::SPENDING],
        &length,
        payer.group.as_bytes(),
        payer.user.as_bytes(),
    ];
    parts.concat()
}

/// The key of run times. The lengths keep the parts apart.
fn run_times_key(key: &RunTimesKey) -> Vec<u8> {
    let length = |text: &str| (text.len() as u32).to_be_bytes();
    let (user, name) = (length(&key.user), length(&key.name));
    let size = key.size.to_be_bytes();
    let parts: [&[u8]; 6] = [
        &[kind::RUN_TIMES],
        &user,
        key.user.as_bytes(),
        &name,
        key.name.as_bytes(),
        &size,
    ];
    parts.concat()
}

/// The key of a reservation.
fn reservation_key(id: ReservationId) -> Vec<u8> {
    let name = id.to_string();
    [&[kind::RESERVATION], name.as_bytes()].concat()
}

/// The keys that a change sets (`true`) or removes.
pub(crate) fn keys(change: &Change) -> Vec<(Vec<u8>, bool)> {
    let node_key = |name: &str| [&[kind::NODE], name.as_bytes()].concat();
    match change {
        Change::PutJob(job) => vec![(job_key(kind::JOB, job.id), true)],
        Change::RemoveJob(id) => {
            let kinds = [kind::JOB, kind::PAYLOAD];
            kinds.map(|kind| (job_key(kind, *id), false)).into()
        }
        Change::PutPayload(id, _) => vec![(job_key(kind::PAYLOAD, *id), true)],
        Change::PutNode(node) => vec![(node_key(node.name.as_str()), true)],
        Change::RemoveNode(name) => vec![(node_key(name.as_str()), false)],
        Change::PutSettings(_) => vec![(SETTINGS.to_vec(), true)],
        Change::SetNextSeq(_) => vec![(NEXT_SEQ.to_vec(), true)],
        Change::SetNextAttempt(_) => vec![(NEXT_ATTEMPT.to_vec(), true)],
        Change::PutSpending(spending) => vec![(payer_key(&spending.payer), true)],
        Change::RemoveSpending(payer) => vec![(payer_key(payer), false)],
        Change::PutRunTimes(key, _) => vec![(run_times_key(key), true)],
        Change::RemoveRunTimes(key) => vec![(run_times_key(key), false)],
        Change::PutReservation(made) => vec![(reservation_key(made.id), true)],
        Change::RemoveReservation(id) => vec![(reservation_key(*id), false)],
        Change::PutForecasts(_) => vec![(vec![kind::FORECASTS], true)],
    }
}

/// The value that a change puts; `None` for one that removes.
pub(crate) fn value((change, place): &Placed) -> Result<Option<Vec<u8>>, StoreError> {
    let mut bytes = Vec::new();
    match change {
        Change::PutJob(job) => encode(&**job, &mut bytes)?,
        Change::PutPayload(..) => {
            let place = place.ok_or_else(|| unreadable("a payload has no place"))?;
            return place.to_value().map(Some);
        }
        Change::PutNode(node) => encode(&**node, &mut bytes)?,
        Change::PutSettings(settings) => encode(&**settings, &mut bytes)?,
        Change::SetNextSeq(next) | Change::SetNextAttempt(next) => encode(next, &mut bytes)?,
        Change::PutSpending(spending) => encode(&**spending, &mut bytes)?,
        Change::PutRunTimes(key, times) => encode(&(key, times), &mut bytes)?,
        Change::PutReservation(made) => encode(&**made, &mut bytes)?,
        Change::PutForecasts(forecasts) => encode(&**forecasts, &mut bytes)?,
        Change::RemoveJob(_)
        | Change::RemoveNode(_)
        | Change::RemoveSpending(_)
        | Change::RemoveRunTimes(_)
        | Change::RemoveReservation(_) => return Ok(None),
    }
    Ok(Some(bytes))
}

/// The change that made the entry `key` of the state; `None` for entries that are no part of it.
pub(crate) fn change_of(key: &[u8], value: &[u8]) -> Result<Option<Change>, StoreError> {
    Ok(Some(match *key.first().unwrap_or(&0) {
        kind::JOB => Change::PutJob(Arc::new(decode::<Job>(value)?)),
        kind::NODE => Change::PutNode(Arc::new(decode::<Node>(value)?)),
        kind::SETTINGS => Change::PutSettings(Arc::new(decode::<Settings>(value)?)),
        kind::RUN_TIMES => {
            let (key, times) = decode(value)?;
            Change::PutRunTimes(key, times)
        }
        kind::RESERVATION => Change::PutReservation(Arc::new(decode::<Reservation>(value)?)),
        kind::FORECASTS => Change::PutForecasts(Arc::new(decode::<Forecasts>(value)?)),
        kind::SPENDING => Change::PutSpending(Arc::new(decode::<Spending>(value)?)),
        kind::COUNTER if key == NEXT_SEQ => Change::SetNextSeq(decode(value)?),
        kind::COUNTER if key == NEXT_ATTEMPT => Change::SetNextAttempt(decode(value)?),
        _ => return Ok(None),
    }))
}

/// Reads a payload.
pub(crate) fn decode_payload(value: &[u8]) -> Result<Arc<Payload>, StoreError> {
    Ok(Arc::new(decode(value)?))
}

#[cfg(test)]
mod tests {
    use capstan_types::{ArrayRequest, IndexSet};

    use super::*;

    fn again(set: &IndexSet) -> IndexSet {
        let mut bytes = Vec::new();
        encode(set, &mut bytes).unwrap();
        decode(&bytes).unwrap()
    }

    /// A set without steps is stored as the list of ranges that it was before there were any.
    #[test]
    fn sets_of_indices_come_back_with_and_without_steps() {
        let stepped = ArrayRequest::parse_stepped("10-99999:7").unwrap().indices;
        let plain = ArrayRequest::parse("0-3,7").unwrap().indices;
        for set in [IndexSet::default(), plain.clone(), stepped] {
            assert_eq!(again(&set), set);
        }
        let mut bytes = Vec::new();
        encode(&vec![(0_u32, 3_u32), (7, 7)], &mut bytes).unwrap();
        assert_eq!(decode::<IndexSet>(&bytes).unwrap(), plain);
    }

    /// "a" of group "bc" is not "ab" of group "c".
    #[test]
    fn what_payers_have_used_comes_back_under_a_key_of_its_own() {
        let of = |group: &str, user: &str| Payer {
            group: group.into(),
            user: user.into(),
        };
        let mut spending = Spending::none(of("bc", "a"));
        (spending.used, spending.at) = (42, Timestamp(7));
        let change = Change::PutSpending(Arc::new(spending));
        let (key, is_put) = keys(&change).remove(0);
        assert!(is_put && kind::STATE.contains(&key[0]));
        let bytes = value(&(change.clone(), None)).unwrap().unwrap();
        assert_eq!(change_of(&key, &bytes).unwrap(), Some(change));
        let other = keys(&Change::RemoveSpending(of("c", "ab"))).remove(0);
        assert!(other.0 != key && !other.1);
        let same = keys(&Change::RemoveSpending(of("bc", "a"))).remove(0);
        assert_eq!(same, (key, false));
    }
}
