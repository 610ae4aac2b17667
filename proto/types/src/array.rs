//! Job arrays: `-t 0-9,20%5`, and sets of indices as few ranges.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ParseError;

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

    /// How many indices.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.0
            .iter()
            .map(|(from, to)| u64::from(to - from) + 1)
            .sum()
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
    /// Reads `LIST[%SLOTS]`, LIST being `n` or `a-b`, comma separated.
    ///
    /// # Errors
    /// Anything else, and ranges that run backwards.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        Err(ParseError::new(text, 0, "an index"))
    }
}

impl fmt::Display for ArrayRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.typed)
    }
}
