//! What a waiting job is told when its owner asks: clusters as in [`crate::text`], and what is expected of the job that
//! was queued last, or of the one that is named.

use capstan_core::{
    Awaited, Blocker, Confidence, Event, Explanation, MoveOrder, Suggestion, Wait, WaitBook,
    WaitedFor, explain,
};
use capstan_types::{Condition, JobId, Reason, Timestamp};

use crate::harness::{World, after, caller, submission};
use crate::text::build;

/// Plans, and says what `job` is told.
fn told(world: &mut World, job: JobId) -> Explanation {
    world.place();
    let plan = world.plan();
    let found = explain(&world.state, &plan, job, world.now).unwrap();
    // Who is asked twice says the same.
    assert_eq!(explain(&world.state, &plan, job, world.now).unwrap(), found);
    found
}

#[track_caller]
fn check(text: &str, job: JobId) {
    let (mut world, expected) = build(text);
    let found = told(&mut world, job);
    assert_eq!(print(&found, world.now), expected, "in{text}");
}

fn print(found: &Explanation, now: Timestamp) -> Vec<String> {
    let later = |at: Timestamp| format!("+{}", at.secs_since(now));
    let mut lines = Vec::new();
    for blocker in &found.blockers {
        lines.push(match blocker {
            Blocker::Reason(reason) => {
                let text = reason.to_string();
                let (_, detail) = text.split_once(" (").unwrap();
                format!("blocked: {}", detail.trim_end_matches(')'))
            }
            Blocker::Awaited { condition, job, is } => {
                let is = match is {
                    Awaited::Waiting => "waits".to_owned(),
                    Awaited::Running(until) => format!("runs until {}", later(*until)),
                    Awaited::Never => "never".to_owned(),
                };
                format!("blocked: {} j{job}, which {is}", condition.name())
            }
        });
    }
    if let Some(lack) = &found.lack {
        let near = lack.nearest.iter();
        let near = near.map(|near| format!("{} {}", near.node, near.free.cards));
        let near: Vec<String> = near.collect();
        lines.push(format!(
            "lacks: {} cards {} slots on {}, {} ready, free cards: {}",
            lack.wanted.cards,
            lack.wanted.slots,
            lack.nodes,
            lack.ready,
            near.join(", ")
        ));
        for holder in &lack.holders {
            let until = holder.until.map_or("for ever".to_owned(), later);
            let (job, node, cards) = (holder.job, &holder.node, holder.held.cards);
            lines.push(format!(
                "held: {cards} cards of {node} by j{job} until {until}"
            ));
        }
    }
    if let Some(place) = &found.place {
        lines.push(format!(
            "line: {} before, {} in line",
            place.before, place.in_line
        ));
    }
    if let Some(start) = &found.start {
        let sure = sure(start.confidence);
        lines.push(format!("starts: {} {sure}", later(start.at)));
    }
    for suggestion in &found.suggestions {
        lines.push(format!("try: {}", short(suggestion)));
    }
    for sooner in &found.sooner {
        let (change, sure) = (short(&sooner.suggestion), sure(sooner.confidence));
        lines.push(format!("sooner: {change} {} {sure}", later(sooner.at)));
    }
    lines
}

const fn sure(confidence: Confidence) -> &'static str {
    match confidence {
        Confidence::Firm => "firm",
        Confidence::Likely => "likely",
        Confidence::Guess => "guess",
    }
}

fn short(suggestion: &Suggestion) -> String {
    match suggestion {
        Suggestion::Resource { change, .. } => change.to_string(),
        Suggestion::Queue(queue) => format!("queue {queue}"),
    }
}

#[test]
fn who_holds_the_nearest_cards_is_named_with_the_time_at_which_they_come_back() {
    check(
        "nodes  a: 4 gpu   b: 4 gpu
         run    j1 on a: 3 gpu walltime=01:00:00   j2 on b: 2 gpu walltime=02:00:00   j3 on b: 1 gpu walltime=00:30:00
         queue  j4: 4 gpu walltime=01:00:00
         =>     blocked: wants 4 cards on 1 node; a has 1 free
                lacks: 4 cards 1 slots on 1, 0 ready, free cards: a 1, b 1
                held: 1 cards of b by j3 until +1800
                held: 3 cards of a by j1 until +3600
                held: 2 cards of b by j2 until +7200
                line: 0 before, 1 in line
                starts: +3600 firm
                try: gpus=1
                sooner: gpus=2 +1800 firm",
        JobId::whole(4),
    );
}

