//! Job arrays: `-t 0-9,20%5`, and sets of indices as few ranges.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{ErrorClass, ParseError};

/// A set of array indices, kept as sorted, disjoint, inclusive ranges; an array of a million members is one pair, and so
/// is every second one of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct IndexSet {
    /// Number `n` of a range stands for the index `first + n * step`.
    first: u32,
    step: u32,
    ranges: Vec<(u32, u32)>,
}

/// As it is stored: without steps just its ranges, as it always was.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Stored {
    Plain(Vec<(u32, u32)>),
    Stepped {
        first: u32,
        step: u32,
        ranges: Vec<(u32, u32)>,
    },
}

impl Default for IndexSet {
    fn default() -> Self {
        Self::plain(Vec::new())
    }
}

impl From<Stored> for IndexSet {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::Plain(ranges) => Self::plain(ranges),
            Stored::Stepped {
                first,
                step,
                ranges,
            } => Self {
                first,
                step: step.max(1),
                ranges,
            },
        }
    }
}

impl From<IndexSet> for Stored {
    fn from(set: IndexSet) -> Self {
        let IndexSet {
            first,
            step,
            ranges,
        } = set;
        match (first, step) {
            (0, 1) => Self::Plain(ranges),
            _ => Self::Stepped {
                first,
                step,
                ranges,
            },
        }
    }
}

impl IndexSet {
    const fn plain(ranges: Vec<(u32, u32)>) -> Self {
        Self {
            first: 0,
            step: 1,
            ranges,
        }
    }

    /// `first`, `first + step` and so on up to `last`; a step of 0 counts as 1.
    #[must_use]
    pub fn stepped(first: u32, last: u32, step: u32) -> Self {
        if first > last {
            return Self::default();
        }
        if step <= 1 {
            return Self::plain(vec![(first, last)]);
        }
        Self {
            first,
            step,
            ranges: vec![(0, (last - first) / step)],
        }
    }

    const fn index(&self, number: u32) -> u32 {
        self.first + number * self.step
    }

    /// The number of `index`, if it is on a step.
    fn number(&self, index: u32) -> Option<u32> {
        let offset = index.checked_sub(self.first)?;
        (offset % self.step == 0).then_some(offset / self.step)
    }

    /// The smallest index.
    #[must_use]
    pub fn first(&self) -> Option<u32> {
        self.ranges.first().map(|range| self.index(range.0))
    }

    /// The greatest index.
    #[must_use]
    pub fn last(&self) -> Option<u32> {
        self.ranges.last().map(|range| self.index(range.1))
    }

    /// How many indices.
    #[must_use]
    pub fn len(&self) -> u64 {
        let lengths = self
            .ranges
            .iter()
            .map(|(from, to)| u64::from(to - from) + 1);
        lengths.sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// All indices in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        let numbers = self.ranges.iter().flat_map(|&(from, to)| from..=to);
        numbers.map(|number| self.index(number))
    }

    /// The ranges in order, both ends inclusive; between two of them at least one index is missing. Ranges of
    /// numbers, not of indices, when the set has steps.
    #[must_use]
    pub fn ranges(&self) -> &[(u32, u32)] {
        &self.ranges
    }

    /// Whether `index` is in the set.
    #[must_use]
    pub fn contains(&self, index: u32) -> bool {
        self.number(index)
            .is_some_and(|number| self.has_number(number))
    }

    fn has_number(&self, number: u32) -> bool {
        let at = self.ranges.partition_point(|range| range.1 < number);
        self.ranges.get(at).is_some_and(|range| range.0 <= number)
    }

    /// How many indices are smaller than `index`.
    #[must_use]
    pub fn below(&self, index: u32) -> u64 {
        let offset = index.saturating_sub(self.first);
        // The first number that is not below.
        let end = u64::from(offset).div_ceil(u64::from(self.step));
        let parts = self
            .ranges
            .iter()
            .take_while(|(from, _)| u64::from(*from) < end);
        parts
            .map(|(from, to)| u64::from(*to).min(end - 1) - u64::from(*from) + 1)
            .sum()
    }

