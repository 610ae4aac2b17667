//! The talk with the server about one terminal: keys and sizes go there, what is shown and how it ended come back. When
//! the connection breaks, because server or agent are restarted or the network is away, a session or a program goes on, and
//! so does the talk, without a byte lost, seen or typed twice.

mod typing;

use std::io::IsTerminal;
use std::time::Duration;

use capstan_proto::Refusal;
use capstan_proto::wire::open_terminal::Wish;
use capstan_proto::wire::terminal_input::Input;
use capstan_proto::wire::terminal_output::Output;
use capstan_proto::wire::{Done, Failure as Failed, OpenTerminal, TerminalInput, TerminalOutput};
use capstan_types::Pbse;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::backlog::Backlog;
use super::escapes::Escapes;
use super::pieces::Pieces;
use super::signals::Signals;
use super::stdin::Stdin;
use super::tty::{self, Raw};
use super::writer::{self, Closed, To, Writer};
use crate::command::{Call, Failure, refusal};
use crate::door::{self, Server};

/// Words on their way to the server: all that may be.
const WORDS_MAX: usize = 64;
/// Pause between two tries to be connected again, first and longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// How long it is tried.
const RECONNECT_FOR: Duration = Duration::from_secs(30 * 60);
/// How long a program is tried to be begun while its node is away for a moment.
const BEGIN_FOR: Duration = Duration::from_secs(10);
/// How long the goodbye to a program may take.
const GOODBYE: Duration = Duration::from_secs(5);
/// A connection that is away for less is not worth a word.
const SILENT_FOR: Duration = Duration::from_secs(2);

/// How a talk ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The session or program has ended with this status.
    Exited(i32),
    /// There is no session any more, and how it ended is not known; a sentence.
    Gone(String),
    /// It was left, and goes on.
    Detached,
    /// Somebody else has it now.
    Replaced,
    /// The server's no, before anything was shown.
    Refused(Refusal),
    /// Our own terminal has gone.
    HungUp,
    /// Nobody reads what we write.
    Unread,
    /// SIGINT while the job had not started, or to a program that has no terminal.
    Interrupted,
    /// The connection broke, and did not come back.
    Lost,
}

/// Why one connection ended.
enum Broken {
    /// For good.
    End(End),
    /// It may come back.
    Connection,
}

impl From<Closed> for Broken {
    fn from(Closed: Closed) -> Self {
        Self::End(End::Unread)
    }
}

/// One terminal, or one program, of a job.
pub(crate) struct Talk<'a> {
    call: &'a Call,
    open: OpenTerminal,
    /// Is said once, on stdout, when the terminal is connected.
    pub(crate) greeting: String,
    stdin: Stdin,
    signals: Signals,
    writer: Writer,
    escapes: Option<Escapes>,
    raw: Option<Raw>,
    /// So much of the session was shown; none before it began.
    received: Option<u64>,
    pieces: Pieces,
    backlog: Backlog,
    has_new_size: bool,
    is_stdin_open: bool,
    began: Instant,
}

impl<'a> Talk<'a> {
    /// A talk that begins with `open`.
    ///
    /// # Errors
    /// Signals cannot be caught.
    pub(crate) fn new(call: &'a Call, mut open: OpenTerminal) -> Result<Self, Failure> {
        // All that end a command: its terminal is to be as it was, and a program that nobody waits for is to end.
        const CAUGHT: &[i32] = &[
            libc::SIGWINCH,
            libc::SIGHUP,
            libc::SIGTERM,
            libc::SIGQUIT,
            libc::SIGINT,
        ];
        let signals = Signals::catch(CAUGHT).map_err(|error| {
            let text = format!("{}: cannot catch signals: {error}", call.program);
            Failure::new(1, text)
        })?;
        if let Some(Wish::Attach(attach)) = &mut open.wish {
            // Without one the session knows us no more when we come back, and what was on its way then is lost.
            attach.key = crate::startdocker::long_key().unwrap_or_default();
        }
        let has_keys = open.window.is_some() && std::io::stdin().is_terminal();
        Ok(Self {
            call,
            open,
            greeting: String::new(),
            stdin: Stdin::default(),
            signals,
            writer: Writer::start(),
            escapes: has_keys.then(Escapes::default),
            raw: None,
            received: None,
            pieces: Pieces::default(),
            backlog: Backlog::default(),
            has_new_size: false,
            is_stdin_open: true,
            began: Instant::now(),
        })
    }

    /// A session goes on when it is left; a program ends then.
    fn is_session(&self) -> bool {
        matches!(self.open.wish, Some(Wish::Attach(_)))
    }

