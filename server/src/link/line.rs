//! Questions to agents, each on the connection that it belongs to: the agent answers in chunks, a bounded number of which
//! may be under way, and then says that it is done or why not. Nothing here is stored: when a connection breaks, whoever
//! waits for an answer on it is told so.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use capstan_proto::Refusal;
use capstan_proto::wire::{self, answer::Part, question, server_message::Message};
use capstan_types::{NodeName, Pbse};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::Status;

use super::relay::Tasks;
use super::sessions::Sessions;

/// Questions that one agent may be answering at once.
const QUESTIONS_MAX: usize = 64;
/// Of them, those that are as long as their reader likes: the rest stays free for signals and the like.
const READS_MAX: usize = 32;
/// Chunks of an answer that may be under way, as the protocol says; the end of the answer comes on top.
const CHUNKS_MAX: usize = 4;
/// Largest chunk, bytes.
const CHUNK_BYTES_MAX: usize = 32 << 10;
/// How long an agent may take over its next word.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(20);

pub(super) type Outbox = mpsc::WeakSender<Result<wire::ServerMessage, Status>>;

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unanswered {
    /// The node has no connection now.
    #[error("node {0} is not connected")]
    NotConnected(NodeName),
    /// The agent has enough to answer.
    #[error("node {0} has enough questions to answer; try again")]
    Busy(NodeName),
    /// Nearly all terminals of the node are in use, and the caller has his share of them.
    #[error(
        "node {0} has few terminals left, and you have {1} there already: close one, or wait until others close theirs"
    )]
    Share(NodeName, usize),
    /// It said nothing in time.
    #[error("node {0} did not answer within {secs} s", secs = .1.as_secs())]
    Silent(NodeName, Duration),
    /// The connection is gone; whether what was asked was done is not known.
    #[error("the connection to node {0} broke before its answer was complete")]
    Broken(NodeName),
    /// It said more than it may.
    #[error("node {0} answered more than was asked for")]
    TooMuch(NodeName),
    /// It could not, or would not.
    #[error("{}", .0.text())]
    Refused(Refusal),
}

impl Unanswered {
    /// In PBS's words.
    pub(crate) fn into_refusal(self) -> Refusal {
        let text = self.to_string();
        match self {
            Self::Refused(refusal) => refusal,
            Self::NotConnected(_) => Refusal::new(Pbse::NodeDown, text),
            Self::Busy(_) | Self::Share(..) => Refusal::new(Pbse::ServerBusy, text),
            Self::Silent(..) => Refusal::new(Pbse::Timeout, text),
            Self::Broken(_) | Self::TooMuch(_) => Refusal::new(Pbse::Protocol, text),
        }
    }
}

/// The current line of each node.
#[derive(Default)]
pub(crate) struct Lines(Mutex<BTreeMap<NodeName, Arc<Line>>>);

impl Lines {
    /// Makes `line` the node's line; the one before it closes.
    pub(super) fn put(&self, line: Arc<Line>) {
        let old = lock(&self.0).insert(line.node.clone(), line);
        if let Some(old) = old {
            old.close();
        }
    }

    /// Closes `line`, and forgets it unless a newer one has replaced it.
    pub(super) fn remove(&self, line: &Arc<Line>) {
        let mut lines = lock(&self.0);
        if lines
            .get(&line.node)
            .is_some_and(|current| Arc::ptr_eq(current, line))
        {
            lines.remove(&line.node);
        }
        drop(lines);
        line.close();
    }

    /// The open line of `node`.
    ///
    /// # Errors
    /// When the node is not connected.
    pub(super) fn of(&self, node: &NodeName) -> Result<Arc<Line>, Unanswered> {
        let line = lock(&self.0).get(node).cloned();
        let line = line.filter(|line| line.is_welcomed.load(Ordering::Acquire));
        line.ok_or_else(|| Unanswered::NotConnected(node.clone()))
    }

    /// Asks the agent of `node`.
    ///
    /// # Errors
    /// When the node is not connected, or has enough to answer.
    pub(crate) fn ask(
        &self,
        node: &NodeName,
        question: question::Question,
    ) -> Result<Answers, Unanswered> {
        Line::ask(&self.of(node)?, question)
    }
}

/// One connection of an agent, as those who ask see it.
pub(crate) struct Line {
    node: NodeName,
    outbox: Outbox,
    is_welcomed: AtomicBool,
    open: Mutex<Open>,
    /// Tasks of `pbsdsh` that this connection asked for or runs.
    pub(super) tasks: Tasks,
    /// Sessions at terminals on this node.
    pub(super) sessions: Sessions,
}

#[derive(Default)]
struct Open {
    is_closed: bool,
    next: u64,
    questions: BTreeMap<u64, Asker>,
}

/// Whoever waits for an answer.
struct Asker {
    parts: mpsc::Sender<Part>,
    is_reading: bool,
}

impl Line {
    /// A line that is not open yet.
    pub(crate) fn new(node: NodeName, outbox: Outbox) -> Arc<Self> {
        Arc::new(Self {
            node,
            outbox,
            is_welcomed: AtomicBool::new(false),
            open: Mutex::default(),
            tasks: Tasks::default(),
            sessions: Sessions::default(),
        })
    }

    /// The agent was welcomed: what is said from now on comes behind the welcome.
    pub(crate) fn open(&self) {
        self.is_welcomed.store(true, Ordering::Release);
    }

