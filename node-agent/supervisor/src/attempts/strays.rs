//! Attempts that are in no ledger, because theirs was lost with a disk or by hand: their processes and containers end
//! when an agent starts. And containers that could not be ended with their attempt, because the engine was away.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use capstan_types::AttemptId;

use super::cgroup::{Cgroup, CgroupTree};
use super::tasks::TaskTable;
use crate::ports::{Containers, ContainersError};

/// How long a container engine that does not answer is waited for between tries: at first, and at most.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Between two looks for containers that remained. The node gets no work for containers meanwhile, so few wait so.
const LATER_PAUSE: Duration = Duration::from_secs(5);

/// Ends, on tasks of its own, what belongs to none of the `known` attempts.
pub(super) fn sweep<C: Containers>(
    known: BTreeSet<AttemptId>,
    cgroups: &CgroupTree,
    containers: Arc<C>,
) {
    let all = cgroups.attempts().into_iter();
    for attempt in all.filter(|attempt| !known.contains(attempt)) {
        tracing::warn!(%attempt, "a stray cgroup is ended");
        if let Some(cgroup) = Cgroup::at(&cgroups.folders(attempt)) {
            tokio::task::spawn_blocking(move || cgroup.kill_all(|| {}) && cgroup.remove());
        }
    }
    tokio::spawn(async move {
        let mut pause = PAUSE;
        while let Err(error) = end_containers(&*containers, &known).await {
            tracing::warn!(%error, cause = error.source.to_string(), "stray containers are not known");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    });
}

/// Ends tasks, and their containers, of attempts that are none of the `known` ones: they ended elsewhere while we were away.
pub(super) fn end_guests<C: Containers>(
    known: &BTreeSet<AttemptId>,
    tasks: &TaskTable,
    containers: &Arc<C>,
) {
    let all = tasks.attempts().into_iter();
    for attempt in all.filter(|attempt| !known.contains(attempt)) {
        tracing::info!(%attempt, "its tasks are not wanted by the server any more");
        let (tasks, containers) = (tasks.clone(), Arc::clone(containers));
        tokio::spawn(async move {
            tasks.end_attempt(attempt).await;
            if let Err(error) = containers.end_attempt(attempt).await {
                tracing::warn!(%attempt, %error, cause = error.source.to_string(), "containers remain");
                end_later(attempt, containers);
            }
        });
    }
}

/// Ends what is left of the containers of an attempt that is over, as soon as the engine answers: what it was told before it
/// stopped answering it may do yet. An agent that ends before leaves that to [`sweep`] of the next one.
pub(super) fn end_later<C: Containers>(attempt: AttemptId, containers: Arc<C>) {
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(LATER_PAUSE).await;
            match containers.end_attempt(attempt).await {
                Ok(()) => return tracing::info!(%attempt, "the containers that remained are ended"),
                Err(error) => {
                    tracing::debug!(%attempt, %error, cause = error.source.to_string(), "containers remain");
                }
            }
        }
    });
}

async fn end_containers<C: Containers>(
    containers: &C,
    known: &BTreeSet<AttemptId>,
) -> Result<(), ContainersError> {
    for attempt in containers.attempts_with_containers().await? {
        if !known.contains(&attempt) {
            tracing::warn!(%attempt, "stray containers are ended");
            containers.end_attempt(attempt).await?;
        }
    }
    Ok(())
}
