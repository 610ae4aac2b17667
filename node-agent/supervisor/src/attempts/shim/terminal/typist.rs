//! Who types at a terminal, and how much of it has arrived: whoever comes back after a lost connection says again what did
//! not, and nothing twice. Pure.

use capstan_proto::wire::TerminalReady;

/// Digits of a key.
const KEY_DIGITS: usize = 32;

/// A client, and its pieces of input since it sat down first.
#[derive(Debug, Default)]
pub(super) struct Typist {
    /// What it is known by; empty for one that does not count.
    key: String,
    arrived: u64,
    taken: u64,
    /// It came back, and somebody else had sat here meanwhile: what it said before is not known any more.
    is_forgotten: bool,
}

impl Typist {
    /// Somebody sits down; true when it is the one who sat here before, who `returns` and goes on.
    pub(super) fn sits_down(&mut self, key: String, returns: bool) -> bool {
        if returns && self.comes_back() && self.key == key {
            self.is_forgotten = false;
            return true;
        }
        let is_key = key.len() == KEY_DIGITS && key.bytes().all(|it| it.is_ascii_hexdigit());
        *self = Self {
            key: if is_key { key } else { String::new() },
            is_forgotten: returns,
            ..Self::default()
        };
        false
    }

    /// Whether it is known again when it comes back.
    pub(super) const fn comes_back(&self) -> bool {
        !self.key.is_empty()
    }

    /// A piece has arrived.
    pub(super) const fn arrived(&mut self) {
        self.arrived += 1;
    }

    /// So many pieces were taken.
    pub(super) fn took(&mut self, count: u32) {
        self.taken += u64::from(count);
    }

    /// What it is told when it sits down.
    pub(super) fn ready(&self) -> TerminalReady {
        let counts = self.comes_back() && !self.is_forgotten;
        TerminalReady {
            input_pieces: counts.then_some(self.arrived),
            input_taken: if counts { self.taken } else { 0 },
            ..TerminalReady::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    fn typed(typist: &Typist) -> (Option<u64>, u64) {
        let ready = typist.ready();
        (ready.input_pieces, ready.input_taken)
    }

    #[test]
    fn who_comes_back_is_told_what_arrived_and_anybody_else_begins_anew() {
        let mut typist = Typist::default();
        assert!(!typist.sits_down(KEY.to_owned(), false));
        typist.arrived();
        typist.arrived();
        typist.took(1);
        assert!(typist.sits_down(KEY.to_owned(), true));
        assert_eq!(typed(&typist), (Some(2), 1));
        let other = KEY.replace('0', "f");
        assert!(!typist.sits_down(other, false));
        assert_eq!(typed(&typist), (Some(0), 0));
        // What it had said before may have been typed: it is not asked for it.
        assert!(!typist.sits_down(KEY.to_owned(), true));
        assert_eq!(typed(&typist), (None, 0));
        typist.arrived();
        assert!(typist.sits_down(KEY.to_owned(), true));
        assert_eq!(typed(&typist), (Some(1), 0));
    }

    #[test]
    fn who_has_no_key_is_not_counted() {
        for key in ["", "0123", "zz23456789abcdef0123456789abcdef"] {
            let mut typist = Typist::default();
            typist.sits_down(key.to_owned(), false);
            typist.arrived();
            assert_eq!(typed(&typist), (None, 0), "{key}");
            assert!(!typist.sits_down(key.to_owned(), true), "{key}");
        }
    }
}
