//! The shim's side of its talk with the agent: one line in for an order (to end, or new limits) or an answer, one line out
//! when the script runs, or when other nodes are asked for their part. Closing is the news that it ended; the status file
//! has the rest.

use std::ffi::OsString;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};

use crate::attempts::ledger::{AttemptFile, TERMINAL};
use crate::attempts::record::ShimRecord;
use crate::attempts::sisters::{Answer, parse_answer, parse_fail};

/// Agents that may be connected at once: the old one's connection may not be gone when the new one comes.
const PEERS_MAX: usize = 4;
/// What an agent says that has seen cards of the attempt work.
pub(in crate::attempts) const CARDS_USED: &str = "cards used\n";
/// Longest order, or answer.
const LINE_BYTES_MAX: usize = 512;

/// What an agent orders, or answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Stop(Stop),
    Limits(Limits),
    /// What became of what was asked for: the scripts on other nodes, or the footer.
    Sisters(Answer),
    /// To end, with this exit status and these words for the user.
    Fail(i32, String),
}

/// An order to end the attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stop {
    pub(super) signal: i32,
    pub(super) grace: Duration,
}

/// Limits that hold from now on; those that are `None` stay as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) walltime_secs: Option<u64>,
    pub(super) cput_secs: Option<u64>,
}

pub(super) struct Control {
    /// Name of the socket in the current folder.
    name: OsString,
    /// Only while there is no agent: making a socket costs a file, and most attempts never lose theirs.
    listener: Option<UnixListener>,
    peers: Vec<Peer>,
    started: Option<String>,
    /// The question that has no answer yet.
    asked: Option<String>,
    /// The agent has seen cards of the attempt work.
    are_cards_used: bool,
}

struct Peer {
    stream: UnixStream,
    line: Vec<u8>,
}

impl Control {
    /// Talks to `agent`, or listens beside the attempt's file, in a folder that only root can enter.
    pub(super) fn open(file: &AttemptFile, agent: Option<OwnedFd>) -> Result<Self, Errno> {
        let control = file.control();
        let folder = control.parent().ok_or(Errno::ENOENT)?;
        // From here on a short name will do: the path of a socket is bounded, that of the state folder need not be.
        std::env::set_current_dir(folder).map_err(plain)?;
        let mut control = Self {
            name: control.file_name().ok_or(Errno::ENOENT)?.to_owned(),
            listener: None,
            peers: Vec::new(),
            started: None,
            asked: None,
            are_cards_used: false,
        };
        match agent {
            Some(agent) => control.greet(UnixStream::from(agent)),
            None => control.listen().map_err(plain)?,
        }
        Ok(control)
    }

    fn listen(&mut self) -> io::Result<()> {
        match std::fs::remove_file(&self.name) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&self.name)?;
        listener.set_nonblocking(true)?;
        self.listener = Some(listener);
        Ok(())
    }

    /// Tells every agent, now or later, that the script runs.
    pub(super) fn started(&mut self, shim: &ShimRecord) {
        let ShimRecord {
            pid,
            start_ticks,
            session,
            started_ms,
            // In the attempt's file.
            version: _,
        } = shim;
        let line = format!("started {pid} {start_ticks} {session} {started_ms}\n");
        // A peer that cannot take a line has gone or is broken; a new agent asks again.
        self.peers
            .retain_mut(|peer| peer.stream.write_all(line.as_bytes()).is_ok());
        self.started = Some(line);
    }

    /// Asks every agent, now or later until there is an answer.
    pub(super) fn ask(&mut self, line: String) {
        self.peers
            .retain_mut(|peer| peer.stream.write_all(line.as_bytes()).is_ok());
        self.asked = Some(line);
    }

    /// The answer is there, or not waited for any more.
    pub(super) fn asked_enough(&mut self) {
        self.asked = None;
    }

    /// What to poll for.
    pub(super) fn watched(&self) -> impl Iterator<Item = PollFd<'_>> {
        let peers = self.peers.iter().map(|peer| peer.stream.as_fd());
        let listener = self.listener.iter().map(|listener| listener.as_fd());
        listener
            .chain(peers)
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
    }

    /// Orders that have arrived.
    pub(super) fn orders(&mut self) -> Vec<Order> {
        while let Some((stream, _)) = self.listener.as_ref().and_then(|it| it.accept().ok()) {
            self.greet(stream);
        }
        let mut orders = Vec::new();
        let are_used = &mut self.are_cards_used;
        self.peers
            .retain_mut(|peer| peer.read(&mut orders, are_used));
        if self.peers.is_empty() && self.listener.is_none() {
            // On a full disk there is no socket, and the next agent waits for the end instead; tried at each wake.
            let _full = self.listen();
        }
        orders
    }

    /// The name of the socket beside ours on which the attempt's terminal is to be had.
    pub(super) fn terminal_name(&self) -> PathBuf {
        Path::new(&self.name).with_extension(TERMINAL)
    }

    /// Whether the agent has seen cards of the attempt work since this was asked last.
    pub(super) fn were_cards_used(&mut self) -> bool {
        std::mem::take(&mut self.are_cards_used)
    }

    fn greet(&mut self, mut stream: UnixStream) {
        let mut lines = self.started.iter().chain(&self.asked);
        let is_greeted = stream.set_nonblocking(true).is_ok()
            && lines.all(|line| stream.write_all(line.as_bytes()).is_ok());
        if !is_greeted {
            return;
        }
        if self.peers.len() == PEERS_MAX {
            self.peers.remove(0);
        }
        self.peers.push(Peer {
            stream,
            line: Vec::new(),
        });
    }
}

