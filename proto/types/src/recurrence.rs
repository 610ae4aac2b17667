//! What comes again: the part of RFC 5545's recurrence rules that `pbs_rsub -r` reads,
//! `FREQ=DAILY|WEEKLY;INTERVAL=n;BYDAY=MO,WE;COUNT=n|UNTIL=…`. A rule is expanded by the clock on the wall, so that a
//! course begins at 14:00 in summer and in winter.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{DAY_SECS, ParseError, Timestamp, WallTime, Weekdays, Zone};

/// A piece of time, `[from, until)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Span {
    /// Its beginning.
    pub from: Timestamp,
    /// Its end.
    pub until: Timestamp,
}

impl Span {
    /// Whether both have a moment in common.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.from < other.until && other.from < self.until
    }

    /// Whether `at` is in it.
    #[must_use]
    pub fn contains(self, at: Timestamp) -> bool {
        (self.from..self.until).contains(&at)
    }
}

/// How often something comes again, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recurrence {
    frequency: Frequency,
    /// Every so many days or weeks.
    interval: u32,
    /// On these days; empty for the day of the first.
    days: Weekdays,
    end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Frequency {
    Daily,
    Weekly,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Count(u32),
    /// The last that begins at or before this time of the clock.
    Wall(WallTime),
    /// Likewise, in UTC (`Z`).
    Instant(Timestamp),
}

impl Recurrence {
    /// Most occurrences of one rule.
    pub const OCCURRENCES_MAX: usize = 500;
    /// Longest interval.
    const INTERVAL_MAX: u32 = 366;

    /// Every week on these days, the last beginning on the day of `until` or before.
    #[must_use]
    pub const fn weekly(days: Weekdays, until: WallTime) -> Self {
        let frequency = Frequency::Weekly;
        let end = End::Wall(until.plus_secs(DAY_SECS - 1));
        Self {
            frequency,
            interval: 1,
            days,
            end,
        }
    }

    /// Reads a rule.
    ///
    /// # Errors
    /// A part that is not known or comes twice, a rule without `FREQ`, one without an end.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let (mut frequency, mut interval, mut days, mut end) = (None, None, None, None);
        let mut at = 0;
        for part in text.split(';') {
            let fail = |expected| Err(ParseError::new(text, at, expected));
            let Some((name, value)) = part.split_once('=') else {
                return fail("NAME=VALUE");
            };
            let value = value.trim().to_ascii_uppercase();
            let is_second = match name.trim().to_ascii_uppercase().as_str() {
                "FREQ" => match value.as_str() {
                    "DAILY" => frequency.replace(Frequency::Daily).is_some(),
                    "WEEKLY" => frequency.replace(Frequency::Weekly).is_some(),
                    _ => return fail("FREQ=DAILY or FREQ=WEEKLY"),
                },
                "INTERVAL" => {
                    let number = value.parse().ok();
                    match number.filter(|n| (1..=Self::INTERVAL_MAX).contains(n)) {
                        Some(number) => interval.replace(number).is_some(),
                        None => return fail("INTERVAL=1 to 366"),
                    }
                }
                "BYDAY" => match Weekdays::parse(&value).filter(|_| !value.contains('-')) {
                    Some(named) => days.replace(named).is_some(),
                    None => return fail("BYDAY= with days, as in MO,WE"),
                },
                "COUNT" => {
                    let number = value.parse().ok();
                    let max = Self::OCCURRENCES_MAX as u32;
                    match number.filter(|n| (1..=max).contains(n)) {
                        Some(number) => end.replace(End::Count(number)).is_some(),
                        None => return fail("COUNT=1 to 500"),
                    }
                }
                "UNTIL" => match until(&value) {
                    Some(time) => end.replace(time).is_some(),
                    None => return fail("UNTIL=YYYYMMDD or UNTIL=YYYYMMDDTHHMMSS"),
                },
                _ => return fail("FREQ, INTERVAL, BYDAY, COUNT or UNTIL"),
            };
            if is_second {
                return fail("each part once, and COUNT or UNTIL but not both");
            }
            at += part.len() + 1;
        }
        let fail = |expected| ParseError::new(text, text.len(), expected);
        Ok(Self {
            frequency: frequency.ok_or_else(|| fail("FREQ=DAILY or FREQ=WEEKLY"))?,
            interval: interval.unwrap_or(1),
            days: days.unwrap_or_default(),
            end: end.ok_or_else(|| fail("COUNT= or UNTIL="))?,
        })
    }

    /// Its occurrences, the first of which is `first` or the first of the named days behind it. All begin at the same
    /// time of the clock and end at the same. One more than [`Self::OCCURRENCES_MAX`] means that there are too many.
    #[must_use]
    pub fn expand(&self, zone: &Zone, first: Span) -> Vec<Span> {
        let (start, end) = (zone.wall(first.from), zone.wall(first.until));
        let length = end.0 - start.0;
        let days = match self.days.is_empty() {
            true if self.frequency == Frequency::Daily => Weekdays::ALL,
            true => Weekdays::only(start.weekday()),
            false => self.days,
        };
        let most = match self.end {
            End::Count(count) => count as usize,
            End::Wall(_) | End::Instant(_) => Self::OCCURRENCES_MAX + 1,
        };
        let first_monday = start.day() - start.weekday() as i64;
        let interval = i64::from(self.interval);
        let is_its_turn = |day: i64| match self.frequency {
            Frequency::Daily => (day - start.day()) % interval == 0,
            Frequency::Weekly => (day - first_monday).div_euclid(7) % interval == 0,
        };
        let mut spans = Vec::new();
        // Whatever the rule, it has a day every seven intervals.
        let horizon = start.day() + (most as i64 + 1) * interval * 7;
        for day in start.day()..=horizon {
            let wall = WallTime(day * DAY_SECS + start.second_of_day());
            let from = zone.instant(wall);
            let is_over = match self.end {
                End::Count(_) => false,
                End::Wall(last) => wall > last,
                End::Instant(last) => from > last,
            };
            if is_over || spans.len() >= most {
                break;
            }
            if days.contains(wall.weekday()) && is_its_turn(day) {
                let until = zone.instant(wall.plus_secs(length));
                spans.push(Span { from, until });
            }
        }
        spans
    }
}

