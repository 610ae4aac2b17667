//! Who runs containers now: admits sessions up to a bound, tells them when their attempt ends, and lets the end of an
//! attempt wait until the last of them has cleaned up.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use capstan_types::AttemptId;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::engine::ContainerId;
use super::refusal::Refused;

/// Containers that one attempt may run at a time; a request counts from its arrival to the removal of its container.
pub const CONTAINERS_PER_ATTEMPT_MAX: usize = 64;
/// Ended attempts that are remembered, so that a request which was under way when its attempt ended starts nothing.
const ENDED_MAX: usize = 4096;

/// All sessions of the agent.
#[derive(Debug, Default)]
pub(super) struct Registry {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    attempts: HashMap<AttemptId, Entry>,
    ended: VecDeque<AttemptId>,
    /// Containers that a session serves.
    served: Vec<ContainerId>,
}

#[derive(Debug)]
struct Entry {
    sessions: watch::Sender<usize>,
    ending: CancellationToken,
}

/// A place among an attempt's containers; dropped when nothing of the session is left.
#[derive(Debug)]
pub(super) struct Session {
    inner: Arc<Mutex<Inner>>,
    attempt: AttemptId,
    /// Cancelled when the attempt ends.
    pub(super) ending: CancellationToken,
    container: Option<ContainerId>,
}

impl Registry {
    /// Admits one more container of `attempt`.
    ///
    /// # Errors
    /// The attempt is ending, or has too many already.
    pub(super) fn admit(&self, attempt: AttemptId) -> Result<Session, Refused> {
        let mut inner = lock(&self.inner);
        if inner.ended.contains(&attempt) {
            return Err(Refused::Ending);
        }
        let entry = inner.attempts.entry(attempt).or_insert_with(|| Entry {
            sessions: watch::Sender::new(0),
            ending: CancellationToken::new(),
        });
        let running = *entry.sessions.borrow();
        if running >= CONTAINERS_PER_ATTEMPT_MAX {
            return Err(Refused::TooMany { running });
        }
        entry.sessions.send_modify(|sessions| *sessions += 1);
        Ok(Session {
            inner: Arc::clone(&self.inner),
            attempt,
            ending: entry.ending.clone(),
            container: None,
        })
    }

    /// Admits no more containers of `attempt`, ends its sessions, and returns when the last has cleaned up.
    pub(super) async fn end(&self, attempt: AttemptId) {
        let sessions = {
            let mut inner = lock(&self.inner);
            if !inner.ended.contains(&attempt) {
                inner.ended.push_back(attempt);
                if inner.ended.len() > ENDED_MAX {
                    inner.ended.pop_front();
                }
            }
            inner.attempts.get(&attempt).map(|entry| {
                entry.ending.cancel();
                entry.sessions.subscribe()
            })
        };
        if let Some(mut sessions) = sessions {
            // The sender goes away with the last session: that is the same news.
            drop(sessions.wait_for(|&sessions| sessions == 0).await);
        }
    }

    /// Whether some session serves this container.
    #[must_use]
    pub(super) fn serves(&self, container: &ContainerId) -> bool {
        lock(&self.inner).served.contains(container)
    }
}

impl Session {
    /// Takes on the serving of `container`; false when another session has it.
    pub(super) fn serve(&mut self, container: &ContainerId) -> bool {
        let mut inner = lock(&self.inner);
        if inner.served.contains(container) {
            return false;
        }
        inner.served.push(container.clone());
        drop(inner);
        self.container = Some(container.clone());
        true
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let mut inner = lock(&self.inner);
        if let Some(container) = &self.container {
            inner.served.retain(|served| served != container);
        }
        let left = inner.attempts.get(&self.attempt).map(|entry| {
            entry.sessions.send_modify(|sessions| *sessions -= 1);
            *entry.sessions.borrow()
        });
        if left == Some(0) {
            inner.attempts.remove(&self.attempt);
        }
    }
}

/// No code that can panic runs under the lock, so a poisoned one holds good values.
fn lock(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_attempt_runs_a_bounded_number_of_containers() {
        let registry = Registry::default();
        let sessions: Vec<_> = (0..CONTAINERS_PER_ATTEMPT_MAX)
            .map(|_| registry.admit(AttemptId(1)).expect("room"))
            .collect();
        assert!(matches!(
            registry.admit(AttemptId(1)),
            Err(Refused::TooMany { .. })
        ));
        assert!(registry.admit(AttemptId(2)).is_ok());
        drop(sessions);
        assert!(registry.admit(AttemptId(1)).is_ok());
    }

    #[tokio::test]
    async fn the_end_of_an_attempt_waits_for_its_sessions_and_admits_no_more() {
        let registry = Registry::default();
        registry.end(AttemptId(9)).await;
        let session = registry.admit(AttemptId(1)).expect("room");
        let ending = session.ending.clone();
        let cleanup = async {
            ending.cancelled().await;
            assert!(matches!(registry.admit(AttemptId(1)), Err(Refused::Ending)));
            drop(session);
        };
        tokio::join!(registry.end(AttemptId(1)), cleanup);
        assert!(matches!(registry.admit(AttemptId(1)), Err(Refused::Ending)));
    }

    #[test]
    fn a_container_is_served_once() {
        let registry = Registry::default();
        let id = ContainerId("a".into());
        let mut first = registry.admit(AttemptId(1)).expect("room");
        let mut second = registry.admit(AttemptId(1)).expect("room");
        assert!(first.serve(&id));
        assert!(!second.serve(&id));
        drop(first);
        assert!(second.serve(&id));
    }
}
