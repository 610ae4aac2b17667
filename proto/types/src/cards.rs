//! What a request says of its cards beside their number: `gpus=1:3090|a40:gpumem>=24gb:cuda>=12.1:cc>=8.0:shared`, and
//! which cards are meant by a word like `a100-80gb`.
//!
//! **Which card a word means.** Product name and word are compared without regard to case, in their parts: the name is
//! parted at everything that is no letter or digit (`NVIDIA GeForce RTX 4090` → nvidia, geforce, rtx, 4090), the word
//! at `-`, `_` and `.` (`a100-80gb` → a100, 80gb). Each part of the word must be one or several neighbouring parts of
//! the name (`rtx4090` is rtx and 4090), in the same order, with anything between them. What makes another product of
//! the same number (`Ti`, `SUPER`, `D`, `Ada` …) must be said: `3080` is not a 3080 Ti, and `4090` is not a 4090 D. A
//! word of fewer than three letters and no digit means no card: it is a property of nodes.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{ErrorClass, ParseError, Size};

/// What each card of a request must be, and how much of it is wanted. Its model is among the properties of the request,
/// because a property of the node may stand in its place.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(default)]
pub struct CardWish {
    /// `gpumem>=`: least memory of a card, bytes; 0 when it does not say.
    pub memory_least_bytes: u64,
    /// `gpumem=`, bytes; of a shared card what the job uses of it, else as [`Self::memory_least_bytes`].
    pub memory_bytes: u64,
    /// `cuda>=`: least version of CUDA that the driver of the node serves.
    pub cuda: Option<Version>,
    /// `cc>=`: least compute capability.
    pub compute: Option<Version>,
    /// `shared`: others who said so may be lent the same card, as long as their parts fit on it together.
    pub is_shared: bool,
}

/// A version of CUDA or a compute capability: `12.1`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Version {
    /// Before the point.
    pub major: u16,
    /// Behind the point.
    pub minor: u16,
}

/// What a card is, as far as a request can ask for it.
#[derive(Clone, Copy, Debug)]
pub struct CardKind<'a> {
    /// Product name.
    pub model: &'a str,
    /// Its memory, bytes; 0 when it does not say.
    pub memory_bytes: u64,
    /// The newest CUDA that its driver serves; 0.0 when unknown.
    pub cuda: Version,
    /// Compute capability; 0.0 when unknown.
    pub compute: Version,
}

impl CardWish {
    /// Any card, whole.
    pub const ANY: Self = Self {
        memory_least_bytes: 0,
        memory_bytes: 0,
        cuda: None,
        compute: None,
        is_shared: false,
    };
    /// A whole card, in the unit in which shares of it are counted.
    pub const WHOLE: u16 = 1000;
    /// What a shared card is used for by a job that does not say: a quarter.
    pub const SHARE_DEFAULT: u16 = 250;

    /// Whether every card would do, and is wanted whole.
    #[must_use]
    pub fn is_any(&self) -> bool {
        *self == Self::ANY
    }

    /// Whether a card of this kind is good enough. One that does not tell what is asked for is not.
    #[must_use]
    pub fn is_met_by(&self, card: &CardKind<'_>) -> bool {
        let least = self.memory_least_bytes.max(self.memory_bytes);
        least <= card.memory_bytes
            && self.cuda.is_none_or(|least| least <= card.cuda)
            && self.compute.is_none_or(|least| least <= card.compute)
    }

    /// Thousandths that it takes of a card with so much memory, at least 1 and at most [`Self::WHOLE`].
    #[must_use]
    pub fn share_of(&self, card_bytes: u64) -> u16 {
        if !self.is_shared {
            return Self::WHOLE;
        }
        if self.memory_bytes == 0 {
            return Self::SHARE_DEFAULT;
        }
        let whole = u128::from(Self::WHOLE);
        let share = (u128::from(self.memory_bytes) * whole).div_ceil(u128::from(card_bytes.max(1)));
        share.clamp(1, whole) as u16
    }

