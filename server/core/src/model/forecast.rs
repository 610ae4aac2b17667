//! When waiting jobs are likely to start: a rough wait from how much work is before them, stretched by as many doublings
//! as it took of late for four of five jobs to have started by then. What is promised is scored at each start, and as soon as it is late, so that
//! "80 % likely" stays true whatever the cluster and its users are like (an online form of conformal prediction: Gibbs
//! and Candès, Adaptive Conformal Inference Under Distribution Shift, NeurIPS 2021).

use capstan_types::Timestamp;
use serde::{Deserialize, Serialize};

use super::decay::power;
use super::pending::{ENDLESS_SECS, walltime_secs};
use super::{Job, JobSpec, JobState, Node, Policy, State};
use crate::plan::log2;

/// A doubling, in the unit of factors.
const ONE: i64 = 1 << 16;
/// What a rough wait is taken to be at least, seconds.
const LEAST_SECS: u64 = 60;
/// Jobs that wait shorter than this were told nothing: nobody could have asked.
const TOLD_AFTER_SECS: u64 = 1;
/// Where factors begin: a start is called likely by four times the rough wait.
const FACTOR_FIRST: i64 = 2 * ONE;
/// How far factors go, up and down.
const FACTOR_MAX: i64 = 20 * ONE;
/// Of a hundred that are told a time, so many are to start by it.
const AIM: i64 = 80;
/// The same of the quantile: a little less, because who is late counts twice where the quantile has grown since it was told.
const QUANTILE_AIM: i64 = 76;
/// A step of the quantile: the first ones are larger.
const STEP_LEAST: i64 = ONE / 4;
/// A step of the correction, and how far it goes: much slower, because a start tells of a word that was given long ago, and
/// hundreds that were told the same miss together.
const CORRECTION_STEP: i64 = ONE / 32;
const CORRECTION_MAX: i64 = 4 * ONE;

/// What a waiting job was told of its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forecast {
    /// When it was told.
    pub made: Timestamp,
    /// By when it starts with a likelihood of four in five.
    pub likely_by: Timestamp,
    /// How long it was expected to run then, seconds.
    pub run_secs: u32,
    /// Which factor was used.
    pub class: u8,
    /// The rough wait that was reckoned with, seconds.
    #[serde(default)]
    pub rough_secs: u32,
    /// Of a member of an array: it was never told anything itself.
    #[serde(default)]
    pub is_of_array: bool,
}

/// How good forecasts have been, by class: what they are stretched by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forecasts {
    classes: Vec<ForecastClass>,
    /// It is known who of those that were to start before this did not.
    #[serde(default)]
    seen_until: Timestamp,
}

/// Forecasts of one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForecastClass {
    /// Doublings that four of five starts of late needed at most, 65536ths.
    pub quantile: i64,
    /// What is added so that what was told comes true for four of five in the long run: backlogs grow and shrink faster
    /// than starts are seen.
    pub correction: i64,
    /// Jobs that were told a time and have started, or had not by then.
    pub started: u64,
    /// Those of them that started by it.
    pub in_time: u64,
}

impl Default for ForecastClass {
    fn default() -> Self {
        Self {
            quantile: FACTOR_FIRST,
            correction: 0,
            started: 0,
            in_time: 0,
        }
    }
}

impl Default for Forecasts {
    fn default() -> Self {
        Self {
            classes: vec![ForecastClass::default(); Self::CLASSES],
            seen_until: Timestamp::default(),
        }
    }
}

impl Forecasts {
    /// How long a job may have to wait by a rough reckoning: six steps of two doublings each. More classes would be sharper
    /// and learn more slowly: each must find its factor from its own starts.
    const CLASSES: usize = 6;

    /// All classes, short waits first.
    #[must_use]
    pub fn classes(&self) -> &[ForecastClass] {
        &self.classes
    }

    /// The forecast for a job that is expected to wait for about `rough_secs`.
    fn of(&self, rough_secs: u64, run_secs: u64, now: Timestamp) -> Forecast {
        let class = class(rough_secs);
        let factor = self
            .classes
            .get(class)
            .copied()
            .unwrap_or_default()
            .factor();
        let from = rough_secs.saturating_add(LEAST_SECS);
        let likely = stretched(from, factor).max(1);
        Forecast {
            made: now,
            likely_by: now.plus_secs(likely),
            run_secs: u32::try_from(run_secs).unwrap_or(u32::MAX),
            class: u8::try_from(class).unwrap_or(0),
            rough_secs: u32::try_from(from).unwrap_or(u32::MAX),
            is_of_array: false,
        }
    }

