//! Hold kinds: the letters of `qsub -h`, `qhold -h` and `Hold_Types`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ParseError;

/// Why a job may not be considered: a set of user, operator, system and slot holds. Prints as Torque does, in the order
/// `soul`, and `n` when there is none.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Holds(u8);

impl Holds {
    /// No hold.
    pub const NONE: Self = Self(0);
    /// `u`: the owner may set and release it.
    pub const USER: Self = Self(1);
    /// `o`: operators may.
    pub const OPERATOR: Self = Self(2);
    /// `s`: managers may; the server sets it for dependencies and array slots.
    pub const SYSTEM: Self = Self(4);
    /// `l`: a member of an array beyond its slot limit; nobody sets or releases it but the server.
    pub const SLOT: Self = Self(8);

    const LETTERS: [(u8, Self); 3] = [
        (b's', Self::SYSTEM),
        (b'o', Self::OPERATOR),
        (b'u', Self::USER),
    ];

    /// Reads letters of `u`, `o`, `s`, or `n` alone for none.
    ///
    /// # Errors
    /// An empty text, another letter, and `n` with others.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        const EXPECTED: &str = "hold letters (u, o, s) or n";
        if text == "n" {
            return Ok(Self::NONE);
        }
        let mut kinds = Self::NONE;
        for (at, letter) in text.bytes().enumerate() {
            let known = Self::LETTERS.iter().find(|(known, _)| *known == letter);
            let (_, kind) = known.ok_or_else(|| ParseError::new(text, at, EXPECTED))?;
            kinds = kinds.with(*kind);
        }
        if kinds.is_empty() {
            return Err(ParseError::new(text, 0, EXPECTED));
        }
        Ok(kinds)
    }

    /// Whether there is no hold.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all kinds of `other` are in here.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These and those of `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These without those of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl fmt::Display for Holds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut letters = String::with_capacity(4);
        for (letter, kind) in Self::LETTERS {
            if self.contains(kind) {
                letters.push(char::from(letter));
            }
        }
        if self.contains(Self::SLOT) {
            letters.push('l');
        }
        f.pad(if letters.is_empty() { "n" } else { &letters })
    }
}

#[cfg(test)]
mod tests {
    use super::Holds;

    fn check(text: &str, expected: Option<&str>) {
        let seen = Holds::parse(text).ok().map(|kinds| kinds.to_string());
        assert_eq!(seen.as_deref(), expected, "{text}");
    }

    #[test]
    fn holds_print_in_the_order_of_torque() {
        check("u", Some("u"));
        check("uos", Some("sou"));
        check("uu", Some("u"));
        check("n", Some("n"));
        for bad in ["", "x", "nu", "U", "u,o", "ü"] {
            check(bad, None);
        }
    }

    #[test]
    fn kinds_are_added_and_taken_away() {
        let both = Holds::USER.with(Holds::SYSTEM);
        assert!(both.contains(Holds::USER) && !both.contains(Holds::OPERATOR));
        assert_eq!(both.without(Holds::USER), Holds::SYSTEM);
        assert!(both.without(both).is_empty());
        let beyond = Holds::USER.with(Holds::SLOT);
        assert_eq!(
            beyond.to_string(),
            "ul",
            "as the recorded session C02 shows it"
        );
        assert!(Holds::parse("l").is_err(), "nobody may ask for it");
    }
}
