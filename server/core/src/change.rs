//! What is stored. A state is exactly the sum of its changes.

use std::sync::Arc;

use capstan_types::{Env, JobId, NodeName, ReservationId};
use serde::{Deserialize, Serialize};

use crate::{Forecasts, Job, Node, Payer, Reservation, RunTimes, RunTimesKey, Settings, Spending};

/// One change of the stored state. Changes are absolute: putting twice is putting once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Change {
    /// Keep this job.
    PutJob(Arc<Job>),
    /// Forget a job (its payload goes with it).
    RemoveJob(JobId),
    /// Keep a submission's script and variables; under the array's id for all members.
    PutPayload(JobId, Arc<Payload>),
    /// Keep this node.
    PutNode(Arc<Node>),
    /// Forget a node.
    RemoveNode(NodeName),
    /// Keep these settings.
    PutSettings(Arc<Settings>),
    /// The next job number.
    SetNextSeq(u64),
    /// The next attempt number.
    SetNextAttempt(u64),
    /// Keep what a payer has used of late.
    PutSpending(Arc<Spending>),
    /// Forget what a payer has used.
    RemoveSpending(Payer),
    /// Keep how long the last jobs like this ran.
    PutRunTimes(RunTimesKey, RunTimes),
    /// Forget how long jobs like this ran.
    RemoveRunTimes(RunTimesKey),
    /// Keep this reservation.
    PutReservation(Arc<Reservation>),
    /// Forget a reservation.
    RemoveReservation(ReservationId),
    /// Keep how good forecasts have been.
    PutForecasts(Arc<Forecasts>),
}

/// The heavy part of a submission: on disk only, read when an attempt starts or `qstat -f` asks.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Payload {
    /// The script, as submitted.
    #[serde(with = "bytes")]
    pub script: Vec<u8>,
    /// `Variable_List`.
    pub variables: Env,
}

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes = self.script.len();
        write!(
            f,
            "Payload {{ script: {bytes} bytes, variables: {:?} }}",
            self.variables
        )
    }
}

/// Serde takes a `Vec<u8>` for a sequence of numbers; a script is stored as the bytes it is.
mod bytes {
    use serde::{Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        struct Bytes;
        impl<'de> de::Visitor<'de> for Bytes {
            type Value = Vec<u8>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }
            fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
                Ok(bytes)
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<u8>, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = seq.next_element()? {
                    bytes.push(byte);
                }
                Ok(bytes)
            }
        }
        deserializer.deserialize_byte_buf(Bytes)
    }
}