#[test]
fn the_longest_walltime_that_fits_before_a_reservation_is_found() {
    check(
        "nodes  a: 4 gpu
         run    j1 on a: 2 gpu walltime=01:00:00
         queue  j2: 4 gpu walltime=01:00:00   j3: 2 gpu walltime=03:00:00
         =>     blocked: its nodes are kept for job 2
                line: 1 before, 2 in line
                starts: +7200 likely
                try: walltime<=01:00:00
                try: queue high",
        JobId::whole(3),
    );
}

#[test]
fn fewer_nodes_are_tried_where_nodes_lack() {
    check(
        "nodes  a: 2 gpu   b: 2 gpu   c: 2 gpu
         run    j1 on c: 1 gpu walltime=00:10:00
         queue  j2: nodes=3:gpus=2 walltime=01:00:00
         =>     blocked: wants 2 cards on 3 nodes; a has 2 free
                lacks: 2 cards 1 slots on 3, 2 ready, free cards: c 1
                held: 1 cards of c by j1 until +600
                line: 0 before, 1 in line
                starts: +600 firm
                try: gpus=1
                try: nodes=2",
        JobId::whole(2),
    );
}

#[test]
fn fewer_cards_and_chunks_of_a_select_are_tried() {
    check(
        "nodes  a: 4 gpu   b: 4 gpu
         run    j1 on a: 2 gpu walltime=00:10:00
         queue  j2: select=2:ncpus=1:ngpus=3 place=scatter walltime=01:00:00
         =>     blocked: wants 3 cards on 2 nodes; b has 4 free
                lacks: 3 cards 1 slots on 2, 1 ready, free cards: a 2
                held: 2 cards of a by j1 until +600
                line: 0 before, 1 in line
                starts: +600 firm
                try: ngpus=2
                try: chunks=1",
        JobId::whole(2),
    );
}

#[test]
fn another_queue_that_has_no_such_limit_is_suggested() {
    check(
        "nodes  a: 4 gpu
         qmgr   set queue batch max_user_run = 1
         run    j1 on a: 1 gpu walltime=01:00:00
         queue  j2: 1 gpu walltime=01:00:00
         =>     blocked: max_user_run = 1 of queue batch: alice has 1 running
                line: 0 before, 1 in line
                starts: +3600 guess
                try: queue high",
        JobId::whole(2),
    );
}

#[test]
fn a_member_is_asked_about_when_its_array_is() {
    check(
        "nodes  a: 4 gpu
         run    j1 on a: 3 gpu walltime=00:10:00
         queue  j2: 2 gpu array 0-3 walltime=01:00:00
         =>     blocked: wants 2 cards on 1 node; a has 1 free
                lacks: 2 cards 1 slots on 1, 0 ready, free cards: a 1
                held: 3 cards of a by j1 until +600
                line: 0 before, 1 in line
                starts: +600 firm
                try: gpus=1",
        JobId::array(2),
    );
}

#[test]
fn all_that_holds_a_job_is_told_and_nobody_guesses_when_it_starts() {
    let mut world = World::with_nodes(&[("a", 8, 2)]);
    let first = world.queue("nodes=1:gpus=2 walltime=01:00:00");
    world.place();
    world.started(first);
    let mut job = after(Condition::AfterOk, first);
    job.holds = capstan_core::Holds::USER;
    job.spec.resources.set("nodes", "1:gpus=1").unwrap();
    let second = world.submit(job).unwrap();
    let found = told(&mut world, second);
    let expected = [
        "blocked: afterok j1, which runs until +3600",
        "blocked: hold types u",
        "blocked: wants 1 card on 1 node; a has 0 free",
        "lacks: 1 cards 1 slots on 1, 0 ready, free cards: a 0",
        "held: 2 cards of a by j1 until +3600",
    ];
    assert_eq!(print(&found, world.now), expected);
}

#[test]
fn who_waits_for_what_can_never_be_is_told() {
    let mut world = World::with_nodes(&[("a", 8, 2)]);
    let first = world.queue("nodes=1");
    let second = world.submit(after(Condition::AfterNotOk, first)).unwrap();
    world.place();
    world.started(first);
    world.delete(first).unwrap();
    let found = told(&mut world, second);
    let is_waited_for =
        |blocker: &&Blocker| matches!(blocker, Blocker::Awaited { job, .. } if *job == first);
    assert!(found.blockers.iter().any(|blocker| is_waited_for(&blocker)));
}

#[test]
fn a_job_that_runs_is_told_nothing() {
    let mut world = World::with_nodes(&[("a", 8, 2)]);
    let first = world.queue("nodes=1");
    assert_eq!(told(&mut world, first), Explanation::default());
    let plan = world.plan();
    assert_eq!(
        explain(&world.state, &plan, JobId::whole(99), world.now),
        None
    );
}