/// `YYYYMMDD`, `YYYYMMDDTHHMMSS`, `YYYYMMDDTHHMMSSZ`; a date alone is its whole day.
fn until(text: &str) -> Option<End> {
    let (date, time) = match text.split_once('T') {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<i64>().ok().filter(|_| is_number)
    };
    let field = |text: &str, at: std::ops::Range<usize>| number(text.get(at)?);
    if date.len() != 8 {
        return None;
    }
    let day = WallTime::midnight(field(date, 0..4)?, field(date, 4..6)?, field(date, 6..8)?)?;
    let Some(time) = time else {
        return Some(End::Wall(day.plus_secs(DAY_SECS - 1)));
    };
    let clock = time.strip_suffix('Z').unwrap_or(time);
    let (hour, minute, second) = (
        field(clock, 0..2)?,
        field(clock, 2..4)?,
        field(clock, 4..6)?,
    );
    if clock.len() != 6 || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let wall = day.plus_secs(hour * 3600 + minute * 60 + second);
    Some(match clock.len() == time.len() {
        true => End::Wall(wall),
        false => End::Instant(Zone::utc().instant(wall)),
    })
}

/// As it is read.
impl fmt::Display for Recurrence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.frequency {
            Frequency::Daily => "FREQ=DAILY",
            Frequency::Weekly => "FREQ=WEEKLY",
        })?;
        if self.interval > 1 {
            write!(f, ";INTERVAL={}", self.interval)?;
        }
        if !self.days.is_empty() {
            write!(f, ";BYDAY={}", self.days.by_day())?;
        }
        match self.end {
            End::Count(count) => write!(f, ";COUNT={count}"),
            End::Wall(wall) => write!(f, ";UNTIL={}", compact(wall)),
            End::Instant(at) => write!(f, ";UNTIL={}Z", compact(Zone::utc().wall(at))),
        }
    }
}

