//! The terminal of an interactive attempt. It is held here, beside the shell, so that whoever sits at it may lose the
//! connection, and agent and server may be restarted: the session goes on, and the next connection goes on where the
//! last one ended. One client at a time; the last who comes has it.

mod history;
mod keys;
mod peer;
mod times;
mod typist;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use capstan_proto::wire::terminal_input::Input;
use capstan_proto::wire::terminal_output::Output;
use capstan_proto::wire::{Done, OpenTerminal, TerminalReady, WindowSize, open_terminal::Wish};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;

use self::history::{History, KEPT_BYTES};
pub(in crate::attempts) use self::keys::{Keys, TooMany};
pub(in crate::attempts) use self::peer::{Peer, Shown};
pub(super) use self::times::Over;
use self::times::Times;
use self::typist::Typist;
use super::control::{Control, Limits, Order, Stop};
use crate::attempts::record::{Entry, Identity};
use crate::attempts::terminal::pty::{self, Pty};

/// Those who look on at a time.
const ONLOOKERS_MAX: usize = 16;
/// Connections that have not said what they want.
const VISITORS_MAX: usize = 4;
const READ_BYTES: usize = 16 << 10;
/// How often the terminal is read before others have their turn.
const READS_MAX: usize = 16;
/// How long the shell is not started while nobody sits at the terminal.
const FIRST_WITHIN: Duration = Duration::from_secs(60);
/// After the end of the shell: how long a client may take over the last of it, and come back for it.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// A client that was lost before so long may be on its way back.
const COMING_BACK: Duration = Duration::from_secs(10);

/// Why the shell is not started.
pub(super) enum NotWatched {
    Nobody,
    Stopped(Stop),
}

pub(super) struct Terminal {
    master: File,
    /// The shell's end; ours as well, so that it stays when nothing is on it.
    slave: File,
    listener: UnixListener,
    visitors: Vec<Peer>,
    peer: Option<Peer>,
    /// Those who look on (`qpeek`).
    onlookers: Vec<Peer>,
    /// Up to here the client that was lost has the session.
    taken: u64,
    history: History,
    keys: Keys,
    /// Whose keys those are.
    typist: Typist,
    window: WindowSize,
    times: Times,
    /// What kind of terminal the first client has.
    kind: Option<String>,
}

impl Terminal {
    /// The terminal of `entry`, with its socket of this name in the current folder, which is root's; none for a job that
    /// is not interactive.
    pub(super) fn open(
        entry: &Entry,
        identity: &Identity,
        name: &OsStr,
    ) -> io::Result<Option<Self>> {
        let Some(wanted) = entry.spec.interactive else {
            return Ok(None);
        };
        let Pty { master, slave } = Pty::open(identity.uid, pty::USUAL)?;
        match std::fs::remove_file(name) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(name)?;
        listener.set_nonblocking(true)?;
        Ok(Some(Self {
            master,
            slave,
            listener,
            visitors: Vec::new(),
            peer: None,
            onlookers: Vec::new(),
            taken: 0,
            history: History::default(),
            keys: Keys::default(),
            typist: Typist::default(),
            window: pty::USUAL,
            times: Times::new(wanted, Instant::now()),
            kind: None,
        }))
    }

    /// The shell's end, once more.
    pub(super) fn slave(&self) -> io::Result<File> {
        self.slave.try_clone()
    }

