//! Waiting jobs by row: those that differ in nothing but when they came, so that whoever came first starts first. A plan
//! asks the first of each row and goes on to the next only where that one starts. Made of the jobs, never stored.

use capstan_types::{JobId, Timestamp};
use imbl::{OrdMap, OrdSet};

use super::Pending;

/// What all jobs of a row have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RowKey {
    /// Which others are like it.
    pub(crate) profile: u32,
    /// `-p`.
    pub(crate) priority: i32,
    /// For how long it may run, seconds.
    pub(crate) walltime_secs: u64,
}

/// Since when a job is in line, and who of several that came at once is first.
type Came = (Timestamp, JobId);

/// The first of a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) first: Came,
    /// Cards in all, of jobs without cards slots.
    pub(crate) size: u32,
}

/// All waiting jobs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows {
    rows: OrdMap<RowKey, Row>,
    members: OrdSet<(RowKey, Came)>,
    /// Jobs in no row: arrays, and those that may be kept from starting by something of their own.
    singles: OrdSet<JobId>,
}

impl Rows {
    pub(crate) fn add(&mut self, pending: &Pending) {
        let Some(key) = key(pending) else {
            self.singles.insert(pending.job.id);
            return;
        };
        self.members.insert((key, pending.came));
        let row = Row {
            first: pending.came,
            size: pending.size,
        };
        if self
            .rows
            .get(&key)
            .is_none_or(|known| row.first < known.first)
        {
            self.rows.insert(key, row);
        }
    }

    pub(crate) fn remove(&mut self, pending: &Pending) {
        let Some(key) = key(pending) else {
            self.singles.remove(&pending.job.id);
            return;
        };
        self.members.remove(&(key, pending.came));
        if self
            .rows
            .get(&key)
            .is_some_and(|row| row.first == pending.came)
        {
            match self.behind(key, pending.came) {
                Some(first) => drop(self.rows.insert(
                    key,
                    Row {
                        first,
                        size: pending.size,
                    },
                )),
                None => drop(self.rows.remove(&key)),
            }
        }
    }

    /// Whether both would stand in the same place.
    pub(crate) fn is_same_place(one: &Pending, other: &Pending) -> bool {
        one.job.id == other.job.id && one.came == other.came && key(one) == key(other)
    }

    /// The rows.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&RowKey, &Row)> {
        self.rows.iter()
    }

    /// The next in a row behind who came then.
    pub(crate) fn behind(&self, key: RowKey, came: Came) -> Option<Came> {
        let behind = self.members.range((key, came)..);
        let mut others = behind.filter(|(_, other)| *other != came);
        let (of, next) = others.next()?;
        (*of == key).then_some(*next)
    }

    /// The first in a row who came after that time.
    pub(crate) fn after(&self, key: RowKey, time: Timestamp) -> Option<Came> {
        self.behind(key, (time, JobId::member(u64::MAX, u32::MAX)))
    }

    /// Jobs in no row.
    pub(crate) fn singles(&self) -> impl Iterator<Item = JobId> + '_ {
        self.singles.iter().copied()
    }
}

fn key(pending: &Pending) -> Option<RowKey> {
    let profile = pending.profile.filter(|_| pending.is_plain)?;
    Some(RowKey {
        profile,
        priority: pending.priority,
        walltime_secs: pending.walltime_secs,
    })
}
