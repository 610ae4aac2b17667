//! Who may reach a running job, and which nodes work on one together.

use capstan_core::query::{Asker, NoSister, Unreached, reach, sisters};
use capstan_types::{JobId, NodeName};

use crate::harness::{World, array};

const OPERATOR: Asker<'_> = Asker {
    user: "root",
    is_operator: true,
};

fn owner(world: &World, job: JobId) -> String {
    world.job(job).spec.owner.user.to_string()
}

fn check(world: &World, job: JobId, asker: Asker<'_>, expected: Result<usize, Unreached>) {
    let seen = reach(&world.state, job, asker).map(|reached| reached.len());
    assert_eq!(seen, expected, "{job} {asker:?}");
}

/// In Torque's order: the id, then the right, then the state.
#[test]
fn a_job_is_reached_by_its_owner_and_operators_while_it_runs() {
    let mut world = World::with_nodes(&[("node01", 1, 0)]);
    let (job, waiting) = (world.queue("nodes=1"), world.queue("nodes=1"));
    let user = owner(&world, job);
    let own = Asker {
        user: &user,
        is_operator: false,
    };
    let other = Asker {
        user: "mallory",
        is_operator: false,
    };
    world.place();
    check(&world, JobId::whole(99), own, Err(Unreached::Unknown));
    check(&world, job, other, Err(Unreached::NotOwner));
    check(&world, waiting, own, Err(Unreached::NotRunning));
    // An attempt that was ordered shows as running, so it is reached.
    check(&world, job, own, Ok(1));
    world.started(job);
    check(&world, job, OPERATOR, Ok(1));
    let reached = reach(&world.state, job, own).unwrap().remove(0);
    assert_eq!(reached.attempt, world.attempt(job));
    assert_eq!(reached.node, NodeName::from("node01"));
    world.delete(job).unwrap();
    check(&world, job, own, Err(Unreached::Exiting));
    world.exits(job, 271);
    check(&world, job, own, Err(Unreached::Ended));
    check(&world, job, other, Err(Unreached::NotOwner));
}

#[test]
fn an_array_is_reached_in_its_running_members() {
    let mut world = World::with_nodes(&[("node01", 2, 0)]);
    let id = world.submit(array("0-3", "nodes=1")).unwrap();
    check(&world, id, OPERATOR, Err(Unreached::NotRunning));
    world.place();
    check(&world, id, OPERATOR, Ok(2));
    check(&world, JobId::member(id.seq, 0), OPERATOR, Ok(1));
    let waiting = JobId::member(id.seq, 3);
    check(&world, waiting, OPERATOR, Err(Unreached::NotRunning));
    let none = JobId::member(id.seq, 9);
    check(&world, none, OPERATOR, Err(Unreached::Unknown));
}

#[test]
fn only_nodes_of_one_attempt_are_sisters() {
    let nodes = [("node01", 1, 0), ("node02", 1, 0), ("node03", 1, 0)];
    let mut world = World::with_nodes(&nodes);
    let job = world.queue("nodes=2");
    world.place();
    let attempt = world.attempt(job);
    let shares = world.job(job).state.run().unwrap().shares.clone();
    let (one, other) = (&shares[0].node, &shares[1].node);
    assert_eq!(sisters(&world.state, attempt, one, other).unwrap().id, job);
    let nodes = nodes.map(|(name, _, _)| NodeName::from(name));
    let third = nodes.iter().find(|&node| node != one && node != other);
    let third = third.unwrap();
    let no_share = Err(NoSister::NoShare(attempt, third.clone()));
    assert_eq!(sisters(&world.state, attempt, one, third), no_share);
    assert_eq!(sisters(&world.state, attempt, third, one), no_share);
    world.exits(job, 0);
    let over = Err(NoSister::NotRunning(attempt));
    assert_eq!(sisters(&world.state, attempt, one, other), over);
}