    /// Takes in an item of a request, `gpumem>=24gb` as (`gpumem>`, `24gb`): `None` when the name is none of these.
    ///
    /// # Errors
    /// A value that is none of its kind; [`ParseError::at`] counts from the beginning of `value`.
    pub(crate) fn read(&mut self, name: &str, value: &str) -> Option<Result<(), ParseError>> {
        let read = match name {
            "gpumem" => memory(value).map(|bytes| self.memory_bytes = bytes),
            "gpumem>" => memory(value).map(|bytes| self.memory_least_bytes = bytes),
            "cuda" | "cuda>" => Version::parse(value).map(|least| self.cuda = Some(least)),
            "cc" | "cc>" => Version::parse(value).map(|least| self.compute = Some(least)),
            _ => return None,
        };
        Some(read)
    }

    /// What is both this and another; shared when either is.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            memory_least_bytes: self.memory_least_bytes.max(other.memory_least_bytes),
            memory_bytes: self.memory_bytes.max(other.memory_bytes),
            cuda: self.cuda.max(other.cuda),
            compute: self.compute.max(other.compute),
            is_shared: self.is_shared || other.is_shared,
        }
    }

    /// Fills in what it does not say from another.
    #[must_use]
    pub fn or(mut self, other: &Self) -> Self {
        if self.memory_bytes == 0 && self.memory_least_bytes == 0 {
            self.memory_bytes = other.memory_bytes;
            self.memory_least_bytes = other.memory_least_bytes;
        }
        self.cuda = self.cuda.or(other.cuda);
        self.compute = self.compute.or(other.compute);
        self.is_shared |= other.is_shared;
        self
    }
}

/// As typed behind `gpus=N`: `:gpumem>=24gb:cuda>=12.1`. Reads back to the same.
impl fmt::Display for CardWish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_shared {
            f.write_str(":shared")?;
        }
        if self.memory_bytes > 0 {
            write!(f, ":gpumem={}", Size::of_bytes(self.memory_bytes))?;
        }
        if self.memory_least_bytes > 0 {
            write!(f, ":gpumem>={}", Size::of_bytes(self.memory_least_bytes))?;
        }
        if let Some(cuda) = self.cuda {
            write!(f, ":cuda>={cuda}")?;
        }
        match self.compute {
            Some(compute) => write!(f, ":cc>={compute}"),
            None => Ok(()),
        }
    }
}

fn memory(value: &str) -> Result<u64, ParseError> {
    match Size::parse(value)?.bytes() {
        0 => Err(ParseError::new(value, 0, "memory of a card, more than 0")),
        bytes => Ok(bytes),
    }
}