    /// Talks until it ends. What was shown is written when this returns, and the terminal is as it was.
    pub(crate) async fn run(mut self, server: Server) -> End {
        let end = self.talk(server).await;
        let written = match end {
            // Whoever wants us to go does not wait for a slow reader.
            End::HungUp | End::Interrupted => Ok(()),
            End::Exited(_)
            | End::Gone(_)
            | End::Detached
            | End::Replaced
            | End::Refused(_)
            | End::Unread
            | End::Lost => self.writer.finish(),
        };
        drop(self.raw);
        match written {
            Err(Closed) => End::Unread,
            Ok(()) => end,
        }
    }

    async fn talk(&mut self, mut server: Server) -> End {
        loop {
            match self.connection(&mut server).await {
                Broken::End(end) => return end,
                Broken::Connection => {}
            }
            let began = Instant::now();
            server = match self.reconnect(began).await {
                Ok(server) => server,
                Err(end) => return end,
            };
        }
    }

    async fn reconnect(&mut self, began: Instant) -> Result<Server, End> {
        let (mut pause, longest) = PAUSES;
        let mut is_said = false;
        loop {
            self.pause(pause).await?;
            if began.elapsed() > RECONNECT_FOR {
                return Err(End::Lost);
            }
            if !is_said && began.elapsed() > SILENT_FOR {
                is_said = true;
                let name = self.call.program;
                writer::line(&format!("{name}: the connection is away: trying again"));
            }
            if let Ok(server) = door::open(self.call, Duration::ZERO).await {
                return Ok(server);
            }
            pause = longest.min(pause * 2);
        }
    }

    /// The first word: fresh, or to go on where the connection broke.
    fn opening(&self) -> OpenTerminal {
        let mut open = self.open.clone();
        match &mut open.wish {
            Some(Wish::Attach(attach)) if self.received.is_some() => {
                attach.wait = false;
                attach.from_byte = self.received;
            }
            Some(Wish::Execute(execute)) => execute.from_byte = self.received,
            Some(Wish::Attach(_)) | None => {}
        }
        if open.window.is_some() {
            open.window = tty::size().or(open.window);
        }
        open
    }

    async fn connection(&mut self, server: &mut Server) -> Broken {
        let (say, said) = mpsc::channel(WORDS_MAX);
        let opening = Input::Open(self.opening());
        // The queue was made a moment ago and is empty.
        drop(say.try_send(wrap(opening)));
        let asked = server.terminal(ReceiverStream::new(said));
        let mut heard = match self.unless_signalled(asked).await {
            Ok(Ok(heard)) => heard.into_inner(),
            Ok(Err(status)) => return self.judge(&status),
            Err(end) => return Broken::End(end),
        };
        self.pieces.begin_anew();
        let mut is_ready = false;
        let broken = loop {
            if let Err(broken) = self.step(&mut heard, &say, &mut is_ready, server).await {
                break broken;
            }
        };
        if matches!(broken, Broken::End(_)) && !self.is_session() {
            goodbye(&say, &mut heard).await;
        }
        broken
    }

