//! Tasks of `pbsdsh` over the nodes of an attempt, on one connection to the server: those that programs here want run
//! elsewhere, and those that run here for others. What is said is passed on as there is credit for it. When the
//! connection ends, the tasks of both kinds do that have no key.

use std::collections::BTreeMap;
use std::sync::Arc;

use capstan_proto::wire::agent_message::Message;
use capstan_proto::wire::task_report::Report;
use capstan_proto::wire::{AgentMessage, Failure, RunTask, TaskReport, TaskSeen, TaskTaken};
use capstan_supervisor::attempts::{Supervisor, TaskWanted};
use capstan_supervisor::ports::TaskWish;
use capstan_types::Pbse;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

/// Tasks of each kind on one connection; the server refuses more.
const TASKS_MAX: usize = 256;
/// Words of a task that may be under way, as the protocol says.
const WORDS_MAX: usize = 8;

/// Runs tasks here for programs on other nodes.
pub(crate) trait Performer {
    /// Runs the task. Without a key it ends when the receiver is dropped, with one when that is wished.
    fn perform(&self, order: RunTask, wish: watch::Receiver<TaskWish>) -> mpsc::Receiver<Report>;
}

impl Performer for Supervisor {
    fn perform(&self, order: RunTask, wish: watch::Receiver<TaskWish>) -> mpsc::Receiver<Report> {
        self.run_task(order, wish)
    }
}

/// The tasks of one connection.
pub(crate) struct TaskRelay<T> {
    tasks: T,
    out: mpsc::Sender<AgentMessage>,
    next: u64,
    /// Wanted elsewhere, by our numbers.
    wanted: BTreeMap<u64, Wanted>,
    /// Run here, by the server's numbers.
    run: BTreeMap<u64, Run>,
    pumps: JoinSet<Pump>,
}

struct Wanted {
    words: mpsc::Sender<Report>,
    pump: AbortHandle,
}

struct Run {
    credit: Arc<Semaphore>,
    wish: watch::Sender<TaskWish>,
    pump: AbortHandle,
}

/// Which pump has ended.
enum Pump {
    Wanted(u64),
    Run(u64),
}

impl<T: Performer> TaskRelay<T> {
    pub(crate) fn new(tasks: T, out: mpsc::Sender<AgentMessage>) -> Self {
        Self {
            tasks,
            out,
            next: 0,
            wanted: BTreeMap::new(),
            run: BTreeMap::new(),
            pumps: JoinSet::new(),
        }
    }

    /// Whether another task may be wanted elsewhere now; else whoever wants it waits.
    pub(crate) fn has_room(&mut self) -> bool {
        self.sweep();
        self.wanted.len() < TASKS_MAX
    }

    /// A program here wants a task run elsewhere.
    pub(crate) async fn want(&mut self, task: TaskWanted) {
        let TaskWanted {
            mut request,
            reports: words,
            wish,
        } = task;
        self.next += 1;
        let number = self.next;
        request.task = number;
        let wish = Some(wish).filter(|_| !request.key.is_empty());
        // From the stream to the program: our own queue holds what the credit allows, so that the stream never waits.
        let (queue, queued) = mpsc::channel(WORDS_MAX + 1);
        let out = self.out.clone();
        let pump = self.pumps.spawn(async move {
            match wish {
                Some(wish) => pass_on_kept(number, queued, (words, wish), &out).await,
                None => pass_on(number, queued, words, &out).await,
            }
            Pump::Wanted(number)
        });
        self.wanted.insert(number, Wanted { words: queue, pump });
        self.say(Message::TaskRequest(request)).await;
    }

    /// What a task elsewhere says.
    pub(crate) fn hear(&mut self, report: TaskReport) {
        let TaskReport { task, report } = report;
        let (Some(report), Some(wanted)) = (report, self.wanted.get(&task)) else {
            return;
        };
        let is_last = is_last(&report);
        // More than the credit: the program sees a task that breaks off.
        let is_taken = wanted.words.try_send(report).is_ok();
        if !is_taken {
            wanted.pump.abort();
        }
        if is_last || !is_taken {
            self.wanted.remove(&task);
        }
    }

    /// The server orders a task for a program elsewhere.
    pub(crate) fn run(&mut self, order: RunTask) {
        self.sweep();
        let number = order.task;
        let credit = Arc::new(Semaphore::new(WORDS_MAX));
        let (wish, wished) = watch::channel(TaskWish::default());
        let mut said = match self.run.len() < TASKS_MAX {
            true => self.tasks.perform(order, wished),
            false => busy(),
        };
        let (out, allowed) = (self.out.clone(), credit.clone());
        let pump = self.pumps.spawn(async move {
            report(number, &mut said, &allowed, &out).await;
            // One with a key keeps how it ended until that has arrived.
            while said.recv().await.is_some() {}
            Pump::Run(number)
        });
        self.run.insert(number, Run { credit, wish, pump });
    }

    /// What a task here said was taken.
    pub(crate) fn taken(&self, taken: TaskTaken) {
        let TaskTaken { task, chunks } = taken;
        if let Some(run) = self.run.get(&task) {
            let room = WORDS_MAX.saturating_sub(run.credit.available_permits());
            run.credit.add_permits((chunks as usize).min(room));
        }
    }

