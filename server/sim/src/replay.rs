//! The virtual clock: hands the core each job when it came and each end when it is due, asks for a plan whenever something
//! has changed, and starts what it places. Time jumps from one event to the next. Decides only what happens in which
//! order: of one instant all ends, then all that come, then the plan.

mod job;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

use capstan_core::{
    AttemptReport, Effect, Event, Job, JobState, Outcome, Plan, PlanOrder, Rejection, Reply,
    ReportedPhase, State, Usage, apply, decide,
};
use capstan_types::{AttemptId, JobId, NodeName, Timestamp};

use crate::lending::Lending;
use crate::rate::{Rate, cpu_s};
use crate::{Ask, SimError, Site, Trace, TraceJob};
use job::{Entrance, submission};

/// Ended jobs that may stay in the state until they are swept out.
const ENDED_MAX: usize = 256;

/// Plans of one instant: a plan is made again only while its placements bring forth something new.
const PLANS_PER_INSTANT_MAX: usize = 16;

/// Looks at the clock alone, one after another without anything having happened: then nothing will.
const IDLE_LOOKS_MAX: usize = 100_000;

/// Between two words about how far it is.
const PROGRESS_EVERY: u64 = 512;

/// How far a simulation is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Jobs that have ended.
    pub ended: usize,
    /// All jobs.
    pub jobs: usize,
    /// Jobs that wait.
    pub waiting: usize,
}

/// What became of one job of the trace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobRun {
    /// When its last attempt started and ended, and what it held where; `None` when it never started.
    pub start: Option<Timestamp>,
    /// By when it was called likely to start, if it was told anything before it did.
    pub likely_by: Option<Timestamp>,
    /// When it ended for good.
    pub end: Option<Timestamp>,
    /// Cards (or cores) that it held.
    pub size: u32,
    /// The nodes of its last attempt, by their place in the cluster.
    pub nodes: Vec<NodeName>,
    /// How often it was put back into its queue.
    pub requeues: u32,
}

/// How much was in use, and how many waited, from one time on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Since when.
    pub at: Timestamp,
    /// Cards in use.
    pub used: u64,
    /// Jobs waiting.
    pub waiting: usize,
}

/// A whole simulation.
#[derive(Debug, Default)]
pub struct Run {
    /// What became of each job, in the trace's order.
    pub jobs: Vec<JobRun>,
    /// Use and waits over time.
    pub samples: Vec<Sample>,
    /// Jobs that the server refused, and its words about the first.
    pub refused: usize,
    /// Likewise.
    pub first_refusal: Option<String>,
    /// Seconds in which the first in line waited although the free cards of all nodes together would have done.
    pub(crate) head_blocked_s: f64,
    /// Card-seconds in use between the first and the last submission.
    pub(crate) used_card_s: f64,
    pub(crate) plans: Rate,
    pub(crate) events: Rate,
    pub(crate) cpu_s: f64,
}

/// Runs the jobs of `trace` on `site`; `tell` is called now and then.
///
/// # Errors
/// Settings that the core refuses.
pub fn replay(trace: &Trace, site: &Site, tell: &mut dyn FnMut(Progress)) -> Result<Run, SimError> {
    let cpu_before = cpu_s();
    let start = trace.jobs.first().map_or(0, |job| job.submit_secs);
    let start = Timestamp(0).plus_secs(start);
    let mut world = World::new(trace, site, start)?;
    let mut instants = 0;
    while let Some(now) = world.next() {
        world.pass_to(now);
        world.happen(now);
        world.plan(now);
        instants += 1;
        if instants % PROGRESS_EVERY == 0 {
            tell(world.progress());
        }
    }
    tell(world.progress());
    world.run.cpu_s = cpu_s() - cpu_before;
    Ok(world.run)
}

