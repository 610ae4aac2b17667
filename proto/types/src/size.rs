//! Sizes of memory and files, in PBS's spelling.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ParseError;

/// A size: `integer[k|m|g|t|p|e][b|w]`, case ignored; a bare number is bytes, a word is 8 bytes.
/// Printed with the unit it was given in (`1g` → `1gb`, `1024` → `1024b`), as Torque does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    number: u64,
    /// Power of 1024: 0 for bytes or words, 1 for kilo …
    scale: u8,
    is_words: bool,
}

impl Size {
    const LETTERS: &'static [u8] = b"kmgtpe";

    /// A size in kilobytes, the unit in which usage is reported.
    #[must_use]
    pub const fn kilobytes(number: u64) -> Self {
        Self {
            number,
            scale: 1,
            is_words: false,
        }
    }

    /// So many bytes, in the largest unit of which they are a whole number.
    #[must_use]
    pub const fn of_bytes(bytes: u64) -> Self {
        let mut scale = 0;
        while bytes > 0 && scale < 6 && bytes.trailing_zeros() >= 10 * (scale as u32 + 1) {
            scale += 1;
        }
        Self {
            number: bytes >> (10 * scale),
            scale,
            is_words: false,
        }
    }

    /// In bytes; a size over `u64::MAX` bytes cannot be parsed.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        let unit = if self.is_words { 8 } else { 1 };
        (self.number * unit) << (10 * self.scale)
    }

    /// Reads a size; hexadecimal (`0x10mb`) as well. A leading 0 does not make it octal, as it did in Torque.
    ///
    /// # Errors
    /// No number, an unknown unit, or a size that does not fit into 64 bits of bytes.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let fail = |at, expected| ParseError::new(text, at, expected);
        let (prefix, radix) = match text.get(..2) {
            Some("0x" | "0X") => (2, 16),
            Some(_) | None => (0, 10),
        };
        let is_digit = |byte: &u8| match radix {
            16 => byte.is_ascii_hexdigit(),
            _ => byte.is_ascii_digit(),
        };
        let digits = prefix + text.bytes().skip(prefix).take_while(is_digit).count();
        if digits == prefix {
            return Err(fail(prefix, "a number"));
        }
        let number = u64::from_str_radix(&text[prefix..digits], radix)
            .map_err(|_| fail(0, "a smaller number"))?;
        let unit = text[digits..].to_ascii_lowercase();
        let mut rest = unit.as_bytes();
        let mut scale = 0;
        if let Some(power) = rest
            .first()
            .and_then(|letter| Self::LETTERS.iter().position(|l| l == letter))
        {
            scale = power as u8 + 1;
            rest = &rest[1..];
        }
        let is_words = match rest {
            b"" | b"b" => false,
            // Torque takes `1gbb`, so somebody's script has it.
            b"bb" if scale > 0 => false,
            b"w" => true,
            _ => {
                return Err(fail(
                    text.len() - rest.len(),
                    "a unit (b, w, kb, kw, mb … eb)",
                ));
            }
        };
        let fits = 1u64
            .checked_shl(10 * u32::from(scale))
            .and_then(|unit| unit.checked_mul(if is_words { 8 } else { 1 }))
            .and_then(|unit| unit.checked_mul(number));
        fits.ok_or(fail(0, "a smaller size"))?;
        Ok(Self {
            number,
            scale,
            is_words,
        })
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.number)?;
        if let Some(power) = self.scale.checked_sub(1) {
            write!(f, "{}", char::from(Self::LETTERS[usize::from(power)]))?;
        }
        f.write_str(if self.is_words { "w" } else { "b" })
    }
}

#[cfg(test)]
mod tests {
    use super::Size;

    fn check(text: &str, expected: Option<(u64, &str)>) {
        let seen = Size::parse(text)
            .ok()
            .map(|size| (size.bytes(), size.to_string()));
        let expected = expected.map(|(bytes, text)| (bytes, text.to_owned()));
        assert_eq!(seen, expected, "{text}");
    }

    #[test]
    fn the_unit_is_kept_and_its_letters_normalised() {
        check("1g", Some((1 << 30, "1gb")));
        check("1GB", Some((1 << 30, "1gb")));
        check("1500kb", Some((1500 << 10, "1500kb")));
        check("1073741824", Some((1 << 30, "1073741824b")));
        check("2w", Some((16, "2w")));
        check("2kw", Some((2 << 13, "2kw")));
        check("1000mw", Some((1000 << 23, "1000mw")));
        check("1gbb", Some((1 << 30, "1gb")));
        check("0x10kb", Some((16 << 10, "16kb")));
        check("010mb", Some((10 << 20, "10mb")));
        check("0", Some((0, "0b")));
        for bad in [
            "",
            "x",
            "1x",
            "1kx",
            "-1",
            "99999999999999999999",
            "99999eb",
            "1 gb",
        ] {
            check(bad, None);
        }
    }
}
