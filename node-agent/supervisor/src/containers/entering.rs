//! Programs that a person runs inside a container of an attempt (`qexec`): under the container's own user, limits and
//! filters, which the engine sees to, with a terminal or three streams. The engine's connection to each is held by a process
//! of its own, so that they outlive us; they end with whoever wanted them.

use std::sync::Arc;
use std::time::Duration;

use capstan_proto::wire::open_terminal::Wish;
use capstan_proto::wire::terminal_input::Input;
use capstan_proto::wire::terminal_output::Output as Word;
use capstan_proto::wire::{ExecuteProgram, OpenSession, WindowSize};
use capstan_types::{AttemptId, Pbse};
use nix::sys::signal::Signal;
use tokio::net::UnixStream;
use tokio::time::sleep;

use super::engine::{ContainerEngine, ContainerId, EngineError, EnterSpec, TerminalSize};
use super::keeper::Keeper;
use crate::attempts::aimed;
use crate::attempts::{
    EngineProgram, OpenedSession, Seat, SessionEnds, Supervisor, session, session_failed,
};

/// Between looks how a program is.
const PAUSE: Duration = Duration::from_millis(50);
/// How many looks how a program has ended whose output is over.
const LOOKS_MAX: u32 = 200;
/// Between TERM and KILL when nobody waits for a program any more.
const GRACE: Duration = Duration::from_secs(5);
/// The best shell of an image, as at a login.
const BEST_SHELL: &str =
    "if command -v bash >/dev/null 2>&1; then exec bash -l; fi; exec /bin/sh -l";

const NO_CONTAINER: &str = "no container of the job runs: try again when it has started, or enter the job beside it (--outside)";

impl<E: ContainerEngine> Keeper<E> {
    /// Begins a session inside the attempt's container, or goes on with it; gives the order back when it has none, or is not
    /// to be inside.
    ///
    /// # Errors
    /// The order, which is for somebody else.
    pub fn enter(
        self: Arc<Self>,
        supervisor: &Supervisor,
        order: OpenSession,
    ) -> Result<OpenedSession, Box<OpenSession>> {
        let attempt = AttemptId(order.attempt);
        let wish = order.open.as_ref().and_then(|open| open.wish.as_ref());
        let Some(Wish::Execute(wish)) = wish.filter(|_| self.has_had(attempt)) else {
            return Err(Box::new(order));
        };
        if wish.outside {
            return Err(Box::new(order));
        }
        let (wish, supervisor) = (wish.clone(), supervisor.clone());
        let (opened, ends) = session();
        tokio::spawn(async move {
            match self.clone().seat(&supervisor, order, wish).await {
                Ok((seat, stream)) => {
                    let (inner, inner_ends) = session();
                    let sitting = seat.sit(stream, inner_ends);
                    tokio::join!(sitting, self.relay(inner, ends));
                }
                Err(problem) => drop(ends.output.send(problem).await),
            }
        });
        Ok(opened)
    }

    /// Ends programs that an agent before us began, as soon as nobody holds them any more.
    pub fn end_orphans(self: &Arc<Self>, supervisor: &Supervisor) {
        let Some(mut orphans) = supervisor.orphans() else {
            return;
        };
        let keeper = self.clone();
        tokio::spawn(async move {
            while let Some(id) = orphans.recv().await {
                let keeper = keeper.clone();
                tokio::spawn(async move { keeper.end_entered(&id).await });
            }
        });
    }

    async fn seat(
        self: Arc<Self>,
        supervisor: &Supervisor,
        mut order: OpenSession,
        wish: ExecuteProgram,
    ) -> Result<(Seat, UnixStream), Word> {
        let attempt = AttemptId(order.attempt);
        let mut open = order.open.take().unwrap_or_default();
        open.wish = None;
        let (window, term) = (open.window, open.term.clone());
        let seat = Seat::of(supervisor, attempt, open, &wish)?;
        if let Some(stream) = seat.find().await? {
            return Ok((seat, stream));
        }
        let arguments = wish.arguments.clone();
        let program = supervisor.admit_program(order, wish, true).await?;
        let begun = self.begin(&seat, arguments, window, &term).await;
        let begun = begun.map_err(|problem| {
            if matches!(problem, EngineError::NoContainer { .. }) {
                return session_failed(Pbse::Badstate, NO_CONTAINER);
            }
            session_failed(Pbse::System, problem.to_string())
        })?;
        let id = begun.id.clone();
        match supervisor.hold(program, &seat, Some(begun)).await {
            Ok((stream, guarding)) => {
                tokio::spawn(async move {
                    // Its panic is told of where it happens, and the program is not wanted then either.
                    let _panic = guarding.await;
                    self.end_entered(&id).await;
                });
                Ok((seat, stream))
            }
            Err(problem) => {
                self.end_entered(&id).await;
                Err(problem)
            }
        }
    }