struct World<'a> {
    jobs: &'a [TraceJob],
    entrance: Entrance<'a>,
    state: State,
    now: Timestamp,
    last_submit: Timestamp,
    /// The job that comes next.
    coming: usize,
    /// Attempts by the time at which they end. An attempt that is to end earlier after all is in it twice.
    ends: BinaryHeap<Reverse<(Timestamp, AttemptId)>>,
    going: BTreeMap<AttemptId, Going>,
    by_seq: BTreeMap<u64, usize>,
    waiting: BTreeSet<usize>,
    /// Nodes and cards on each that every job asks for, by its place in the trace; and how many wait for what.
    shapes: Vec<(u32, u32)>,
    waiting_by_shape: BTreeMap<(u32, u32), usize>,
    /// Whether the shapes say all that matters: nodes are as described, and requests are for cards alone.
    is_exact: bool,
    /// The first in line, when it was last asked.
    head: Option<usize>,
    lending: Lending,
    capacity: u64,
    ended: usize,
    ended_since_tick: usize,
    /// When the plan may come out differently although nothing happens.
    next_look: Option<Timestamp>,
    idle_looks: usize,
    is_head_blocked: bool,
    run: Run,
}

/// An attempt that runs.
struct Going {
    job: usize,
    node: NodeName,
    ends: Timestamp,
    is_stopped: bool,
}

impl<'a> World<'a> {
    fn new(trace: &'a Trace, site: &'a Site, start: Timestamp) -> Result<Self, SimError> {
        let state = site.state(start)?;
        let last = trace.jobs.last().map_or(0, |job| job.submit_secs);
        let lending = Lending::new(&site.cluster);
        let entrance = Entrance::new(&site.cluster, state.settings());
        let mut asks = trace.jobs.iter().map(|job| &job.ask);
        Ok(Self {
            jobs: &trace.jobs,
            shapes: trace.jobs.iter().map(|job| entrance.gang(job)).collect(),
            waiting_by_shape: BTreeMap::new(),
            is_exact: site.is_plain() && asks.all(|ask| matches!(ask, Ask::Slots(_))),
            head: None,
            entrance,
            state,
            now: start,
            last_submit: Timestamp(0).plus_secs(last),
            coming: 0,
            ends: BinaryHeap::new(),
            going: BTreeMap::new(),
            by_seq: BTreeMap::new(),
            waiting: BTreeSet::new(),
            capacity: lending.free_in_all(),
            lending,
            ended: 0,
            ended_since_tick: 0,
            next_look: None,
            idle_looks: 0,
            is_head_blocked: false,
            run: Run {
                jobs: vec![JobRun::default(); trace.jobs.len()],
                ..Run::default()
            },
        })
    }

    fn progress(&self) -> Progress {
        Progress {
            ended: self.ended,
            jobs: self.jobs.len(),
            waiting: self.waiting.len(),
        }
    }

    /// When something happens next; `None` when nothing will.
    fn next(&mut self) -> Option<Timestamp> {
        let end = self.ends.peek().map(|Reverse((at, _))| *at);
        let submit = self.jobs.get(self.coming).map(submit_time);
        let event = end.into_iter().chain(submit).min();
        // Nobody waits: there is nothing to look at.
        let look = self.next_look.filter(|_| !self.waiting.is_empty());
        match (event, look) {
            (Some(event), Some(look)) if look < event => Some(look),
            (Some(event), _) => {
                self.idle_looks = 0;
                Some(event)
            }
            (None, Some(look)) if self.idle_looks < IDLE_LOOKS_MAX => {
                self.idle_looks += 1;
                Some(look)
            }
            (None, _) => None,
        }
    }

    /// Counts what went on until `now`.
    fn pass_to(&mut self, now: Timestamp) {
        let secs = |from: Timestamp, to: Timestamp| to.0.saturating_sub(from.0) as f64 / 1000.0;
        let used = self.capacity - self.lending.free_in_all();
        let until_last = now.min(self.last_submit);
        self.run.used_card_s += used as f64 * secs(self.now.min(until_last), until_last);
        if self.is_head_blocked {
            self.run.head_blocked_s += secs(self.now, now);
        }
        self.now = now;
    }

    /// All that is due at `now`.
    fn happen(&mut self, now: Timestamp) {
        while let Some(Reverse((at, attempt))) = self.ends.peek().copied() {
            if at > now {
                break;
            }
            self.ends.pop();
            self.end(attempt, now);
        }
        while let Some(job) = self.jobs.get(self.coming) {
            if submit_time(job) > now {
                break;
            }
            self.submit(self.coming, now);
            self.coming += 1;
        }
        let is_look = self.next_look.is_some_and(|look| look <= now);
        if is_look || self.ended_since_tick >= ENDED_MAX {
            self.ended_since_tick = 0;
            self.apply(&Event::Tick, now);
        }
    }

