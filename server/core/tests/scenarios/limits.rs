//! Limits on what runs at once: each kind, of each scope, and what a job is told that waits for one or could never run
//! under it.

use capstan_core::{JobSpec, QueueRefusal, Rejection, Submission};

use crate::harness::{World, array, inventory, submission};
use crate::managing::order;
use crate::text;

/// A text cluster whose jobs stand in line as they came.
fn check(text: &str) {
    text::check(&format!("qmgr set server policy = easy\n{text}"));
}

fn manage(world: &mut World, line: &str) {
    world.must(&order("root", line));
    world.settings = (**world.state.settings().unwrap()).clone();
}

/// One node `a` with so many cards and 64 slots, and these lines for `qmgr`.
fn world(cards: u32, lines: &[&str]) -> World {
    let mut world = World::with_nodes(&[("a", 64, cards)]);
    for line in ["set server policy = easy"].iter().chain(lines) {
        manage(&mut world, line);
    }
    world
}

fn of(user: &str, group: &str, resources: &str) -> Submission {
    let job = submission(resources);
    let mut owner = job.spec.owner.clone();
    (owner.user, owner.group) = (user.into(), group.into());
    let spec = JobSpec { owner, ..job.spec };
    Submission { spec, ..job }
}

fn refused(world: &mut World, job: Submission) -> String {
    match world.submit(job) {
        Err(Rejection::QueueRefuses {
            why: QueueRefusal::OverLimit(limit),
            ..
        }) => limit.refusal(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn cards_of_each_user_are_limited() {
    check(
        "nodes  a: 8 gpu
         qmgr   set server max_user_cards = 3
         run    j1 on a: 2 gpu
         queue  j2: 2 gpu   j3: 1 gpu   j4: 2 gpu by bob   j5: 2 gpu by bob
         =>     j3 on a/1 gpu 2
                j4 on a/2 gpu 3,4
                j2 waits: max_user_cards = 3 of the server: alice has 2 cards, the job wants 2 cards
                j5 waits: max_user_cards = 3 of the server: bob has 2 cards, the job wants 2 cards",
    );
}

#[test]
fn cards_of_each_group_and_of_all_are_limited_by_queue() {
    check(
        "nodes  a: 8 gpu
         qmgr   set queue batch max_group_cards = 2;max_cards = 4
         run    j1 on a: 2 gpu of vision
         queue  j2: 1 gpu by bob of vision   j3: 1 gpu by carol of nlp   j4: 1 gpu by dave of nlp
                j5: 1 gpu by erin of audio   j6: 1 gpu by erin of audio in high
         =>     j6 on a/1 gpu 2
                j3 on a/2 gpu 3
                j4 on a/3 gpu 4
                j2 waits: max_group_cards = 2 of queue batch: vision has 2 cards, the job wants 1 card
                j5 waits: max_cards = 4 of queue batch: all have 4 cards, the job wants 1 card",
    );
}

#[test]
fn cores_are_limited() {
    check(
        "nodes  a: 16 slots
         qmgr   set server max_user_cores = 4;max_cores = 7
         queue  j1: 3 slots   j2: 2 slots   j3: procs=3 by bob   j4: 2 slots by carol   j5: 1 slots by carol
         =>     j1 on a/0,1,2
                j3 on a/3,4,5
                j5 on a/6
                j2 waits: max_user_cores = 4 of the server: alice has 3 cores, the job wants 2 cores
                j4 waits: max_cores = 7 of the server: all have 6 cores, the job wants 2 cores",
    );
}

#[test]
fn running_jobs_are_limited_for_groups_too() {
    check(
        "nodes  a:
         qmgr   set server max_group_run = 2
         qmgr   set queue batch max_user_run = 1
         queue  j1:   j2:   j3: by bob   j4: by carol   j5: by dave of nlp
         =>     j1 on a/0
                j3 on a/1
                j5 on a/2
                j2 waits: max_user_run = 1 of queue batch: alice has 1 running
                j4 waits: max_group_run = 2 of the server: users has 2 running",
    );
}

/// A job over a limit waits for its own limit only, and keeps nothing from others.
#[test]
fn a_job_over_a_limit_keeps_nothing_from_those_behind() {
    check(
        "nodes  a: 4 gpu
         qmgr   set server max_user_cards = 2
         run    j1 on a: 2 gpu
         queue  j2: 2 gpu   j3: 2 gpu by bob
         =>     j3 on a/1 gpu 2,3
                j2 waits: max_user_cards = 2 of the server: alice has 2 cards, the job wants 2 cards",
    );
}

#[test]
fn members_of_an_array_count_one_by_one() {
    check(
        "nodes  a: 8 gpu
         qmgr   set server max_user_cards = 5
         queue  j1: 2 gpu array 0-9   j2: 1 gpu
         =>     j1[0] on a/0 gpu 0,1
                j1[1] on a/1 gpu 2,3
                j2 on a/2 gpu 4
                j1[] waits: max_user_cards = 5 of the server: alice has 4 cards, the job wants 2 cards",
    );
}

#[test]
fn what_could_never_run_is_refused_with_the_limit_and_the_remedy() {
    let mut world = world(
        8,
        &[
            "set server max_user_cards = 4",
            "set queue batch max_cores = 16",
        ],
    );
    assert_eq!(
        refused(&mut world, submission("nodes=1:gpus=8")),
        "the job asks for 8 cards, more than max_user_cards = 4 of the server ever lets run: ask for at \
         most 4 cards"
    );
    assert_eq!(
        refused(&mut world, submission("nodes=1:ppn=17")),
        "the job asks for 17 cores, more than max_cores = 16 of queue batch ever lets run: ask for at \
         most 16 cores"
    );
    // Each member of an array is a job of its own.
    let many = array("0-99", "nodes=1:gpus=4");
    assert!(world.submit(many).is_ok());
    assert!(world.submit(submission("nodes=1:gpus=4:ppn=16")).is_ok());
}

#[test]
fn a_queue_that_may_run_no_job_takes_jobs_all_the_same() {
    let mut world = world(0, &["set queue batch max_running = 0"]);
    let job = world.queue("");
    let plan = world.place();
    let (waits, reason) = &plan.reasons[0];
    assert_eq!(*waits, job);
    let headline = "Not Running: Queue job limit has been reached.";
    assert_eq!(reason.comment().as_deref(), Some(headline));
}

#[test]
fn card_hours_are_promised_before_they_are_used() {
    let mut world = world(8, &["set server max_user_card_hours = 10"]);
    let first = world.queue(
        "nodes=1:gpus=2,walltime=04:00:00"
            .replace(',', " ")
            .as_str(),
    );
    let second = world.queue("nodes=1:gpus=1 walltime=03:00:00");
    let third = world.queue("nodes=1:gpus=1 walltime=02:00:00");
    let plan = world.place();
    let started: Vec<_> = plan
        .placements
        .iter()
        .map(|placement| placement.job)
        .collect();
    assert_eq!(started, [first, third]);
    let (waits, reason) = &plan.reasons[0];
    assert_eq!(*waits, second);
    assert_eq!(
        reason.to_string(),
        "Not Running: Limit of card-hours has been reached (max_user_card_hours = 10 of the server within \
         168:00:00: alice has 8 card-hours used or claimed, the job may use 3 card-hours)"
    );
    // What was promised and not used is free again.
    world.started(first);
    world.pass(3600);
    world.exits(first, 0);
    assert_eq!(world.place().placements[0].job, second);
}

/// What was used leaves the window part by part, a week later.
#[test]
fn card_hours_come_back_when_the_window_has_passed() {
    let mut world = world(8, &["set queue batch max_group_card_hours = 4"]);
    let first = world.queue("nodes=1:gpus=4 walltime=01:00:00");
    world.place();
    world.started(first);
    world.pass(3600);
    world.exits(first, 0);
    let next = world.queue("nodes=1:gpus=1 walltime=00:30:00");
    assert!(world.place().placements.is_empty());
    world.pass(6 * 86_400);
    assert!(world.place().placements.is_empty());
    // A part of the window is 7 hours long.
    world.pass(86_400 + 7 * 3600);
    assert_eq!(world.place().placements[0].job, next);
}

#[test]
fn card_hours_that_no_window_holds_are_refused() {
    let lines = [
        "set server card_hours_window = 24:00:00",
        "set server max_user_card_hours = 48",
    ];
    let mut world = world(4, &lines);
    assert_eq!(
        refused(&mut world, submission("nodes=1:gpus=4 walltime=13:00:00")),
        "the job may use 52 card-hours, more than max_user_card_hours = 48 of the server within 24:00:00 \
         ever lets run: ask for fewer cards or a shorter walltime"
    );
    // However long it runs, no window has more of it than its own length.
    assert!(
        world
            .submit(submission("nodes=1:gpus=2 walltime=1000:00:00"))
            .is_ok()
    );
}

#[test]
fn jobs_of_a_group_are_counted_in_queue_and_server() {
    let refusal = |world: &mut World, job| match world.submit(job) {
        Err(Rejection::QueueRefuses { why, .. }) => why,
        other => panic!("{other:?}"),
    };
    let mut world = world(0, &["set queue batch max_group_queuable = 2"]);
    world.submit(of("alice", "vision", "")).unwrap();
    world.submit(of("bob", "vision", "")).unwrap();
    assert_eq!(
        refusal(&mut world, of("carol", "vision", "")),
        QueueRefusal::GroupFull
    );
    world.submit(of("dave", "nlp", "")).unwrap();
    manage(&mut world, "unset queue batch max_group_queuable");
    manage(&mut world, "set server max_group_queuable = 2");
    assert_eq!(
        refusal(&mut world, of("carol", "vision", "")),
        QueueRefusal::GroupFullOnServer
    );
    manage(&mut world, "set server max_queuable = 4");
    let mut three = of("dave", "audio", "");
    three.spec.array = array("0-1", "").spec.array;
    assert_eq!(refusal(&mut world, three), QueueRefusal::ServerFull);
    world.submit(of("dave", "audio", "")).unwrap();
}

#[test]
fn a_limit_of_cards_per_job_counts_them_however_they_are_asked_for() {
    let over = |resource: &str| QueueRefusal::OverMaximum {
        resource: resource.into(),
        by_server: false,
    };
    let mut world = world(8, &["set queue batch resources_max.gpus = 2"]);
    for (resources, is_taken) in [
        ("nodes=1:gpus=2", true),
        ("nodes=1:gpus=3", false),
        ("nodes=1:gpus=2+1:gpus=1", false),
        ("gres=gpus:3", false),
        ("gres=gpus:2", true),
        ("", true),
    ] {
        match world.submit(submission(resources)) {
            Err(Rejection::QueueRefuses { why, .. }) => {
                assert_eq!((why, is_taken), (over("gpus"), false), "{resources}");
            }
            taken => assert!(is_taken || taken.is_err(), "{resources}: {taken:?}"),
        }
    }
    manage(&mut world, "set queue batch resources_min.gpus = 2");
    assert!(matches!(
        world.submit(submission("nodes=1:gpus=1")),
        Err(Rejection::QueueRefuses {
            why: QueueRefusal::UnderMinimum(_),
            ..
        })
    ));
}

#[test]
fn lists_and_spans_that_cannot_be_read_are_refused() {
    let mut world = world(0, &[]);
    for bad in [
        "set server fairshare_shares = vision",
        "set server fairshare_shares = vision=-1",
        "set server fairshare_card_weights = a100=x",
        "set server fairshare_half_life = soon",
        "set server fairshare_core_weight = 1.2345",
        "set queue batch max_user_cards_of = a100",
        "set server card_hours_window = -1",
    ] {
        let refused = world.apply(&order("root", bad));
        assert!(matches!(refused, Err(Rejection::Manage(_))), "{bad}");
    }
    for good in [
        "set server fairshare_shares = vision=3,nlp=1,vision/alice=2",
        "set server fairshare_shares += nlp/bob=0.5",
        "set server fairshare_half_life = 168:00:00",
        "set server fairshare_half_life = 604800",
        "set server fairshare_core_weight = 0.05",
        "set queue batch max_user_cards_of = rtx4090=4,a100=2",
    ] {
        manage(&mut world, good);
    }
}

/// A limit is no reason to look at jobs that are none of its business.
#[test]
fn a_job_moved_to_a_narrower_queue_is_refused_by_it() {
    let mut world = world(
        8,
        &["create queue small queue_type=e;enabled=t;started=t;max_user_cards=1"],
    );
    world.attach("b", inventory("b", 8, 4), Vec::new());
    let job = world.queue("nodes=1:gpus=4");
    let by = |user| crate::harness::caller(user);
    let order = |user| {
        capstan_core::Event::Move(capstan_core::MoveOrder {
            job,
            by: by(user),
            queue: Some("small".into()),
        })
    };
    let refused = world.apply(&order("alice"));
    assert!(matches!(
        refused,
        Err(Rejection::QueueRefuses {
            why: QueueRefusal::OverLimit(_),
            ..
        })
    ));
    world.must(&order("root"));
}

#[test]
fn cards_of_a_type_are_limited_and_others_may_still_be_had() {
    check(
        "nodes  a: 4 gpu model RTX-4090 rtx4090   b: 4 gpu model A100-SXM4-80GB
         qmgr   set server max_user_cards_of = rtx4090=2
         run    j1 on a: 2 gpu
         queue  j2: 1 gpu   j3: 4 gpu by bob   j4: 1 gpu   j5: nodes=1:gpus=1:rtx4090
         =>     j2 on b/0 gpu 0
                j4 on b/1 gpu 1
                j3 waits: wants 4 cards on 1 node; b has 3 free
                j5 waits: max_user_cards_of = rtx4090=2 of the server: alice has 2 rtx4090 cards, the job wants 1 rtx4090 card",
    );
    check(
        "nodes  a: 4 gpu model RTX-4090   b: 1 gpu model A100-SXM4-80GB
         qmgr   set queue batch max_cards_of = 4090=3
         run    j1 on a: 2 gpu
         queue  j2: 2 gpu   j3: 1 gpu   j4: 1 gpu
         =>     j3 on b/0 gpu 0
                j4 on a/1 gpu 2
                j2 waits: max_cards_of = 4090=3 of queue batch: all have 2 4090 cards, the job wants 2 4090 cards",
    );
}

#[test]
fn cards_of_a_type_that_no_job_may_have_so_many_of_are_refused() {
    let mut world = world(8, &["set server max_cards_of = h200=2"]);
    assert_eq!(
        refused(&mut world, submission("nodes=1:gpus=4:H200")),
        "the job asks for 4 h200 cards, more than max_cards_of = h200=2 of the server ever lets run: ask \
         for at most 2 h200 cards"
    );
}

#[test]
fn who_is_an_exception_has_a_limit_of_his_own() {
    check(
        "nodes  a: 16 gpu
         qmgr   set server max_user_cards = 2
                set server limit_exceptions = alice:max_user_cards=4,carol:max_user_cards=unlimited
         queue  j1: 4 gpu   j2: 1 gpu   j3: 2 gpu by bob   j4: 1 gpu by bob   j5: 8 gpu by carol
         =>     j1 on a/0 gpu 0,1,2,3
                j3 on a/1 gpu 4,5
                j5 on a/2 gpu 6,7,8,9,10,11,12,13
                j2 waits: max_user_cards = 4 of the server: alice has 4 cards, the job wants 1 card
                j4 waits: max_user_cards = 2 of the server: bob has 2 cards, the job wants 1 card",
    );
    // Where nobody else is limited, and by type.
    check(
        "nodes  a: 4 gpu model RTX-4090
         qmgr   set queue batch limit_exceptions = alice:max_user_run=1,bob:max_user_cards_of=4090=1
         queue  j1: 1 gpu   j2: 1 gpu   j3: 1 gpu by bob   j4: 1 gpu by bob   j5: 1 gpu by carol
         =>     j1 on a/0 gpu 0
                j3 on a/1 gpu 1
                j5 on a/2 gpu 2
                j2 waits: max_user_run = 1 of queue batch: alice has 1 running
                j4 waits: max_user_cards_of = 4090=1 of queue batch: bob has 1 4090 card, the job wants 1 4090 card",
    );
}

#[test]
fn what_could_never_run_is_judged_by_the_exception() {
    let lines = [
        "set server max_group_cards = 2",
        "set server limit_exceptions = vision:max_group_cards=6",
    ];
    let mut world = world(8, &lines);
    world
        .submit(of("alice", "vision", "nodes=1:gpus=6"))
        .unwrap();
    let text = refused(&mut world, of("alice", "vision", "nodes=1:gpus=7"));
    assert!(text.contains("at most 6 cards"), "{text}");
    let text = refused(&mut world, of("bob", "nlp", "nodes=1:gpus=3"));
    assert!(text.contains("at most 2 cards"), "{text}");
}

#[test]
fn so_many_jobs_may_stand_in_line_of_who_is_an_exception() {
    let lines = [
        "set server max_user_queuable = 1",
        "set server limit_exceptions = alice:max_user_queuable=2",
    ];
    let mut world = world(0, &lines);
    let mut submit = |user| world.submit(of(user, "vision", "nodes=1")).is_ok();
    let seen = ["alice", "alice", "alice", "bob", "bob"].map(&mut submit);
    assert_eq!(seen, [true, true, false, true, false]);
}

#[test]
fn exceptions_that_cannot_be_read_are_refused() {
    let mut world = world(0, &[]);
    for bad in [
        "alice",
        "alice:max_user_cards",
        "alice:max_user_cards=x",
        "alice:max_user_cards=-1",
        "alice:max_cards=4",
        "alice:max_user_walltime=4",
        ":max_user_cards=4",
        "alice:max_user_cards_of=4",
    ] {
        for object in ["server", "queue batch"] {
            let line = format!("set {object} limit_exceptions = {bad}");
            let refused = world.apply(&order("root", &line));
            assert!(matches!(refused, Err(Rejection::Manage(_))), "{line}");
        }
    }
}
