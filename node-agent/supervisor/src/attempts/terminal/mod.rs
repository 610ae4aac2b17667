//! Sessions at terminals, the agent's side: finds what a session is to be connected with, and passes words on between
//! it and the connection to the server. The terminal of an interactive attempt is held by its shim, a program that is run
//! in an attempt by a process of its own; both outlive us, so they may be of another version than we are.

mod attach;
mod execute;
pub(super) mod frames;
mod hold;
mod look;
pub(super) mod pty;

use capstan_proto::wire::open_terminal::Wish;
use capstan_proto::wire::terminal_input::Input;
use capstan_proto::wire::terminal_output::Output;
use capstan_proto::wire::{Failure, OpenSession};
use capstan_types::{AttemptId, Pbse};
use tokio::sync::mpsc;

pub(crate) use self::hold::{EngineProgram, Program, Seat};
pub(super) use self::look::{look_on, tell};
use super::table::Supervisor;

/// Which words we speak with processes that hold terminals. It is said in the first word each way, so that the younger of
/// the two can keep to what the older one knows. Words that the older one may pass over need no new number. A process that
/// says 0 is of a time before there were numbers; it knows all words but `Leave`, and nothing of onlookers and messages.
pub(super) const VERSION: u32 = 1;
/// Words on their way, each way: more than the protocol has, so that nobody ever waits.
const WORDS_MAX: usize = 64;

/// A session that begins: what is said to it, and what it says. It ends when either is dropped.
#[derive(Debug)]
pub struct OpenedSession {
    /// From the client.
    pub input: mpsc::Sender<Input>,
    /// To the client; the last word is the last.
    pub output: mpsc::Receiver<Output>,
}

/// The inner ends of it.
pub(crate) struct Ends {
    pub(crate) input: mpsc::Receiver<Input>,
    pub(crate) output: mpsc::Sender<Output>,
}

/// A session and its inner ends.
pub(crate) fn session() -> (OpenedSession, Ends) {
    let (input, said) = mpsc::channel(WORDS_MAX);
    let (told, output) = mpsc::channel(WORDS_MAX);
    let ends = Ends {
        input: said,
        output: told,
    };
    (OpenedSession { input, output }, ends)
}

impl Supervisor {
    /// Begins a session. What is wrong with it, it says itself.
    #[must_use]
    pub fn open_session(&self, order: OpenSession) -> OpenedSession {
        let (opened, ends) = session();
        let supervisor = self.clone();
        tokio::spawn(async move { supervisor.serve_session(order, ends).await });
        opened
    }

    async fn serve_session(&self, order: OpenSession, ends: Ends) {
        let attempt = AttemptId(order.attempt);
        let mut order = order;
        let mut open = order.open.take().unwrap_or_default();
        match open.wish.take() {
            Some(Wish::Attach(wish)) => {
                open.wish = Some(Wish::Attach(wish));
                attach::attach(self, attempt, open, ends).await;
            }
            Some(Wish::Execute(wish)) => execute::execute(self, order, open, wish, ends).await,
            None => {
                let detail = "this version does not know what the terminal is for";
                drop(ends.output.send(failed(Pbse::Unkreq, detail)).await);
            }
        }
    }
}

pub(crate) fn failed(error: Pbse, detail: impl Into<String>) -> Output {
    Output::Failed(Failure {
        pbs_error: error.number().into(),
        detail: detail.into(),
    })
}
