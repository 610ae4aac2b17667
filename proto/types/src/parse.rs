//! What every parser of this crate says when it refuses: where, what it expected there, and which PBS error that is.

use std::fmt;

use crate::Pbse;

/// A text that is not in the grammar. Points at the spot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The whole text that was parsed.
    pub text: String,
    /// Byte offset of the first byte that does not belong, at most `text.len()`.
    pub at: usize,
    /// What would have been right there, for a person: "a number of cards", "`:` or `+`".
    pub expected: &'static str,
    /// Which kind of refusal this is for PBS.
    pub class: ErrorClass,
}

/// How PBS classes a bad value; each has its own error number and so its own exit status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ErrorClass {
    /// Not a value of this kind at all: `nodes=2x`, `mem=abc`.
    #[default]
    IllegalValue,
    /// A node request with good characters and a bad meaning: `nodes=1:ppn=0`, `nodes=1:foo=bar`.
    InvalidSyntax,
    /// A GPU mode that nobody may ask for (`prohibited`).
    ProhibitedGpuMode,
    /// A dependency type without a job.
    InvalidDependency,
    /// A number beyond what any cluster has.
    TooLarge,
}

impl ErrorClass {
    /// The PBS error of this class.
    #[must_use]
    pub const fn pbse(self) -> Pbse {
        match self {
            Self::IllegalValue => Pbse::Badatval,
            Self::InvalidSyntax => Pbse::InvalidSyntax,
            Self::ProhibitedGpuMode => Pbse::GpuProhibitedMode,
            Self::InvalidDependency => Pbse::Baddepend,
            Self::TooLarge => Pbse::Excqresc,
        }
    }
}

impl ParseError {
    /// An error at byte `at` of `text`.
    pub fn new(text: impl Into<String>, at: usize, expected: &'static str) -> Self {
        let text = text.into();
        let at = at.min(text.len());
        Self {
            text,
            at,
            expected,
            class: ErrorClass::default(),
        }
    }

    /// The same error in another class.
    #[must_use]
    pub fn in_class(self, class: ErrorClass) -> Self {
        Self { class, ..self }
    }

    /// The text with a caret under the spot, on two lines. Of a long text, what surrounds the spot.
    #[must_use]
    pub fn with_caret(&self) -> String {
        let (before, rest) = self.text.split_at(self.boundary());
        let skip = before.chars().count().saturating_sub(SHOWN_CHARS);
        let before: String = before.chars().skip(skip).collect();
        let before = shown(&before);
        let indent = before.chars().count();
        format!("{before}{}\n{:indent$}^", shown(rest), "")
    }

    /// The spot, moved back to where a character begins.
    fn boundary(&self) -> usize {
        let at = self.at.min(self.text.len());
        (0..=at)
            .rev()
            .find(|&at| self.text.is_char_boundary(at))
            .unwrap_or(0)
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = shown(&self.text);
        let expected = self.expected;
        match &self.text[self.boundary()..] {
            "" => write!(f, "expected {expected} at the end of '{text}'"),
            rest => write!(f, "expected {expected} at '{}' in '{text}'", shown(rest)),
        }
    }
}

impl std::error::Error for ParseError {}

const SHOWN_CHARS: usize = 60;

/// The beginning of a text, fit for a terminal and a log: no control characters, one line, not too long.
fn shown(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(SHOWN_CHARS)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect();
    if text.chars().nth(SHOWN_CHARS).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::ParseError;

    #[test]
    fn the_message_names_the_spot() {
        let error = ParseError::new("1:ppn=x", 6, "a number of slots");
        assert_eq!(
            error.to_string(),
            "expected a number of slots at 'x' in '1:ppn=x'"
        );
        assert_eq!(error.with_caret(), "1:ppn=x\n      ^");
        let error = ParseError::new("1:", 2, "a property");
        assert_eq!(error.to_string(), "expected a property at the end of '1:'");
    }

    #[test]
    fn a_spot_inside_a_character_or_behind_the_end_does_no_harm() {
        assert_eq!(ParseError::new("é", 1, "x").with_caret(), "é\n^");
        assert_eq!(ParseError::new("é", 99, "x").with_caret(), "é\n ^");
    }

    #[test]
    fn terminal_escapes_and_endless_texts_are_not_repeated() {
        let error = ParseError::new(format!("\u{1b}[2J\n{}", "x".repeat(100_000)), 9, "y");
        assert!(error.to_string().chars().count() < 200);
        assert!(!error.to_string().chars().any(char::is_control));
        assert!(!error.with_caret().contains('\u{1b}'));
    }
}
