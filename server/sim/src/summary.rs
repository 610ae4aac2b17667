//! The figures of one simulation. What each means is said at its field; `capstan sim --json` prints them by these names.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::metrics::{bounded_slowdown, mean, median, percentile, rounded};
use crate::{Cluster, JobRun, Run, Trace, TraceJob};

/// From this share of jobs on, by size, a job is large; and it has at least [`LARGE_LEAST`] cards.
const LARGE_SHARE: f64 = 0.95;
const LARGE_LEAST: f64 = 2.0;

/// A simulation in figures. Waits are seconds from submission to the start of the attempt that ran to the end.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// The trace, and the slice of it.
    pub trace: String,
    /// The policy and what else was set.
    pub policy: String,
    /// Nodes of the cluster.
    pub nodes: usize,
    /// Cards of the cluster (cores, where no node has a card).
    pub cards: u64,
    /// Jobs that ran to their end; the figures are about these.
    pub jobs: usize,
    /// Mean wait.
    pub mean_wait_s: f64,
    /// Half of all jobs waited at most so long.
    pub median_wait_s: f64,
    /// 95 of 100 did.
    pub p95_wait_s: f64,
    /// 99 of 100 did.
    pub p99_wait_s: f64,
    /// The longest wait.
    pub max_wait_s: f64,
    /// Mean over jobs of max(1, (wait + run) / max(run, 10 s)).
    pub bounded_slowdown: f64,
    /// Card-seconds in use between the first and the last submission, over those that there were.
    pub utilisation: f64,
    /// First submission to last end.
    pub makespan_s: f64,
    /// Mean wait of large jobs: at least the 95th percentile of sizes, and at least 2 cards.
    pub large_job_wait_s: f64,
    /// How many those are.
    pub large_jobs: usize,
    /// From how many cards on.
    pub large_from_cards: u32,
    /// Share of the makespan in which who came first of the waiting waited although all free cards together would have done.
    pub head_blocked_by_nodes: f64,
    /// Jobs that were told by when they would start with a likelihood of 80 %: all that did not start at once.
    pub called_likely: usize,
    /// Share of those that did start by then.
    pub started_in_time: f64,
    /// How long those were told to wait, over how long they did, in the middle.
    pub told_over_wait: f64,
    /// Processor time of the simulation.
    pub cpu_s: f64,
    /// Jobs of the trace that never ran or have no complete record: left out.
    pub left_out: usize,
    /// Jobs larger than the cluster: left out.
    pub too_large: usize,
    /// Jobs that the server refused.
    pub refused: usize,
    /// Jobs that never started.
    pub unstarted: usize,
    /// Attempts that were stopped and put back.
    pub requeues: u64,
    /// How often the core planned, and how long it took on the average and at most.
    pub plans: u64,
    /// Likewise.
    pub plan_mean_ms: f64,
    /// Likewise.
    pub plan_max_ms: f64,
    /// How many events it took in, and how long one took on the average.
    pub events: u64,
    /// Likewise.
    pub event_mean_us: f64,
    /// Per user, who used most first.
    pub users: Vec<Party>,
    /// Per group, likewise.
    pub groups: Vec<Party>,
}

/// What a user or a group got.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Party {
    /// The name.
    pub name: String,
    /// Jobs that ran.
    pub jobs: usize,
    /// Their mean wait.
    pub mean_wait_s: f64,
    /// 95 of 100 of them waited at most so long.
    pub p95_wait_s: f64,
    /// The longest.
    pub max_wait_s: f64,
    /// Mean bounded slowdown.
    pub bounded_slowdown: f64,
    /// What they used.
    pub card_hours: f64,
}

/// A job that ran to its end.
pub(crate) struct Done<'a> {
    pub(crate) job: &'a TraceJob,
    pub(crate) wait_s: f64,
    pub(crate) run_s: f64,
    pub(crate) size: u32,
    pub(crate) end_s: f64,
}

impl Done<'_> {
    fn slowdown(&self) -> f64 {
        bounded_slowdown(self.wait_s, self.run_s)
    }
}

/// Seconds of the wait and the run of a job that ran to its end.
pub(crate) fn done<'a>((job, run): (&'a TraceJob, &JobRun)) -> Option<Done<'a>> {
    let (start, end) = (run.start?, run.end?);
    let secs = |milliseconds: u64| milliseconds as f64 / 1000.0;
    Some(Done {
        job,
        wait_s: secs(start.0.saturating_sub(job.submit_secs * 1000)),
        run_s: secs(end.0.saturating_sub(start.0)),
        size: run.size,
        end_s: secs(end.0),
    })
}

