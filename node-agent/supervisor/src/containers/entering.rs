//! Programs that a person runs inside a container of an attempt (`qexec`): under the container's own user, limits and
//! filters, which the engine sees to, with a terminal or three streams. They end with whoever wanted them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use capstan_proto::wire::open_terminal::Wish;
use capstan_proto::wire::terminal_input::Input;
use capstan_proto::wire::terminal_output::Output as Word;
use capstan_proto::wire::{Done, ExecuteProgram, OpenSession, TerminalReady, WindowSize};
use capstan_types::{AttemptId, Pbse};
use futures_util::StreamExt;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::sleep;

use super::engine::{
    ContainerEngine, ContainerId, EngineError, EnterSpec, Entered, Output, TerminalSize,
};
use super::keeper::Keeper;
use crate::attempts::{OpenedSession, SessionEnds, session, session_failed};

/// Pieces of output that may be on their way, and the longest, as the protocol says.
const OUTPUT_MAX: usize = 32;
const PIECE_BYTES_MAX: usize = 8 << 10;
/// Pieces of input that may wait for a program that does not read; the protocol has fewer on their way.
const INPUT_MAX: usize = 64;
/// The key that means the end of input.
const END_OF_INPUT: u8 = 4;
/// Between looks how a program has ended whose output is over, and how many.
const PAUSE: Duration = Duration::from_millis(50);
const LOOKS_MAX: u32 = 200;
/// Between TERM and KILL when nobody waits for a program any more.
const GRACE: Duration = Duration::from_secs(5);
/// The best shell of an image, as at a login.
const BEST_SHELL: &str =
    "if command -v bash >/dev/null 2>&1; then exec bash -l; fi; exec /bin/sh -l";

impl<E: ContainerEngine> Keeper<E> {
    /// Begins a session inside the attempt's container; gives the order back when it has none, or is not to be inside.
    ///
    /// # Errors
    /// The order, which is for somebody else.
    pub fn enter(self: Arc<Self>, order: OpenSession) -> Result<OpenedSession, Box<OpenSession>> {
        let attempt = AttemptId(order.attempt);
        let wish = order.open.as_ref().and_then(|open| open.wish.as_ref());
        let Some(Wish::Execute(wish)) = wish.filter(|_| self.has_had(attempt)) else {
            return Err(Box::new(order));
        };
        if wish.outside {
            return Err(Box::new(order));
        }
        let wish = wish.clone();
        let (opened, ends) = session();
        tokio::spawn(async move { self.serve(attempt, (order, wish), ends).await });
        Ok(opened)
    }

    async fn serve(
        &self,
        attempt: AttemptId,
        (order, wish): (OpenSession, ExecuteProgram),
        ends: SessionEnds,
    ) {
        let open = order.open.unwrap_or_default();
        let entered = tokio::select! {
            entered = self.begin(attempt, wish, open.window, &open.term) => entered,
            () = ends.output.closed() => return,
        };
        let (container, entered) = match entered {
            Ok(entered) => entered,
            Err(EngineError::NoContainer { .. }) => {
                let why = "no container of the job runs: try again when it has started, or enter the job beside it (--outside)";
                return drop(ends.output.send(session_failed(Pbse::Badstate, why)).await);
            }
            Err(problem) => {
                let word = session_failed(Pbse::System, problem.to_string());
                return drop(ends.output.send(word).await);
            }
        };
        let Entered { id, output, input } = entered;
        let program = Inside {
            keeper: self,
            container,
            id,
            has_terminal: open.window.is_some(),
        };
        program.follow((output, input), ends).await;
    }

    /// In the first container of the attempt: that of the job itself, when the job is one.
    async fn begin(
        &self,
        attempt: AttemptId,
        wish: ExecuteProgram,
        window: Option<WindowSize>,
        term: &str,
    ) -> Result<(ContainerId, Entered), EngineError> {
        let all = self.engine.owned(&self.settings.agent).await?;
        let own = all
            .into_iter()
            .filter(|container| container.owner.attempt == attempt && !container.never_started);
        let first = own.min_by_key(|container| container.created);
        let container = first.map(|container| container.id);
        let none = || EngineError::NoContainer {
            id: ContainerId(attempt.to_string()),
        };
        let container = container.ok_or_else(none)?;
        let command = match wish.arguments.is_empty() {
            true => ["/bin/sh", "-c", BEST_SHELL].map(str::to_owned).into(),
            false => wish.arguments,
        };
        let kind = if term.is_empty() { "dumb" } else { term };
        let spec = EnterSpec {
            command,
            environment: window.iter().map(|_| format!("TERM={kind}")).collect(),
            terminal: window.map(size),
        };
        let entered = self.engine.enter(&container, &spec).await?;
        Ok((container, entered))
    }
}

fn size(window: WindowSize) -> TerminalSize {
    let number = |number: u32| u16::try_from(number).unwrap_or(u16::MAX).max(1);
    TerminalSize {
        rows: number(window.rows),
        columns: number(window.columns),
    }
}

type Shown = Pin<Box<dyn futures_util::Stream<Item = io::Result<Output>> + Send>>;
type Typed = Pin<Box<dyn AsyncWrite + Send>>;

