//! What every parser of this crate says when it refuses: where, and what it expected there.

use std::fmt;

/// A text that is not in the grammar. Points at the spot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The whole text that was parsed.
    pub text: String,
    /// Byte offset of the first byte that does not belong, at most `text.len()`.
    pub at: usize,
    /// What would have been right there, for a person: "a number of cards", "`:` or `+`".
    pub expected: &'static str,
}

impl ParseError {
    /// An error at byte `at` of `text`.
    pub fn new(text: impl Into<String>, at: usize, expected: &'static str) -> Self {
        let text = text.into();
        let at = at.min(text.len());
        Self { text, at, expected }
    }

    /// The text with a caret under the spot, on two lines.
    #[must_use]
    pub fn with_caret(&self) -> String {
        let before = self.text.get(..self.at).unwrap_or("").chars().count();
        format!("{}\n{:before$}^", self.text, "")
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { text, at, expected } = self;
        match text.get(*at..).filter(|rest| !rest.is_empty()) {
            Some(rest) => write!(f, "expected {expected} at '{rest}' in '{text}'"),
            None => write!(f, "expected {expected} at the end of '{text}'"),
        }
    }
}

impl std::error::Error for ParseError {}
