//! A program that somebody runs in an attempt beside its script: on its node, in its share, with its variables and rights.
//! It is a task like those of `pbsdsh`, with a terminal or three pipes, and ends with whoever wanted it.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use capstan_proto::wire::terminal_input::Input;
use capstan_proto::wire::terminal_output::Output;
use capstan_proto::wire::{Done, ExecuteProgram, LaunchSpec, OpenSession, OpenTerminal};
use capstan_proto::wire::{TerminalReady, WindowSize};
use capstan_types::{AttemptId, Pbse};
use prost::Message;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::spawn_blocking;

use super::ends::{Streams, next};
use super::{Ends, failed};
use crate::attempts::record::Entry;
use crate::attempts::site::Site;
use crate::attempts::table::Supervisor;
use crate::attempts::tasks::process::{END, EXIT, FAILED, KILL, STARTED};
use crate::attempts::tasks::{SessionTask, TaskOrder, TaskPlace};

/// Pieces of output that may be on their way, as the protocol says.
const OUTPUT_MAX: usize = 32;
/// Keys that the program has not read, bytes; the protocol has fewer on their way.
const KEYS_BYTES_MAX: usize = 64 << 10;
/// The key that means the end of input.
const END_OF_INPUT: u8 = 4;
/// What a program has written is there when it has ended; one that it left may go on writing, and is not waited for.
const LAST_PIECES_MAX: usize = 256;

/// Runs the program to its end, or to that of the session.
pub(super) async fn execute(
    supervisor: &Supervisor,
    order: OpenSession,
    open: OpenTerminal,
    wish: ExecuteProgram,
    ends: Ends,
) {
    let window = open.window;
    let prepared = prepare(supervisor, order, open, wish).await;
    let (order, place) = match prepared {
        Ok(prepared) => prepared,
        Err(problem) => return drop(ends.output.send(problem).await),
    };
    match start(&supervisor.site, &order, window).await {
        Ok(program) => program.serve(ends, place).await,
        Err(error) => {
            let problem = format!("no process can be made for the program: {error}");
            drop(ends.output.send(failed(Pbse::System, problem)).await);
        }
    }
}

async fn prepare(
    supervisor: &Supervisor,
    order: OpenSession,
    open: OpenTerminal,
    wish: ExecuteProgram,
) -> Result<(TaskOrder, TaskPlace), Output> {
    let attempt = AttemptId(order.attempt);
    let (entry, number) = match order.spec {
        Some(spec) => (guest(&supervisor.site, spec).await?, 0),
        None => {
            let live = supervisor.started(attempt);
            let live = live.map_err(|problem| failed(Pbse::Badstate, problem.to_string()))?;
            let mut entry = live.entry.clone();
            entry.spec.script.clear();
            (entry, live.next_task())
        }
    };
    if !entry.spec.image.is_empty() {
        let problem = match wish.outside {
            true => "the job is a container: nothing of it runs outside",
            false => "the job is a container, which has not started yet or has ended: try again",
        };
        return Err(failed(Pbse::Badstate, problem));
    }
    // Taken after the attempt was seen alive: one that ends meanwhile ends this, too.
    let place = supervisor.tasks.admit(attempt);
    let place = place.map_err(|refused| failed(Pbse::Badstate, refused.to_string()))?;
    let session = SessionTask {
        has_terminal: open.window.is_some(),
        term: open.term,
    };
    let order = TaskOrder {
        entry,
        node: order.node_index,
        vnode: order.vnode,
        task: number,
        arguments: wish.arguments,
        environment: Vec::new(),
        folder: String::new(),
        hooks: None,
        session: Some(session),
    };
    Ok((order, place))
}

async fn guest(site: &Arc<Site>, spec: LaunchSpec) -> Result<Entry, Output> {
    let site = site.clone();
    // Names may come from a directory on the network.
    let resolved = spawn_blocking(move || site.guest(spec)).await;
    let problem = |text: String| failed(Pbse::System, text);
    let resolved = resolved.map_err(|error| problem(error.to_string()))?;
    resolved.map_err(|error| problem(error.to_string()))
}

