//! Torque's scheduler, where a site wants it: the recorded sessions C02, D04, G01, H08 and I03.

use capstan_core::{Scheduler, Settings};
use capstan_types::{Reason, ServerName};

use crate::harness::{World, array, inventory, submission};
use crate::text::check;

/// The nodes of the recordings: declared in this order, which is not that of their names.
fn world() -> World {
    let mut settings = Settings::new(ServerName::from("hn1"));
    settings.scheduler = Scheduler::Fifo;
    let mut world = World::new(settings);
    for (name, slots, cards) in [("gpu01", 4, 2), ("gpu02", 4, 2), ("cpu01", 2, 0)] {
        world.attach(name, inventory(name, slots, cards), Vec::new());
    }
    world
}

fn places(world: &mut World) -> Vec<String> {
    let plan = world.place();
    let places = plan.placements.iter().map(|placement| {
        let shares = placement.shares.iter();
        let shares = shares.map(|share| format!("{}/{:?}", share.node, share.slots));
        shares.collect::<Vec<_>>().join("+")
    });
    places.collect()
}

#[test]
fn nodes_are_taken_as_declared_and_of_several_the_last_comes_first_c02() {
    let mut world = world();
    world.queue("nodes=2:ppn=2");
    world.queue("nodes=1:ppn=1");
    world.queue("nodes=cpu01:ppn=1+gpu01:ppn=1");
    assert_eq!(
        places(&mut world),
        [
            "gpu02/[0, 1]+gpu01/[0, 1]",
            "gpu01/[2]",
            "cpu01/[0]+gpu01/[3]"
        ]
    );
}

#[test]
fn who_fits_starts_whatever_waits_before_and_priority_is_for_show_h08() {
    let mut world = world();
    world.queue("nodes=1:ppn=4");
    let mut urgent = submission("nodes=2:ppn=4");
    urgent.priority = 100;
    let urgent = world.submit(urgent).unwrap();
    world.queue("nodes=1:ppn=1");
    let plan = world.plan();
    assert_eq!(places(&mut world), ["gpu01/[0, 1, 2, 3]", "gpu02/[0]"]);
    let [(job, reason)] = &plan.reasons[..] else {
        panic!("one waits: {:?}", plan.reasons);
    };
    assert_eq!(*job, urgent);
    let comment = "Not Running: Not enough of the right type of nodes are available";
    assert_eq!(reason.comment().as_deref(), Some(comment));
}

#[test]
fn nodes_are_kept_for_who_has_waited_a_day() {
    let mut world = world();
    let long = world.queue("nodes=1:ppn=4");
    world.place();
    world.started(long);
    let starving = world.queue("nodes=2:ppn=4");
    world.pass(3600);
    let quick = world.queue("ncpus=1");
    world.place();
    world.exits(quick, 0);
    world.pass(Scheduler::STARVING_SECS);
    world.queue("nodes=gpu02");
    let plan = world.place();
    assert!(plan.placements.is_empty(), "{plan:?}");
    let behind = plan.reasons.iter().find(|(job, _)| *job != starving);
    assert_eq!(behind.unwrap().1, Reason::BehindJob(starving));
    world.exits(long, 0);
    world.place();
    assert_eq!(world.letter(starving), 'R');
}

#[test]
fn a_server_that_does_not_schedule_starts_nothing_and_says_nothing() {
    let mut world = world();
    world.settings.set("scheduling", "False");
    let settings = world.settings.clone();
    world.must(&capstan_core::Event::ServerStarted(settings.into()));
    world.attach("gpu01", inventory("gpu01", 4, 2), Vec::new());
    world.queue("");
    let plan = world.plan();
    assert!(plan.placements.is_empty() && plan.reasons.is_empty());
}

#[test]
fn members_within_the_slot_limit_fill_the_first_node_g01() {
    let mut world = world();
    world.submit(array("0-5%2", "nodes=1")).unwrap();
    assert_eq!(places(&mut world), ["gpu01/[0]", "gpu01/[1]"]);
}

#[test]
fn cards_are_taken_where_they_are_declared_first() {
    check(
        "fifo
         nodes  b: 8 gpu   a: 2 gpu
         queue  j1: 1 gpu   j2: procs=10   j3: 2 gpu
         =>     j1 on b/0 gpu 0
                j2 on b/1,2,3,4,5,6,7 + a/0,1,2
                j3 on a/3 gpu 0,1",
    );
}

#[test]
fn limits_on_running_jobs_are_said_in_torques_words() {
    let mut world = world();
    let mut settings = world.settings.clone();
    let batch = settings.queues.get_mut("batch").unwrap();
    batch.set("max_user_run", "1");
    batch.set("max_running", "2");
    world.settings = settings.clone();
    world.must(&capstan_core::Event::ServerStarted(settings.into()));
    world.attach("gpu01", inventory("gpu01", 4, 2), Vec::new());
    let user = |world: &mut World, user: &str| {
        let mut job = submission("");
        job.spec.owner.user = user.into();
        world.submit(job).unwrap()
    };
    user(&mut world, "alice");
    let second = user(&mut world, "alice");
    user(&mut world, "bob");
    let third = user(&mut world, "carol");
    let plan = world.place();
    assert_eq!(plan.placements.len(), 2);
    let comment = |id| {
        let found = plan.reasons.iter().find(|(job, _)| *job == id);
        found.and_then(|(_, reason)| reason.comment()).unwrap()
    };
    assert_eq!(
        comment(second),
        "Not Running: User has reached queue running job limit."
    );
    assert_eq!(
        comment(third),
        "Not Running: Queue job limit has been reached."
    );
}
