//! Whose a process is that calls the door: of an attempt of this node, or of one whose script runs on another node and that
//! has tasks here; and the end of what such guests started.

use std::sync::Arc;

use capstan_types::AttemptId;
use tokio::sync::{mpsc, oneshot};

use super::proc;
use super::table::Supervisor;
use crate::ports::{AttemptContext, Attempts, Containers};

/// Ends that wait for the engine; whoever wants another one waits.
const ENDS_MAX: usize = 256;

/// Ends containers of attempts from elsewhere.
#[derive(Clone)]
pub(super) struct Guests(mpsc::Sender<(AttemptId, oneshot::Sender<()>)>);

impl Guests {
    /// Serves until the last handle is dropped.
    pub(super) fn keep<C: Containers>(containers: Arc<C>) -> Self {
        let (orders, mut ordered) = mpsc::channel::<(AttemptId, oneshot::Sender<()>)>(ENDS_MAX);
        tokio::spawn(async move {
            while let Some((attempt, done)) = ordered.recv().await {
                if let Err(error) = containers.end_attempt(attempt).await {
                    tracing::warn!(%attempt, %error, cause = error.source.to_string(), "containers remain");
                }
                // Nobody waits any more.
                let _unheard = done.send(());
            }
        });
        Self(orders)
    }

    /// Ends the containers of `attempt` here, and lets it have no others.
    pub(super) async fn end(&self, attempt: AttemptId) {
        let (done, ended) = oneshot::channel();
        if self.0.send((attempt, done)).await.is_ok() {
            // The agent ends.
            let _ending = ended.await;
        }
    }
}

impl Supervisor {
    /// The attempt of `pid`, a process of a task for another node's attempt: by its cgroup, which only we can have put it
    /// in, and only when it is that attempt's user's.
    pub(super) fn guest_of(&self, pid: u32) -> Option<AttemptContext> {
        let before = proc::stat(pid)?.start_ticks;
        let attempt = self.site.cgroups.attempt_of(pid)?;
        let context = self.tasks.guest(attempt)?;
        let is_same = proc::real_uid(pid)? == context.uid && proc::stat(pid)?.start_ticks == before;
        is_same.then_some(context)
    }

    /// Whether process `pid` belongs to an attempt of ours. Blocks for a moment.
    #[must_use]
    pub fn owns(&self, pid: u32) -> bool {
        let guest = self.site.cgroups.attempt_of(pid);
        self.live.attempt_of(pid, &self.site.cgroups).is_some()
            || guest.is_some_and(|attempt| self.tasks.has(attempt))
    }
}

impl Attempts for Supervisor {
    fn attempt_of(&self, pid: u32) -> Option<AttemptContext> {
        let own = self.live.context_of(pid, &self.site.cgroups);
        own.or_else(|| self.guest_of(pid))
    }

    fn note_beginning(&self, attempt: AttemptId, problem: Option<String>) {
        if let Some(live) = self.live.get(attempt) {
            live.note_beginning(problem);
        }
    }
}
