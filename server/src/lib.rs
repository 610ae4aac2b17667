//! The Capstan server: the engine that owns the state, the doors through which it is asked (a Unix socket for people,
//! TCP for agents), logs and mail. What is decided is `capstan-core`'s, how it is kept `capstan-store`'s.

mod bounded;
mod clerk;
mod clock;
mod edge;
mod engine;
mod link;
mod mail;
pub mod past;
mod records;
pub mod settings;
mod snapshot;
mod sockets;
mod telemetry;
#[cfg(test)]
mod testing;
mod usage;
mod view;
mod zone;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::Context;
use capstan_core::State;
use capstan_proto::wire::agent_link_server::AgentLinkServer;
use capstan_proto::wire::scheduler_server::SchedulerServer;
use capstan_store::{DiskStore, Store, StoreError};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server as Transport;
use tonic::transport::server::TcpIncoming;

use clerk::Clerk;
use edge::{Door, SchedulerService, VARIABLES_BYTES_MAX};
use engine::{Running, World};
use link::{AgentLinkService, Links, MESSAGE_BYTES_MAX, PING_ANSWER_WITHIN, PING_EVERY};
use settings::Settings;
use snapshot::Latest;
use telemetry::Telemetry;

/// Threads for what may block: names from a directory, payloads from the disk.
const BLOCKING_THREADS_MAX: usize = 8;
/// How long calls that were accepted before a stop may take to end.
const CALLS_END_WITHIN: Duration = Duration::from_secs(5);
/// What a request may hold beside its script and variables, bytes.
const REQUEST_SLACK_BYTES: usize = 4 << 20;

/// Runs the server until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot start, or its store fails.
pub fn run(settings: Settings) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build()
        .context("starting the event loop")?;
    allow_many_connections();
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
        let store_dir = settings.state_dir.join("store");
        std::fs::create_dir_all(&store_dir)
            .with_context(|| format!("making the state folder {}", store_dir.display()))?;
        // Held until the very end: one server per state folder and per run folder.
        let lock = sockets::lock(&settings.state_dir).await?;
        let opened = sockets::after_predecessor(
            || DiskStore::open(&store_dir, settings.store),
            |error| matches!(error, StoreError::InUse { .. }),
        );
        let (store, state, report) = opened
            .await
            .with_context(|| format!("opening the store {}", store_dir.display()))?;
        match report.is_remarkable() {
            true => tracing::warn!(%report, "store opened"),
            false => tracing::info!(%report, "store opened"),
        }
        let mut server = Server::start(settings, Box::new(store), state).await?;
        let asked_to_stop = server.asked_to_stop.clone();
        tokio::select! {
            () = asked_to_stop.cancelled() => tracing::info!("qterm: stopping"),
            _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
            _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
            () = server.failed() => tracing::error!("the engine has ended"),
        }
        let result = server.stop().await;
        drop(lock);
        result
    })
}

/// Lifts the soft limit on open files to the hard one: every client and agent holds one.
fn allow_many_connections() {
    let limit = Resource::RLIMIT_NOFILE;
    let lifted = getrlimit(limit).and_then(|(_, hard)| setrlimit(limit, hard, hard));
    if let Err(error) = lifted {
        tracing::warn!(%error, "the limit on open files cannot be lifted");
    }
}

/// The task of an open door.
type OpenDoor = JoinHandle<Result<(), tonic::transport::Error>>;

/// A running server.
pub struct Server {
    /// Where agents reach it.
    pub agents_addr: SocketAddr,
    /// Where people reach it.
    pub socket: PathBuf,
    /// Held to the end: a second server is refused.
    _run: sockets::RunFolder,
    engine: Running,
    stopping: CancellationToken,
    /// Cancelled when somebody who may has asked the server to end.
    pub asked_to_stop: CancellationToken,
    /// Cancelled when the engine's thread has ended.
    engine_ended: CancellationToken,
    doors: [OpenDoor; 2],
}

