//! The AgentLink service: one stream per agent. The first word must be a hello; after it the agent's reports become
//! events, and the engine's orders go back on the same stream. Keeps nothing: a broken stream is reconciled by the
//! next hello.

mod cards;
mod images;
pub(crate) mod launch;
pub(crate) mod line;
mod peer;
mod reading;
mod relay;
pub(crate) mod sessions;
mod unclean;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use capstan_core::{AttemptReport, Event, Rejection, ReportedPhase};
use capstan_proto::wire::{self, agent_link_server, agent_message::Message};
use capstan_store::PayloadReader;
use capstan_types::NodeName;
use futures_util::Stream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpConnectInfo;
use tonic::{Request, Response, Status, Streaming};
use tracing::Instrument;

use crate::clock;
use crate::engine::{EngineHandle, Link, OUTBOX_MAX, Refused, Request as EngineRequest};
use crate::snapshot::Latest;
use crate::telemetry::Telemetry;

use line::{Line, Lines};
use reading::Unheard;

/// How long an agent may take to say hello.
const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// So many heartbeats may fail to come before an agent counts as gone.
const HEARTBEATS_MISSED_MAX: u32 = 3;
/// HTTP/2 pings on an agent's connection, and how long their answer may take: a host that lost its power is known to
/// be gone after both.
pub(crate) const PING_EVERY: Duration = Duration::from_secs(5);
/// See [`PING_EVERY`].
pub(crate) const PING_ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Largest message of an agent, bytes.
pub(crate) const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// What links work with.
pub(crate) struct Links {
    pub(crate) engine: EngineHandle,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) latest: Arc<Latest>,
    pub(crate) heartbeat: Duration,
    /// Cancelled when the server stops: streams end at once and are taken up again by the next server.
    pub(crate) stopping: CancellationToken,
    pub(crate) connections: AtomicU64,
    /// Where agents are asked.
    pub(crate) lines: Arc<Lines>,
    pub(crate) payloads: Arc<dyn PayloadReader>,
}

/// The service; a newtype, because the trait cannot be implemented for an `Arc`.
#[derive(Clone)]
pub(crate) struct AgentLinkService(pub(crate) Arc<Links>);

type Orders = Pin<Box<dyn Stream<Item = Result<wire::ServerMessage, Status>> + Send + 'static>>;
type Outbox = mpsc::Sender<Result<wire::ServerMessage, Status>>;

#[tonic::async_trait]
impl agent_link_server::AgentLink for AgentLinkService {
    type AttachStream = Orders;

    async fn attach(
        &self,
        request: Request<Streaming<wire::AgentMessage>>,
    ) -> Result<Response<Orders>, Status> {
        let address = request.remote_addr();
        let ends = request.extensions().get::<TcpConnectInfo>();
        let ends = ends.and_then(|info| Some((info.remote_addr()?, info.local_addr()?)));
        if !is_let_in(ends).await {
            tracing::warn!(
                ?address,
                "another user of this host says that it is a node: refused"
            );
            let text = "agents on the server's host must be root's or the server's own user's";
            return Err(Status::permission_denied(text));
        }
        let (outbox, orders) = mpsc::channel(OUTBOX_MAX);
        let connection = self.0.connections.fetch_add(1, Ordering::Relaxed);
        let span = tracing::info_span!("link", connection, ?address);
        let reader = Reader {
            links: self.0.clone(),
            connection,
            inbound: request.into_inner(),
        };
        // Ends with the stream, with the server, or when the engine drops the link.
        tokio::spawn(reader.run(outbox).instrument(span));
        Ok(Response::new(Box::pin(ReceiverStream::new(orders))))
    }
}

/// Whether an agent may attach from the far end of a connection.
async fn is_let_in(ends: Option<(SocketAddr, SocketAddr)>) -> bool {
    let Some((peer, own)) = ends else {
        return false;
    };
    let judged = tokio::task::spawn_blocking(move || peer::may_attach(peer, own));
    judged.await.unwrap_or(false)
}

/// Reads one agent's stream.
struct Reader {
    links: Arc<Links>,
    connection: u64,
    inbound: Streaming<wire::AgentMessage>,
}

