//! The one stream to the server: dialled by us, again and again. Nothing is kept for a server that is away: every
//! hello says all that the ledger knows, and both sides start from there.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use capstan_proto::PROTOCOL;
use capstan_proto::wire::agent_link_client::AgentLinkClient;
use capstan_proto::wire::{
    AdjustAttempt, AgentMessage, CardUse, Guests, Heartbeat, Hello, Inventory, LaunchSpec,
    ServerMessage, StartAttempt, StopAttempt, Welcome, agent_message, server_message,
};
use capstan_supervisor::attempts::{Intruders, Order, Supervisor};
use capstan_supervisor::ports::{CardControl, GpuUse, Gpus};
use capstan_types::AttemptId;
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::asked::{Asked, Sources};
use crate::diagnosis;
use crate::engine::AskEngine;
use crate::events::now_ms;
use crate::health::Health;
use crate::host;
use crate::inventory::{Host, card_uses, inventory, load_average, memory_available_bytes};
use crate::preparing::Preparer;
use crate::sessions::{Hosts, Sessions};
use crate::sisters::TaskRelay;

/// Reports that may wait for the network; a connection with more waiting is given up and begun anew.
const OUTBOUND_MAX: usize = 4096;
/// First and longest pause between two tries to connect.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(10);
/// How long a connection may take to stand.
const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// A silent server is asked for a sign of life this often, and given up when none comes.
const KEEPALIVE: Duration = Duration::from_secs(10);
const KEEPALIVE_WAIT: Duration = Duration::from_secs(10);
/// How long the first word of the server may take.
const WELCOME_WAIT: Duration = Duration::from_secs(30);
/// Cards and engine are asked anew this often; a card may fall off the bus.
const INVENTORY_PERIOD: Duration = Duration::from_secs(30);
/// The same while the engine does not answer: jobs inside images wait for nothing but our word that it is back.
const AWAY_PERIOD: Duration = Duration::from_secs(5);
/// Least time between two reports of which images there are.
const IMAGES_PERIOD: Duration = Duration::from_secs(60);
/// Tasks for other nodes that may wait to be sent.
const WANTED_MAX: usize = 256;
const HEARTBEAT_MIN: Duration = Duration::from_secs(1);
const HEARTBEAT_MAX: Duration = Duration::from_secs(3600);

/// Everything the link talks about.
pub(crate) struct Link<G, E> {
    pub(crate) server: String,
    pub(crate) node: String,
    pub(crate) agent_id: String,
    pub(crate) host: Host,
    pub(crate) gpus: Arc<G>,
    pub(crate) engine: Arc<E>,
    pub(crate) supervisor: Supervisor,
    pub(crate) health: Arc<Health>,
    /// Holds the door; what the doctor wants to know of the server's clock lies beside it.
    pub(crate) run_folder: PathBuf,
    /// Where the site wants them to be ended.
    pub(crate) intruders: Option<Arc<Intruders>>,
    pub(crate) sources: Arc<Sources<G>>,
    pub(crate) preparer: Preparer,
}

/// Why a connection ended.
enum End {
    /// The network or the server went away.
    Gone(String),
    /// The server does not want us; trying again soon would not help.
    Refused(String),
}

