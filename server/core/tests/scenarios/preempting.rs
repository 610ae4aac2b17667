//! Running jobs that make room for others: who is stopped, how many, what becomes of them, and who gets the room.

use capstan_core::{
    Account, Effect, Event, JobState, PlanOrder, Queue, ReportedPhase, Settings, Submission,
};
use capstan_types::{JobId, QueueName, Reason, ServerName};

use crate::harness::{DAWN, World, inventory, submission};
use crate::managing::order;
use crate::text::check;

#[test]
fn jobs_of_lower_queues_make_room_for_a_preempting_one() {
    check(
        "qmgr   set queue high preempts=True
         qmgr   set queue batch preemptable=requeue
         nodes  a: 4 gpu
         run    j1 on a: 4 gpu
         queue  j2: 4 gpu in high
         =>     j2 stops j1: requeued after 60 s
                j2 waits: waits for job 1 to stop, preempted at 2027-01-15 08:00:00 UTC, grace 60 s",
    );
}

#[test]
fn nobody_is_stopped_where_nothing_is_said() {
    check(
        "qmgr   set queue high preempts=True
         nodes  a: 4 gpu
         run    j1 on a: 4 gpu
         queue  j2: 4 gpu in high
         =>     j2 waits: wants 4 cards on 1 node; a has 0 free",
    );
    check(
        "qmgr   set queue batch preemptable=requeue
         nodes  a: 4 gpu
         run    j1 on a: 4 gpu
         queue  j2: 4 gpu in high
         =>     j2 waits: wants 4 cards on 1 node; a has 0 free",
    );
}

#[test]
fn jobs_of_the_same_priority_or_a_higher_one_are_left_alone() {
    check(
        "qmgr   set queue batch preempts=True; preemptable=requeue
         qmgr   set queue high preemptable=requeue
         nodes  a: 2 gpu   b: 2 gpu
         run    j1 on a: 2 gpu   j2 on b: 2 gpu in high
         queue  j3: 2 gpu
         =>     j3 waits: wants 2 cards on 1 node; a has 0 free",
    );
}

#[test]
fn the_least_work_is_lost_and_of_equal_jobs_the_youngest_goes() {
    check(
        "qmgr   set queue high preempts=True
         qmgr   set queue batch preemptable=requeue
         nodes  a: 2 gpu   b: 2 gpu   c: 2 gpu
         run    j1 on a: 2 gpu
         pass   1000
         run    j2 on b: 1 gpu   j3 on c: 2 gpu
         pass   1000
         run    j4 on b: 1 gpu
         queue  j5: 1 gpu in high
         =>     j5 stops j4: requeued after 60 s
                j5 waits: waits for job 4 to stop, preempted at 2027-01-15 08:33:20 UTC, grace 60 s",
    );
}

#[test]
fn one_large_job_goes_before_many_that_lose_more_together() {
    check(
        "qmgr   set queue high preempts=True
         qmgr   set queue batch preemptable=requeue
         nodes  a: 4 gpu   b: 4 gpu
         run    j1 on a: 1 gpu   j2 on a: 1 gpu   j3 on a: 1 gpu   j4 on a: 1 gpu
         pass   100
         run    j5 on b: 4 gpu
         pass   900
         queue  j6: 4 gpu in high
         =>     j6 stops j5: requeued after 60 s
                j6 waits: waits for job 5 to stop, preempted at 2027-01-15 08:16:40 UTC, grace 60 s",
    );
}

#[test]
fn no_more_are_stopped_than_needed_and_what_is_free_counts() {
    check(
        "qmgr   set queue high preempts=True
         qmgr   set queue batch preemptable=requeue
         nodes  a: 8 gpu
         run    j1 on a: 2 gpu   j2 on a: 1 gpu   j3 on a: 3 gpu
         queue  j4: 5 gpu in high
         =>     j4 stops j3: requeued after 60 s
                j4 waits: waits for job 3 to stop, preempted at 2027-01-15 08:00:00 UTC, grace 60 s",
    );
}

#[test]
fn jobs_of_the_lowest_queue_go_first_whatever_they_lose() {
    check(
        "qmgr   create queue idle queue_type=e; Priority=-10; preemptable=cancel; preempt_grace=5; enabled=t; started=t
         qmgr   set queue high preempts=True
         qmgr   set queue batch preemptable=requeue
         nodes  a: 2 gpu   b: 2 gpu
         run    j1 on a: 2 gpu in idle
         pass   50000
         run    j2 on b: 2 gpu
         queue  j3: 2 gpu in high
         =>     j3 stops j1: canceled after 5 s
                j3 waits: waits for job 1 to stop, preempted at 2027-01-15 21:53:20 UTC, grace 5 s",
    );
}

