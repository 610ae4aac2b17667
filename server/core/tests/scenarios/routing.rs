//! Jobs that wait in routing queues, and when they go on.

use capstan_core::{Event, JobState, Rejection, Submission};
use capstan_types::{JobId, Reason};

use crate::harness::{World, array, submission};
use crate::managing::order;

/// A routing queue `any` to `small`, which takes one job, and then to `large`, which takes walltimes from an hour on.
fn world() -> World {
    let mut world = World::with_nodes(&[("a", 8, 0)]);
    for line in [
        "create queue small queue_type=e;enabled=t;started=t;max_queuable=1",
        "create queue large queue_type=e;enabled=t;started=t;resources_min.walltime=01:00:00",
        "create queue any queue_type=r;route_destinations=small,large;enabled=t;started=t",
    ] {
        manage(&mut world, line);
    }
    world
}

fn manage(world: &mut World, line: &str) {
    world.must(&order("root", line));
}

fn to_any(resources: &str) -> Submission {
    Submission {
        queue: Some("any".into()),
        ..submission(resources)
    }
}

fn queue_of(world: &World, job: JobId) -> String {
    world.job(job).queue.to_string()
}

#[test]
fn a_job_waits_where_it_is_until_a_destination_has_room() {
    let mut world = world();
    let first = world.submit(to_any("walltime=60")).unwrap();
    let second = world.submit(to_any("walltime=60")).unwrap();
    let third = world.submit(to_any("walltime=60")).unwrap();
    let long = world.submit(to_any("walltime=02:00:00")).unwrap();
    assert_eq!(queue_of(&world, first), "small");
    assert_eq!(queue_of(&world, second), "any");
    assert_eq!(queue_of(&world, long), "large");
    let plan = world.place();
    let started: Vec<_> = plan
        .placements
        .iter()
        .map(|placement| placement.job)
        .collect();
    assert!(started.contains(&first) && started.contains(&long));
    let (waits, reason) = &plan.reasons[0];
    assert_eq!(
        (*waits, reason),
        (second, &Reason::NoDestination("any".into()))
    );
    // Time alone finds that there is room, and who came first has it.
    world.pass(30);
    assert_eq!(queue_of(&world, second), "any");
    world.exits(first, 0);
    assert_eq!(queue_of(&world, second), "any");
    assert_eq!(
        capstan_core::next_routing(&world.state, world.now),
        Some(world.now.plus_secs(30))
    );
    world.pass(30);
    assert_eq!(queue_of(&world, second), "small");
    assert_eq!(queue_of(&world, third), "any");
    assert_eq!(world.place().placements[0].job, second);
}

#[test]
fn a_destination_that_is_not_enabled_or_a_stopped_routing_queue_is_waited_for() {
    let mut world = world();
    manage(&mut world, "set queue small enabled = false");
    manage(&mut world, "set queue any route_retry_time = 5");
    let job = world.submit(to_any("walltime=60")).unwrap();
    assert_eq!(queue_of(&world, job), "any");
    let next = capstan_core::next_routing(&world.state, world.now);
    assert_eq!(next, Some(world.now.plus_secs(5)));
    manage(&mut world, "set queue any started = false");
    manage(&mut world, "set queue small enabled = true");
    world.pass(60);
    let late = world.submit(to_any("walltime=02:00:00")).unwrap();
    assert_eq!(
        (queue_of(&world, job), queue_of(&world, late)),
        ("any".into(), "any".into())
    );
    assert_eq!(capstan_core::next_routing(&world.state, world.now), None);
    manage(&mut world, "set queue any started = true");
    world.pass(5);
    assert_eq!(
        (queue_of(&world, job), queue_of(&world, late)),
        ("small".into(), "large".into())
    );
}

#[test]
fn what_no_destination_will_ever_take_is_refused() {
    let mut world = world();
    manage(&mut world, "delete queue small");
    let refused = world.submit(to_any("walltime=60"));
    assert!(matches!(refused, Err(Rejection::NoDestination(_))));
}

#[test]
fn held_jobs_wait_unless_the_queue_says_otherwise() {
    let mut world = world();
    let first = world.submit(to_any("walltime=60")).unwrap();
    let held = world.submit(to_any("walltime=60")).unwrap();
    world.hold(held, "u").unwrap();
    let waiting = Submission {
        not_before: Some(world.now.plus_secs(100_000)),
        ..to_any("walltime=60")
    };
    let waiting = world.submit(waiting).unwrap();
    world.delete(first).unwrap();
    world.pass(30);
    assert_eq!(
        (queue_of(&world, held), queue_of(&world, waiting)),
        ("any".into(), "any".into())
    );
    manage(
        &mut world,
        "set queue any route_held_jobs = true;route_waiting_jobs = true",
    );
    manage(&mut world, "unset queue small max_queuable");
    world.pass(30);
    assert_eq!(
        (queue_of(&world, held), queue_of(&world, waiting)),
        ("small".into(), "small".into())
    );
}

#[test]
fn who_waits_for_too_long_is_aborted() {
    let mut world = world();
    manage(&mut world, "set queue any route_lifetime = 3600");
    world.submit(to_any("walltime=60")).unwrap();
    let job = world.submit(to_any("walltime=60")).unwrap();
    let many = Submission {
        spec: capstan_core::JobSpec {
            array: array("0-3", "").spec.array,
            ..to_any("walltime=60").spec
        },
        ..to_any("")
    };
    let many = world.submit(many).unwrap();
    world.pass(3590);
    let next = capstan_core::next_routing(&world.state, world.now);
    assert_eq!(next, Some(world.now.plus_secs(10)));
    world.pass(10);
    for job in [job, many] {
        assert!(matches!(world.job(job).state, JobState::Ended(_)), "{job}");
        let comment = world.job(job).comment.clone();
        assert_eq!(comment.as_deref(), Some("Time in Route Queue Expired"));
    }
}

#[test]
fn a_job_in_a_routing_queue_is_not_run_by_force() {
    let mut world = world();
    world.submit(to_any("walltime=60")).unwrap();
    let job = world.submit(to_any("walltime=60")).unwrap();
    let run = Event::Run(capstan_core::RunOrder {
        job,
        by: crate::harness::caller("root"),
        hosts: None,
    });
    assert!(world.apply(&run).is_err());
}
