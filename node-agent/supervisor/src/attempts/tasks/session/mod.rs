//! The process that holds a program which a person runs in an attempt (`qexec`): its streams, what its client has not seen
//! yet, and how it ended. It outlives the agent, so that the client goes on where the connection was lost; it does not
//! outlive the attempt, nor for long a client that does not come back. Single-threaded, as the shim of an attempt is.

mod engine;
mod record;
mod streams;

use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use capstan_proto::wire::terminal_input::Input;
use capstan_proto::wire::terminal_output::Output;
use capstan_proto::wire::{Done, OpenTerminal, TerminalReady, open_terminal::Wish};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use self::record::Record;
use self::streams::Streams;
use super::process::{FAILED, KILL, LINKED, STARTED};
use super::shim::{self, NOT_EXECUTED, NOT_FOUND, NotRun, say};
use super::{SessionTask, TaskOrder};
use crate::attempts::shim::kill::{kill_descendants, signal_descendants};
use crate::attempts::shim::stay_off_cards;
use crate::attempts::shim::terminal::{Keys, Peer, TooMany};

/// How long the first client may take to come.
const FIRST_WITHIN: Duration = Duration::from_secs(30);
/// How long a program goes on whose connection broke without a word: agent or server are away, as for an upgrade.
const KEPT_FOR: Duration = Duration::from_secs(30 * 60);
/// How long it goes on when agent and server are connected again and its client has not come back.
const LINKED_FOR: Duration = Duration::from_secs(60);
/// Between TERM and KILL when nobody wants the program any more.
const GRACE: Duration = Duration::from_secs(5);
/// Longer than any attempt.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 86_400);
/// After the end of the attempt: how long a client may take over the last words.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// What a program has written is there when it has ended; one that it left may go on writing, and is not waited for.
const LAST_BYTES_MAX: usize = 2 << 20;
/// Connections that have not said what they want, and agents that watch over the program.
const VISITORS_MAX: usize = 4;
/// The longest that one `poll` sleeps.
const POLL_MAX: Duration = Duration::from_secs(3600);
/// The key that means the end of input.
const END_OF_INPUT: u8 = 4;

/// Runs the program of an order to its end. Whoever is told is the agent, on the connection; `engine` is the connection to
/// one that an engine has started in a container.
pub(in crate::attempts) fn run(agent: OwnedFd, engine: Option<OwnedFd>) -> io::Result<()> {
    let (mut agent, order, signals) = shim::begin(agent)?;
    let Some(session) = &order.session else {
        return Err(ErrorKind::InvalidData.into());
    };
    if let Some(problem) = stay_off_cards(&order.entry) {
        say(&mut agent, &format!("{FAILED} {problem}"));
        return Ok(());
    }
    let held = match open_door(session) {
        Ok(listener) => hold(&order, session, listener, engine),
        Err(error) => Err(format!("its socket cannot be made: {error}")),
    };
    match held {
        Ok(mut held) => {
            let child = held.child.map_or(0, Pid::as_raw);
            say(&mut agent, &format!("{STARTED} {child}"));
            agent.set_nonblocking(true)?;
            held.guards.push(agent);
            held.serve(&signals);
        }
        Err(problem) => {
            let line = problem.replace(['\n', '\r'], " ");
            say(&mut agent, &format!("{FAILED} {line}"));
        }
    }
    // Found by an agent only as long as somebody listens.
    let _gone = std::fs::remove_file(session.door_name());
    shim::leave_group(&order);
    Ok(())
}

