//! One connection of an agent to a terminal: words in, words out, and what is on its way to the client.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use capstan_proto::wire::{
    TerminalInput, TerminalOutput, TerminalReady, terminal_input::Input, terminal_output::Output,
};
use nix::poll::{PollFd, PollFlags};

use super::history::History;
use crate::attempts::terminal::frames;

/// Pieces of output that may be on their way, as the protocol says.
const PIECES_MAX: usize = 32;
/// Longest piece.
const PIECE_BYTES_MAX: usize = 8 << 10;
/// Words that the socket did not take yet, bytes.
const UNSENT_BYTES_MAX: usize = 64 << 10;
const READ_BYTES: usize = 16 << 10;

#[derive(Debug)]
pub(super) struct Peer {
    stream: UnixStream,
    arrived: Vec<u8>,
    unsent: Vec<u8>,
    /// Up to here the session was sent.
    sent: u64,
    /// Up to here the client has it.
    taken: u64,
    /// Ends of the pieces that are on their way.
    under_way: VecDeque<u64>,
    is_gone: bool,
}

impl Peer {
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            arrived: Vec::new(),
            unsent: Vec::new(),
            sent: 0,
            taken: 0,
            under_way: VecDeque::new(),
            is_gone: false,
        })
    }

    pub(super) const fn is_gone(&self) -> bool {
        self.is_gone
    }

    /// Up to here the client has the session; what follows must be kept for it.
    pub(super) const fn taken(&self) -> u64 {
        self.taken
    }

    /// Whether all that was shown has left.
    pub(super) fn has_all(&self, history: &History) -> bool {
        self.sent == history.end() && self.unsent.is_empty()
    }

    pub(super) fn watched(&self) -> PollFd<'_> {
        let out = match self.unsent.is_empty() {
            true => PollFlags::empty(),
            false => PollFlags::POLLOUT,
        };
        PollFd::new(self.stream.as_fd(), PollFlags::POLLIN | out)
    }

    /// The words that have arrived.
    pub(super) fn read(&mut self) -> Vec<Input> {
        let mut bytes = [0; READ_BYTES];
        let mut words = Vec::new();
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => self.is_gone = true,
                Ok(count) => self.arrived.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return words,
                Err(_) => self.is_gone = true,
            }
            loop {
                match frames::take::<TerminalInput>(&mut self.arrived) {
                    Ok(Some(word)) => words.extend(word.input),
                    Ok(None) => break,
                    Err(_) => {
                        self.is_gone = true;
                        break;
                    }
                }
            }
            if self.is_gone {
                return words;
            }
        }
    }

    /// Begins to show the session from byte number `from` on.
    pub(super) fn begin(&mut self, from: u64) {
        self.sent = from;
        self.taken = from;
        self.say(Output::Ready(TerminalReady { from_byte: from }));
    }

    pub(super) fn say(&mut self, output: Output) {
        let output = Some(output);
        frames::put(&TerminalOutput { output }, &mut self.unsent);
    }

    /// The client has taken so many pieces.
    pub(super) fn take(&mut self, count: u32) {
        for _ in 0..count {
            let Some(end) = self.under_way.pop_front() else {
                return;
            };
            self.taken = end;
        }
    }

    /// Shows what may be on its way, and sends what the socket takes.
    pub(super) fn show(&mut self, history: &History) {
        while self.under_way.len() < PIECES_MAX
            && self.unsent.len() < UNSENT_BYTES_MAX
            && self.sent < history.end()
        {
            let piece = history.piece(self.sent, PIECE_BYTES_MAX);
            self.sent += piece.len() as u64;
            self.under_way.push_back(self.sent);
            self.say(Output::Stdout(piece));
        }
        self.send();
    }

    pub(super) fn send(&mut self) {
        while !self.unsent.is_empty() && !self.is_gone {
            match self.stream.write(&self.unsent) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.is_gone = true,
            }
        }
    }

    pub(super) const fn is_flushed(&self) -> bool {
        self.unsent.is_empty()
    }
}
