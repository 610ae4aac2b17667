//! Hours of the week in which something is open: `Mon-Fri 18:00-08:00,Sat,Sun`. Entries are parted by commas; each has
//! days, a span of the clock, or both. A span that ends before it begins goes on past midnight; an entry without a span
//! is the whole day, one without days is every day.

use crate::{ParseError, Timestamp, Weekdays, Zone};

const DAY: u32 = 24 * 60;
const WEEK: u32 = 7 * DAY;

/// Hours of the week, by the clock on the wall.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hours {
    /// Minutes since Monday 00:00, `[from, until)`, ascending, apart from each other.
    open: Vec<(u32, u32)>,
}

impl Hours {
    /// Most entries of one text.
    pub const ENTRIES_MAX: usize = 64;

    /// Reads `text`.
    ///
    /// # Errors
    /// An entry that is neither days nor a span of the clock, or too many.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut spans = Vec::new();
        let mut at = 0;
        for (count, entry) in text.split(',').enumerate() {
            let fail = |expected| Err(ParseError::new(text, at, expected));
            if count >= Self::ENTRIES_MAX {
                return fail("fewer entries");
            }
            let mut words = entry.split_whitespace();
            let first = words.next().unwrap_or_default();
            let days = Weekdays::parse_range(first);
            let span = if days.is_some() {
                words.next()
            } else {
                Some(first)
            };
            let span = match span.map(clock_span) {
                None => (0, DAY),
                Some(Some(span)) => span,
                Some(None) => return fail("a day or hours, as in `Mon-Fri 18:00-08:00`"),
            };
            if words.next().is_some() {
                return fail("`,` behind the hours");
            }
            let days = days.unwrap_or(Weekdays::ALL);
            let days = (0_u32..7).filter(|day| days.contains(*day as usize));
            spans.extend(days.map(|day| (day * DAY + span.0, day * DAY + span.1)));
            at += entry.len() + 1;
        }
        Ok(Self {
            open: merged(spans),
        })
    }

    /// Until when it is open at `now`; `None` when it is closed then. A week and more is for ever.
    #[must_use]
    pub fn open_until(&self, zone: &Zone, now: Timestamp) -> Option<Timestamp> {
        let (minute, monday) = self.place(zone, now);
        let (_, until) = self.span_at(minute)?;
        if until - minute >= WEEK {
            return Some(Timestamp(u64::MAX));
        }
        let wall = monday.plus_secs(i64::from(until) * 60);
        Some(zone.instant(wall).max(now))
    }

    /// When it opens next, seen from `now`: `now` itself while it is open.
    #[must_use]
    pub fn next_opening(&self, zone: &Zone, now: Timestamp) -> Timestamp {
        let (minute, monday) = self.place(zone, now);
        if self.span_at(minute).is_some() {
            return now;
        }
        let weeks = [0, WEEK].into_iter();
        let openings = weeks.flat_map(|week| self.open.iter().map(move |(from, _)| from + week));
        let next = openings.filter(|from| *from > minute).min();
        next.map_or(Timestamp(u64::MAX), |from| {
            zone.instant(monday.plus_secs(i64::from(from) * 60))
                .max(now)
        })
    }

    /// The minute of the week, and its Monday 00:00.
    fn place(&self, zone: &Zone, now: Timestamp) -> (u32, crate::WallTime) {
        let wall = zone.wall(now);
        let second = wall.weekday() as i64 * crate::DAY_SECS + wall.second_of_day();
        let minute = u32::try_from(second / 60).unwrap_or(0);
        (minute, wall.plus_secs(-second))
    }

    /// The span that is open at this minute of the week, seen from it: it may end in the next week.
    fn span_at(&self, minute: u32) -> Option<(u32, u32)> {
        let mut weeks = [0, WEEK].into_iter();
        weeks.find_map(|week| {
            let shifted = minute + week;
            let found = self
                .open
                .iter()
                .find(|(from, until)| (*from..*until).contains(&shifted));
            let (from, mut until) = *found?;
            // The last span of a week may go on with the first of the next.
            if until == WEEK
                && let Some((0, first)) = self.open.first()
            {
                until += first;
            }
            Some((from.saturating_sub(week), until - week))
        })
    }
}

/// `18:00-08:00` in minutes; the end is behind the start, past midnight if need be.
fn clock_span(text: &str) -> Option<(u32, u32)> {
    let (from, until) = text.split_once('-')?;
    let (from, until) = (minute(from)?, minute(until)?);
    let from = Some(from).filter(|from| *from < DAY)?;
    let until = if until <= from { until + DAY } else { until };
    Some((from, until))
}

