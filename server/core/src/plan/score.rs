//! What a waiting job weighs: a sum of named factors, each counted in doublings or from 0 to 1, times the site's weights.
//! Waiting time against expected run time, both in doublings, is the rule of the highest response ratio: short work goes
//! first, and who waits long enough goes before anybody.

use capstan_types::Timestamp;

use crate::{FACTOR_MAX, FairShare, Job, JobSpec, Policy, State, Weights};

/// So many units make a doubling, and a point.
const ONE: i64 = 1 << 16;
/// The highest `-p`.
const PRIORITY_MAX: i64 = 1023;
/// A day: the expected run time that weighs nothing.
const PLAIN_SECS: u64 = 24 * 3600;

/// The scores of one plan.
pub(super) struct Scores<'a> {
    weights: Weights,
    now: Timestamp,
    /// What users are owed, if that counts.
    shares: Option<FairShare>,
    has_turns: bool,
    last: Option<(Owner<'a>, Option<usize>)>,
}

/// Group and user.
type Owner<'a> = (&'a str, &'a str);

/// What of a job counts beside its specification.
#[derive(Clone, Copy)]
pub(super) struct Factors {
    pub(super) queue_priority: i64,
    /// `-p`.
    pub(super) priority: i32,
    /// Since when it waits.
    pub(super) since: Timestamp,
    pub(super) estimate_secs: u64,
    /// Cards, of a job without cards slots.
    pub(super) size: u32,
}

impl<'a> Scores<'a> {
    pub(super) fn of(state: &State, policy: &Policy, now: Timestamp) -> Self {
        let weights = policy.weights;
        Self {
            weights,
            now,
            shares: (weights.fairshare != 0).then(|| FairShare::of(state, now)),
            has_turns: policy.has_strict_shares(),
            last: None,
        }
    }

    /// Whether users take turns: what one gets in a plan counts against him in the same plan.
    pub(super) const fn has_turns(&self) -> bool {
        self.has_turns
    }

    /// Whose share a job counts to: an account of [`FairShare`].
    pub(super) fn account(&mut self, job: &'a Job) -> Option<usize> {
        let shares = self.shares.as_ref()?;
        let owner = (&*job.spec.owner.group, &*job.spec.owner.user);
        match self.last {
            Some((last, account)) if last == owner => account,
            Some(_) | None => {
                let account = shares.account(owner.1, owner.0);
                self.last = Some((owner, account));
                account
            }
        }
    }

    /// Whether an account has used more than its share, where shares are strict.
    pub(super) fn is_ahead(&self, account: Option<usize>) -> bool {
        let shares = self.shares.as_ref().filter(|_| self.has_turns);
        let factor = shares.zip(account).map(|(shares, at)| shares.factor_of(at));
        factor.is_some_and(|factor| factor < FACTOR_MAX / 2)
    }

    /// What an account is owed counts for so much, in 65536ths of a point.
    pub(super) fn of_account(&self, account: Option<usize>) -> i64 {
        let shares = self.shares.as_ref();
        let factor = shares.zip(account).map(|(shares, at)| shares.factor_of(at));
        let factor = i64::from(factor.unwrap_or(0)) * ONE / i64::from(FACTOR_MAX);
        self.weights.fairshare.saturating_mul(factor)
    }

    /// Charges an account with what a job is expected to use.
    pub(super) fn charge(&mut self, account: Option<usize>, spec: &JobSpec, secs: u64) {
        if let Some((shares, account)) = self.shares.as_mut().zip(account) {
            let (cards, slots) = spec.cards_and_slots();
            let cost = shares.cost(cards, slots, secs);
            shares.charge_to(account, cost);
        }
    }

    /// The score of a job without what its user is owed, in 65536ths of a point.
    pub(super) fn of_job(&self, factors: Factors) -> i64 {
        let parts = self.parts(factors);
        parts
            .into_iter()
            .fold(0, |sum, (_, part)| sum.saturating_add(part))
    }

    /// What that score is the sum of, by name.
    pub(super) fn parts(&self, factors: Factors) -> [(&'static str, i64); 5] {
        let weights = &self.weights;
        let queue = weights
            .queue
            .saturating_mul(factors.queue_priority)
            .saturating_mul(ONE);
        let priority = i64::from(factors.priority) * ONE / PRIORITY_MAX;
        let (mut age, mut shortness, mut size) = (0, 0, 0);
        if weights.age != 0 {
            let waited = self.now.secs_since(factors.since);
            let from = Policy::AGE_FROM_SECS;
            age = log2(waited.saturating_add(from)) - log2(from);
        }
        if weights.shortness != 0 {
            let short = Policy::SHORT_FROM_SECS;
            let expected = factors.estimate_secs.saturating_add(short);
            shortness = log2(PLAIN_SECS + short) - log2(expected);
        }
        if weights.size != 0 {
            size = log2(u64::from(factors.size));
        }
        [
            ("queue", queue),
            ("priority", weights.priority.saturating_mul(priority)),
            ("age", weights.age.saturating_mul(age)),
            ("shortness", weights.shortness.saturating_mul(shortness)),
            ("size", weights.size.saturating_mul(size)),
        ]
    }
}

/// The logarithm to base 2 in 65536ths, by whole steps and a straight line between them made rounder by its error's
/// parabola; the same on every machine. Of 0 as of 1.
pub(crate) fn log2(number: u64) -> i64 {
    let number = number.max(1);
    let whole = i64::from(number.ilog2());
    // The fraction above the power of two, in 65536ths.
    let fraction = match number.ilog2() {
        steps @ 0..=16 => (number << (16 - steps)) & 0xffff,
        steps => (number >> (steps - 16)) & 0xffff,
    };
    let fraction = i64::try_from(fraction).unwrap_or(0);
    // log2(1+x) lies above x by about 0.344 x (1 - x).
    let bulge = fraction * (ONE - fraction) / ONE * 22_544 / ONE;
    whole * ONE + fraction + bulge
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_grow_with_their_number_and_are_off_by_less_than_a_hundredth() {
        let mut last = -1;
        for number in (1..5000).chain((1..2000).map(|step| step * step * 1013)) {
            let found = log2(number);
            assert!(found >= last || number < 5000, "{number}");
            let exact = (number as f64).log2() * ONE as f64;
            assert!(
                (found as f64 - exact).abs() < ONE as f64 / 100.0,
                "{number}"
            );
            last = found;
        }
        assert_eq!(log2(0), 0);
        assert_eq!(log2(1), 0);
        assert_eq!(log2(1 << 40), 40 * ONE);
    }
}
