//! Mail points: the letters of `qsub -m` and `Mail_Points`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ParseError;

/// At which points of a job its owner wants mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MailPoints(u8);

impl MailPoints {
    /// `n`: none, but for what concerns the owner without his doing.
    pub const NONE: Self = Self(0);
    /// `a`: when the job is aborted; the default.
    pub const ABORT: Self = Self(1);
    /// `b`: when it begins.
    pub const BEGIN: Self = Self(2);
    /// `e`: when it ends.
    pub const END: Self = Self(4);
    /// `f`: when it ends with an exit status other than 0.
    pub const FAIL: Self = Self(8);
    /// `p`: never any mail.
    pub const NEVER: Self = Self(16);

    const LETTERS: [(u8, Self); 4] = [
        (b'a', Self::ABORT),
        (b'b', Self::BEGIN),
        (b'e', Self::END),
        (b'f', Self::FAIL),
    ];

    /// Reads `n`, `p`, or letters of `a`, `b`, `e`, `f`.
    ///
    /// # Errors
    /// An empty text, another letter, and `n` or `p` with others.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        const EXPECTED: &str = "letters of a, b, e, f, or n, or p";
        match text {
            "" => return Err(ParseError::new(text, 0, EXPECTED)),
            "n" => return Ok(Self::NONE),
            "p" => return Ok(Self::NEVER),
            _ => {}
        }
        let mut points = Self::NONE;
        for (at, letter) in text.bytes().enumerate() {
            let known = Self::LETTERS.iter().find(|(known, _)| *known == letter);
            let (_, point) = known.ok_or_else(|| ParseError::new(text, at, EXPECTED))?;
            points.0 |= point.0;
        }
        Ok(points)
    }

    /// Whether all points of `other` are in here.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl Default for MailPoints {
    fn default() -> Self {
        Self::ABORT
    }
}

impl fmt::Display for MailPoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NONE => return f.pad("n"),
            Self::NEVER => return f.pad("p"),
            Self(_) => {}
        }
        let mut letters = String::with_capacity(4);
        for (letter, point) in Self::LETTERS {
            if self.contains(point) {
                letters.push(char::from(letter));
            }
        }
        f.pad(&letters)
    }
}

#[cfg(test)]
mod tests {
    use super::MailPoints;

    #[test]
    fn points_are_letters_in_any_order() {
        let check = |text: &str, expected: Option<&str>| {
            let seen = MailPoints::parse(text)
                .ok()
                .map(|points| points.to_string());
            assert_eq!(seen.as_deref(), expected, "{text}");
        };
        check("a", Some("a"));
        check("eab", Some("abe"));
        check("f", Some("f"));
        check("n", Some("n"));
        check("p", Some("p"));
        for bad in ["", "x", "na", "ap", "A"] {
            check(bad, None);
        }
    }
}
