//! Advance reservations: what they get, who may make them, what their jobs get inside, and how they end.

use capstan_core::{
    CancelOrder, Event, JobSpec, Rejection, Reply, ReserveOrder, ReserveProblem, ReserveWish,
};
use capstan_types::{JobId, Reason, ReservationId, Span, Timestamp};

use crate::harness::{DAWN, World, caller, submission};

/// So many seconds after dawn.
pub(crate) fn at(secs: u64) -> Timestamp {
    DAWN.plus_secs(secs)
}

pub(crate) fn spans(times: &[(u64, u64)]) -> Vec<Span> {
    let span = |(from, until): &(u64, u64)| Span {
        from: at(*from),
        until: at(*until),
    };
    times.iter().map(span).collect()
}

pub(crate) fn order(wish: ReserveWish, times: &[(u64, u64)]) -> ReserveOrder {
    ReserveOrder {
        by: caller("root"),
        name: "course".into(),
        wish,
        users: Vec::new(),
        groups: Vec::new(),
        spans: spans(times),
        rule: "".into(),
        is_forced: false,
    }
}

/// What a job would get that asks for this.
pub(crate) fn for_jobs(resources: &str) -> ReserveWish {
    let spec: JobSpec = submission(resources).spec;
    ReserveWish::Jobs(Box::new(spec))
}

pub(crate) fn reserve(world: &mut World, order: ReserveOrder) -> Result<ReservationId, Rejection> {
    let outcome = world.apply(&Event::Reserve(Box::new(order)))?;
    match outcome.reply {
        Reply::Reserved(id) => Ok(id),
        other @ (Reply::Done | Reply::Submitted(_) | Reply::SomeUnchanged) => {
            panic!("a reservation is answered with its id: {other:?}")
        }
    }
}

fn refused(world: &mut World, order: ReserveOrder) -> ReserveProblem {
    match reserve(world, order) {
        Err(Rejection::Reserve(problem)) => problem,
        other => panic!("it is refused for the reservation's sake: {other:?}"),
    }
}

/// A job of `user` in the queue of a reservation.
fn inside(
    world: &mut World,
    id: ReservationId,
    user: &str,
    resources: &str,
) -> Result<JobId, Rejection> {
    let mut job = submission(resources);
    job.queue = Some(id.queue());
    job.spec.owner.user = user.into();
    world.submit(job)
}

pub(crate) fn reason(world: &World, job: JobId) -> Option<Reason> {
    let plan = world.plan();
    let found = plan.reasons.iter().find(|(id, _)| *id == job);
    found.map(|(_, reason)| reason.clone())
}

#[test]
fn jobs_of_a_reservation_start_when_it_begins_and_on_its_nodes() {
    let mut world = World::with_nodes(&[("a", 8, 4), ("b", 8, 4)]);
    let mut wish = order(for_jobs("nodes=b:ppn=4:gpus=2"), &[(1000, 5000)]);
    wish.users.push("alice@*".into());
    let id = reserve(&mut world, wish).unwrap();
    assert_eq!(id.to_string(), "R1");
    let job = inside(
        &mut world,
        id,
        "alice",
        "nodes=1:ppn=4:gpus=2 walltime=3000",
    )
    .unwrap();
    world.place();
    assert_eq!(
        reason(&world, job),
        Some(Reason::ReservationBegins {
            reservation: id,
            starts: at(1000)
        })
    );
    assert_eq!(world.plan().look_again, Some(at(1000)));
    world.pass(1000);
    world.place();
    assert_eq!(world.letter(job), 'R');
    assert_eq!(world.node_of(job).as_str(), "b");
}

#[test]
fn strangers_are_not_let_into_its_queue() {
    let mut world = World::with_nodes(&[("a", 8, 4)]);
    let mut wish = order(for_jobs("nodes=1:gpus=2"), &[(1000, 5000)]);
    wish.by.user = "olga".into();
    wish.groups.push("students".into());
    let id = reserve(&mut world, wish).unwrap();
    inside(&mut world, id, "olga", "nodes=1:gpus=1").unwrap();
    let stranger = inside(&mut world, id, "mallory", "nodes=1:gpus=1");
    assert!(
        matches!(stranger, Err(Rejection::QueueRefuses { .. })),
        "{stranger:?}"
    );
    let mut student = submission("nodes=1:gpus=1");
    student.queue = Some(id.queue());
    student.spec.owner.user = "sven".into();
    student.spec.owner.group = "students".into();
    world.submit(student).unwrap();
}

