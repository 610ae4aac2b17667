//! Fair share as users live it: under a backlog everybody gets his share, however many jobs he has, and what was used is
//! remembered, charged to the right account, and forgotten.

use std::collections::BTreeMap;

use capstan_core::{
    Event, FairShare, JobState, Payer, ReportedPhase, SharePolicy, Submission, Usage,
};
use capstan_types::{JobId, Timestamp};

use crate::harness::{World, submission};
use crate::managing::order;

/// A node of so many cards under policy `fair`, and these lines for `qmgr`.
fn world(cards: u32, lines: &[&str]) -> World {
    let mut world = World::with_nodes(&[("a", 64, cards)]);
    for line in ["set server policy = fair"].iter().chain(lines) {
        world.must(&order("root", line));
    }
    world
}

fn of(user: &str, group: &str, resources: &str) -> Submission {
    let mut job = submission(resources);
    job.spec.owner.user = user.into();
    job.spec.owner.group = group.into();
    job
}

/// Submits so many jobs of each `(user, group, jobs, minutes)`, and runs the cluster, each job for exactly its walltime,
/// until somebody has no job waiting. Returns the minutes of cards that each used.
fn backlog(world: &mut World, users: &[(&str, &str, usize, u64)]) -> BTreeMap<String, u64> {
    let mut left: BTreeMap<String, usize> = BTreeMap::new();
    for (user, group, jobs, minutes) in users {
        let walltime = format!("nodes=1:gpus=1 walltime={}", minutes * 60);
        for _ in 0..*jobs {
            world.submit(of(user, group, &walltime)).unwrap();
        }
        left.insert((*user).to_owned(), *jobs);
    }
    let mut used: BTreeMap<String, u64> = BTreeMap::new();
    let mut running: Vec<(Timestamp, JobId)> = Vec::new();
    while left.values().all(|jobs| *jobs > 0) {
        for placement in world.place().placements {
            let job = world.job(placement.job);
            let secs = job.spec.resources.seconds("walltime").unwrap().0;
            let user = job.spec.owner.user.to_string();
            *left.get_mut(&user).unwrap() -= 1;
            *used.entry(user).or_default() += secs / 60;
            running.push((world.now.plus_secs(secs), placement.job));
        }
        running.sort();
        let (next, job) = running.remove(0);
        world.now = next;
        ends(world, job);
    }
    used
}

fn ends(world: &mut World, job: JobId) {
    let (attempt, node) = (world.attempt(job), world.node_of(job));
    let phase = ReportedPhase::Exited {
        at: world.now,
        exit_status: 0,
        usage: Usage::default(),
        unclean: Vec::new(),
        cause: Box::default(),
        images: Vec::new(),
        undelivered: Box::default(),
    };
    let report = capstan_core::AttemptReport { attempt, phase };
    world.must(&Event::Reported { node, report });
}

/// The part of `user`, in per cent.
fn percent(used: &BTreeMap<String, u64>, user: &str) -> u64 {
    let all: u64 = used.values().sum();
    used[user] * 100 / all
}

#[test]
fn ten_times_the_jobs_are_no_larger_share() {
    let mut world = world(4, &[]);
    let used = backlog(&mut world, &[("hog", "g", 250, 10), ("bob", "g", 25, 10)]);
    assert!((47..=53).contains(&percent(&used, "hog")), "{used:?}");
}

/// The weight says how strict the shares are against what else orders jobs: short work goes before long work.
#[test]
fn with_a_large_weight_short_jobs_are_no_larger_share_than_long_ones() {
    let users = [("long", "g", 40, 60), ("short", "g", 150, 10)];
    let of_long = |weight: &str| {
        let mut world = world(4, &[&format!("set server weight_fairshare = {weight}")]);
        percent(&backlog(&mut world, &users), "long")
    };
    let (lax, strict) = (of_long("400"), of_long("10000"));
    assert!(lax < strict, "{lax} {strict}");
    assert!((46..=54).contains(&strict), "{strict}");
}

#[test]
fn a_group_of_many_has_no_larger_share_than_a_group_of_one() {
    let mut world = world(
        4,
        &["set server fairshare_shares = vision=3,vision/alice=2"],
    );
    let users = [
        ("alice", "vision", 80, 10),
        ("bob", "vision", 60, 10),
        ("carol", "nlp", 60, 10),
    ];
    let used = backlog(&mut world, &users);
    // Three parts of four for vision, two of three of these for alice.
    assert!((47..=53).contains(&percent(&used, "alice")), "{used:?}");
    assert!((22..=28).contains(&percent(&used, "bob")), "{used:?}");
    assert!((22..=28).contains(&percent(&used, "carol")), "{used:?}");
}

