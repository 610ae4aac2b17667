//! Sessions at terminals, between whoever sits there and the agent that has the job: the server passes words on, and
//! holds both sides to what they may have on their way, so that nobody can fill a queue here. Nothing is stored: when a
//! connection breaks, the terminal itself lives on in the attempt, and the client comes again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use capstan_proto::wire::{
    self, server_message::Message, terminal_input::Input, terminal_output::Output,
};
use capstan_types::NodeName;
use tokio::sync::mpsc;

use super::line::{Line, Lines, Unanswered, lock};

/// Sessions on one connection to an agent.
const SESSIONS_MAX: usize = 256;
/// Pieces of output that may be on their way to a client, as the protocol says.
const OUTPUT_MAX: usize = 32;
/// Pieces of input that may be on their way to an agent, as the protocol says.
const INPUT_MAX: usize = 8;
/// Beside the pieces: that it is ready, that input was taken, how it ended.
const WORDS_MAX: usize = OUTPUT_MAX + INPUT_MAX + 4;
/// Longest piece of output and of input, bytes.
const OUTPUT_BYTES_MAX: usize = 8 << 10;
const INPUT_BYTES_MAX: usize = 4 << 10;

/// The sessions of one connection.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<Open>);

#[derive(Default)]
struct Open {
    is_closed: bool,
    next: u64,
    listeners: BTreeMap<u64, Listener>,
}

/// Whose session it is, and where its words go.
struct Listener {
    uid: u32,
    words: mpsc::Sender<Output>,
}

impl Open {
    /// Whether a user may have one more. Nobody has more than are free, so one user gets at most half of them, two a third
    /// each, and whoever comes next finds some.
    fn check(&self, uid: u32, node: &NodeName) -> Result<(), Unanswered> {
        let free = SESSIONS_MAX.saturating_sub(self.listeners.len());
        let own = self.listeners.values();
        let own = own.filter(|listener| listener.uid == uid).count();
        match (free, own < free) {
            (0, _) => Err(Unanswered::Busy(node.clone())),
            (_, true) => Ok(()),
            (_, false) => Err(Unanswered::Share(node.clone(), own)),
        }
    }
}

impl Sessions {
    /// The connection is gone.
    pub(super) fn close(&self) {
        let mut open = lock(&self.0);
        open.is_closed = true;
        open.listeners.clear();
    }

    /// A word of a session on this connection.
    pub(super) fn hear(&self, said: wire::SessionOutput) {
        let wire::SessionOutput { session, output } = said;
        let Some(output) = output.and_then(|output| output.output) else {
            return;
        };
        let mut open = lock(&self.0);
        let Some(listener) = open.listeners.get(&session) else {
            return;
        };
        let fits = match &output {
            Output::Stdout(bytes) | Output::Stderr(bytes) => bytes.len() <= OUTPUT_BYTES_MAX,
            Output::Ready(_)
            | Output::ExitStatus(_)
            | Output::Failed(_)
            | Output::InputTaken(_)
            | Output::Replaced(_) => true,
        };
        let is_last = is_last(&output);
        // More than it may: the client sees a session that breaks off.
        let is_taken = fits && listener.words.try_send(output).is_ok();
        if is_last || !is_taken {
            open.listeners.remove(&session);
        }
    }
}

/// Whether nothing follows.
pub(crate) const fn is_last(output: &Output) -> bool {
    match output {
        Output::ExitStatus(_) | Output::Failed(_) | Output::Replaced(_) => true,
        Output::Ready(_) | Output::Stdout(_) | Output::Stderr(_) | Output::InputTaken(_) => false,
    }
}

/// Why a client is listened to no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Misspoken {
    /// More on its way, or at once, than the protocol has.
    #[error("more input than the session has taken room for")]
    TooMuch,
    /// A second first word, or none that is known.
    #[error("a word that has no place in a session")]
    Misplaced,
    /// The connection to the node is gone.
    #[error("the connection to the node broke")]
    Gone,
}

/// One session, as long as this lives.
pub(crate) struct Session {
    line: Arc<Line>,
    number: u64,
    words: mpsc::Receiver<Output>,
    budget: Budget,
    is_over: bool,
}

/// What is on its way in both directions.
#[derive(Debug, Default, PartialEq, Eq)]
struct Budget {
    output: usize,
    input: usize,
}

impl Budget {
    /// Counts a word of the client.
    fn said(&mut self, input: &Input) -> Result<(), Misspoken> {
        let is_long = |bytes: &[u8]| bytes.len() > INPUT_BYTES_MAX;
        match input {
            Input::Open(_) => return Err(Misspoken::Misplaced),
            Input::Keys(bytes) if is_long(bytes) => return Err(Misspoken::TooMuch),
            Input::Keys(_) | Input::Window(_) | Input::KeysClosed(_) => self.input += 1,
            // How long somebody is waited for who goes without a word is not the client's to say.
            Input::Leave(0) => {}
            Input::Leave(_) => return Err(Misspoken::Misplaced),
            Input::Taken(count) => {
                let left = self.output.checked_sub(*count as usize);
                self.output = left.filter(|_| *count > 0).ok_or(Misspoken::Misplaced)?;
            }
        }
        match self.input > INPUT_MAX {
            true => Err(Misspoken::TooMuch),
            false => Ok(()),
        }
    }