/// The socket at which agents ask for the program, in a folder that only root can enter.
fn open_door(session: &SessionTask) -> io::Result<UnixListener> {
    let door = Path::new(&session.door);
    // From here on a short name will do: the path of a socket is bounded, that of the state folder need not be.
    std::env::set_current_dir(door.parent().ok_or(ErrorKind::NotFound)?)?;
    let listener = UnixListener::bind(session.door_name())?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn hold<'a>(
    order: &TaskOrder,
    session: &'a SessionTask,
    listener: UnixListener,
    engine: Option<OwnedFd>,
) -> Result<Held<'a>, String> {
    let mut record = Record::default();
    let (mut child, mut exit) = (None, None);
    let uid = order.entry.identity.as_ref().map_or(0, |user| user.uid);
    let streams = match engine {
        Some(socket) => Streams::of_engine(
            socket,
            session.window.is_some(),
            &session.first,
            &mut record,
        )
        .map_err(|error| error.to_string())?,
        None => {
            let opened = Streams::open(uid, session.window);
            let (mut streams, (stdin, stdout, stderr)) =
                opened.map_err(|error| error.to_string())?;
            let stdin = Some(stdin).filter(|_| !session.is_task);
            if session.is_task {
                streams.close_input();
            }
            match shim::start(order, (stdin, stdout, stderr)) {
                Ok(started) => child = Some(started),
                // It said so itself, where it would have written.
                Err(NotRun::Program) if session.is_task => exit = Some(NOT_EXECUTED),
                Err(NotRun::Program) => exit = Some(NOT_FOUND),
                Err(NotRun::Problem(problem)) => return Err(problem),
            }
            streams
        }
    };
    Ok(Held {
        session,
        is_guest: order.entry.is_guest(),
        guards: Vec::new(),
        listener,
        visitors: Vec::new(),
        peer: None,
        streams,
        record,
        keys: Keys::default(),
        input_pieces: 0,
        input_taken: 0,
        closes_input: false,
        child,
        has_children: child.is_some(),
        exit,
        last_bytes: 0,
        is_told: false,
        wanted_until: Some(Instant::now() + FIRST_WITHIN),
        kill_at: None,
    })
}

/// A program, its streams, and who is connected with it.
struct Held<'a> {
    session: &'a SessionTask,
    /// The attempt's script runs on another node.
    is_guest: bool,
    /// Agents that watch over it.
    guards: Vec<UnixStream>,
    listener: UnixListener,
    visitors: Vec<Peer>,
    peer: Option<Peer>,
    streams: Streams,
    record: Record,
    keys: Keys,
    /// Pieces of input that have arrived.
    input_pieces: u64,
    /// Of those, pieces that were taken.
    input_taken: u64,
    /// No key follows those that are there.
    closes_input: bool,
    /// None for one of an engine.
    child: Option<Pid>,
    has_children: bool,
    exit: Option<i32>,
    /// What was read after the program had ended.
    last_bytes: usize,
    /// The client was told how it ended.
    is_told: bool,
    /// None while a client is there.
    wanted_until: Option<Instant>,
    /// Nobody wants it any more: when what is left of it is killed.
    kill_at: Option<Instant>,
}

