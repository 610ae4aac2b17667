//! Follows one attempt from the order (or from its discovery after a restart) to its reported end: starts the shim,
//! passes orders on, and afterwards ends its containers and looks whether its cards are clean.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use capstan_proto::wire::{AttemptEnded, AttemptStarted, LaunchSpec, attempt_ended::Outcome};
use capstan_types::{AttemptId, CardId};
use nix::sys::signal::Signal;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::{JoinSet, spawn_blocking};

use super::aimed;
use super::cgroup::Cgroup;
use super::farewell::Farewell;
use super::ledger::{AttemptFile, LedgerError};
use super::live::{self, LiveAttempt, LiveTable};
use super::proc;
use super::record::{Entry, ShimRecord};
use super::settling::{look_before, settle};
use super::shim::control::CARDS_USED;
use super::shim::{clear_outgoing, is_outgoing, leave_scratch, remove_files};
use super::sisters::{Asking, Wanted, answer_line, fail_line};
use super::site::{Aftermath, Refused, Site};
use super::strays::end_later;
use super::tasks::TaskTable;
use crate::cards::Warden;
use crate::ports::{Containers, Gpus};

/// How often a shim that never began is started again.
const STARTS_MAX: u32 = 3;
/// Between looks at a shim that lives but does not answer yet, or a folder that cannot be read.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How often the engine is asked to end an attempt's containers before the end is reported all the same.
const CONTAINER_TRIES: u32 = 5;
/// How long the processes of a dead shim are hunted where there are no cgroups.
const STRAYS_WAIT: Duration = Duration::from_secs(10);
const STRAYS_PAUSE: Duration = Duration::from_millis(100);

/// An order to end an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StopOrder {
    pub(super) signal: i32,
    pub(super) grace_secs: u32,
}

/// Limits that hold from now on; those that are `None` stay as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) walltime_secs: Option<u64>,
    pub(super) cput_secs: Option<u64>,
}

/// What the table orders of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ShimOrder {
    Stop(StopOrder),
    Limits(Limits),
    /// To end, with this exit status and these words.
    Fail {
        status: i32,
        words: String,
    },
}

impl ShimOrder {
    /// As the shim reads it.
    fn line(&self) -> String {
        let number = |limit: Option<u64>| limit.map_or("-".to_owned(), |limit| limit.to_string());
        match self {
            Self::Stop(StopOrder { signal, grace_secs }) => format!("stop {signal} {grace_secs}\n"),
            Self::Limits(Limits {
                walltime_secs,
                cput_secs,
            }) => format!("limits {} {}\n", number(*walltime_secs), number(*cput_secs)),
            Self::Fail { status, words } => fail_line(*status, words),
        }
    }
}

/// What a keeper tells the table.
#[derive(Debug)]
pub(super) enum News {
    Started(AttemptStarted),
    Ended(Box<AttemptEnded>),
}

/// What every keeper needs.
pub(super) struct Keeping<C, G> {
    pub(super) site: Arc<Site>,
    pub(super) containers: Arc<C>,
    pub(super) gpus: Arc<G>,
    pub(super) warden: Arc<Warden>,
    pub(super) live: LiveTable,
    pub(super) tasks: TaskTable,
    pub(super) news: mpsc::Sender<(AttemptId, News)>,
}

impl<C, G> Clone for Keeping<C, G> {
    fn clone(&self) -> Self {
        Self {
            site: self.site.clone(),
            containers: self.containers.clone(),
            gpus: self.gpus.clone(),
            warden: self.warden.clone(),
            live: self.live.clone(),
            tasks: self.tasks.clone(),
            news: self.news.clone(),
        }
    }
}

/// The keeper of one attempt.
pub(super) struct Keeper<C, G> {
    pub(super) shared: Keeping<C, G>,
    pub(super) orders: mpsc::Receiver<ShimOrder>,
}

impl<C: Containers, G: Gpus> Keeper<C, G> {
    /// Starts the attempt and follows it.
    pub(super) async fn launch(mut self, mut spec: LaunchSpec) -> AttemptEnded {
        while let Ok(order) = self.orders.try_recv() {
            match order {
                ShimOrder::Stop(order) => {
                    tracing::debug!(attempt = spec.attempt, "stopped before its start");
                    return live::ended(spec.attempt, Outcome::ExitStatus(256 + order.signal));
                }
                ShimOrder::Limits(limits) => {
                    spec.walltime_secs = limits.walltime_secs.or(spec.walltime_secs);
                    spec.cput_secs = limits.cput_secs.or(spec.cput_secs);
                }
                // What was found of it was found while it ran.
                ShimOrder::Fail { .. } => {}
            }
        }
        let site = self.shared.site.clone();
        if let Some(problem) = site.checks.at_start().await {
            let node = site.node().to_owned();
            let refused = Refused::Unwell { problem, node };
            return blocking(move || refuse(&site, spec, &refused)).await;
        }
        if let Some(ended) = look_before(&self.shared, &spec).await {
            return ended;
        }
        let live = self.shared.live.clone();
        let started = blocking(move || start(&site, &live, spec)).await;
        match started {
            Ok((attempt, shim)) => self.follow(attempt, shim.ok()).await,
            Err(ended) => *ended,
        }
    }