    fn submit(&mut self, at: usize, now: Timestamp) {
        let submission = submission(&self.jobs[at], &mut self.entrance);
        let event = Event::Submit(Box::new(submission));
        match self.try_apply(&event, now) {
            Ok(Reply::Submitted(id)) => {
                self.by_seq.insert(id.seq, at);
                self.wait(at);
            }
            Ok(Reply::Done | Reply::SomeUnchanged | Reply::Reserved(_)) => {}
            Err(why) => {
                self.run.refused += 1;
                let label = &self.jobs[at].label;
                let first = &mut self.run.first_refusal;
                first.get_or_insert_with(|| format!("job {label}: {why}"));
            }
        }
    }

    fn wait(&mut self, at: usize) {
        if self.waiting.insert(at) {
            *self.waiting_by_shape.entry(self.shapes[at]).or_insert(0) += 1;
        }
    }

    fn wait_no_more(&mut self, at: usize) {
        if !self.waiting.remove(&at) {
            return;
        }
        if let Some(count) = self.waiting_by_shape.get_mut(&self.shapes[at]) {
            *count -= 1;
            if *count == 0 {
                self.waiting_by_shape.remove(&self.shapes[at]);
            }
        }
    }

    /// The attempt is over, if it has not been already.
    fn end(&mut self, attempt: AttemptId, now: Timestamp) {
        let is_due = |going: &Going| going.ends <= now;
        if !self.going.get(&attempt).is_some_and(is_due) {
            return;
        }
        let Some(Going {
            job,
            node,
            is_stopped,
            ..
        }) = self.going.remove(&attempt)
        else {
            return;
        };
        let Some(held) = self.state.job_of(attempt).cloned() else {
            return;
        };
        if let Some(run) = held.state.run() {
            run.shares
                .iter()
                .for_each(|share| self.lending.take_back(share));
        }
        let started = self.run.jobs[job].start.unwrap_or(now);
        let usage = Usage {
            walltime_secs: now.secs_since(started),
            ..Usage::default()
        };
        let phase = ReportedPhase::Exited {
            at: now,
            exit_status: if is_stopped { STOPPED } else { 0 },
            usage,
            unclean: Vec::new(),
            cause: Box::default(),
            images: Vec::new(),
            undelivered: Box::default(),
        };
        self.report(node, attempt, phase, now);
        self.settle(job, held.id, now);
    }

    /// What has become of a job whose attempt is over.
    fn settle(&mut self, at: usize, id: JobId, now: Timestamp) {
        let is_back = self
            .state
            .job(id)
            .is_some_and(|job| matches!(job.state, JobState::Pending));
        let run = &mut self.run.jobs[at];
        if is_back {
            run.requeues += 1;
            run.start = None;
            self.wait(at);
            return;
        }
        run.end = Some(now);
        self.ended += 1;
        self.ended_since_tick += 1;
        self.by_seq.remove(&id.seq);
    }

    fn plan(&mut self, now: Timestamp) {
        self.next_look = self.next_look.filter(|look| *look > now);
        if self.may_place() {
            self.plan_until_nothing_new(now);
        }
        let head = self.head.filter(|head| self.waiting.contains(head));
        let head = head.or_else(|| self.waiting.first().copied());
        self.is_head_blocked = head.is_some_and(|head| {
            let (nodes, each) = self.shapes[head];
            self.lending.is_scattered(nodes, each)
        });
        self.run.samples.push(Sample {
            at: now,
            used: self.capacity - self.lending.free_in_all(),
            waiting: self.waiting.len(),
        });
    }

    /// Whether a plan could start anything at all. While no job that waits fits what is free, there is no need to ask.
    fn may_place(&self) -> bool {
        let mut shapes = self.waiting_by_shape.keys();
        !self.is_exact || shapes.any(|(nodes, each)| self.lending.has(*nodes, *each))
    }

