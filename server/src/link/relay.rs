//! Tasks of `pbsdsh` on the other nodes of an attempt: a node asks, the server looks whether both work on the attempt,
//! has the other node run the task, and passes back what it says. A bounded number of words may be under way, so a task
//! that prints faster than its reader reads waits, on its own node. Nothing is stored: a task ends when whoever asked for
//! it is gone. One with a key is left when it is only the way that is gone: whoever asked comes back to it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use capstan_core::{Payload, query};
use capstan_proto::Refusal;
use capstan_proto::wire::{self, server_message::Message, task_report::Report};
use capstan_types::{AttemptId, NodeName, Pbse};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::Links;
use super::launch;
use super::line::{Line, Unanswered, lock};
use crate::engine::payload_id;

/// Tasks that one connection may have asked for, and may run for others, at once.
const TASKS_MAX: usize = 256;
/// Words of a task that may be under way on each of the two connections, as the protocol says.
const WORDS_MAX: usize = 8;
/// Longest word, bytes.
const WORD_BYTES_MAX: usize = 32 << 10;
/// Longest command line and environment of a task, bytes: the order must fit in one message.
const COMMAND_BYTES_MAX: usize = 1 << 20;

/// The tasks of one connection.
#[derive(Default)]
pub(super) struct Tasks(Mutex<Open>);

#[derive(Default)]
struct Open {
    is_closed: bool,
    next: u64,
    /// Asked for here, by the asking agent's numbers.
    asked: BTreeMap<u64, Arc<Asked>>,
    /// Run here, by our numbers.
    run: BTreeMap<u64, mpsc::Sender<Report>>,
}

/// A task that a connection has asked for.
struct Asked {
    /// Words that the asking agent can take.
    credit: Semaphore,
    dropped: CancellationToken,
    /// It was dropped because nobody wants it any more.
    is_over: AtomicBool,
    /// So many bytes have arrived where it is wanted.
    seen: watch::Sender<u64>,
}

impl Tasks {
    /// The connection is gone: tasks asked for on it end, words of those that it ran come no more.
    pub(super) fn close(&self) {
        let mut open = lock(&self.0);
        open.is_closed = true;
        open.run.clear();
        for asked in std::mem::take(&mut open.asked).into_values() {
            asked.dropped.cancel();
        }
    }

    /// The asking agent has taken words.
    pub(super) fn taken(&self, taken: wire::TaskTaken) {
        let wire::TaskTaken { task, chunks } = taken;
        if let Some(asked) = lock(&self.0).asked.get(&task) {
            let room = WORDS_MAX.saturating_sub(asked.credit.available_permits());
            asked.credit.add_permits((chunks as usize).min(room));
        }
    }

    /// Nobody at the asking agent waits any more.
    pub(super) fn dropped(&self, task: u64) {
        if let Some(asked) = lock(&self.0).asked.get(&task) {
            asked.is_over.store(true, Ordering::Relaxed);
            asked.dropped.cancel();
        }
    }

    /// What a task said has arrived where it is wanted.
    pub(super) fn seen(&self, seen: wire::TaskSeen) {
        let wire::TaskSeen { task, bytes } = seen;
        if let Some(asked) = lock(&self.0).asked.get(&task) {
            asked.seen.send_replace(bytes);
        }
    }

    /// A word of a task that runs on this connection.
    pub(super) fn hear(&self, report: wire::TaskReport) {
        let wire::TaskReport { task, report } = report;
        let Some(report) = report else { return };
        let mut open = lock(&self.0);
        let Some(words) = open.run.get(&task) else {
            return;
        };
        let fits = match &report {
            Report::Stdout(bytes) | Report::Stderr(bytes) => bytes.len() <= WORD_BYTES_MAX,
            Report::ExitStatus(_) | Report::Failed(_) | Report::Started(_) => true,
        };
        let is_last = is_last(&report);
        // More than its credit: the relay sees a task that breaks off.
        let is_taken = fits && words.try_send(report).is_ok();
        if is_last || !is_taken {
            open.run.remove(&task);
        }
    }

