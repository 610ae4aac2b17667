//! What a program has written that its client does not have yet: two streams, whose bytes are numbered together in the
//! order in which they were read, so that whoever comes again goes on exactly where the connection was lost. Pure.

use std::collections::VecDeque;

use capstan_proto::wire::terminal_output::Output;

use crate::attempts::shim::terminal::Shown;

/// Bytes that are held; a program that writes more waits.
const HELD_BYTES: usize = 256 << 10;
/// What a piece costs beside its bytes.
const PIECE_COST: usize = 64;
/// Short pieces of one stream are put together up to this length.
const PIECE_BYTES: usize = 8 << 10;

/// Where it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Stdout,
    Stderr,
}

#[derive(Debug, Default)]
pub(super) struct Record {
    pieces: VecDeque<(Source, Vec<u8>)>,
    /// Number of the first byte that is held.
    start: u64,
    end: u64,
}

impl Record {
    pub(super) fn push(&mut self, from: Source, bytes: &[u8]) {
        self.end += bytes.len() as u64;
        match self.pieces.back_mut() {
            Some((last, piece)) if *last == from && piece.len() + bytes.len() <= PIECE_BYTES => {
                piece.extend_from_slice(bytes);
            }
            Some(_) | None if !bytes.is_empty() => self.pieces.push_back((from, bytes.to_vec())),
            Some(_) | None => {}
        }
    }

    /// The client has everything before byte number `taken`.
    pub(super) fn release(&mut self, taken: u64) {
        while let Some((_, first)) = self.pieces.front_mut() {
            let excess = taken.saturating_sub(self.start) as usize;
            if excess < first.len() {
                // Most often all of a piece is taken, so this is rare.
                first.drain(..excess);
                self.start += excess as u64;
                return;
            }
            self.start += first.len() as u64;
            self.pieces.pop_front();
        }
    }

    /// Where to go on for somebody who has seen everything before `from`.
    pub(super) fn resume(&self, from: Option<u64>) -> u64 {
        from.unwrap_or(self.start).clamp(self.start, self.end)
    }

    /// Whether `more` bytes may be read from the program.
    pub(super) fn has_room(&self, more: usize) -> bool {
        let held = (self.end - self.start) as usize + self.pieces.len() * PIECE_COST;
        held + more <= HELD_BYTES
    }
}

impl Shown for Record {
    fn end(&self) -> u64 {
        self.end
    }

    fn piece(&self, from: u64, count: usize) -> (Output, usize) {
        let mut skip = from.saturating_sub(self.start) as usize;
        for (stream, piece) in &self.pieces {
            if skip < piece.len() {
                let bytes: Vec<u8> = piece[skip..].iter().take(count).copied().collect();
                let length = bytes.len();
                let output = match stream {
                    Source::Stdout => Output::Stdout(bytes),
                    Source::Stderr => Output::Stderr(bytes),
                };
                return (output, length);
            }
            skip -= piece.len();
        }
        (Output::Stdout(Vec::new()), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(parts: &[(Source, &str)]) -> Record {
        let mut record = Record::default();
        for (from, text) in parts {
            record.push(*from, text.as_bytes());
        }
        record
    }

    fn out(text: &str) -> (Output, usize) {
        (Output::Stdout(text.as_bytes().to_vec()), text.len())
    }

    fn err(text: &str) -> (Output, usize) {
        (Output::Stderr(text.as_bytes().to_vec()), text.len())
    }

    #[test]
    fn bytes_keep_their_stream_and_their_number() {
        let mut record = written(&[
            (Source::Stdout, "one"),
            (Source::Stdout, "two"),
            (Source::Stderr, "bad"),
            (Source::Stdout, "end"),
        ]);
        assert_eq!(record.piece(0, 99), out("onetwo"));
        assert_eq!(record.piece(4, 99), out("wo"));
        assert_eq!(record.piece(6, 2), err("ba"));
        record.release(4);
        assert_eq!(record.piece(4, 99), out("wo"));
        record.release(7);
        assert_eq!(record.piece(7, 99), err("ad"));
        assert_eq!(record.resume(Some(8)), 8);
        assert_eq!(record.resume(Some(2)), 7);
        assert_eq!(record.resume(Some(99)), 12);
        assert_eq!(record.resume(None), 7);
        record.release(12);
        assert_eq!(record.end(), 12);
        assert!(record.pieces.is_empty());
    }

    #[test]
    fn a_program_that_writes_byte_by_byte_to_two_streams_costs_no_more() {
        let mut record = Record::default();
        let mut count = 0;
        while record.has_room(1) {
            let from = if count % 2 == 0 {
                Source::Stdout
            } else {
                Source::Stderr
            };
            record.push(from, b"x");
            count += 1;
        }
        assert!(count < HELD_BYTES / PIECE_COST + 2, "{count} pieces");
        record.release(record.end());
        assert!(record.has_room(HELD_BYTES));
    }
}