#[test]
fn who_may_not_run_twice_is_not_requeued_but_canceled_where_the_queue_says_so() {
    check(
        "qmgr   set queue high preempts=True
         qmgr   set queue batch preemptable=requeue
         nodes  a: 2 gpu   b: 2 gpu
         run    j1 on a: 2 gpu fixed   j2 on b: 2 gpu
         queue  j3: 2 gpu in high   j4: 2 gpu in high
         =>     j3 stops j2: requeued after 60 s
                j3 waits: waits for job 2 to stop, preempted at 2027-01-15 08:00:00 UTC, grace 60 s
                j4 waits: wants 2 cards on 1 node; a has 0 free",
    );
    check(
        "qmgr   set queue high preempts=True
         qmgr   set queue batch preemptable=cancel
         nodes  a: 2 gpu
         run    j1 on a: 2 gpu fixed
         queue  j2: 2 gpu in high
         =>     j2 stops j1: canceled after 60 s
                j2 waits: waits for job 1 to stop, preempted at 2027-01-15 08:00:00 UTC, grace 60 s",
    );
}

#[test]
fn a_gang_gets_all_its_nodes_or_stops_nobody() {
    check(
        "qmgr   set queue high preempts=True
         qmgr   set queue batch preemptable=requeue
         nodes  a: 2 gpu   b: 2 gpu
         run    j1 on a: 2 gpu   j2 on b: 2 gpu fixed
         queue  j3: nodes=2:gpus=2 in high
         =>     j3 waits: wants 2 cards on 2 nodes; a has 0 free",
    );
    check(
        "qmgr   set queue high preempts=True
         qmgr   set queue batch preemptable=requeue
         nodes  a: 2 gpu   b: 2 gpu   c: 2 gpu
         run    j1 on a: 2 gpu   j2 on b: 1 gpu   j3 on c: 2 gpu fixed
         queue  j4: nodes=2:gpus=2 in high
         =>     j4 stops j2: requeued after 60 s
                j4 stops j1: requeued after 60 s
                j4 waits: waits for job 1 and 1 other to stop, preempted at 2027-01-15 08:00:00 UTC, grace 60 s",
    );
}

#[test]
fn only_nodes_that_the_job_can_use_are_cleared() {
    check(
        "qmgr   set queue high preempts=True
         qmgr   set queue batch preemptable=requeue
         nodes  a: 2 gpu   b: 2 gpu S
         run    j1 on b: 2 gpu
         pass   100
         run    j2 on a: 2 gpu
         queue  j3: nodes=1:gpus=2:S in high
         =>     j3 stops j1: requeued after 60 s
                j3 waits: waits for job 1 to stop, preempted at 2027-01-15 08:01:40 UTC, grace 60 s",
    );
}

#[test]
fn nobody_is_stopped_for_what_comes_free_within_the_grace() {
    check(
        "qmgr   set queue high preempts=True
         qmgr   set queue batch preemptable=requeue
         nodes  a: 2 gpu   b: 2 gpu
         run    j1 on a: 2 gpu walltime=30   j2 on b: 2 gpu
         queue  j3: 2 gpu in high   j4: 2 gpu in high
         =>     j4 stops j2: requeued after 60 s
                j3 waits: wants 2 cards on 1 node; a has 0 free
                j4 waits: waits for job 2 to stop, preempted at 2027-01-15 08:00:00 UTC, grace 60 s",
    );
}

#[test]
fn a_job_runs_for_a_named_time_before_it_may_be_stopped() {
    let cluster = "qmgr   set queue high preempts=True
         qmgr   set queue batch preemptable=requeue; preempt_after=600
         nodes  a: 2 gpu
         run    j1 on a: 2 gpu";
    check(&format!(
        "{cluster}
         pass   599
         queue  j2: 2 gpu in high
         =>     j2 waits: wants 2 cards on 1 node; a has 0 free"
    ));
    check(&format!(
        "{cluster}
         pass   600
         queue  j2: 2 gpu in high
         =>     j2 stops j1: requeued after 60 s
                j2 waits: waits for job 1 to stop, preempted at 2027-01-15 08:10:00 UTC, grace 60 s"
    ));
}