/// A backlog of weeks: jobs that have waited for longer than anybody should are no way around the shares.
#[test]
fn a_backlog_of_weeks_is_no_way_around_the_shares() {
    let mut world = world(2, &[]);
    let used = backlog(&mut world, &[("hog", "g", 200, 600), ("bob", "g", 40, 600)]);
    assert!((45..=55).contains(&percent(&used, "hog")), "{used:?}");
}

#[test]
fn what_an_attempt_held_is_charged_to_its_owner_when_it_ends() {
    let lines = ["set server fairshare_card_weights = h200=3"];
    let mut world = world(4, &lines);
    let job = world
        .submit(of("alice", "vision", "nodes=1:gpus=2 walltime=02:00:00"))
        .unwrap();
    let cores = world
        .submit(of("bob", "vision", "nodes=1:ppn=20 walltime=02:00:00"))
        .unwrap();
    world.place();
    let used = |world: &World, user: &str| {
        let shares = FairShare::of(&world.state, world.now);
        shares.standing(user, "vision").user_used
    };
    assert_eq!(used(&world, "alice"), 0);
    world.now = world.now.plus_secs(600);
    let near = |seen: u64, expected: u64| {
        // A week's half-life takes next to nothing of ten minutes.
        assert!(
            seen <= expected && seen * 1000 >= expected * 999,
            "{seen} of {expected}"
        );
    };
    // While they run: two cards that count three each; twenty slots that count a twentieth of a card each.
    near(used(&world, "alice"), 600 * 6000);
    near(used(&world, "bob"), 600 * 1000);
    let before = used(&world, "alice");
    ends(&mut world, job);
    ends(&mut world, cores);
    assert_eq!(used(&world, "alice"), before, "an end changes nothing");
    let payer = Payer {
        group: "vision".into(),
        user: "alice".into(),
    };
    assert_eq!(world.state.spending(&payer).unwrap().used, before);
    world.now = world.now.plus_secs(7 * 86_400);
    near(used(&world, "alice"), before / 2);
}

#[test]
fn each_attempt_of_a_job_that_is_run_again_is_charged() {
    let mut world = world(1, &[]);
    let job = world
        .submit(of("alice", "g", "nodes=1:gpus=1 walltime=02:00:00"))
        .unwrap();
    for _ in 0..3 {
        world.place();
        world.started(job);
        world.now = world.now.plus_secs(1000);
        let rerun = capstan_core::RerunOrder {
            job,
            by: crate::harness::caller("root"),
            force: false,
        };
        world.must(&Event::Rerun(rerun));
        ends(&mut world, job);
        assert!(matches!(world.job(job).state, JobState::Pending));
    }
    let used = FairShare::of(&world.state, world.now)
        .standing("alice", "g")
        .user_used;
    assert!((2_990_000..=3_000_000).contains(&used), "{used}");
}

#[test]
fn who_has_used_nothing_for_long_is_forgotten() {
    let mut world = world(1, &["set server fairshare_half_life = 3600"]);
    let run = |world: &mut World, user: &str| {
        let job = of(user, "g", "nodes=1:gpus=1 walltime=00:10:00");
        let job = world.submit(job).unwrap();
        world.place();
        world.now = world.now.plus_secs(600);
        ends(world, job);
    };
    run(&mut world, "alice");
    assert_eq!(world.state.spendings().len(), 1);
    world.pass(30 * 86_400);
    run(&mut world, "bob");
    let left: Vec<_> = world
        .state
        .spendings()
        .map(|spending| &*spending.payer.user)
        .collect();
    assert_eq!(left, ["bob"]);
}

#[test]
fn the_defaults_are_a_week_and_a_twentieth() {
    let policy = SharePolicy::of(None);
    assert_eq!(policy.half_life_secs(), 7 * 86_400);
    let shares = FairShare::of(&capstan_core::State::default(), Timestamp(0));
    assert_eq!(shares.cost(0, 20, 10), 10_000);
    assert_eq!(shares.cost(2, 20, 10), 20_000);
}
