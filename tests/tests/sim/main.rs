//! The real core among simulated agents, under every fault that we can think of: connections that break with
//! messages under way, orders given twice, nodes that die with and without their ledger, a server that dies between
//! any two steps, commits that fail, time that jumps. Each seed is one history, and the same seed is the same
//! history: a seed that failed is printed and runs again with `SEED=n cargo test -p capstan-tests --test sim`.
//! `SEEDS=n` runs more of them than the usual number.

mod agent;
mod client;
mod faults;
mod images;
mod rng;
mod server;
mod truth;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// How many histories a test run sees.
const SEEDS: u64 = 1200;

#[test]
fn every_accepted_job_ends_and_every_attempt_runs_once_whatever_fails() {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .map(|text| text.parse::<u64>().expect("a number"))
    };
    if let Some(seed) = number("SEED") {
        world::World::new(seed, true).live();
        return;
    }
    let seeds = number("SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let began = Instant::now();
    let failed: Vec<u64> = std::thread::scope(|scope| {
        let work = || {
            let take = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| *seed < seeds);
            let mut failed = Vec::new();
            while let Some(seed) = take() {
                let history = AssertUnwindSafe(|| world::World::new(seed, false).live());
                if catch_unwind(history).is_err() {
                    failed.push(seed);
                    break;
                }
            }
            failed
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let found = workers
            .into_iter()
            .map(|worker| worker.join().expect("workers catch panics"));
        found.flatten().collect()
    });
    assert!(
        failed.is_empty(),
        "seeds {failed:?} failed; run one again with SEED={}",
        failed[0]
    );
    let secs = began.elapsed().as_secs_f32();
    assert!(
        next.load(Ordering::Relaxed) >= seeds,
        "all {seeds} seeds were lived in {secs} s"
    );
}
