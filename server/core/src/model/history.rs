//! How long jobs ran: the last two of each user, job name and size, from which the next one's run time is estimated.
//! The mean of a user's last two jobs is as good as anything that is far more complicated (Tsafrir, Etsion, Feitelson:
//! Backfilling Using System-Generated Predictions, TPDS 18(6), 2007). It is the mean of the parts of their walltimes that
//! they used: so who asks for just what he needs is believed, and one job that is longer than the last is known to be.

use capstan_types::Timestamp;
use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use super::pending::ENDLESS_SECS;
use super::{Job, JobSpec, Run};

/// Whose run times.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RunTimesKey {
    /// The user.
    pub user: Box<str>,
    /// The job's name; empty for all names.
    pub name: Box<str>,
    /// Cards, of a job without cards slots; 0 for all sizes.
    pub size: u32,
}

/// How long the last two jobs ran, and when the last ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunTimes {
    /// The last one.
    pub last: RunTime,
    /// The one before it; as the last one, when there was none.
    pub before: RunTime,
    /// When the last one ended.
    pub at: Timestamp,
}

/// How long a job ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunTime {
    /// Seconds.
    pub secs: u32,
    /// The part of its walltime that it used, in millionths; `None` of a job without one.
    pub part: Option<u32>,
}

impl RunTime {
    const WHOLE: u64 = 1_000_000;

    /// Of a job that ran for `secs` and might have for `walltime_secs`.
    #[must_use]
    pub fn new(secs: u64, walltime_secs: Option<u64>) -> Self {
        let part = walltime_secs
            .filter(|walltime| *walltime > 0)
            .map(|walltime| {
                let part = secs.saturating_mul(Self::WHOLE) / walltime;
                u32::try_from(part.min(Self::WHOLE)).unwrap_or(u32::MAX)
            });
        Self {
            secs: u32::try_from(secs).unwrap_or(u32::MAX),
            part,
        }
    }
}

impl RunTimes {
    /// With one more, which ended at `at`.
    #[must_use]
    pub fn after(previous: Option<Self>, last: RunTime, at: Timestamp) -> Self {
        let before = previous.map_or(last, |previous| previous.last);
        Self { last, before, at }
    }

    /// How long the next one will run that may for `walltime_secs`, seconds, at least one: the mean of the parts that
    /// both used of it, or how long they ran when either had no walltime.
    #[must_use]
    pub fn estimate_secs(self, walltime_secs: u64) -> u64 {
        let secs = match (self.last.part, self.before.part) {
            (Some(last), Some(before)) if walltime_secs < ENDLESS_SECS => {
                let parts = (u64::from(last) + u64::from(before)) / 2;
                walltime_secs.saturating_mul(parts) / RunTime::WHOLE
            }
            (Some(_) | None, Some(_) | None) => {
                (u64::from(self.last.secs) + u64::from(self.before.secs)) / 2
            }
        };
        secs.clamp(1, walltime_secs.max(1))
    }
}

/// All that is known of one user.
pub(crate) type UserHistory = OrdMap<Box<str>, OrdMap<u32, RunTimes>>;

/// Most job names that are remembered of one user: those that ended last.
pub(crate) const NAMES_MAX: usize = 64;

/// Most sizes that are remembered of one name.
pub(crate) const SIZES_MAX: usize = 32;

/// The run times of all users.
#[derive(Clone, Debug, Default)]
pub(crate) struct History(OrdMap<Box<str>, UserHistory>);

impl History {
    pub(crate) fn of_user(&self, user: &str) -> Option<&UserHistory> {
        self.0.get(user)
    }

    pub(crate) fn get(&self, key: &RunTimesKey) -> Option<RunTimes> {
        let names = self.0.get(&key.user)?;
        names.get(&key.name)?.get(&key.size).copied()
    }