impl Version {
    /// `12.1`, or `12` for 12.0.
    ///
    /// # Errors
    /// Anything else; numbers over 9999.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let number = |at: usize, digits: &str| {
            let is_number =
                (1..=4).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
            let number = digits.parse().ok().filter(|_| is_number);
            number.ok_or_else(|| ParseError::new(text, at, "a version like 12.1"))
        };
        let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
        Ok(Self {
            major: number(0, major)?,
            minor: number(major.len() + 1, minor)?,
        })
    }

    /// NVML's number of a CUDA version: 12010 is 12.1; 0.0 for what is none.
    #[must_use]
    pub fn of_cuda(number: u32) -> Self {
        let part = |part| u16::try_from(part).unwrap_or(0);
        Self {
            major: part(number / 1000),
            minor: part(number % 1000 / 10),
        }
    }

    /// Whether nothing is known.
    #[must_use]
    pub fn is_unknown(self) -> bool {
        self == Self::default()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What may stand in place of one another: the words of `3090|a40`.
pub fn alternatives(words: &str) -> impl Iterator<Item = &str> {
    words.split('|')
}

/// Checks what names kinds of cards: `rtx4090`, `3090|a40`.
///
/// # Errors
/// Points at what is no word, or at an alternative too many.
pub fn check_models(words: &str) -> Result<(), ParseError> {
    let mut at = 0;
    for (nth, word) in alternatives(words).enumerate() {
        let is_first = word.starts_with(|c: char| c.is_ascii_alphanumeric());
        let bad = |b: u8| !(b.is_ascii_alphanumeric() || b"-._".contains(&b));
        if nth == ALTERNATIVES_MAX {
            let error = ParseError::new(words, at, "at most 16 kinds of cards");
            return Err(error.in_class(ErrorClass::TooLarge));
        }
        if !is_first || word.len() > WORD_BYTES_MAX {
            return Err(ParseError::new(words, at, "a kind of card, like rtx4090"));
        }
        if let Some(bad) = word.bytes().position(bad) {
            return Err(ParseError::new(words, at + bad, "letters, digits or `|`"));
        }
        at += word.len() + 1;
    }
    Ok(())
}

/// The most kinds of which any may be given.
pub(crate) const ALTERNATIVES_MAX: usize = 16;
/// The longest word for a kind of card; no product has a longer name.
const WORD_BYTES_MAX: usize = 64;
/// The most parts of a product's name that are looked at.
const PARTS_MAX: usize = 16;
/// Parts of names that make another product of what stands before them.
const VARIANTS: &[&str] = &[
    "ada", "d", "dc", "laptop", "max", "maxq", "mobile", "q", "super", "ti", "v2",
];

/// Whether `word` means cards with this product name; the rule is at the head of this file.
#[must_use]
pub fn is_model(model: &str, word: &str) -> bool {
    let has_digit = word.bytes().any(|b| b.is_ascii_digit());
    if word.len() > WORD_BYTES_MAX || (word.len() < 3 && !has_digit) {
        return false;
    }
    let model = model.to_ascii_lowercase();
    let word = word.to_ascii_lowercase();
    let parts: Vec<&str> = model
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|part| !part.is_empty())
        .take(PARTS_MAX)
        .collect();
    let wanted: Vec<&str> = word
        .split(['-', '_', '.'])
        .filter(|part| !part.is_empty())
        .take(PARTS_MAX)
        .collect();
    !wanted.is_empty() && is_found(&parts, &wanted, false)
}

/// Whether `wanted` is found in `parts` in its order. `is_behind_match`: the part before these is one that was wanted.
fn is_found(parts: &[&str], wanted: &[&str], is_behind_match: bool) -> bool {
    let Some((first, others)) = wanted.split_first() else {
        let next = parts.first().filter(|_| is_behind_match);
        return next.is_none_or(|next| !VARIANTS.contains(next));
    };
    let is_variant_unsaid =
        |skipped: usize| skipped > 0 && is_behind_match && VARIANTS.contains(&parts[0]);
    (0..parts.len()).any(|from| {
        if is_variant_unsaid(from) {
            return false;
        }
        let mut rest = *first;
        for (taken, part) in parts[from..].iter().enumerate() {
            match rest.strip_prefix(part) {
                Some("") => return is_found(&parts[from + taken + 1..], others, true),
                Some(more) => rest = more,
                None => return false,
            }
        }
        false
    })
}

/// The word of `known` that somebody who typed `word` may have meant: one or two letters away.
#[must_use]
pub fn nearest_word<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let bare = |word: &str| word.trim_end_matches(['=', '>', '<']).to_ascii_lowercase();
    let typed = bare(word);
    if typed.is_empty() || typed.len() > WORD_BYTES_MAX {
        return None;
    }
    let distances = known
        .iter()
        .map(|word| (distance(&typed, &bare(word)), *word));
    let allowed = if typed.len() <= 3 { 1 } else { 2 };
    let nearest = distances.min_by_key(|(distance, _)| *distance);
    nearest
        .filter(|(distance, _)| *distance <= allowed)
        .map(|(_, word)| word)
}