impl Reader {
    async fn run(mut self, outbox: Outbox) {
        let node = match self.greet(&outbox).await {
            Ok(greeted) => greeted,
            Err(status) => {
                tracing::warn!(reason = status.message(), "an agent was refused");
                // One that has gone away needs no answer.
                drop(outbox.send(Err(status)).await);
                return;
            }
        };
        // From here on the engine alone holds the outbox: dropping the link ends the stream.
        drop(outbox);
        self.links.lines.put(node.line.clone());
        let ended = self.listen(&node).await;
        self.links.lines.remove(&node.line);
        tracing::info!(node = %node.name, reason = %ended, "node detached");
        if !self.links.stopping.is_cancelled() {
            let detach = EngineRequest::Detach {
                node: node.name,
                connection: self.connection,
            };
            // An engine that has ended has no links any more.
            drop(self.links.engine.post(detach).await);
        }
    }

    /// Waits for the hello and has it decided.
    async fn greet(&mut self, outbox: &Outbox) -> Result<Greeted, Status> {
        let first = tokio::time::timeout(HELLO_WITHIN, self.inbound.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no hello came"))??;
        let first = first.and_then(|message| message.message);
        let Some(Message::Hello(said)) = first else {
            return Err(Status::failed_precondition(
                "the first word must be a hello",
            ));
        };
        let hello = reading::hello(said).map_err(unheard)?;
        let (name, agent) = (hello.node.clone(), hello.agent.clone());
        let dropped = CancellationToken::new();
        let line = Line::new(name.clone(), outbox.downgrade());
        let link = Link {
            connection: self.connection,
            agent,
            outbox: outbox.clone(),
            _reader: dropped.clone().drop_guard(),
            is_welcomed: false,
            line: line.clone(),
        };
        let event = Event::NodeAttached(Box::new(hello));
        let attached = self.links.engine.attach(event, name.clone(), link).await;
        attached.map_err(refused)?;
        Ok(Greeted {
            name,
            dropped,
            line,
        })
    }

    /// Turns what the agent says into events, until it is gone; returns why it is.
    async fn listen(&mut self, greeted: &Greeted) -> &'static str {
        let Greeted {
            name: node,
            dropped,
            line,
        } = greeted;
        let silence = self.links.heartbeat * HEARTBEATS_MISSED_MAX;
        // Set when an attempt has left cards unclean: the next heartbeat may have looked before that.
        let mut may_be_old = false;
        loop {
            let message = tokio::select! {
                message = tokio::time::timeout(silence, self.inbound.message()) => message,
                () = dropped.cancelled() => return "replaced or cut off",
                () = self.links.stopping.cancelled() => return "the server stops",
            };
            let message = match message {
                Ok(Ok(Some(message))) => message.message,
                Ok(Ok(None)) => return "the agent ended the stream",
                Ok(Err(_)) => return "the connection broke",
                Err(_) => return "no heartbeat came",
            };
            let heard = match message {
                Some(Message::Hello(_)) => return "the agent said hello twice",
                Some(Message::Heartbeat(said)) => {
                    let may_clear = !std::mem::take(&mut may_be_old);
                    self.heartbeat(node, said, may_clear).await
                }
                Some(Message::Started(said)) => self.report(node, Ok(reading::started(said))).await,
                Some(Message::Ended(said)) => {
                    may_be_old |= !said.unclean_cards.is_empty();
                    let ended = reading::ended(said).map(|ended| self.with_sisters(ended));
                    self.report(node, ended).await
                }
                Some(Message::ImageReport(said)) => {
                    let event = images::report(node, said);
                    self.post(node, event).await;
                    Ok(())
                }
                Some(other) => {
                    self.pass_on(line, other);
                    Ok(())
                }
                None => {
                    tracing::warn!(%node, "the agent says what this version does not know");
                    Ok(())
                }
            };
            if let Err(problem) = heard {
                tracing::error!(%node, %problem, "what an agent said cannot be read");
                return "the agent cannot be understood";
            }
        }
    }

