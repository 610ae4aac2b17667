//! The talk with whoever wants a task: what it says goes out, what has arrived comes back.

use std::pin::Pin;

use capstan_proto::wire::task_output::Output;
use capstan_proto::wire::task_report::Report;
use capstan_proto::wire::{RunTaskRequest, TaskOutput};
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use crate::attempts::is_passing;
use crate::ports::{TaskStarted, TaskWish};

/// The answer to a client.
pub(super) type TaskStream = Pin<Box<dyn Stream<Item = Result<TaskOutput, Status>> + Send>>;

/// The one word that whatever is between the client and its task is away.
pub(super) fn away(why: String) -> TaskStream {
    stream::iter([Ok(word(Output::Away(why)))]).boxed()
}

/// What a task says, to its last word. Dropped by a client that goes away, which ends the task. `input` is there for a task
/// that has a key.
pub(super) fn said(
    started: TaskStarted,
    input: Option<Streaming<RunTaskRequest>>,
    letting_go: CancellationToken,
) -> TaskStream {
    let TaskStarted {
        number,
        reports,
        wish,
    } = started;
    let talk = Talk {
        number,
        wish: Wish {
            sender: wish,
            letting_go,
        },
        reports,
        has_key: input.is_some(),
        input,
        is_last: false,
    };
    stream::unfold(talk, |mut talk| async move {
        let output = talk.next().await?;
        Some((Ok(word(output)), talk))
    })
    .boxed()
}

fn word(output: Output) -> TaskOutput {
    TaskOutput {
        output: Some(output),
    }
}

struct Talk {
    number: u32,
    // Dropped before the reports: whoever finds those closed looks what was wished.
    wish: Wish,
    reports: mpsc::Receiver<Report>,
    has_key: bool,
    /// None when nothing more can come.
    input: Option<Streaming<RunTaskRequest>>,
    /// The last word was said.
    is_last: bool,
}

/// The client's word, which is that it is over when the client goes; not so when the agent does.
struct Wish {
    sender: watch::Sender<TaskWish>,
    letting_go: CancellationToken,
}

impl Drop for Wish {
    fn drop(&mut self) {
        if !self.letting_go.is_cancelled() {
            self.sender.send_modify(|wish| wish.is_over = true);
        }
    }
}

impl Talk {
    async fn next(&mut self) -> Option<Output> {
        while !self.is_last {
            tokio::select! {
                report = self.reports.recv() => return self.output(report),
                said = next(&mut self.input) => self.hear(said),
                () = self.wish.letting_go.cancelled(), if self.has_key => {
                    self.is_last = true;
                    return Some(Output::Away("the agent is stopping".to_owned()));
                }
            }
        }
        // How it ended is kept until the client has it.
        while self.input.is_some() {
            let said = next(&mut self.input).await;
            self.hear(said);
        }
        None
    }

    fn output(&mut self, report: Option<Report>) -> Option<Output> {
        let output = match report {
            Some(Report::Started(_)) => Output::Started(self.number),
            Some(Report::Stdout(bytes)) => Output::Stdout(bytes),
            Some(Report::Stderr(bytes)) => Output::Stderr(bytes),
            Some(Report::ExitStatus(status)) => {
                self.is_last = true;
                Output::ExitStatus(status)
            }
            Some(Report::Failed(failure)) => {
                self.is_last = true;
                self.input = None;
                match self.has_key && is_passing(&failure) {
                    true => Output::Away(failure.detail),
                    false => Output::Failed(failure.detail),
                }
            }
            // The connection over which it came is lost.
            None if self.has_key => {
                self.is_last = true;
                self.input = None;
                Output::Away("the connection to the server is lost".to_owned())
            }
            None => return None,
        };
        Some(output)
    }

    fn hear(&mut self, said: Option<RunTaskRequest>) {
        let Some(RunTaskRequest {
            seen_bytes,
            is_over,
            ..
        }) = said
        else {
            self.input = None;
            return;
        };
        if is_over {
            self.is_last = true;
            self.input = None;
        }
        self.wish.sender.send_modify(|wish| {
            wish.seen_bytes = wish.seen_bytes.max(seen_bytes);
            wish.is_over |= is_over;
        });
    }
}

/// The client's next word; never, when nothing more can come.
async fn next(input: &mut Option<Streaming<RunTaskRequest>>) -> Option<RunTaskRequest> {
    match input {
        Some(input) => input.message().await.ok().flatten(),
        None => std::future::pending().await,
    }
}