    /// By when a job starts with a likelihood of four in five that is expected to start at `at`.
    #[must_use]
    pub fn likely_by(&self, at: Timestamp, now: Timestamp) -> Timestamp {
        self.of(at.secs_since(now), 0, now).likely_by
    }

    /// Learns that a job started at `at` that was told `forecast`; of one that is late it is known already.
    #[must_use]
    pub(crate) fn after(&self, forecast: Forecast, at: Timestamp) -> Self {
        let mut after = self.clone();
        if at <= forecast.likely_by {
            after.learn(forecast, Some(at));
        }
        after
    }

    /// From when on it is not known yet who did not start in time.
    pub(crate) const fn seen_until(&self) -> Timestamp {
        self.seen_until
    }

    /// Learns that at `now` jobs that were told this had not started by then.
    #[must_use]
    pub(crate) fn after_late(&self, late: impl Iterator<Item = Forecast>, now: Timestamp) -> Self {
        let mut after = self.clone();
        after.seen_until = now;
        for told in late {
            after.learn(told, None);
        }
        after
    }

    fn learn(&mut self, told: Forecast, started: Option<Timestamp>) {
        self.classes.resize(Self::CLASSES, ForecastClass::default());
        if let Some(class) = self.classes.get_mut(usize::from(told.class)) {
            class.learn(told, started);
        }
    }
}

impl ForecastClass {
    /// Doublings from the rough wait to a likely one, 65536ths.
    #[must_use]
    pub const fn factor(&self) -> i64 {
        self.quantile + self.correction
    }

    /// Learns when a job that was told this has started; `None` when it is past the time that it was told.
    fn learn(&mut self, told: Forecast, started: Option<Timestamp>) {
        let seen = i64::try_from(self.started).unwrap_or(i64::MAX);
        let step = (4 * ONE / seen.saturating_add(4)).max(STEP_LEAST);
        let needed = started.map(|at| {
            let waited = log2(at.secs_since(told.made));
            waited - log2(u64::from(told.rough_secs))
        });
        // How late who is late will be nobody knows: it counts as too late whatever is told now.
        let is_hit = needed.is_some_and(|needed| needed <= self.quantile);
        self.quantile = moved(self.quantile, (step, QUANTILE_AIM), is_hit);
        let is_in_time = started.is_some();
        let corrected = moved(self.correction, (CORRECTION_STEP, AIM), is_in_time);
        self.correction = corrected.clamp(-CORRECTION_MAX, CORRECTION_MAX);
        self.started += 1;
        self.in_time += u64::from(is_in_time);
    }
}

/// Down after a hit, up after a miss, so that it rests where `aim` of a hundred hit.
fn moved(from: i64, (step, aim): (i64, i64), is_hit: bool) -> i64 {
    let change = match is_hit {
        true => -step * (100 - aim) / 100,
        false => step * aim / 100,
    };
    (from + change).clamp(-FACTOR_MAX, FACTOR_MAX)
}

/// `secs` times two to the power of `factor`.
fn stretched(secs: u64, factor: i64) -> u64 {
    // A power of two that is not below, and the part of a halving back from it.
    let whole = (factor + ONE - 1).div_euclid(ONE);
    let back = u64::try_from(whole * ONE - factor).unwrap_or(0);
    let secs = u128::from(secs);
    let doubled = match u32::try_from(whole) {
        Ok(up) => secs << up.min(32),
        Err(_) => secs >> whole.unsigned_abs().min(64),
    };
    let most = u128::from(u64::MAX >> 1);
    let found = (doubled.min(most) * u128::from(power(back << 16))) >> 62;
    u64::try_from(found).unwrap_or(u64::MAX)
}

/// Which factor is used for a rough wait: up to 3 minutes, a quarter of an hour, one hour, 4 hours, 16 hours, more.
fn class(rough_secs: u64) -> usize {
    let steps = log2(rough_secs / LEAST_SECS + 1) / (2 * ONE);
    usize::try_from(steps)
        .unwrap_or(0)
        .min(Forecasts::CLASSES - 1)
}

/// How much waits and runs, in cards for jobs with cards and in slots for those without. Sums that are kept as jobs
/// come and go, so that a forecast at submission costs nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load([Kind; 2]);

/// Of jobs with cards, or of those without.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Kind {
    /// Cards or slots of usable nodes.
    capacity: u64,
    /// Card-seconds or slot-seconds that wait, by doublings of the expected run time.
    waiting: [u64; Kind::STEPS],
    /// Cards or slots that are lent.
    running: u64,
    /// Sum of each of them times the second at which it is expected to come back.
    running_until: u128,
}

impl Kind {
    const STEPS: usize = 24;

