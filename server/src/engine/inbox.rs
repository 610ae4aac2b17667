//! The way into the engine: a bounded inbox, and a handle that everybody may clone.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

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
/// Of callers that are expected back, the next is awaited for so long …
const LINGER_GAP: Duration = Duration::from_millis(1);
/// … and all of them for so long at most: a sync costs more than the few who wait lose.
const LINGER_MAX: Duration = Duration::from_millis(4);

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
    /// Whether somebody waits for the answer.
    pub(super) const fn is_call(&self) -> bool {
        matches!(
            self,
            Self::Event {
                answer: Some(_),
                ..
            }
        )
    }

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
    places: Arc<Semaphore>,
    /// So many callers are probably at it: those who were answered last, who tend to come back, and those who waited
    /// meanwhile.
    expected: usize,
}

struct Entry {
    request: Request,
    // Given back when the engine takes the request out.
    _place: Option<OwnedSemaphorePermit>,
}

impl Inbox {
    /// Says that so many callers were just answered.
    pub(super) fn answered(&mut self, callers: usize) {
        let waiting = INBOX_MAX - self.places.available_permits().min(INBOX_MAX);
        self.expected = callers + waiting;
    }

    /// Waits up to `timeout` (for ever without one) for a request, then takes all that wait, and for a moment those
    /// that are expected. Empty when nothing came.
    pub(super) fn gather(&mut self, timeout: Option<Duration>) -> Vec<Request> {
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
        let mut give_up = None;
        while group.len() < GROUP_MAX && bytes < GROUP_BYTES_MAX {
            let next = self.receiver.try_recv().ok().or_else(|| {
                let now = Instant::now();
                let give_up = *give_up.get_or_insert(now + LINGER_MAX);
                let lingers = group.len() < self.expected && now < give_up;
                lingers
                    .then(|| self.receiver.recv_timeout(LINGER_GAP).ok())
                    .flatten()
            });
            let Some(next) = next else {
                break;
            };
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
        let inbox = Inbox {
            receiver,
            places: places.clone(),
            expected: 0,
        };
        (Self { sender, places }, inbox)
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

#[cfg(test)]
mod tests {
    use super::*;

    async fn put(handle: &EngineHandle, count: usize) {
        for _ in 0..count {
            let (event, answer) = (Event::Tick, None);
            handle.post(Request::Event { event, answer }).await.unwrap();
        }
    }

    #[tokio::test]
    async fn all_that_waits_is_one_group_up_to_its_bound() {
        let (handle, mut inbox) = EngineHandle::new();
        put(&handle, GROUP_MAX + 3).await;
        assert_eq!(inbox.gather(None).len(), GROUP_MAX);
        assert_eq!(inbox.gather(Some(Duration::ZERO)).len(), 3);
        assert!(inbox.gather(Some(Duration::ZERO)).is_empty());
    }

    /// Those who were answered and those who waited meanwhile are expected; nobody is after a quiet time.
    #[tokio::test]
    async fn callers_are_expected_back() {
        let (handle, mut inbox) = EngineHandle::new();
        put(&handle, 2).await;
        inbox.answered(3);
        assert_eq!(inbox.expected, 5);
        // The other three do not come: the group is not held up for ever.
        assert_eq!(inbox.gather(None).len(), 2);
        inbox.answered(0);
        assert_eq!(inbox.expected, 0);
    }

    #[tokio::test]
    async fn a_full_inbox_asks_callers_to_try_again() {
        let (handle, inbox) = EngineHandle::new();
        put(&handle, INBOX_MAX).await;
        let refused = handle.ask(Event::Tick).await.unwrap_err();
        assert!(matches!(refused, Refused::Busy), "{refused}");
        drop(inbox);
        let gone = handle.post(Request::Stop).await;
        assert!(matches!(gone, Err(Refused::Stopping)));
    }

    #[test]
    fn the_engine_ends_with_its_last_handle() {
        let (handle, mut inbox) = EngineHandle::new();
        drop(handle);
        assert!(matches!(*inbox.gather(None), [Request::Stop]));
    }
}