    /// Enters a request; `None` when there are too many, one of this number, or the connection is gone.
    fn ask(&self, task: u64) -> Option<Arc<Asked>> {
        let mut open = lock(&self.0);
        let is_full = open.asked.len() >= TASKS_MAX;
        if open.is_closed || is_full || open.asked.contains_key(&task) {
            return None;
        }
        let asked = Arc::new(Asked {
            credit: Semaphore::new(WORDS_MAX),
            dropped: CancellationToken::new(),
            is_over: AtomicBool::new(false),
            seen: watch::Sender::default(),
        });
        open.asked.insert(task, asked.clone());
        Some(asked)
    }
}

/// A task that runs on a node, as long as this lives.
struct Running {
    line: Arc<Line>,
    task: u64,
    words: mpsc::Receiver<Report>,
    is_over: bool,
    /// By whom, when it has a key: how it ended is kept there until that has arrived.
    kept_for: Option<Arc<Asked>>,
}

impl Running {
    fn start(
        line: Arc<Line>,
        kept_for: Option<Arc<Asked>>,
        order: impl FnOnce(u64) -> wire::RunTask,
    ) -> Result<Self, Unanswered> {
        let (sender, words) = mpsc::channel(WORDS_MAX + 1);
        let mut open = lock(&line.tasks.0);
        if open.is_closed {
            return Err(Unanswered::NotConnected(line.node().clone()));
        }
        if open.run.len() >= TASKS_MAX {
            return Err(Unanswered::Busy(line.node().clone()));
        }
        open.next += 1;
        let task = open.next;
        open.run.insert(task, sender);
        drop(open);
        let is_said = line.say(Message::RunTask(order(task)));
        let running = Self {
            line,
            task,
            words,
            is_over: false,
            kept_for,
        };
        match is_said {
            true => Ok(running),
            false => Err(Unanswered::NotConnected(running.line.node().clone())),
        }
    }

    /// The next word; the last one when the connection broke.
    async fn next(&mut self) -> Report {
        let heard = self.words.recv().await;
        let word = heard.unwrap_or_else(|| failed(Unanswered::Broken(self.line.node().clone())));
        self.is_over |= is_last(&word) && !self.is_waiting_after(&word);
        word
    }

    /// Whether there is something to be said to it still behind this word.
    fn is_waiting_after(&self, word: &Report) -> bool {
        matches!(word, Report::ExitStatus(_)) && self.kept_for.is_some()
    }

    fn seen(&self, bytes: u64) {
        let seen = wire::TaskSeen {
            task: self.task,
            bytes,
        };
        // A connection that is gone has left it.
        let _gone = self.line.say(Message::TaskSeen(seen));
    }

    fn taken(&self) {
        let taken = wire::TaskTaken {
            task: self.task,
            chunks: 1,
        };
        // A connection that is gone ends the task by itself.
        let _gone = self.line.say(Message::TaskTaken(taken));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        lock(&self.line.tasks.0).run.remove(&self.task);
        if !self.is_over {
            let is_left = |asked: &Arc<Asked>| !asked.is_over.load(Ordering::Relaxed);
            // A connection that is gone has ended its tasks, or left them.
            let _gone = match self.kept_for.as_ref().is_some_and(is_left) {
                true => self.line.say(Message::LeaveTask(self.task)),
                false => self.line.say(Message::StopTask(self.task)),
            };
        }
    }
}

const fn is_last(report: &Report) -> bool {
    match report {
        Report::ExitStatus(_) | Report::Failed(_) => true,
        Report::Stdout(_) | Report::Stderr(_) | Report::Started(_) => false,
    }
}

fn failed(problem: Unanswered) -> Report {
    let refusal = problem.into_refusal();
    Report::Failed(wire::Failure {
        pbs_error: refusal.error.number().into(),
        detail: refusal.detail,
    })
}

/// Sees to a request for a task, on a task of its own that ends with the last word.
pub(super) fn relay(links: &Arc<Links>, asker: &Arc<Line>, request: wire::TaskRequest) {
    let number = request.task;
    let Some(asked) = asker.tasks.ask(number) else {
        // Its end is not counted: it takes no place that a credit could be missing for.
        let problem = Unanswered::Busy(asker.node().clone());
        report(asker, number, failed(problem));
        return;
    };
    let (links, asker) = (links.clone(), asker.clone());
    tokio::spawn(async move {
        tokio::select! {
            () = pass_on(&links, &asker, &asked, request) => {}
            () = asked.dropped.cancelled() => {}
            () = links.stopping.cancelled() => {}
        }
        lock(&asker.tasks.0).asked.remove(&number);
    });
}

