//! Sets of array indices, as few ranges.

use std::fmt;

use serde::{Deserialize, Serialize};

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

#[cfg(test)]
mod tests {
    use super::*;

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