    /// Adds `index`; false when it was there already.
    pub fn insert(&mut self, index: u32) -> bool {
        let Some(number) = self.number(index) else {
            // Not on a step: from here on it is a set of single indices.
            *self = self.iter().collect();
            return self.insert(index);
        };
        let at = self.ranges.partition_point(|range| range.1 < number);
        if self.has_number(number) {
            return false;
        }
        let joins_left = at > 0 && self.ranges[at - 1].1 + 1 == number;
        let joins_right = self
            .ranges
            .get(at)
            .is_some_and(|range| range.0 - 1 == number);
        match (joins_left, joins_right) {
            (true, true) => {
                self.ranges[at - 1].1 = self.ranges[at].1;
                self.ranges.remove(at);
            }
            (true, false) => self.ranges[at - 1].1 = number,
            (false, true) => self.ranges[at].0 = number,
            (false, false) => self.ranges.insert(at, (number, number)),
        }
        true
    }

    /// Takes `index` out; false when it was not there.
    pub fn remove(&mut self, index: u32) -> bool {
        let Some(number) = self.number(index) else {
            return false;
        };
        let at = self.ranges.partition_point(|range| range.1 < number);
        let found = self.ranges.get(at).filter(|range| range.0 <= number);
        let Some(&(from, to)) = found else {
            return false;
        };
        match (from == number, to == number) {
            (true, true) => {
                self.ranges.remove(at);
            }
            (true, false) => self.ranges[at].0 = number + 1,
            (false, true) => self.ranges[at].1 = number - 1,
            (false, false) => {
                self.ranges[at].1 = number - 1;
                self.ranges.insert(at + 1, (number + 1, to));
            }
        }
        true
    }
}

/// From inclusive ranges in any order, overlapping or not; one that runs backwards adds nothing.
impl FromIterator<(u32, u32)> for IndexSet {
    fn from_iter<I: IntoIterator<Item = (u32, u32)>>(ranges: I) -> Self {
        let mut sorted: Vec<_> = ranges.into_iter().filter(|(from, to)| from <= to).collect();
        sorted.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::new();
        for (from, to) in sorted {
            match merged.last_mut() {
                Some(last) if from <= last.1.saturating_add(1) => last.1 = last.1.max(to),
                Some(_) | None => merged.push((from, to)),
            }
        }
        Self::plain(merged)
    }
}

impl FromIterator<u32> for IndexSet {
    fn from_iter<I: IntoIterator<Item = u32>>(indices: I) -> Self {
        indices.into_iter().map(|index| (index, index)).collect()
    }
}

/// As `-t` takes it: `0-3,7`.
impl fmt::Display for IndexSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for &(from, to) in &self.ranges {
            if self.step == 1 {
                write!(f, "{comma}{}", self.index(from))?;
                if from != to {
                    write!(f, "-{}", self.index(to))?;
                }
                comma = ",";
                continue;
            }
            for number in from..=to {
                write!(f, "{comma}{}", self.index(number))?;
                comma = ",";
            }
        }
        Ok(())
    }
}

/// What `-t` asks for. Prints as it was typed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArrayRequest {
    typed: Box<str>,
    /// The members.
    pub indices: IndexSet,
    /// At most so many members run at once (`%5`).
    pub slot_limit: Option<u32>,
    /// At most so many members are queued at once (`qsub -i`); the others are held until one has started.
    #[serde(default)]
    pub idle_limit: Option<u32>,
}

impl ArrayRequest {
    /// The longest request, in bytes.
    pub const BYTES_MAX: usize = 64 << 10;

