//! `-a [[[[CC]YY]MM]DD]hhmm[.SS]`: the next time, seen from now, at which the clock shows this.

use jiff::civil::{Date, DateTime};
use jiff::{ToSpan, Zoned};

/// The point in time, in seconds since 1970; `None` when `text` is no date. What is not given is taken from `now`, and
/// then a point in the past means the next day, month or year; a full date may lie in the past.
pub(crate) fn execution_time(text: &str, now: &Zoned) -> Option<i64> {
    let (digits, seconds) = match text.split_once('.') {
        Some((digits, seconds)) => (
            digits,
            two(seconds.get(..2).filter(|_| seconds.len() == 2)?)?,
        ),
        None => (text, 0),
    };
    if !digits.bytes().all(|b| b.is_ascii_digit())
        || !(4..=12).contains(&digits.len())
        || digits.len() % 2 != 0
    {
        return None;
    }
    let field = |from_end: usize| {
        digits
            .get(digits.len().checked_sub(from_end)?..)
            .and_then(|rest| two(&rest[..2]))
    };
    let today = now.date();
    let day = field(6).unwrap_or(today.day());
    let month = field(8).unwrap_or(today.month());
    let year = match (digits.len(), field(10)) {
        (12, Some(year)) => i16::from(field(12)?) * 100 + i16::from(year),
        (_, Some(year)) if year > 68 => 1900 + i16::from(year),
        (_, Some(year)) => 2000 + i16::from(year),
        (_, None) => today.year(),
    };
    let at = DateTime::from_parts(
        Date::new(year, month, day).ok()?,
        jiff::civil::Time::new(field(4)?, field(2)?, seconds, 0).ok()?,
    );
    let at = if at < now.datetime() {
        later(at, digits.len())
    } else {
        at
    };
    Some(
        at.to_zoned(now.time_zone().clone())
            .ok()?
            .timestamp()
            .as_second(),
    )
}

/// The next of its kind: tomorrow for `hhmm`, next month for `DDhhmm`, next year for `MMDDhhmm`.
fn later(at: DateTime, digits: usize) -> DateTime {
    let step = match digits {
        4 => 1.day(),
        6 => 1.month(),
        8 => 1.year(),
        _ => return at,
    };
    at.saturating_add(step)
}

fn two(text: &str) -> Option<i8> {
    let is_number = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        let now: Zoned = "2026-11-22T03:55:51[UTC]".parse().unwrap();
        let seen = execution_time(text, &now)
            .map(|secs| jiff::Timestamp::from_second(secs).unwrap().to_string());
        assert_eq!(seen.as_deref(), expected, "{text}");
    }

    #[test]
    fn what_is_not_given_is_taken_from_now() {
        check("2359", Some("2026-11-22T23:59:00Z"));
        check("0101", Some("2026-11-23T01:01:00Z"));
        check("0101.30", Some("2026-11-23T01:01:30Z"));
        check("210800", Some("2026-12-21T08:00:00Z"));
        check("01150800", Some("2027-01-15T08:00:00Z"));
        check("2701150800", Some("2027-01-15T08:00:00Z"));
        check("6901150800", Some("1969-01-15T08:00:00Z"));
        check("200001010000", Some("2000-01-01T00:00:00Z"));
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for bad in [
            "",
            "9999",
            "abc",
            "2530",
            "12",
            "123",
            "0101.5",
            "0101.",
            "13320000",
            "2026010100000",
            "ä101",
        ] {
            check(bad, None);
        }
    }
}