async fn start(
    site: &Arc<Site>,
    order: &TaskOrder,
    window: Option<WindowSize>,
) -> io::Result<Program> {
    let uid = order.entry.identity.as_ref().map_or(0, |user| user.uid);
    let (streams, [stdin, stdout, stderr]) = Streams::open(uid, window)?;
    let site = site.clone();
    let started = spawn_blocking(move || site.spawner.start_task(&[stdout, stderr, stdin])).await;
    let stream = started.map_err(io::Error::other)??;
    let (reading, mut control) = UnixStream::from_std(stream)?.into_split();
    let order = order.encode_to_vec();
    let length = u32::try_from(order.len()).map_err(io::Error::other)?;
    control.write_all(&length.to_le_bytes()).await?;
    control.write_all(&order).await?;
    Ok(Program {
        lines: BufReader::new(reading).lines(),
        control,
        streams,
        keys: VecDeque::new(),
        pieces: VecDeque::new(),
        under_way: 0,
        closes_input: false,
    })
}

/// The process between, and the program's streams.
struct Program {
    lines: Lines<BufReader<OwnedReadHalf>>,
    control: OwnedWriteHalf,
    streams: Streams,
    keys: VecDeque<u8>,
    /// Lengths of the pieces of input in `keys`.
    pieces: VecDeque<usize>,
    /// Pieces of output that are on their way.
    under_way: usize,
    /// No key follows those that are there.
    closes_input: bool,
}

/// Why a program is not served any more.
enum Over {
    /// It has ended.
    Ended,
    /// The client has gone.
    Unwanted,
    /// The attempt has ended.
    Killed,
}

impl Program {
    async fn serve(mut self, mut ends: Ends, place: TaskPlace) {
        let ready = Output::Ready(TerminalReady::default());
        drop(ends.output.send(ready).await);
        let over = self.follow(&mut ends, &place).await;
        // Hung up: what is left on a terminal hears of it.
        self.streams.stdin = None;
        if self.streams.has_terminal {
            self.streams.stdout = None;
        }
        drop(ends);
        match over {
            Over::Ended | Over::Unwanted => self.tell(END).await,
            Over::Killed => self.tell(KILL).await,
        }
        let mut is_killed = matches!(over, Over::Killed);
        loop {
            tokio::select! {
                () = self.gone() => return,
                () = place.ending.cancelled(), if !is_killed => {
                    is_killed = true;
                    self.tell(KILL).await;
                }
            }
        }
    }

    async fn follow(&mut self, ends: &mut Ends, place: &TaskPlace) -> Over {
        loop {
            let may_show = self.under_way < OUTPUT_MAX;
            let front = self.keys.as_slices().0.to_vec();
            let stdin = self.streams.stdin.clone();
            tokio::select! {
                piece = next(self.streams.stdout.as_ref()), if may_show => match piece {
                    Some(bytes) => self.show(Output::Stdout(bytes), ends).await,
                    None => self.streams.stdout = None,
                },
                piece = next(self.streams.stderr.as_ref()), if may_show => match piece {
                    Some(bytes) => self.show(Output::Stderr(bytes), ends).await,
                    None => self.streams.stderr = None,
                },
                line = self.lines.next_line() => {
                    let line = line.ok().flatten();
                    if let Some(over) = self.said(line, ends).await {
                        return over;
                    }
                }
                word = ends.input.recv() => match word {
                    Some(word) => {
                        if !self.heard(word, ends).await {
                            return Over::Unwanted;
                        }
                    }
                    None => return Over::Unwanted,
                },
                written = write(stdin, &front), if !front.is_empty() => {
                    self.written(written, ends).await;
                }
                () = ends.output.closed() => return Over::Unwanted,
                () = place.ending.cancelled() => return Over::Killed,
            }
            if self.closes_input && self.keys.is_empty() && !self.streams.has_terminal {
                self.streams.stdin = None;
            }
        }
    }

    async fn show(&mut self, output: Output, ends: &Ends) {
        self.under_way += 1;
        drop(ends.output.send(output).await);
    }