impl<G: Gpus + CardControl, E: AskEngine> Link<G, E> {
    /// Keeps the stream up; never returns.
    pub(crate) async fn run(self) {
        let mut pause = RETRY_MIN;
        let mut said = String::new();
        loop {
            let began = Instant::now();
            let (text, is_refusal) = match self.connect_once().await {
                End::Gone(text) => (text, false),
                End::Refused(text) => (text, true),
            };
            if is_refusal {
                pause = RETRY_MAX;
            } else if began.elapsed() > RETRY_MAX {
                // It stood for a while: this is a new interruption and not the next of a row.
                pause = RETRY_MIN;
            }
            if text != said {
                if is_refusal {
                    tracing::error!(server = self.server, reason = text, "refused by the server");
                } else {
                    tracing::warn!(
                        server = self.server,
                        reason = text,
                        "no connection to the server"
                    );
                }
                said = text;
            }
            tokio::time::sleep(jittered(pause)).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    async fn connect_once(&self) -> End {
        match self.attach().await {
            Ok(()) => End::Gone("the server closed the stream".to_owned()),
            Err(end) => end,
        }
    }

    async fn attach(&self) -> Result<(), End> {
        let channel = self.dial().await?;
        let inventory = self.inventory().await;
        let (out, reports) = mpsc::channel(OUTBOUND_MAX);
        let (attempts, held) = self.supervisor.attach(out.clone()).await;
        let hello = Hello {
            protocol: PROTOCOL,
            node: self.node.clone(),
            agent_id: self.agent_id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            inventory: Some(inventory.clone()),
            attempts,
            cards: self.cards().await,
        };
        let first = futures_util::stream::iter([wrap(agent_message::Message::Hello(hello))]);
        let stream = first.chain(ReceiverStream::new(reports));
        let mut client = AgentLinkClient::new(channel);
        let answer = tokio::time::timeout(WELCOME_WAIT, client.attach(stream)).await;
        let answer = answer.map_err(|_| End::Gone("the server does not answer".to_owned()))?;
        let mut orders = answer.map_err(end)?.into_inner();
        let welcome = tokio::time::timeout(WELCOME_WAIT, orders.message()).await;
        let welcome = welcome.map_err(|_| End::Gone("the server says no welcome".to_owned()))?;
        let Some(ServerMessage {
            message: Some(server_message::Message::Welcome(welcome)),
        }) = welcome.map_err(end)?
        else {
            return Err(End::Refused(
                "the server did not begin with a welcome".to_owned(),
            ));
        };
        self.preparer.attach(out.clone());
        let heartbeat = self.welcomed(welcome).await;
        tokio::select! {
            ended = self.obey(&mut orders, out.clone()) => ended,
            () = self.beat(out, heartbeat, inventory) => {
                Err(End::Gone("heartbeats did not get through".to_owned()))
            }
            _dropped = held => Err(End::Gone("reports did not get through".to_owned())),
        }
    }

    async fn dial(&self) -> Result<Channel, End> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.server))
            .map_err(|error| End::Refused(format!("not an address: {error}")))?;
        let endpoint = endpoint
            .connect_timeout(CONNECT_WAIT)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE_WAIT)
            .keep_alive_while_idle(true);
        endpoint
            .connect()
            .await
            .map_err(|error| End::Gone(chain(&error)))
    }

    async fn welcomed(&self, welcome: Welcome) -> Duration {
        let Welcome {
            server,
            attempts,
            heartbeat_secs,
            now_ms: server_ms,
            guests,
        } = welcome;
        crate::doctor::note_server_clock(&self.run_folder, server_ms, now_ms());
        tracing::info!(server, attempts = attempts.len(), "attached");
        self.reconcile(attempts, guests).await;
        let period = Duration::from_secs(heartbeat_secs.into());
        let period = period.clamp(HEARTBEAT_MIN, HEARTBEAT_MAX);
        self.sources.diagnosis.welcomed(period);
        period
    }

    /// Ends what the server does not want here.
    async fn reconcile(&self, attempts: Vec<u64>, guests: Option<Guests>) {
        let wanted = attempts.into_iter().map(AttemptId).collect();
        self.supervisor.order(Order::Welcome(wanted)).await;
        if let Some(Guests { attempts }) = guests {
            let wanted = attempts.into_iter().map(AttemptId).collect();
            self.supervisor.order(Order::Guests(wanted)).await;
        }
    }

    /// Does what the server says until the stream ends; answers and tasks of the stream end with it.
    async fn obey(
        &self,
        orders: &mut tonic::Streaming<ServerMessage>,
        out: mpsc::Sender<AgentMessage>,
    ) -> Result<(), End> {
        let mut asked = Asked::new(self.sources.clone(), out.clone());
        let sessions = Sessions::new(Hosts::of(&self.supervisor, &self.engine), out.clone());
        let mut relay = (TaskRelay::new(self.supervisor.clone(), out), sessions);
        // Dropped with the connection: then programs here are told that there is none.
        let (wants, mut wanted) = mpsc::channel(WANTED_MAX);
        self.supervisor.attach_tasks(wants);
        self.supervisor.linked();
        loop {
            let has_room = relay.0.has_room();
            let order = tokio::select! {
                order = orders.message() => order.map_err(end)?,
                Some(task) = wanted.recv(), if has_room => {
                    relay.0.want(task).await;
                    continue;
                }
            };
            let Some(ServerMessage { message }) = order else {
                return Ok(());
            };
            let Some(message) = message else {
                tracing::warn!("the server ordered something that this version does not know");
                continue;
            };
            self.sources.diagnosis.note(diagnosis::name(&message));
            self.obey_one(message, &mut asked, &mut relay).await;
        }
    }

    async fn obey_one(
        &self,
        message: server_message::Message,
        asked: &mut Asked<G>,
        (relay, sessions): &mut (TaskRelay<Supervisor>, Sessions<Hosts<E>>),
    ) {
        use server_message::Message as M;
        match message {
            M::Welcome(welcome) => {
                self.reconcile(welcome.attempts, welcome.guests).await;
            }
            M::Start(StartAttempt { spec }) => self.start(spec).await,
            M::Stop(stop) => {
                let StopAttempt {
                    attempt,
                    signal,
                    grace_secs,
                } = stop;
                let attempt = AttemptId(attempt);
                let order = Order::Stop {
                    attempt,
                    signal,
                    grace_secs,
                };
                self.supervisor.order(order).await;
            }
            M::Adjust(adjust) => {
                let AdjustAttempt {
                    attempt,
                    walltime_secs,
                    cput_secs,
                    memory_bytes,
                } = adjust;
                let order = Order::Adjust {
                    attempt: AttemptId(attempt),
                    walltime_secs,
                    cput_secs,
                    memory_bytes,
                };
                self.supervisor.order(order).await;
            }
            M::Forget(attempt) => {
                let attempt = AttemptId(attempt);
                self.supervisor.order(Order::Forget(attempt)).await;
            }
            M::Ask(question) => asked.ask(question),
            M::AnswerTaken(taken) => asked.taken(taken),
            M::DropQuestion(id) => asked.drop_question(id),
            M::RunTask(task) => relay.run(task),
            M::StopTask(task) => relay.stop(task),
            M::TaskReport(report) => relay.hear(report),
            M::TaskTaken(taken) => relay.taken(taken),
            M::TaskSeen(seen) => relay.seen(seen),
            M::LeaveTask(task) => relay.leave(task),
            M::OpenSession(order) => sessions.open(order),
            M::SessionInput(said) => sessions.hear(said),
            M::CloseSession(session) => sessions.close(session),
            M::PrepareImage(order) => self.preparer.begin(&self.engine, &self.supervisor, order),
            M::DropImage(order) => self.preparer.drop_order(order),
        }
    }

    async fn start(&self, spec: Option<LaunchSpec>) {
        match spec {
            Some(spec) => self.supervisor.order(Order::Start(Box::new(spec))).await,
            None => tracing::warn!("the server ordered a start without saying of what"),
        }
    }

    /// Sends heartbeats; returns when the reports have no reader any more.
    async fn beat(&self, out: mpsc::Sender<AgentMessage>, period: Duration, mut known: Inventory) {
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut asked = Instant::now();
        let mut told_images = Instant::now();
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.sources.diagnosis.beat.notified() => {}
                () = out.closed() => return,
            }
            let mut heartbeat = self.heartbeat().await;
            let health = self.complaint();
            if health != known.health_problem {
                known.health_problem = health;
                heartbeat.inventory = Some(known.clone());
            }
            let is_away = !known.engine_problem.is_empty();
            let period = if is_away {
                AWAY_PERIOD
            } else {
                INVENTORY_PERIOD
            };
            if asked.elapsed() >= period {
                asked = Instant::now();
                let mut now = self.inventory().await;
                if !is_away && told_images.elapsed() < IMAGES_PERIOD {
                    // Images come and go while people build them: that is no news worth storing each time.
                    now.images.clone_from(&known.images);
                    now.private_images.clone_from(&known.private_images);
                }
                if now != known {
                    told_images = Instant::now();
                    tracing::info!(cards = now.cards.len(), "the inventory changed");
                    known = now.clone();
                    heartbeat.inventory = Some(now);
                }
            }
            let beat = out.try_send(wrap(agent_message::Message::Heartbeat(heartbeat)));
            if beat.is_err() {
                return;
            }
        }
    }

    async fn heartbeat(&self) -> Heartbeat {
        let (gpus, supervisor) = (self.gpus.clone(), self.supervisor.clone());
        let server = self.server.clone();
        let intruders = self.intruders.clone();
        let notes = self.sources.notes.all();
        let (image_waits, image_offers) = self.engine.images();
        let image_pulls = self.engine.pulls();
        let measured = tokio::task::spawn_blocking(move || {
            let cards = gpus.usage();
            supervisor.sample_by_the_way(&cards);
            if let Some(intruders) = intruders {
                intruders.end(&cards, &supervisor);
            }
            Heartbeat {
                load_average: load_average(),
                memory_available_bytes: memory_available_bytes(),
                cards: look(&supervisor, &cards),
                attempts: supervisor.usage(),
                inventory: None,
                host: Some(host::status(&server)),
                image_waits,
                image_offers,
                image_pulls,
                notes,
            }
        });
        // A driver that panics must not cost the node: a heartbeat without cards is still a sign of life.
        measured.await.unwrap_or_default()
    }

    /// What cards do now.
    async fn cards(&self) -> Vec<CardUse> {
        let (gpus, supervisor) = (self.gpus.clone(), self.supervisor.clone());
        let looking = tokio::task::spawn_blocking(move || look(&supervisor, &gpus.usage()));
        looking.await.unwrap_or_default()
    }

    /// Why nothing may be started here; empty when all is well.
    fn complaint(&self) -> String {
        let of_script = self.health.problem();
        match of_script.is_empty() {
            true => self.sources.notes.complaint(),
            false => of_script,
        }
    }

    async fn inventory(&self) -> Inventory {
        let gpus = self.gpus.clone();
        let cards = tokio::task::spawn_blocking(move || gpus.inventory());
        let engine = self.engine.ask().await;
        let cards = cards.await.unwrap_or_default();
        self.supervisor.note_cards(&cards.cards);
        let inventory = inventory(&self.host, cards, engine);
        let health_problem = self.complaint();
        let (_, image_aliases) = self.engine.images();
        Inventory {
            health_problem,
            image_aliases,
            ..inventory
        }
    }
}

