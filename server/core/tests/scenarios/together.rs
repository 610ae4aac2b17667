//! Sets of `synccount` and `syncwith`, once they are complete: their jobs start together or not at all.

use capstan_core::{Event, Explanation, RunOrder, Submission, Tie, decide, explain, plan};
use capstan_types::{JobId, Reason};

use crate::harness::{World, caller, submission};

/// A set of jobs that ask for these.
fn set(world: &mut World, requests: &[&str]) -> Vec<JobId> {
    let others = requests.len() as u32 - 1;
    let master = submit(world, requests[0], Tie::SyncCount(others));
    let joined = requests[1..].iter();
    let joined = joined.map(|request| submit(world, request, Tie::SyncWith(master)));
    let joined: Vec<JobId> = joined.collect();
    std::iter::once(master).chain(joined).collect()
}

fn submit(world: &mut World, request: &str, tie: Tie) -> JobId {
    let job = Submission {
        ties: vec![tie],
        ..submission(request)
    };
    world.submit(job).unwrap()
}

/// Places, and says which jobs start, by id.
fn start(world: &mut World) -> Vec<u64> {
    let rows = decide(&world.state, world.now);
    let placed = world.place();
    let ids = |placements: &[capstan_core::Placement]| {
        let mut ids: Vec<u64> = placements.iter().map(|placed| placed.job.seq).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(ids(&rows.placements), ids(&placed.placements));
    for placement in &placed.placements {
        world.started(placement.job);
    }
    ids(&placed.placements)
}

#[test]
fn all_of_a_set_start_or_none() {
    let mut world = World::with_nodes(&[("a", 8, 4)]);
    let first = world.queue("nodes=1:gpus=2 walltime=01:00:00");
    assert_eq!(start(&mut world), [1]);
    let members = set(
        &mut world,
        &[
            "nodes=1:gpus=2 walltime=00:10:00",
            "nodes=1:gpus=2 walltime=00:10:00",
        ],
    );
    let made = plan(&world.state, world.now);
    assert_eq!(start(&mut world), [0; 0], "one would fit");
    let reason = |id: JobId| {
        let found = made.reasons.iter().find(|(job, _)| *job == id);
        found.map(|(_, reason)| reason.clone())
    };
    assert_eq!(reason(members[0]), Some(Reason::DependsOn(members[1])));
    assert!(matches!(
        reason(members[1]),
        Some(Reason::NotEnoughCards { .. })
    ));
    let found: Explanation = explain(&world.state, &made, members[1], world.now).unwrap();
    assert_eq!(found.reason, reason(members[1]));
    world.exits(first, 0);
    assert_eq!(start(&mut world), [2, 3]);
}

#[test]
fn nodes_are_reserved_for_all_of_a_set_from_one_time_on() {
    let mut world = World::with_nodes(&[("a", 8, 2), ("b", 8, 2)]);
    let long = world.queue("nodes=a:gpus=2 walltime=02:00:00");
    let short = world.queue("nodes=b:gpus=2 walltime=01:00:00");
    start(&mut world);
    let members = set(
        &mut world,
        &[
            "nodes=a:gpus=2 walltime=01:00:00",
            "nodes=b:gpus=2 walltime=01:00:00",
        ],
    );
    let made = plan(&world.state, world.now);
    let starts: Vec<u64> = made
        .promises
        .iter()
        .map(|promise| promise.start.secs_since(world.now))
        .collect();
    assert_eq!(starts, [7200, 7200]);
    assert_eq!(
        made.promises
            .iter()
            .map(|promise| promise.job)
            .collect::<Vec<_>>(),
        members
    );
    world.exits(short, 0);
    // It would be in the way of the set on b, and one that ends in time is not.
    world.queue("nodes=b:gpus=2 walltime=03:00:00");
    let filler = world.queue("nodes=b:gpus=2 walltime=01:30:00");
    assert_eq!(start(&mut world), [filler.seq]);
    world.exits(filler, 0);
    world.exits(long, 0);
    assert_eq!(start(&mut world), [3, 4]);
}

#[test]
fn a_set_waits_for_a_member_that_is_held_and_not_for_one_that_is_gone() {
    let mut world = World::with_nodes(&[("a", 8, 4)]);
    let members = set(&mut world, &["nodes=1:gpus=1"; 3]);
    world.hold(members[2], "u").unwrap();
    assert_eq!(start(&mut world), [0; 0]);
    let made = world.plan();
    let told = made.reasons.iter().find(|(id, _)| *id == members[0]);
    assert_eq!(told.unwrap().1, Reason::DependsOn(members[2]));
    world.delete(members[2]).unwrap();
    assert_eq!(start(&mut world), [1, 2]);
}

#[test]
fn a_set_that_is_let_run_by_an_operator_in_part_goes_on_with_the_rest() {
    let mut world = World::with_nodes(&[("a", 8, 2)]);
    let first = world.queue("nodes=1:gpus=1 walltime=01:00:00");
    start(&mut world);
    let members = set(&mut world, &["nodes=1:gpus=1", "nodes=1:gpus=1"]);
    let order = RunOrder {
        job: members[0],
        hosts: None,
        by: caller("root"),
    };
    world.must(&Event::Run(order));
    world.started(members[0]);
    assert_eq!(start(&mut world), [0; 0]);
    world.exits(first, 0);
    assert_eq!(start(&mut world), [3]);
}

#[test]
fn whoever_is_behind_a_set_that_cannot_start_may() {
    let mut world = World::with_nodes(&[("a", 8, 4)]);
    world.queue("nodes=1:gpus=2 walltime=01:00:00");
    start(&mut world);
    set(
        &mut world,
        &[
            "nodes=1:gpus=2 walltime=00:30:00",
            "nodes=1:gpus=2 walltime=00:30:00",
        ],
    );
    let filler = world.queue("nodes=1:gpus=2 walltime=00:30:00");
    assert_eq!(start(&mut world), [filler.seq]);
}
