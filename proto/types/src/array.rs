//! Job arrays: `-t 0-9,20%5`, and sets of indices as few ranges.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{ErrorClass, ParseError};

/// A set of array indices, kept as sorted, disjoint, inclusive ranges; an array of a million members is one pair.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IndexSet(Vec<(u32, u32)>);

impl IndexSet {
    /// The smallest index.
    #[must_use]
    pub fn first(&self) -> Option<u32> {
        self.0.first().map(|range| range.0)
    }

    /// The greatest index.
    #[must_use]
    pub fn last(&self) -> Option<u32> {
        self.0.last().map(|range| range.1)
    }

    /// How many indices.
    #[must_use]
    pub fn len(&self) -> u64 {
        let lengths = self.0.iter().map(|(from, to)| u64::from(to - from) + 1);
        lengths.sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All indices in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.iter().flat_map(|&(from, to)| from..=to)
    }

    /// The ranges in order, both ends inclusive; between two of them at least one index is missing.
    #[must_use]
    pub fn ranges(&self) -> &[(u32, u32)] {
        &self.0
    }

    /// Whether `index` is in the set.
    #[must_use]
    pub fn contains(&self, index: u32) -> bool {
        let at = self.0.partition_point(|range| range.1 < index);
        self.0.get(at).is_some_and(|range| range.0 <= index)
    }

    /// Adds `index`; false when it was there already.
    pub fn insert(&mut self, index: u32) -> bool {
        let at = self.0.partition_point(|range| range.1 < index);
        if self.0.get(at).is_some_and(|range| range.0 <= index) {
            return false;
        }
        let joins_left = at > 0 && self.0[at - 1].1 + 1 == index;
        let joins_right = self.0.get(at).is_some_and(|range| range.0 - 1 == index);
        match (joins_left, joins_right) {
            (true, true) => {
                self.0[at - 1].1 = self.0[at].1;
                self.0.remove(at);
            }
            (true, false) => self.0[at - 1].1 = index,
            (false, true) => self.0[at].0 = index,
            (false, false) => self.0.insert(at, (index, index)),
        }
        true
    }

    /// Takes `index` out; false when it was not there.
    pub fn remove(&mut self, index: u32) -> bool {
        let at = self.0.partition_point(|range| range.1 < index);
        let Some(&(from, to)) = self.0.get(at).filter(|range| range.0 <= index) else {
            return false;
        };
        match (from == index, to == index) {
            (true, true) => {
                self.0.remove(at);
            }
            (true, false) => self.0[at].0 = index + 1,
            (false, true) => self.0[at].1 = index - 1,
            (false, false) => {
                self.0[at].1 = index - 1;
                self.0.insert(at + 1, (index + 1, to));
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
        Self(merged)
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
        for (at, (from, to)) in self.0.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            write!(f, "{comma}{from}")?;
            if from != to {
                write!(f, "-{to}")?;
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
}

impl ArrayRequest {
    /// The most members of one array that anybody may ask for; a server's own limit is lower.
    pub const MEMBERS_MAX: u64 = 1_000_000;
    /// The longest request, in bytes.
    pub const BYTES_MAX: usize = 64 << 10;

    /// Reads `LIST[%SLOTS]`, LIST being `n` or `a-b`, comma separated, blanks allowed behind commas. Duplicates are
    /// merged. `%0`, `%` and `%x` set no limit, as in Torque.
    ///
    /// # Errors
    /// Anything else, ranges that run backwards, and more than [`Self::MEMBERS_MAX`] members.
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
        let digits = slots.bytes().take_while(u8::is_ascii_digit).count();
        let slot_limit = match slots[..digits].parse() {
            Ok(0) => None,
            Ok(limit) => Some(limit),
            Err(_) if digits > 0 => Some(u32::MAX),
            Err(_) => None,
        };
        Ok(Self {
            typed: text.into(),
            indices,
            slot_limit,
        })
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
    let indices: IndexSet = ranges.into_iter().collect();
    if indices.len() > ArrayRequest::MEMBERS_MAX {
        let error = ParseError::new(text, 0, "at most 1000000 members");
        return Err(error.in_class(ErrorClass::TooLarge));
    }
    Ok(indices)
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
        refuse("1-99999999", 0);
        refuse("0-4294967295", 0);
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
