//! The table of attempts: one task owns it, the server's orders and the keepers' news act on it, and every change
//! that the server must hear of is reported from here.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;

use capstan_proto::wire::{
    AgentMessage, AttemptEnded, AttemptUse, KnownAttempt, LaunchSpec, agent_message::Message,
    attempt_ended::Outcome,
};
use capstan_types::AttemptId;
use nix::sys::signal::Signal;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::cgroup::Cgroup;
use super::guests::Guests;
use super::keeper::{Keeper, Keeping, Limits, News, ShimOrder, StopOrder, forget};
use super::ledger::{Found, LedgerError};
use super::live::{self, LiveTable};
use super::phase::Phase;
use super::proc::boot_id;
use super::reconcile::{Action, Known, reconcile};
use super::signalling::wake;
use super::site::Site;
use super::strays::{end_guests, sweep};
use super::tasks::TaskTable;
use super::tasks::guard::{self, Orphans};
use crate::cards::Warden;
use crate::ports::{Containers, Gpus};

/// Orders and news that may wait; who has more waits itself.
const QUEUE_MAX: usize = 1024;
/// Stop orders that may wait for one shim; the first one does the work.
const STOPS_MAX: usize = 4;
/// Changes of limits that may wait for one shim; places for stop orders are kept free.
const LIMITS_MAX: usize = 12;
/// Attempts that a node may have; the server places by slots, so this is only reached by a fault.
const ATTEMPTS_MAX: usize = 65_536;

/// What the server wants.
#[derive(Debug)]
pub enum Order {
    /// A new connection: reports go to `out` from here on; `known` is what the hello says.
    Attach {
        /// Bounded; when it is full it is dropped, and the next hello says it all again.
        out: mpsc::Sender<AgentMessage>,
        /// Dropped together with `out`.
        holding: oneshot::Sender<Infallible>,
        /// Gets every attempt of the ledger.
        known: oneshot::Sender<Vec<KnownAttempt>>,
    },
    /// What should run here.
    Welcome(BTreeSet<AttemptId>),
    /// Of the attempts whose script runs on another node these have a share here; tasks of others end.
    Guests(BTreeSet<AttemptId>),
    /// Start it, or report how far it is.
    Start(Box<LaunchSpec>),
    /// End it.
    Stop {
        /// Which.
        attempt: AttemptId,
        /// First signal.
        signal: i32,
        /// Seconds until the last one.
        grace_secs: u32,
    },
    /// Other limits hold from now on; those that are `None` stay as they are.
    Adjust {
        /// Which.
        attempt: AttemptId,
        /// Seconds from its start.
        walltime_secs: Option<u64>,
        /// CPU seconds.
        cput_secs: Option<u64>,
        /// Bytes of memory, where a cgroup bounds it.
        memory_bytes: Option<u64>,
    },
    /// It is to end, for something that the agent found: with this exit status, and these words for its user.
    Fail {
        /// Which.
        attempt: AttemptId,
        /// As the job's own.
        status: i32,
        /// One line.
        words: String,
    },
    /// Its end is on the server's disk.
    Forget(AttemptId),
}

/// Resolves, with an error, when reports go nowhere any more.
pub type Held = oneshot::Receiver<Infallible>;

/// The attempts of this node. A cheap handle; the table ends when the last one is dropped.
#[derive(Clone)]
pub struct Supervisor {
    orders: mpsc::Sender<Order>,
    pub(super) live: LiveTable,
    pub(super) site: Arc<Site>,
    pub(super) tasks: TaskTable,
    warden: Arc<Warden>,
    pub(super) guests: Guests,
    pub(super) orphans: Orphans,
}

