//! The talk with the agent: stdin, window sizes and signals go there, output and the exit code come back. When the
//! stream breaks because the agent is restarted, the container goes on, and so does the talk.

use std::path::PathBuf;
use std::time::Duration;

use capstan_proto::connect_unix;
use capstan_proto::wire::container_input::Input;
use capstan_proto::wire::container_output::Output;
use capstan_proto::wire::node_door_client::NodeDoorClient;
use capstan_proto::wire::{
    ContainerInput, ContainerRefused, ContainerRequest, ContainerResume, ContainerStarted, Done,
};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use super::{NOT_STARTED, stdin};
use crate::terminal::tty::{self as terminal, Raw};
use crate::terminal::writer::{self, Closed, To, Writer};

/// Messages on their way to the agent.
const INPUT_QUEUE: usize = 16;
/// First and longest pause between two tries to reach a restarted agent.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// As of a program that writes into a closed pipe: 128 + SIGPIPE.
const CLOSED_PIPE: u8 = 141;

/// One `startdocker`.
pub(super) struct Session {
    socket: PathBuf,
    request: ContainerRequest,
    started: Option<ContainerStarted>,
    stdout_bytes: u64,
    stderr_bytes: u64,
    raw: Option<Raw>,
}

/// How a talk ended.
enum End {
    Exited(u8),
    /// The stream broke: the agent may come back.
    Broken,
}

impl Session {
    pub(super) fn new(socket: PathBuf, request: ContainerRequest) -> Self {
        Self {
            socket,
            request,
            started: None,
            stdout_bytes: 0,
            stderr_bytes: 0,
            raw: None,
        }
    }

    /// Talks until the container has ended; gives the exit code.
    pub(super) async fn run(mut self, mut channel: Channel) -> u8 {
        let Ok(mut signals) = Signals::catch() else {
            writer::line("startdocker: cannot catch signals");
            return NOT_STARTED;
        };
        let mut stdin = stdin::Stdin::default();
        let writer = Writer::start();
        let code = loop {
            match self.talk(channel, &mut signals, &mut stdin, &writer).await {
                Ok(End::Exited(code)) => break code,
                Ok(End::Broken) => {}
                Err(Closed) => break CLOSED_PIPE,
            }
            channel = match self.reconnect(&mut signals).await {
                Ok(channel) => channel,
                Err(code) => break code,
            };
        };
        let written = writer.finish();
        drop(self.raw);
        match (written, code) {
            (Err(Closed), 0) => CLOSED_PIPE,
            (Ok(()) | Err(Closed), code) => code,
        }
    }