    /// Waits until somebody sits at the terminal; gives the kind of theirs. Orders are heard meanwhile.
    pub(super) fn wait_for_first(
        &mut self,
        control: &mut Control,
        signals: &SignalFd,
        limits: &mut Vec<Limits>,
    ) -> Result<String, NotWatched> {
        let give_up = Instant::now() + FIRST_WITHIN;
        loop {
            self.turn();
            if let Some(kind) = &self.kind {
                let kind = kind.clone();
                self.times.begin(Instant::now());
                return Ok(kind);
            }
            for order in control.orders() {
                match order {
                    Order::Stop(stop) => return Err(NotWatched::Stopped(stop)),
                    Order::Limits(more) => limits.push(more),
                    // An answer that came after it was waited for.
                    Order::Sisters(_) => {}
                    // It is found in jobs that run.
                    Order::Fail(..) => {}
                }
            }
            let left = give_up.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(NotWatched::Nobody);
            }
            let mut watched = self.watched();
            watched.extend(control.watched());
            watched.push(PollFd::new(signals.as_fd(), PollFlags::POLLIN));
            wait(&mut watched, left);
            while let Ok(Some(_child)) = signals.read_signal() {}
        }
    }

    /// What to look at until something is to be done.
    pub(super) fn watched(&self) -> Vec<PollFd<'_>> {
        let mut events = PollFlags::empty();
        if self.may_read() {
            events |= PollFlags::POLLIN;
        }
        if !self.keys.is_empty() {
            events |= PollFlags::POLLOUT;
        }
        let mut watched = vec![PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
        if !events.is_empty() {
            watched.push(PollFd::new(self.master.as_fd(), events));
        }
        watched.extend(self.visitors.iter().map(Peer::watched));
        watched.extend(self.onlookers.iter().map(Peer::watched));
        watched.extend(self.peer.iter().map(Peer::watched));
        watched
    }

    /// When something is to be done though nothing happens.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.times.next()
    }

    /// Cards of the attempt are in use.
    pub(super) fn cards_used(&mut self) {
        self.times.used(Instant::now());
    }

    /// Does what is to be done now.
    pub(super) fn turn(&mut self) {
        self.let_in();
        let words = self.peer.as_mut().map(Peer::read).unwrap_or_default();
        for word in words {
            self.heard(word);
        }
        self.write_keys();
        self.read_output();
        if let Some(peer) = &mut self.peer {
            peer.show(&self.history);
            self.taken = peer.taken();
            if peer.is_gone() {
                self.lose_peer();
            }
        }
        self.show_onlookers();
    }

    /// Nobody waits for those who look on: what they are too slow for they do not see.
    fn show_onlookers(&mut self) {
        for onlooker in &mut self.onlookers {
            for word in onlooker.read() {
                if let Input::Taken(count) = word {
                    onlooker.take(count);
                }
            }
            onlooker.skip_to(self.history.start());
            onlooker.show(&self.history);
        }
        self.onlookers.retain(|onlooker| !onlooker.is_gone());
    }

    fn lose_peer(&mut self) {
        self.peer = None;
        if !self.typist.comes_back() {
            // Keys of a client that has gone are not typed by the next one.
            self.keys.clear();
        }
        self.times.lost(Instant::now());
    }

    /// Whether the session is over by itself; warns before.
    pub(super) fn is_over(&mut self) -> Option<Over> {
        let now = Instant::now();
        if let Some(text) = self.times.warning(now) {
            self.notice(&text);
        }
        self.times.over(now)
    }

    /// Shows a line that no program wrote.
    pub(super) fn notice(&mut self, text: &str) {
        let line = format!("\r\n=>> PBS: {text}\r\n");
        self.history.push(line.as_bytes());
    }

    /// Shows what was written without a terminal.
    pub(super) fn show(&mut self, text: &[u8]) {
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            match line.strip_suffix(b"\n") {
                Some(line) => {
                    self.history.push(line);
                    self.history.push(b"\r\n");
                }
                None => self.history.push(line),
            }
        }
    }

    fn let_in(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            if self.visitors.len() < VISITORS_MAX {
                self.visitors.extend(Peer::new(stream).ok());
            }
        }
        for mut visitor in std::mem::take(&mut self.visitors) {
            let mut words = visitor.read().into_iter();
            match words.next() {
                Some(Input::Open(open)) if open.wish.is_none() => self.receive(visitor, &open),
                Some(Input::Open(open)) if !visitor.is_gone() => {
                    self.seat(visitor, open);
                    words.for_each(|word| self.heard(word));
                }
                None if !visitor.is_gone() => self.visitors.push(visitor),
                Some(_) | None => {}
            }
        }
    }

    /// An agent that has a message, or wants to look on.
    fn receive(&mut self, mut visitor: Peer, open: &OpenTerminal) {
        if !open.message.is_empty() {
            for line in open.message.lines() {
                self.notice(line);
            }
        }
        visitor.begin(TerminalReady {
            from_byte: self.history.start(),
            end_byte: self.history.end(),
            ..TerminalReady::default()
        });
        visitor.send();
        if open.message.is_empty() && self.onlookers.len() < ONLOOKERS_MAX {
            self.onlookers.push(visitor);
        }
    }

    fn seat(&mut self, mut visitor: Peer, open: OpenTerminal) {
        let (from, key) = match open.wish {
            Some(Wish::Attach(attach)) => (attach.from_byte, attach.key),
            Some(Wish::Execute(_)) | None => (None, String::new()),
        };
        if let Some(mut old) = self.peer.take() {
            old.say(Output::Replaced(Done {}));
            // What it does not take now it need not know.
            old.send();
        }
        if !self.typist.sits_down(key, from.is_some()) {
            self.keys.clear();
        }
        let is_fresh = from.is_none() && self.kind.is_some();
        visitor.begin(TerminalReady {
            from_byte: self.history.resume(from),
            ..self.typist.ready()
        });
        self.taken = visitor.taken();
        self.peer = Some(visitor);
        self.times.found();
        self.kind.get_or_insert(open.term);
        let window = open.window.unwrap_or(self.window);
        let is_same = window == self.window;
        self.resize(window);
        if is_fresh && is_same {
            pty::redraw(&self.master);
        }
    }

    fn heard(&mut self, word: Input) {
        match word {
            Input::Keys(keys) => {
                self.times.used(Instant::now());
                self.typist.arrived();
                if let Err(TooMany) = self.keys.push(&keys) {
                    self.typist = Typist::default();
                    self.lose_peer();
                }
            }
            Input::Window(window) => {
                self.typist.arrived();
                self.resize(window);
                self.input_taken(1);
            }
            // A terminal has no end of input but the key that means it.
            Input::KeysClosed(Done {}) => {
                self.typist.arrived();
                self.input_taken(1);
            }
            Input::Taken(count) => {
                if let Some(peer) = &mut self.peer {
                    peer.take(count);
                }
            }
            // It goes on for its own time, however it was left.
            Input::Open(_) | Input::Leave(_) => {}
        }
    }

    fn resize(&mut self, window: WindowSize) {
        self.window = window;
        // A terminal of the wrong size is better than none.
        let _refused = pty::resize(&self.master, window);
    }

    fn input_taken(&mut self, count: u32) {
        self.typist.took(count);
        if let Some(peer) = &mut self.peer {
            peer.say(Output::InputTaken(count));
        }
    }

    fn write_keys(&mut self) {
        let (done, _) = self.keys.write_to(&mut self.master);
        if done > 0 {
            self.input_taken(done);
        }
    }

    /// Nothing goes that a client still needs: one that is there, or one that was lost a while ago and may come back.
    /// Without one the session goes on, and the last of it is kept.
    fn may_read(&self) -> bool {
        let is_needed = self.peer.is_some() || self.times.is_coming_back(Instant::now());
        !is_needed || self.history.has_room(self.taken, READ_BYTES)
    }

    /// True when there was something.
    fn read_output(&mut self) -> bool {
        let mut bytes = [0; READ_BYTES];
        let mut has_read = false;
        for _ in 0..READS_MAX {
            if !self.may_read() {
                break;
            }
            match self.master.read(&mut bytes) {
                Ok(0) => break,
                Ok(count) => {
                    has_read = true;
                    self.history.push(&bytes[..count]);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Nothing is there now, or no program is left on the terminal.
                Err(_) => break,
            }
        }
        has_read
    }

    /// After the end of the shell: shows the last of it, and says that it has ended.
    pub(super) fn finish(mut self, exit_status: i32) {
        let give_up = Instant::now() + LAST_WORDS;
        // Who has not come yet waits at his terminal, and is told by nobody else why there is no shell.
        let has_come = self.kind.is_some();
        let is_expected = !has_come || self.times.lost_within(Instant::now(), COMING_BACK);
        let mut is_told = false;
        loop {
            self.turn();
            let is_drained = !self.read_output();
            if let Some(peer) = &mut self.peer {
                if is_drained && peer.has_all(&self.history) && !is_told {
                    is_told = true;
                    peer.say(Output::ExitStatus(exit_status));
                }
                peer.send();
                if is_told && peer.is_flushed() {
                    return;
                }
            }
            let left = give_up.saturating_duration_since(Instant::now());
            let is_alone = self.peer.is_none() && (!is_expected || is_told);
            if left.is_zero() || (is_alone && is_drained) {
                return;
            }
            wait(&mut self.watched(), left);
        }
    }
}

const _: () = assert!(READ_BYTES < KEPT_BYTES);

fn wait(watched: &mut [PollFd<'_>], longest: Duration) {
    let millis = longest.as_micros().div_ceil(1000) as i32;
    // Interrupted or not, the caller looks at everything.
    let _ready = poll(
        watched,
        PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX),
    );
}