fn plain(error: io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

impl Peer {
    /// Reads what is there; false when the peer has gone or talks nonsense.
    fn read(&mut self, orders: &mut Vec<Order>, are_cards_used: &mut bool) -> bool {
        let mut bytes = [0; LINE_BYTES_MAX];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return false,
                Ok(count) => self.line.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return false,
            }
            while let Some(end) = self.line.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.line.drain(..=end).collect();
                *are_cards_used |= line == CARDS_USED.as_bytes();
                orders.extend(String::from_utf8(line).ok().and_then(|line| parse(&line)));
            }
            if self.line.len() > LINE_BYTES_MAX {
                return false;
            }
        }
    }
}

fn parse(line: &str) -> Option<Order> {
    let stop = parse_stop(line).map(Order::Stop);
    stop.or_else(|| parse_limits(line).map(Order::Limits))
        .or_else(|| parse_answer(line).map(Order::Sisters))
        .or_else(|| parse_fail(line).map(|(status, words)| Order::Fail(status, words)))
}

/// `limits 90 -`: walltime and CPU time in seconds, `-` for one that stays.
fn parse_limits(line: &str) -> Option<Limits> {
    let mut words = line.strip_prefix("limits ")?.split_ascii_whitespace();
    let mut limit = || match words.next()? {
        "-" => Some(None),
        number => number.parse().ok().map(Some),
    };
    Some(Limits {
        walltime_secs: limit()?,
        cput_secs: limit()?,
    })
}

fn parse_stop(line: &str) -> Option<Stop> {
    let mut words = line.strip_prefix("stop ")?.split_ascii_whitespace();
    let signal = words.next()?.parse().ok()?;
    let grace = Duration::from_secs(words.next()?.parse::<u32>().ok()?.into());
    Some(Stop { signal, grace })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_not_named_stays() {
        let check = |line, walltime_secs, cput_secs| {
            let limits = Limits {
                walltime_secs,
                cput_secs,
            };
            assert_eq!(parse(line), Some(Order::Limits(limits)), "{line}");
        };
        check("limits 90 -\n", Some(90), None);
        check("limits - 7\n", None, Some(7));
        for bad in ["limits 90\n", "limits x -\n", "limits -1 -\n"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_whole_orders_count() {
        let stop = Stop {
            signal: 15,
            grace: Duration::from_secs(2),
        };
        assert_eq!(parse_stop("stop 15 2\n"), Some(stop));
        for bad in [
            "stop 15\n",
            "stop x 2\n",
            "stop 15 -2\n",
            "halt 15 2\n",
            "\n",
        ] {
            assert_eq!(parse_stop(bad), None, "{bad}");
        }
    }
}