    /// What a task here said has arrived where it was wanted.
    pub(crate) fn seen(&self, seen: TaskSeen) {
        let TaskSeen { task, bytes } = seen;
        if let Some(run) = self.run.get(&task) {
            run.wish
                .send_modify(|wish| wish.seen_bytes = wish.seen_bytes.max(bytes));
        }
    }

    /// Nobody elsewhere waits for a task here: its words go nowhere, which ends it.
    pub(crate) fn stop(&mut self, task: u64) {
        if let Some(run) = self.run.remove(&task) {
            run.wish.send_modify(|wish| wish.is_over = true);
            run.pump.abort();
        }
    }

    /// Whoever waits for a task here, which has a key, cannot be reached: it goes on.
    pub(crate) fn leave(&mut self, task: u64) {
        if let Some(run) = self.run.remove(&task) {
            run.pump.abort();
        }
    }

    async fn say(&self, message: Message) {
        say(&self.out, message).await;
    }

    fn sweep(&mut self) {
        while let Some(ended) = self.pumps.try_join_next() {
            match ended {
                Ok(Pump::Wanted(number)) => drop(self.wanted.remove(&number)),
                Ok(Pump::Run(number)) => drop(self.run.remove(&number)),
                // Those that were stopped are forgotten already.
                Err(_) => {}
            }
        }
    }
}

/// The words of a task that is one too many.
fn busy() -> mpsc::Receiver<Report> {
    let (words, said) = mpsc::channel(1);
    let busy = Failure {
        pbs_error: Pbse::ServerBusy.number().into(),
        detail: format!("the node runs {TASKS_MAX} tasks for others already"),
    };
    // The queue was made a moment ago and is empty.
    let _room = words.try_send(Report::Failed(busy));
    said
}

/// From the connection to the program that wanted the task.
async fn pass_on(
    task: u64,
    mut queued: mpsc::Receiver<Report>,
    words: mpsc::Sender<Report>,
    out: &mpsc::Sender<AgentMessage>,
) {
    loop {
        let word = tokio::select! {
            word = queued.recv() => word,
            // The program has gone.
            () = words.closed() => None,
        };
        let Some(word) = word else { break };
        let is_last = is_last(&word);
        if words.send(word).await.is_err() {
            break;
        }
        if is_last {
            return;
        }
        say(out, Message::TaskTaken(TaskTaken { task, chunks: 1 })).await;
    }
    say(out, Message::DropTask(task)).await;
}

/// The same of a task with a key, whose end is to be known before it is dropped; nor is it when its program's connection to
/// us breaks because we are ending.
async fn pass_on_kept(
    task: u64,
    mut queued: mpsc::Receiver<Report>,
    (words, mut wish): (mpsc::Sender<Report>, watch::Receiver<TaskWish>),
    out: &mpsc::Sender<AgentMessage>,
) {
    let mut words = Some(words);
    loop {
        let word = tokio::select! {
            Some(word) = queued.recv() => Some(word),
            changed = wish.changed() => {
                let TaskWish { seen_bytes, is_over } = *wish.borrow_and_update();
                if is_over {
                    return say(out, Message::DropTask(task)).await;
                }
                if changed.is_err() {
                    return;
                }
                let seen = TaskSeen { task, bytes: seen_bytes };
                say(out, Message::TaskSeen(seen)).await;
                None
            }
        };
        let (Some(word), Some(way)) = (word, &words) else {
            continue;
        };
        let is_last = is_last(&word);
        let is_passed = tokio::select! {
            passed = way.send(word) => passed.is_ok(),
            () = is_over(&mut wish) => false,
        };
        if is_passed && !is_last {
            say(out, Message::TaskTaken(TaskTaken { task, chunks: 1 })).await;
        } else {
            words = None;
        }
    }
}

/// Returns when the task is not wanted any more, or nobody is left who could say so; that is to be looked at again.
async fn is_over(wish: &mut watch::Receiver<TaskWish>) {
    let mut look = wish.clone();
    // Of one whose sender is gone the next look hears.
    let _gone = look.wait_for(|wish| wish.is_over).await;
}

/// From the task that runs here to the connection.
async fn report(
    task: u64,
    said: &mut mpsc::Receiver<Report>,
    credit: &Semaphore,
    out: &mpsc::Sender<AgentMessage>,
) {
    loop {
        let word = said.recv().await.unwrap_or_else(|| {
            Report::Failed(Failure {
                pbs_error: Pbse::System.number().into(),
                detail: "the node does not know what became of the task".to_owned(),
            })
        });
        let is_last = is_last(&word);
        // The last word takes no place that credit could be missing for.
        if !is_last && let Ok(place) = credit.acquire().await {
            place.forget();
        }
        let report = Some(word);
        say(out, Message::TaskReport(TaskReport { task, report })).await;
        if is_last {
            return;
        }
    }
}

const fn is_last(report: &Report) -> bool {
    match report {
        Report::ExitStatus(_) | Report::Failed(_) => true,
        Report::Stdout(_) | Report::Stderr(_) | Report::Started(_) => false,
    }
}

async fn say(out: &mpsc::Sender<AgentMessage>, message: Message) {
    let message = AgentMessage {
        message: Some(message),
    };
    // The connection is gone, and with it everybody who would hear.
    let _gone = out.send(message).await;
}
