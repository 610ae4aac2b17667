//! The way into the engine: a bounded inbox, and a handle that everybody may clone.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use capstan_core::{Event, Rejection, Reply};
use capstan_store::StoreError;
use capstan_types::NodeName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::links::Link;

/// Most requests that wait for the engine. Callers over it are asked to try again; agents wait.
const INBOX_MAX: usize = 4096;
/// Most requests that are stored as one group.
pub(super) const GROUP_MAX: usize = 512;
/// Scripts of one group, bytes, beyond which no more requests are taken into it.
const GROUP_BYTES_MAX: usize = 4 << 20;
/// With at least so many requests in a group, others are probably on their way …
const LINGER_SIBLINGS: usize = 2;
/// … and the next is awaited for so long,
const LINGER_EACH: Duration = Duration::from_micros(250);
/// but for so many in all at most: a sync costs more than the few who wait lose.
const LINGER_STEPS_MAX: usize = 64;

/// Why the engine did not do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// The core refused.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The change could not be stored; nothing has changed.
    #[error("not stored")]
    NotStored(#[source] Arc<StoreError>),
    /// Too many requests wait.
    #[error("{INBOX_MAX} requests are waiting already")]
    Busy,
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
}

/// The answer to an event.
pub(crate) type Answer = Result<Reply, Refused>;

/// What is asked of the engine.
pub(crate) enum Request {
    /// Decide this.
    Event {
        event: Event,
        answer: Option<oneshot::Sender<Answer>>,
    },
    /// An agent said hello on this link.
    Attach {
        hello: Event,
        node: NodeName,
        link: Link,
        answer: oneshot::Sender<Answer>,
    },
    /// A link is gone; means nothing when a newer one has replaced it.
    Detach { node: NodeName, connection: u64 },
    /// An agent's word, heard on a link; means nothing when a newer one has replaced it.
    FromNode {
        node: NodeName,
        connection: u64,
        event: Event,
    },
    /// Finish what was asked before this, and end.
    Stop,
}

impl Request {
    /// Bytes that it adds to a group.
    fn weight(&self) -> usize {
        match self {
            Self::Event {
                event: Event::Submit(submission),
                ..
            } => submission.payload.script.len(),
            Self::Event { .. }
            | Self::Attach { .. }
            | Self::Detach { .. }
            | Self::FromNode { .. }
            | Self::Stop => 0,
        }
    }
}

/// The engine's end of the inbox.
pub(super) struct Inbox {
    receiver: mpsc::Receiver<Entry>,
}

struct Entry {
    request: Request,
    // Given back when the engine takes the request out.
    _place: Option<OwnedSemaphorePermit>,
}

impl Inbox {
    /// Waits up to `timeout` (for ever without one) for a request, then takes all that wait, and for a moment those
    /// that are on their way. Empty when nothing came.
    pub(super) fn gather(&self, timeout: Option<Duration>) -> Vec<Request> {
        let first = match timeout {
            None => self.receiver.recv().ok(),
            Some(Duration::ZERO) => self.receiver.try_recv().ok(),
            Some(timeout) => match self.receiver.recv_timeout(timeout) {
                Ok(entry) => Some(entry),
                Err(mpsc::RecvTimeoutError::Timeout) => None,
                Err(mpsc::RecvTimeoutError::Disconnected) => return vec![Request::Stop],
            },
        };
        let Some(first) = first else {
            // Without a timeout only the end of all handles wakes us without a request.
            return if timeout.is_none() {
                vec![Request::Stop]
            } else {
                Vec::new()
            };
        };
        let mut bytes = first.request.weight();
        let mut group = vec![first.request];
        let mut steps = 0;
        while group.len() < GROUP_MAX && bytes < GROUP_BYTES_MAX {
            let next = match self.receiver.try_recv() {
                Ok(entry) => entry,
                Err(_) if group.len() < LINGER_SIBLINGS || steps == LINGER_STEPS_MAX => break,
                Err(_) => match self.receiver.recv_timeout(LINGER_EACH) {
                    Ok(entry) => entry,
                    Err(_) => break,
                },
            };
            steps += 1;
            bytes += next.request.weight();
            group.push(next.request);
        }
        group
    }
}

/// Asks the engine. Clones share one inbox.
#[derive(Clone, Debug)]
pub(crate) struct EngineHandle {
    sender: mpsc::Sender<Entry>,
    places: Arc<Semaphore>,
}

impl EngineHandle {
    /// A handle and the inbox that it fills.
    pub(super) fn new() -> (Self, Inbox) {
        let (sender, receiver) = mpsc::channel();
        let places = Arc::new(Semaphore::new(INBOX_MAX));
        (Self { sender, places }, Inbox { receiver })
    }

    /// Has `event` decided; returns when what it changed is stored.
    ///
    /// # Errors
    /// When it is refused, cannot be stored, or too much waits already.
    pub(crate) async fn ask(&self, event: Event) -> Result<Reply, Refused> {
        let place = self
            .places
            .clone()
            .try_acquire_owned()
            .map_err(|_| Refused::Busy)?;
        let (answer, answered) = oneshot::channel();
        let answer = Some(answer);
        self.put(Request::Event { event, answer }, Some(place))?;
        answered.await.unwrap_or(Err(Refused::Stopping))
    }

    /// Has a hello decided, and gives the engine the link to answer on.
    pub(crate) async fn attach(&self, hello: Event, node: NodeName, link: Link) -> Answer {
        let (answer, answered) = oneshot::channel();
        let request = Request::Attach {
            hello,
            node,
            link,
            answer,
        };
        self.post(request).await?;
        answered.await.unwrap_or(Err(Refused::Stopping))
    }

    /// Puts a request in, waiting for a place.
    pub(crate) async fn post(&self, request: Request) -> Result<(), Refused> {
        let place = self.places.clone().acquire_owned().await;
        self.put(request, Some(place.map_err(|_| Refused::Stopping)?))
    }

    /// Tells the engine to end after what was asked before. Needs no place: stopping must not wait.
    pub(crate) fn stop(&self) {
        // An engine that has ended already has nothing to be told.
        self.put(Request::Stop, None).unwrap_or_default();
    }

    fn put(&self, request: Request, place: Option<OwnedSemaphorePermit>) -> Result<(), Refused> {
        let entry = Entry {
            request,
            _place: place,
        };
        self.sender.send(entry).map_err(|_| Refused::Stopping)
    }
}
