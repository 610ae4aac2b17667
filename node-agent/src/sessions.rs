//! Sessions at terminals, on one connection to the server: begun when the server says so, ended when it says so or when
//! the connection ends. What is on its way is bounded by the two ends of each session.

use std::collections::BTreeMap;
use std::sync::Arc;

use capstan_proto::wire::agent_message::Message;
use capstan_proto::wire::terminal_input::Input;
use capstan_proto::wire::terminal_output::Output;
use capstan_proto::wire::{
    AgentMessage, Failure, OpenSession, SessionInput, SessionOutput, TerminalOutput, TerminalReady,
};
use capstan_supervisor::attempts::{OpenedSession, Supervisor};
use capstan_types::Pbse;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use crate::engine::AskEngine;

/// A client that is gone without a word may be cut off from the server: so many seconds it may take to come back to its
/// program.
const RETURN_SECS: u32 = 30;
/// Sessions on one connection; the server asks for no more.
const SESSIONS_MAX: usize = 256;

/// What begins sessions.
pub(crate) trait Host {
    /// Begins one; it ends when what is given is dropped.
    fn host(&self, order: OpenSession) -> OpenedSession;
}

/// Sessions in attempts, and in the containers of those that have any.
pub(crate) struct Hosts<E> {
    supervisor: Supervisor,
    engine: Arc<E>,
}

impl<E> Hosts<E> {
    pub(crate) fn of(supervisor: &Supervisor, engine: &Arc<E>) -> Self {
        Self {
            supervisor: supervisor.clone(),
            engine: engine.clone(),
        }
    }
}

impl<E: AskEngine> Host for Hosts<E> {
    fn host(&self, order: OpenSession) -> OpenedSession {
        let entered = self.engine.clone().enter(&self.supervisor, order);
        entered.unwrap_or_else(|order| self.supervisor.open_session(*order))
    }
}

/// The sessions of one connection.
pub(crate) struct Sessions<H> {
    host: H,
    out: mpsc::Sender<AgentMessage>,
    open: BTreeMap<u64, Open>,
    pumps: JoinSet<u64>,
}

struct Open {
    input: mpsc::Sender<Input>,
    pump: AbortHandle,
}

impl<H: Host> Sessions<H> {
    pub(crate) fn new(host: H, out: mpsc::Sender<AgentMessage>) -> Self {
        Self {
            host,
            out,
            open: BTreeMap::new(),
            pumps: JoinSet::new(),
        }
    }

    pub(crate) fn open(&mut self, order: OpenSession) {
        while let Some(ended) = self.pumps.try_join_next() {
            if let Ok(number) = ended {
                self.open.remove(&number);
            }
        }
        let number = order.session;
        let OpenedSession { input, output } = match self.open.len() < SESSIONS_MAX {
            true => self.host.host(order),
            false => busy(),
        };
        let out = self.out.clone();
        let pump = self.pumps.spawn(async move {
            tell(number, output, &out).await;
            number
        });
        self.open.insert(number, Open { input, pump });
    }

    /// A word of the client.
    pub(crate) fn hear(&mut self, said: SessionInput) {
        let SessionInput { session, input } = said;
        let word = input.and_then(|input| input.input);
        let (Some(word), Some(open)) = (word, self.open.get(&session)) else {
            return;
        };
        let is_last = matches!(word, Input::Leave(_));
        // More than the protocol has on its way ends the session.
        let is_too_much = open.input.try_send(word).is_err() && !open.input.is_closed();
        if is_last || is_too_much {
            self.end(session);
        }
    }

    /// The client has gone without a word.
    pub(crate) fn close(&mut self, session: u64) {
        if let Some(open) = self.open.get(&session) {
            // Full: then its connection breaks off, and what it ran is kept longer.
            drop(open.input.try_send(Input::Leave(RETURN_SECS)));
        }
        self.end(session);
    }

    fn end(&mut self, session: u64) {
        if let Some(open) = self.open.remove(&session) {
            open.pump.abort();
        }
    }
}

