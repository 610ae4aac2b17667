//! Connects a session with the terminal that an attempt's shim holds. The agent only passes words on: it knows nothing of
//! what is shown, so that its end costs nobody a byte.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use capstan_proto::wire::open_terminal::Wish;
use capstan_proto::wire::terminal_input::Input;
use capstan_proto::wire::terminal_output::Output;
use capstan_proto::wire::{OpenTerminal, TerminalInput, TerminalOutput};
use capstan_types::{AttemptId, Pbse};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};

use super::{Ends, VERSION, failed, frames};
use crate::attempts::keeper::connect_to;
use crate::attempts::live::LiveAttempt;
use crate::attempts::table::Supervisor;

/// An attempt that was ordered a moment ago may not be known yet.
const KNOWN_WITHIN: Duration = Duration::from_secs(5);
/// Between looks whether the shim has made the terminal; files are copied to the node before it does.
const PAUSE: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);
const READ_BYTES: usize = 16 << 10;
/// How long a client may take to say that it knows how its program ended, and what it said last to be passed on.
const FAREWELL: Duration = Duration::from_secs(10);
const LAST_WORDS: Duration = Duration::from_secs(1);

pub(super) async fn attach(
    supervisor: &Supervisor,
    attempt: AttemptId,
    open: OpenTerminal,
    ends: Ends,
) {
    let stream = tokio::select! {
        stream = connect(supervisor, attempt) => stream,
        // Nobody waits any more.
        () = ends.output.closed() => return,
    };
    match stream {
        Ok(stream) => talk(stream, open, ends).await,
        Err(problem) => drop(ends.output.send(problem).await),
    }
}

/// Passes words on between a client and the process that holds the terminal, until one of them is gone.
pub(super) async fn talk(stream: UnixStream, mut open: OpenTerminal, ends: Ends) {
    let Ends { mut input, output } = ends;
    let (reading, mut writing) = stream.into_split();
    let is_program = matches!(open.wish, Some(Wish::Execute(_)));
    open.version = VERSION;
    if say(&mut writing, Input::Open(open)).await.is_err() {
        return drop(output.send(gone()).await);
    }
    let mut passing = std::pin::pin!(pass_on(&mut input, &mut writing));
    let wait = tokio::select! {
        has_exited = show(reading, &output) => match has_exited && is_program {
            true => FAREWELL,
            false => return,
        },
        () = &mut passing => return,
        () = output.closed() => LAST_WORDS,
    };
    // What was said last is whether the client comes back.
    let _late = timeout(wait, passing).await;
}

/// The way to the terminal, when there is one.
async fn connect(supervisor: &Supervisor, attempt: AttemptId) -> Result<UnixStream, Output> {
    let began = Instant::now();
    let mut pause = PAUSE;
    loop {
        match supervisor.live.get(attempt) {
            Some(live) if live.entry.spec.interactive.is_none() => {
                return Err(failed(Pbse::Badstate, "the job has no terminal"));
            }
            Some(live) => {
                if let Ok(stream) = try_connect(live).await {
                    return Ok(stream);
                }
            }
            None if began.elapsed() > KNOWN_WITHIN => {
                let detail = "the job does not run on this node any more";
                return Err(failed(Pbse::Badstate, detail));
            }
            None => {}
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

async fn try_connect(live: Arc<LiveAttempt>) -> io::Result<UnixStream> {
    let connecting = spawn_blocking(move || connect_to(Path::new(&live.terminal()))).await;
    UnixStream::from_std(connecting.map_err(io::Error::other)??)
}

/// From the terminal to the client, until the last word; whether it was how the program ended.
async fn show(mut reading: OwnedReadHalf, output: &mpsc::Sender<Output>) -> bool {
    let mut arrived = Vec::new();
    loop {
        loop {
            let word = match frames::take::<TerminalOutput>(&mut arrived) {
                Ok(Some(word)) => word.output,
                Ok(None) => break,
                Err(_) => {
                    drop(output.send(gone()).await);
                    return false;
                }
            };
            let Some(word) = word else { continue };
            let has_exited = matches!(word, Output::ExitStatus(_));
            let is_last = has_exited || matches!(word, Output::Failed(_) | Output::Replaced(_));
            let is_heard = output.send(word).await.is_ok();
            if is_last || !is_heard {
                return is_heard && has_exited;
            }
        }
        let mut bytes = Vec::with_capacity(READ_BYTES);
        match reading.read_buf(&mut bytes).await {
            Ok(1..) => arrived.extend_from_slice(&bytes),
            Ok(0) | Err(_) => {
                drop(output.send(gone()).await);
                return false;
            }
        }
    }
}

/// From the client to the terminal, until nobody is there.
async fn pass_on(input: &mut mpsc::Receiver<Input>, writing: &mut OwnedWriteHalf) {
    while let Some(word) = input.recv().await {
        let is_last = matches!(word, Input::Leave(_));
        if say(writing, word).await.is_err() {
            // Its last words may still be there to be read.
            return std::future::pending().await;
        }
        if is_last {
            return;
        }
    }
}

async fn say(writing: &mut OwnedWriteHalf, word: Input) -> io::Result<()> {
    let mut bytes = Vec::new();
    frames::put(&TerminalInput { input: Some(word) }, &mut bytes);
    writing.write_all(&bytes).await
}

fn gone() -> Output {
    failed(Pbse::Badstate, "the session is gone")
}