async fn pass_on(
    links: &Arc<Links>,
    asker: &Arc<Line>,
    asked: &Arc<Asked>,
    request: wire::TaskRequest,
) {
    let number = request.task;
    let mut seen = asked.seen.subscribe();
    let kept_for = (!request.key.is_empty()).then(|| asked.clone());
    let mut running = match start(links, asker, kept_for, request).await {
        Ok(running) => running,
        Err(problem) => {
            tracing::info!(node = %asker.node(), %problem, "a task on another node was refused");
            report(asker, number, failed(problem));
            return;
        }
    };
    loop {
        let word = tokio::select! {
            word = running.next() => word,
            Ok(()) = seen.changed() => {
                running.seen(*seen.borrow_and_update());
                continue;
            }
        };
        let is_last = is_last(&word);
        let is_kept = running.is_waiting_after(&word);
        // Never closed: the request holds it until it ends.
        if let Ok(place) = asked.credit.acquire().await {
            place.forget();
        }
        if !report(asker, number, word) || is_last && !is_kept {
            return;
        }
        if is_kept {
            // Whoever asked says so when the end has arrived.
            return std::future::pending().await;
        }
        running.taken();
    }
}

fn report(line: &Line, task: u64, report: Report) -> bool {
    let report = Some(report);
    line.say(Message::TaskReport(wire::TaskReport { task, report }))
}

/// Has the other node run it, if both nodes work on the attempt.
async fn start(
    links: &Arc<Links>,
    asker: &Line,
    kept_for: Option<Arc<Asked>>,
    request: wire::TaskRequest,
) -> Result<Running, Unanswered> {
    let wire::TaskRequest {
        task: _,
        attempt,
        node,
        vnode,
        task_number,
        node_index,
        arguments,
        environment,
        folder,
        hooks,
        figures,
        key,
        from_byte,
    } = request;
    let target = NodeName::from(node);
    let refuse = |error, detail: String| Unanswered::Refused(Refusal::new(error, detail));
    let length = arguments.iter().map(String::len).sum::<usize>() + folder.len() + key.len();
    let added = environment.iter().map(|it| it.name.len() + it.value.len());
    if length + added.sum::<usize>() > COMMAND_BYTES_MAX {
        let detail = format!("a task's command is over {COMMAND_BYTES_MAX} bytes");
        return Err(refuse(Pbse::Ivalreq, detail));
    }
    let spec = spec(links, AttemptId(attempt), asker.node(), &target).await?;
    let line = links.lines.of(&target)?;
    Running::start(line, kept_for, |task| wire::RunTask {
        task,
        spec: Some(spec),
        vnode,
        task_number,
        node_index,
        arguments,
        environment,
        folder,
        hooks,
        figures,
        key,
        from_byte,
    })
}

/// The attempt as `target` would run it, without its script.
async fn spec(
    links: &Arc<Links>,
    attempt: AttemptId,
    asker: &NodeName,
    target: &NodeName,
) -> Result<wire::LaunchSpec, Unanswered> {
    let snapshot = links.latest.get();
    let job = query::sisters(&snapshot.state, attempt, asker, target)
        .map_err(|problem| Unanswered::Refused(Refusal::new(Pbse::Badstate, problem.to_string())))?
        .clone();
    let payloads = links.payloads.clone();
    let id = payload_id(job.id);
    // The payload lies on the disk.
    let payload = tokio::task::spawn_blocking(move || payloads.payload(id)).await;
    let payload = payload.ok().and_then(Result::ok).flatten();
    let payload = payload.ok_or_else(|| {
        let detail = "the job's variables cannot be read from the server's store";
        Unanswered::Refused(Refusal::new(Pbse::System, detail))
    })?;
    let payload = Payload {
        script: Vec::new(),
        variables: payload.variables.clone(),
    };
    let spec = launch::spec(&snapshot.state, &job, target, &payload);
    spec.ok_or_else(|| {
        let problem = query::NoSister::NotRunning(attempt);
        Unanswered::Refused(Refusal::new(Pbse::Badstate, problem.to_string()))
    })
}