    /// Follows an attempt that was in the ledger when the agent started.
    pub(super) async fn adopt(self, entry: Entry) -> AttemptEnded {
        let file = self.shared.site.file(&entry);
        let attempt = Arc::new(LiveAttempt::new(entry, file));
        attempt.assume_containers();
        // A restarted agent does not know what its predecessor stopped either.
        attempt.set_paused(true);
        self.shared.live.insert(attempt.clone());
        self.follow(attempt, None).await
    }

    async fn follow(
        mut self,
        attempt: Arc<LiveAttempt>,
        mut shim: Option<std::os::unix::net::UnixStream>,
    ) -> AttemptEnded {
        let mut starts = 1;
        let mut pause = PAUSE;
        let ended = loop {
            if let Some(stream) = shim.take().and_then(|shim| UnixStream::from_std(shim).ok()) {
                self.listen(&attempt, stream).await;
            }
            let (site, entry) = (self.shared.site.clone(), attempt.clone());
            let aftermath = blocking(move || site.aftermath(&entry.entry)).await;
            match aftermath {
                Ok(Aftermath::Ended(ended)) => break *ended,
                Ok(Aftermath::Lost(why)) => break self.lose(&attempt, why).await,
                Ok(Aftermath::Live) => {
                    shim = self.connect(&attempt).await.ok();
                    if shim.is_some() {
                        pause = PAUSE;
                        continue;
                    }
                }
                Ok(Aftermath::NeverBegan) if starts > STARTS_MAX => {
                    break self.lose(&attempt, "its shim could not be started").await;
                }
                Ok(Aftermath::NeverBegan) => {
                    starts += 1;
                    shim = self.start_again(&attempt).await.ok();
                    if shim.is_some() {
                        continue;
                    }
                }
                Err(error) => {
                    tracing::warn!(attempt = %attempt.entry.attempt(), %error, "attempt cannot be looked at");
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        };
        self.clear_up(&attempt, ended).await
    }

    /// Listens to the shim until it closes, passing orders on.
    async fn listen(&mut self, attempt: &Arc<LiveAttempt>, mut stream: UnixStream) {
        let (reading, mut writing) = stream.split();
        let mut lines = BufReader::new(reading).lines();
        // Of this shim on this connection: it asks again when it is connected anew.
        let mut asked = JoinSet::new();
        loop {
            tokio::select! {
                line = lines.next_line() => match line {
                    Ok(Some(line)) => match Wanted::parse(&line) {
                        Some(wanted) => {
                            asked.abort_all();
                            let asking = Asking::new(&attempt.entry, wanted);
                            let tasks = self.shared.tasks.clone();
                            asked.spawn(async move { asking.ask(&tasks).await });
                        }
                        None => match Farewell::parse(&line) {
                            Some(farewell) => {
                                asked.abort_all();
                                let (shared, attempt) = (self.shared.clone(), attempt.clone());
                                asked.spawn(async move { shared.say_farewell(&attempt, farewell).await });
                            }
                            None => self.heard(attempt, &line).await,
                        },
                    },
                    Ok(None) | Err(_) => return,
                },
                Some(answer) = asked.join_next() => {
                    // One that was given up has no answer.
                    if let Ok(answer) = answer
                        && writing.write_all(answer_line(&answer).as_bytes()).await.is_err()
                    {
                        return;
                    }
                }
                () = attempt.cards_used.notified() => {
                    if writing.write_all(CARDS_USED.as_bytes()).await.is_err() {
                        return;
                    }
                }
                Some(order) = self.orders.recv() => {
                    let line = order.line();
                    if writing.write_all(line.as_bytes()).await.is_err() {
                        // It is ending by itself; what it writes down is the truth.
                        return;
                    }
                }
            }
        }
    }

    async fn heard(&self, attempt: &LiveAttempt, line: &str) {
        let numbers: Vec<u64> = line
            .split(' ')
            .skip(1)
            .filter_map(|word| word.parse().ok())
            .collect();
        // A younger shim may say more.
        let [pid, start_ticks, session, started_ms, ..] = numbers[..] else {
            tracing::warn!(attempt = %attempt.entry.attempt(), "shim said something unknown");
            return;
        };
        attempt.set_shim(ShimRecord {
            pid: pid as u32,
            start_ticks,
            session: session as u32,
            started_ms,
            version: 0, // Looked up where it is wanted.
        });
        let started = AttemptStarted {
            attempt: attempt.entry.spec.attempt,
            session: session as u32,
            at_ms: started_ms,
        };
        self.tell(attempt, News::Started(started)).await;
    }

    async fn tell(&self, attempt: &LiveAttempt, news: News) {
        // The table outlives its keepers, except when the agent ends; then nobody needs the news.
        let _ending = self.shared.news.send((attempt.entry.attempt(), news)).await;
    }

    async fn connect(&self, attempt: &LiveAttempt) -> io::Result<std::os::unix::net::UnixStream> {
        let file = self.shared.site.file(&attempt.entry);
        blocking(move || connect(&file)).await
    }

    async fn start_again(
        &self,
        attempt: &LiveAttempt,
    ) -> io::Result<std::os::unix::net::UnixStream> {
        tracing::warn!(attempt = %attempt.entry.attempt(), "its shim did not begin; starting another");
        let site = self.shared.site.clone();
        let file = site.file(&attempt.entry);
        blocking(move || site.spawner.start_by_exec(file.path())).await
    }

    /// Kills what a dead shim left behind, and writes down that nobody knows how the attempt ended.
    async fn lose(&self, attempt: &Arc<LiveAttempt>, why: &'static str) -> AttemptEnded {
        tracing::warn!(attempt = %attempt.entry.attempt(), why, "attempt lost");
        let ended = live::ended(attempt.entry.spec.attempt, Outcome::Lost(why.to_owned()));
        let (lost, file) = (attempt.clone(), self.shared.site.file(&attempt.entry));
        // Another attempt of the job, on its way meanwhile, has files of the same names.
        let others = self.shared.live.all();
        let is_there_again = others.iter().any(|other| {
            other.entry.spec.job_id == lost.entry.spec.job_id
                && other.entry.attempt() != lost.entry.attempt()
        });
        let (written, ended) = blocking(move || {
            kill_strays(&lost.entry);
            leave_scratch(&lost.entry, true);
            if !is_there_again {
                remove_files(&lost.entry);
            }
            (file.write_end(&ended), ended)
        })
        .await;
        if let Err(error) = written {
            // Reported all the same; after a restart the same is found out again.
            tracing::warn!(attempt = %attempt.entry.attempt(), %error, "its loss cannot be written down");
        }
        ended
    }

    /// After the processes: containers, the cgroup, and a look at the cards.
    async fn clear_up(&self, attempt: &Arc<LiveAttempt>, mut ended: AttemptEnded) -> AttemptEnded {
        let cards = attempt.entry.spec.cards.iter();
        let cards: BTreeSet<CardId> = cards.map(|card| card.uuid.as_str().into()).collect();
        self.shared.warden.settling(&cards);
        // First, so that no new container can begin.
        self.shared.live.remove(attempt.entry.attempt());
        self.shared.tasks.end_attempt(attempt.entry.attempt()).await;
        self.shared.recall_beginning(attempt, &ended).await;
        let mut are_gone = true;
        if attempt.may_have_containers() {
            are_gone = self.end_containers(attempt.entry.attempt()).await;
        }
        // The shim has removed it, unless something could not be killed or an engine made it anew.
        if let Some(cgroup) = Cgroup::at(&attempt.entry.cgroups).filter(Cgroup::exists) {
            blocking(move || cgroup.remove() || (cgroup.kill_all(|| {}) && cgroup.remove())).await;
        }
        self.shared.complete(attempt, &mut ended);
        ended.unclean_cards = self.settle(attempt, are_gone).await;
        self.shared.warden.settled(&cards);
        ended.images = self.shared.containers.images_of(attempt.entry.attempt());
        // Output that leaves the node had its footer before it left.
        if attempt.entry.spec.footer && !is_outgoing(&attempt.entry, 'o') {
            self.shared.add_footer(attempt, &ended).await;
        }
        let left = attempt.clone();
        blocking(move || clear_outgoing(&left.entry)).await;
        self.shared.site.checks.at_end().await;
        ended
    }

    /// The cards of the attempt that are not clean; its containers are all gone or not.
    async fn settle(&self, attempt: &Arc<LiveAttempt>, are_gone: bool) -> Vec<String> {
        let (shared, attempt) = (self.shared.clone(), attempt.clone());
        let cards = attempt.entry.spec.cards.iter();
        if !are_gone {
            let cards = cards.map(|card| card.uuid.clone());
            let cards: Vec<String> = cards.collect();
            for card in &cards {
                let evidence = format!("containers of job {} remain", attempt.entry.spec.job_id);
                shared
                    .warden
                    .quarantine(&card.as_str().into(), &evidence, live::now_ms());
            }
            return cards;
        }
        if attempt.entry.spec.cards.is_empty() {
            return Vec::new();
        }
        blocking(move || settle(&attempt, &*shared.gpus, &shared.warden, &shared.holders())).await
    }

    async fn end_containers(&self, attempt: AttemptId) -> bool {
        let mut pause = PAUSE;
        for _ in 0..CONTAINER_TRIES {
            match self.shared.containers.end_attempt(attempt).await {
                Ok(()) => return true,
                Err(error) => {
                    tracing::warn!(%attempt, %error, cause = error.source.to_string(), "containers remain");
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 4).min(PAUSE_MAX);
        }
        end_later(attempt, self.shared.containers.clone());
        false
    }
}

type Start = (Arc<LiveAttempt>, io::Result<std::os::unix::net::UnixStream>);

/// Writes the entry and starts the shim; the end, when it cannot even be written.
fn start(site: &Site, live: &LiveTable, spec: LaunchSpec) -> Result<Start, Box<AttemptEnded>> {
    let entry = match site.record(spec.clone()) {
        Ok(entry) => entry,
        Err(refused) => return Err(Box::new(refuse(site, spec, &refused))),
    };
    let file = site.file(&entry);
    let attempt = Arc::new(LiveAttempt::new(entry, file.clone()));
    live.insert(attempt.clone());
    Ok((attempt, site.spawner.start(file.path())))
}

/// The end of an attempt that is not begun, written down.
pub(super) fn refuse(site: &Site, spec: LaunchSpec, refused: &Refused) -> AttemptEnded {
    let attempt = spec.attempt;
    let recorded = site.record_refused(spec, refused);
    recorded.unwrap_or_else(|error| {
        // A disk that takes nothing: the server hears of it now, and again when it repeats the order.
        tracing::warn!(attempt, %error, "refusal cannot be written down");
        live::ended(attempt, refused.outcome())
    })
}

fn connect(file: &AttemptFile) -> io::Result<std::os::unix::net::UnixStream> {
    connect_to(&file.control())
}

/// Connects to a socket of ours. Blocks for a moment.
pub(super) fn connect_to(socket: &Path) -> io::Result<std::os::unix::net::UnixStream> {
    use std::os::fd::AsRawFd;
    let (Some(folder), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Err(io::ErrorKind::NotFound.into());
    };
    // By way of a descriptor: the path of a socket must be short, that of the state folder need not be.
    let folder = std::fs::File::open(folder)?;
    let socket = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string());
    let stream = std::os::unix::net::UnixStream::connect(socket.join(name))?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// Kills the processes of an attempt whose shim is dead.
fn kill_strays(entry: &Entry) {
    if let Some(cgroup) = Cgroup::at(&entry.cgroups)
        && !cgroup.kill_all(|| {})
    {
        tracing::error!(attempt = %entry.attempt(), "processes cannot be killed");
    }
    // What was forked before its family was in the cgroup, or where there is none, is known by its cookie.
    let Some(identity) = &entry.identity else {
        return;
    };
    let variable = format!("PBS_JOBCOOKIE={}", entry.cookie);
    let deadline = Instant::now() + STRAYS_WAIT;
    loop {
        let strays = proc::with_variable(identity.uid, &variable);
        if strays.is_empty() || Instant::now() > deadline {
            return;
        }
        let again = || proc::with_variable(identity.uid, &variable);
        // Some may have ended since.
        let _killed = aimed::send(&strays, Signal::SIGKILL, again);
        std::thread::sleep(STRAYS_PAUSE);
    }
}

/// Runs what may block away from the event loop. Its panic is ours.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is ending; nothing that follows will run either.
            Err(_) => std::future::pending().await,
        },
    }
}

/// Drops an attempt from the ledger, off the event loop.
pub(super) async fn forget(site: Arc<Site>, attempt: AttemptId) -> Result<(), LedgerError> {
    blocking(move || site.ledger.remove(attempt)).await
}
