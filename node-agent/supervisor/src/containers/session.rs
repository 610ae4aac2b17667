//! One container and its client: carries stdin, output, signals and window sizes between them until the container
//! ends, the client goes away, or the attempt ends. Nothing is read ahead of a slow reader, in either direction.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use capstan_proto::wire::container_input::Input;
use capstan_proto::wire::container_output::Output as Said;
use capstan_proto::wire::{ContainerInput, ContainerOutput, ContainerStarted};
use futures_util::StreamExt;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{Mutex, mpsc};
use tonic::{Status, Streaming};

use super::engine::{Attached, ContainerEngine, ContainerId, EngineError, Output, Seen, Signal};
use super::keeper::Keeper;
use super::plan::terminal_size;
use super::refusal::chain;
use super::registry::Session;

/// Bytes of stdin that a client may send ahead of the container's reading.
pub const STDIN_WINDOW: u32 = 256 * 1024;
/// Pieces of stdin that wait for the container.
const STDIN_QUEUE: usize = 256;
/// Once the exit code is known, output that does not come for so long does not come.
const LAST_OUTPUT: Duration = Duration::from_secs(5);
/// What a shell sees when a container was started and then lost.
const LOST: i32 = 125;
/// 128 + SIGKILL.
const KILLED: i32 = 137;

/// The way to a client.
#[derive(Clone, Debug)]
pub(super) struct Talk(mpsc::Sender<Result<ContainerOutput, Status>>);

impl Talk {
    /// Over the stream of one call.
    pub(super) fn new(to_client: mpsc::Sender<Result<ContainerOutput, Status>>) -> Self {
        Self(to_client)
    }

    /// Waits for room; says nothing to a client that is gone, which [`stop`] notices.
    pub(super) async fn say(&self, said: Said) {
        drop(
            self.0
                .send(Ok(ContainerOutput { output: Some(said) }))
                .await,
        );
    }

    /// Tells the client to come back.
    pub(super) async fn leave(&self) {
        drop(
            self.0
                .send(Err(Status::unavailable("the agent is stopping")))
                .await,
        );
    }
}

/// Why a session ends before its container does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Nobody reads any more.
    ClientGone,
    /// The attempt is over.
    AttemptEnded,
    /// The agent stops; the container goes on.
    LettingGo,
}

/// Waits until the session has to end.
pub(super) fn stop<E>(
    keeper: &Keeper<E>,
    session: &Session,
    talk: &Talk,
) -> impl Future<Output = Stop> + Send + use<E> {
    let letting_go = keeper.letting_go.clone();
    let ending = session.ending.clone();
    let talk = talk.0.clone();
    async move {
        tokio::select! {
            biased;
            // First, because an agent that stops takes its clients' connections with it.
            () = letting_go.cancelled() => Stop::LettingGo,
            () = ending.cancelled() => Stop::AttemptEnded,
            () = talk.closed() => Stop::ClientGone,
        }
    }
}

/// A container to be served.
pub(super) struct Served {
    /// Its streams.
    pub(super) attached: Attached,
    /// It has a terminal.
    pub(super) terminal: bool,
    /// What the client has of its output already.
    pub(super) seen: Seen,
}

/// Serves the container to its end, and removes it.
pub(super) async fn stream<E: ContainerEngine>(
    keeper: &Keeper<E>,
    session: Session,
    served: Served,
    input: Streaming<ContainerInput>,
    talk: &Talk,
) {
    let Attached {
        id,
        output,
        input: stdin,
    } = served.attached;
    let interactive = stdin.is_some();
    let stop = stop(keeper, &session, talk);
    let stdin = Stdin(Mutex::new(stdin));
    let mut pump = Pump {
        keeper,
        id: &id,
        stdin: &stdin,
        seen: served.seen,
        talk,
    };
    let serve = async {
        talk.say(Said::Started(ContainerStarted {
            terminal: served.terminal,
            interactive,
            container: id.0.clone(),
            stdin_window: STDIN_WINDOW,
        }))
        .await;
        let code = pump.run(output).await;
        talk.say(Said::ExitCode(code)).await;
    };
    tokio::select! {
        () = serve => {}
        () = listen(keeper, &id, &stdin, input, talk) => {}
        stop = stop => match stop {
            Stop::ClientGone => tracing::info!(container = %id.0, "client is gone"),
            Stop::AttemptEnded => drop(tokio::time::timeout(LAST_OUTPUT, talk.say(Said::ExitCode(KILLED))).await),
            Stop::LettingGo => return talk.leave().await,
        }
    }
    keeper.remove(&id).await;
    // The place in the attempt is given back only now: its end waits for the removal.
    drop(session);
}

/// The container's stdin; replaced when the engine comes back.
struct Stdin(Mutex<Option<Pin<Box<dyn AsyncWrite + Send>>>>);

impl Stdin {
    /// A container that does not take it any more loses it, as with a broken pipe.
    async fn write(&self, bytes: &[u8]) {
        let mut stdin = self.0.lock().await;
        let Some(open) = stdin.as_mut() else { return };
        let written = async {
            open.write_all(bytes).await?;
            open.flush().await
        };
        if written.await.is_err() {
            *stdin = None;
        }
    }

    async fn close(&self) {
        if let Some(mut open) = self.0.lock().await.take() {
            drop(open.shutdown().await);
        }
    }
}

