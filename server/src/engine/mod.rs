//! The engine: one thread that owns the state and the store. It takes all requests that wait, decides each at its
//! time, stores them as one group, and only then shows the new state, answers, and gives orders. It decides nothing
//! itself: that is the core's.

mod deadline;
mod dispatch;
mod group;
mod inbox;
mod links;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use capstan_core::{Event, Plan, PlanOrder, State, WaitBook};
use capstan_store::{Store, StoreError};
use capstan_types::Timestamp;
use tokio_util::sync::DropGuard;

use crate::clerk::Clerk;
use crate::clock::Clock;
use crate::snapshot::{Latest, Snapshot};
use crate::telemetry::Telemetry;

pub(crate) use inbox::{EngineHandle, Refused, Request};
pub(crate) use links::{Link, OUTBOX_MAX};

pub(crate) use dispatch::payload_id;

use dispatch::Dispatch;
use group::Pending;
use inbox::Inbox;

/// A plan is made when the inbox is empty, but under load at least this often.
const PLAN_OVERDUE: Duration = Duration::from_millis(100);
/// After a plan that took a time, so many times that time is left to requests: plans of a long queue take a tenth of
/// the engine, whatever comes in.
const PLAN_REST: u32 = 9;
/// The longest such rest.
const PLAN_REST_MAX: Duration = Duration::from_secs(1);
/// After something could not be stored, the engine's own events are tried again after so long.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Time alone is looked at no more often than this.
const TICK_PAUSE: Duration = Duration::from_secs(1);

/// What the engine needs from the world.
pub(crate) struct World {
    pub(crate) clerk: Clerk,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) latest: Arc<Latest>,
    pub(crate) heartbeat_secs: u32,
    /// Dropped when the engine's thread ends, however it ends.
    pub(crate) alive: DropGuard,
}

/// The running engine.
pub(crate) struct Running {
    pub(crate) handle: EngineHandle,
    pub(crate) thread: std::thread::JoinHandle<anyhow::Result<()>>,
}

/// Stores that the server has started, and starts the engine's thread.
///
/// # Errors
/// When that cannot be stored, or there is no thread to be had.
pub(crate) fn start(
    store: Box<dyn Store>,
    state: State,
    settings: Arc<capstan_core::Settings>,
    world: World,
) -> anyhow::Result<Running> {
    let (handle, inbox) = EngineHandle::new();
    let World {
        clerk,
        telemetry,
        latest,
        heartbeat_secs,
        alive,
    } = world;
    let mut engine = Engine {
        clock: Clock::starting_at(Timestamp::default()),
        dispatch: Dispatch::new(store.payload_reader(), clerk, telemetry, heartbeat_secs),
        state,
        store,
        latest,
        last_plan: Arc::default(),
        waits: WaitBook::default(),
        plan: PlanSchedule::now(),
        ticks: TickSchedule::now(),
        later: Vec::new(),
        stop: None,
    };
    let is_stored = engine.decide(vec![own(Event::ServerStarted(settings))]);
    if let Some(Err(error)) = engine.stop {
        return Err(anyhow::Error::new(error).context("storing that the server has started"));
    }
    anyhow::ensure!(
        is_stored,
        "the start of the server could not be stored (the log says why); nothing was changed"
    );
    let thread = std::thread::Builder::new().name("engine".to_owned());
    let thread = thread.spawn(move || {
        let result = engine.run(inbox);
        drop(alive);
        result
    });
    let thread = thread.context("starting the engine's thread")?;
    Ok(Running { handle, thread })
}

struct Engine {
    clock: Clock,
    state: State,
    store: Box<dyn Store>,
    dispatch: Dispatch,
    latest: Arc<Latest>,
    /// What the last plan said.
    last_plan: Arc<Plan>,
    /// What waiting jobs have waited for.
    waits: WaitBook,
    plan: PlanSchedule,
    ticks: TickSchedule,
    /// Events of the engine's own that could not be stored, to be tried again.
    later: Vec<Event>,
    /// Set when the engine must end: cleanly, or because the store is in doubt.
    stop: Option<Result<(), Arc<StoreError>>>,
}

/// When the next plan is due.
struct PlanSchedule {
    /// Since when something has changed that a plan looks at.
    dirty_since: Option<Instant>,
    not_before: Instant,
}

