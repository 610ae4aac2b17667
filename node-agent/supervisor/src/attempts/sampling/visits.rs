//! What attempts use here whose script runs on another node, by the tasks that they have here. It is remembered for a while
//! after the last of them: nobody tells this node when such an attempt ends.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use capstan_proto::wire::{AttemptUse, Usage};
use capstan_types::AttemptId;

use super::kernel::{self, Counts};
use super::meter::{Meter, Sample};
use super::{Shared, uptime_ms};
use crate::attempts::cgroup::CgroupTree;
use crate::attempts::record::Entry;

/// How long an attempt is told of that has no process here any more.
const REMEMBERED: Duration = Duration::from_secs(900);
/// Attempts that are remembered; more than a node has slots.
const VISITS_MAX: usize = 1024;

/// All of them. A cheap handle.
#[derive(Clone, Debug, Default)]
pub(in crate::attempts) struct Visits(Arc<Mutex<BTreeMap<AttemptId, Visit>>>);

#[derive(Debug)]
struct Visit {
    entry: Arc<Entry>,
    seen: Instant,
    meter: Meter,
    /// What its processes used that were seen, since the first.
    cpu_us: u64,
    /// The kernel's count at the last look; a group that was made anew begins at 0.
    counted_us: u64,
    memory_kb: u64,
}

impl Visits {
    fn all(&self) -> MutexGuard<'_, BTreeMap<AttemptId, Visit>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A task of this attempt begins here.
    pub(in crate::attempts) fn begin(&self, entry: &Entry) {
        let mut all = self.all();
        if let Some(visit) = all.get_mut(&entry.attempt()) {
            visit.seen = Instant::now();
            return;
        }
        if all.len() < VISITS_MAX {
            let visit = Visit {
                entry: Arc::new(entry.clone()),
                seen: Instant::now(),
                meter: Meter::default(),
                cpu_us: 0,
                counted_us: 0,
                memory_kb: 0,
            };
            all.insert(entry.attempt(), visit);
        }
    }

    /// Whether any may have processes here.
    pub(super) fn is_empty(&self) -> bool {
        self.all().is_empty()
    }

    /// Whether any of them has cards here.
    pub(super) fn have_cards(&self) -> bool {
        let all = self.all();
        let mut entries = all.values().map(|visit| &visit.entry);
        entries.any(|entry| !entry.spec.cards.is_empty())
    }

    /// Whether this one has this card here.
    pub(in crate::attempts) fn has_card(&self, attempt: AttemptId, uuid: &str) -> bool {
        let all = self.all();
        let cards = all.get(&attempt).map(|visit| visit.entry.spec.cards.iter());
        cards.is_some_and(|mut cards| cards.any(|card| card.uuid == uuid))
    }

    pub(super) fn entries(&self) -> Vec<Arc<Entry>> {
        let all = self.all();
        all.values().map(|visit| visit.entry.clone()).collect()
    }

    /// One look at all of them.
    pub(super) fn sample(&self, cards: &Shared<'_>, cgroups: &CgroupTree) {
        let mut all = self.all();
        all.retain(|_, visit| visit.seen.elapsed() < REMEMBERED);
        for visit in all.values_mut() {
            // Without groups nobody can tell whose a process is; with none of them here there is nothing to count.
            let counts = kernel::counts(&visit.entry.cgroups, u32::MAX);
            if counts != Counts::default() {
                visit.seen = Instant::now();
                visit.add(counts, cards, cgroups);
            }
        }
    }

    /// What each was seen to use.
    pub(in crate::attempts) fn usage(&self) -> Vec<AttemptUse> {
        let all = self.all();
        let seen = all.iter().filter_map(|(attempt, visit)| {
            let measures = Some(visit.meter.measures()?);
            Some(AttemptUse {
                attempt: attempt.0,
                usage: Some(Usage {
                    cput_secs: visit.cpu_us / 1_000_000,
                    mem_kb: visit.memory_kb,
                    measures,
                    ..Usage::default()
                }),
            })
        });
        seen.collect()
    }
}

impl Visit {
    fn add(&mut self, counts: Counts, cards: &Shared<'_>, cgroups: &CgroupTree) {
        let Counts {
            cpu_us,
            memory_kb,
            read_kb,
            written_kb,
        } = counts;
        let passed_us = cpu_us.checked_sub(self.counted_us).unwrap_or(cpu_us);
        self.cpu_us += passed_us;
        self.counted_us = cpu_us;
        self.memory_kb = self.memory_kb.max(memory_kb);
        self.meter.add(Sample {
            at_ms: uptime_ms(),
            cpu_us: self.cpu_us,
            memory_kb,
            read_kb,
            written_kb,
            cards: cards.of_attempt(&self.entry, cgroups),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attempts::record::CgroupFolder;
    use capstan_proto::wire::LaunchSpec;
    use std::fs;

    #[test]
    fn what_tasks_use_is_summed_up_over_groups_that_come_and_go() {
        let folder = tempfile::tempdir().unwrap();
        let entry = Entry {
            spec: LaunchSpec {
                attempt: 7,
                ..LaunchSpec::default()
            },
            cgroups: vec![CgroupFolder {
                controller: String::new(),
                path: folder.path().to_string_lossy().into_owned(),
            }],
            ..Entry::default()
        };
        let visits = Visits::default();
        assert!(visits.is_empty());
        visits.begin(&entry);
        visits.begin(&entry);
        let look = |cpu_us: u64| {
            fs::write(
                folder.path().join("cpu.stat"),
                format!("usage_usec {cpu_us}\n"),
            )
            .unwrap();
            fs::write(folder.path().join("memory.current"), "4096000\n").unwrap();
            fs::write(folder.path().join("io.stat"), "").unwrap();
            visits.sample(&Shared::default(), &CgroupTree::default());
        };
        assert!(visits.usage().is_empty(), "nothing was seen yet");
        look(3_000_000);
        look(5_000_000);
        look(1_000_000);
        let usage = visits.usage().remove(0);
        let of_all = usage.usage.unwrap();
        assert_eq!(
            (usage.attempt, of_all.cput_secs, of_all.mem_kb),
            (7, 6, 4000)
        );
        assert_eq!(visits.entries().len(), 1);
    }

    #[test]
    fn a_visitor_has_the_cards_that_came_with_its_order_and_no_others() {
        let entry = Entry {
            spec: LaunchSpec {
                attempt: 7,
                cards: vec![capstan_proto::wire::Card {
                    uuid: "GPU-a".to_owned(),
                    ..Default::default()
                }],
                ..LaunchSpec::default()
            },
            ..Entry::default()
        };
        let visits = Visits::default();
        visits.begin(&entry);
        let has = |attempt, uuid| visits.has_card(AttemptId(attempt), uuid);
        assert!(has(7, "GPU-a"));
        assert!(!has(7, "GPU-b") && !has(8, "GPU-a"));
    }
}