    /// In the first container of the attempt: that of the job itself, when the job is one.
    async fn begin(
        &self,
        seat: &Seat,
        arguments: Vec<String>,
        window: Option<WindowSize>,
        term: &str,
    ) -> Result<EngineProgram, EngineError> {
        let attempt = seat.attempt();
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
        let command = match arguments.is_empty() {
            true => ["/bin/sh", "-c", BEST_SHELL].map(str::to_owned).into(),
            false => arguments,
        };
        let kind = if term.is_empty() { "dumb" } else { term };
        let spec = EnterSpec {
            command,
            environment: window.iter().map(|_| format!("TERM={kind}")).collect(),
            terminal: window.map(size),
        };
        let id = self.engine.create_entered(&container, &spec).await?;
        // Before it begins: an agent that ends now leaves nothing that the next one does not know of.
        if let Err(error) = seat.note_entered(&id) {
            tracing::warn!(%attempt, %error, "a program in a container is not noted");
        }
        let entered = self.engine.enter(&id, spec.terminal).await?;
        Ok(EngineProgram {
            id,
            stream: entered.stream,
            first: entered.first,
        })
    }

    /// Passes words on between a client and the process that holds the program, except those that are the engine's: the size
    /// of the terminal, and how the program ended.
    async fn relay(&self, mut inner: OpenedSession, ends: SessionEnds) {
        let SessionEnds { mut input, output } = ends;
        let mut id = String::new();
        loop {
            let word = tokio::select! {
                word = inner.output.recv() => match word {
                    Some(word) => word,
                    None => return,
                },
                word = input.recv() => {
                    let Some(word) = word else { return };
                    if let Input::Window(window) = word {
                        let resized = self.engine.resize_entered(&id, size(window));
                        // A terminal of the wrong size is better than none.
                        drop(resized.await);
                    }
                    // Who does not hear it any more says so himself.
                    drop(inner.input.send(word).await);
                    continue;
                }
                () = output.closed() => break,
            };
            let word = match word {
                Word::Ready(ready) => {
                    id.clone_from(&ready.entered);
                    Word::Ready(ready)
                }
                Word::ExitStatus(seen) => self.exit(&id, seen).await,
                Word::Stdout(_)
                | Word::Stderr(_)
                | Word::Failed(_)
                | Word::InputTaken(_)
                | Word::Replaced(_) => word,
            };
            // Closed: looked at above.
            drop(output.send(word).await);
        }
        // What was said last is whether the client comes back.
        while let Ok(word) = input.try_recv() {
            drop(inner.input.send(word).await);
        }
    }

    /// How the program of this name has ended; `seen` is not 0 when its connection was cut.
    async fn exit(&self, id: &str, seen: i32) -> Word {
        for _ in 0..LOOKS_MAX {
            match self.engine.entered(id).await {
                Ok(state) => match state.exit {
                    Some(status) => return Word::ExitStatus(status),
                    None => sleep(PAUSE).await,
                },
                Err(_) if seen != 0 => return Word::ExitStatus(seen),
                Err(_) => break,
            }
        }
        session_failed(Pbse::System, "what became of the program is not known")
    }

    /// Nobody waits any more: it is told so, and killed when it does not heed that.
    async fn end_entered(&self, id: &str) {
        for signal in [Signal::SIGHUP, Signal::SIGTERM] {
            self.signal_entered(id, signal).await;
        }
        let looks = GRACE.as_millis() / PAUSE.as_millis();
        for _ in 0..looks {
            match self.engine.entered(id).await {
                Ok(state) if state.exit.is_none() => sleep(PAUSE).await,
                Ok(_) | Err(_) => return,
            }
        }
        self.signal_entered(id, Signal::SIGKILL).await;
    }

    async fn signal_entered(&self, id: &str, signal: Signal) {
        let Ok(state) = self.engine.entered(id).await else {
            return;
        };
        let Some(pid) = state.pid.filter(|_| state.exit.is_none()) else {
            return;
        };
        // The number may have passed to a process of another: that is in no group of this container.
        let is_inside = || {
            let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            !state.container.0.is_empty() && groups.contains(&state.container.0)
        };
        // It may have ended since.
        let _sent = aimed::send_one(pid.unsigned_abs(), signal, is_inside);
    }
}

fn size(window: WindowSize) -> TerminalSize {
    let number = |number: u32| u16::try_from(number).unwrap_or(u16::MAX).max(1);
    TerminalSize {
        rows: number(window.rows),
        columns: number(window.columns),
    }
}