    /// A line of the process between; why it is over, if it is.
    async fn said(&mut self, line: Option<String>, ends: &mut Ends) -> Option<Over> {
        let line = line.unwrap_or_default();
        let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let last = match word {
            STARTED => return None,
            EXIT => {
                self.last_words(ends).await;
                Output::ExitStatus(rest.parse().unwrap_or_default())
            }
            FAILED => failed(Pbse::System, rest),
            // Closed, or nothing that we know.
            _ => failed(Pbse::System, "what became of the program is not known"),
        };
        drop(ends.output.send(last).await);
        Some(Over::Ended)
    }

    /// What the program wrote before it ended, as the client takes it.
    async fn last_words(&mut self, ends: &mut Ends) {
        for _ in 0..LAST_PIECES_MAX {
            while self.under_way >= OUTPUT_MAX {
                match ends.input.recv().await {
                    Some(Input::Taken(count)) => self.taken(count),
                    Some(_late) => {}
                    None => return,
                }
            }
            let (stdout, stderr) = (&self.streams.stdout, &self.streams.stderr);
            let out = stdout.as_ref().and_then(|end| end.rest());
            let piece = out.map(Output::Stdout);
            let piece = piece.or_else(|| stderr.as_ref()?.rest().map(Output::Stderr));
            let Some(piece) = piece else { return };
            self.show(piece, ends).await;
        }
    }

    const fn taken(&mut self, count: u32) {
        self.under_way = self.under_way.saturating_sub(count as usize);
    }

    /// A word of the client; false when it says more than it may.
    async fn heard(&mut self, word: Input, ends: &Ends) -> bool {
        match word {
            Input::Keys(keys) => {
                if self.keys.len() + keys.len() > KEYS_BYTES_MAX {
                    return false;
                }
                self.pieces.push_back(keys.len());
                match self.streams.stdin {
                    Some(_) => self.keys.extend(keys),
                    // It reads no more; the rest of its input is for nobody.
                    None => self.count_written(usize::MAX, ends).await,
                }
            }
            Input::Window(window) => {
                self.streams.resize(window);
                input_taken(1, ends).await;
            }
            Input::KeysClosed(Done {}) => {
                self.closes_input = true;
                if self.streams.has_terminal {
                    self.keys.push_back(END_OF_INPUT);
                    self.pieces.push_back(1);
                } else {
                    input_taken(1, ends).await;
                }
            }
            Input::Taken(count) => self.taken(count),
            Input::Open(_) => return false,
        }
        true
    }

    async fn written(&mut self, written: io::Result<usize>, ends: &Ends) {
        match written {
            Ok(count) => {
                self.keys.drain(..count);
                self.count_written(count, ends).await;
            }
            Err(_) => {
                // It reads no more.
                self.keys.clear();
                self.streams.stdin = None;
                self.count_written(usize::MAX, ends).await;
            }
        }
    }

    async fn count_written(&mut self, mut count: usize, ends: &Ends) {
        let mut done = 0;
        while let Some(first) = self.pieces.front_mut() {
            if *first > count {
                *first -= count;
                break;
            }
            count -= *first;
            self.pieces.pop_front();
            done += 1;
        }
        if done > 0 {
            input_taken(done, ends).await;
        }
    }

    /// Gives the process between an order; one that has ended needs none.
    async fn tell(&mut self, order: u8) {
        drop(self.control.write_all(&[order]).await);
    }

    /// Returns when nothing of the program is left. What it writes meanwhile is read and dropped: it would wait for a
    /// reader else.
    async fn gone(&mut self) {
        loop {
            tokio::select! {
                piece = next(self.streams.stdout.as_ref()) => if piece.is_none() {
                    self.streams.stdout = None;
                },
                piece = next(self.streams.stderr.as_ref()) => if piece.is_none() {
                    self.streams.stderr = None;
                },
                line = self.lines.next_line() => if !matches!(line, Ok(Some(_))) { return },
            }
        }
    }
}

async fn write(stdin: Option<Arc<super::ends::End>>, bytes: &[u8]) -> io::Result<usize> {
    match stdin {
        Some(end) => end.write(bytes).await,
        None => Err(io::ErrorKind::BrokenPipe.into()),
    }
}

async fn input_taken(count: u32, ends: &Ends) {
    drop(ends.output.send(Output::InputTaken(count)).await);
}