/// The figures of `run`, which ran `trace` on `cluster`.
#[must_use]
pub fn summarise(trace: &Trace, cluster: &Cluster, run: &Run) -> Summary {
    let done: Vec<Done<'_>> = trace.jobs.iter().zip(&run.jobs).filter_map(done).collect();
    let waits = sorted(done.iter().map(|job| job.wait_s));
    let slowdowns: Vec<f64> = done.iter().map(Done::slowdown).collect();
    let submits = trace.jobs.iter().map(|job| job.submit_secs as f64);
    let first = submits.clone().fold(f64::INFINITY, f64::min);
    let last = submits.fold(first, f64::max);
    let end = done.iter().map(|job| job.end_s).fold(last, f64::max);
    let (makespan, span) = (end - first, last - first);
    let large = large(&done);
    let cards = cluster.capacity();
    let called = called(trace, run);
    let over = |amount: f64, time: f64| if time > 0.0 { amount / time } else { 0.0 };
    Summary {
        trace: trace.name.clone(),
        nodes: cluster.nodes.len(),
        cards,
        jobs: done.len(),
        mean_wait_s: rounded(mean(&waits), 3),
        median_wait_s: rounded(median(&waits), 3),
        p95_wait_s: rounded(percentile(&waits, 0.95), 3),
        p99_wait_s: rounded(percentile(&waits, 0.99), 3),
        max_wait_s: rounded(waits.last().copied().unwrap_or(0.0), 3),
        bounded_slowdown: rounded(mean(&slowdowns), 4),
        utilisation: rounded(over(run.used_card_s, span * cards as f64), 6),
        makespan_s: rounded(makespan.max(0.0), 3),
        large_job_wait_s: rounded(mean(&large.1), 3),
        large_jobs: large.1.len(),
        large_from_cards: large.0,
        head_blocked_by_nodes: rounded(over(run.head_blocked_s, makespan), 6),
        called_likely: called.jobs,
        started_in_time: rounded(called.in_time, 4),
        told_over_wait: rounded(called.stretch, 3),
        cpu_s: rounded(run.cpu_s, 3),
        left_out: trace.left_out,
        refused: run.refused,
        unstarted: trace.jobs.len() - done.len() - run.refused,
        requeues: run.jobs.iter().map(|job| u64::from(job.requeues)).sum(),
        plans: run.plans.count,
        plan_mean_ms: rounded(run.plans.mean_s() * 1e3, 4),
        plan_max_ms: rounded(run.plans.longest.as_secs_f64() * 1e3, 3),
        events: run.events.count,
        event_mean_us: rounded(run.events.mean_s() * 1e6, 3),
        users: parties(&done, |job| &job.job.user),
        groups: parties(&done, |job| &job.job.group),
        ..Summary::default()
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// What jobs were told of their starts, and whether it came true.
#[derive(Default)]
struct Called {
    jobs: usize,
    in_time: f64,
    stretch: f64,
}

fn called(trace: &Trace, run: &Run) -> Called {
    let mut in_time = 0;
    let mut stretches = Vec::new();
    for (job, run) in trace.jobs.iter().zip(&run.jobs) {
        let (Some(start), Some(likely_by)) = (run.start, run.likely_by) else {
            continue;
        };
        let since_submit =
            |at: capstan_types::Timestamp| (at.0 / 1000).saturating_sub(job.submit_secs);
        in_time += usize::from(start <= likely_by);
        stretches.push(since_submit(likely_by) as f64 / since_submit(start).max(1) as f64);
    }
    let jobs = stretches.len();
    let stretches = sorted(stretches.into_iter());
    Called {
        jobs,
        in_time: in_time as f64 / jobs.max(1) as f64,
        stretch: percentile(&stretches, 0.5),
    }
}

/// From how many cards on a job is large, and the waits of those.
fn large(done: &[Done<'_>]) -> (u32, Vec<f64>) {
    let sizes = sorted(done.iter().map(|job| f64::from(job.size)));
    let from = percentile(&sizes, LARGE_SHARE).max(LARGE_LEAST);
    let large = done.iter().filter(|job| f64::from(job.size) >= from);
    (from.ceil() as u32, large.map(|job| job.wait_s).collect())
}

/// Jobs by whose they are; who used most first, then by name.
fn parties<'a>(done: &'a [Done<'a>], of: impl Fn(&'a Done<'a>) -> &'a str) -> Vec<Party> {
    let mut by_name: BTreeMap<&str, Vec<&Done<'_>>> = BTreeMap::new();
    for job in done {
        by_name.entry(of(job)).or_default().push(job);
    }
    let party = |(name, jobs): (&str, Vec<&Done<'_>>)| {
        let waits = sorted(jobs.iter().map(|job| job.wait_s));
        let slowdowns: Vec<f64> = jobs.iter().map(|job| job.slowdown()).collect();
        let used = jobs.iter().map(|job| job.run_s * f64::from(job.size));
        Party {
            name: name.to_owned(),
            jobs: jobs.len(),
            mean_wait_s: rounded(mean(&waits), 3),
            p95_wait_s: rounded(percentile(&waits, 0.95), 3),
            max_wait_s: rounded(waits.last().copied().unwrap_or(0.0), 3),
            bounded_slowdown: rounded(mean(&slowdowns), 4),
            card_hours: rounded(used.sum::<f64>() / 3600.0, 3),
        }
    };
    let mut parties: Vec<Party> = by_name.into_iter().map(party).collect();
    parties.sort_by(|a, b| b.card_hours.total_cmp(&a.card_hours));
    parties
}