    /// What is no report but belongs to somebody who waits.
    fn pass_on(&self, line: &Arc<Line>, message: Message) {
        match message {
            Message::Answer(answer) => line.hear(answer),
            Message::TaskRequest(request) => relay::relay(&self.links, line, request),
            Message::TaskReport(report) => line.tasks.hear(report),
            Message::TaskTaken(taken) => line.tasks.taken(taken),
            Message::DropTask(task) => line.tasks.dropped(task),
            Message::TaskSeen(seen) => line.tasks.seen(seen),
            Message::SessionOutput(said) => line.sessions.hear(said),
            Message::Hello(_)
            | Message::Heartbeat(_)
            | Message::Started(_)
            | Message::Ended(_)
            | Message::ImageReport(_) => {}
        }
    }

    async fn heartbeat(
        &self,
        node: &NodeName,
        said: wire::Heartbeat,
        may_clear: bool,
    ) -> Result<(), Unheard> {
        let heard = reading::heartbeat(said, clock::wall())?;
        // Against what is stored, not against the last heartbeat: the end of an attempt and an earlier connection may
        // have marked cards as well, and only this clears them.
        let snapshot = self.links.latest.get();
        let state = snapshot.state.node(node);
        let unclean = state.and_then(|state| unclean::changed(state, &heard, may_clear));
        let before = self.links.telemetry.of(node);
        let failed = unclean::failed(before.as_deref(), &heard.telemetry);
        self.links.telemetry.put(node, heard.telemetry);
        if let Some(inventory) = heard.inventory {
            let inventory = Box::new(inventory);
            let event = Event::NodeChanged {
                node: node.clone(),
                inventory,
            };
            self.post(node, event).await;
        }
        if let Some(cards) = unclean {
            let event = Event::CardsUnclean {
                node: node.clone(),
                cards,
            };
            self.post(node, event).await;
        }
        // After they are kept from new jobs: a job that is put back must not get the same card.
        if !failed.is_empty() {
            let event = Event::CardsFailed {
                node: node.clone(),
                cards: failed,
            };
            self.post(node, event).await;
        }
        Ok(())
    }

    /// The end of an attempt, with what was used on the nodes where its script did not run.
    fn with_sisters(&self, mut report: AttemptReport) -> AttemptReport {
        if let ReportedPhase::Exited { usage, .. } = &mut report.phase {
            let snapshot = self.links.latest.get();
            let job = snapshot.state.job_of(report.attempt);
            if let Some(run) = job.and_then(|job| job.state.run()) {
                *usage = crate::usage::on_all_nodes(&self.links.telemetry, run, *usage);
            }
        }
        report
    }

    async fn report(
        &self,
        node: &NodeName,
        report: Result<AttemptReport, Unheard>,
    ) -> Result<(), Unheard> {
        let event = Event::Reported {
            node: node.clone(),
            report: report?,
        };
        self.post(node, event).await;
        Ok(())
    }

    async fn post(&self, node: &NodeName, event: Event) {
        let request = EngineRequest::FromNode {
            node: node.clone(),
            connection: self.connection,
            event,
        };
        // An engine that has ended hears nothing; the next server is told by the next hello.
        drop(self.links.engine.post(request).await);
    }
}

/// An agent that was let in.
struct Greeted {
    name: NodeName,
    /// Cancelled when the engine drops the link.
    dropped: CancellationToken,
    line: Arc<Line>,
}

fn unheard(problem: Unheard) -> Status {
    match &problem {
        Unheard::Protocol { .. } => Status::failed_precondition(problem.to_string()),
        Unheard::Field { .. } => Status::invalid_argument(problem.to_string()),
    }
}

fn refused(refused: Refused) -> Status {
    match &refused {
        Refused::Rejected(Rejection::NodeNameTaken(_)) => {
            Status::already_exists(refused.to_string())
        }
        Refused::Rejected(rejection) => Status::failed_precondition(rejection.to_string()),
        Refused::NotStored(error) => Status::unavailable(format!("not stored: {error}")),
        Refused::Busy | Refused::Stopping => Status::unavailable(refused.to_string()),
    }
}
