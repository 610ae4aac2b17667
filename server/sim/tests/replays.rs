//! Whole simulations: tiny ones whose waits are reckoned by hand, and a part of a public trace whose figures must stay.

#![allow(
    clippy::unwrap_used,
    reason = "what cannot be unwrapped is what the test would fail for"
)]

use capstan_sim::{
    Ask, Cluster, Order, PolicyName, Run, Site, Slice, Summary, Trace, TraceJob, load, plot,
    replay, summarise,
};

const START: u64 = 1_000_000_000;

/// Jobs of (submit, runtime, walltime, cards, user).
fn trace(jobs: &[(u64, u64, u64, u32, &str)]) -> Trace {
    let job = |(number, job): (usize, &(u64, u64, u64, u32, &str))| {
        let (submit, runtime, walltime, cards, user) = *job;
        TraceJob {
            label: number.to_string().into(),
            submit_secs: START + submit,
            runtime_secs: runtime,
            walltime_secs: walltime,
            ask: Ask::Slots(cards),
            user: user.into(),
            group: "g".into(),
            queue: None,
            name: "job".into(),
        }
    };
    Trace {
        name: "by hand".to_owned(),
        jobs: jobs.iter().enumerate().map(job).collect(),
        ..Trace::default()
    }
}

fn site(policy: PolicyName, nodes: u32, slots: u32) -> Site {
    Site {
        cluster: Cluster::uniform(nodes, slots).unwrap(),
        policy: Some(policy),
        ..Site::default()
    }
}

fn ran(trace: &Trace, site: &Site) -> (Run, Summary) {
    let run = replay(trace, site, &mut |_| {}).unwrap();
    let summary = summarise(trace, &site.cluster, &run);
    (run, summary)
}

/// Waits in seconds, in the order of the trace.
fn check(policy: PolicyName, jobs: &[(u64, u64, u64, u32, &str)], expected: &[u64]) {
    let trace = trace(jobs);
    let (run, _) = ran(&trace, &site(policy, 2, 4));
    let waits = trace.jobs.iter().zip(&run.jobs);
    let waits = waits.map(|(job, run)| run.start.unwrap().secs() - job.submit_secs);
    assert_eq!(waits.collect::<Vec<u64>>(), expected, "{policy:?}");
    for (job, run) in trace.jobs.iter().zip(&run.jobs) {
        let ran = run.end.unwrap().secs_since(run.start.unwrap());
        assert_eq!(ran, job.runtime_secs);
    }
}

#[test]
fn nobody_is_overtaken_in_strict_order() {
    let jobs = [
        (0, 100, 100, 4, "a"),
        (0, 200, 200, 2, "a"),
        (10, 50, 50, 8, "b"), // Both nodes: until 200.
        (20, 10, 10, 1, "c"), // Two cards are free, but who came before waits.
    ];
    check(PolicyName::Fifo, &jobs, &[0, 0, 190, 230]);
}

#[test]
fn backfill_fills_what_the_first_in_line_does_not_need_yet() {
    let jobs = [
        (0, 100, 100, 4, "a"),
        (0, 200, 200, 2, "a"),
        (10, 50, 50, 8, "b"),  // Reserved from 200 on.
        (20, 10, 180, 1, "c"), // Ends by 200 by its walltime.
        (20, 10, 181, 1, "c"), // Would not.
    ];
    check(PolicyName::Easy, &jobs, &[0, 0, 190, 0, 230]);
}

#[test]
fn jobs_that_come_and_end_at_one_instant_see_one_another() {
    // The card that is free again at 100 goes to who came first, not to who came at that very second.
    let jobs = [
        (0, 100, 100, 8, "a"),
        (50, 10, 10, 8, "b"),
        (100, 10, 10, 8, "c"),
    ];
    check(PolicyName::Fifo, &jobs, &[0, 50, 10]);
}

#[test]
fn a_gang_needs_its_cards_node_by_node() {
    // Three cards are free on each node: six in all, but no node has four.
    let jobs = [
        (0, 100, 100, 1, "a"),
        (0, 100, 100, 4, "a"),
        (1, 10, 10, 8, "b"),
    ];
    let trace = trace(&jobs);
    let (_, summary) = ran(&trace, &site(PolicyName::Fifo, 2, 4));
    assert_eq!(
        summary.head_blocked_by_nodes, 0.0,
        "three cards are too few in all"
    );
    let jobs = [
        (0, 100, 100, 3, "a"),
        (0, 100, 100, 3, "a"),
        (1, 10, 10, 2, "b"),
    ];
    let trace = self::trace(&jobs);
    let (run, summary) = ran(&trace, &site(PolicyName::Fifo, 2, 4));
    assert_eq!(run.jobs[2].start.unwrap().secs(), START + 100);
    // From 1 to 100, of 110.
    assert!(
        (summary.head_blocked_by_nodes - 0.9).abs() < 1e-6,
        "{}",
        summary.head_blocked_by_nodes
    );
}