#[test]
fn a_job_that_would_run_into_a_reservation_waits_and_a_shorter_one_starts() {
    let mut world = World::with_nodes(&[("a", 8, 4)]);
    let id = reserve(
        &mut world,
        order(for_jobs("nodes=1:ppn=8:gpus=4"), &[(1000, 5000)]),
    )
    .unwrap();
    let long = world.queue("nodes=1:gpus=1 walltime=1001");
    world.place();
    assert_eq!(
        reason(&world, long),
        Some(Reason::Window {
            reservation: id,
            name: "course".into(),
            starts: at(1000),
            fits_secs: 1000
        })
    );
    // What is suggested comes true.
    let short = world.queue("nodes=1:gpus=1 walltime=1000");
    world.place();
    assert_eq!(world.letter(short), 'R');
    assert_eq!(world.letter(long), 'Q');
    world.started(short);
    world.pass(900);
    world.exits(short, 0);
    world.pass(4200);
    world.place();
    assert_eq!(world.letter(long), 'R');
}

#[test]
fn what_a_reservation_does_not_take_is_for_everybody() {
    let mut world = World::with_nodes(&[("a", 8, 4)]);
    let id = reserve(
        &mut world,
        order(for_jobs("nodes=1:ppn=4:gpus=2"), &[(1000, 5000)]),
    )
    .unwrap();
    let three = world.queue("nodes=1:gpus=3 walltime=9000");
    // It ends when the nodes are promised to the one before it.
    let two = world.queue("nodes=1:gpus=2 walltime=5000");
    world.place();
    assert_eq!((world.letter(three), world.letter(two)), ('Q', 'R'));
    assert!(matches!(
        reason(&world, three),
        Some(Reason::NotEnoughCards { .. } | Reason::Window { .. })
    ));
    world.started(two);
    world.pass(1000);
    // Inside: two jobs of one card fit, a third does not, whatever is free elsewhere.
    let jobs: Vec<JobId> = (0..3)
        .map(|_| inside(&mut world, id, "root", "nodes=1:gpus=1 walltime=100").unwrap())
        .collect();
    world.place();
    assert_eq!(world.letter(jobs[0]), 'R');
    assert_eq!(world.letter(jobs[1]), 'R');
    assert_eq!(reason(&world, jobs[2]), Some(Reason::ReservationFull(id)));
    // What they use is not taken twice from the others: two cards are lent, two are used inside.
    world.started(jobs[0]);
    world.exits(two, 0);
    let again = world.queue("nodes=1:gpus=2 walltime=4000");
    world.place();
    assert_eq!(world.letter(again), 'R');
}

#[test]
fn a_job_that_would_outlast_its_reservation_is_told_how_long_it_may_be() {
    let mut world = World::with_nodes(&[("a", 8, 4)]);
    let id = reserve(
        &mut world,
        order(for_jobs("nodes=1:gpus=2"), &[(0, 500), (1000, 1500)]),
    )
    .unwrap();
    assert_eq!(id.to_string(), "S1");
    let job = inside(&mut world, id, "root", "nodes=1:gpus=1 walltime=501").unwrap();
    assert_eq!(
        reason(&world, job),
        Some(Reason::ReservationEnds {
            reservation: id,
            ends: at(500),
            again: Some(at(1000)),
            fits_secs: 500
        })
    );
    let fits = inside(&mut world, id, "root", "nodes=1:gpus=1 walltime=500").unwrap();
    world.place();
    assert_eq!(world.letter(fits), 'R');
}

#[test]
fn what_still_runs_when_a_time_is_over_is_stopped_and_waits_for_the_next() {
    let mut world = World::with_nodes(&[("a", 8, 4)]);
    let id = reserve(
        &mut world,
        order(for_jobs("nodes=1:gpus=2"), &[(0, 500), (1000, 1500)]),
    )
    .unwrap();
    let job = inside(&mut world, id, "root", "nodes=1:gpus=1 walltime=500").unwrap();
    world.place();
    world.started(job);
    world.pass(500);
    assert_eq!(world.letter(job), 'E');
    world.exits(job, 271);
    assert_eq!(world.letter(job), 'Q');
    world.pass(500);
    world.place();
    assert_eq!(world.letter(job), 'R');
    world.started(job);
    world.pass(500);
    assert_eq!(world.letter(job), 'E');
    // It was the last time: reservation and queue are gone, and the job ends.
    assert!(world.state.reservation(id).is_none());
    let settings = world.state.settings().unwrap();
    assert!(!settings.queues.contains_key(id.queue().as_str()));
    world.exits(job, 271);
    assert_eq!(world.letter(job), 'C');
}