impl Supervisor {
    /// Reads the ledger, adopts what it holds, clears away what belongs to nobody, and starts taking orders.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn start<C: Containers, G: Gpus>(
        site: Site,
        containers: Arc<C>,
        gpus: Arc<G>,
    ) -> Result<(Self, JoinHandle<()>), LedgerError> {
        let (orders, ordered) = mpsc::channel(QUEUE_MAX);
        let (news, heard) = mpsc::channel(QUEUE_MAX);
        let site = Arc::new(site);
        let live = LiveTable::default();
        let tasks = TaskTable::default();
        let warden = Arc::new(Warden::open(site.state_folder(), &boot_id()));
        let shared = Keeping {
            tasks: tasks.clone(),
            site: site.clone(),
            containers,
            gpus,
            warden: warden.clone(),
            live: live.clone(),
            news,
        };
        let mut table = Table {
            rows: BTreeMap::new(),
            out: None,
            shared,
        };
        for found in site.ledger.read_all()? {
            table.adopt(found);
        }
        let mut known: BTreeSet<AttemptId> = table.rows.keys().copied().collect();
        // Also those whose script runs elsewhere, and somebody's program here.
        let (programs, orphans) = guard::adopt(&site.ledger, &tasks);
        known.extend(programs);
        sweep(known, &site.cgroups, table.shared.containers.clone());
        let guests = Guests::keep(table.shared.containers.clone());
        let task = tokio::spawn(table.run(ordered, heard));
        let supervisor = Self {
            orders,
            live,
            site,
            tasks,
            warden,
            guests,
            orphans,
        };
        Ok((supervisor, task))
    }

    /// Gives an order; waits when too many are waiting.
    pub async fn order(&self, order: Order) {
        // The table ends only with its last handle, which is at least us.
        let _ending = self.orders.send(order).await;
    }

    /// Sends reports to `out` from now on; returns every attempt of the ledger, and what resolves when a report could
    /// not be sent: the connection must then be made anew.
    pub async fn attach(&self, out: mpsc::Sender<AgentMessage>) -> (Vec<KnownAttempt>, Held) {
        let (known, answer) = oneshot::channel();
        let (holding, held) = oneshot::channel();
        self.order(Order::Attach {
            out,
            holding,
            known,
        })
        .await;
        (answer.await.unwrap_or_default(), held)
    }

    /// What each attempt uses now. Blocks.
    #[must_use]
    pub fn usage(&self) -> Vec<AttemptUse> {
        let mut usage = self.live.usage();
        usage.extend(self.tasks.visits().usage());
        usage
    }

    /// Who watches over this node's cards.
    #[must_use]
    pub fn warden(&self) -> &Arc<Warden> {
        &self.warden
    }
}

struct Row {
    job_id: String,
    kill_delay_secs: u32,
    phase: Phase,
    orders: mpsc::Sender<ShimOrder>,
}

struct Table<C, G> {
    rows: BTreeMap<AttemptId, Row>,
    out: Option<(mpsc::Sender<AgentMessage>, oneshot::Sender<Infallible>)>,
    shared: Keeping<C, G>,
}

