//! A pending job with what every plan asks of it, reckoned once and not in each plan: a plan looks at all of them.

use std::sync::Arc;

use capstan_types::{ChunkTarget, JobId, Timestamp};

use super::{Job, JobSpec};

/// A job in state Pending.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) job: Arc<Job>,
    /// For how long it may run, seconds.
    pub(crate) walltime_secs: u64,
    /// Cards in all, of a job without cards slots.
    pub(crate) size: u32,
    /// Which others are like it; `None` of a job that is in no state.
    pub(crate) profile: Option<u32>,
    /// `-p`.
    pub(crate) priority: i32,
    /// Since when it is in line, and who of several that came at once is first.
    pub(crate) came: (Timestamp, JobId),
    /// Neither an array nor kept from starting by anything of its own, nor called to the front, nor in another's place:
    /// most are.
    pub(crate) is_plain: bool,
}

impl Pending {
    pub(crate) fn of(job: Arc<Job>) -> Self {
        let is_tied = job.ties.hold() || !job.ties.set.is_empty();
        let has_terms = !job.holds.is_empty() || !job.waits_for.is_empty() || is_tied;
        let is_timed = job.not_before.is_some() || job.first_until.is_some();
        let has_place = job.place.is_some();
        Self {
            walltime_secs: walltime_secs(&job),
            size: job.spec.size(),
            profile: None,
            priority: job.priority,
            came: job.place(),
            is_plain: job.array.is_none() && !has_terms && !is_timed && !has_place,
            job,
        }
    }
}

/// A number of what a job asks of nodes: equal requests have equal numbers, and nearly all others another one. FNV-1a
/// (<https://datatracker.ietf.org/doc/html/draft-eastlake-fnv>), the same on every machine.
pub(crate) fn request_hash(spec: &JobSpec) -> u64 {
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    let chunks = spec.nodes.iter().flat_map(|nodes| &nodes.chunks);
    let hash = chunks.fold(BASIS, |hash, chunk| {
        let named = match &chunk.target {
            ChunkTarget::Count(_) => "",
            ChunkTarget::Named(name) => name,
        };
        let numbers = [chunk.node_count(), chunk.ppn, chunk.gpus];
        let hash = numbers
            .iter()
            .fold(hash, |hash, number| fnv(hash, &number.to_le_bytes()));
        let hash = fnv(hash, &chunk.memory_bytes.to_le_bytes());
        let properties = chunk.properties.iter().map(AsRef::as_ref);
        std::iter::once(named)
            .chain(properties)
            .fold(hash, |hash, text: &str| fnv(hash, text.as_bytes()))
    });
    let loose = spec.loose_slots.unwrap_or(0).to_le_bytes();
    let memory = spec.memory_bytes.unwrap_or(0).to_le_bytes();
    fnv(fnv(hash, &loose), &memory)
}

pub(super) fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    const PRIME: u64 = 0x0100_0000_01b3;
    bytes.iter().fold(hash, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(PRIME)
    })
}

/// A job without a walltime is taken to need a year: what it holds does not come back within any plan.
pub(crate) const ENDLESS_SECS: u64 = 366 * 24 * 3600;

/// For how long the job may run, seconds.
pub(crate) fn walltime_secs(job: &Job) -> u64 {
    job.spec
        .resources
        .seconds("walltime")
        .map_or(ENDLESS_SECS, |walltime| walltime.0.min(ENDLESS_SECS))
}
