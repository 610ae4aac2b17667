//! Job arrays: `-t 0-9,20%5`, and `-J 0-99:2` of PBS Pro.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{ErrorClass, IndexSet, ParseError};

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
}