/// One program.
struct Inside<'a, E> {
    keeper: &'a Keeper<E>,
    container: ContainerId,
    /// The engine's name of it.
    id: String,
    has_terminal: bool,
}

impl<E: ContainerEngine> Inside<'_, E> {
    async fn follow(&self, (mut shown, typed): (Shown, Typed), ends: SessionEnds) {
        let SessionEnds { mut input, output } = ends;
        let ready = Word::Ready(TerminalReady::default());
        drop(output.send(ready).await);
        let credit = Semaphore::new(OUTPUT_MAX);
        let (keys, queued) = mpsc::channel(INPUT_MAX);
        let has_ended = tokio::select! {
            () = show(&mut shown, &credit, &output) => true,
            () = self.hear(&mut input, &credit, keys, &output) => false,
            () = type_all(typed, queued, &output) => false,
            () = output.closed() => false,
        };
        if !has_ended {
            return self.end().await;
        }
        let last = match self.exit().await {
            Some(status) => Word::ExitStatus(status),
            None => session_failed(Pbse::System, "what became of the program is not known"),
        };
        drop(output.send(last).await);
    }

    /// What the client says; returns when it has gone.
    async fn hear(
        &self,
        input: &mut mpsc::Receiver<Input>,
        credit: &Semaphore,
        keys: mpsc::Sender<Vec<u8>>,
        output: &mpsc::Sender<Word>,
    ) {
        let mut keys = Some(keys);
        while let Some(word) = input.recv().await {
            match word {
                Input::Keys(bytes) => {
                    let is_full = keys
                        .as_ref()
                        .is_some_and(|keys| keys.try_send(bytes).is_err());
                    if is_full {
                        // More than the protocol has on its way.
                        return;
                    }
                }
                Input::KeysClosed(Done {}) => {
                    let last = keys.take().filter(|_| self.has_terminal);
                    if let Some(keys) = last {
                        drop(keys.try_send(vec![END_OF_INPUT]));
                    } else {
                        drop(output.send(Word::InputTaken(1)).await);
                    }
                }
                Input::Window(window) => {
                    let resized = self.keeper.engine.resize_entered(&self.id, size(window));
                    // A terminal of the wrong size is better than none.
                    drop(resized.await);
                    drop(output.send(Word::InputTaken(1)).await);
                }
                Input::Taken(count) => credit.add_permits((count as usize).min(OUTPUT_MAX)),
                Input::Leave(_) | Input::Open(_) => return,
            }
        }
    }

    async fn exit(&self) -> Option<i32> {
        for _ in 0..LOOKS_MAX {
            let state = self.keeper.engine.entered(&self.id).await.ok()?;
            if state.exit.is_some() {
                return state.exit;
            }
            sleep(PAUSE).await;
        }
        None
    }

    /// Nobody waits any more: it is told so, and killed when it does not heed that.
    async fn end(&self) {
        for signal in [Signal::SIGHUP, Signal::SIGTERM] {
            self.signal(signal).await;
        }
        let looks = GRACE.as_millis() / PAUSE.as_millis();
        for _ in 0..looks {
            match self.keeper.engine.entered(&self.id).await {
                Ok(state) if state.exit.is_none() => sleep(PAUSE).await,
                Ok(_) | Err(_) => return,
            }
        }
        self.signal(Signal::SIGKILL).await;
    }

    async fn signal(&self, signal: Signal) {
        let state = self.keeper.engine.entered(&self.id).await;
        let Ok(Some(pid)) = state.map(|state| state.pid.filter(|_| state.exit.is_none())) else {
            return;
        };
        // The number may have passed to a process of another: that is in no group of this container.
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        if groups.contains(&self.container.0) {
            // It may have ended since.
            let _gone = kill(Pid::from_raw(pid), signal);
        }
    }
}

/// From the program to the client, as it takes it; returns at the end of both streams.
async fn show(shown: &mut Shown, credit: &Semaphore, output: &mpsc::Sender<Word>) {
    while let Some(Ok(piece)) = shown.next().await {
        let (bytes, wrap): (_, fn(Vec<u8>) -> Word) = match piece {
            Output::Stdout(bytes) => (bytes, Word::Stdout),
            Output::Stderr(bytes) => (bytes, Word::Stderr),
        };
        for bytes in bytes.chunks(PIECE_BYTES_MAX) {
            // Never closed.
            if let Ok(place) = credit.acquire().await {
                place.forget();
            }
            drop(output.send(wrap(bytes.to_vec())).await);
        }
    }
}

/// Types what comes; never returns, because a program that reads no more may go on.
async fn type_all(
    mut typed: Typed,
    mut queued: mpsc::Receiver<Vec<u8>>,
    output: &mpsc::Sender<Word>,
) {
    let mut is_open = true;
    while let Some(bytes) = queued.recv().await {
        is_open = is_open && typed.write_all(&bytes).await.is_ok();
        drop(output.send(Word::InputTaken(1)).await);
    }
    drop(typed.shutdown().await);
    std::future::pending().await
}
