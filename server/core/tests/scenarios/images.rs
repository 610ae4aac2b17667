//! Jobs that run in an image: it comes before they get anything, once for all who want it, and what becomes of those whose
//! image cannot be had.

use capstan_core::{
    Effect, Event, HoldOrder, Holds, ImageProblem, ImageReport, JobState, RunOrder, WaitedFor,
};
use capstan_types::{JobId, NodeName, NodeSpec, Reason};

use super::text::{build, check};
use crate::harness::World;

const IMAGE: &str = "lab:5000/torch:2";

/// What came of `IMAGE` on the terms of alice.
fn says(world: &mut World, node: &str, problem: Option<(&str, bool)>) {
    world.must(&Event::ImagePrepared {
        node: NodeName::from(node),
        report: ImageReport {
            image: IMAGE.into(),
            uid: 1000,
            problem: problem.map(|(text, is_lasting)| ImageProblem {
                text: text.into(),
                is_lasting,
            }),
        },
    });
}

fn has_it(world: &mut World, node: &str) {
    says(world, node, None);
}

fn fails(world: &mut World, node: &str, is_lasting: bool) {
    says(world, node, Some(("the registry sleeps", is_lasting)));
}

/// How often nodes were told to get an image, and to leave it.
fn told(world: &World) -> (usize, usize) {
    let gets = |effect: &&Effect| matches!(effect, Effect::PrepareImage { .. });
    let drops = |effect: &&Effect| matches!(effect, Effect::DropImage { .. });
    let effects = || world.effects.iter();
    (
        effects().filter(gets).count(),
        effects().filter(drops).count(),
    )
}

fn one(text: &str) -> (World, JobId) {
    let (world, _) = build(text);
    (world, JobId::whole(1))
}

#[test]
fn an_image_comes_before_its_job_holds_anything_and_others_use_the_cards() {
    check(
        "nodes  a: 2 gpu engine
         queue  j1: 2 gpu inside lab:5000/torch:2 walltime=3600 prio 1000 in high   j2: 1 gpu walltime=30   j3: 1 gpu walltime=7200
         =>     j2 on a/0 gpu 0
                a gets lab:5000/torch:2 for j1
                j1 waits: image lab:5000/torch:2 is being pulled on a
                j3 waits: its nodes are kept for job 1",
    );
}

#[test]
fn a_node_that_holds_the_image_is_taken_at_once_however_good_the_others_are() {
    check(
        "nodes  a: 1 gpu engine   b: 8 gpu engine image lab:5000/torch:2
         queue  j1: 1 gpu inside lab:5000/torch:2
         =>     j1 on b/0 gpu 0",
    );
}

#[test]
fn nodes_without_an_engine_are_not_waited_for() {
    check(
        "nodes  a: 1 gpu
         queue  j1: 1 gpu inside lab:5000/torch:2
         =>     j1 on a/0 gpu 0",
    );
}

#[test]
fn where_the_engine_does_not_answer_no_job_with_an_image_starts_and_is_told_so() {
    check(
        "nodes  a: 2 gpu away   b: 1 gpu engine image lab:5000/torch:2
         queue  j1: 1 gpu inside lab:5000/torch:2   j2: 1 gpu inside lab:5000/torch:2   j3: 1 gpu
         =>     j1 on b/0 gpu 0
                j3 on a/0 gpu 0
                j2 waits: the container engine of a does not answer: dockerd is down",
    );
}

#[test]
fn one_node_gets_an_image_once_for_all_and_so_many_nodes_as_the_jobs_will_fill() {
    check(
        "nodes  a: 2 gpu engine   b: 2 gpu engine   c: 2 gpu engine
         queue  j1: 1 gpu inside lab:5000/torch:2   j2: 1 gpu inside lab:5000/torch:2   j3: 2 gpu inside lab:5000/torch:2
         =>     a gets lab:5000/torch:2 for j3
                b gets lab:5000/torch:2 for j1
                j1 waits: image lab:5000/torch:2 is being pulled on b
                j2 waits: image lab:5000/torch:2 is being pulled on b
                j3 waits: image lab:5000/torch:2 is being pulled on a",
    );
}

