//! Keys that a client has sent and the programs have not read, in pieces as they came: each is confirmed when all of it is
//! written. Bounded, because the protocol has fewer on their way.

use std::collections::VecDeque;
use std::io::{ErrorKind, Write};

/// Keys that the programs have not read, bytes.
const BYTES_MAX: usize = 64 << 10;

#[derive(Debug, Default)]
pub(in crate::attempts) struct Keys {
    bytes: VecDeque<u8>,
    /// Lengths of the pieces that are in `bytes`.
    pieces: VecDeque<usize>,
}

/// More than the protocol has on its way.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::attempts) struct TooMany;

impl Keys {
    pub(in crate::attempts) fn push(&mut self, piece: &[u8]) -> Result<(), TooMany> {
        if self.bytes.len() + piece.len() > BYTES_MAX || self.pieces.len() >= BYTES_MAX {
            return Err(TooMany);
        }
        self.pieces.push_back(piece.len());
        self.bytes.extend(piece);
        Ok(())
    }

    pub(in crate::attempts) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Forgets them all; how many pieces that were.
    pub(in crate::attempts) fn clear(&mut self) -> u32 {
        let pieces = self.pieces.len() as u32;
        self.bytes.clear();
        self.pieces.clear();
        pieces
    }

    /// Writes what is taken now; how many pieces are done with. False beside it when nobody reads any more.
    pub(in crate::attempts) fn write_to(&mut self, to: &mut impl Write) -> (u32, bool) {
        let mut is_read = true;
        while !self.bytes.is_empty() {
            let (front, _) = self.bytes.as_slices();
            match to.write(front) {
                Ok(0) => break,
                Ok(count) => {
                    self.bytes.drain(..count);
                    self.shorten(count);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    is_read = error.kind() == ErrorKind::WouldBlock;
                    break;
                }
            }
        }
        let mut done = 0;
        while self.pieces.front() == Some(&0) {
            self.pieces.pop_front();
            done += 1;
        }
        (done, is_read)
    }

    /// Takes `count` written bytes off the pieces; those that are done with stay, empty.
    fn shorten(&mut self, mut count: usize) {
        for piece in &mut self.pieces {
            let part = count.min(*piece);
            *piece -= part;
            count -= part;
            if count == 0 {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes, then would block.
    struct Narrow(usize, Vec<u8>);

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let count = bytes.len().min(self.0);
            if count == 0 {
                return Err(ErrorKind::WouldBlock.into());
            }
            self.0 -= count;
            self.1.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_piece_is_confirmed_when_all_of_it_is_written() {
        let mut keys = Keys::default();
        for piece in ["abc", "", "de"] {
            keys.push(piece.as_bytes()).expect("room");
        }
        let mut to = Narrow(2, Vec::new());
        assert_eq!(keys.write_to(&mut to), (0, true));
        to.0 = 2;
        assert_eq!(keys.write_to(&mut to), (2, true));
        assert!(!keys.is_empty());
        to.0 = 9;
        assert_eq!(keys.write_to(&mut to), (1, true));
        assert!(keys.is_empty());
        assert_eq!(to.1, b"abcde");
    }

    #[test]
    fn more_than_the_protocol_has_on_its_way_is_refused() {
        let mut keys = Keys::default();
        assert_eq!(keys.push(&vec![b'x'; BYTES_MAX]), Ok(()));
        assert_eq!(keys.push(b"x"), Err(TooMany));
        assert_eq!(keys.clear(), 1);
        assert!(keys.is_empty());
    }
}
