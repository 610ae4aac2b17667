//! Figures of a public trace that stay as they are: whoever changes the order of jobs or their placement sees here what
//! that does, and changes the figures on purpose or not at all.

#![allow(
    clippy::unwrap_used,
    reason = "what cannot be unwrapped is what the test would fail for"
)]

use capstan_sim::{Cluster, PolicyName, Site, Slice, Summary, load, replay, summarise};

/// 700 jobs of Philly on ten nodes of eight cards, which is fewer than they would like.
fn summary(policy: PolicyName) -> Summary {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/traces/philly_2017_12000_8000.swf.gz:0:700"
    );
    let trace = load(&[Slice::parse(file)]).unwrap();
    let site = Site {
        cluster: Cluster::uniform(10, 8).unwrap(),
        policy: Some(policy),
        ..Site::default()
    };
    let run = replay(&trace, &site, &mut |_| {}).unwrap();
    let summary = summarise(&trace, &site.cluster, &run);
    assert_eq!(
        (summary.jobs, summary.refused, summary.unstarted),
        (700, 0, 0)
    );
    summary
}

/// `seen` is `expected`, give or take a share of it.
fn near(name: &str, seen: f64, expected: f64, tolerance: f64) {
    let off = (seen - expected).abs() / expected;
    assert!(off <= tolerance, "{name}: {seen}, not {expected}");
}

/// A separate program that knows nothing of this scheduler has the same mean, p99 and utilisation.
#[test]
fn strict_order_has_the_waits_that_it_must_have() {
    let fifo = summary(PolicyName::Fifo);
    near("mean wait", fifo.mean_wait_s, 61_702.836, 0.001);
    near("p99 wait", fifo.p99_wait_s, 275_630.0, 0.001);
    near("bounded slowdown", fifo.bounded_slowdown, 417.18, 0.001);
    near("utilisation", fifo.utilisation, 0.8519, 0.001);
}

#[test]
fn the_policy_of_the_house_waits_less_than_strict_order_with_backfill() {
    let easy = summary(PolicyName::Easy);
    near("mean wait", easy.mean_wait_s, 8529.68, 0.03);
    near("bounded slowdown", easy.bounded_slowdown, 30.47, 0.1);
    let default = summary(PolicyName::Default);
    let ratio = default.mean_wait_s / easy.mean_wait_s;
    assert!(ratio <= 0.75, "mean wait against easy: {ratio}");
    let ratio = default.bounded_slowdown / easy.bounded_slowdown;
    assert!(ratio <= 0.5, "bounded slowdown against easy: {ratio}");
    let ratio = default.p99_wait_s / easy.p99_wait_s;
    assert!(ratio <= 1.05, "p99 wait against easy: {ratio}");
}