#[test]
fn figures_are_those_reckoned_by_hand() {
    let jobs = [
        (0, 100, 100, 4, "a"),
        (0, 100, 100, 4, "a"),
        (0, 100, 100, 8, "b"),
        (50, 50, 60, 1, "b"),
    ];
    let trace = trace(&jobs);
    let (_, summary) = ran(&trace, &site(PolicyName::Fifo, 2, 4));
    let figures = [
        (summary.mean_wait_s, 62.5),
        (summary.median_wait_s, 50.0),
        (summary.p95_wait_s, 150.0),
        (summary.p99_wait_s, 150.0),
        (summary.max_wait_s, 150.0),
        (summary.bounded_slowdown, 2.0),
        (summary.utilisation, 1.0),
        (summary.makespan_s, 250.0),
        (summary.large_job_wait_s, 100.0),
    ];
    for (number, (seen, expected)) in figures.into_iter().enumerate() {
        assert_eq!(seen, expected, "figure {number}");
    }
    assert_eq!(
        (summary.jobs, summary.large_jobs, summary.large_from_cards),
        (4, 1, 8)
    );
    let users: Vec<(&str, usize)> = summary
        .users
        .iter()
        .map(|user| (&*user.name, user.jobs))
        .collect();
    assert_eq!(users, [("b", 2), ("a", 2)], "who used most comes first");
}

#[test]
fn what_the_server_refuses_is_counted_and_said() {
    let jobs = [(0, 10, 10, 1, "a"), (0, 10, 7200, 1, "a")];
    let mut site = site(PolicyName::Easy, 1, 1);
    site.orders.extend(Order::assignment(
        "queue.batch.resources_max.walltime=01:00:00",
    ));
    let (run, summary) = ran(&trace(&jobs), &site);
    assert_eq!(
        (summary.jobs, summary.refused, summary.unstarted),
        (1, 1, 0)
    );
    assert!(run.first_refusal.unwrap().starts_with("job 1: "));
}

#[test]
fn lent_cards_are_called_back_and_the_job_that_had_them_runs_again() {
    let mut trace = trace(&[(0, 1000, 1000, 8, "a"), (100, 50, 50, 4, "b")]);
    trace.jobs[1].group = "own".into();
    let mut site = site(PolicyName::Easy, 2, 4);
    for order in [
        "guaranteed_cards=own=4",
        "queue.batch.preemptable=requeue",
        "queue.batch.preempt_grace=90",
    ] {
        site.orders.extend(Order::assignment(order));
    }
    let (run, _) = ran(&trace, &site);
    let times = run.jobs.iter().map(|job| {
        let secs = |time: Option<capstan_types::Timestamp>| time.unwrap().secs() - START;
        (secs(job.start), secs(job.end), job.requeues)
    });
    // Told at 100, gone at 190; both nodes are free again at 240.
    assert_eq!(times.collect::<Vec<_>>(), [(240, 1240, 1), (190, 240, 0)]);
}

#[test]
fn settings_that_are_none_end_the_simulation() {
    let jobs = trace(&[(0, 10, 10, 1, "a")]);
    for order in ["nosuch=1", "backfill_depth=x", "queue.nosuch.enabled=True"] {
        let mut site = site(PolicyName::Easy, 1, 1);
        site.orders.extend(Order::assignment(order));
        let error = replay(&jobs, &site, &mut |_| {}).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{order}: ")), "{error}");
    }
}

/// A part of the trace that ships with the sources: 1,500 jobs of the clusters of Philly.
fn philly(first: usize, count: usize) -> Trace {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/traces/philly_2017_12000_8000.swf.gz"
    );
    load(&[Slice::parse(&format!("{file}:{first}:{count}"))]).unwrap()
}

#[test]
fn the_same_jobs_run_the_same_way_every_time() {
    let trace = philly(6000, 400);
    let site = site(PolicyName::Default, 12, 8);
    let (first, _) = ran(&trace, &site);
    let (second, _) = ran(&trace, &site);
    assert_eq!(first.jobs, second.jobs);
    assert_eq!(first.samples, second.samples);
    assert_eq!(
        plot(&trace, &site.cluster, &first),
        plot(&trace, &site.cluster, &second)
    );
}

#[test]
fn no_card_is_lent_twice_in_a_whole_simulation() {
    let trace = philly(6000, 400);
    let site = site(PolicyName::Easy, 12, 8);
    let (run, _) = ran(&trace, &site);
    assert!(run.samples.iter().all(|sample| sample.used <= 96));
    let mut changes: Vec<(u64, i64)> = Vec::new();
    for job in &run.jobs {
        changes.push((job.start.unwrap().0, i64::from(job.size)));
        changes.push((job.end.unwrap().0, -i64::from(job.size)));
    }
    changes.sort_unstable();
    let mut used = 0;
    for (_, change) in changes {
        used += change;
        assert!((0..=96).contains(&used), "{used}");
    }
}