/// `18:00`, `8:00`, `24:00`, `18` in minutes.
pub(crate) fn minute(text: &str) -> Option<u32> {
    let (hour, minute) = text.split_once(':').unwrap_or((text, "00"));
    let number = |text: &str, lengths: std::ops::RangeInclusive<usize>| {
        let is_number = lengths.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u32>().ok().filter(|_| is_number)
    };
    let (hour, minute) = (number(hour, 1..=2)?, number(minute, 2..=2)?);
    let total = hour * 60 + minute;
    Some(total).filter(|total| minute < 60 && *total <= DAY)
}

/// Spans in order, without overlaps; what goes on past Sunday stays one span.
fn merged(mut spans: Vec<(u32, u32)>) -> Vec<(u32, u32)> {
    spans.sort_unstable();
    let mut merged: Vec<(u32, u32)> = Vec::new();
    for (from, until) in spans {
        match merged.last_mut() {
            Some((_, last)) if from <= *last => *last = until.max(*last),
            _ => merged.push((from, until)),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-16 was a Monday.
    fn time(day: u64, hour: u64, minute: u64) -> Timestamp {
        Timestamp(((1_794_787_200 + day * 86_400) + hour * 3600 + minute * 60) * 1000)
    }

    fn open(text: &str, now: Timestamp) -> Option<String> {
        let until = Hours::parse(text).unwrap().open_until(&Zone::utc(), now)?;
        Some(match until {
            Timestamp(u64::MAX) => "ever".to_owned(),
            until => until.to_string(),
        })
    }

    #[test]
    fn nights_and_weekends_are_one_span() {
        let nights = "Mon-Fri 18:00-08:00,Sat,Sun";
        assert_eq!(open(nights, time(0, 12, 0)), None);
        let until = |text: &str| Some(text.to_owned());
        assert_eq!(
            open(nights, time(0, 18, 0)),
            until("2026-11-17 08:00:00 UTC")
        );
        assert_eq!(
            open(nights, time(1, 7, 59)),
            until("2026-11-17 08:00:00 UTC")
        );
        assert_eq!(open(nights, time(1, 8, 0)), None);
        // Friday evening until the end of Sunday: Monday's own night begins at 18:00.
        assert_eq!(
            open(nights, time(4, 20, 0)),
            until("2026-11-23 00:00:00 UTC")
        );
        assert_eq!(
            open("Sun 20:00-04:00", time(0, 3, 0)),
            until("2026-11-16 04:00:00 UTC")
        );
        assert_eq!(
            open("Sun 20:00-24:00,Mon 0:00-4", time(6, 23, 0)),
            until("2026-11-23 04:00:00 UTC")
        );
        assert_eq!(open("Mon-Sun", time(3, 1, 0)), until("ever"));
        assert_eq!(
            open("12:00-13:00", time(5, 12, 30)),
            until("2026-11-21 13:00:00 UTC")
        );
    }

    #[test]
    fn what_is_closed_opens_next() {
        let next = |text: &str, now| {
            let hours = Hours::parse(text).unwrap();
            hours.next_opening(&Zone::utc(), now).to_string()
        };
        assert_eq!(
            next("Mon-Fri 18:00-08:00", time(0, 12, 0)),
            "2026-11-16 18:00:00 UTC"
        );
        assert_eq!(
            next("Mon 09:00-10:00", time(0, 10, 0)),
            "2026-11-23 09:00:00 UTC"
        );
        assert_eq!(
            next("Mon 09:00-10:00", time(0, 9, 30)),
            "2026-11-16 09:30:00 UTC"
        );
    }

    #[test]
    fn hours_are_those_of_the_zone() {
        let zone = Zone::new("Asia/Shanghai", [(Timestamp(0), 28_800)]);
        let hours = Hours::parse("Mon-Fri 18:00-08:00").unwrap();
        let until = hours.open_until(&zone, time(0, 10, 0));
        assert_eq!(until, Some(time(1, 0, 0)));
        assert_eq!(hours.open_until(&zone, time(0, 9, 59)), None);
    }

    #[test]
    fn what_is_no_hours_is_refused_where_it_goes_wrong() {
        let at = |text: &str| Hours::parse(text).unwrap_err().at;
        assert_eq!(at("Mon-Fri 18:00-08:00,xyz"), 20);
        assert_eq!(at("Mon 25:00-26:00"), 0);
        assert_eq!(at("Mon 08:00"), 0);
        assert_eq!(at(""), 0);
        assert_eq!(at("Mon 08:00-09:00 x"), 0);
        assert!(Hours::parse(&"Mon,".repeat(100)).is_err());
    }
}
