//! Answers to the server's questions, on the connection on which they were asked: each on a task of its own, in chunks
//! of which a bounded number may be under way. When the connection ends, so do the answers.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use capstan_proto::wire::agent_message::Message;
use capstan_proto::wire::signal_attempt::Pause;
use capstan_proto::wire::{
    AgentMessage, Answer, AnswerTaken, Done, Failure, Question, SignalAttempt, answer::Part,
    question,
};
use capstan_supervisor::attempts::{NotReached, Supervisor};
use capstan_supervisor::ports::{CardControl, CardRefused};
use capstan_types::{AttemptId, CardId, Pbse};
use nix::sys::signal::Signal;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep};

use crate::diagnosis::Diagnosis;
use crate::events::now_ms;
use crate::kernel_log::{KERNEL, KernelLog};
use crate::notes::Notes;

/// Questions that are answered at once; the server asks no more either.
const QUESTIONS_MAX: usize = 64;
/// Chunks of an answer that may be under way, as the protocol says.
const CHUNKS_MAX: usize = 4;
/// Largest chunk, bytes.
const CHUNK_BYTES_MAX: usize = 32 << 10;
/// A job shows as running from the moment it is ordered; its script may take so long to begin before whoever asks is told
/// that it has not.
const START_WAIT: Duration = Duration::from_secs(5);
const START_PAUSE: Duration = Duration::from_millis(10);

/// What answers are made of.
pub(crate) struct Sources<G> {
    pub(crate) supervisor: Supervisor,
    pub(crate) gpus: Arc<G>,
    pub(crate) diagnosis: Arc<Diagnosis>,
    pub(crate) kernel_log: Arc<KernelLog>,
    pub(crate) notes: Arc<Notes>,
}

/// The answers under way on one connection.
pub(crate) struct Asked<G> {
    sources: Arc<Sources<G>>,
    out: mpsc::Sender<AgentMessage>,
    under_way: BTreeMap<u64, UnderWay>,
    tasks: JoinSet<u64>,
}

struct UnderWay {
    credit: Arc<Semaphore>,
    task: AbortHandle,
}