    fn plan_until_nothing_new(&mut self, now: Timestamp) {
        for _ in 0..PLANS_PER_INSTANT_MAX {
            let state = &self.state;
            let plan = self.run.plans.timed(|| decide(state, now));
            self.next_look = plan.look_again.filter(|look| *look > now);
            self.head = self.head_of(&plan);
            let wished = plan.placements.len();
            if wished == 0 && plan.preemptions.is_empty() {
                break;
            }
            let before = self.waiting.len();
            let order = PlanOrder {
                at: now,
                placements: plan.placements,
                preemptions: plan.preemptions,
                waits: Vec::new(),
                preparations: plan.preparations,
            };
            self.apply(&Event::Planned(order), now);
            if before.saturating_sub(self.waiting.len()) == wished {
                break;
            }
        }
    }

    /// The first in line of those that go on waiting.
    fn head_of(&self, plan: &Plan) -> Option<usize> {
        self.by_seq.get(&plan.line.first()?.seq).copied()
    }

    fn report(&mut self, node: NodeName, attempt: AttemptId, phase: ReportedPhase, now: Timestamp) {
        let report = AttemptReport { attempt, phase };
        self.apply(&Event::Reported { node, report }, now);
    }

    /// An event that the core has no reason to refuse.
    fn apply(&mut self, event: &Event, now: Timestamp) {
        if let Err(why) = self.try_apply(event, now) {
            let first = &mut self.run.first_refusal;
            first.get_or_insert_with(|| why.to_string());
        }
    }

    fn try_apply(&mut self, event: &Event, now: Timestamp) -> Result<Reply, Rejection> {
        let state = &mut self.state;
        let outcome = self.run.events.timed(|| apply(state, event, now));
        let Outcome { effects, reply, .. } = outcome?;
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            effects.extend(self.act(effect, now));
        }
        Ok(reply)
    }

    /// Does in the simulated world what the core orders; what that brings forth in turn.
    fn act(&mut self, effect: Effect, now: Timestamp) -> Vec<Effect> {
        match effect {
            Effect::StartAttempt { node, job } => self.start(node, &job, now),
            Effect::StopAttempt {
                attempt,
                grace_secs,
                ..
            } => {
                if let Some(going) = self.going.get_mut(&attempt) {
                    going.is_stopped = true;
                    let by = now.plus_secs(grace_secs.into());
                    if by < going.ends {
                        going.ends = by;
                        self.ends.push(Reverse((by, attempt)));
                    }
                }
                Vec::new()
            }
            Effect::AdjustAttempt { .. }
            | Effect::ForgetAttempt { .. }
            | Effect::WelcomeNode { .. }
            | Effect::PrepareImage { .. }
            | Effect::DropImage { .. }
            | Effect::Account { .. } => Vec::new(),
        }
    }

    fn start(&mut self, node: NodeName, job: &Job, now: Timestamp) -> Vec<Effect> {
        let (Some(&at), Some(run)) = (self.by_seq.get(&job.id.seq), job.state.run()) else {
            return Vec::new();
        };
        let attempt = run.attempt;
        self.wait_no_more(at);
        let of_trace = &self.jobs[at];
        let mine = &mut self.run.jobs[at];
        mine.start = Some(now);
        mine.likely_by = job.told_before(now).map(|told| told.likely_by);
        mine.size = run
            .shares
            .iter()
            .map(|share| self.lending.amount(share))
            .sum();
        mine.nodes = run.shares.iter().map(|share| share.node.clone()).collect();
        run.shares.iter().for_each(|share| self.lending.lend(share));
        let ends = now.plus_secs(of_trace.runtime_secs);
        self.ends.push(Reverse((ends, attempt)));
        let going = Going {
            job: at,
            node: node.clone(),
            ends,
            is_stopped: false,
        };
        self.going.insert(attempt, going);
        let phase = ReportedPhase::Running {
            at: now,
            session: 1,
        };
        let report = AttemptReport { attempt, phase };
        let event = Event::Reported { node, report };
        let state = &mut self.state;
        let outcome = self.run.events.timed(|| apply(state, &event, now));
        outcome.map(|outcome| outcome.effects).unwrap_or_default()
    }
}

/// 256 + SIGTERM: what a stopped script ends with.
const STOPPED: i32 = 271;

fn submit_time(job: &TraceJob) -> Timestamp {
    Timestamp(0).plus_secs(job.submit_secs)
}