    pub(crate) fn put(&mut self, key: &RunTimesKey, times: Option<RunTimes>) {
        let user = self.0.entry(key.user.clone()).or_default();
        let sizes = user.entry(key.name.clone()).or_default();
        match times {
            Some(times) => drop(sizes.insert(key.size, times)),
            None => drop(sizes.remove(&key.size)),
        }
        if sizes.is_empty() {
            user.remove(&key.name);
        }
        if self.0.get(&key.user).is_some_and(OrdMap::is_empty) {
            self.0.remove(&key.user);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (RunTimesKey, RunTimes)> + '_ {
        self.0.iter().flat_map(|(user, names)| {
            names.iter().flat_map(move |(name, sizes)| {
                sizes.iter().map(move |(size, times)| {
                    let (user, name, size) = (user.clone(), name.clone(), *size);
                    (RunTimesKey { user, name, size }, *times)
                })
            })
        })
    }

    /// What is forgotten when one more of `key` is kept: the name, or the size of its name, that ended longest ago.
    pub(crate) fn crowded_out(&self, key: &RunTimesKey) -> Vec<RunTimesKey> {
        let Some(names) = self.0.get(&key.user) else {
            return Vec::new();
        };
        let of = |name: &str, size: u32| RunTimesKey {
            user: key.user.clone(),
            name: name.into(),
            size,
        };
        match names.get(&key.name) {
            Some(sizes) if sizes.len() >= SIZES_MAX && !sizes.contains_key(&key.size) => {
                let others = sizes.iter().filter(|(size, _)| **size != 0);
                let oldest = others.min_by_key(|(size, times)| (times.at, **size));
                let oldest = oldest.map(|(size, _)| of(&key.name, *size));
                oldest.into_iter().collect()
            }
            None if names.len() >= NAMES_MAX => {
                let last =
                    |sizes: &OrdMap<u32, RunTimes>| sizes.values().map(|times| times.at).max();
                let named = names.iter().filter(|(name, _)| !name.is_empty());
                let oldest = named.min_by_key(|(_, sizes)| last(sizes));
                let all =
                    oldest.map(|(name, sizes)| sizes.keys().map(|size| of(name, *size)).collect());
                all.unwrap_or_default()
            }
            Some(_) | None => Vec::new(),
        }
    }
}

impl JobSpec {
    /// What its run time is remembered by: cards in all, of a job without cards slots.
    #[must_use]
    pub fn size(&self) -> u32 {
        match self.cards_and_slots() {
            (0, slots) => slots,
            (cards, _) => cards,
        }
    }

    /// How many cards and slots it asks for in all.
    #[must_use]
    pub fn cards_and_slots(&self) -> (u32, u32) {
        let Some(nodes) = &self.nodes else {
            return (0, self.loose_slots.unwrap_or(1).max(1));
        };
        let sum = |of: fn(&capstan_types::Chunk) -> u32| {
            let chunks = nodes.chunks.iter();
            let all = chunks.map(|chunk| chunk.node_count().saturating_mul(of(chunk)));
            all.fold(0, u32::saturating_add)
        };
        (sum(|chunk| chunk.gpus), sum(|chunk| chunk.ppn).max(1))
    }
}

impl Job {
    /// Under which keys its run time is remembered: by name and size, by size, and at all.
    #[must_use]
    pub fn run_times_keys(&self) -> [RunTimesKey; 3] {
        let size = self.spec.size();
        let key = |name: &str, size| RunTimesKey {
            user: self.spec.owner.user.clone(),
            name: name.into(),
            size,
        };
        [key(&self.spec.name, size), key("", size), key("", 0)]
    }
}

impl Run {
    /// How long it has run at `now`, seconds; 0 before it started.
    #[must_use]
    pub fn elapsed_secs(&self, now: Timestamp) -> u64 {
        self.started.map_or(0, |(at, _)| now.secs_since(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, size: u32) -> RunTimesKey {
        RunTimesKey {
            user: "alice".into(),
            name: name.into(),
            size,
        }
    }

    #[test]
    fn the_estimate_is_the_mean_of_the_parts_of_their_walltimes_that_the_last_two_used() {
        let run = |secs| RunTime::new(secs, Some(1000));
        let first = RunTimes::after(None, run(100), Timestamp(1));
        assert_eq!(first.estimate_secs(1000), 100);
        let second = RunTimes::after(Some(first), run(300), Timestamp(2));
        assert_eq!(second.estimate_secs(1000), 200);
        let third = RunTimes::after(Some(second), run(500), Timestamp(3));
        assert_eq!(third.estimate_secs(1000), 400);
        assert_eq!(third.estimate_secs(50), 20);
        assert_eq!(third.estimate_secs(0), 1);
    }

    #[test]
    fn without_a_walltime_the_estimate_is_the_mean_of_how_long_the_last_two_ran() {
        let first = RunTimes::after(None, RunTime::new(100, None), Timestamp(1));
        let second = RunTimes::after(Some(first), RunTime::new(300, Some(1000)), Timestamp(2));
        assert_eq!(second.estimate_secs(10_000), 200);
        assert_eq!(second.estimate_secs(150), 150);
    }

    #[test]
    fn the_name_that_ended_longest_ago_is_crowded_out() {
        let mut history = History::default();
        for number in 0..NAMES_MAX as u64 {
            let times = RunTimes::after(None, RunTime::new(1, None), Timestamp(1000 - number));
            history.put(&key(&format!("n{number}"), 1), Some(times));
        }
        let oldest = format!("n{}", NAMES_MAX - 1);
        assert_eq!(history.crowded_out(&key("new", 1)), [key(&oldest, 1)]);
        assert_eq!(history.crowded_out(&key("n3", 2)), []);
    }
}