/// Letters to insert, remove or replace to make one of the other.
fn distance(one: &str, other: &str) -> usize {
    let other = other.as_bytes();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, letter) in one.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = at + 1;
        for (column, own) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(*own != letter);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_means_the_products_that_people_call_so() {
        let check = |model: &str, means: &[&str], means_not: &[&str]| {
            for word in means {
                assert!(is_model(model, word), "{word} means {model}");
            }
            for word in means_not {
                assert!(!is_model(model, word), "{word} does not mean {model}");
            }
        };
        check(
            "NVIDIA GeForce RTX 4090",
            &[
                "rtx4090",
                "4090",
                "RTX4090",
                "geforce-rtx-4090",
                "rtx",
                "GeForce",
            ],
            &[
                "RTX4090D", "409", "90", "S", "rtx409", "4090-ti", "gtx4090", "40900",
            ],
        );
        check(
            "NVIDIA GeForce RTX 4090 D",
            &["RTX4090D", "4090d", "rtx4090-d", "rtx"],
            &["4090", "rtx4090", "d", "D"],
        );
        check(
            "NVIDIA A100-SXM4-80GB",
            &[
                "a100",
                "A100-80gb",
                "a100_80gb",
                "a100-sxm4-80gb",
                "a100-sxm4",
                "80gb",
            ],
            &["a10", "a100-40gb", "a100x", "80gb-a100"],
        );
        check(
            "NVIDIA A100 80GB PCIe",
            &["a100", "a100-80gb", "a100-pcie"],
            &["a100-sxm4"],
        );
        check(
            "GeForce GTX 1080 Ti",
            &["1080ti", "gtx1080ti", "1080-ti"],
            &["1080", "gtx1080"],
        );
        check(
            "NVIDIA GeForce RTX 4070 Ti SUPER",
            &["4070tisuper"],
            &["4070ti", "4070"],
        );
        check(
            "NVIDIA RTX 6000 Ada Generation",
            &["rtx6000-ada", "rtx6000ada"],
            &["rtx6000"],
        );
        check("Quadro RTX 6000", &["rtx6000", "quadro"], &["a6000"]);
        check("NVIDIA L40S", &["l40s"], &["l40"]);
        check("Tesla T4", &["t4"], &["t"]);
        check("NVIDIA H200", &["h200", "H200"], &["h20", "h100"]);
        check("", &[], &["a100", ""]);
    }

    #[test]
    fn a_share_is_counted_by_memory_and_never_too_small() {
        let wish = |memory_bytes| CardWish {
            is_shared: true,
            memory_bytes,
            ..CardWish::ANY
        };
        assert_eq!(CardWish::ANY.share_of(1 << 30), 1000);
        assert_eq!(wish(0).share_of(80 << 30), 250);
        assert_eq!(
            wish(8 << 30).share_of(24 << 30),
            334,
            "three of them do not fit"
        );
        assert_eq!(wish(8 << 30).share_of(80 << 30), 100);
        assert_eq!(wish(1).share_of(80 << 30), 1);
        assert_eq!(wish(u64::MAX).share_of(0), 1000);
    }

    #[test]
    fn what_a_card_does_not_tell_it_does_not_have() {
        let unknown = CardKind {
            model: "",
            memory_bytes: 0,
            cuda: Version::default(),
            compute: Version::default(),
        };
        let wish = |name: &str, value: &str| {
            let mut wish = CardWish::ANY;
            wish.read(name, value).unwrap().unwrap();
            wish
        };
        let known = CardKind {
            memory_bytes: 24 << 30,
            cuda: Version::of_cuda(12_040),
            compute: Version { major: 8, minor: 9 },
            ..unknown
        };
        for (name, value, is_met) in [
            ("gpumem>", "24gb", true),
            ("gpumem", "24gb", true),
            ("gpumem>", "25gb", false),
            ("cuda>", "12.4", true),
            ("cuda>", "12.10", false),
            ("cc", "8.9", true),
            ("cc>", "9", false),
        ] {
            assert_eq!(
                wish(name, value).is_met_by(&known),
                is_met,
                "{name}={value}"
            );
            assert!(!wish(name, value).is_met_by(&unknown), "{name}={value}");
        }
        assert!(CardWish::ANY.is_met_by(&unknown));
    }

    #[test]
    fn the_nearest_word_is_one_or_two_letters_away() {
        let known = ["gpumem>=", "cuda>=", "cc>=", "gpus=", "ppn="];
        let check = |typed: &str, expected: Option<&str>| {
            assert_eq!(nearest_word(typed, &known), expected, "{typed}");
        };
        check("gpumen>", Some("gpumem>="));
        check("gpu", Some("gpus="));
        check("cude", Some("cuda>="));
        check("pnp", None);
        check("colour", None);
        check("", None);
    }
}
