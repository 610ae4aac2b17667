//! What the policies make of jobs of the past: each against strict order with backfill (EASY), as ratios, which are the same
//! on every machine; and how long the simulation of it takes.

use anyhow::{Context, Result};
use capstan_sim::{
    Cluster, Order, PolicyName, Site, Slice, Summary, Trace, load, replay, summarise,
};

use crate::report::Report;

/// Jobs of a sequence, and how many jobs later the next one begins: what "random sequences of 1,024 jobs" are on the average.
const SEQUENCE_JOBS: usize = 1024;
const SEQUENCE_STEP: usize = 256;

/// A figure of which a policy should have so little of that of EASY.
type Ratio = (&'static str, fn(&Summary) -> f64, &'static str);

const DEFAULT_GOALS: [Ratio; 5] = [
    ("mean wait", |summary| summary.mean_wait_s, "<= 0.60"),
    (
        "bounded slowdown",
        |summary| summary.bounded_slowdown,
        "<= 0.45",
    ),
    ("p99 wait", |summary| summary.p99_wait_s, "<= 1.05"),
    ("longest wait", |summary| summary.max_wait_s, "<= 1.5"),
    (
        "wait of large jobs",
        |summary| summary.large_job_wait_s,
        "<= 1.05",
    ),
];

const FAIR_GOALS: [Ratio; 5] = [
    ("mean wait", |summary| summary.mean_wait_s, "<= 0.65"),
    ("bounded slowdown", |summary| summary.bounded_slowdown, ""),
    ("p99 wait", |summary| summary.p99_wait_s, "<= 1.05"),
    ("longest wait", |summary| summary.max_wait_s, ""),
    ("wait of large jobs", |summary| summary.large_job_wait_s, ""),
];

/// Runs each slice under each policy; without any, the trace that is among the sources.
///
/// # Errors
/// A trace that cannot be read.
pub(crate) fn measure(report: &mut Report, slices: &[&str]) -> Result<()> {
    let own = capstan_tests::cluster::sources().join("tests/traces/philly_2017_12000_8000.swf.gz");
    let own = own.display().to_string();
    let slices = if slices.is_empty() {
        &[own.as_str()][..]
    } else {
        slices
    };
    for slice in slices {
        let (trace, cluster) = read(slice)?;
        let mut easy = None;
        for policy in [
            PolicyName::Fifo,
            PolicyName::Easy,
            PolicyName::Default,
            PolicyName::Fair,
        ] {
            let summary = run(&trace, &cluster, (policy, ""))?;
            tell(report, policy, &summary);
            match (policy, &easy) {
                (PolicyName::Default, Some(easy)) => {
                    compare(report, (&summary, easy), &DEFAULT_GOALS)
                }
                (PolicyName::Fair, Some(easy)) => compare(report, (&summary, easy), &FAIR_GOALS),
                (
                    PolicyName::Fifo | PolicyName::Easy | PolicyName::Default | PolicyName::Fair,
                    _,
                ) => {}
            }
            if policy == PolicyName::Easy {
                easy = Some(summary);
            }
        }
    }
    Ok(())
}

/// The published check of RLScheduler (Zhang et al., SC'20) for the trace of Lublin's model: the mean bounded slowdown
/// over sequences of 1,024 jobs, each from an empty cluster.
///
/// # Errors
/// A trace that cannot be read.
pub(crate) fn sequences(report: &mut Report, slices: &[&str]) -> Result<()> {
    for slice in slices {
        let (trace, cluster) = read(slice)?;
        // What is published fills no gap with what ends after the reserved start; ours does unless told not to.
        for (policy, setting, published) in [
            (PolicyName::Fifo, "", "7273.8"),
            (PolicyName::Easy, "backfill_spare=False", "235.8"),
            (PolicyName::Easy, "", "235.8"),
        ] {
            let mut slowdowns = Vec::new();
            let starts =
                (0..=trace.jobs.len().saturating_sub(SEQUENCE_JOBS)).step_by(SEQUENCE_STEP);
            for start in starts {
                let jobs = trace.jobs.iter().skip(start).take(SEQUENCE_JOBS);
                let part = Trace {
                    jobs: jobs.cloned().collect(),
                    ..Trace::default()
                };
                slowdowns.push(run(&part, &cluster, (policy, setting))?.bounded_slowdown);
            }
            let mean = slowdowns.iter().sum::<f64>() / slowdowns.len().max(1) as f64;
            let name = format!(
                "{} {} {setting}: slowdown of sequences",
                trace.name,
                policy.word(),
            );
            let conditions = format!(
                "{} sequences; {published} are published for lublin_256",
                slowdowns.len()
            );
            report.figure(&name, &format!("{mean:.1}"), "within 5 %", &conditions);
        }
    }
    Ok(())
}

fn read(slice: &str) -> Result<(Trace, Cluster)> {
    let mut trace = load(&[Slice::parse(slice)])?;
    let (nodes, slots) = trace.own_cluster().with_context(|| {
        format!("{slice} does not say how many nodes it is for (X-Nodes, X-SlotsPerNode)")
    })?;
    let cluster = Cluster::uniform(nodes, slots)?;
    trace.drop_larger_than(&cluster);
    Ok((trace, cluster))
}

fn run(trace: &Trace, cluster: &Cluster, (policy, setting): (PolicyName, &str)) -> Result<Summary> {
    let site = Site {
        cluster: cluster.clone(),
        policy: Some(policy),
        orders: Order::assignment(setting).into_iter().collect(),
        ..Site::default()
    };
    let run = replay(trace, &site, &mut |_| {})?;
    Ok(summarise(trace, cluster, &run))
}

fn tell(report: &mut Report, policy: PolicyName, summary: &Summary) {
    let name = |what: &str| format!("{} {}: {what}", summary.trace, policy.word());
    let conditions = format!(
        "{} jobs on {} nodes; p99 {:.0} s, longest {:.0} s, slowdown {:.1}, utilisation {:.3}, large jobs {:.0} s",
        summary.jobs,
        summary.nodes,
        summary.p99_wait_s,
        summary.max_wait_s,
        summary.bounded_slowdown,
        summary.utilisation,
        summary.large_job_wait_s
    );
    report.figure(
        &name("mean wait"),
        &format!("{:.0} s", summary.mean_wait_s),
        "",
        &conditions,
    );
    let conditions = format!(
        "{} plans of {:.2} ms, {} events of {:.0} us",
        summary.plans, summary.plan_mean_ms, summary.events, summary.event_mean_us
    );
    let goal = if summary.jobs > 80_000 { "< 60 s" } else { "" };
    report.figure(
        &name("processor time"),
        &format!("{:.1} s", summary.cpu_s),
        goal,
        &conditions,
    );
}

fn compare(report: &mut Report, (summary, easy): (&Summary, &Summary), goals: &[Ratio]) {
    for (what, figure, goal) in goals {
        let before = figure(easy);
        let ratio = if before > 0.0 {
            format!("{:.2}", figure(summary) / before)
        } else {
            "-".to_owned()
        };
        report.figure(
            &format!("{}: {what} against easy", summary.trace),
            &ratio,
            goal,
            "",
        );
    }
    let change = summary.utilisation - easy.utilisation;
    let name = format!("{}: utilisation less that of easy", summary.trace);
    report.figure(&name, &format!("{change:+.3}"), ">= -0.01", "");
}