    /// Reads `LIST[%SLOTS]`, LIST being `n` or `a-b`, comma separated, blanks allowed behind commas. Duplicates are
    /// merged. `%0`, `%` and `%x` set no limit, as in Torque. How many members are too many is the server's to say: a
    /// range costs the same whatever its length.
    ///
    /// # Errors
    /// Anything else, and ranges that run backwards.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        if text.len() > Self::BYTES_MAX {
            let error = ParseError::new(text, Self::BYTES_MAX, "a shorter list");
            return Err(error.in_class(ErrorClass::TooLarge));
        }
        let (list, slots) = match text.split_once('%') {
            Some((list, slots)) => (list, slots),
            None => (text, ""),
        };
        let indices = parse_indices(text, list)?;
        let slot_limit = Self::parse_slots(slots);
        Ok(Self {
            typed: text.into(),
            indices,
            slot_limit,
            idle_limit: None,
        })
    }

    /// Reads what `qsub -J` of PBS Pro takes: `X-Y[:STEP][%SLOTS]`.
    ///
    /// # Errors
    /// Anything else, a range without a second member, and a step of 0.
    pub fn parse_stepped(text: &str) -> Result<Self, ParseError> {
        if text.len() > Self::BYTES_MAX {
            let error = ParseError::new(text, Self::BYTES_MAX, "a shorter range");
            return Err(error.in_class(ErrorClass::TooLarge));
        }
        let (range, slots) = text.split_once('%').unwrap_or((text, ""));
        let (range, step) = match range.split_once(':') {
            Some((range, step)) => (range, Some((range.len() + 1, step))),
            None => (range, None),
        };
        let Some((from, to)) = range.split_once('-') else {
            return Err(ParseError::new(text, range.len(), "`-` and a last index"));
        };
        let to_at = from.len() + 1;
        let (from, to) = (index(text, 0, from)?, index(text, to_at, to)?);
        if from >= to {
            return Err(ParseError::new(text, to_at, "an index above the first"));
        }
        let step = match step {
            Some((at, step)) => match index(text, at, step)? {
                0 => return Err(ParseError::new(text, at, "a step of at least 1")),
                step => step,
            },
            None => 1,
        };
        Ok(Self {
            typed: text.into(),
            indices: IndexSet::stepped(from, to, step),
            slot_limit: Self::parse_slots(slots),
            idle_limit: None,
        })
    }

    /// The same members with another slot limit.
    #[must_use]
    pub fn with_slot_limit(self, slot_limit: Option<u32>) -> Self {
        let list = self.typed.split('%').next().unwrap_or_default();
        let typed = match slot_limit {
            Some(limit) => format!("{list}%{limit}").into(),
            None => list.into(),
        };
        Self {
            typed,
            slot_limit,
            ..self
        }
    }

    /// The limit behind `%`; none when that is no number or 0, as in Torque.
    #[must_use]
    pub fn parse_slots(slots: &str) -> Option<u32> {
        let digits = slots.bytes().take_while(u8::is_ascii_digit).count();
        match slots[..digits].parse() {
            Ok(0) => None,
            Ok(limit) => Some(limit),
            Err(_) if digits > 0 => Some(u32::MAX),
            Err(_) => None,
        }
    }

    /// Reads a LIST without a slot limit, as `qdel -t` takes it.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_list(text: &str) -> Result<IndexSet, ParseError> {
        if text.len() > Self::BYTES_MAX {
            let error = ParseError::new(text, Self::BYTES_MAX, "a shorter list");
            return Err(error.in_class(ErrorClass::TooLarge));
        }
        parse_indices(text, text)
    }
}

impl fmt::Display for ArrayRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.typed)
    }
}

/// The indices of `list`, with which `text` begins.
fn parse_indices(text: &str, list: &str) -> Result<IndexSet, ParseError> {
    let mut ranges = Vec::new();
    let mut at = 0;
    for piece in list.split(',') {
        let blanks = if at == 0 {
            0
        } else {
            piece.len() - piece.trim_start().len()
        };
        let range = &piece[blanks..];
        let start = at + blanks;
        let (from, to) = match range.split_once('-') {
            Some((from, to)) => {
                let to_at = start + from.len() + 1;
                let pair = (index(text, start, from)?, index(text, to_at, to)?);
                if pair.0 > pair.1 {
                    return Err(ParseError::new(text, to_at, "an index not below the first"));
                }
                pair
            }
            None => {
                let only = index(text, start, range)?;
                (only, only)
            }
        };
        ranges.push((from, to));
        at += piece.len() + 1;
    }
    Ok(ranges.into_iter().collect())
}

