//! Places for tasks on this node: how many an attempt, a user and all together may have, and the end of an attempt, which
//! waits for its own.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use capstan_types::AttemptId;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::TaskWanted;
use crate::attempts::sampling::Visits;
use crate::ports::{AttemptContext, TaskRefused};

/// Tasks that one attempt may have on this node at a time.
pub(super) const TASKS_PER_ATTEMPT_MAX: usize = 1024;
/// Tasks of all attempts on this node.
pub(super) const TASKS_MAX: usize = 8192;
/// Of those, programs that people run in one attempt, and in all: each has a process of ours that may hold some output.
pub(super) const PROGRAMS_PER_ATTEMPT_MAX: usize = 64;
pub(super) const PROGRAMS_MAX: usize = 512;
/// How long the end of an attempt waits for its tasks; longer only when one cannot be killed.
const END_WAIT: Duration = Duration::from_secs(30);

/// The tasks of this node, and the way to those of others.
#[derive(Clone, Default)]
pub(in crate::attempts) struct TaskTable(Arc<Inner>);

#[derive(Default)]
struct Inner {
    neighbours: RwLock<Option<mpsc::Sender<TaskWanted>>>,
    rows: Mutex<HashMap<AttemptId, Row>>,
    /// Counts the connections to the server.
    links: watch::Sender<u64>,
    /// What attempts use here whose script runs elsewhere.
    visits: Visits,
}

/// The tasks of one attempt.
struct Row {
    count: watch::Sender<usize>,
    /// Of those, programs that people run.
    programs: usize,
    /// Whose attempt it is, as far as that is known: of what an agent before left running it is not.
    owner: Option<u32>,
    ending: CancellationToken,
    /// What the door is told of its processes, when its script runs on another node.
    guest: Option<Arc<AttemptContext>>,
}

/// A task's place in the table; dropped when nothing of it is left.
pub(in crate::attempts) struct TaskPlace {
    pub(super) table: TaskTable,
    attempt: AttemptId,
    is_program: bool,
    /// The attempt ends.
    pub(in crate::attempts) ending: CancellationToken,
}

impl TaskPlace {
    pub(super) const fn attempt(&self) -> AttemptId {
        self.attempt
    }
}

impl TaskTable {
    fn rows(&self) -> MutexGuard<'_, HashMap<AttemptId, Row>> {
        self.0.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What attempts use here whose script runs elsewhere.
    pub(in crate::attempts) fn visits(&self) -> &Visits {
        &self.0.visits
    }

    /// Clients can come back from now on: there is a connection to the server.
    pub(in crate::attempts) fn linked(&self) {
        self.0.links.send_modify(|count| *count += 1);
    }

    /// Changes with every connection to the server.
    pub(in crate::attempts) fn links(&self) -> watch::Receiver<u64> {
        self.0.links.subscribe()
    }

    /// A place for a task of `attempt`, within the share of its `owner`; without one, for what has to be.
    pub(in crate::attempts) fn admit(
        &self,
        attempt: AttemptId,
        owner: Option<u32>,
    ) -> Result<TaskPlace, TaskRefused> {
        let mut rows = self.rows();
        check_share(&rows, owner, TASKS_MAX, |row| *row.count.borrow())?;
        let all: usize = rows.values().map(|row| *row.count.borrow()).sum();
        let row = rows.entry(attempt).or_insert_with(|| Row {
            count: watch::Sender::new(0),
            programs: 0,
            owner: None,
            ending: CancellationToken::new(),
            guest: None,
        });
        let own = *row.count.borrow();
        if own >= TASKS_PER_ATTEMPT_MAX || all >= TASKS_MAX {
            return Err(TaskRefused::TooMany { running: own });
        }
        if row.ending.is_cancelled() {
            return Err(TaskRefused::Ending);
        }
        row.owner = row.owner.or(owner);
        row.count.send_modify(|count| *count += 1);
        Ok(TaskPlace {
            table: self.clone(),
            attempt,
            is_program: false,
            ending: row.ending.clone(),
        })
    }

