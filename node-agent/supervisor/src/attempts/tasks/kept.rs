//! A task that has a key: a process of its own holds it, which outlives us, and what it says is kept there until it has
//! arrived. Whoever asks again with the key goes on where the connection was lost.

use std::collections::VecDeque;

use capstan_proto::wire::task_report::Report;
use capstan_proto::wire::terminal_input::Input;
use capstan_proto::wire::terminal_output::Output;
use capstan_proto::wire::{ExecuteProgram, OpenTerminal};
use capstan_types::AttemptId;
use tokio::sync::{mpsc, watch};

use super::{TaskOrder, TaskPlace, failed};
use crate::attempts::table::Supervisor;
use crate::attempts::terminal::{OpenedSession, Program, Seat, session};
use crate::ports::TaskWish;

/// Who wants a task, and how it is found again.
pub(super) struct Wanting {
    pub(super) attempt: AttemptId,
    pub(super) key: String,
    pub(super) from_byte: Option<u64>,
    pub(super) reports: mpsc::Sender<Report>,
    pub(super) wish: watch::Receiver<TaskWish>,
}

/// Passes on what the task says until it is over, or nobody is there to hear it. `order` is asked for only when there is no
/// such task yet.
pub(super) async fn run(
    supervisor: Supervisor,
    wanting: Wanting,
    order: impl AsyncFnOnce() -> Result<(TaskOrder, TaskPlace), Report>,
) {
    let Wanting {
        attempt,
        key,
        from_byte,
        reports,
        wish,
    } = wanting;
    let session = match connect(&supervisor, attempt, (key, from_byte), order).await {
        Ok(session) => session,
        Err(problem) => return drop(reports.send(problem).await),
    };
    let mut passing = Passing {
        input: session.input,
        reports,
        wish,
        end: from_byte.unwrap_or_default(),
        under_way: VecDeque::new(),
    };
    let passed = passing.pass_on(session.output, from_byte.is_none()).await;
    if let Err(Gone::Over) = passed {
        // To one that has ended it is no news.
        let _gone = passing.input.send(Input::Leave(0)).await;
    }
}

/// The connection to the process that holds the task, which is begun when it is new.
async fn connect(
    supervisor: &Supervisor,
    attempt: AttemptId,
    (key, from_byte): (String, Option<u64>),
    order: impl AsyncFnOnce() -> Result<(TaskOrder, TaskPlace), Report>,
) -> Result<OpenedSession, Report> {
    let wish = ExecuteProgram {
        key,
        from_byte,
        ..ExecuteProgram::default()
    };
    let seat = Seat::of(supervisor, attempt, OpenTerminal::default(), &wish).map_err(problem)?;
    let stream = match seat.find().await.map_err(problem)? {
        Some(stream) => stream,
        None => {
            let (order, place) = order().await?;
            let program = Program {
                order,
                place,
                is_task: true,
            };
            match supervisor.hold(program, &seat, None).await {
                Ok((stream, _guarding)) => stream,
                // Somebody who asked for it before, and was cut off, may have been first.
                Err(refused) => match seat.find().await {
                    Ok(Some(stream)) => stream,
                    Ok(None) | Err(_) => return Err(problem(refused)),
                },
            }
        }
    };
    let (opened, ends) = session();
    tokio::spawn(seat.sit(stream, ends));
    Ok(opened)
}

fn problem(said: Output) -> Report {
    match said {
        Output::Failed(failure) => Report::Failed(failure),
        Output::Ready(_)
        | Output::Stdout(_)
        | Output::Stderr(_)
        | Output::ExitStatus(_)
        | Output::InputTaken(_)
        | Output::Replaced(_) => failed("what became of the task is not known"),
    }
}

/// Why nothing is passed on any more.
enum Gone {
    /// It is not wanted any more.
    Over,
    /// Somebody on the way has gone, or somebody else is connected now.
    Away,
}

struct Passing {
    input: mpsc::Sender<Input>,
    reports: mpsc::Sender<Report>,
    wish: watch::Receiver<TaskWish>,
    /// Bytes of both streams together that were passed on.
    end: u64,
    /// Ends of the pieces that have not arrived yet.
    under_way: VecDeque<u64>,
}

impl Passing {
    async fn pass_on(
        &mut self,
        mut output: mpsc::Receiver<Output>,
        is_new: bool,
    ) -> Result<(), Gone> {
        if is_new {
            self.say(Report::Started(0)).await?;
        }
        loop {
            let said = tokio::select! {
                said = output.recv() => said,
                changed = self.wish.changed() => {
                    self.hear(changed.is_ok()).await?;
                    continue;
                }
            };
            match said {
                Some(Output::Stdout(bytes)) => {
                    self.count(bytes.len());
                    self.say(Report::Stdout(bytes)).await?;
                }
                Some(Output::Stderr(bytes)) => {
                    self.count(bytes.len());
                    self.say(Report::Stderr(bytes)).await?;
                }
                Some(Output::ExitStatus(status)) => {
                    self.say(Report::ExitStatus(status)).await?;
                    // How it ended is kept until that has arrived.
                    loop {
                        let is_there = self.wish.changed().await.is_ok();
                        self.hear(is_there).await?;
                    }
                }
                Some(Output::Ready(_) | Output::InputTaken(_)) => {}
                Some(Output::Replaced(_)) => return Err(Gone::Away),
                Some(Output::Failed(_)) | None => {
                    let lost = failed("what became of the task is not known");
                    return self.say(lost).await;
                }
            }
        }
    }

    fn count(&mut self, bytes: usize) {
        self.end += bytes as u64;
        self.under_way.push_back(self.end);
    }

    /// Waits for room, and hears meanwhile what is wished.
    async fn say(&mut self, report: Report) -> Result<(), Gone> {
        loop {
            let reports = self.reports.clone();
            let is_there = tokio::select! {
                room = reports.reserve() => match room {
                    Ok(room) => {
                        room.send(report);
                        return Ok(());
                    }
                    Err(_) => return Err(self.gone()),
                },
                changed = self.wish.changed() => changed.is_ok(),
            };
            self.hear(is_there).await?;
        }
    }

    fn gone(&self) -> Gone {
        match self.wish.borrow().is_over {
            true => Gone::Over,
            false => Gone::Away,
        }
    }

    async fn hear(&mut self, is_there: bool) -> Result<(), Gone> {
        let wish = *self.wish.borrow_and_update();
        if wish.is_over || !is_there {
            return Err(self.gone());
        }
        let before = self.under_way.len();
        while self
            .under_way
            .front()
            .is_some_and(|end| *end <= wish.seen_bytes)
        {
            self.under_way.pop_front();
        }
        let arrived = u32::try_from(before - self.under_way.len()).unwrap_or(u32::MAX);
        if arrived > 0 && self.input.send(Input::Taken(arrived)).await.is_err() {
            // What it said last is still there to be heard.
            tracing::debug!("the holder of a task is gone");
        }
        Ok(())
    }
}
