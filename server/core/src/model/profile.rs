//! Which waiting jobs are alike in all that a plan asks of them but their times: those have one profile, a small number, so
//! that a plan finds out once what holds for all of them. Made of the jobs, never stored: after a restart the numbers may
//! be others, and nothing depends on which they are.

use std::cmp::Ordering;
use std::sync::Arc;

use capstan_types::Chunk;
use imbl::{OrdMap, Vector};

use super::pending::{fnv, request_hash};
use super::{Job, JobSpec};
use crate::apply::arrangement;

/// The profiles of all waiting jobs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Profiles {
    numbers: OrdMap<Alike, u32>,
    /// By number: how many jobs have it.
    counts: Vector<u32>,
    /// Numbers that no job has.
    free: Vector<u32>,
}

/// A job that stands for all that are like it.
#[derive(Clone, Debug)]
struct Alike {
    /// First, so that different ones are told apart at once.
    hash: u64,
    job: Arc<Job>,
}

impl Profiles {
    /// The profile of one more job.
    pub(crate) fn add(&mut self, job: &Arc<Job>) -> u32 {
        let alike = Alike::of(job);
        if let Some(number) = self.numbers.get(&alike).copied() {
            self.counts[number as usize] += 1;
            return number;
        }
        let number = self.free.pop_back().unwrap_or_else(|| {
            self.counts.push_back(0);
            // There are fewer profiles than jobs, and those are in memory.
            u32::try_from(self.counts.len() - 1).unwrap_or(u32::MAX)
        });
        self.counts[number as usize] = 1;
        self.numbers.insert(alike, number);
        number
    }

    /// A job waits no more.
    pub(crate) fn remove(&mut self, job: &Arc<Job>) {
        let alike = Alike::of(job);
        let Some(number) = self.numbers.get(&alike).copied() else {
            return;
        };
        self.counts[number as usize] -= 1;
        if self.counts[number as usize] == 0 {
            self.numbers.remove(&alike);
            self.free.push_back(number);
        }
    }

    /// All numbers are below this.
    pub(crate) fn bound(&self) -> usize {
        self.counts.len()
    }
}

impl Alike {
    fn of(job: &Arc<Job>) -> Self {
        let spec = &job.spec;
        let texts = [&spec.owner.user, &spec.owner.group, &spec.name];
        let texts = texts.map(|text| text.as_bytes());
        let hash = texts
            .iter()
            .chain([&job.queue.as_str().as_bytes()])
            .fold(request_hash(spec), |hash, text| fnv(hash, text));
        Self {
            hash,
            job: job.clone(),
        }
    }

    /// All that a plan looks at, but what is each job's own: times, priority, holds.
    fn compare(&self, other: &Self) -> Ordering {
        let (one, two) = (&*self.job.spec, &*other.job.spec);
        self.hash
            .cmp(&other.hash)
            .then_with(|| self.job.queue.cmp(&other.job.queue))
            .then_with(|| one.owner.uid.cmp(&two.owner.uid))
            .then_with(|| one.owner.user.cmp(&two.owner.user))
            .then_with(|| one.owner.group.cmp(&two.owner.group))
            .then_with(|| one.name.cmp(&two.name))
            .then_with(|| chunks(one).cmp(&chunks(two)))
            .then_with(|| one.loose_slots.cmp(&two.loose_slots))
            .then_with(|| one.memory_bytes.cmp(&two.memory_bytes))
            .then_with(|| arrangement(one).cmp(&arrangement(two)))
            .then_with(|| one.is_exclusive().cmp(&two.is_exclusive()))
            .then_with(|| one.image.cmp(&two.image))
    }
}

fn chunks(spec: &JobSpec) -> Option<&[Chunk]> {
    let nodes = spec.nodes.as_ref();
    nodes.map(|nodes| &*nodes.chunks)
}

impl Ord for Alike {
    fn cmp(&self, other: &Self) -> Ordering {
        match Arc::ptr_eq(&self.job, &other.job) {
            true => Ordering::Equal,
            false => self.compare(other),
        }
    }
}

impl PartialOrd for Alike {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Alike {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Alike {}