impl Server {
    /// Starts the engine on `store` and opens the doors.
    ///
    /// # Errors
    /// When a folder, a socket or a thread cannot be had, or the start cannot be stored.
    pub async fn start(
        settings: Settings,
        store: Box<dyn Store>,
        state: State,
    ) -> anyhow::Result<Self> {
        let run = sockets::RunFolder::prepare(&settings.run_dir).await?;
        let agents = sockets::listen_for_agents(settings.agents_listen).await?;
        let agents_addr = agents
            .local_addr()
            .context("asking for the agents' address")?;
        let payloads = store.payload_reader();
        let latest = Arc::new(Latest::default());
        let telemetry = Arc::new(Telemetry::default());
        let engine_ended = CancellationToken::new();
        let (core, differences) = settings.in_force(state.settings().map(AsRef::as_ref));
        let mut core = Arc::unwrap_or_clone(core);
        core.zone = zone::of_this_host(clock::wall());
        let core = Arc::new(core);
        for settings::Difference { key, value, remedy } in differences {
            tracing::warn!(
                key,
                value,
                remedy,
                "a setting of the file has no effect, because qmgr has said otherwise since; \
                 to follow the file run the remedy, else take the key out of it"
            );
        }
        let world = World {
            clerk: Clerk::start(&settings.state_dir, core.server.clone())?,
            telemetry: telemetry.clone(),
            latest: latest.clone(),
            heartbeat_secs: u32::try_from(settings.heartbeat.as_secs()).unwrap_or(u32::MAX),
            alive: engine_ended.clone().drop_guard(),
        };
        let engine = engine::start(store, state, core.clone(), world)?;
        let stopping = CancellationToken::new();
        let links = Links {
            engine: engine.handle.clone(),
            telemetry: telemetry.clone(),
            latest: latest.clone(),
            heartbeat: settings.heartbeat,
            stopping: stopping.clone(),
            connections: AtomicU64::new(1),
            lines: Arc::default(),
            payloads: payloads.clone(),
        };
        let mut door = Door::new(
            engine.handle.clone(),
            latest,
            telemetry,
            payloads,
            &settings,
        );
        door.lines = links.lines.clone();
        let asked_to_stop = door.asked_to_stop.clone();
        let script_max = usize::try_from(core.script_bytes_max).unwrap_or(usize::MAX >> 1);
        let request_max = script_max + VARIABLES_BYTES_MAX + REQUEST_SLACK_BYTES;
        // Agents first: when the socket is there, everything is.
        let agents = serve_agents(agents, links, stopping.clone());
        run.write_agents_addr(agents_addr)?;
        run.write_names(core.server.as_str(), &settings.host)?;
        let people = serve_people(run.listen()?, door, request_max, stopping.clone());
        tracing::info!(server = %core.server, socket = %run.socket().display(), agents = %agents_addr, "ready");
        Ok(Self {
            agents_addr,
            socket: run.socket(),
            _run: run,
            engine,
            stopping,
            asked_to_stop,
            engine_ended,
            doors: [people, agents],
        })
    }

    /// Returns when the engine has ended by itself: its store failed, or it panicked.
    pub async fn failed(&mut self) {
        self.engine_ended.cancelled().await;
    }

    /// Ends cleanly: no new calls, those under way end, the store is closed. Jobs go on.
    ///
    /// # Errors
    /// When the store failed, before or now.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.stopping.cancel();
        let [people, agents] = self.doors;
        close("people's", people).await;
        self.engine.handle.stop();
        let joined = tokio::task::spawn_blocking(move || self.engine.thread.join()).await;
        // The engine has dropped its links, which ends the streams.
        close("agents'", agents).await;
        // A socket on which nobody listens says less than none.
        std::fs::remove_file(&self.socket).unwrap_or_default();
        match joined.context("waiting for the engine")? {
            Ok(result) => result,
            Err(_) => anyhow::bail!("the engine panicked; its store is intact"),
        }
    }
}

/// Waits until a door is closed and the calls that it let in have ended.
async fn close(name: &str, door: OpenDoor) {
    let abort = door.abort_handle();
    match tokio::time::timeout(CALLS_END_WITHIN, door).await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(error))) => tracing::warn!(name, %error, "a door did not close cleanly"),
        Ok(Err(error)) => tracing::warn!(name, %error, "a door did not close cleanly"),
        Err(_) => {
            tracing::warn!(name, "calls under way were cut off");
            abort.abort();
        }
    }
}

/// Serves the Unix socket until `stopping`.
fn serve_people(
    socket: tokio::net::UnixListener,
    door: Door,
    request_bytes_max: usize,
    stopping: CancellationToken,
) -> OpenDoor {
    let service = SchedulerServer::new(SchedulerService(Arc::new(door)))
        .max_decoding_message_size(request_bytes_max);
    let incoming = UnixListenerStream::new(socket);
    let stopped = stopping.cancelled_owned();
    tokio::spawn(Transport::builder().serve_with_incoming_shutdown(service, incoming, stopped))
}

/// Serves the agents' TCP socket until `stopping`.
fn serve_agents(
    socket: tokio::net::TcpListener,
    links: Links,
    stopping: CancellationToken,
) -> OpenDoor {
    let service = AgentLinkServer::new(AgentLinkService(Arc::new(links)))
        .max_decoding_message_size(MESSAGE_BYTES_MAX);
    let incoming = TcpIncoming::from(socket).with_nodelay(Some(true));
    let stopped = stopping.cancelled_owned();
    let transport = Transport::builder()
        .http2_keepalive_interval(Some(PING_EVERY))
        .http2_keepalive_timeout(Some(PING_ANSWER_WITHIN));
    tokio::spawn(transport.serve_with_incoming_shutdown(service, incoming, stopped))
}
