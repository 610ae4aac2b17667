//! Points in time and spans, in PBS's spelling.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ParseError;

/// A point in time: milliseconds since 1970-01-01 UTC.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Seconds since 1970, rounded down.
    #[must_use]
    pub const fn secs(self) -> u64 {
        self.0 / 1000
    }

    /// The point `secs` seconds later.
    #[must_use]
    pub const fn plus_secs(self, secs: u64) -> Self {
        Self(self.0.saturating_add(secs.saturating_mul(1000)))
    }

    /// Whole seconds from `earlier` to here; 0 when `earlier` is later.
    #[must_use]
    pub const fn secs_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0) / 1000
    }
}

/// As people read it, without a time zone's rules: `2026-11-22 23:59:00 UTC`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second) = (self.secs() / 86_400, self.secs() % 86_400);
        let (year, month, day) = civil_date(days);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC"
        )
    }
}

/// Year, month and day of the day `days` after 1970-01-01, by the proleptic Gregorian calendar (Howard Hinnant,
/// "chrono-compatible low-level date algorithms", `civil_from_days`).
const fn civil_date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

/// A span of whole seconds; printed as `HH:MM:SS` with hours not folded into days, as PBS does.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Seconds(pub u64);

impl Seconds {
    /// Reads `[[[DD:]HH:]MM:]SS[.fraction]`; each field may exceed its natural range; a fraction rounds up.
    ///
    /// # Errors
    /// More than four fields, a field that is no number, or a span over `u32::MAX` seconds (136 years).
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        const WEIGHTS: [u64; 4] = [1, 60, 3600, 86400];
        let fail = |at, expected| ParseError::new(text, at, expected);
        let (whole, fraction) = match text.split_once('.') {
            Some((whole, fraction)) => (whole, fraction),
            None => (text, ""),
        };
        if !fraction.bytes().all(|b| b.is_ascii_digit()) {
            return Err(fail(whole.len() + 1, "digits of a fraction of a second"));
        }
        if whole.split(':').count() > WEIGHTS.len() {
            return Err(fail(0, "at most DD:HH:MM:SS"));
        }
        let mut total = u64::from(fraction.bytes().any(|b| b != b'0'));
        let mut end = whole.len();
        for (field, weight) in whole.rsplit(':').zip(WEIGHTS) {
            let start = end - field.len();
            if field.is_empty() || !field.bytes().all(|b| b.is_ascii_digit()) {
                return Err(fail(start, "a number"));
            }
            let value: u64 = field.parse().map_err(|_| fail(start, "a smaller number"))?;
            total = value
                .checked_mul(weight)
                .and_then(|secs| total.checked_add(secs))
                .filter(|&secs| secs <= u64::from(u32::MAX))
                .ok_or(fail(start, "a smaller number"))?;
            end = start.saturating_sub(1);
        }
        Ok(Self(total))
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secs = self.0;
        write!(
            f,
            "{:02}:{:02}:{:02}",
            secs / 3600,
            secs / 60 % 60,
            secs % 60
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{Seconds, Timestamp};

    fn check(text: &str, expected: Option<u64>) {
        assert_eq!(Seconds::parse(text).ok().map(|s| s.0), expected, "{text}");
    }

    #[test]
    fn every_form_of_torque_is_read() {
        check("300", Some(300));
        check("0:90", Some(90));
        check("01:00:00", Some(3600));
        check("100:00:00", Some(360_000));
        check("1:00:00:00", Some(86_400));
        check("1.5", Some(2));
        for bad in [
            "",
            ":",
            "-1",
            "x",
            "1:2:3:4:5",
            "5-10",
            "1.x",
            "99999999999999999999",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn dates_follow_the_calendar() {
        let check = |secs: u64, expected: &str| {
            assert_eq!(Timestamp(secs * 1000).to_string(), expected);
        };
        check(0, "1970-01-01 00:00:00 UTC");
        check(951_782_400, "2000-02-29 00:00:00 UTC");
        check(1_795_391_940, "2026-11-22 23:59:00 UTC");
        check(4_107_542_399, "2100-02-28 23:59:59 UTC");
        check(4_107_542_400, "2100-03-01 00:00:00 UTC");
        check(u64::MAX / 1000, "584556019-04-03 14:25:51 UTC");
    }

    #[test]
    fn hours_are_not_folded_into_days() {
        assert_eq!(Seconds(360_000).to_string(), "100:00:00");
    }
}