    /// Counts a word of the agent; whether it may be said.
    fn heard(&mut self, output: &Output) -> bool {
        match output {
            Output::Stdout(_) | Output::Stderr(_) => self.output += 1,
            Output::InputTaken(count) => self.input = self.input.saturating_sub(*count as usize),
            Output::Ready(_) | Output::ExitStatus(_) | Output::Failed(_) | Output::Replaced(_) => {}
        }
        self.output <= OUTPUT_MAX
    }
}

impl Session {
    /// Begins a session of the user `uid` on the node of this name; `order` is given its number.
    ///
    /// # Errors
    /// The node is not connected, or has enough sessions, or enough of this user.
    pub(crate) fn open(
        lines: &Lines,
        (node, uid): (&NodeName, u32),
        order: impl FnOnce(u64) -> wire::OpenSession,
    ) -> Result<Self, Unanswered> {
        let line = lines.of(node)?;
        let (sender, words) = mpsc::channel(WORDS_MAX);
        let mut open = lock(&line.sessions.0);
        if open.is_closed {
            return Err(Unanswered::NotConnected(node.clone()));
        }
        open.check(uid, node)?;
        open.next += 1;
        let number = open.next;
        let listener = Listener { uid, words: sender };
        open.listeners.insert(number, listener);
        drop(open);
        let is_said = line.say(Message::OpenSession(order(number)));
        let session = Self {
            line,
            number,
            words,
            budget: Budget::default(),
            is_over: false,
        };
        match is_said {
            true => Ok(session),
            false => Err(Unanswered::NotConnected(node.clone())),
        }
    }

    /// The next word of the session.
    ///
    /// # Errors
    /// The connection to the node broke, or the agent says more than it may.
    pub(crate) async fn next(&mut self) -> Result<Output, Unanswered> {
        let node = || self.line.node().clone();
        let Some(output) = self.words.recv().await else {
            self.is_over = true;
            return Err(Unanswered::Broken(node()));
        };
        if !self.budget.heard(&output) {
            return Err(Unanswered::TooMuch(node()));
        }
        self.is_over |= is_last(&output);
        Ok(output)
    }

    /// Breaks off without a word, as a connection does that is lost: the client comes again.
    pub(crate) fn break_off(&mut self) {
        self.is_over = true;
    }

    /// Passes a word of the client on.
    ///
    /// # Errors
    /// It says more than it may; the connection is gone.
    pub(crate) fn say(&mut self, input: Input) -> Result<(), Misspoken> {
        self.budget.said(&input)?;
        self.is_over |= matches!(input, Input::Leave(_));
        let input = wire::SessionInput {
            session: self.number,
            input: Some(wire::TerminalInput { input: Some(input) }),
        };
        match self.line.say(Message::SessionInput(input)) {
            true => Ok(()),
            false => Err(Misspoken::Gone),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        lock(&self.line.sessions.0).listeners.remove(&self.number);
        if !self.is_over {
            // A connection that is gone has closed its sessions.
            let _gone = self.line.say(Message::CloseSession(self.number));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_no_more_on_its_way_than_was_taken() {
        let mut budget = Budget::default();
        let keys = || Input::Keys(b"x".to_vec());
        for _ in 0..INPUT_MAX {
            assert_eq!(budget.said(&keys()), Ok(()));
        }
        assert_eq!(budget.said(&keys()), Err(Misspoken::TooMuch));
        let mut budget = Budget::default();
        let long = Input::Keys(vec![b'x'; INPUT_BYTES_MAX + 1]);
        assert_eq!(budget.said(&long), Err(Misspoken::TooMuch));
        let again = Input::Open(wire::OpenTerminal::default());
        assert_eq!(budget.said(&again), Err(Misspoken::Misplaced));
        assert_eq!(budget.said(&Input::Leave(0)), Ok(()));
        assert_eq!(budget.said(&Input::Leave(1)), Err(Misspoken::Misplaced));
    }

    #[test]
    fn one_user_cannot_take_the_last_terminals_of_a_node() {
        let node = NodeName::from("gpu01");
        let mut open = Open::default();
        let mut take = |uid: u32, most: usize| {
            (0..most)
                .take_while(|_| {
                    let is_free = open.check(uid, &node).is_ok();
                    if is_free {
                        open.next += 1;
                        let (words, _) = mpsc::channel(1);
                        open.listeners.insert(open.next, Listener { uid, words });
                    }
                    is_free
                })
                .count()
        };
        assert_eq!(take(7, SESSIONS_MAX), SESSIONS_MAX / 2);
        // Who has few finds some, however many others there are.
        let taken: Vec<usize> = (100..106).map(|uid| take(uid, 32)).collect();
        assert!(taken.iter().all(|own| *own > 0), "{taken:?}");
        assert!(matches!(open.check(7, &node), Err(Unanswered::Share(..))));
        assert_eq!(open.check(200, &node), Ok(()));
    }

    #[test]
    fn what_was_never_sent_cannot_be_taken() {
        let mut budget = Budget::default();
        assert_eq!(budget.said(&Input::Taken(1)), Err(Misspoken::Misplaced));
        assert!(budget.heard(&Output::Stdout(b"x".to_vec())));
        assert_eq!(budget.said(&Input::Taken(0)), Err(Misspoken::Misplaced));
        assert!(budget.heard(&Output::Stdout(b"x".to_vec())));
        assert_eq!(budget.said(&Input::Taken(1)), Ok(()));
    }

    #[test]
    fn an_agent_has_no_more_on_its_way_than_was_taken() {
        let mut budget = Budget::default();
        let piece = Output::Stdout(b"x".to_vec());
        for _ in 0..OUTPUT_MAX {
            assert!(budget.heard(&piece));
        }
        assert!(!budget.heard(&piece));
    }
}