#[test]
fn a_job_that_is_still_being_started_has_not_run_yet() {
    let mut settings = Settings::new(ServerName::from("hn1"));
    let mut high = Queue::new(QueueName::from("high"));
    high.set("preempts", "True");
    high.set("Priority", "10");
    settings.add_queue(high);
    let mut batch = Queue::new(QueueName::from("low"));
    batch.set("preemptable", "requeue");
    batch.set("preempt_after", "600");
    settings.add_queue(batch);
    let mut world = World::new(settings);
    world.attach("a", inventory("a", 8, 2), Vec::new());
    let in_queue = |name: &str| Submission {
        queue: Some(QueueName::from(name)),
        ..submission("nodes=1:gpus=2")
    };
    let slow = world.submit(in_queue("low")).unwrap();
    world.place();
    world.pass(3600);
    world.submit(in_queue("high")).unwrap();
    assert_eq!(world.plan().preemptions, []);
    world.started(slow);
    world.pass(599);
    assert_eq!(world.plan().preemptions, []);
    world.pass(1);
    assert_eq!(world.plan().preemptions.len(), 1);
}

#[test]
fn whole_nodes_are_cleared_for_who_wants_them_alone() {
    check(
        "qmgr   set queue high preempts=True
         qmgr   set queue batch preemptable=requeue
         nodes  a:
         run    j1 on a: 1 slots   j2 on a: 1 slots
         queue  j3: 1 slots exclusive in high
         =>     j3 stops j2: requeued after 60 s
                j3 stops j1: requeued after 60 s
                j3 waits: waits for job 1 and 1 other to stop, preempted at 2027-01-15 08:00:00 UTC, grace 60 s",
    );
    check(
        "qmgr   set queue high preempts=True
         qmgr   set queue batch preemptable=requeue
         nodes  a:
         run    j1 on a: 1 slots exclusive
         queue  j2: 8 slots in high
         =>     j2 stops j1: requeued after 60 s
                j2 waits: waits for job 1 to stop, preempted at 2027-01-15 08:00:00 UTC, grace 60 s",
    );
}

#[test]
fn slots_anywhere_are_cleared_one_job_after_another() {
    check(
        "qmgr   set queue high preempts=True
         qmgr   set queue batch preemptable=requeue
         nodes  a:   b:
         run    j1 on a: 8 slots   j2 on b: 4 slots   j3 on b: 4 slots
         queue  j4: procs=4 in high
         =>     j4 stops j3: requeued after 60 s
                j4 waits: waits for job 3 to stop, preempted at 2027-01-15 08:00:00 UTC, grace 60 s",
    );
}

#[test]
fn a_guaranteed_share_is_lent_and_called_back_from_who_has_more_than_his_own() {
    check(
        "qmgr   set server guaranteed_cards=vision=4,nlp=2
         qmgr   set queue batch preemptable=requeue
         nodes  a: 4 gpu   b: 4 gpu
         run    j1 on a: 2 gpu of nlp   j2 on a: 2 gpu of nlp   j3 on b: 2 gpu of nlp   j4 on b: 2 gpu of misc
         queue  j5: 2 gpu of vision   j6: 2 gpu of vision   j7: 2 gpu of vision   j8: 2 gpu of nlp
         =>     j5 stops j4: called back requeued after 60 s
                j6 stops j3: called back requeued after 60 s
                j5 waits: waits for job 4 to stop, preempted at 2027-01-15 08:00:00 UTC, grace 60 s
                j6 waits: waits for job 3 to stop, preempted at 2027-01-15 08:00:00 UTC, grace 60 s
                j7 waits: wants 2 cards on 1 node; a has 0 free
                j8 waits: wants 2 cards on 1 node; a has 0 free",
    );
}

#[test]
fn what_is_within_a_groups_own_guarantee_is_not_called_back() {
    check(
        "qmgr   set server guaranteed_cards=vision=4,nlp=4
         qmgr   set queue batch preemptable=requeue
         nodes  a: 4 gpu
         run    j1 on a: 4 gpu of nlp
         queue  j2: 2 gpu of vision
         =>     j2 waits: wants 2 cards on 1 node; a has 0 free",
    );
}

#[test]
fn cards_are_called_back_only_from_queues_that_say_so() {
    check(
        "qmgr   set server guaranteed_cards=vision=4
         qmgr   set queue high preemptable=requeue
         nodes  a: 4 gpu
         run    j1 on a: 4 gpu of nlp
         queue  j2: 2 gpu of vision
         =>     j2 waits: wants 2 cards on 1 node; a has 0 free",
    );
}