#[test]
fn jobs_that_wait_go_with_their_reservation() {
    let mut world = World::with_nodes(&[("a", 8, 4)]);
    let id = reserve(
        &mut world,
        order(for_jobs("nodes=1:gpus=2"), &[(1000, 1500)]),
    )
    .unwrap();
    let job = inside(&mut world, id, "root", "nodes=1:gpus=1").unwrap();
    let mut array = crate::harness::array("0-3", "nodes=1:gpus=1");
    array.queue = Some(id.queue());
    array.spec.owner.user = "root".into();
    let array = world.submit(array).unwrap();
    let cancel = |user: &str| {
        Event::CancelReservation(CancelOrder {
            reservation: id,
            by: caller(user),
        })
    };
    let refused = world.apply(&cancel("mallory")).unwrap_err();
    assert_eq!(refused, ReserveProblem::NotOwner(id).into());
    world.must(&cancel("root"));
    assert_eq!((world.letter(job), world.letter(array)), ('C', 'C'));
    let refused = world.apply(&cancel("root")).unwrap_err();
    assert_eq!(refused, ReserveProblem::Unknown(id).into());
}

#[test]
fn a_reservation_gets_all_it_asks_for_or_says_when_it_would() {
    let mut world = World::with_nodes(&[("a", 8, 4), ("b", 8, 4)]);
    let running = world.queue("nodes=b:gpus=4 walltime=3000");
    world.place();
    world.started(running);
    let wish = || for_jobs("nodes=2:gpus=4");
    let problem = refused(&mut world, order(wish(), &[(1000, 2000)]));
    let expected = ReserveProblem::NotFree {
        wanted: 2,
        free: 1,
        fits_at: Some(at(3000)),
    };
    assert_eq!(problem, expected);
    assert!(
        problem
            .to_string()
            .ends_with("it would fit from 2027-01-15 08:50:00 UTC on"),
        "{problem}"
    );
    reserve(&mut world, order(wish(), &[(3000, 4000)])).unwrap();
    // The next one finds the nodes taken in that time, and in no other.
    let problem = refused(&mut world, order(wish(), &[(3999, 4001)]));
    assert!(
        matches!(problem, ReserveProblem::NotFree { fits_at: Some(from), .. } if from == at(4000))
    );
    reserve(&mut world, order(wish(), &[(4000, 5000)])).unwrap();
    let never = reserve(
        &mut world,
        order(for_jobs("nodes=3:gpus=4"), &[(9000, 9001)]),
    );
    assert!(matches!(never, Err(Rejection::NeverFits(_))), "{never:?}");
}

#[test]
fn users_reserve_for_their_jobs_where_the_site_lets_them_and_no_more_than_a_few() {
    let mut world = World::with_nodes(&[("a", 8, 4)]);
    let by_alice = |wish: ReserveWish, times: &[(u64, u64)]| ReserveOrder {
        by: caller("alice"),
        ..order(wish, times)
    };
    let small = || for_jobs("nodes=1:ppn=1");
    let problem = refused(&mut world, by_alice(small(), &[(100, 200)]));
    assert_eq!(problem, ReserveProblem::NotAllowed);
    let mut settings = world.settings.clone();
    settings.set("reservations_by_users", "True");
    world.must(&Event::ServerStarted(settings.into()));
    world.attach("a", crate::harness::inventory("a", 8, 4), Vec::new());
    for n in 0..10 {
        reserve(
            &mut world,
            by_alice(small(), &[(1000 * (n + 1), 1000 * (n + 1) + 10)]),
        )
        .unwrap();
    }
    let problem = refused(&mut world, by_alice(small(), &[(90_000, 90_001)]));
    assert_eq!(problem, ReserveProblem::TooMany { max: 10 });
    let closing = ReserveWish::Maintenance { hosts: Vec::new() };
    let problem = refused(&mut world, by_alice(closing, &[(90_000, 90_001)]));
    assert_eq!(problem, ReserveProblem::NotAllowed);
}

#[test]
fn a_reservation_takes_no_queue_of_the_site() {
    let mut world = World::with_nodes(&[("a", 8, 4)]);
    let mut settings = world.settings.clone();
    settings.add_queue(capstan_core::Queue::new("R1".into()));
    world.must(&Event::ServerStarted(settings.into()));
    world.attach("a", crate::harness::inventory("a", 8, 4), Vec::new());
    let id = reserve(&mut world, order(for_jobs("nodes=1"), &[(1000, 2000)])).unwrap();
    assert_eq!(id.to_string(), "R2");
}

#[test]
fn times_that_cannot_be_are_refused() {
    let mut world = World::with_nodes(&[("a", 8, 4)]);
    world.pass(1000);
    let mut check = |times: &[(u64, u64)], expected: ReserveProblem| {
        assert_eq!(
            refused(&mut world, order(for_jobs("nodes=1"), times)),
            expected
        );
    };
    check(&[], ReserveProblem::NoTime);
    check(&[(2000, 2000)], ReserveProblem::NoTime);
    check(&[(10, 20)], ReserveProblem::Past);
    check(
        &[(2000, 3000), (2500, 3500)],
        ReserveProblem::OverlapsItself,
    );
    let many: Vec<(u64, u64)> = (0..501).map(|n| (2000 + n * 2, 2001 + n * 2)).collect();
    check(&many, ReserveProblem::TooOften { max: 500 });
}
