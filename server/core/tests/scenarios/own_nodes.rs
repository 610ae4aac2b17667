//! Nodes that are a queue's own, and the test node that the administrator's guide makes with them.

use capstan_core::Rejection;

use crate::harness::{World, submission};
use crate::managing::order;
use crate::text::check;

#[test]
fn a_queues_own_nodes_are_for_its_jobs_and_its_jobs_for_them() {
    check(
        "nodes  a: 4 gpu   b: 4 gpu test
         qmgr   set server policy = easy
         qmgr   set queue high own_nodes = test
         queue  j1: 4 gpu   j2: 1 gpu   j3: 2 gpu in high   j4: 4 gpu in high
         =>     j3 on b/0 gpu 0,1
                j1 on a/0 gpu 0,1,2,3
                j2 waits: wants 1 card on 1 node; a has 0 free
                j4 waits: wants 4 cards on 1 node; b has 2 free",
    );
}

#[test]
fn two_queues_may_own_a_node_together_and_name_it() {
    check(
        "nodes  a:   b:   c: fast
         qmgr   set server policy = easy
         qmgr   set queue high own_nodes = fast,b
         qmgr   create queue third queue_type=e;enabled=t;started=t;own_nodes=b
         queue  j1: 8 slots in third   j2: 8 slots in high   j3: 8 slots
         =>     j2 on b/0,1,2,3,4,5,6,7
                j3 on a/0,1,2,3,4,5,6,7
                j1 waits: wants 8 slots on 1 node; b has 0 free",
    );
}

#[test]
fn what_the_own_nodes_never_have_is_refused() {
    let mut world = World::with_nodes(&[("a", 8, 4), ("b", 8, 1)]);
    world.must(&order(
        "root",
        "create queue own queue_type=e;enabled=t;started=t;own_nodes=b",
    ));
    let to_own = |resources: &str| {
        let mut job = submission(resources);
        job.queue = Some("own".into());
        job
    };
    assert!(world.submit(to_own("nodes=1:gpus=1")).is_ok());
    assert!(matches!(
        world.submit(to_own("nodes=1:gpus=2")),
        Err(Rejection::NeverFits(_))
    ));
    assert!(matches!(
        world.submit(submission("nodes=b")),
        Err(Rejection::NeverFits(_))
    ));
    world.must(&order("root", "set queue own own_nodes = nowhere"));
    assert!(matches!(
        world.submit(to_own("nodes=1")),
        Err(Rejection::NeverFits(_))
    ));
}

/// The lines of the recipe in the administrator's guide, as they stand there.
fn recipe() -> Vec<&'static str> {
    let guide = include_str!("../../../../docs/admin.md");
    let (_, behind) = guide.split_once("### A test node").unwrap();
    let (_, block) = behind.split_once("```text\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let lines: Vec<&str> = block.lines().collect();
    assert!(lines.len() > 5, "{block}");
    lines
}

/// The seed's node g101: 15 minutes, cards of its own, at once, one job a user.
#[test]
fn the_test_node_of_the_guide_does_what_it_promises() {
    let mut world = World::with_nodes(&[("gpu01", 8, 2), ("gpu02", 8, 2)]);
    for line in recipe() {
        world.must(&order("root", line));
    }
    let debug = |user: &str, resources: &str| {
        let mut job = submission(resources);
        job.spec.owner.user = user.into();
        job.queue = Some("debug".into());
        job
    };
    // Others' work never takes its cards.
    let batch: Vec<_> = (0..4).map(|_| world.queue("nodes=1:gpus=1")).collect();
    world.place();
    let running = batch
        .iter()
        .filter(|id| world.job(**id).state.run().is_some());
    assert_eq!(running.count(), 2);
    // A job there starts at once, one of each user, and has 15 minutes.
    let first = world.submit(debug("alice", "nodes=1:gpus=1")).unwrap();
    let second = world.submit(debug("alice", "nodes=1:gpus=1")).unwrap();
    let bobs = world.submit(debug("bob", "nodes=1:gpus=1")).unwrap();
    let plan = world.place();
    let started: Vec<_> = plan
        .placements
        .iter()
        .map(|placement| placement.job)
        .collect();
    assert_eq!(started, [first, bobs]);
    assert_eq!(world.node_of(first).as_str(), "gpu01");
    let spec = &world.job(first).spec;
    assert_eq!(spec.resources.get("walltime"), Some("00:15:00"));
    let waits = plan.reasons.iter().find(|(id, _)| *id == second).unwrap();
    assert_eq!(
        waits.1.comment().as_deref(),
        Some("Not Running: User has reached queue running job limit.")
    );
    assert!(matches!(
        world.submit(debug("carol", "nodes=1:gpus=1 walltime=00:20:00")),
        Err(Rejection::QueueRefuses { .. })
    ));
}
