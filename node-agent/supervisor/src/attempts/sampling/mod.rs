//! Looks at what every attempt uses, again and again: cards, memory, processor, disks. One sampler serves the whole node;
//! how often it looks follows from how young the attempts are and from what a look costs, so that looking never takes more
//! than a small share of a core. The sums stay with the attempt; reports and the footer read them.

mod kernel;
mod meter;
mod visits;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use capstan_types::CardId;

pub(super) use meter::Meter;
use meter::{CardSample, Sample};
pub(super) use visits::Visits;

use super::cgroup::CgroupTree;
use super::live::{LiveAttempt, LiveTable, now_ms};
use super::record::Entry;
use super::table::Supervisor;
use crate::cards::Tenants;
use crate::ports::{GpuUse, Gpus};

/// Between looks while an attempt is younger than [`YOUNG`], and else.
const PERIOD_YOUNG: Duration = Duration::from_secs(1);
const PERIOD: Duration = Duration::from_secs(5);
const YOUNG: Duration = Duration::from_secs(30);
/// A look is followed by a pause of so many times what it took: at most 0.25 % of a core.
const COST_FACTOR: u32 = 400;
const PERIOD_MAX: Duration = Duration::from_secs(60);
/// How the UUIDs of parts of divided cards begin.
const PART: &str = "MIG-";
/// Between looks whether there is anything to look at.
const IDLE: Duration = Duration::from_secs(1);

impl Supervisor {
    /// Samples attempts for as long as the agent lives.
    pub async fn keep_sampling<G: Gpus>(self, gpus: Arc<G>) {
        loop {
            let visited = (!self.tasks.visits().is_empty()).then_some(PERIOD);
            let Some(period) = self.live.sampling_period().or(visited) else {
                tokio::time::sleep(IDLE).await;
                continue;
            };
            let (gpus, supervisor) = (gpus.clone(), self.clone());
            let looking = tokio::task::spawn_blocking(move || {
                let began = Instant::now();
                let visits = supervisor.tasks.visits();
                let cards = match supervisor.live.have_cards() || visits.have_cards() {
                    true => gpus.loads(),
                    false => Vec::new(),
                };
                supervisor.sample(&cards);
                began.elapsed()
            });
            // A driver that panics costs this look.
            let cost = looking.await.unwrap_or(PERIOD);
            self.rest(pause(period, cost)).await;
        }
    }

    /// Waits until nobody has looked for so long: who reports to the server looks as well.
    async fn rest(&self, pause: Duration) {
        loop {
            let since = uptime_ms().saturating_sub(self.live.looked_ms());
            let left = pause.saturating_sub(Duration::from_millis(since));
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left).await;
        }
    }

    /// Looks unless somebody just has: who reports to the server knows what the cards do, and a look is a look.
    pub fn sample_by_the_way(&self, cards: &[GpuUse]) {
        let since = uptime_ms().saturating_sub(self.live.looked_ms());
        if since >= PERIOD_YOUNG.as_millis() as u64 {
            self.sample(cards);
        }
    }

    /// One look at all attempts that run, with what their cards do now. Blocks for a moment.
    pub fn sample(&self, cards: &[GpuUse]) {
        let (all, visits) = (self.live.all(), self.tasks.visits());
        if all.is_empty() && visits.is_empty() {
            return;
        }
        let visitors = visits.entries();
        let entries = all.iter().map(|attempt| &attempt.entry);
        let cards = Shared::of(entries.chain(visitors.iter().map(AsRef::as_ref)), cards);
        for attempt in &all {
            attempt.sample(&cards, &self.site.cgroups);
        }
        visits.sample(&cards, &self.site.cgroups);
        self.live.looked_at(uptime_ms());
    }
}

/// At least the period, and long against what a look costs.
fn pause(period: Duration, cost: Duration) -> Duration {
    period.max(cost * COST_FACTOR).min(PERIOD_MAX.max(period))
}

impl LiveTable {
    /// How long to wait between looks; `None` when nothing runs.
    fn sampling_period(&self) -> Option<Duration> {
        let now = now_ms();
        let started = self
            .all()
            .iter()
            .map(|attempt| attempt.started_ms())
            .max()?;
        let is_young = now.saturating_sub(started) < YOUNG.as_millis() as u64;
        Some(if is_young { PERIOD_YOUNG } else { PERIOD })
    }

    fn have_cards(&self) -> bool {
        self.all()
            .iter()
            .any(|attempt| !attempt.entry.spec.cards.is_empty())
    }
}

/// What cards do, and how many attempts have each.
#[derive(Default)]
struct Shared<'a> {
    uses: BTreeMap<&'a str, &'a GpuUse>,
    tenants: BTreeMap<&'a str, usize>,
}