    /// A place for a program that a person runs in `attempt`, within the share of its `owner`.
    pub(in crate::attempts) fn admit_program(
        &self,
        attempt: AttemptId,
        owner: Option<u32>,
    ) -> Result<TaskPlace, TaskRefused> {
        let mut place = self.admit(attempt, owner)?;
        let mut rows = self.rows();
        if let Err(refused) = check_share(&rows, owner, PROGRAMS_MAX, |row| row.programs) {
            // The place is given back, which looks at the rows as well.
            drop(rows);
            return Err(refused);
        }
        let all: usize = rows.values().map(|row| row.programs).sum();
        let Some(row) = rows.get_mut(&attempt) else {
            return Err(TaskRefused::Ending);
        };
        let own = row.programs;
        if own < PROGRAMS_PER_ATTEMPT_MAX && all < PROGRAMS_MAX {
            row.programs += 1;
            place.is_program = true;
            return Ok(place);
        }
        // The place is given back, which looks at the rows as well.
        drop(rows);
        Err(TaskRefused::TooMany { running: own })
    }

    /// Tasks for other nodes go to `out` from now on.
    pub(super) fn attach(&self, out: mpsc::Sender<TaskWanted>) {
        let neighbours = self.0.neighbours.write();
        *neighbours.unwrap_or_else(PoisonError::into_inner) = Some(out);
    }

    /// Sends a task on its way to another node; false when there is no connection to the server, or no room on it.
    pub(in crate::attempts) fn want(&self, wanted: TaskWanted) -> bool {
        let neighbours = self.0.neighbours.read();
        let neighbours = neighbours.unwrap_or_else(PoisonError::into_inner);
        let out = neighbours.as_ref();
        out.is_some_and(|out| out.try_send(wanted).is_ok())
    }

    /// Says who calls the door when a process of `attempt` does, whose script runs on another node.
    pub(super) fn receive(&self, attempt: AttemptId, context: AttemptContext) {
        if let Some(row) = self.rows().get_mut(&attempt) {
            row.guest.get_or_insert_with(|| Arc::new(context));
        }
    }

    /// What the door is told of processes of `attempt`, when its script runs on another node and it has tasks here.
    pub(in crate::attempts) fn guest(&self, attempt: AttemptId) -> Option<AttemptContext> {
        let rows = self.rows();
        let guest = rows.get(&attempt)?.guest.as_ref()?;
        Some(AttemptContext::clone(guest))
    }

    /// Whether `attempt` has a task here.
    pub(in crate::attempts) fn has(&self, attempt: AttemptId) -> bool {
        self.rows().contains_key(&attempt)
    }

    /// Attempts that have tasks here.
    pub(in crate::attempts) fn attempts(&self) -> Vec<AttemptId> {
        self.rows().keys().copied().collect()
    }

    /// Ends the tasks of an attempt that has ended, and waits until they are gone.
    pub(in crate::attempts) async fn end_attempt(&self, attempt: AttemptId) {
        let Some(mut count) = self.rows().get(&attempt).map(|row| {
            row.ending.cancel();
            row.count.subscribe()
        }) else {
            return;
        };
        let gone = tokio::time::timeout(END_WAIT, count.wait_for(|count| *count == 0)).await;
        if gone.is_err() {
            tracing::warn!(%attempt, "tasks cannot be ended");
        }
    }
}

/// Nobody has more places than are free, in all attempts of his: one user gets at most half of them, two a third each, and
/// whoever comes next finds some.
fn check_share(
    rows: &HashMap<AttemptId, Row>,
    owner: Option<u32>,
    max: usize,
    count: impl Fn(&Row) -> usize,
) -> Result<(), TaskRefused> {
    let Some(owner) = owner else { return Ok(()) };
    let all: usize = rows.values().map(&count).sum();
    let own = rows.values().filter(|row| row.owner == Some(owner));
    let running: usize = own.map(&count).sum();
    match running < max.saturating_sub(all) {
        true => Ok(()),
        false => Err(TaskRefused::Share { running }),
    }
}

impl Drop for TaskPlace {
    fn drop(&mut self) {
        let mut rows = self.table.rows();
        let Some(row) = rows.get_mut(&self.attempt) else {
            return;
        };
        row.programs -= usize::from(self.is_program);
        let mut left = 0;
        row.count.send_modify(|count| {
            *count -= 1;
            left = *count;
        });
        if left == 0 {
            rows.remove(&self.attempt);
        }
    }
}

impl fmt::Debug for TaskTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(
                self.rows()
                    .iter()
                    .map(|(attempt, row)| (*attempt, *row.count.borrow())),
            )
            .finish()
    }
}