fn index(text: &str, at: usize, digits: &str) -> Result<u32, ParseError> {
    match digits.bytes().position(|b| !b.is_ascii_digit()) {
        Some(bad) => Err(ParseError::new(text, at + bad, "`,`, `-`, `%` or the end")),
        None if digits.is_empty() => Err(ParseError::new(text, at, "an index")),
        None => digits
            .parse()
            .map_err(|_| ParseError::new(text, at, "a smaller index")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, indices: &str, slot_limit: Option<u32>) {
        let request = ArrayRequest::parse(text).unwrap();
        assert_eq!(request.indices.to_string(), indices, "{text}");
        assert_eq!(request.slot_limit, slot_limit, "{text}");
        assert_eq!(request.to_string(), text);
    }

    fn refuse(text: &str, at: usize) {
        let error = ArrayRequest::parse(text).unwrap_err();
        assert_eq!(error.at, at, "{text}: {error}");
    }

    /// The recorded session G03 of Torque.
    #[test]
    fn index_lists_are_taken_as_torque_takes_them() {
        check("0", "0", None);
        check("5", "5", None);
        check("1-3", "1-3", None);
        check("1,3,5", "1,3,5", None);
        check("1-3,7,9-10", "1-3,7,9-10", None);
        check("0-3%2", "0-3", Some(2));
        check("1-3%0", "1-3", None);
        check("1-3%x", "1-3", None);
        check("1-3%", "1-3", None);
        check("01-03", "1-3", None);
        check("1, 2", "1-2", None);
        check("0-2,1-3", "0-3", None);
        check("0-999999%99999999999", "0-999999", Some(u32::MAX));
        refuse("3-1", 2);
        refuse("1-3:2", 3);
        refuse("a", 0);
        refuse("1-", 2);
        refuse("", 0);
        refuse("1,", 2);
        refuse("1 ,2", 1);
        refuse(" 1", 0);
        refuse("-1", 0);
        refuse("1-2-3", 3);
        refuse("99999999999", 0);
        check("1-99999999", "1-99999999", None);
        check("0-4294967295", "0-4294967295", None);
    }

    #[test]
    fn steps_of_pbs_pro_cost_nothing() {
        let check = |text: &str, first: &[u32], len: u64, limit| {
            let request = ArrayRequest::parse_stepped(text).unwrap();
            let seen: Vec<u32> = request.indices.iter().take(first.len()).collect();
            assert_eq!(seen, first, "{text}");
            assert_eq!(
                (request.indices.len(), request.slot_limit),
                (len, limit),
                "{text}"
            );
            assert_eq!(request.to_string(), text);
        };
        check("0-9", &[0, 1, 2], 10, None);
        check("0-99:2", &[0, 2, 4], 50, None);
        check("1-10:4%2", &[1, 5, 9], 3, Some(2));
        check("0-4294967295:3", &[0, 3], 1_431_655_766, None);
        for bad in [
            "5", "5-5", "5-1", "0-9:0", "0-9:x", "0-9,3", "-1", "a-b", "",
        ] {
            assert!(ArrayRequest::parse_stepped(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_slot_limit_is_changed_in_what_was_typed() {
        let request = ArrayRequest::parse("0-9%5").unwrap();
        assert_eq!(
            request.clone().with_slot_limit(Some(2)).to_string(),
            "0-9%2"
        );
        assert_eq!(request.with_slot_limit(None).to_string(), "0-9");
    }

    #[test]
    fn a_set_with_steps_is_a_set_like_any_other() {
        let mut set = IndexSet::stepped(10, 30, 5);
        assert_eq!(set.to_string(), "10,15,20,25,30");
        assert!(set.contains(15) && !set.contains(14) && !set.contains(5) && !set.contains(35));
        assert!(set.remove(20) && !set.remove(20) && !set.remove(21));
        assert_eq!(
            (set.first(), set.last(), set.len()),
            (Some(10), Some(30), 4)
        );
        assert_eq!((set.below(25), set.below(0), set.below(99)), (2, 0, 4));
        assert!(set.insert(20), "on its steps");
        assert_eq!(set.len(), 5);
        assert!(set.insert(11), "between its steps");
        assert_eq!(set.to_string(), "10-11,15,20,25,30");
    }

    #[test]
    fn ranges_stay_sorted_and_as_few_as_possible() {
        let mut set: IndexSet = [(5, 7), (0, 1), (2, 3), (6, 9), (4, 1)]
            .into_iter()
            .collect();
        assert_eq!(set.to_string(), "0-3,5-9");
        assert!(set.insert(4) && !set.insert(4));
        assert_eq!(set.ranges(), [(0, 9)]);
        assert!(set.remove(0) && set.remove(9) && set.remove(5) && !set.remove(5));
        assert_eq!(set.to_string(), "1-4,6-8");
        assert_eq!((set.first(), set.last(), set.len()), (Some(1), Some(8), 7));
        assert!(set.contains(4) && !set.contains(5) && !set.contains(9));
    }

    #[test]
    fn the_ends_of_the_numbers_are_no_trap() {
        let mut set = IndexSet::default();
        assert!(set.insert(u32::MAX) && set.insert(0));
        assert!(set.insert(u32::MAX - 1) && set.insert(1));
        assert_eq!(set.ranges(), [(0, 1), (u32::MAX - 1, u32::MAX)]);
        assert!(set.remove(u32::MAX) && set.remove(0));
        assert_eq!(set.ranges(), [(1, 1), (u32::MAX - 1, u32::MAX - 1)]);
        let all: IndexSet = [(0, u32::MAX), (3, u32::MAX)].into_iter().collect();
        assert_eq!(all.len(), 1 << 32);
    }
}
