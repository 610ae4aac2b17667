//! What the jobs of a user have used of late: the sum that fair share goes by, which is forgotten half by half, and the
//! card time of the last days, which limits look at.

use std::collections::BTreeMap;

use capstan_types::{CardWish, QueueName, Timestamp};
use serde::{Deserialize, Serialize};

use super::decay::HalfLife;
use super::share_policy::SharePolicy;
use super::{Job, Run, State};

/// Most payers that are remembered; beyond it the one with the least use is forgotten.
pub const PAYERS_MAX: usize = 65_536;
/// Most queues whose card time is remembered of one payer.
const QUEUES_MAX: usize = 64;
/// Most spells that are remembered of one payer in one queue: those of a window, and two for its ends.
const SPELLS_MAX: usize = SharePolicy::SPELLS as usize + 2;
/// Use below this is as good as none: one card-second.
const TRIFLE: u64 = 1000;

/// Whose share a job is charged to: a user, within his group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Payer {
    /// The group.
    pub group: Box<str>,
    /// The user.
    pub user: Box<str>,
}

/// What the jobs of one payer have used, attempts that have ended only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spending {
    /// Whose.
    pub payer: Payer,
    /// Thousandths of weighted card-seconds, as much as was left of them at `at`.
    pub used: u64,
    /// When `used` was right; it is decayed when it is read.
    pub at: Timestamp,
    /// Card time by queue, oldest first.
    #[serde(default)]
    pub spells: BTreeMap<QueueName, Vec<Spell>>,
}

/// Card time within one part of the window that limits look back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spell {
    /// When the part begins.
    pub from: Timestamp,
    /// Card-milliseconds within it, not weighted.
    pub card_ms: u64,
}

impl Payer {
    /// Whose share `job` is charged to.
    #[must_use]
    pub fn of(job: &Job) -> Self {
        let owner = &job.spec.owner;
        Self {
            group: owner.group.clone(),
            user: owner.user.clone(),
        }
    }
}

impl Spending {
    /// Nothing, of `payer`.
    #[must_use]
    pub const fn none(payer: Payer) -> Self {
        Self {
            payer,
            used: 0,
            at: Timestamp(0),
            spells: BTreeMap::new(),
        }
    }

    /// What is left at `now` of all that was used, thousandths of weighted card-seconds.
    #[must_use]
    pub(super) fn used_at(&self, half_life: HalfLife, now: Timestamp) -> u64 {
        half_life.decayed(self.used, now.0.saturating_sub(self.at.0))
    }

    /// Charges what the attempt `run` held, from when it was placed until `now`.
    #[must_use]
    pub(crate) fn charged(mut self, state: &State, job: &Job, run: &Run, now: Timestamp) -> Self {
        let policy = SharePolicy::of(state.settings().map(AsRef::as_ref));
        let left = self.used_at(policy.half_life, now);
        self.used = left.saturating_add(policy.used_by(state, run, now));
        self.at = self.at.max(now);
        let cards: u64 = run
            .shares
            .iter()
            .flat_map(|share| &share.cards)
            .map(|card| u64::from(card.share))
            .sum();
        if cards > 0 {
            self.spend(&policy, &job.queue, (run.placed, now), cards);
        }
        self
    }

    /// Enters card time between two times into the parts of the window that it lies in; `cards` in thousandths.
    fn spend(
        &mut self,
        policy: &SharePolicy,
        queue: &QueueName,
        (from, until): (Timestamp, Timestamp),
        cards: u64,
    ) {
        let oldest = Timestamp(until.0.saturating_sub(policy.window_ms));
        for spells in self.spells.values_mut() {
            spells.retain(|spell| spell.from.0.saturating_add(policy.spell_ms()) > oldest.0);
        }
        self.spells
            .retain(|name, spells| name == queue || !spells.is_empty());
        if !self.spells.contains_key(queue) && self.spells.len() >= QUEUES_MAX {
            return;
        }
        let spells = self.spells.entry(queue.clone()).or_default();
        let width = policy.spell_ms();
        let mut at = from.max(oldest).0;
        while at < until.0 {
            let begin = at - at % width;
            let end = begin.saturating_add(width).min(until.0);
            let card_ms = (end - at).saturating_mul(cards) / u64::from(CardWish::WHOLE);
            match spells.iter_mut().find(|spell| spell.from.0 == begin) {
                Some(spell) => spell.card_ms = spell.card_ms.saturating_add(card_ms),
                None => spells.push(Spell {
                    from: Timestamp(begin),
                    card_ms,
                }),
            }
            at = end;
        }
        spells.sort_by_key(|spell| spell.from);
        let surplus = spells.len().saturating_sub(SPELLS_MAX);
        spells.drain(..surplus);
    }

    /// Card-milliseconds in `queue` (`None` for all) that lie, wholly or partly, in the window before `now`.
    #[must_use]
    pub(crate) fn card_ms(
        &self,
        policy: &SharePolicy,
        queue: Option<&QueueName>,
        now: Timestamp,
    ) -> u64 {
        let oldest = now.0.saturating_sub(policy.window_ms);
        let all = self.spells.iter();
        let wanted = all.filter(|(name, _)| queue.is_none_or(|queue| queue == *name));
        let spells = wanted.flat_map(|(_, spells)| spells);
        let within = spells.filter(|spell| spell.from.0.saturating_add(policy.spell_ms()) > oldest);
        within.fold(0, |sum, spell| sum.saturating_add(spell.card_ms))
    }

    /// When the next part of its card time leaves the window.
    #[must_use]
    pub(crate) fn next_forgotten(&self, policy: &SharePolicy, now: Timestamp) -> Option<Timestamp> {
        let spells = self.spells.values().flatten();
        let leaves = spells.map(|spell| {
            let within = policy.spell_ms().saturating_add(policy.window_ms);
            Timestamp(spell.from.0.saturating_add(within))
        });
        leaves.filter(|leaves| *leaves > now).min()
    }

    /// Whether nothing of it counts any more.
    #[must_use]
    pub(crate) fn is_forgotten(&self, policy: &SharePolicy, now: Timestamp) -> bool {
        self.used_at(policy.half_life, now) < TRIFLE && self.card_ms(policy, None, now) == 0
    }
}