/// When time alone makes something due.
struct TickSchedule {
    /// The earliest; meaningless while `is_stale`.
    due: Option<Timestamp>,
    is_stale: bool,
    /// What was due until then has been dealt with.
    done_until: Timestamp,
    not_before: Instant,
}

impl PlanSchedule {
    fn now() -> Self {
        let now = Instant::now();
        Self {
            dirty_since: Some(now),
            not_before: now,
        }
    }
}

impl TickSchedule {
    fn now() -> Self {
        Self {
            due: None,
            is_stale: true,
            done_until: Timestamp::default(),
            not_before: Instant::now(),
        }
    }
}

impl Engine {
    fn run(mut self, mut inbox: Inbox) -> anyhow::Result<()> {
        while self.stop.is_none() {
            let timeout = self.rest();
            let group = inbox.gather(timeout);
            let was_idle = group.is_empty();
            if !was_idle {
                let callers = group.iter().filter(|request| request.is_call()).count();
                self.decide(group);
                inbox.answered(callers);
            }
            if self.stop.is_none() {
                self.retry_if_due();
                self.tick_if_due();
                self.plan_if_due(was_idle);
            }
        }
        self.end()
    }

    fn end(mut self) -> anyhow::Result<()> {
        self.dispatch.links.clear();
        match self.stop.take() {
            Some(Err(error)) => Err(error).context("the store failed"),
            Some(Ok(())) | None => self.store.close().context("closing the store"),
        }
    }

    /// How long there is nothing to do but to wait for requests; `None` is for ever.
    fn rest(&self) -> Option<Duration> {
        let now = Instant::now();
        let plan = self.plan.dirty_since.map(|_| self.plan.not_before);
        let tick = match (self.ticks.is_stale, self.ticks.due) {
            (true, _) => Some(self.ticks.not_before),
            (false, Some(due)) => {
                let wait = due.0.saturating_sub(crate::clock::wall().0);
                Some((now + Duration::from_millis(wait)).max(self.ticks.not_before))
            }
            (false, None) => None,
        };
        let next = plan.into_iter().chain(tick).min()?;
        Some(next.saturating_duration_since(now))
    }

    fn retry_if_due(&mut self) {
        if self.later.is_empty() || Instant::now() < self.ticks.not_before {
            return;
        }
        let events = std::mem::take(&mut self.later).into_iter();
        let requests = events
            .filter(|event| self.dispatch.is_still_true(event))
            .map(own);
        let requests: Vec<Request> = requests.collect();
        self.decide(requests);
    }

    fn tick_if_due(&mut self) {
        if Instant::now() < self.ticks.not_before {
            return;
        }
        let now = self.clock.now();
        if self.ticks.is_stale {
            self.ticks.not_before = Instant::now() + TICK_PAUSE;
            self.ticks.is_stale = false;
            let after = self.ticks.done_until;
            let planned = self.last_plan.look_again.filter(|at| *at > after);
            let due = deadline::next_due(&self.state, after).into_iter();
            self.ticks.due = due.chain(planned).min();
        }
        if self.ticks.due.is_none_or(|due| due > now) {
            return;
        }
        // What the tick leaves undone is not tried again before something else happens: it waits for that.
        self.ticks.done_until = now;
        self.ticks.is_stale = true;
        self.ticks.not_before = Instant::now() + TICK_PAUSE;
        self.plan.dirty_since.get_or_insert_with(Instant::now);
        self.decide(vec![own(Event::Tick)]);
    }

    fn plan_if_due(&mut self, was_idle: bool) {
        let now = Instant::now();
        let is_overdue = self
            .plan
            .dirty_since
            .is_some_and(|since| now - since >= PLAN_OVERDUE);
        let may = self.plan.dirty_since.is_some() && now >= self.plan.not_before;
        if may && (was_idle || is_overdue) {
            self.make_plan();
        }
    }

