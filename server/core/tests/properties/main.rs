//! What always holds, over random lives of a small cluster. The world of the harness checks after every event that
//! nothing is lent twice, that ended jobs hold nothing, that refusals change nothing and that the stored changes
//! make the same state; here are the events, and what must hold of every plan and in the end.

#![expect(
    clippy::unwrap_used,
    reason = "a helper of tests that cannot go on fails the test"
)]

#[path = "../harness/mod.rs"]
mod harness;
mod limits;
mod managing;
mod order;
mod orders;
mod placing;
mod preempting;
mod steps;
mod suggestions;
mod windows;

use capstan_core::{Plan, decide};
use proptest::collection::vec;
use proptest::prelude::*;

use steps::{bring_to_an_end, step, take};

const NODES: [(&str, u16, u32); 3] = [("node01", 4, 2), ("node02", 8, 0), ("node03", 2, 1)];

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, max_shrink_iters: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_job_that_fits_an_empty_cluster_ends(steps in vec(step(), 1..40)) {
        let mut world = orders::world();
        for step in steps {
            take(&mut world, step);
        }
        bring_to_an_end(&mut world);
    }

    #[test]
    fn no_start_that_is_promised_is_delayed_by_who_overtakes(
        depth in 0..4_u32,
        steps in vec(step(), 1..40),
    ) {
        let mut world = orders::world();
        order::set_depth(&mut world, depth);
        for step in steps {
            take(&mut world, step);
            let plan = world.plan();
            order::check(&world.state, &plan, world.now);
            assert_eq!(world.plan(), plan, "the same state, another plan");
            let decided = decide(&world.state, world.now);
            let told = |plan: &Plan| Plan { line: Vec::new(), reasons: Vec::new(), ..plan.clone() };
            assert_eq!(told(&decided), told(&plan), "another plan without the words");
        }
    }

    #[test]
    fn what_brute_force_would_place_is_placed_and_nothing_else(
        machines in vec(placing::machine(), 1..5),
        asks in vec(placing::ask(), 1..12),
        keeps_slices in any::<bool>(),
    ) {
        placing::check(&machines, &asks, keeps_slices);
    }

    #[test]
    fn no_plan_exceeds_a_limit(limits in limits::limits(), wishes in limits::wishes()) {
        limits::hold(&limits, &wishes);
    }

    #[test]
    fn no_job_is_placed_into_a_window_that_is_not_for_it(steps in vec(windows::step(), 1..60)) {
        let mut world = windows::world();
        for step in steps {
            windows::take(&mut world, &step);
        }
    }
}