#[test]
fn what_is_told_at_submission_is_learnt_from_at_the_start() {
    let mut world = World::with_nodes(&[("a", 8, 1)]);
    let first = world.queue("nodes=1:gpus=1 walltime=00:10:00");
    world.place();
    world.started(first);
    let second = world.queue("nodes=1:gpus=1 walltime=00:10:00");
    let forecast = world.job(second).forecast.unwrap();
    assert!(forecast.likely_by > world.now);
    world.pass(300);
    let told = told(&mut world, second).start.unwrap();
    assert_eq!(told.likely_by, forecast.likely_by);
    world.exits(first, 0);
    world.place();
    let scored = |world: &World| {
        let classes = world.state.forecasts().classes().iter();
        classes
            .map(|class| (class.started, class.in_time))
            .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    };
    assert_eq!(scored(&world), (1, 1));
    // Who starts at once was told nothing.
    world.exits(second, 0);
    world.queue("nodes=1:gpus=1");
    world.place();
    assert_eq!(scored(&world), (1, 1));
}

#[test]
fn who_is_late_is_learnt_from_before_it_starts_and_only_once() {
    let mut world = World::with_nodes(&[("a", 8, 1)]);
    let first = world.queue("nodes=1:gpus=1 walltime=100:00:00");
    world.place();
    world.started(first);
    let second = world.queue("nodes=1:gpus=1 walltime=00:10:00");
    let by = world.job(second).forecast.unwrap().likely_by;
    let scored = |world: &World| {
        let classes = world.state.forecasts().classes().iter();
        let all = classes.map(|class| (class.started, class.in_time, class.factor()));
        all.filter(|(started, ..)| *started > 0).collect::<Vec<_>>()
    };
    world.pass(by.secs_since(world.now));
    assert_eq!(scored(&world), [], "it may still start now");
    world.pass(1);
    let [(1, 0, factor)] = scored(&world)[..] else {
        panic!("{:?}", scored(&world));
    };
    let fresh = capstan_core::Forecasts::default().classes()[0].factor();
    assert!(factor > fresh, "the next one is told a later time");
    world.pass(3600);
    world.exits(first, 0);
    world.place();
    assert_eq!(scored(&world), [(1, 0, factor)]);
}

#[test]
fn who_was_held_is_told_anew_when_it_may_start() {
    let mut world = World::with_nodes(&[("a", 8, 1)]);
    let mut job = submission("nodes=1:gpus=1");
    job.holds = capstan_core::Holds::USER;
    let id = world.submit(job).unwrap();
    assert_eq!(world.job(id).forecast, None);
    world.pass(50);
    world.release(id, "u").unwrap();
    assert_eq!(world.job(id).forecast.unwrap().made, world.now);
}

#[test]
fn a_job_that_has_started_says_what_it_waited_for() {
    let mut world = World::with_nodes(&[("a", 8, 1)]);
    let first = world.queue("nodes=1:gpus=1 walltime=00:10:00");
    world.place();
    world.started(first);
    let second = world.queue("nodes=1:gpus=1 walltime=00:10:00");
    let mut book = WaitBook::default();
    book.note(&world.state, &world.plan().reasons, world.now);
    world.pass(40);
    world.hold(second, "u").unwrap();
    book.note(&world.state, &world.plan().reasons, world.now);
    world.pass(5);
    world.release(second, "u").unwrap();
    world.exits(first, 0);
    let plan = world.plan();
    let order = capstan_core::PlanOrder {
        at: world.now,
        waits: vec![(second, book.of(second, world.now))],
        placements: plan.placements,
        ..capstan_core::PlanOrder::default()
    };
    world.must(&Event::Planned(order));
    world.started(second);
    world.exits(second, 0);
    let wait = |what, secs| Wait { what, secs };
    let expected = [wait(WaitedFor::Resources, 40), wait(WaitedFor::Hold, 5)];
    assert_eq!(capstan_core::waited(&world.job(second)), expected);
}

#[test]
fn a_suggested_queue_is_one_that_lets_the_job_in() {
    let (mut world, _) = build(
        "nodes  a: 4 gpu
         qmgr   set queue high acl_user_enable = True
         qmgr   set queue high acl_users = bob
         qmgr   set queue batch max_user_run = 1
         run    j1 on a: 1 gpu
         queue  j2: 1 gpu",
    );
    let found = told(&mut world, JobId::whole(2));
    assert_eq!(found.suggestions, []);
    assert!(matches!(found.reason, Some(Reason::RunLimit(_))));
    let order = MoveOrder {
        job: JobId::whole(2),
        queue: Some("high".into()),
        by: caller("alice"),
    };
    assert!(world.apply(&Event::Move(order)).is_err());
}