/// A cluster of one node with two cards, whose queue `high` preempts and whose queue `batch` is preemptable.
fn world(batch: &str) -> World {
    let mut world = World::new(Settings::new(ServerName::from("hn1")));
    world.attach("a", inventory("a", 8, 2), Vec::new());
    for line in [
        "create queue high queue_type=e; Priority=10; preempts=t; enabled=t; started=t",
        &format!("set queue batch {batch}"),
    ] {
        world.must(&order("root", line));
    }
    world
}

fn urgent(resources: &str) -> Submission {
    Submission {
        queue: Some(QueueName::from("high")),
        ..submission(resources)
    }
}

fn comment(world: &World, id: JobId) -> String {
    world.job(id).comment.as_deref().unwrap_or("").to_owned()
}

fn runs(world: &mut World, id: JobId) {
    world.place();
    world.started(id);
}

#[test]
fn a_stopped_job_goes_back_to_its_place_and_runs_again() {
    let mut world = world("preemptable=requeue; preempt_grace=90");
    let low = world.queue("nodes=1:gpus=2");
    runs(&mut world, low);
    world.pass(500);
    let high = world.submit(urgent("nodes=1:gpus=2")).unwrap();
    let told = world.place();
    assert_eq!(told.preemptions.len(), 1);
    assert_eq!(world.letter(low), 'E');
    assert_eq!(
        comment(&world, low),
        "preempted by job 2 of queue high; requeued"
    );
    let attempt = world.attempt(low);
    let stop = Effect::StopAttempt {
        node: "a".into(),
        attempt,
        grace_secs: 90,
    };
    assert_eq!(world.effects.last(), Some(&stop));

    // Nobody is told twice.
    world.pass(30);
    let plan = world.place();
    assert!(plan.preemptions.is_empty() && plan.placements.is_empty());
    let reason = |world: &World| {
        world
            .plan()
            .reasons
            .iter()
            .find(|(id, _)| *id == high)
            .cloned()
    };
    let stopping = Reason::Preempting {
        job: low,
        others: 0,
        since: DAWN.plus_secs(500),
        grace_secs: 90,
    };
    assert_eq!(reason(&world), Some((high, stopping)));

    let outcome = world.exits(low, 271);
    assert!(outcome.effects.iter().any(|effect| matches!(
        effect,
        Effect::Account {
            record: Account::Rerun,
            ..
        }
    )));
    assert_eq!(world.letter(low), 'Q');
    runs(&mut world, high);
    assert_eq!(world.letter(high), 'R');
    assert_eq!(world.job(high).first_until, None);
    world.exits(high, 0);
    runs(&mut world, low);
    assert_eq!((world.letter(low), world.job(low).run_count), ('R', 2));
}

#[test]
fn no_job_is_stopped_twice_within_the_named_time() {
    let mut world = world("preemptable=requeue");
    world.must(&order("root", "set server preempt_again_after=1000"));
    let low = world.queue("nodes=1:gpus=2");
    runs(&mut world, low);
    let first = world.submit(urgent("nodes=1:gpus=2")).unwrap();
    world.place();
    world.exits(low, 271);
    runs(&mut world, first);
    world.exits(first, 0);
    runs(&mut world, low);
    let stopped = world.job(low).preempted.unwrap();
    world.pass(500);
    world.submit(urgent("nodes=1:gpus=2")).unwrap();
    let plan = world.place();
    assert!(plan.preemptions.is_empty(), "{plan:?}");
    let again = stopped.plus_secs(1000);
    assert_eq!(plan.look_again, Some(again));
    world.now = again;
    let plan = world.place();
    assert_eq!(plan.preemptions.len(), 1);
}

#[test]
fn a_canceled_job_ends_and_says_why() {
    let mut world = world("preemptable=cancel");
    let low = world.queue("nodes=1:gpus=2");
    runs(&mut world, low);
    world.submit(urgent("nodes=1:gpus=2")).unwrap();
    world.effects.clear();
    world.place();
    let records = world.effects.iter().filter_map(|effect| match effect {
        Effect::Account { record, .. } => Some(record),
        Effect::StartAttempt { .. }
        | Effect::StopAttempt { .. }
        | Effect::AdjustAttempt { .. }
        | Effect::ForgetAttempt { .. }
        | Effect::WelcomeNode { .. }
        | Effect::PrepareImage { .. }
        | Effect::DropImage { .. } => None,
    });
    assert_eq!(records.collect::<Vec<_>>(), [&Account::Aborted]);
    world.exits(low, 271);
    assert_eq!(world.exit_status(low), Some(271));
    assert_eq!(
        comment(&world, low),
        "preempted by job 2 of queue high; canceled"
    );
}