    fn make_plan(&mut self) {
        let began = Instant::now();
        let span = tracing::debug_span!("plan");
        let at = self.clock.now();
        let plan = span.in_scope(|| capstan_core::plan(&self.state, at));
        let took = began.elapsed();
        self.plan.dirty_since = None;
        self.plan.not_before = Instant::now() + (took * PLAN_REST).min(PLAN_REST_MAX);
        let plan = Arc::new(plan);
        self.last_plan = plan.clone();
        self.ticks.is_stale |= plan.look_again.is_some();
        tracing::debug!(parent: &span, placed = plan.placements.len(), waiting = plan.reasons.len(), ?took, "planned");
        let is_idle = plan.placements.is_empty() && plan.preemptions.is_empty();
        if is_idle && plan.preparations.is_empty() {
            self.waits.note(&self.state, &plan.reasons, at);
            self.publish();
            return;
        }
        let placements = plan.placements.clone();
        let waited = placements.iter().map(|placement| placement.job);
        let waits = waited.map(|job| (job, self.waits.of(job, at)));
        let waits = waits.filter(|(_, waits)| !waits.is_empty()).collect();
        self.waits.note(&self.state, &plan.reasons, at);
        let order = PlanOrder {
            at,
            placements,
            preemptions: plan.preemptions.clone(),
            waits,
            preparations: plan.preparations.clone(),
        };
        self.decide(vec![own(Event::Planned(order))]);
    }

    /// Decides, stores, shows, answers and dispatches a group; returns whether it was stored.
    fn decide(&mut self, requests: Vec<Request>) -> bool {
        let before = self.state.clone();
        let mut group = Pending::default();
        for request in requests {
            if let Request::Stop = request {
                self.stop.get_or_insert(Ok(()));
            }
            self.take(request, &mut group);
        }
        let stored = match group.records.as_slice() {
            [] => Ok(()),
            records => self.store.commit(records),
        };
        let is_stored = stored.is_ok();
        match stored {
            Ok(()) => self.carry_out(group),
            Err(error) => self.undo(before, group, error),
        }
        // Orders that could not be given make events of their own.
        let followups = self.dispatch.take_followups();
        if !followups.is_empty() {
            self.decide(followups.into_iter().map(own).collect());
        }
        is_stored
    }

    /// Decides one request.
    fn take(&mut self, request: Request, group: &mut Pending) {
        let Some((event, answerer)) = self.dispatch.admit(request) else {
            return;
        };
        let now = self.clock.now();
        let span = tracing::info_span!("event", name = group::name(&event));
        let outcome = span.in_scope(|| capstan_core::apply(&mut self.state, &event, now));
        if let Err(rejection) = &outcome {
            tracing::debug!(parent: &span, %rejection, "refused");
        }
        group.add(event, now, outcome, answerer);
    }

    fn carry_out(&mut self, group: Pending) {
        let Pending {
            records,
            effects,
            answers,
            is_plan_wanted,
        } = group;
        if !records.is_empty() {
            self.ticks.is_stale = true;
            if is_plan_wanted {
                self.plan.dirty_since.get_or_insert_with(Instant::now);
            }
            self.publish();
        }
        for record in &records {
            self.dispatch.note(record.at, &record.event, &self.state);
        }
        for (answerer, result) in answers {
            self.dispatch.answer(answerer, result);
        }
        for effect in effects {
            self.dispatch.carry_out(effect, &self.state);
        }
    }

    /// Nothing of the group is on disk: the state goes back, everyone is told, nothing is done.
    fn undo(&mut self, before: State, group: Pending, error: StoreError) {
        self.state = before;
        let requests = group.answers.len();
        let error = Arc::new(error);
        // Nobody else will say again that a link is gone.
        let events = group.records.into_iter().map(|record| record.event);
        let detached = events.filter(|event| matches!(event, Event::NodeDetached { .. }));
        self.later.extend(detached);
        tracing::error!(error = ?error, requests, "a group could not be stored and was refused");
        for (answerer, _) in group.answers {
            let refused = Err(Refused::NotStored(error.clone()));
            self.dispatch.answer(answerer, refused);
        }
        let retry = Instant::now() + RETRY_AFTER;
        self.plan.dirty_since.get_or_insert_with(Instant::now);
        self.plan.not_before = self.plan.not_before.max(retry);
        self.ticks.is_stale = true;
        self.ticks.not_before = self.ticks.not_before.max(retry);
        self.ticks.done_until = Timestamp::default();
        if group::is_fatal(&error) {
            self.stop = Some(Err(error));
        }
    }

    fn publish(&mut self) {
        self.latest.put(Snapshot {
            state: self.state.clone(),
            plan: self.last_plan.clone(),
            statistics: self.store.statistics(),
        });
    }
}

/// An event of the engine's own, that nobody waits for.
fn own(event: Event) -> Request {
    Request::Event {
        event,
        answer: None,
    }
}