impl<G: CardControl> Asked<G> {
    pub(crate) fn new(sources: Arc<Sources<G>>, out: mpsc::Sender<AgentMessage>) -> Self {
        Self {
            sources,
            out,
            under_way: BTreeMap::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Begins to answer.
    pub(crate) fn ask(&mut self, question: Question) {
        while let Some(ended) = self.tasks.try_join_next() {
            if let Ok(id) = ended {
                self.under_way.remove(&id);
            }
        }
        let Question { id, question } = question;
        let credit = Arc::new(Semaphore::new(CHUNKS_MAX));
        let teller = Teller {
            id,
            out: self.out.clone(),
            credit: credit.clone(),
        };
        let is_full = self.under_way.len() >= QUESTIONS_MAX;
        let sources = self.sources.clone();
        let task = self.tasks.spawn(async move {
            let answered = match question {
                Some(_) if is_full => Err(failure(Pbse::ServerBusy, "")),
                Some(question) => answer(&sources, question, &teller).await,
                None => Err(failure(
                    Pbse::Unkreq,
                    "this version does not know the question",
                )),
            };
            teller.end(answered).await;
            id
        });
        self.under_way.insert(id, UnderWay { credit, task });
    }

    /// The server has taken chunks of an answer.
    pub(crate) fn taken(&self, taken: AnswerTaken) {
        let AnswerTaken { id, chunks } = taken;
        if let Some(under_way) = self.under_way.get(&id) {
            let room = CHUNKS_MAX.saturating_sub(under_way.credit.available_permits());
            under_way.credit.add_permits((chunks as usize).min(room));
        }
    }

    /// Nobody waits for the answer any more.
    pub(crate) fn drop_question(&mut self, id: u64) {
        if let Some(under_way) = self.under_way.remove(&id) {
            under_way.task.abort();
        }
    }
}

/// Sends the answer to one question.
struct Teller {
    id: u64,
    out: mpsc::Sender<AgentMessage>,
    credit: Arc<Semaphore>,
}

impl Teller {
    /// Sends a chunk when there is credit for it.
    async fn data(&self, data: Vec<u8>) {
        // Never closed: the connection's end ends us as well.
        if let Ok(place) = self.credit.acquire().await {
            place.forget();
        }
        self.say(Part::Data(data)).await;
    }

    async fn text(&self, text: &str) {
        for chunk in text.as_bytes().chunks(CHUNK_BYTES_MAX) {
            self.data(chunk.to_vec()).await;
        }
    }

    async fn end(&self, answered: Result<(), Failure>) {
        let part = match answered {
            Ok(()) => Part::Done(Done {}),
            Err(failure) => Part::Failed(failure),
        };
        self.say(part).await;
    }

    async fn say(&self, part: Part) {
        let answer = Answer {
            id: self.id,
            part: Some(part),
        };
        let message = AgentMessage {
            message: Some(Message::Answer(answer)),
        };
        // The connection is gone, and everybody who waited knows.
        let _gone = self.out.send(message).await;
    }
}

async fn answer<G: CardControl>(
    sources: &Sources<G>,
    question: question::Question,
    teller: &Teller,
) -> Result<(), Failure> {
    use question::Question as Q;
    let supervisor = &sources.supervisor;
    match question {
        Q::Signal(wish) => signal(supervisor, wish).await,
        Q::WriteMessage(message) => {
            wait_for_start(supervisor, AttemptId(message.attempt)).await;
            let written = supervisor.write_message(message).await;
            written.map_err(|problem| not_reached(&problem, Pbse::CanNotWriteFile))
        }
        Q::ReadOutput(wish) => {
            wait_for_start(supervisor, AttemptId(wish.attempt)).await;
            let (chunks, mut read) = mpsc::channel(CHUNKS_MAX);
            let reading = supervisor.read_output(wish, chunks);
            let telling = async {
                while let Some(chunk) = read.recv().await {
                    teller.data(chunk).await;
                }
            };
            let (read, ()) = tokio::join!(reading, telling);
            read.map_err(|problem| not_reached(&problem, Pbse::CanNotReadFile))
        }
        Q::Diagnose(wish) => {
            let diagnosis = sources.diagnosis.clone();
            let supervisor = supervisor.clone();
            let made = tokio::task::spawn_blocking(move || diagnosis.answer(&wish, &supervisor));
            let text = made.await;
            let text = text.map_err(|_| failure(Pbse::Internal, "the diagnosis failed"))?;
            teller.text(&text).await;
            Ok(())
        }
        Q::SetCardMode(wish) => {
            let card = CardId::from(wish.card);
            let gpus = sources.gpus.clone();
            control(move || gpus.set_compute_mode(&card, wish.mode)).await
        }
        Q::ReadKernelLog(wish) => {
            let log = sources.kernel_log.clone();
            let made = tokio::task::spawn_blocking(move || log.answer(&wish, now_ms()));
            let text = made.await;
            let text = text.map_err(|_| failure(Pbse::Internal, "the log cannot be shown"))?;
            teller.text(&text).await;
            Ok(())
        }
        Q::ReleaseCards(Done {}) => {
            let (supervisor, kernel_log) = (supervisor.clone(), sources.kernel_log.clone());
            let released = tokio::task::spawn_blocking(move || {
                kernel_log.forgive();
                supervisor.warden().release()
            });
            let released = released.await;
            let count = released.map_err(|_| failure(Pbse::Internal, "no card was released"))?;
            sources.notes.forgive(KERNEL);
            sources.diagnosis.beat.notify_one();
            teller.text(&format!("{count} cards released")).await;
            Ok(())
        }
        Q::ResetCardErrors(wish) => {
            let card = CardId::from(wish.card);
            let gpus = sources.gpus.clone();
            control(move || gpus.reset_errors(&card, wish.permanent)).await
        }
    }
}

async fn signal(supervisor: &Supervisor, wish: SignalAttempt) -> Result<(), Failure> {
    let pause = wish.pause();
    let attempt = AttemptId(wish.attempt);
    let signal = match wish.signal {
        0 => None,
        number => Some(Signal::try_from(number).map_err(|_| failure(Pbse::Unksig, ""))?),
    };
    wait_for_start(supervisor, attempt).await;
    let supervisor = supervisor.clone();
    let sent = tokio::task::spawn_blocking(move || match (pause, signal) {
        (Pause::Suspend, _) => supervisor.pause(attempt, true),
        (Pause::Resume, _) => supervisor.pause(attempt, false),
        // As a whole, so that containers stop and go on as well.
        (Pause::None, Some(Signal::SIGSTOP)) => supervisor.pause(attempt, true),
        (Pause::None, Some(Signal::SIGCONT)) => supervisor.pause(attempt, false),
        (Pause::None, signal) => supervisor.signal(attempt, signal),
    });
    let sent = sent.await;
    let sent = sent.map_err(|_| failure(Pbse::Internal, "the signal could not be sent"))?;
    sent.map_err(|problem| not_reached(&problem, Pbse::Badstate))
}

async fn wait_for_start(supervisor: &Supervisor, attempt: AttemptId) {
    let give_up = Instant::now() + START_WAIT;
    while supervisor.has_started(attempt) == Some(false) && Instant::now() < give_up {
        sleep(START_PAUSE).await;
    }
}

async fn control(
    order: impl FnOnce() -> Result<(), CardRefused> + Send + 'static,
) -> Result<(), Failure> {
    let done = tokio::task::spawn_blocking(order).await;
    let done = done.map_err(|_| failure(Pbse::Internal, "the driver failed"))?;
    done.map_err(|problem| failure(Pbse::Unkreq, &problem.to_string()))
}

fn failure(error: Pbse, detail: &str) -> Failure {
    Failure {
        pbs_error: error.number().into(),
        detail: detail.to_owned(),
    }
}

/// `of_file` is the error when it was about a file.
fn not_reached(problem: &NotReached, of_file: Pbse) -> Failure {
    let text = match problem.source() {
        Some(cause) => format!("{problem}: {cause}"),
        None => problem.to_string(),
    };
    match problem {
        NotReached::NotHere | NotReached::NotStarted | NotReached::NoProcess => {
            failure(Pbse::Badstate, "")
        }
        NotReached::File { .. } => failure(of_file, &text),
        NotReached::Terminal { .. } => failure(Pbse::System, &text),
        NotReached::Busy => failure(Pbse::ServerBusy, &text),
    }
}