    fn step(run_secs: u32) -> usize {
        (run_secs.max(1).ilog2() as usize).min(Self::STEPS - 1)
    }

    /// Work that is expected to be done before a job that came now and runs for so long.
    fn ahead(&self, run_secs: u32, is_shortest_first: bool) -> u64 {
        let own = Self::step(run_secs);
        let steps = self.waiting.iter().enumerate();
        let parts = steps.map(|(step, work)| match is_shortest_first {
            false => *work,
            true if step <= own => *work,
            // Of the long work that waits already, some is older than any start of a short job needs.
            true => *work / 4,
        });
        parts.fold(0, u64::saturating_add)
    }

    fn wait_secs(&self, size: u64, run_secs: u32, policy: &Policy, now: Timestamp) -> u64 {
        let ahead = self.ahead(run_secs, policy.weights.shortness > 0);
        let free = self.capacity.saturating_sub(self.running);
        if ahead == 0 && free >= size {
            return 0;
        }
        let now_secs = u128::from(now.0 / 1000);
        let elapsed = now_secs.saturating_mul(u128::from(self.running));
        let remaining = self.running_until.saturating_sub(elapsed);
        // So much of what runs has to end for it: it takes that part of the mean time that is left.
        let running = u128::from(self.running.max(1));
        let missing = u128::from(size.saturating_sub(free).min(self.running));
        let first = remaining / running * missing / running;
        let first = u64::try_from(first).unwrap_or(u64::MAX);
        (ahead / self.capacity.max(1)).saturating_add(first)
    }
}

impl Load {
    /// Takes the place of a job in the sums: `old` goes, `new` comes.
    pub(crate) fn count_job(&mut self, old: Option<&Job>, new: Option<&Job>) {
        for (job, is_new) in [(old, false), (new, true)] {
            let Some(job) = job else {
                continue;
            };
            let (kind, size) = job.spec.kind_and_size();
            let kind = &mut self.0[kind];
            match &job.state {
                JobState::Pending => {
                    let Some(forecast) = job.forecast else {
                        continue;
                    };
                    let members = job.array.as_ref().map_or(1, |array| array.waiting.len());
                    let work = size
                        .saturating_mul(u64::from(forecast.run_secs))
                        .saturating_mul(members);
                    let sum = &mut kind.waiting[Kind::step(forecast.run_secs)];
                    *sum = add(*sum, work, is_new);
                }
                JobState::Starting(run) | JobState::Running(run) | JobState::Exiting(run, _) => {
                    let run_secs = job.forecast.map_or(0, |told| told.run_secs);
                    let end = run.placed.plus_secs(u64::from(run_secs)).0 / 1000;
                    let until = u128::from(end) * u128::from(size);
                    kind.running = add(kind.running, size, is_new);
                    kind.running_until = match is_new {
                        true => kind.running_until.saturating_add(until),
                        false => kind.running_until.saturating_sub(until),
                    };
                }
                JobState::Ended(_) => {}
            }
        }
    }

    /// The same for a node.
    pub(crate) fn count_node(&mut self, old: Option<&Node>, new: Option<&Node>) {
        for (node, is_new) in [(old, false), (new, true)] {
            let Some(node) = node.filter(|node| node.is_usable()) else {
                continue;
            };
            let sizes = [node.inventory.cards.len() as u64, u64::from(node.slots)];
            for (kind, size) in self.0.iter_mut().zip(sizes) {
                kind.capacity = add(kind.capacity, size, is_new);
            }
        }
    }

    fn rough_secs(&self, job: &Job, run_secs: u32, policy: &Policy, now: Timestamp) -> u64 {
        let (kind, size) = job.spec.kind_and_size();
        self.0[kind].wait_secs(size, run_secs, policy, now)
    }
}

const fn add(sum: u64, amount: u64, is_new: bool) -> u64 {
    match is_new {
        true => sum.saturating_add(amount),
        false => sum.saturating_sub(amount),
    }
}

impl Job {
    /// What it was told of its start before it starts at `now`; nothing when that is at once, or of a member of an array.
    #[must_use]
    pub fn told_before(&self, now: Timestamp) -> Option<Forecast> {
        let own = self
            .forecast
            .filter(|told| !told.is_of_array && !self.is_array());
        own.filter(|told| now.secs_since(told.made) >= TOLD_AFTER_SECS)
    }
}

impl JobSpec {
    /// In which unit the job counts (cards are 0, slots are 1), and how much of it.
    pub(crate) fn kind_and_size(&self) -> (usize, u64) {
        match self.cards_and_slots() {
            (0, slots) => (1, u64::from(slots)),
            (cards, _) => (0, u64::from(cards)),
        }
    }
}

