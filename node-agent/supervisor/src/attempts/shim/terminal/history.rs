//! What a terminal has shown: the last of it is kept, and every byte has a number, so that whoever comes again goes on
//! exactly where the connection was lost. Pure.

use std::collections::VecDeque;

use capstan_proto::wire::terminal_output::Output;

use super::peer::Shown;

/// Bytes that are kept.
pub(super) const KEPT_BYTES: usize = 256 << 10;
/// How much of it somebody is shown who comes anew: a few screens.
const FRESH_BYTES: u64 = 32 << 10;

#[derive(Debug, Default)]
pub(super) struct History {
    bytes: VecDeque<u8>,
    /// Number of the byte behind the last one.
    end: u64,
}

impl History {
    /// Adds what is shown; the oldest goes when there is no more room.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        self.end += bytes.len() as u64;
        let excess = self.bytes.len().saturating_sub(KEPT_BYTES);
        self.bytes.drain(..excess);
    }

    pub(super) fn start(&self) -> u64 {
        self.end - self.bytes.len() as u64
    }

    /// Where to go on for somebody who has seen everything before `from`; without one, where a fresh look begins.
    pub(super) fn resume(&self, from: Option<u64>) -> u64 {
        match from {
            Some(from) => from.clamp(self.start(), self.end),
            None => self.fresh(),
        }
    }

    /// At the beginning of a line, when something before it is left out.
    fn fresh(&self) -> u64 {
        let start = self.start().max(self.end.saturating_sub(FRESH_BYTES));
        if start == 0 {
            return 0;
        }
        let skipped = (start - self.start()) as usize;
        let mut rest = self.bytes.iter().skip(skipped);
        let line = rest.position(|byte| *byte == b'\n');
        line.map_or(start, |at| start + at as u64 + 1)
    }

    /// At most `count` bytes from number `from` on, which is not before the first that is kept.
    fn bytes(&self, from: u64, count: usize) -> Vec<u8> {
        let skipped = from.saturating_sub(self.start()) as usize;
        self.bytes
            .iter()
            .skip(skipped)
            .take(count)
            .copied()
            .collect()
    }

    /// Whether `more` bytes fit without one going that is numbered `needed` or above.
    pub(super) fn has_room(&self, needed: u64, more: usize) -> bool {
        let held = self.end.saturating_sub(needed.max(self.start()));
        held as usize + more <= KEPT_BYTES
    }
}

impl Shown for History {
    fn end(&self) -> u64 {
        self.end
    }

    fn piece(&self, from: u64, count: usize) -> (Output, usize) {
        let bytes = self.bytes(from, count);
        let length = bytes.len();
        (Output::Stdout(bytes), length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> History {
        let mut history = History::default();
        history.push(text.as_bytes());
        history
    }

    #[test]
    fn who_comes_again_misses_nothing_and_sees_nothing_twice() {
        let mut history = shown("one two");
        let seen = history.end();
        history.push(b" three");
        assert_eq!(history.bytes(history.resume(Some(seen)), 99), b" three");
        assert_eq!(history.resume(Some(999)), history.end());
        assert_eq!(history.bytes(4, 3), b"two");
    }

    #[test]
    fn who_comes_anew_sees_the_last_of_it_from_the_beginning_of_a_line() {
        assert_eq!(shown("a\nb\n").resume(None), 0);
        let mut history = History::default();
        for number in 0..100_000 {
            history.push(format!("{number}\n").as_bytes());
        }
        let from = history.resume(None);
        assert!(history.end() - from <= FRESH_BYTES);
        let piece = history.bytes(from, 64);
        let first = piece.split(|byte| *byte == b'\n').next().unwrap_or(&[]);
        assert_eq!(first.len(), 5, "a whole number: {first:?}");
    }

    #[test]
    fn what_somebody_still_needs_is_not_pushed_out() {
        let mut history = History::default();
        history.push(&vec![b'x'; KEPT_BYTES - 10]);
        assert!(history.has_room(0, 10));
        assert!(!history.has_room(0, 11));
        assert!(history.has_room(history.end(), 11));
        history.push(&[b'y'; 20]);
        assert_eq!(history.resume(Some(0)), 10, "the oldest went");
        assert_eq!(history.bytes(history.end() - 1, 9), b"y");
    }
}