impl Held<'_> {
    fn serve(mut self, signals: &SignalFd) {
        loop {
            self.reap();
            if self.hear_guards() {
                return self.kill(signals);
            }
            self.let_in();
            self.turn();
            if self.is_over() {
                return;
            }
            self.wait(signals);
        }
    }

    fn reap(&mut self) {
        while self.has_children {
            match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => return,
                Ok(WaitStatus::Exited(pid, code)) if Some(pid) == self.child => {
                    self.exit = Some(code);
                }
                Ok(WaitStatus::Signaled(pid, signal, _)) if Some(pid) == self.child => {
                    self.exit = Some(128 + signal as i32);
                }
                Err(Errno::ECHILD) => self.has_children = false,
                Ok(_) | Err(_) => {}
            }
        }
    }

    /// True when the attempt has ended.
    fn hear_guards(&mut self) -> bool {
        let (mut is_killed, mut is_linked) = (false, false);
        self.guards.retain_mut(|guard| {
            let mut byte = [0];
            loop {
                match guard.read(&mut byte) {
                    Ok(1) => match byte[0] {
                        KILL => is_killed = true,
                        LINKED => is_linked = true,
                        // What a younger agent may say besides.
                        _ => {}
                    },
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Ok(_) | Err(_) => return false,
                }
            }
        });
        // Who wants a task is on a third node, which may be away for longer.
        if is_linked && !self.session.is_task {
            self.want_for(LINKED_FOR);
        }
        is_killed
    }

    /// Without a client, it is wanted for so long at most.
    fn want_for(&mut self, span: Duration) {
        if let Some(until) = &mut self.wanted_until {
            *until = (*until).min(Instant::now() + span);
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
                Some(Input::Open(open)) if !visitor.is_gone() => {
                    self.seat(visitor, &open);
                    words.for_each(|word| self.heard(word));
                }
                None if !visitor.is_gone() => self.visitors.push(visitor),
                Some(_) | None => {}
            }
        }
    }

    fn ready(&self, from_byte: u64) -> TerminalReady {
        TerminalReady {
            from_byte,
            input_pieces: Some(self.input_pieces),
            input_taken: self.input_taken,
            version: 0, // The connection says it.
            entered: self.session.entered.clone(),
            end_byte: 0,
        }
    }

    /// A client, or an agent that only wants to watch over the program.
    fn seat(&mut self, mut visitor: Peer, open: &OpenTerminal) {
        let from = match &open.wish {
            Some(Wish::Execute(wish)) => wish.from_byte,
            Some(Wish::Attach(_)) | None => None,
        };
        if open.wish.is_none() {
            visitor.begin(self.ready(0));
            visitor.send();
            if self.guards.len() == VISITORS_MAX {
                self.guards.remove(0);
            }
            return self.guards.push(visitor.into_stream());
        }
        if let Some(mut old) = self.peer.take() {
            old.say(Output::Replaced(Done {}));
            // What it does not take now it need not know.
            old.send();
        }
        visitor.begin(self.ready(self.record.resume(from)));
        self.record.release(visitor.taken());
        self.peer = Some(visitor);
        self.wanted_until = None;
        self.is_told = false;
        if let Some(window) = open.window {
            self.streams.resize(window);
        }
    }

    fn heard(&mut self, word: Input) {
        match word {
            Input::Keys(keys) => {
                self.input_pieces += 1;
                if let Err(TooMany) = self.keys.push(&keys) {
                    self.lose(Duration::ZERO);
                }
            }
            Input::Window(window) => {
                self.input_pieces += 1;
                self.streams.resize(window);
                self.input_taken(1);
            }
            Input::KeysClosed(Done {}) => {
                self.input_pieces += 1;
                self.closes_input = true;
                let last = [END_OF_INPUT];
                let last = if self.streams.has_terminal() {
                    &last[..]
                } else {
                    &[]
                };
                if let Err(TooMany) = self.keys.push(last) {
                    self.lose(Duration::ZERO);
                }
            }
            Input::Taken(count) => {
                if let Some(peer) = &mut self.peer {
                    peer.take(count);
                }
            }
            Input::Leave(secs) => self.lose(Duration::from_secs(secs.into())),
            Input::Open(_) => {}
        }
    }

    fn input_taken(&mut self, count: u32) {
        self.input_taken += u64::from(count);
        if let Some(peer) = &mut self.peer
            && count > 0
        {
            peer.say(Output::InputTaken(count));
        }
    }

    /// The client has gone, and is expected back for so long.
    fn lose(&mut self, span: Duration) {
        self.peer = None;
        let span = match self.session.is_kept {
            true => span.min(KEPT_FOR),
            false => Duration::ZERO,
        };
        self.wanted_until = Some(Instant::now() + span);
    }

    /// Does what is to be done now.
    fn turn(&mut self) {
        let words = self.peer.as_mut().map(Peer::read).unwrap_or_default();
        for word in words {
            self.heard(word);
        }
        if self.kill_at.is_some() {
            return self.streams.drop_output();
        }
        let done = self.streams.write(&mut self.keys);
        self.input_taken(done);
        if self.closes_input && self.keys.is_empty() && !self.streams.has_terminal() {
            self.streams.close_input();
        }
        let mut has_read_all = self.last_bytes > LAST_BYTES_MAX;
        if !has_read_all {
            let (is_dry, count) = self.streams.read(&mut self.record);
            has_read_all = is_dry;
            self.last_bytes += if self.exit.is_some() { count } else { 0 };
        }
        if self.child.is_none() && self.streams.are_closed() {
            // How a program of an engine ended, the engine tells the agent.
            self.exit.get_or_insert(0);
        }
        let last = self.exit.filter(|_| has_read_all && !self.is_told);
        let Some(peer) = &mut self.peer else { return };
        peer.show(&self.record);
        self.record.release(peer.taken());
        if let Some(exit) = last
            && peer.has_all(&self.record)
        {
            self.is_told = true;
            peer.say(Output::ExitStatus(exit));
            peer.send();
        }
        if peer.is_gone() {
            // With an agent that is there, it was the client that went, who knows how the program ended. Of a task it says so.
            let is_known = self.is_told && !self.guards.is_empty() && !self.session.is_task;
            self.lose(if is_known { LINKED_FOR } else { KEPT_FOR });
        }
    }

    /// Nobody wants it any more.
    fn end(&mut self) {
        if self.kill_at.is_some() {
            return;
        }
        self.peer = None;
        self.wanted_until = None;
        self.streams.hang_up();
        if self.session.is_task && self.exit.is_some() && !self.is_guest {
            // As in Torque, what a task leaves running goes on with the attempt.
            self.kill_at = Some(Instant::now() + FOREVER);
            return;
        }
        signal_descendants(Signal::SIGTERM);
        self.kill_at = Some(Instant::now() + GRACE);
    }

    /// Whether there is nothing left to do here.
    fn is_over(&mut self) -> bool {
        let now = Instant::now();
        if self.wanted_until.is_some_and(|until| until <= now) {
            self.end();
        }
        match self.kill_at {
            Some(at) if at <= now && self.has_children => {
                kill_descendants();
                true
            }
            // What an engine has started its agent ends, who hears of our end.
            Some(_) => !self.has_children,
            None => false,
        }
    }

    /// The attempt has ended: so does this, and the client hears of it when it is quick.
    fn kill(mut self, signals: &SignalFd) {
        kill_descendants();
        self.has_children = false;
        self.exit.get_or_insert(128 + Signal::SIGKILL as i32);
        let give_up = Instant::now() + LAST_WORDS;
        while self.peer.is_some() && Instant::now() < give_up {
            self.turn();
            let is_done = |peer: &Peer| peer.is_flushed();
            if self.is_told && self.peer.as_ref().is_none_or(is_done) {
                return;
            }
            self.wanted_until = Some(give_up);
            self.wait(signals);
        }
    }

    fn wait(&self, signals: &SignalFd) {
        let until = [self.wanted_until, self.kill_at]
            .into_iter()
            .flatten()
            .min();
        let timeout = until.map_or(POLL_MAX, |at| at.saturating_duration_since(Instant::now()));
        let is_served = self.kill_at.is_none();
        let may_read = !is_served || self.record.has_room(streams::READ_BYTES);
        let mut watched = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        watched.push(PollFd::new(self.listener.as_fd(), PollFlags::POLLIN));
        let guards = self.guards.iter();
        watched.extend(guards.map(|guard| PollFd::new(guard.as_fd(), PollFlags::POLLIN)));
        watched.extend(self.visitors.iter().map(Peer::watched));
        watched.extend(self.peer.iter().map(Peer::watched));
        watched.extend(self.streams.watched(may_read, !self.keys.is_empty()));
        let millis = timeout.min(POLL_MAX).as_micros().div_ceil(1000) as i32;
        // Interrupted or not, everything is looked at again.
        let _ready = poll(
            &mut watched,
            PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX),
        );
        while let Ok(Some(_child)) = signals.read_signal() {}
    }
}
