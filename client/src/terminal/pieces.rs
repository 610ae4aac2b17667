//! Pieces of input on their way to a job: how many more may be, and which are to be said again when the connection broke.
//! Pure.

use std::collections::VecDeque;

use capstan_proto::wire::TerminalReady;
use capstan_proto::wire::terminal_input::Input;

/// Pieces that may be on their way, as the protocol says.
const PIECES_MAX: usize = 8;

#[derive(Debug, Default)]
pub(crate) struct Pieces {
    /// On their way, on this connection.
    under_way: usize,
    /// Said to somebody who has not taken them.
    unconfirmed: VecDeque<Input>,
    /// How many it has taken.
    confirmed: u64,
}

impl Pieces {
    /// How many more may be said.
    pub(crate) const fn left(&self) -> usize {
        PIECES_MAX.saturating_sub(self.under_way)
    }

    /// Another connection.
    pub(crate) fn begin_anew(&mut self) {
        self.under_way = 0;
    }

    /// A piece is said.
    pub(crate) fn say(&mut self, piece: &Input) {
        self.under_way += 1;
        self.unconfirmed.push_back(piece.clone());
    }

    /// So many pieces were taken.
    pub(crate) fn taken(&mut self, count: u32) {
        self.under_way = self.under_way.saturating_sub(count as usize);
        self.confirm(u64::from(count));
    }

    fn confirm(&mut self, count: u64) {
        self.confirmed += count;
        let count = self.unconfirmed.len().min(count as usize);
        self.unconfirmed.drain(..count);
    }

    /// What did not arrive on the connection that broke.
    pub(crate) fn again(&mut self, ready: &TerminalReady) -> Vec<Input> {
        let Some(arrived) = ready.input_pieces else {
            // Whoever is there keeps no count, or begins one; what was on its way is gone, or typed long ago.
            self.unconfirmed.clear();
            self.confirmed = 0;
            return Vec::new();
        };
        self.confirm(ready.input_taken.saturating_sub(self.confirmed));
        self.under_way = self.unconfirmed.len();
        let known = arrived.saturating_sub(ready.input_taken) as usize;
        self.unconfirmed.iter().skip(known).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(number: u8) -> Input {
        Input::Keys(vec![number])
    }

    fn said(numbers: impl IntoIterator<Item = u8>) -> Pieces {
        let mut pieces = Pieces::default();
        numbers.into_iter().for_each(|it| pieces.say(&piece(it)));
        pieces
    }

    fn ready(arrived: u64, taken: u64) -> TerminalReady {
        TerminalReady {
            input_pieces: Some(arrived),
            input_taken: taken,
            ..TerminalReady::default()
        }
    }

    #[test]
    fn no_more_is_said_than_was_taken() {
        let mut pieces = said(0..8);
        assert_eq!(pieces.left(), 0);
        pieces.taken(3);
        assert_eq!(pieces.left(), 3);
    }

    #[test]
    fn what_did_not_arrive_is_said_again_and_nothing_twice() {
        let mut pieces = said(0..6);
        pieces.taken(1);
        pieces.begin_anew();
        // Two more were taken of which we did not hear, and one more has arrived.
        assert_eq!(pieces.again(&ready(4, 3)), [piece(4), piece(5)]);
        assert_eq!(pieces.left(), PIECES_MAX - 3);
        pieces.taken(3);
        pieces.begin_anew();
        assert_eq!(pieces.again(&ready(6, 6)), []);
        assert_eq!(pieces.left(), PIECES_MAX);
    }

    #[test]
    fn nothing_is_said_again_where_nobody_counts() {
        let mut pieces = said(0..2);
        assert_eq!(pieces.again(&TerminalReady::default()), []);
        assert_eq!(pieces.again(&ready(0, 0)), []);
    }
}