    pub(super) fn node(&self) -> &NodeName {
        &self.node
    }

    /// Everybody who waits for a word on this line waits no more.
    fn close(&self) {
        let mut open = lock(&self.open);
        open.is_closed = true;
        open.questions.clear();
        drop(open);
        self.tasks.close();
        self.sessions.close();
    }

    fn ask(line: &Arc<Self>, question: question::Question) -> Result<Answers, Unanswered> {
        let broken = || Unanswered::NotConnected(line.node.clone());
        let (sender, parts) = mpsc::channel(CHUNKS_MAX + 1);
        let mut open = lock(&line.open);
        if open.is_closed {
            return Err(broken());
        }
        // What everybody may ask for leaves room for signals and other orders.
        let is_reading = matches!(
            question,
            question::Question::ReadOutput(_) | question::Question::ReadKernelLog(_)
        );
        let reads = open.questions.values().filter(|asker| asker.is_reading);
        if open.questions.len() >= QUESTIONS_MAX || (is_reading && reads.count() >= READS_MAX) {
            return Err(Unanswered::Busy(line.node.clone()));
        }
        open.next += 1;
        let id = open.next;
        let asker = Asker {
            parts: sender,
            is_reading,
        };
        open.questions.insert(id, asker);
        drop(open);
        let answers = Answers {
            line: line.clone(),
            id,
            parts,
            is_over: false,
        };
        let question = wire::Question {
            id,
            question: Some(question),
        };
        match line.say(Message::Ask(question)) {
            true => Ok(answers),
            false => Err(broken()),
        }
    }

    /// Takes a part of an answer in.
    pub(super) fn hear(&self, answer: wire::Answer) {
        let wire::Answer { id, part } = answer;
        let Some(part) = part else { return };
        let is_last = match &part {
            Part::Data(_) => false,
            Part::Done(_) | Part::Failed(_) => true,
        };
        let mut open = lock(&self.open);
        // An answer that nobody waits for any more may still be under way.
        let Some(asker) = open.questions.get(&id) else {
            return;
        };
        let fits = match &part {
            Part::Data(data) => data.len() <= CHUNK_BYTES_MAX,
            Part::Done(_) | Part::Failed(_) => true,
        };
        // More than its credit: the asker sees an answer that breaks off.
        let is_taken = fits && asker.parts.try_send(part).is_ok();
        if is_last || !is_taken {
            open.questions.remove(&id);
        }
    }

    /// Puts a word in the way to the agent; false when the connection is gone or does not take words.
    pub(super) fn say(&self, message: Message) -> bool {
        let message = wire::ServerMessage {
            message: Some(message),
        };
        let outbox = self.outbox.upgrade();
        outbox.is_some_and(|outbox| outbox.try_send(Ok(message)).is_ok())
    }
}

/// The answer to one question, part by part. Dropping it tells the agent that nobody waits any more.
pub(crate) struct Answers {
    line: Arc<Line>,
    id: u64,
    parts: mpsc::Receiver<Part>,
    is_over: bool,
}

impl Answers {
    /// The next chunk; `None` when the answer is complete. Waits `within`, for ever without.
    ///
    /// # Errors
    /// When the agent refuses, falls silent, or is gone.
    pub(crate) async fn next(
        &mut self,
        within: Option<Duration>,
    ) -> Result<Option<Vec<u8>>, Unanswered> {
        let node = &self.line.node;
        let part = match within {
            None => self.parts.recv().await,
            Some(within) => timeout(within, self.parts.recv())
                .await
                .map_err(|_| Unanswered::Silent(node.clone(), within))?,
        };
        let Some(part) = part else {
            self.is_over = true;
            return Err(Unanswered::Broken(node.clone()));
        };
        match part {
            Part::Data(data) => {
                let taken = wire::AnswerTaken {
                    id: self.id,
                    chunks: 1,
                };
                // A connection that is gone ends the answer by itself.
                let _gone = self.line.say(Message::AnswerTaken(taken));
                Ok(Some(data))
            }
            Part::Done(wire::Done {}) => {
                self.is_over = true;
                Ok(None)
            }
            Part::Failed(failure) => {
                self.is_over = true;
                Err(Unanswered::Refused(refusal(failure)))
            }
        }
    }

    /// The whole answer.
    ///
    /// # Errors
    /// As for [`Answers::next`], and when it is longer than `bytes_max`.
    pub(crate) async fn all(mut self, bytes_max: usize) -> Result<Vec<u8>, Unanswered> {
        let mut all = Vec::new();
        while let Some(chunk) = self.next(Some(ANSWER_WITHIN)).await? {
            all.extend(chunk);
            if all.len() > bytes_max {
                return Err(Unanswered::TooMuch(self.line.node.clone()));
            }
        }
        Ok(all)
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        lock(&self.line.open).questions.remove(&self.id);
        if !self.is_over {
            // A connection that is gone has forgotten the question.
            let _gone = self.line.say(Message::DropQuestion(self.id));
        }
    }
}

/// An agent's refusal, made printable.
pub(super) fn refusal(failure: wire::Failure) -> Refusal {
    let wire::Failure { pbs_error, detail } = failure;
    let error = u16::try_from(pbs_error).ok().and_then(Pbse::from_number);
    Refusal::new(
        error.unwrap_or(Pbse::System),
        super::reading::text(detail).into_string(),
    )
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
