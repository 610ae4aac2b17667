//! Days of the week, as people write them in calendars: `Mon,Wed`, `Mon-Fri`, `MO,WE`.

use std::fmt;

use serde::{Deserialize, Serialize};

const NAMES: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
/// RFC 5545, `BYDAY`.
const SHORT: [&str; 7] = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"];

/// A set of days of the week.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Weekdays(u8);

impl Weekdays {
    /// Every day.
    pub const ALL: Self = Self(0x7f);

    /// One day, 0 for Monday.
    #[must_use]
    pub const fn only(day: usize) -> Self {
        Self(1 << (day % 7))
    }

    /// Both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether `day` is one of them, 0 for Monday.
    #[must_use]
    pub const fn contains(self, day: usize) -> bool {
        self.0 & (1 << (day % 7)) != 0
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Reads a day or a range of days: `Mon`, `mon-fri`, `MO`, `Fri-Mon`. `None` for anything else.
    #[must_use]
    pub fn parse_range(text: &str) -> Option<Self> {
        match text.split_once('-') {
            None => day(text).map(Self::only),
            Some((first, last)) => {
                let (first, last) = (day(first)?, day(last)?);
                let count = (last + 7 - first) % 7;
                let days = (first..=first + count).map(Self::only);
                Some(days.fold(Self::default(), Self::and))
            }
        }
    }

    /// Reads a comma list of days and ranges.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut days = Self::default();
        for part in text.split(',') {
            days = days.and(Self::parse_range(part.trim())?);
        }
        Some(days)
    }

    /// As `BYDAY` has them: `MO,WE`.
    #[must_use]
    pub fn by_day(self) -> String {
        self.names(&SHORT)
    }

    fn names(self, names: &[&'static str; 7]) -> String {
        let days = (0..7).filter(|day| self.contains(*day));
        let names: Vec<&str> = days.map(|day| names[day]).collect();
        names.join(",")
    }
}

/// `Mon`, `monday`, `MO`: any beginning of the English name of two letters or more.
fn day(text: &str) -> Option<usize> {
    const LONG: [&str; 7] = [
        "monday",
        "tuesday",
        "wednesday",
        "thursday",
        "friday",
        "saturday",
        "sunday",
    ];
    let text = text.trim().to_ascii_lowercase();
    let is_long_enough = text.len() >= 2;
    let found = LONG.iter().position(|name| name.starts_with(&text));
    found.filter(|_| is_long_enough)
}

impl fmt::Display for Weekdays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names(&NAMES))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_read_alone_in_lists_and_in_ranges() {
        let check = |text: &str, expected: &str| {
            assert_eq!(
                Weekdays::parse(text).unwrap().to_string(),
                expected,
                "{text}"
            );
        };
        check("Mon", "Mon");
        check("MO,WE", "Mon,Wed");
        check("mon-fri", "Mon,Tue,Wed,Thu,Fri");
        check("Sat-Mon", "Mon,Sat,Sun");
        check("Wednesday, Sun", "Wed,Sun");
        for bad in [
            "", "M", "Mon,", "Mon-", "Xyz", "Mon-Xyz", "mondayy", "14:00",
        ] {
            assert_eq!(Weekdays::parse(bad), None, "{bad}");
        }
        let days = Weekdays::parse("Mon,Sat").unwrap();
        assert_eq!(Weekdays::parse(&days.by_day()), Some(days));
    }
}
