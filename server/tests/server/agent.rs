//! An agent that does what a test says, over the real protocol.

use std::net::SocketAddr;

use capstan_proto::PROTOCOL;
use capstan_proto::wire::agent_link_client::AgentLinkClient;
use capstan_proto::wire::agent_message::Message as Say;
use capstan_proto::wire::attempt_ended::Outcome;
use capstan_proto::wire::server_message::Message as Hear;
use capstan_proto::wire::{
    AgentMessage, AttemptEnded, AttemptStarted, Card, Hello, Inventory, KnownAttempt, LaunchSpec,
    ServerMessage, Usage, Welcome,
};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::cluster::DEADLINE;

pub(crate) struct Agent {
    say: mpsc::Sender<AgentMessage>,
    hear: Streaming<ServerMessage>,
}

/// A hello of `node` with 4 cores and 2 cards.
pub(crate) fn hello(node: &str, agent: &str) -> Hello {
    let cards = (0..2).map(|index| Card {
        uuid: format!("GPU-{node}-{index}"),
        index,
        model: "Test Card".to_owned(),
        memory_bytes: 8 << 30,
        ..Card::default()
    });
    Hello {
        protocol: PROTOCOL,
        node: node.to_owned(),
        agent_id: agent.to_owned(),
        version: "test".to_owned(),
        inventory: Some(Inventory {
            cores: 4,
            memory_bytes: 16 << 30,
            cards: cards.collect(),
            ..Inventory::default()
        }),
        attempts: Vec::new(),
        cards: Vec::new(),
    }
}

impl Agent {
    /// Dials and says `first`.
    pub(crate) async fn dial(server: SocketAddr, first: Say) -> Result<Self, Status> {
        let client = AgentLinkClient::connect(format!("http://{server}")).await;
        let (say, said) = mpsc::channel(64);
        let first = AgentMessage {
            message: Some(first),
        };
        say.send(first).await.unwrap();
        let hear = client.unwrap().attach(ReceiverStream::new(said)).await?;
        let hear = hear.into_inner();
        Ok(Self { say, hear })
    }

    /// Dials, says hello and is welcomed.
    pub(crate) async fn attach(server: SocketAddr, hello: Hello) -> (Self, Welcome) {
        let mut agent = Self::dial(server, Say::Hello(hello)).await.unwrap();
        match agent.hear().await.unwrap() {
            Some(Hear::Welcome(welcome)) => (agent, welcome),
            other => panic!("not welcomed but {other:?}"),
        }
    }

    /// The server's next word; `None` when it has ended the stream.
    pub(crate) async fn hear(&mut self) -> Result<Option<Hear>, Status> {
        let heard = timeout(DEADLINE, self.hear.message()).await;
        let heard = heard.expect("the server says something in time")?;
        Ok(heard.and_then(|message| message.message))
    }

    /// Waits for a start order.
    pub(crate) async fn told_to_start(&mut self) -> LaunchSpec {
        match self.hear().await.unwrap() {
            Some(Hear::Start(start)) => start.spec.unwrap(),
            other => panic!("not told to start but {other:?}"),
        }
    }

    pub(crate) async fn say(&self, message: Say) {
        let message = AgentMessage {
            message: Some(message),
        };
        self.say.send(message).await.unwrap();
    }

    pub(crate) async fn started(&self, attempt: u64) {
        self.say(Say::Started(running(attempt))).await;
    }

    pub(crate) async fn ended(&self, attempt: u64, exit_status: i32) {
        self.say(Say::Ended(over(attempt, exit_status))).await;
    }
}

pub(crate) fn running(attempt: u64) -> AttemptStarted {
    AttemptStarted {
        attempt,
        session: 4711,
        at_ms: now_ms(),
    }
}

pub(crate) fn over(attempt: u64, exit_status: i32) -> AttemptEnded {
    AttemptEnded {
        attempt,
        at_ms: now_ms(),
        usage: Some(Usage {
            cput_secs: 61,
            mem_kb: 2048,
            vmem_kb: 4096,
            walltime_secs: 62,
            measures: None,
        }),
        outcome: Some(Outcome::ExitStatus(exit_status)),
        unclean_cards: Vec::new(),
        messages: Vec::new(),
        cause: String::new(),
        images: Vec::new(),
    }
}

/// An attempt as a hello tells it.
pub(crate) fn known(
    attempt: u64,
    job: &str,
    phase: capstan_proto::wire::known_attempt::Phase,
) -> KnownAttempt {
    KnownAttempt {
        attempt,
        job_id: job.to_owned(),
        phase: Some(phase),
    }
}

fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap().as_millis() as u64
}
