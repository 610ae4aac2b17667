//! One task of `pbsdsh`: a call to the agent's door, made again when the agent, the server or the task's node was away, so
//! that the task goes on where the connection was lost.

use std::time::{Duration, Instant};

use capstan_proto::wire::RunTaskRequest;
use capstan_proto::wire::node_door_client::NodeDoorClient;
use capstan_proto::wire::task_output::Output as Said;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

/// How long a task is tried to be begun whose node, or the way to it, is away.
const BEGIN_WITHIN: Duration = Duration::from_secs(30);
/// How long one that runs is looked for: as long as its node keeps it.
const FIND_WITHIN: Duration = Duration::from_secs(30 * 60);
/// A task that is away for longer is told of.
const TOLD_AFTER: Duration = Duration::from_secs(5);
/// First and longest pause between two calls.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// Words to the agent that wait.
const WORDS_MAX: usize = 8;
/// How long the agent may take to hear that the end is known.
const FAREWELL: Duration = Duration::from_secs(1);

/// What came of a call, with the number of the task.
pub(super) enum Heard {
    Said(u32, Said),
    /// It cannot be reached for now.
    Away(u32, String),
    /// The agent refused, or nothing was heard of the task for too long.
    Lost(u32, String),
}

/// A task, and how far it has come.
pub(super) struct Call {
    channel: Channel,
    request: RunTaskRequest,
    number: u32,
    hear: mpsc::Sender<Heard>,
    has_started: bool,
    /// Bytes of both its streams together.
    received: u64,
}

/// How one call ended.
enum End {
    /// The last word was heard, or nobody is left to hear one.
    Heard,
    Refused(String),
    Away(String),
}

impl Call {
    pub(super) fn new(
        channel: Channel,
        request: RunTaskRequest,
        number: u32,
        hear: mpsc::Sender<Heard>,
    ) -> Self {
        Self {
            channel,
            request,
            number,
            hear,
            has_started: false,
            received: 0,
        }
    }

    /// Passes on what the task says, to its last word.
    pub(super) async fn listen(mut self) {
        let mut away_since: Option<Instant> = None;
        let (mut pause, longest) = PAUSES;
        loop {
            let before = (self.has_started, self.received);
            let problem = match self.once().await {
                End::Heard => return,
                End::Refused(problem) => return self.lose(problem).await,
                End::Away(problem) => problem,
            };
            if before != (self.has_started, self.received) {
                away_since = None;
                pause = PAUSES.0;
            }
            let away = away_since.get_or_insert_with(Instant::now).elapsed();
            let patience = match self.has_started {
                true => FIND_WITHIN,
                false => BEGIN_WITHIN,
            };
            if away > patience || self.request.key.is_empty() {
                return self.lose(problem).await;
            }
            if away > TOLD_AFTER {
                let heard = Heard::Away(self.number, problem);
                if self.hear.send(heard).await.is_err() {
                    return;
                }
            }
            sleep(pause).await;
            pause = longest.min(pause * 2);
        }
    }

    async fn lose(&self, problem: String) {
        // Nobody to hear: we are ending.
        drop(self.hear.send(Heard::Lost(self.number, problem)).await);
    }

    async fn once(&mut self) -> End {
        let (say, said) = mpsc::channel(WORDS_MAX);
        let mut first = self.request.clone();
        first.from_byte = self.has_started.then_some(self.received);
        // The queue was made a moment ago and is empty.
        drop(say.try_send(first));
        let mut door = NodeDoorClient::new(self.channel.clone());
        let mut words = match door.run_task(ReceiverStream::new(said)).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => return self.broken(&status),
        };
        loop {
            let word = match words.message().await {
                Ok(Some(word)) => word.output,
                Ok(None) => {
                    let problem = "the agent said nothing of how the task ended";
                    return End::Away(problem.to_owned());
                }
                Err(status) => return self.broken(&status),
            };
            let Some(word) = word else { continue };
            let length = match &word {
                // It was told before.
                Said::Started(_) if self.has_started => continue,
                Said::Started(_) => 0,
                Said::Stdout(bytes) | Said::Stderr(bytes) => bytes.len() as u64,
                Said::ExitStatus(_) => {
                    if self.pass_on(word).await {
                        self.take_leave(&say, &mut words).await;
                    }
                    return End::Heard;
                }
                Said::Failed(_) => {
                    self.pass_on(word).await;
                    return End::Heard;
                }
                Said::Away(problem) => return End::Away(problem.clone()),
            };
            self.has_started = true;
            self.received += length;
            if !self.pass_on(word).await {
                return End::Heard;
            }
            if length > 0 && !self.request.key.is_empty() {
                let seen = RunTaskRequest {
                    seen_bytes: self.received,
                    ..RunTaskRequest::default()
                };
                // A connection that is gone is noticed where it is read.
                drop(say.send(seen).await);
            }
        }
    }

    /// False when nobody is there to hear: we are ending.
    async fn pass_on(&self, word: Said) -> bool {
        let heard = Heard::Said(self.number, word);
        self.hear.send(heard).await.is_ok()
    }

    /// Says that the end is known, so that nobody keeps it.
    async fn take_leave<T>(&self, say: &mpsc::Sender<RunTaskRequest>, words: &mut Streaming<T>) {
        let over = RunTaskRequest {
            is_over: true,
            ..RunTaskRequest::default()
        };
        drop(say.send(over).await);
        // The agent closes the call when it has heard it.
        drop(timeout(FAREWELL, words.message()).await);
    }

    fn broken(&self, status: &Status) -> End {
        let problem = status.message().to_owned();
        let is_refusal = match status.code() {
            Code::PermissionDenied
            | Code::Unimplemented
            | Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::ResourceExhausted => true,
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::NotFound
            | Code::AlreadyExists
            | Code::Aborted
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
            | Code::Unauthenticated => false,
        };
        // An agent that has just come back may not know its jobs yet.
        match is_refusal && !self.has_started {
            true => End::Refused(problem),
            false => End::Away(problem),
        }
    }
}