/// Eight at once, and half of them for one user.
#[test]
fn one_users_images_leave_a_node_room_for_those_of_others() {
    let nine: Vec<String> = (1..=9)
        .map(|nth| format!("j{nth}: 1 gpu inside lab:5000/slow:{nth}"))
        .collect();
    let (mut world, _) = one(&format!(
        "nodes  a: 64 gpu 64 slots engine
         queue  {}   j10: 1 gpu inside lab:5000/torch:2 uid 1007",
        nine.join("   ")
    ));
    let of = |preparations: &[capstan_core::PrepareOrder]| -> Vec<u64> {
        preparations.iter().map(|order| order.job.seq).collect()
    };
    assert_eq!(of(&world.place().preparations), [1, 2, 3, 4, 10]);
}

/// A gang's tasks run in the image wherever they are.
#[test]
fn all_nodes_of_a_gang_get_its_image_and_it_starts_when_the_last_of_them_has_it() {
    check(
        "nodes  a: 1 gpu engine   b: 1 gpu engine image lab:5000/torch:2   c: 1 gpu engine
         queue  j1: select=3:ngpus=1 inside lab:5000/torch:2
         =>     a gets lab:5000/torch:2 for j1
                c gets lab:5000/torch:2 for j1
                j1 waits: image lab:5000/torch:2 is being pulled on c",
    );
    let (mut world, job) = one("nodes  a: 1 gpu engine   b: 1 gpu engine
         queue  j1: select=2:ngpus=1 inside lab:5000/torch:2");
    world.place();
    has_it(&mut world, "b");
    assert_eq!(world.place().placements, []);
    has_it(&mut world, "a");
    world.place();
    assert_eq!(nodes_of(&world, job), ["a", "b"]);
}

fn nodes_of(world: &World, job: JobId) -> Vec<String> {
    let run = world.job(job).state.run().cloned();
    let shares = run.into_iter().flat_map(|run| run.shares.to_vec());
    shares.map(|share| share.node.to_string()).collect()
}

fn forced(world: &mut World, job: JobId, hosts: &str) {
    let hosts = (!hosts.is_empty()).then(|| NodeSpec::parse(hosts).unwrap());
    let by = crate::harness::caller("root");
    world.must(&Event::Run(RunOrder { job, hosts, by }));
}

#[test]
fn a_job_that_is_started_by_force_has_its_image_first_on_the_nodes_that_were_named() {
    let text = "nodes  a: 1 gpu engine   b: 1 gpu engine
         queue  j1: 1 gpu inside lab:5000/torch:2 held";
    let (mut world, job) = one(text);
    forced(&mut world, job, "b");
    assert_eq!(told(&world), (1, 0));
    assert_eq!(
        nodes_of(&world, job),
        Vec::<String>::new(),
        "nothing is held meanwhile"
    );
    let comment = world.job(job).comment.clone().unwrap();
    assert!(
        comment.contains(IMAGE) && comment.ends_with("to b"),
        "{comment}"
    );
    has_it(&mut world, "b");
    assert_eq!(nodes_of(&world, job), ["b"]);
    assert_eq!(world.job(job).forced, None);

    let (mut world, job) = one(text);
    forced(&mut world, job, "");
    fails(&mut world, "a", false);
    let comment = world.job(job).comment.clone().unwrap();
    assert_eq!(&*comment, "qrun: the registry sleeps");
    assert_eq!(world.job(job).forced, None, "the order has failed");

    let (mut world, job) = one(
        "nodes  a: 8 gpu engine   b: 1 gpu engine image lab:5000/torch:2
         queue  j1: 1 gpu inside lab:5000/torch:2 held",
    );
    forced(&mut world, job, "");
    assert_eq!(nodes_of(&world, job), ["b"], "who has the image goes first");
}

#[test]
fn an_order_to_start_a_job_is_void_when_the_job_is_held_after_it_or_its_nodes_are_taken() {
    let (mut world, job) = one("nodes  a: 1 gpu engine
         queue  j1: 1 gpu inside lab:5000/torch:2   j2: 1 gpu");
    forced(&mut world, job, "");
    forced(&mut world, JobId::whole(2), "");
    has_it(&mut world, "a");
    assert_eq!(nodes_of(&world, job), Vec::<String>::new());
    let comment = world.job(job).comment.clone().unwrap();
    assert!(
        comment.starts_with("qrun: image lab:5000/torch:2 has come, but"),
        "{comment}"
    );
    assert_eq!(world.job(job).forced, None);

    let (mut world, job) = one("nodes  a: 1 gpu engine
         queue  j1: 1 gpu inside lab:5000/torch:2");
    forced(&mut world, job, "");
    world.must(&Event::Hold(HoldOrder {
        job,
        holds: Holds::USER,
        by: crate::harness::caller("alice"),
    }));
    has_it(&mut world, "a");
    assert_eq!(nodes_of(&world, job), Vec::<String>::new());
}

#[test]
fn members_of_an_array_that_are_started_by_force_wait_for_the_image_together() {
    let (mut world, _) = build(
        "nodes  a: 2 gpu engine
         queue  j1: 1 gpu inside lab:5000/torch:2 array 0-2 held",
    );
    let array = JobId::array(1);
    forced(&mut world, array, "");
    assert_eq!(told(&world), (1, 0));
    has_it(&mut world, "a");
    for (index, runs) in [(0, true), (1, true), (2, false)] {
        let member = world.state.resolve(JobId::member(1, index)).unwrap();
        assert_eq!(member.state.run().is_some(), runs, "{index}");
    }
    assert_eq!(world.job(array).forced, None);
}

#[test]
fn each_member_of_an_array_that_is_started_by_force_keeps_its_order() {
    let (mut world, _) = build(
        "nodes  a: 1 gpu engine   b: 1 gpu engine   c: 1 gpu engine
         queue  j1: 1 gpu inside lab:5000/torch:2 array 0-4 held",
    );
    let array = JobId::array(1);
    let member = |index| JobId::member(1, index);
    // The same member twice: the last order counts.
    for (index, host) in [(3, "a"), (1, "b"), (3, "c"), (0, "a")] {
        forced(&mut world, member(index), host);
    }
    let kept = |world: &World| {
        let orders = world.job(array).forced_members.clone();
        orders.iter().map(|one| one.job).collect::<Vec<_>>()
    };
    assert_eq!(kept(&world), [member(1), member(3), member(0)]);
    // Whoever holds one has the last word over that one.
    world.must(&Event::Hold(HoldOrder {
        job: member(0),
        holds: Holds::USER,
        by: crate::harness::caller("alice"),
    }));
    assert_eq!(kept(&world), [member(1), member(3)]);
    for node in ["a", "b", "c"] {
        has_it(&mut world, node);
    }
    assert_eq!(nodes_of(&world, member(1)), ["b"]);
    assert_eq!(nodes_of(&world, member(3)), ["c"]);
    for index in [0, 2, 4] {
        assert_eq!(nodes_of(&world, member(index)), Vec::<String>::new());
    }
    assert_eq!(kept(&world), []);
}

#[test]
fn orders_for_single_members_that_an_array_keeps_are_bounded() {
    let (mut world, _) = build(
        "nodes  a: 1 gpu engine
         queue  j1: 1 gpu inside lab:5000/torch:2 array 0-999 held",
    );
    let by = crate::harness::caller("root");
    let mut order = |index| {
        world.apply(&Event::Run(RunOrder {
            job: JobId::member(1, index),
            hosts: None,
            by: by.clone(),
        }))
    };
    for index in 0..256 {
        order(index).unwrap();
    }
    let refused = order(256).unwrap_err().to_string();
    assert!(refused.starts_with("256 members of array 1[]"), "{refused}");
    order(7).unwrap();
}

#[test]
fn nothing_is_started_by_force_where_no_engine_answers() {
    let (mut world, job) = one("nodes  a: 1 gpu away
         queue  j1: 1 gpu inside lab:5000/torch:2");
    let by = crate::harness::caller("root");
    let order = RunOrder {
        job,
        hosts: None,
        by,
    };
    let refused = world.apply(&Event::Run(order)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the container engine of a does not answer: dockerd is down"
    );
}

#[test]
fn members_of_an_array_have_their_image_come_wherever_they_will_run() {
    check(
        "nodes  a: 1 gpu engine   b: 1 gpu engine
         queue  j1: 1 gpu inside lab:5000/torch:2 array 0-5
         =>     a gets lab:5000/torch:2 for j1[0]
                b gets lab:5000/torch:2 for j1[1]
                j1[] waits: image lab:5000/torch:2 is being pulled on a",
    );
}

#[test]
fn a_job_that_waits_for_cards_has_its_image_come_before_they_are_free() {
    check(
        "nodes  a: 1 gpu engine
         run    j1 on a: 1 gpu walltime=600
         queue  j2: 1 gpu inside lab:5000/torch:2
         =>     a gets lab:5000/torch:2 for j2
                j2 waits: wants 1 card on 1 node; a has 0 free",
    );
}

#[test]
fn an_image_for_which_there_is_time_is_not_fetched_yet() {
    check(
        "nodes  a: 1 gpu engine
         run    j1 on a: 1 gpu walltime=36000
         queue  j2: 1 gpu inside lab:5000/torch:2
         =>     j2 waits: wants 1 card on 1 node; a has 0 free",
    );
}

#[test]
fn when_the_image_has_come_the_job_starts_and_knows_what_it_waited_for() {
    let (mut world, job) = one("nodes  a: 1 gpu engine
         queue  j1: 1 gpu inside lab:5000/torch:2");
    let plan = world.place();
    assert!(matches!(plan.reasons[0].1, Reason::ImageComes { .. }));
    assert_eq!(WaitedFor::of(&plan.reasons[0].1), WaitedFor::Image);
    assert_eq!(told(&world), (1, 0));
    assert_eq!(world.state.held().count(), 0, "it holds nothing");
    // Plans that are made meanwhile order nothing again.
    world.pass(30);
    assert_eq!(world.place().preparations, []);
    has_it(&mut world, "a");
    world.place();
    assert_eq!(world.node_of(job).as_str(), "a");
}

#[test]
fn the_longer_an_image_takes_the_longer_jobs_may_use_the_cards_meanwhile() {
    let (mut world, _) = one("nodes  a: 1 gpu engine
         queue  j1: 1 gpu inside lab:5000/torch:2 walltime=60");
    world.place();
    world.pass(1000);
    let short = world.queue("nodes=1:gpus=1 walltime=900");
    world.place();
    assert!(matches!(world.job(short).state, JobState::Starting(_)));
}

#[test]
fn where_an_image_could_not_be_had_it_is_not_tried_again_for_a_while() {
    let (mut world, _) = one("nodes  a: 1 gpu engine   b: 1 gpu engine
         queue  j1: 1 gpu inside lab:5000/torch:2");
    world.place();
    fails(&mut world, "a", false);
    let plan = world.place();
    assert_eq!(
        plan.preparations[0].node.as_str(),
        "b",
        "the other is tried"
    );
    fails(&mut world, "b", false);
    let plan = world.place();
    assert_eq!(plan.preparations, []);
    let Reason::ImageRefused { problem, again, .. } = &plan.reasons[0].1 else {
        panic!("{:?}", plan.reasons);
    };
    assert_eq!(
        (&**problem, *again),
        ("the registry sleeps", world.now.plus_secs(60))
    );
    assert_eq!(plan.look_again, Some(*again));
    world.pass(60);
    assert_eq!(world.place().preparations.len(), 1);
}

#[test]
fn who_waits_for_an_image_that_cannot_be_had_is_held_and_told_why_and_may_release_it() {
    for (is_lasting, tries) in [(true, 2), (false, 6)] {
        let (mut world, job) = one("nodes  a: 1 gpu engine
             queue  j1: 1 gpu inside lab:5000/torch:2   j2: 1 gpu inside lab:5000/torch:2   j3: 1 gpu inside other:1");
        for nth in 0..tries {
            assert_eq!(world.job(job).holds, Holds::default(), "try {nth}");
            assert!(!world.place().preparations.is_empty(), "try {nth}");
            fails(&mut world, "a", is_lasting);
            world.pass(900);
        }
        for id in [1, 2] {
            let held = world.job(JobId::whole(id));
            assert_eq!(held.holds, Holds::USER);
            let comment = held.comment.as_deref().unwrap();
            assert!(comment.contains("the registry sleeps"), "{comment}");
        }
        assert_eq!(world.job(JobId::whole(3)).holds, Holds::default());
        world.release(job, "u").unwrap();
        assert_eq!(world.job(job).comment, None);
        let plan = world.place();
        let is_tried = plan.preparations.iter().any(|order| *order.image == *IMAGE);
        assert!(is_tried, "it begins anew: {plan:?}");
    }
}

#[test]
fn an_image_that_nobody_wants_any_more_is_dropped() {
    let (mut world, job) = one("nodes  a: 1 gpu engine
         queue  j1: 1 gpu inside lab:5000/torch:2   j2: 1 gpu inside lab:5000/torch:2");
    world.place();
    world.delete(job).unwrap();
    assert_eq!(told(&world), (1, 0), "another waits for it");
    world.delete(JobId::whole(2)).unwrap();
    assert_eq!(told(&world), (1, 1));
    // Its end, which crossed the order on the way, is nobody's.
    has_it(&mut world, "a");
    let node = world.state.node(&NodeName::from("a")).unwrap();
    assert_eq!(node.preparing, []);
}

#[test]
fn an_agent_that_comes_back_is_told_again_what_somebody_still_waits_for() {
    let (mut world, job) = one("nodes  a: 1 gpu engine   b: 1 gpu engine
         queue  j1: 1 gpu inside lab:5000/torch:2");
    world.place();
    let inventory = world
        .state
        .node(&NodeName::from("a"))
        .unwrap()
        .inventory
        .clone();
    world.detach("a");
    let plan = world.place();
    assert_eq!(
        plan.preparations[0].node.as_str(),
        "b",
        "nobody waits for a node that is down"
    );
    world.attach("a", inventory.clone(), Vec::new());
    assert_eq!(told(&world), (3, 0), "a is told again");
    has_it(&mut world, "b");
    world.place();
    world.started(job);
    world.detach("a");
    world.attach("a", inventory, Vec::new());
    assert_eq!(told(&world), (3, 1), "nobody waits for it any more");
}

#[test]
fn another_users_image_is_their_own_until_the_registry_says_otherwise() {
    let (mut world, _) = one("nodes  a: 2 gpu engine
         queue  j1: 1 gpu inside lab:5000/torch:2   j2: 1 gpu inside lab:5000/torch:2 uid 1007");
    assert_eq!(
        world.place().preparations.len(),
        2,
        "each on their own terms"
    );
    has_it(&mut world, "a");
    let plan = world.place();
    assert_eq!(plan.placements.len(), 1);
    assert_eq!(plan.placements[0].job, JobId::whole(1));
}

#[test]
fn short_names_of_a_node_are_looked_up() {
    let (mut world, _) = one("nodes  a: 1 gpu engine image lab:5000/torch:2
         queue  j1: 1 gpu inside torch");
    assert_eq!(world.plan().placements, []);
    let mut inventory = world
        .state
        .node(&NodeName::from("a"))
        .unwrap()
        .inventory
        .clone();
    inventory.aliases = vec![("torch".into(), IMAGE.into())];
    world.must(&Event::NodeChanged {
        node: NodeName::from("a"),
        inventory: Box::new(inventory),
    });
    assert_eq!(world.plan().placements.len(), 1);
}

#[test]
fn a_waiting_job_may_have_another_image_and_a_site_name_must_be_known() {
    let (mut world, job) = one("nodes  a: 1 gpu engine image right:1
         queue  j1: 1 gpu inside lab:5000/torch:2");
    world.place();
    let alter = |image: &str| {
        let mut wish = crate::harness::submission("");
        wish.spec.shown.push(("image".into(), image.into()));
        Event::Alter(Box::new(capstan_core::AlterOrder {
            job,
            by: crate::harness::caller("alice"),
            altered: vec![capstan_core::Altered::Shown("image".into())],
            wish: Box::new(wish),
            comment: Box::default(),
            slot_limit: None,
            members: None,
        }))
    };
    let unknown = world.apply(&alter("@site/right:1")).unwrap_err();
    assert!(unknown.to_string().contains("@site/right:1"), "{unknown}");
    world.must(&alter("right:1"));
    assert_eq!(told(&world), (1, 1), "nobody wants the other any more");
    world.place();
    assert_eq!(world.node_of(job).as_str(), "a");
    let running = world.apply(&alter("lab:5000/torch:2"));
    assert!(running.is_err(), "what runs has its image");
}
