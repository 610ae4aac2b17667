//! What is typed and cannot be said yet, because the connection is away or the job takes no more: so much is kept, and no
//! more is read. Pure.

use std::collections::VecDeque;

use capstan_proto::wire::terminal_input::Input;

/// Bytes that are kept.
const BYTES_MAX: usize = 64 << 10;
/// Longest piece, as the protocol says.
const PIECE_BYTES_MAX: usize = 4 << 10;

#[derive(Debug, Default)]
pub(crate) struct Backlog {
    pieces: VecDeque<Input>,
    bytes: usize,
}

impl Backlog {
    /// Whether more may be read.
    pub(crate) const fn has_room(&self) -> bool {
        self.bytes < BYTES_MAX
    }

    /// Adds what was typed; keys that come one by one become one piece.
    pub(crate) fn push(&mut self, piece: Input) {
        let Input::Keys(keys) = piece else {
            return self.pieces.push_back(piece);
        };
        self.bytes += keys.len();
        match self.pieces.back_mut() {
            Some(Input::Keys(last)) if last.len() + keys.len() <= PIECE_BYTES_MAX => {
                last.extend_from_slice(&keys);
            }
            Some(_) | None => self.pieces.push_back(Input::Keys(keys)),
        }
    }

    /// The next piece to be said.
    pub(crate) fn next(&mut self) -> Option<Input> {
        let piece = self.pieces.pop_front()?;
        if let Input::Keys(keys) = &piece {
            self.bytes -= keys.len();
        }
        Some(piece)
    }
}

#[cfg(test)]
mod tests {
    use capstan_proto::wire::Done;

    use super::*;

    #[test]
    fn keys_are_put_together_in_order_and_not_beyond_a_piece() {
        let mut backlog = Backlog::default();
        for key in [b"a", b"b", b"c"] {
            backlog.push(Input::Keys(key.to_vec()));
        }
        backlog.push(Input::Keys(vec![b'x'; PIECE_BYTES_MAX]));
        backlog.push(Input::KeysClosed(Done {}));
        assert_eq!(backlog.next(), Some(Input::Keys(b"abc".to_vec())));
        assert_eq!(
            backlog.next(),
            Some(Input::Keys(vec![b'x'; PIECE_BYTES_MAX]))
        );
        assert_eq!(backlog.next(), Some(Input::KeysClosed(Done {})));
        assert_eq!(backlog.next(), None);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut backlog = Backlog::default();
        let mut count = 0;
        while backlog.has_room() {
            backlog.push(Input::Keys(vec![b'x'; 1000]));
            count += 1000;
        }
        assert!(count < BYTES_MAX + 1000, "{count}");
        backlog.next();
        assert!(backlog.has_room());
    }
}