/// `20261231T235959`.
fn compact(wall: WallTime) -> String {
    let utc = Zone::utc().instant(wall).to_string();
    let digits: String = utc.chars().filter(char::is_ascii_digit).collect();
    let (date, time) = digits.split_at(8.min(digits.len()));
    format!("{date}T{time}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Monday 2026-11-16, 14:00 to 16:00 UTC.
    fn first() -> Span {
        let from = Timestamp(1_794_837_600_000);
        Span {
            from,
            until: from.plus_secs(7200),
        }
    }

    fn starts(rule: &str, zone: &Zone, first: Span) -> Vec<String> {
        let spans = Recurrence::parse(rule).unwrap().expand(zone, first);
        let starts = spans.iter().map(|span| span.from.to_string());
        starts.map(|text| text[5..16].to_owned()).collect()
    }

    #[test]
    fn a_course_comes_on_its_days_until_its_end() {
        let check = |rule: &str, expected: &[&str]| {
            assert_eq!(starts(rule, &Zone::utc(), first()), expected, "{rule}");
        };
        check(
            "FREQ=WEEKLY;BYDAY=MO,WE;COUNT=3",
            &["11-16 14:00", "11-18 14:00", "11-23 14:00"],
        );
        check(
            "FREQ=WEEKLY;BYDAY=WE;UNTIL=20261201",
            &["11-18 14:00", "11-25 14:00"],
        );
        check(
            "FREQ=WEEKLY;INTERVAL=2;COUNT=2",
            &["11-16 14:00", "11-30 14:00"],
        );
        check("freq=daily;count=2", &["11-16 14:00", "11-17 14:00"]);
        check(
            "FREQ=DAILY;BYDAY=SA,SU;COUNT=2",
            &["11-21 14:00", "11-22 14:00"],
        );
        check(
            "FREQ=DAILY;UNTIL=20261117T140000Z",
            &["11-16 14:00", "11-17 14:00"],
        );
        check("FREQ=DAILY;UNTIL=20261115", &[]);
    }

    #[test]
    fn it_begins_at_the_same_time_of_the_clock_in_summer_and_in_winter() {
        let steps = [(0, 7200), (1_792_890_000_000, 3600)];
        let berlin = Zone::new(
            "Europe/Berlin",
            steps.map(|(from, offset)| (Timestamp(from), offset)),
        );
        let from = Timestamp(1_792_670_400_000); // 2026-10-22 14:00 in Berlin.
        let first = Span {
            from,
            until: from.plus_secs(7200),
        };
        assert_eq!(
            starts("FREQ=DAILY;INTERVAL=5;COUNT=2", &berlin, first),
            ["10-22 12:00", "10-27 13:00"]
        );
    }

    #[test]
    fn too_many_are_one_too_many() {
        let rule = Recurrence::parse("FREQ=DAILY;UNTIL=20991231").unwrap();
        let spans = rule.expand(&Zone::utc(), first());
        assert_eq!(spans.len(), Recurrence::OCCURRENCES_MAX + 1);
    }

    #[test]
    fn rules_are_printed_as_they_are_read() {
        for rule in [
            "FREQ=WEEKLY;BYDAY=MO,WE;COUNT=3",
            "FREQ=DAILY;INTERVAL=2;UNTIL=20261231T120000Z",
            "FREQ=WEEKLY;UNTIL=20261231T235959",
        ] {
            assert_eq!(Recurrence::parse(rule).unwrap().to_string(), rule);
        }
    }

    #[test]
    fn what_is_no_rule_is_refused_where_it_goes_wrong() {
        let check = |rule: &str, at: usize| {
            assert_eq!(Recurrence::parse(rule).unwrap_err().at, at, "{rule}");
        };
        check("", 0);
        check("FREQ=YEARLY;COUNT=2", 0);
        check("FREQ=DAILY", 10);
        check("FREQ=DAILY;COUNT=501", 11);
        check("FREQ=DAILY;COUNT=2;UNTIL=20261231", 19);
        check("FREQ=DAILY;UNTIL=20261331", 11);
        check("FREQ=DAILY;BYDAY=MO-FR;COUNT=1", 11);
        check("COUNT=3", 7);
    }
}
