//! One connection of an agent to a terminal: words in, words out, and what is on its way to the client.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use capstan_proto::wire::{
    TerminalInput, TerminalOutput, TerminalReady, terminal_input::Input, terminal_output::Output,
};
use nix::poll::{PollFd, PollFlags};

use crate::attempts::terminal::{VERSION, frames};

/// Pieces of output that may be on their way, as the protocol says.
const PIECES_MAX: usize = 32;
/// Longest piece.
const PIECE_BYTES_MAX: usize = 8 << 10;
/// Words that the socket did not take yet, bytes.
const UNSENT_BYTES_MAX: usize = 64 << 10;
const READ_BYTES: usize = 16 << 10;

/// What a client is shown: every byte has a number.
pub(in crate::attempts) trait Shown {
    /// The number of the byte behind the last one.
    fn end(&self) -> u64;
    /// A piece of at most `count` bytes from number `from` on, and how long it is.
    fn piece(&self, from: u64, count: usize) -> (Output, usize);
}

#[derive(Debug)]
pub(in crate::attempts) struct Peer {
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
    pub(in crate::attempts) fn new(stream: UnixStream) -> io::Result<Self> {
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

    pub(in crate::attempts) const fn is_gone(&self) -> bool {
        self.is_gone
    }

    /// Up to here the client has the session; what follows must be kept for it.
    pub(in crate::attempts) const fn taken(&self) -> u64 {
        self.taken
    }

    /// Whether all that was shown has left.
    pub(in crate::attempts) fn has_all(&self, shown: &impl Shown) -> bool {
        self.sent == shown.end() && self.unsent.is_empty()
    }

    pub(in crate::attempts) fn watched(&self) -> PollFd<'_> {
        let out = match self.unsent.is_empty() {
            true => PollFlags::empty(),
            false => PollFlags::POLLOUT,
        };
        PollFd::new(self.stream.as_fd(), PollFlags::POLLIN | out)
    }

    /// The connection itself, when it is for something else.
    pub(in crate::attempts) fn into_stream(self) -> UnixStream {
        self.stream
    }

    /// The words that have arrived.
    pub(in crate::attempts) fn read(&mut self) -> Vec<Input> {
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

    /// Begins to show what `ready` says, from its byte number on.
    pub(in crate::attempts) fn begin(&mut self, ready: TerminalReady) {
        self.sent = ready.from_byte;
        self.taken = ready.from_byte;
        self.say(Output::Ready(TerminalReady {
            version: VERSION,
            ..ready
        }));
    }

    pub(in crate::attempts) fn say(&mut self, output: Output) {
        let output = Some(output);
        frames::put(&TerminalOutput { output }, &mut self.unsent);
    }

    /// What stands before byte number `from` is not to be had any more.
    pub(in crate::attempts) fn skip_to(&mut self, from: u64) {
        self.sent = self.sent.max(from);
    }

    /// The client has taken so many pieces.
    pub(in crate::attempts) fn take(&mut self, count: u32) {
        for _ in 0..count {
            let Some(end) = self.under_way.pop_front() else {
                return;
            };
            self.taken = end;
        }
    }

    /// Shows what may be on its way, and sends what the socket takes.
    pub(in crate::attempts) fn show(&mut self, shown: &impl Shown) {
        while self.under_way.len() < PIECES_MAX
            && self.unsent.len() < UNSENT_BYTES_MAX
            && self.sent < shown.end()
        {
            let (piece, length) = shown.piece(self.sent, PIECE_BYTES_MAX);
            self.sent += length as u64;
            self.under_way.push_back(self.sent);
            self.say(piece);
        }
        self.send();
    }

    pub(in crate::attempts) fn send(&mut self) {
        while !self.unsent.is_empty() && !self.is_gone {
            match self.stream.write(&self.unsent) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.is_gone = true,
            }
        }
    }

    pub(in crate::attempts) const fn is_flushed(&self) -> bool {
        self.unsent.is_empty()
    }
}