impl<C: Containers, G: Gpus> Table<C, G> {
    async fn run(
        mut self,
        mut orders: mpsc::Receiver<Order>,
        mut news: mpsc::Receiver<(AttemptId, News)>,
    ) {
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.obey(order),
                    None => return,
                },
                Some((attempt, news)) = news.recv() => self.hear(attempt, news),
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Attach {
                out,
                holding,
                known,
            } => {
                self.out = Some((out, holding));
                let all = self
                    .rows
                    .iter()
                    .map(|(attempt, row)| row.phase.known(*attempt, &row.job_id));
                // A connection that is gone already asks again.
                let _gone = known.send(all.collect());
            }
            Order::Welcome(wanted) => self.reconcile(&wanted),
            Order::Guests(mut wanted) => {
                wanted.extend(self.rows.keys());
                end_guests(&wanted, &self.shared.tasks, &self.shared.containers);
            }
            Order::Start(spec) => self.start(*spec),
            Order::Stop {
                attempt,
                signal,
                grace_secs,
            } => self.stop(attempt, StopOrder { signal, grace_secs }),
            Order::Adjust {
                attempt,
                walltime_secs,
                cput_secs,
                memory_bytes,
            } => {
                let limits = Limits {
                    walltime_secs,
                    cput_secs,
                };
                self.adjust(attempt, limits, memory_bytes);
            }
            Order::Fail {
                attempt,
                status,
                words,
            } => self.fail(attempt, ShimOrder::Fail { status, words }),
            Order::Forget(attempt) => self.forget(attempt),
        }
    }

    fn fail(&self, attempt: AttemptId, order: ShimOrder) {
        if let Some(row) = self.rows.get(&attempt)
            && !matches!(row.phase, Phase::Ended(_))
            && row.orders.capacity() > STOPS_MAX
        {
            // Closed: it has ended by itself meanwhile.
            let _ended = row.orders.try_send(order);
        }
    }

    fn reconcile(&mut self, wanted: &BTreeSet<AttemptId>) {
        let known = self.rows.iter().map(|(attempt, row)| match row.phase {
            Phase::Starting | Phase::Running(_) => (*attempt, Known::Live),
            Phase::Ended(_) => (*attempt, Known::Ended),
        });
        for Action::Stop(attempt) in reconcile(&known.collect(), wanted) {
            tracing::info!(%attempt, "not wanted by the server any more");
            let grace_secs = self.rows.get(&attempt).map_or(0, |row| row.kill_delay_secs);
            let signal = Signal::SIGTERM as i32;
            self.stop(attempt, StopOrder { signal, grace_secs });
        }
    }

    fn start(&mut self, spec: LaunchSpec) {
        let attempt = AttemptId(spec.attempt);
        if let Some(row) = self.rows.get(&attempt) {
            if let Some(report) = row.phase.report() {
                self.report(report);
            }
            return;
        }
        if self.rows.len() >= ATTEMPTS_MAX {
            let problem = format!("the node already has {ATTEMPTS_MAX} attempts");
            let ended = live::ended(spec.attempt, Outcome::Lost(problem));
            self.report(Message::Ended(ended));
            return;
        }
        tracing::info!(%attempt, job = spec.job_id, "starting");
        let keeper = self.row(attempt, &spec);
        self.keep(attempt, keeper.launch(spec));
    }

    fn adopt(&mut self, found: Found) {
        let Found { attempt, entry } = found;
        match entry {
            Ok(entry) => {
                match self.shared.site.drop_unbegun(&entry) {
                    Ok(true) => {
                        tracing::info!(%attempt, "never began; dropped");
                        return;
                    }
                    Ok(false) => {}
                    Err(error) => tracing::warn!(%attempt, %error, "cannot be looked at"),
                }
                tracing::info!(%attempt, job = entry.spec.job_id, "found in the ledger");
                let keeper = self.row(attempt, &entry.spec);
                self.keep(attempt, keeper.adopt(entry));
            }
            Err(error) => {
                let file = self.shared.site.ledger.file(attempt);
                if file.has_begun() == Some(false) && matches!(file.is_live(), Ok(false)) {
                    // Torn by the crash that kept its shim from starting: the server orders it again.
                    tracing::warn!(%attempt, %error, "a torn entry is dropped");
                    self.forget_file(attempt);
                    return;
                }
                tracing::error!(%attempt, %error, "the entry of a started attempt is damaged");
                self.lose_damaged(attempt);
            }
        }
    }

    /// An attempt that ran, and of which only the number is known: its processes end, and the server judges.
    fn lose_damaged(&mut self, attempt: AttemptId) {
        let spec = LaunchSpec {
            attempt: attempt.0,
            ..LaunchSpec::default()
        };
        drop(self.row(attempt, &spec));
        let site = self.shared.site.clone();
        self.keep(attempt, async move {
            let killing = tokio::task::spawn_blocking(move || site.end_damaged(attempt));
            let problem = match killing.await {
                Ok(true) => "the agent's record of the attempt is damaged",
                Ok(false) | Err(_) => "the agent's record is damaged and processes may be left",
            };
            live::ended(attempt.0, Outcome::Lost(problem.to_owned()))
        });
    }

    fn row(&mut self, attempt: AttemptId, spec: &LaunchSpec) -> Keeper<C, G> {
        let (sender, orders) = mpsc::channel(STOPS_MAX + LIMITS_MAX);
        let row = Row {
            job_id: spec.job_id.clone(),
            kill_delay_secs: spec.kill_delay_secs,
            phase: Phase::Starting,
            orders: sender,
        };
        self.rows.insert(attempt, row);
        Keeper {
            shared: self.shared.clone(),
            orders,
        }
    }

    /// Runs a keeper; one that fails loses its own attempt and no other.
    fn keep(
        &self,
        attempt: AttemptId,
        keeper: impl Future<Output = AttemptEnded> + Send + 'static,
    ) {
        let (news, live) = (self.shared.news.clone(), self.shared.live.clone());
        let keeper = tokio::spawn(keeper);
        tokio::spawn(async move {
            let ended = match keeper.await {
                Ok(ended) => ended,
                Err(error) => {
                    tracing::error!(%attempt, %error, "the keeper of an attempt failed");
                    live.remove(attempt);
                    live::ended(
                        attempt.0,
                        Outcome::Lost("the agent failed to follow it".into()),
                    )
                }
            };
            // The table is gone only when the agent ends; the ledger knows.
            let _ending = news.send((attempt, News::Ended(Box::new(ended)))).await;
        });
    }

    fn stop(&mut self, attempt: AttemptId, order: StopOrder) {
        let Some(row) = self.rows.get(&attempt) else {
            tracing::debug!(%attempt, "asked to stop an unknown attempt");
            // Repeated for ever otherwise: the server waits for an end that nobody else will report.
            let problem = "the agent does not know the attempt".to_owned();
            self.report(Message::Ended(live::ended(
                attempt.0,
                Outcome::Lost(problem),
            )));
            return;
        };
        match &row.phase {
            Phase::Starting | Phase::Running(_) => {
                // Full or closed: it is being stopped, or has ended and is about to be reported.
                let _enough = row.orders.try_send(ShimOrder::Stop(order));
                // One that is paused could not hear the signal.
                if let Some(live) = self
                    .shared
                    .live
                    .get(attempt)
                    .filter(|live| live.is_paused())
                {
                    tokio::task::spawn_blocking(move || wake(&live));
                }
            }
            Phase::Ended(ended) => self.report(Message::Ended(AttemptEnded::clone(ended))),
        }
    }

    fn adjust(&self, attempt: AttemptId, limits: Limits, memory_bytes: Option<u64>) {
        let Some(row) = self.rows.get(&attempt) else {
            return; // Nobody waits for it: what ended needs no limits.
        };
        tracing::info!(%attempt, ?limits, memory_bytes, "other limits");
        let has_room = row.orders.capacity() > STOPS_MAX;
        if !has_room || row.orders.try_send(ShimOrder::Limits(limits)).is_err() {
            tracing::warn!(%attempt, "its shim does not take other limits");
        }
        let cgroup = Cgroup::at(&self.shared.site.cgroups.folders(attempt));
        if let Some((cgroup, bytes)) = cgroup.zip(memory_bytes) {
            tokio::task::spawn_blocking(move || cgroup.limit_memory(bytes));
        }
    }

    fn forget(&mut self, attempt: AttemptId) {
        match self.rows.get(&attempt).map(|row| &row.phase) {
            Some(Phase::Ended(_)) => {
                self.rows.remove(&attempt);
                self.forget_file(attempt);
            }
            Some(Phase::Starting | Phase::Running(_)) => {
                tracing::error!(%attempt, "asked to forget an attempt that runs; kept");
            }
            None => {}
        }
    }

    fn forget_file(&self, attempt: AttemptId) {
        let site = self.shared.site.clone();
        tokio::spawn(async move {
            if let Err(error) = forget(site, attempt).await {
                tracing::warn!(%attempt, %error, "its file remains");
            }
        });
    }

    fn hear(&mut self, attempt: AttemptId, news: News) {
        let Some(row) = self.rows.get_mut(&attempt) else {
            return;
        };
        let (phase, report) = match (&row.phase, news) {
            (Phase::Starting | Phase::Running(_), News::Started(started)) => {
                (Phase::Running(started), Message::Started(started))
            }
            (_, News::Ended(ended)) => (Phase::Ended(ended.clone()), Message::Ended(*ended)),
            (Phase::Ended(_), News::Started(_)) => return,
        };
        tracing::info!(%attempt, job = row.job_id, phase = phase.name(), "attempt");
        row.phase = phase;
        self.report(report);
    }

    fn report(&mut self, message: Message) {
        let message = AgentMessage {
            message: Some(message),
        };
        let Some((out, _)) = &self.out else { return };
        if out.try_send(message).is_err() {
            // The link sees it, gives the connection up as well, and its next hello says all of it.
            tracing::warn!("reports do not get through");
            self.out = None;
        }
    }
}
