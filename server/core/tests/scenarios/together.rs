//! Sets of `synccount` and `syncwith`, once they are complete: their jobs start together or not at all.

use capstan_core::{
    AlterOrder, Altered, Event, Explanation, Rejection, RunOrder, Submission, Tie, decide, explain,
    plan,
};
use capstan_types::{Condition, JobId, Reason};

use crate::harness::{World, caller, inventory, submission};

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
fn a_set_that_no_idle_nodes_could_run_together_is_refused() {
    let mut world = World::with_nodes(&[("a", 8, 2), ("b", 8, 2)]);
    world.detach("b");
    let running = world.queue("nodes=a:gpus=2");
    start(&mut world);
    let master = submit(&mut world, "nodes=1:gpus=2", Tie::SyncCount(2));
    submit(&mut world, "nodes=1:gpus=1", Tie::SyncWith(master));
    let third = |request: &str| Submission {
        ties: vec![Tie::SyncWith(master)],
        ..submission(request)
    };
    let refused = world.submit(third("nodes=1:gpus=2"));
    let why =
        "no nodes are left for job 4 when the 2 other jobs of its synccount set start with it";
    assert_eq!(refused, Err(Rejection::NeverFits(why.into())));
    let last = world.submit(third("nodes=1:gpus=1")).unwrap();
    // Neither can it become one.
    let refused = world.apply(&Event::Alter(Box::new(AlterOrder {
        job: last,
        members: None,
        by: caller("alice"),
        altered: vec![Altered::Resource("nodes".into())],
        wish: Box::new(submission("nodes=1:gpus=2")),
        slot_limit: None,
        comment: Box::default(),
    })));
    assert_eq!(refused.err(), Some(Rejection::NeverFits(why.into())));
    world.attach("b", inventory("b", 8, 2), Vec::new());
    world.exits(running, 0);
    assert_eq!(start(&mut world), [2, 3, 4]);
}

#[test]
fn jobs_that_start_together_cannot_wait_for_each_other() {
    let mut world = World::with_nodes(&[("a", 8, 2)]);
    let after = |job: JobId| vec![(Condition::After, job)];
    let circle = |ids: &[u64]| {
        let way = ids.iter().map(|seq| JobId::whole(*seq)).collect();
        Err(Rejection::DependencyLoop(way))
    };
    let master = submit(&mut world, "", Tie::SyncCount(1));
    let between = Submission {
        depends: after(master),
        ..submission("")
    };
    let between = world.submit(between).unwrap();
    let with = |depends, ties: &[Tie]| Submission {
        depends,
        ties: [&[Tie::SyncWith(master)], ties].concat(),
        ..submission("")
    };
    assert_eq!(world.submit(with(after(master), &[])), circle(&[3, 1, 3]));
    assert_eq!(
        world.submit(with(after(between), &[])),
        circle(&[3, 2, 1, 3])
    );
    let before = [Tie::Before(Condition::After, master)];
    assert_eq!(world.submit(with(Vec::new(), &before)), circle(&[3, 1, 3]));
    let other = world.submit(with(Vec::new(), &[])).unwrap();
    assert_eq!(start(&mut world), [master.seq, other.seq]);
}

#[test]
fn what_one_of_a_set_waits_for_cannot_wait_for_another_of_it() {
    let mut world = World::with_nodes(&[("a", 8, 2)]);
    let awaited = world.queue("");
    let master = Submission {
        depends: vec![(Condition::AfterAny, awaited)],
        ties: vec![Tie::SyncCount(1)],
        ..submission("")
    };
    let master = world.submit(master).unwrap();
    let other = submit(&mut world, "", Tie::SyncWith(master));
    let refused = world.apply(&Event::Alter(Box::new(AlterOrder {
        job: awaited,
        members: None,
        by: caller("alice"),
        altered: vec![Altered::Depends],
        wish: Box::new(Submission {
            depends: vec![(Condition::After, other)],
            ..submission("")
        }),
        slot_limit: None,
        comment: Box::default(),
    })));
    let way = [awaited, other, master, awaited].to_vec();
    assert_eq!(refused.err(), Some(Rejection::DependencyLoop(way)));
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