impl State {
    /// How good forecasts have been.
    #[must_use]
    pub fn forecasts(&self) -> &Forecasts {
        &self.forecasts
    }

    /// How long `job` is expected to run when it starts, seconds: as its user's last jobs like it, and at most for its
    /// walltime; a day when nothing is known.
    #[must_use]
    pub fn expected_run_secs(&self, job: &Job) -> u64 {
        self.expected_run_secs_of(job, walltime_secs(job), job.spec.size())
    }

    /// The same for a job of which walltime (seconds) and size are known.
    pub(crate) fn expected_run_secs_of(&self, job: &Job, walltime_secs: u64, size: u32) -> u64 {
        const UNKNOWN_SECS: u64 = 24 * 3600;
        let most = Some(walltime_secs).filter(|secs| *secs < ENDLESS_SECS);
        let most = most.map(|secs| secs.max(1));
        let known = self.history_of(&job.spec.owner.user).and_then(|history| {
            let get = |name: &str, size: u32| history.get(name)?.get(&size).copied();
            get(&job.spec.name, size)
                .or_else(|| get("", size))
                .or_else(|| get("", 0))
        });
        match (known, most) {
            (Some(times), _) => times.estimate_secs(most.unwrap_or(ENDLESS_SECS)),
            (None, Some(most)) => most,
            (None, None) => UNKNOWN_SECS,
        }
    }

    /// How much there is of a kind of [`JobSpec::kind_and_size`] on usable nodes, and how much of it is lent.
    pub(crate) fn room(&self, kind: usize) -> (u64, u64) {
        self.load
            .0
            .get(kind)
            .map_or((0, 0), |kind| (kind.capacity, kind.running))
    }

    /// What a job that begins to wait now is told of its start.
    pub(crate) fn forecast(&self, job: &Job, now: Timestamp) -> Forecast {
        let policy = self.settings().map(|settings| Policy::of(settings));
        let run_secs = self.expected_run_secs(job);
        let run = u32::try_from(run_secs).unwrap_or(u32::MAX);
        let rough = self
            .load
            .rough_secs(job, run, &policy.unwrap_or_default(), now);
        self.forecasts.of(rough, run_secs, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that look thrown (Knuth's multiplier).
    fn thrown(seed: &mut u64) -> u64 {
        *seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        *seed >> 33
    }

    fn share_in_time(wait: impl Fn(u64, u64) -> u64) -> f64 {
        let mut forecasts = Forecasts::default();
        let (mut seed, mut in_time) = (7, 0);
        let jobs = 4000;
        for at in 0..jobs {
            let rough = 600 + thrown(&mut seed) % 600;
            let now = Timestamp(at * 1000);
            let forecast = forecasts.of(rough, 0, now);
            let start = now.plus_secs(wait(thrown(&mut seed), at));
            let is_in_time = start <= forecast.likely_by;
            in_time += u64::from(is_in_time);
            forecasts = match is_in_time {
                true => forecasts.after(forecast, start),
                false => forecasts.after_late([forecast].into_iter(), start),
            };
        }
        in_time as f64 / jobs as f64
    }

    #[test]
    fn four_of_five_start_by_the_time_that_was_called_likely_whatever_waits_are_like() {
        for (name, share) in [
            ("steady", share_in_time(|thrown, _| thrown % 3600)),
            (
                "long tails",
                share_in_time(|thrown, _| 10_000_000 / (thrown % 10_000 + 1)),
            ),
            (
                "far shorter than reckoned",
                share_in_time(|thrown, _| thrown % 20),
            ),
            (
                "longer and longer",
                share_in_time(|thrown, at| thrown % (at + 1) * 10),
            ),
        ] {
            assert!((0.77..0.83).contains(&share), "{name}: {share}");
        }
    }

    #[test]
    fn longer_waits_are_classes_of_their_own() {
        let classes = [0, 200, 1000, 3800, 20_000, 70_000, u64::MAX].map(class);
        assert_eq!(classes, [0, 1, 2, 3, 4, 5, 5]);
    }

    #[test]
    fn a_stretch_by_doublings_is_a_product() {
        for (secs, doublings, expected) in [(60, 0, 60), (60, 3, 480), (4096, -4, 256), (1, -5, 0)]
        {
            let found = stretched(secs, doublings * ONE);
            assert!(
                found.abs_diff(expected) <= expected / 100,
                "{secs} {doublings}: {found}"
            );
        }
        assert_eq!(stretched(u64::MAX, FACTOR_MAX), u64::MAX >> 1);
    }
}