    async fn unless_signalled<T>(&mut self, work: impl Future<Output = T>) -> Result<T, End> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Ok(done),
                number = self.signals.next() => match number {
                    libc::SIGWINCH => self.has_new_size = true,
                    libc::SIGINT => return Err(End::Interrupted),
                    _ => return Err(End::HungUp),
                },
            }
        }
    }

    async fn step(
        &mut self,
        heard: &mut Streaming<TerminalOutput>,
        say: &mpsc::Sender<TerminalInput>,
        is_ready: &mut bool,
        server: &mut Server,
    ) -> Result<(), Broken> {
        let may_type = self.may_type();
        tokio::select! {
            word = heard.message() => match word {
                Ok(Some(TerminalOutput { output: Some(output) })) => {
                    self.hear(output, say, is_ready).await
                }
                Ok(Some(TerminalOutput { output: None })) => Ok(()),
                Ok(None) => Err(Broken::Connection),
                Err(status) => Err(self.judge(&status)),
            },
            piece = self.stdin.next(), if may_type => {
                let typed = self.typed(piece, Some(server)).await;
                self.say_typed(say, *is_ready);
                typed.map_err(Broken::End)
            }
            number = self.signals.next() => match number {
                libc::SIGWINCH => {
                    self.has_new_size = true;
                    self.tell_size(say, *is_ready);
                    Ok(())
                }
                libc::SIGINT if self.received.is_none() || self.open.window.is_none() => {
                    Err(Broken::End(End::Interrupted))
                }
                // Typed into a terminal that is raw, it is a key; from elsewhere it is for nobody.
                libc::SIGINT => Ok(()),
                _ => Err(Broken::End(End::HungUp)),
            },
        }
    }

    async fn hear(
        &mut self,
        output: Output,
        say: &mpsc::Sender<TerminalInput>,
        is_ready: &mut bool,
    ) -> Result<(), Broken> {
        let (to, bytes) = match output {
            Output::Ready(ready) => {
                *is_ready = true;
                self.received = Some(ready.from_byte);
                self.begin().await?;
                for piece in self.pieces.again(&ready) {
                    send(say, piece);
                }
                self.tell_size(say, true);
                self.say_typed(say, true);
                return Ok(());
            }
            Output::InputTaken(count) => {
                self.pieces.taken(count);
                self.tell_size(say, *is_ready);
                self.say_typed(say, *is_ready);
                return Ok(());
            }
            Output::ExitStatus(status) => return Err(Broken::End(End::Exited(status))),
            Output::Failed(failed) => return Err(self.failed(failed)),
            Output::Replaced(Done {}) => return Err(Broken::End(End::Replaced)),
            Output::Stdout(bytes) => (To::Stdout, bytes),
            Output::Stderr(bytes) => (To::Stderr, bytes),
        };
        let count = bytes.len() as u64;
        self.show(to, bytes).await?;
        self.received = self.received.map(|received| received + count);
        send(say, Input::Taken(1));
        Ok(())
    }

    /// Waits for a slow reader, but not when we are to end.
    async fn show(&mut self, to: To, bytes: Vec<u8>) -> Result<(), Broken> {
        let Self {
            writer,
            signals,
            open,
            ..
        } = self;
        let mut writing = std::pin::pin!(writer.write(to, bytes));
        loop {
            tokio::select! {
                written = &mut writing => return Ok(written?),
                number = signals.next() => match number {
                    libc::SIGWINCH => self.has_new_size = true,
                    libc::SIGINT if open.window.is_some() => {}
                    libc::SIGINT => return Err(Broken::End(End::Interrupted)),
                    _ => return Err(Broken::End(End::HungUp)),
                },
            }
        }
    }

    async fn begin(&mut self) -> Result<(), Closed> {
        let greeting = std::mem::take(&mut self.greeting);
        if !greeting.is_empty() {
            self.writer.write(To::Stdout, greeting.into_bytes()).await?;
        }
        if self.open.window.is_some() && self.raw.is_none() {
            self.raw = Raw::enter();
        }
        Ok(())
    }

    /// The server's word that is no word of the session.
    fn judge(&self, status: &Status) -> Broken {
        match Refusal::from_status(status) {
            Some(refusal) => self.refused(refusal),
            // The transport's, or a server that stops.
            None if self.is_session() || self.is_tried_again() => Broken::Connection,
            None => Broken::End(End::Refused(refusal(status))),
        }
    }

    /// What is connected already comes back; a program that is not is known by its key, and is not begun twice.
    fn is_tried_again(&self) -> bool {
        let is_beginning = !self.is_session() && self.began.elapsed() < BEGIN_FOR;
        self.received.is_some() || is_beginning
    }

    fn refused(&self, refusal: Refusal) -> Broken {
        // The node, or the way to it, may come back.
        let is_passing = matches!(
            refusal.error,
            Pbse::NodeDown | Pbse::Timeout | Pbse::Protocol
        );
        match (self.received.is_some(), is_passing) {
            (_, true) if self.is_tried_again() => Broken::Connection,
            (true, _) => Broken::End(End::Gone(refusal.text())),
            (false, _) => Broken::End(End::Refused(refusal)),
        }
    }

    fn failed(&self, failed: Failed) -> Broken {
        let Failed { pbs_error, detail } = failed;
        let error = u16::try_from(pbs_error).ok().and_then(Pbse::from_number);
        self.refused(Refusal::new(error.unwrap_or(Pbse::System), detail))
    }
}

/// Says that nobody comes back to the program, and waits until that is heard.
async fn goodbye(say: &mpsc::Sender<TerminalInput>, heard: &mut Streaming<TerminalOutput>) {
    send(say, Input::Leave(0));
    let silence = async { while let Ok(Some(_)) = heard.message().await {} };
    // Who does not answer finds out by itself.
    let _late = timeout(GOODBYE, silence).await;
}

/// What cannot be said any more is noticed by the broken answer; the protocol has fewer words on their way than the queue
/// has places.
fn send(say: &mpsc::Sender<TerminalInput>, input: Input) {
    drop(say.try_send(wrap(input)));
}

const fn wrap(input: Input) -> TerminalInput {
    TerminalInput { input: Some(input) }
}
