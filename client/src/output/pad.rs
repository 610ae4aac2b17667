//! Columns as C's `printf` makes them: `%-16.16s`, `%9.9s`. Widths count characters, not bytes.

/// What stands in a column without a value.
pub(crate) const NONE: &str = " -- ";

/// The first `max` characters of `text`.
pub(crate) fn cut(text: &str, max: usize) -> &str {
    // Names are ASCII nearly always, and then the byte count answers without a walk.
    if text.len() <= max {
        return text;
    }
    let end = text.char_indices().nth(max);
    end.map_or(text, |(at, _)| &text[..at])
}

/// Appends `text` on the left of a column of `width`, cut to `max`.
pub(crate) fn left(out: &mut Vec<u8>, text: &str, width: usize, max: usize) {
    let text = cut(text, max);
    out.extend_from_slice(text.as_bytes());
    blanks(out, width.saturating_sub(characters(text)));
}

/// Appends `text` on the right of a column of `width`, cut to it.
pub(crate) fn right(out: &mut Vec<u8>, text: &str, width: usize) {
    let text = cut(text, width);
    blanks(out, width.saturating_sub(characters(text)));
    out.extend_from_slice(text.as_bytes());
}

/// Appends `number` on the right of a column of at least `width`.
pub(crate) fn number(out: &mut Vec<u8>, number: u64, width: usize) {
    let mut digits = [b' '; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    blanks(out, width.saturating_sub(digits.len() - at));
    out.extend_from_slice(&digits[at..]);
}

/// Appends `count` blanks.
pub(crate) fn blanks(out: &mut Vec<u8>, count: usize) {
    out.resize(out.len() + count, b' ');
}

fn characters(text: &str) -> usize {
    if text.is_ascii() {
        text.len()
    } else {
        text.chars().count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters() {
        let mut out = Vec::new();
        left(&mut out, "größe", 7, 4);
        right(&mut out, "ab", 4);
        number(&mut out, 0, 3);
        number(&mut out, 1234, 3);
        assert_eq!(String::from_utf8(out).unwrap(), "größ     ab  01234");
    }
}