impl<'a> Shared<'a> {
    fn of(attempts: impl Iterator<Item = &'a Entry>, uses: &'a [GpuUse]) -> Self {
        let mut tenants = BTreeMap::new();
        for attempt in attempts {
            for card in &attempt.spec.cards {
                *tenants.entry(card.uuid.as_str()).or_default() += 1;
            }
        }
        Self {
            uses: uses.iter().map(|card| (card.uuid.as_str(), card)).collect(),
            tenants,
        }
    }

    /// Of a card that several attempts have, its load is everybody's, and memory is that of the attempt's own processes.
    fn of_attempt(&self, attempt: &Entry, cgroups: &CgroupTree) -> Option<CardSample> {
        let cards = &attempt.spec.cards;
        let mut sum = CardSample::default();
        let (mut count, mut loads) = (0, 0);
        for card in cards {
            let Some(seen) = self.uses.get(card.uuid.as_str()) else {
                continue;
            };
            count += 1;
            if card.uuid.starts_with(PART) {
                sum.is_at_work |= !seen.processes.is_empty();
            } else {
                loads += 1;
                let (percent, power) = (seen.utilization_percent, seen.power_milliwatts);
                *sum.percent.get_or_insert(0) += u64::from(percent);
                *sum.power_milliwatts.get_or_insert(0) += u64::from(power);
                sum.is_at_work |= percent > 0;
            }
            let is_shared = self
                .tenants
                .get(card.uuid.as_str())
                .is_some_and(|count| *count > 1);
            let own = |pid: u32| cgroups.attempt_of(pid) == Some(attempt.attempt());
            sum.memory_kb += match is_shared {
                true => {
                    let own = seen.processes.iter().filter(|process| own(process.pid));
                    own.map(|process| process.memory_bytes).sum::<u64>() / 1024
                }
                false => seen.memory_used_bytes / 1024,
            };
        }
        sum.percent = sum.percent.and_then(|percent| percent.checked_div(loads));
        (count > 0).then_some(sum)
    }
}

impl LiveAttempt {
    fn sample(&self, cards: &Shared<'_>, cgroups: &CgroupTree) {
        let Some(shim) = self.running_shim() else {
            return;
        };
        let kernel::Counts {
            cpu_us,
            memory_kb,
            read_kb,
            written_kb,
        } = kernel::counts(&self.entry.cgroups, shim);
        let cards = cards.of_attempt(&self.entry, cgroups);
        if self.must_be_used() && cards.is_some_and(|cards| cards.is_at_work) {
            self.cards_used.notify_one();
        }
        self.measure(Sample {
            at_ms: uptime_ms(),
            cpu_us,
            memory_kb,
            read_kb,
            written_kb,
            cards,
        });
    }

    fn measure(&self, sample: Sample) {
        self.with_meter(|meter| meter.add(sample));
    }
}

/// A clock that does not go back.
fn uptime_ms() -> u64 {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    BEGAN.elapsed().as_millis() as u64
}

/// Attempts as tenants of cards.
impl Tenants for Supervisor {
    fn is_lent(&self, card: &CardId) -> bool {
        self.holders().is_lent(card)
    }

    fn is_tenant(&self, card: &CardId, pid: u32) -> bool {
        self.holders().is_tenant(card, pid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A session on a part of a card would be taken for idle, as its load is never told.
    #[test]
    fn a_part_of_a_card_is_at_work_while_somebody_computes_on_it() {
        let check = |uuid: &str, percent, is_computed_on: bool, expected: (Option<u64>, bool)| {
            let mut entry = Entry::default();
            entry.spec.cards.push(capstan_proto::wire::Card {
                uuid: uuid.to_owned(),
                ..Default::default()
            });
            let process = crate::ports::CardProcess {
                pid: 1,
                memory_bytes: 1 << 20,
            };
            let seen = [GpuUse {
                uuid: uuid.into(),
                utilization_percent: percent,
                memory_used_bytes: 2 << 20,
                temperature_celsius: 0,
                power_milliwatts: 0,
                processes: is_computed_on.then_some(process).into_iter().collect(),
                detail: crate::ports::GpuDetail::default(),
                health: crate::ports::GpuHealth::default(),
            }];
            let shared = Shared::of([&entry].into_iter(), &seen);
            let sample = shared.of_attempt(&entry, &CgroupTree::default()).unwrap();
            assert_eq!((sample.percent, sample.is_at_work), expected, "{uuid}");
            assert_eq!(sample.memory_kb, 2048);
        };
        check("GPU-1", 40, false, (Some(40), true));
        check("GPU-1", 0, true, (Some(0), false));
        check("MIG-1", 0, true, (None, true));
        check("MIG-1", 0, false, (None, false));
    }

    #[test]
    fn looking_never_takes_more_than_a_small_share_of_a_core() {
        let check = |cost_ms: u64, expected_ms: u64| {
            let seen = pause(PERIOD_YOUNG, Duration::from_millis(cost_ms));
            assert_eq!(seen, Duration::from_millis(expected_ms), "{cost_ms}");
        };
        check(0, 1000);
        check(2, 1000);
        check(20, 8000);
        check(10_000, 60_000);
    }
}
