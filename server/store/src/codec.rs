//! Values as bytes: a version, then MessagePack with named fields, so that a field can be added with a default and an
//! old value still reads. Format 1 is all there is; `tests/frozen` holds a store of it.

use std::sync::Arc;

use capstan_core::{Change, Job, Node, Payload, Settings};
use capstan_types::{JobId, JobPart};
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
    let fail = |problem: String| StoreError::Codec {
        action: "read",
        problem: problem.into(),
    };
    match bytes.split_first() {
        Some((&VERSION, value)) => {
            rmp_serde::from_slice(value).map_err(|error| fail(error.to_string()))
        }
        Some((version, _)) => Err(fail(format!("version {version} is not known"))),
        None => Err(fail("it is empty".to_owned())),
    }
}

/// The part of a [`Record`] that makes the state; the event is passed over unread.
#[derive(Deserialize)]
pub(crate) struct Changed {
    pub(crate) changes: Vec<Change>,
}

/// Reads the changes of a group.
pub(crate) fn decode_changes(body: &[u8]) -> Result<Vec<Changed>, StoreError> {
    decode(body)
}

/// Reads a group.
pub(crate) fn decode_records(body: &[u8]) -> Result<Vec<Record>, StoreError> {
    decode(body)
}

/// First byte of the keys of the index, one per kind of value.
pub(crate) mod kind {
    pub(crate) const COUNTER: u8 = b'c';
    pub(crate) const JOB: u8 = b'j';
    pub(crate) const MARK: u8 = b'm';
    pub(crate) const NODE: u8 = b'n';
    pub(crate) const PAYLOAD: u8 = b'p';
    pub(crate) const SETTINGS: u8 = b's';
    /// Everything that makes the state, in the order in which it is loaded.
    pub(crate) const STATE: [u8; 4] = [COUNTER, SETTINGS, NODE, JOB];
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
    }
}

/// The value that a change puts; `None` for one that removes.
pub(crate) fn value(change: &Change) -> Result<Option<Vec<u8>>, StoreError> {
    let mut bytes = Vec::new();
    match change {
        Change::PutJob(job) => encode(&**job, &mut bytes)?,
        Change::PutPayload(_, payload) => encode(&**payload, &mut bytes)?,
        Change::PutNode(node) => encode(&**node, &mut bytes)?,
        Change::PutSettings(settings) => encode(&**settings, &mut bytes)?,
        Change::SetNextSeq(next) | Change::SetNextAttempt(next) => encode(next, &mut bytes)?,
        Change::RemoveJob(_) | Change::RemoveNode(_) => return Ok(None),
    }
    Ok(Some(bytes))
}

/// The change that made the entry `key` of the state; `None` for entries that are no part of it.
pub(crate) fn change_of(key: &[u8], value: &[u8]) -> Result<Option<Change>, StoreError> {
    Ok(Some(match *key.first().unwrap_or(&0) {
        kind::JOB => Change::PutJob(Arc::new(decode::<Job>(value)?)),
        kind::NODE => Change::PutNode(Arc::new(decode::<Node>(value)?)),
        kind::SETTINGS => Change::PutSettings(Arc::new(decode::<Settings>(value)?)),
        kind::COUNTER if key == NEXT_SEQ => Change::SetNextSeq(decode(value)?),
        kind::COUNTER if key == NEXT_ATTEMPT => Change::SetNextAttempt(decode(value)?),
        _ => return Ok(None),
    }))
}

/// Reads a payload.
pub(crate) fn decode_payload(value: &[u8]) -> Result<Arc<Payload>, StoreError> {
    Ok(Arc::new(decode(value)?))
}
