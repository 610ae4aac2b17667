//! A time zone as a table: from when on which offset holds. Rules of zones change with politics and live outside (the
//! server reads them at its start); decisions need a value that is stored with them and that a replay finds again.

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Seconds of a day without a change of the clock.
pub const DAY_SECS: i64 = 86_400;

/// A point in time as the clock on the wall shows it: seconds since 1970-01-01 00:00 of the same clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WallTime(pub i64);

/// Offsets from UTC over time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zone {
    /// Its name, as `TZ` has it; empty for UTC.
    name: Box<str>,
    /// (from when, seconds east of UTC), ascending; the first holds before it as well.
    steps: Vec<(Timestamp, i32)>,
}

impl Zone {
    /// Most changes of the offset that are kept: two a year for ten years.
    pub const STEPS_MAX: usize = 20;

    /// UTC.
    #[must_use]
    pub fn utc() -> Self {
        Self::default()
    }

    /// A zone of these offsets, ascending in time; what is beyond [`Self::STEPS_MAX`] is left out.
    #[must_use]
    pub fn new(name: &str, steps: impl IntoIterator<Item = (Timestamp, i32)>) -> Self {
        Self {
            name: name.into(),
            steps: steps.into_iter().take(Self::STEPS_MAX).collect(),
        }
    }

    /// Its name: `Asia/Shanghai`, `UTC`.
    #[must_use]
    pub fn name(&self) -> &str {
        match &*self.name {
            "" => "UTC",
            name => name,
        }
    }

    /// Seconds east of UTC at `at`.
    fn offset_at(&self, at: Timestamp) -> i64 {
        let upto = self.steps.partition_point(|(from, _)| *from <= at);
        let step = self.steps.get(upto.saturating_sub(1));
        step.map_or(0, |(_, offset)| i64::from(*offset))
    }

    /// What the clock shows at `at`.
    #[must_use]
    pub fn wall(&self, at: Timestamp) -> WallTime {
        let secs = i64::try_from(at.secs()).unwrap_or(i64::MAX / 4);
        WallTime(secs + self.offset_at(at))
    }

    /// When the clock shows `wall`: the first time where it does so twice, and the moment of the change where it is
    /// put forward past it. Times before 1970 are 1970.
    #[must_use]
    pub fn instant(&self, wall: WallTime) -> Timestamp {
        let at = |offset: i64| {
            let secs = wall.0.saturating_sub(offset).max(0);
            Timestamp(u64::try_from(secs).unwrap_or(0).saturating_mul(1000))
        };
        let offsets = self.steps.iter().map(|(_, offset)| i64::from(*offset));
        let right = |time: &Timestamp| self.wall(*time) == wall;
        let first = offsets.map(at).filter(right).min();
        first.unwrap_or_else(|| {
            // The clock never shows it: the offsets on both sides of the change give times on its other sides.
            let before = at(self.offset_at(Timestamp(
                at(0).0.saturating_sub(2 * DAY_SECS.unsigned_abs() * 1000),
            )));
            let next = self.steps.iter().map(|(from, _)| *from);
            let change = next.filter(|from| *from <= before).max();
            change.unwrap_or(before)
        })
    }
}

impl WallTime {
    /// The day, counted from 1970-01-01.
    #[must_use]
    pub const fn day(self) -> i64 {
        self.0.div_euclid(DAY_SECS)
    }

    /// Seconds since midnight.
    #[must_use]
    pub const fn second_of_day(self) -> i64 {
        self.0.rem_euclid(DAY_SECS)
    }

    /// The day of the week, 0 for Monday. 1970-01-01 was a Thursday.
    #[must_use]
    pub const fn weekday(self) -> usize {
        (self.day() + 3).rem_euclid(7) as usize
    }

    /// Midnight of `year`-`month`-`day`; `None` for a day that is not in the calendar (years 1970 to 2999).
    #[must_use]
    pub fn midnight(year: i64, month: i64, day: i64) -> Option<Self> {
        let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let last = match month {
            2 if is_leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => return None,
        };
        if !(1970..3000).contains(&year) || !(1..=last).contains(&day) {
            return None;
        }
        // Howard Hinnant, "chrono-compatible low-level date algorithms", `days_from_civil`.
        let shifted = if month <= 2 { year - 1 } else { year };
        let era = shifted.div_euclid(400);
        let year_of_era = shifted - era * 400;
        let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        Some(Self((era * 146_097 + day_of_era - 719_468) * DAY_SECS))
    }

    /// So many seconds later by the clock.
    #[must_use]
    pub const fn plus_secs(self, secs: i64) -> Self {
        Self(self.0.saturating_add(secs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Berlin in 2026: summer from 29 March 01:00 UTC, winter from 25 October 01:00 UTC.
    fn berlin() -> Zone {
        let steps = [
            (0, 3600),
            (1_774_746_000_000, 7200),
            (1_792_890_000_000, 3600),
        ];
        Zone::new(
            "Europe/Berlin",
            steps.map(|(from, offset)| (Timestamp(from), offset)),
        )
    }

    fn at(zone: &Zone, month: i64, day: i64, hour: i64, minute: i64) -> String {
        let wall = WallTime::midnight(2026, month, day).unwrap();
        let wall = wall.plus_secs(hour * 3600 + minute * 60);
        zone.instant(wall).to_string()
    }

    #[test]
    fn the_clock_on_the_wall_follows_the_offsets() {
        let zone = berlin();
        assert_eq!(at(&zone, 1, 10, 14, 0), "2026-01-10 13:00:00 UTC");
        assert_eq!(at(&zone, 7, 10, 14, 0), "2026-07-10 12:00:00 UTC");
        assert_eq!(at(&Zone::utc(), 7, 10, 14, 0), "2026-07-10 14:00:00 UTC");
        for secs in [1_768_050_000, 1_783_684_800, 1_774_745_999, 1_774_746_000] {
            let time = Timestamp(secs * 1000);
            assert_eq!(zone.instant(zone.wall(time)), time, "{time}");
        }
    }

    #[test]
    fn an_hour_that_is_left_out_is_the_moment_of_the_change_and_one_that_comes_twice_the_first() {
        let zone = berlin();
        assert_eq!(at(&zone, 3, 29, 1, 59), "2026-03-29 00:59:00 UTC");
        assert_eq!(at(&zone, 3, 29, 2, 30), "2026-03-29 01:00:00 UTC");
        assert_eq!(at(&zone, 3, 29, 3, 0), "2026-03-29 01:00:00 UTC");
        assert_eq!(at(&zone, 10, 25, 2, 30), "2026-10-25 00:30:00 UTC");
        assert_eq!(at(&zone, 10, 25, 3, 0), "2026-10-25 02:00:00 UTC");
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        let friday = WallTime::midnight(2026, 11, 20).unwrap();
        assert_eq!((friday.weekday(), friday.second_of_day()), (4, 0));
        assert_eq!(
            Zone::utc().instant(friday).to_string(),
            "2026-11-20 00:00:00 UTC"
        );
        assert!(WallTime::midnight(2028, 2, 29).is_some());
        for (year, month, day) in [(2026, 2, 29), (2026, 13, 1), (2026, 4, 31), (1969, 1, 1)] {
            assert_eq!(WallTime::midnight(year, month, day), None);
        }
    }
}