fn look(supervisor: &Supervisor, seen: &[GpuUse]) -> Vec<CardUse> {
    let looks = supervisor.warden().look(seen, supervisor, now_ms());
    card_uses(seen, looks)
}

fn wrap(message: agent_message::Message) -> AgentMessage {
    AgentMessage {
        message: Some(message),
    }
}

/// A refusal is the server's own word; everything else is the network's.
fn end(status: Status) -> End {
    match status.code() {
        Code::InvalidArgument
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Unauthenticated
        | Code::Unimplemented
        | Code::OutOfRange => End::Refused(status.message().to_owned()),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => End::Gone(status.message().to_owned()),
    }
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Between half and all of `pause`: a thousand agents must not come back in one moment.
fn jittered(pause: Duration) -> Duration {
    let noise = uuid::Uuid::new_v4().as_u128() as u32;
    let share = 0.5 + 0.5 * f64::from(noise) / f64::from(u32::MAX);
    pause.mul_f64(share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_spread_but_bounded() {
        for _ in 0..100 {
            let pause = jittered(RETRY_MAX);
            assert!(pause >= RETRY_MAX / 2 && pause <= RETRY_MAX);
        }
    }

    #[test]
    fn only_the_servers_own_word_is_a_refusal() {
        let is_refusal = |code| matches!(end(Status::new(code, "why")), End::Refused(_));
        assert!(is_refusal(Code::AlreadyExists));
        assert!(is_refusal(Code::FailedPrecondition));
        assert!(!is_refusal(Code::Unavailable));
        assert!(!is_refusal(Code::Unknown));
    }
}