/// The room is not for whoever waits in line before the job for which it was made, starving or of any priority.
#[test]
fn the_room_is_for_the_job_for_which_it_was_made() {
    let mut world = world("preemptable=requeue");
    world.must(&order("root", "set server starve_after=1000"));
    let low = world.queue("nodes=1:gpus=1");
    runs(&mut world, low);
    let fixed = {
        let mut job = submission("nodes=1:gpus=1 walltime=1000:00:00");
        job.spec.is_rerunnable = false;
        world.submit(job).unwrap()
    };
    runs(&mut world, fixed);
    let starving = world.queue("nodes=1:gpus=1");
    world.pass(2000);
    let high = world
        .submit(urgent("nodes=1:gpus=1 walltime=1:00:00"))
        .unwrap();
    let plan = world.place();
    let told: Vec<_> = plan.preemptions.iter().map(|told| told.job).collect();
    assert_eq!(told, [low]);
    assert!(world.place().placements.is_empty());
    world.exits(low, 271);
    let plan = world.place();
    let placed: Vec<_> = plan.placements.iter().map(|one| one.job).collect();
    assert_eq!(placed, [high], "and not {starving}");
}

/// A plan is made, then something happens, and only then it is carried out.
fn late(happens: impl Fn(&mut World, JobId, JobId), is_stopped: bool) {
    let mut world = world("preemptable=requeue");
    let low = world.queue("nodes=1:gpus=2");
    runs(&mut world, low);
    let high = world.submit(urgent("nodes=1:gpus=2")).unwrap();
    let plan = world.plan();
    assert_eq!(plan.preemptions.len(), 1);
    happens(&mut world, low, high);
    world.must(&Event::Planned(PlanOrder {
        at: world.now,
        preemptions: plan.preemptions,
        ..PlanOrder::default()
    }));
    let job = world.job(low);
    let found = matches!(&job.state, JobState::Exiting(_, order) if order.for_job == Some(high));
    assert_eq!(found, is_stopped, "{:?}", job.state);
}

#[test]
fn nobody_is_stopped_when_it_is_no_longer_right() {
    late(|_, _, _| {}, true);
    late(
        |world, low, _| {
            world.exits(low, 0);
        },
        false,
    );
    late(
        |world, _, high| {
            world.delete(high).unwrap();
        },
        false,
    );
    late(
        |world, _, high| {
            world.hold(high, "u").unwrap();
        },
        false,
    );
    late(
        |world, low, _| {
            world.delete(low).unwrap();
        },
        false,
    );
    late(
        |world, _, _| {
            world.must(&order("root", "unset queue batch preemptable"));
        },
        false,
    );
    late(
        |world, low, _| {
            let reason = "rebooted".into();
            let at = world.now;
            world.report(low, ReportedPhase::Lost { at, reason });
            world.place();
        },
        false,
    );
}

#[test]
fn a_member_of_an_array_has_others_stopped_for_itself() {
    let mut world = world("preemptable=requeue");
    let low = world.queue("nodes=1:gpus=2");
    runs(&mut world, low);
    let mut job = urgent("nodes=1:gpus=2");
    job.spec.array = Some(capstan_types::ArrayRequest::parse("0-3").unwrap());
    let array = world.submit(job).unwrap();
    let plan = world.place();
    let first = JobId::member(array.seq, 0);
    let told: Vec<_> = plan
        .preemptions
        .iter()
        .map(|told| (told.job, told.for_job))
        .collect();
    assert_eq!(told, [(low, first)]);
    world.exits(low, 271);
    runs(&mut world, first);
    assert_eq!(world.letter(first), 'R');
}

#[test]
fn values_that_say_nothing_are_refused() {
    let mut world = world("preemptable=requeue");
    let mut refused = |line: &str| assert!(world.apply(&order("root", line)).is_err(), "{line}");
    refused("set queue batch preemptable=suspend");
    refused("set queue batch preempt_grace=-1");
    refused("set server guaranteed_cards=vision");
}