fn busy() -> OpenedSession {
    let (input, _) = mpsc::channel(1);
    let (told, output) = mpsc::channel(1);
    let busy = Failure {
        pbs_error: Pbse::ServerBusy.number().into(),
        detail: format!("the node has {SESSIONS_MAX} sessions at terminals already"),
    };
    // The queue was made a moment ago and is empty.
    let _room = told.try_send(Output::Failed(busy));
    OpenedSession { input, output }
}

/// What was between us and the process that holds the terminal is nobody else's business.
fn for_client(word: Output) -> Output {
    match word {
        Output::Ready(ready) => Output::Ready(TerminalReady {
            version: 0,
            entered: String::new(),
            ..ready
        }),
        Output::Stdout(_)
        | Output::Stderr(_)
        | Output::ExitStatus(_)
        | Output::Failed(_)
        | Output::InputTaken(_)
        | Output::Replaced(_) => word,
    }
}

async fn tell(session: u64, mut output: mpsc::Receiver<Output>, out: &mpsc::Sender<AgentMessage>) {
    loop {
        let word = output.recv().await.unwrap_or_else(|| {
            Output::Failed(Failure {
                pbs_error: Pbse::System.number().into(),
                detail: "the node does not know what became of the session".to_owned(),
            })
        });
        let is_last = matches!(
            word,
            Output::ExitStatus(_) | Output::Failed(_) | Output::Replaced(_)
        );
        let output = Some(TerminalOutput {
            output: Some(for_client(word)),
        });
        let message = Message::SessionOutput(SessionOutput { session, output });
        let message = AgentMessage {
            message: Some(message),
        };
        // The connection is gone, and with it everybody who would see it.
        if out.send(message).await.is_err() || is_last {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Keeps the inner ends of the sessions that were begun.
    #[derive(Default)]
    struct Desk(Mutex<Vec<(mpsc::Receiver<Input>, mpsc::Sender<Output>)>>);

    impl Host for &Desk {
        fn host(&self, _order: OpenSession) -> OpenedSession {
            let (input, said) = mpsc::channel(2);
            let (told, output) = mpsc::channel(2);
            self.0.lock().expect("nobody panicked").push((said, told));
            OpenedSession { input, output }
        }
    }

    fn order(session: u64) -> OpenSession {
        OpenSession {
            session,
            ..OpenSession::default()
        }
    }

    #[tokio::test]
    async fn words_go_to_their_session_and_its_end_is_told() {
        let desk = Desk::default();
        let (out, mut heard) = mpsc::channel(8);
        let mut sessions = Sessions::new(&desk, out);
        sessions.open(order(7));
        let (mut said, told) = desk.0.lock().expect("nobody panicked").remove(0);
        let input = Some(capstan_proto::wire::TerminalInput {
            input: Some(Input::Keys(b"x".to_vec())),
        });
        sessions.hear(SessionInput { session: 7, input });
        assert_eq!(said.recv().await, Some(Input::Keys(b"x".to_vec())));
        drop(told);
        let word = heard.recv().await.and_then(|message| message.message);
        let Some(Message::SessionOutput(SessionOutput { session, output })) = word else {
            panic!("something else was said");
        };
        assert_eq!(session, 7);
        let output = output.and_then(|output| output.output);
        assert!(matches!(output, Some(Output::Failed(_))), "{output:?}");
    }

    #[tokio::test]
    async fn a_connection_that_breaks_is_no_word_of_the_client() {
        let desk = Desk::default();
        let (out, _heard) = mpsc::channel(8);
        let mut sessions = Sessions::new(&desk, out);
        sessions.open(order(1));
        let (mut said, _told) = desk.0.lock().expect("nobody panicked").remove(0);
        drop(sessions);
        assert_eq!(said.recv().await, None);
    }

    #[tokio::test]
    async fn a_session_whose_client_has_gone_hears_of_it() {
        let desk = Desk::default();
        let (out, _heard) = mpsc::channel(8);
        let mut sessions = Sessions::new(&desk, out);
        sessions.open(order(1));
        let (mut said, told) = desk.0.lock().expect("nobody panicked").remove(0);
        sessions.close(1);
        assert_eq!(said.recv().await, Some(Input::Leave(RETURN_SECS)));
        assert_eq!(said.recv().await, None);
        told.closed().await;
    }
}