    async fn reconnect(&self, signals: &mut Signals) -> Result<Channel, u8> {
        writer::line("startdocker: the agent of this node went away: waiting for it to come back");
        let (mut pause, longest) = PAUSES;
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // Nobody is there to pass it on.
                number = signals.next() => return Err(exit_by(number)),
            }
            if let Ok(channel) = connect_unix(&self.socket).await {
                return Ok(channel);
            }
            pause = longest.min(pause * 2);
        }
    }

    /// The first message: the request, or to go on with the container that it started.
    fn opening(&self) -> Input {
        match &self.started {
            None => Input::Request(self.request.clone()),
            Some(started) => Input::Resume(ContainerResume {
                container: started.container.clone(),
                stdout_bytes: self.stdout_bytes,
                stderr_bytes: self.stderr_bytes,
                terminal: terminal::size().filter(|_| started.terminal),
            }),
        }
    }

    async fn talk(
        &mut self,
        channel: Channel,
        signals: &mut Signals,
        stdin: &mut stdin::Stdin,
        writer: &Writer,
    ) -> Result<End, Closed> {
        let (say, said) = mpsc::channel(INPUT_QUEUE);
        let say = Say(say);
        say.say(self.opening()).await;
        let mut door = NodeDoorClient::new(channel);
        let mut heard = match door.run_container(ReceiverStream::new(said)).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => return Ok(broken_or(&status)),
        };
        let credit = Semaphore::new(0);
        let mut is_open = false;
        loop {
            tokio::select! {
                message = next(&mut heard) => match message {
                    Ok(Output::Started(started)) => {
                        is_open = started.interactive;
                        credit.add_permits(started.stdin_window as usize);
                        self.begin(started);
                    }
                    Ok(Output::StdinTaken(bytes)) => credit.add_permits(bytes as usize),
                    Ok(output) => {
                        let mut hear = std::pin::pin!(self.hear(output, writer));
                        // A reader of ours that is slow must not hold up signals.
                        let end = loop {
                            tokio::select! {
                                end = &mut hear => break end?,
                                number = signals.next() => say.signal(number).await,
                            }
                        };
                        if let Some(end) = end {
                            return Ok(end);
                        }
                    }
                    Err(Some(status)) => return Ok(broken_or(&status)),
                    Err(None) => return Ok(End::Broken),
                },
                piece = stdin.next(&credit), if is_open => match piece {
                    Some(bytes) => say.say(Input::Stdin(bytes)).await,
                    None => {
                        is_open = false;
                        say.say(Input::StdinClosed(Done {})).await;
                    }
                },
                number = signals.next() => {
                    if self.started.is_none() {
                        return Ok(End::Exited(exit_by(number)));
                    }
                    say.signal(number).await;
                }
            }
        }
    }

    fn begin(&mut self, started: ContainerStarted) {
        if started.terminal && started.interactive && self.raw.is_none() {
            self.raw = Raw::enter();
        }
        self.started = Some(started);
    }

    async fn hear(&mut self, output: Output, writer: &Writer) -> Result<Option<End>, Closed> {
        match output {
            Output::Stdout(bytes) => {
                self.stdout_bytes += bytes.len() as u64;
                writer.write(To::Stdout, bytes).await?;
            }
            Output::Stderr(bytes) => {
                self.stderr_bytes += bytes.len() as u64;
                writer.write(To::Stderr, bytes).await?;
            }
            Output::Notice(text) => writer::line(&format!("startdocker: {text}")),
            Output::ExitCode(code) => return Ok(Some(End::Exited(code as u8))),
            Output::Refused(ContainerRefused {
                exit_code,
                message,
                hint,
            }) => {
                writer::line(&format!("startdocker: {message}"));
                if !hint.is_empty() {
                    writer::line(&format!("hint: {hint}"));
                }
                return Ok(Some(End::Exited(exit_code as u8)));
            }
            // Dealt with by the caller.
            Output::Started(_) | Output::StdinTaken(_) => {}
        }
        Ok(None)
    }
}

/// A call that the agent itself refused is no broken stream.
fn broken_or(status: &Status) -> End {
    match status.code() {
        Code::PermissionDenied
        | Code::Unimplemented
        | Code::InvalidArgument
        | Code::OutOfRange
        | Code::ResourceExhausted => {
            writer::line(&format!(
                "startdocker: the agent refuses: {}",
                status.message()
            ));
            End::Exited(NOT_STARTED)
        }
        // Whatever else it is called, the connection was there and is no more.
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => End::Broken,
    }
}

async fn next(
    heard: &mut Streaming<capstan_proto::wire::ContainerOutput>,
) -> Result<Output, Option<Status>> {
    loop {
        let message = heard.message().await.map_err(Some)?.ok_or(None)?;
        if let Some(output) = message.output {
            return Ok(output);
        }
    }
}

fn exit_by(signal: i32) -> u8 {
    (128 + signal) as u8
}

/// The way to the agent.
struct Say(mpsc::Sender<ContainerInput>);

impl Say {
    /// What cannot be said any more is noticed by the broken answer.
    async fn say(&self, input: Input) {
        drop(self.0.send(ContainerInput { input: Some(input) }).await);
    }

    async fn signal(&self, number: i32) {
        match number {
            libc::SIGWINCH => {
                if let Some(size) = terminal::size() {
                    self.say(Input::Resize(size)).await;
                }
            }
            number => self.say(Input::Signal(number)).await,
        }
    }
}

/// Signals that the container gets instead of us.
struct Signals(Vec<(i32, Signal)>);

impl Signals {
    fn catch() -> std::io::Result<Self> {
        const PASSED_ON: &[i32] = &[
            libc::SIGHUP,
            libc::SIGINT,
            libc::SIGQUIT,
            libc::SIGTERM,
            libc::SIGUSR1,
            libc::SIGUSR2,
            libc::SIGWINCH,
        ];
        let signals = PASSED_ON
            .iter()
            .map(|&number| Ok((number, signal(SignalKind::from_raw(number))?)));
        Ok(Self(signals.collect::<std::io::Result<_>>()?))
    }

    async fn next(&mut self) -> i32 {
        std::future::poll_fn(|context| {
            for (number, signal) in &mut self.0 {
                if signal.poll_recv(context).is_ready() {
                    return std::task::Poll::Ready(*number);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}
