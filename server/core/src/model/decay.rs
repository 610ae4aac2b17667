//! Halving over time, in whole numbers only: every machine gets the same to the last bit, which `powf` of its libm does
//! not promise.

/// One, with 62 bits behind the point.
pub(super) const ONE: u64 = 1 << 62;

/// log2(e), with 32 bits behind the point.
const LOG2_E: u128 = 6_196_328_019;

/// `ROOTS[i]` is 2^-(2^-(i+1)): one half, then its root, and so on, each the square root of the one before.
const ROOTS: [u64; 32] = roots();

const fn roots() -> [u64; 32] {
    let mut roots = [0; 32];
    let mut root = ONE / 2;
    let mut at = 0;
    while at < roots.len() {
        root = ((root as u128) << 62).isqrt() as u64;
        roots[at] = root;
        at += 1;
    }
    roots
}

/// 2^-(`exponent` / 2^32), with 62 bits behind the point.
pub(super) const fn power(exponent: u64) -> u64 {
    let whole = exponent >> 32;
    if whole >= 62 {
        return 0;
    }
    let mut fraction = exponent as u32;
    let mut product = ONE;
    while fraction != 0 {
        let at = fraction.leading_zeros();
        product = ((product as u128 * ROOTS[at as usize] as u128) >> 62) as u64;
        fraction &= !(1 << (31 - at));
    }
    product >> whole
}

/// How fast use is forgotten: half of it in so many milliseconds; 0 for never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HalfLife(pub(super) u64);

impl HalfLife {
    /// What is left of one after `elapsed_ms`, with 62 bits behind the point.
    fn left(self, elapsed_ms: u64) -> u64 {
        let Some(whole) = elapsed_ms.checked_div(self.0) else {
            return ONE;
        };
        if whole >= 62 {
            return 0;
        }
        let fraction = (u128::from(elapsed_ms % self.0) << 32) / u128::from(self.0);
        power(whole << 32 | fraction as u64)
    }

    /// What is left of `value` after `elapsed_ms`, rounded down.
    pub(super) fn decayed(self, value: u64, elapsed_ms: u64) -> u64 {
        ((u128::from(value) * u128::from(self.left(elapsed_ms))) >> 62) as u64
    }

    /// How many milliseconds are left of the last `elapsed_ms` when each has decayed since it passed: the integral of the
    /// halving, H × log2(e) × (1 − 2^(−t/H)). So it is the same whether use is counted once at the end or bit by bit.
    pub(super) fn weighed(self, elapsed_ms: u64) -> u64 {
        if self.0 == 0 {
            return elapsed_ms;
        }
        let gone = u128::from(ONE - self.left(elapsed_ms));
        let half_lives = (u128::from(self.0.min(1 << 60)) * gone) >> 30;
        // The rounding of a short time may not make it longer than it was.
        let weighed = (half_lives * LOG2_E) >> 64;
        u64::try_from(weighed).map_or(elapsed_ms, |weighed| weighed.min(elapsed_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 86_400_000;
    const WEEK: HalfLife = HalfLife(7 * DAY_MS);

    fn near(value: u64, expected: f64) {
        let off = (value as f64 - expected).abs();
        assert!(
            off <= 4.0 + expected * 1e-7,
            "{value} is not about {expected}"
        );
    }

    #[test]
    fn half_is_left_after_each_half_life() {
        assert_eq!(WEEK.decayed(1000, 0), 1000);
        assert_eq!(WEEK.decayed(1000, 7 * DAY_MS), 500);
        assert_eq!(WEEK.decayed(1000, 21 * DAY_MS), 125);
        assert_eq!(WEEK.decayed(u64::MAX, 62 * 7 * DAY_MS), 0);
        assert_eq!(WEEK.decayed(u64::MAX, u64::MAX), 0);
    }

    #[test]
    fn in_between_it_is_the_power_of_two() {
        let value = 1_u64 << 50;
        for days in 1..40 {
            let expected = value as f64 * 2_f64.powf(-(days as f64) / 7.0);
            near(WEEK.decayed(value, days * DAY_MS), expected);
        }
    }

    #[test]
    fn many_short_steps_forget_as_much_as_one_long_one() {
        let value = 1_u64 << 50;
        let minutes = 7 * 24 * 60;
        let by_minutes = (0..minutes).fold(value, |left, _| WEEK.decayed(left, 60_000));
        near(by_minutes, value as f64 / 2.0 - minutes as f64 / 2.0);
    }

    #[test]
    fn time_that_passes_is_weighed_by_what_is_left_of_it() {
        assert_eq!(WEEK.weighed(0), 0);
        near(WEEK.weighed(60_000), 60_000.0);
        let week = 7.0 * DAY_MS as f64;
        near(
            WEEK.weighed(7 * DAY_MS),
            week * std::f64::consts::LOG2_E / 2.0,
        );
        near(WEEK.weighed(u64::MAX), week * std::f64::consts::LOG2_E);
        let (first, second) = (WEEK.weighed(3 * DAY_MS), WEEK.weighed(4 * DAY_MS));
        near(
            WEEK.decayed(first, 4 * DAY_MS) + second,
            WEEK.weighed(7 * DAY_MS) as f64,
        );
    }

    #[test]
    fn without_a_half_life_nothing_is_forgotten() {
        assert_eq!(HalfLife(0).decayed(1000, u64::MAX), 1000);
        assert_eq!(HalfLife(0).weighed(1 << 40), 1 << 40);
    }

    #[test]
    fn no_time_is_too_long_or_too_short() {
        for half_life in [1, 2, 999, u64::MAX] {
            for elapsed in [0, 1, 1000, u64::MAX / 2, u64::MAX] {
                let half_life = HalfLife(half_life);
                assert!(half_life.decayed(1 << 40, elapsed) <= 1 << 40);
                assert!(half_life.weighed(elapsed) <= elapsed);
            }
        }
    }
}