/// Carries what the client says. Returns only when the client breaks the protocol; a client that is gone is noticed
/// by its not listening.
async fn listen<E: ContainerEngine>(
    keeper: &Keeper<E>,
    id: &ContainerId,
    stdin: &Stdin,
    mut input: Streaming<ContainerInput>,
    talk: &Talk,
) {
    let (queue, waiting) = mpsc::channel(STDIN_QUEUE);
    let mut queue = Some(queue);
    let under_way = std::sync::atomic::AtomicU32::new(0);
    let write = write(stdin, waiting, &under_way, talk);
    let read = async {
        while let Ok(Some(ContainerInput { input: Some(said) })) = input.message().await {
            match said {
                Input::Stdin(bytes) if bytes.is_empty() => {}
                Input::Stdin(bytes) => {
                    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                    let before = under_way.fetch_add(length, std::sync::atomic::Ordering::Relaxed);
                    if before.saturating_add(length) > STDIN_WINDOW {
                        tracing::warn!(container = %id.0, "client sends more than its window");
                        return;
                    }
                    if let Some(queue) = &queue {
                        drop(queue.send(bytes).await);
                    }
                }
                Input::StdinClosed(_) => queue = None,
                Input::Resize(size) => {
                    if let Some(size) = terminal_size(size) {
                        log(id, keeper.engine.resize(id, size).await);
                    }
                }
                Input::Signal(signal) => log(id, keeper.engine.signal(id, Signal(signal)).await),
                Input::Request(_) | Input::Resume(_) => {
                    tracing::warn!(container = %id.0, "client asks twice");
                    return;
                }
            }
        }
        // It says no more; that is the end of its stdin too.
        drop(queue.take());
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = read => {}
        () = write => {}
    }
}

/// Writes stdin at the container's pace and gives the client credit for it.
async fn write(
    stdin: &Stdin,
    mut waiting: mpsc::Receiver<Vec<u8>>,
    under_way: &std::sync::atomic::AtomicU32,
    talk: &Talk,
) {
    while let Some(bytes) = waiting.recv().await {
        stdin.write(&bytes).await;
        let length = bytes.len() as u32;
        under_way.fetch_sub(length, std::sync::atomic::Ordering::Relaxed);
        talk.say(Said::StdinTaken(length)).await;
    }
    stdin.close().await;
    std::future::pending::<()>().await;
}

fn log(id: &ContainerId, done: Result<(), EngineError>) {
    if let Err(error) = done {
        tracing::debug!(container = %id.0, error = chain(&error), "signal or size not passed on");
    }
}

type OutputStream = Pin<Box<dyn futures_util::Stream<Item = std::io::Result<Output>> + Send>>;

/// Carries output and finds out the exit code, across restarts of the engine.
struct Pump<'a, E> {
    keeper: &'a Keeper<E>,
    id: &'a ContainerId,
    stdin: &'a Stdin,
    seen: Seen,
    talk: &'a Talk,
}

impl<E: ContainerEngine> Pump<'_, E> {
    async fn run(&mut self, output: OutputStream) -> i32 {
        let mut output = Some(output);
        loop {
            match self.until_end(&mut output).await {
                Ok(code) => {
                    self.explain(code).await;
                    return code;
                }
                Err(error) if error.is_transient() => match self.recover().await {
                    Ok(again) => output = Some(again),
                    Err(error) => return self.lost(&error).await,
                },
                Err(error) => return self.lost(&error).await,
            }
        }
    }

    /// A container that failed because its engine stopped looks like one that failed by itself: ask whether the
    /// engine is still there.
    async fn explain(&self, code: i32) {
        if code == 0 {
            return;
        }
        if let Err(error) = self.keeper.engine.wait(self.id).await
            && error.is_transient()
        {
            let said = "the container engine stopped and may have ended the container";
            self.talk.say(Said::Notice(said.to_owned())).await;
        }
    }

    async fn lost(&self, error: &EngineError) -> i32 {
        self.talk
            .say(Said::Notice(format!(
                "the container is lost: {}",
                chain(error)
            )))
            .await;
        LOST
    }

    async fn until_end(&mut self, output: &mut Option<OutputStream>) -> Result<i32, EngineError> {
        let keeper = self.keeper;
        let mut wait = std::pin::pin!(keeper.engine.wait(self.id));
        let mut code = None;
        while let Some(open) = output {
            let patience = async {
                match code {
                    Some(_) => tokio::time::sleep(LAST_OUTPUT).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                piece = open.next() => match piece {
                    Some(Ok(piece)) => self.pass_on(piece).await,
                    Some(Err(_)) | None => *output = None,
                },
                ended = &mut wait, if code.is_none() => code = Some(ended?),
                () = patience => *output = None,
            }
        }
        match code {
            Some(code) => Ok(code),
            None => wait.await,
        }
    }

    async fn pass_on(&mut self, piece: Output) {
        match piece {
            Output::Stdout(bytes) => {
                self.seen.stdout += bytes.len() as u64;
                self.talk.say(Said::Stdout(Bytes::into(bytes))).await;
            }
            Output::Stderr(bytes) => {
                self.seen.stderr += bytes.len() as u64;
                self.talk.say(Said::Stderr(Bytes::into(bytes))).await;
            }
        }
    }

    /// Waits for the engine to come back, and attaches again behind what was seen.
    async fn recover(&self) -> Result<OutputStream, EngineError> {
        let said = "the container engine went away: waiting for it";
        self.talk.say(Said::Notice(said.to_owned())).await;
        let container = self.keeper.find(self.id).await?;
        let attached = self.keeper.engine.resume(&container, self.seen).await?;
        *self.stdin.0.lock().await = attached.input;
        let said = "the container engine is back; it may have ended the container";
        self.talk.say(Said::Notice(said.to_owned())).await;
        Ok(attached.output)
    }
}
