//! One job's life, from `qsub` to the end of its record.

use capstan_core::{
    Account, Effect, Event, Holds, Inventory, JobState, Rejection, ReportedPhase, RerunOrder,
};
use capstan_types::{JobId, NodeName};

use crate::harness::{World, caller, deletion, exited, hold_order, submission};
use crate::managing::order;

fn letters_of(world: &World) -> String {
    let records = world.effects.iter().filter_map(|effect| match effect {
        Effect::Account { record, .. } => Some(match record {
            Account::Queued => 'Q',
            Account::Started => 'S',
            Account::Ended => 'E',
            Account::Deleted(_) => 'D',
            Account::Aborted => 'A',
            Account::Rerun => 'R',
            Account::StageInFailed(_) => 'i',
            Account::NotDelivered(_) => 'o',
        }),
        Effect::StartAttempt { .. } => Some('>'),
        Effect::StopAttempt { .. } => Some('!'),
        Effect::ForgetAttempt { .. } => Some('.'),
        Effect::WelcomeNode { .. }
        | Effect::AdjustAttempt { .. }
        | Effect::PrepareImage { .. }
        | Effect::DropImage { .. } => None,
    });
    records.collect()
}

fn one_node() -> World {
    World::with_nodes(&[("node01", 4, 2)])
}

#[test]
fn a_job_is_queued_started_and_ended() {
    let mut world = one_node();
    let job = world.queue("nodes=1:gpus=1");
    assert_eq!((job.to_string().as_str(), world.letter(job)), ("1", 'Q'));
    world.place();
    assert!(matches!(world.job(job).state, JobState::Starting(_)));
    world.started(job);
    assert_eq!(world.letter(job), 'R');
    world.exits(job, 3);
    assert_eq!((world.letter(job), world.exit_status(job)), ('C', Some(3)));
    assert_eq!(letters_of(&world), "Q>SE.");
    assert_eq!(world.state.held().count(), 0);
}

#[test]
fn an_exit_without_a_start_is_accounted_as_both() {
    let mut world = one_node();
    let job = world.queue("");
    world.place();
    world.exits(job, 0);
    assert_eq!(letters_of(&world), "Q>SE.");
}

#[test]
fn a_repeated_report_changes_nothing() {
    let mut world = one_node();
    let job = world.queue("");
    world.place();
    world.started(job);
    let (attempt, node) = (world.attempt(job), world.node_of(job));
    world.started(job);
    let outcome = world.report(job, ReportedPhase::Using(Default::default()));
    assert_eq!(outcome.changes, []);
    world.exits(job, 0);
    let report = capstan_core::AttemptReport {
        attempt,
        phase: exited(0),
    };
    let again = world.must(&Event::Reported { node, report });
    assert_eq!(again.changes, []);
    assert_eq!(letters_of(&world), "Q>SE..");
}

#[test]
fn a_waiting_job_is_deleted_at_once_and_has_no_exit_status() {
    let mut world = one_node();
    let job = world.queue("");
    world.delete(job).unwrap();
    assert_eq!((world.letter(job), world.exit_status(job)), ('C', None));
    assert_eq!(letters_of(&world), "QD");
    assert_eq!(world.delete(job), Err(Rejection::AlreadyEnded(job)));
}

#[test]
fn a_running_job_is_told_to_stop_as_often_as_it_is_deleted() {
    let mut world = one_node();
    let job = world.queue("");
    world.place();
    world.started(job);
    world.delete(job).unwrap();
    assert_eq!(world.letter(job), 'E');
    world.delete(job).unwrap();
    world.exits(job, 271);
    assert_eq!(
        (world.letter(job), world.exit_status(job)),
        ('C', Some(271))
    );
    assert_eq!(letters_of(&world), "Q>SD!D!E.");
}

#[test]
fn only_the_owner_and_operators_delete() {
    let mut world = one_node();
    world.settings.set("operators", "olga@hn1");
    world.must(&Event::ServerStarted(std::sync::Arc::new(
        world.settings.clone(),
    )));
    let job = world.queue("");
    let by_bob = world.apply(&Event::Delete(deletion(job, "bob")));
    assert_eq!(by_bob, Err(Rejection::NotOwner(job)));
    world.must(&Event::Delete(deletion(job, "olga")));
    let other = world.queue("");
    world.must(&Event::Delete(deletion(other, "root")));
}

#[test]
fn a_purged_job_is_gone_at_once_and_its_node_waits_for_the_attempt() {
    let mut world = one_node();
    let job = world.queue("nodes=1:gpus=2");
    world.place();
    let attempt = world.attempt(job);
    let mut order = deletion(job, "alice");
    order.purge = true;
    assert_eq!(
        world.apply(&Event::Delete(order.clone())),
        Err(Rejection::NotManager)
    );
    order.by = caller("root");
    world.must(&Event::Delete(order));
    assert!(world.state.resolve(job).is_none());

    let next = world.queue("");
    assert!(
        world.place().placements.is_empty(),
        "the attempt may still use anything"
    );
    let node = "node01".into();
    let report = capstan_core::AttemptReport {
        attempt,
        phase: exited(271),
    };
    world.must(&Event::Reported { node, report });
    world.place();
    assert_eq!(world.letter(next), 'R');
}

#[test]
fn a_held_job_waits_until_it_is_released() {
    let mut world = one_node();
    let mut held = submission("");
    held.holds = Holds::USER;
    let job = world.submit(held).unwrap();
    assert_eq!((world.letter(job), world.job(job).eligible), ('H', None));
    assert!(world.place().placements.is_empty());
    assert_eq!(world.release(job, "s"), Err(Rejection::NotManager));
    assert_eq!(world.release(job, "o"), Err(Rejection::NotOperator));
    world.release(job, "u").unwrap();
    assert_eq!(
        (world.letter(job), world.job(job).eligible),
        ('Q', Some(world.now))
    );
    assert_eq!(world.release(job, "u"), Err(Rejection::NotHeld(job)));
    world.place();
    assert_eq!(world.letter(job), 'R');
}

#[test]
fn a_hold_on_a_running_job_counts_when_it_is_rerun() {
    let mut world = one_node();
    let job = world.queue("");
    world.place();
    world.started(job);
    world.hold(job, "u").unwrap();
    assert_eq!(world.letter(job), 'R');
    let (at, reason) = (world.now, "shim was killed".into());
    world.report(job, ReportedPhase::Lost { at, reason });
    assert_eq!(world.letter(job), 'H');
}

#[test]
fn a_job_waits_for_its_time() {
    let mut world = one_node();
    let mut later = submission("");
    let time = world.now.plus_secs(60);
    later.not_before = Some(time);
    let job = world.submit(later).unwrap();
    assert_eq!(world.letter(job), 'W');
    assert!(world.place().placements.is_empty());
    world.pass(60);
    world.place();
    assert_eq!(
        (world.letter(job), world.job(job).eligible),
        ('R', Some(time))
    );
}

#[test]
fn an_unstartable_job_is_held_with_the_reason() {
    let mut world = one_node();
    let job = world.queue("");
    world.place();
    let (at, reason) = (world.now, "folder /ghome/alice/out does not exist".into());
    world.report(job, ReportedPhase::Unstartable { at, reason });
    let held = world.job(job);
    assert_eq!((world.letter(job), held.holds), ('H', Holds::SYSTEM));
    assert_eq!(
        held.comment.as_deref(),
        Some("folder /ghome/alice/out does not exist")
    );
    world.must(&Event::Release(crate::harness::hold_order(
        job, "s", "root",
    )));
    assert_eq!(
        (world.letter(job), world.job(job).comment.as_deref()),
        ('Q', None)
    );
}

/// The recorded session H05.
#[test]
fn a_job_whose_files_could_not_be_copied_waits_half_an_hour() {
    let mut world = one_node();
    let job = world.queue("");
    world.place();
    let (at, reason) = (world.now, "no /nosuch/file".into());
    world.report(job, ReportedPhase::StageInFailed { at, reason });
    let waiting = world.job(job);
    assert_eq!(
        (world.letter(job), waiting.not_before, waiting.holds),
        ('W', Some(at.plus_secs(1800)), Holds::NONE)
    );
    assert!(waiting.comment.as_deref().unwrap().contains("/nosuch/file"));
    assert_eq!(world.state.running().count(), 0);
    world.pass(1799);
    world.place();
    assert_eq!(world.letter(job), 'W');
    world.pass(1);
    world.place();
    assert_eq!((world.letter(job), world.job(job).run_count), ('R', 2));
}

#[test]
fn a_prologue_that_fails_is_tried_again_more_and_more_seldom_and_then_the_job_is_held() {
    let mut world = one_node();
    let job = world.queue("");
    for attempt in 1..=8_u32 {
        world.place();
        assert_eq!(world.job(job).run_count, attempt);
        let (at, reason) = (world.now, "prologue ended with 3".into());
        world.report(job, ReportedPhase::PrologueFailed { at, reason });
        assert_eq!(world.job(job).not_before, Some(at.plus_secs(1 << attempt)));
        world.pass(1 << attempt);
    }
    let held = world.job(job);
    assert_eq!((world.letter(job), held.holds), ('H', Holds::SYSTEM));
    let comment = held.comment.as_deref().unwrap();
    assert!(comment.contains("prologue ended with 3"), "{comment}");
}

fn rerun(world: &mut World, job: JobId) {
    let (by, force) = (caller("root"), false);
    world.must(&Event::Rerun(RerunOrder { job, by, force }));
    world.exits(job, 271);
}

fn fails_to_start(world: &mut World, job: JobId) {
    world.place();
    let (at, reason) = (world.now, "prologue ended with 3".into());
    world.report(job, ReportedPhase::PrologueFailed { at, reason });
}

#[test]
fn only_starts_in_a_row_that_nodes_failed_make_a_job_held() {
    let mut world = one_node();
    let job = world.queue("");
    for _ in 0..10 {
        world.place();
        world.started(job);
        rerun(&mut world, job);
    }
    // Its eleventh start is the first that fails.
    fails_to_start(&mut world, job);
    let waiting = world.job(job);
    assert_eq!(waiting.holds, Holds::NONE);
    assert_eq!(waiting.not_before, Some(world.now.plus_secs(2)));
    for _ in 2..=7 {
        world.pass(300);
        fails_to_start(&mut world, job);
    }
    assert_eq!(world.job(job).tries.failed_starts, 7);
    // Once it runs, the next is not one in a row.
    world.pass(300);
    world.place();
    world.started(job);
    assert_eq!(world.job(job).tries.failed_starts, 0);
    rerun(&mut world, job);
    fails_to_start(&mut world, job);
    assert_eq!(
        (world.job(job).tries.failed_starts, world.job(job).holds),
        (1, Holds::NONE)
    );
    for _ in 2..=8 {
        world.pass(300);
        fails_to_start(&mut world, job);
    }
    assert_eq!(world.letter(job), 'H');
    // Who releases it has it tried as often again.
    let release = Event::Release(hold_order(job, "s", "root"));
    world.must(&release);
    world.pass(300);
    fails_to_start(&mut world, job);
    assert_eq!(
        (world.letter(job), world.job(job).tries.failed_starts),
        ('W', 1)
    );
}

#[test]
fn a_node_whose_health_script_complains_gets_no_work_unless_the_site_says_otherwise() {
    let mut world = one_node();
    let node = NodeName::from("node01");
    let mut inventory = world.state.node(&node).unwrap().inventory.clone();
    inventory.health_problem = "ERROR disk is read-only".into();
    let changed = |inventory: &Inventory| Event::NodeChanged {
        node: node.clone(),
        inventory: Box::new(inventory.clone()),
    };
    world.must(&changed(&inventory));
    let job = world.queue("");
    let named = world.queue("nodes=node01");
    world.place();
    assert_eq!((world.letter(job), world.letter(named)), ('Q', 'Q'));
    inventory.health_problem = "".into();
    world.must(&changed(&inventory));
    world.place();
    assert_eq!(world.letter(job), 'R');
}

#[test]
fn what_a_health_script_found_stays_in_the_nodes_note_once() {
    let mut world = one_node();
    let node = NodeName::from("node01");
    let mut inventory = world.state.node(&node).unwrap().inventory.clone();
    let mut find = |world: &mut World, problem: &str| {
        inventory.health_problem = problem.into();
        world.must(&Event::NodeChanged {
            node: node.clone(),
            inventory: Box::new(inventory.clone()),
        });
        world.state.node(&node).unwrap().note.to_string()
    };
    assert_eq!(find(&mut world, "ERROR fan"), "ERROR fan");
    assert_eq!(find(&mut world, ""), "ERROR fan");
    assert_eq!(find(&mut world, "ERROR disk"), "ERROR fan - ERROR disk");
    assert_eq!(find(&mut world, "ERROR fan"), "ERROR fan - ERROR disk");
    let long = format!("ERROR {}", "x".repeat(4096));
    assert_eq!(find(&mut world, &long), "ERROR fan - ERROR disk");
    world.must(&order("root", "set server note_append_on_error = False"));
    assert_eq!(find(&mut world, "ERROR power"), "ERROR fan - ERROR disk");
}

#[test]
fn a_job_deleted_while_its_files_were_copied_is_gone() {
    let mut world = one_node();
    let job = world.queue("");
    world.place();
    world.delete(job).unwrap();
    let (at, reason) = (world.now, "stopped".into());
    world.report(job, ReportedPhase::StageInFailed { at, reason });
    assert_eq!(
        (world.letter(job), world.exit_status(job)),
        ('C', Some(271))
    );
}

#[test]
fn an_ended_job_is_forgotten_after_its_time() {
    let mut world = one_node();
    let job = world.queue("");
    world.place();
    world.exits(job, 0);
    world.pass(299);
    assert!(world.state.job(job).is_some());
    world.pass(1);
    assert!(world.state.job(job).is_none());
    assert_eq!(world.delete(job), Err(Rejection::UnknownJob(job)));
}

#[test]
fn a_placement_that_no_longer_holds_is_dropped() {
    let mut world = one_node();
    let (first, second) = (world.queue("nodes=1:gpus=2"), world.queue(""));
    let old = world.plan();
    world.delete(first).unwrap();
    world.must(&Event::Placed(old.placements.clone()));
    assert_eq!((world.letter(first), world.letter(second)), ('C', 'R'));
    world.must(&Event::Placed(old.placements));
    assert_eq!(world.state.running().count(), 1);
}

#[test]
fn a_job_whose_attempts_get_lost_again_and_again_is_held() {
    let mut world = one_node();
    let job = world.queue("");
    for _ in 0..20 {
        world.place();
        let (at, reason) = (world.now, "the node died".into());
        world.report(job, ReportedPhase::Lost { at, reason });
    }
    assert_eq!(world.letter(job), 'H');
    let held = world.job(job);
    assert_eq!(
        held.comment.as_deref(),
        Some("held after 20 attempts; lost: the node died")
    );
}

#[test]
fn attempts_that_a_person_ended_do_not_make_a_job_held() {
    let mut world = one_node();
    let job = world.queue("");
    let lose = |world: &mut World| {
        world.place();
        let (at, reason) = (world.now, "the node died".into());
        world.report(job, ReportedPhase::Lost { at, reason });
    };
    for _ in 0..30 {
        world.place();
        world.started(job);
        rerun(&mut world, job);
    }
    for _ in 0..19 {
        lose(&mut world);
    }
    assert_eq!(world.letter(job), 'Q');
    lose(&mut world);
    assert_eq!(world.letter(job), 'H');
    let release = Event::Release(hold_order(job, "s", "root"));
    world.must(&release);
    lose(&mut world);
    assert_eq!(
        (world.letter(job), world.job(job).tries.lost_attempts),
        ('Q', 1)
    );
}

#[test]
fn a_job_deleted_before_its_node_could_start_it_was_deleted() {
    let mut world = one_node();
    let job = world.queue("");
    world.place();
    world.delete(job).unwrap();
    let (at, reason) = (world.now, "no such user".into());
    world.report(job, ReportedPhase::Unstartable { at, reason });
    assert_eq!(
        (world.letter(job), world.exit_status(job)),
        ('C', Some(271))
    );
}

#[test]
fn a_late_start_of_a_deleted_job_is_stopped_again() {
    let mut world = one_node();
    let job = world.queue("");
    world.place();
    world.delete(job).unwrap();
    world.started(job);
    assert_eq!(letters_of(&world), "Q>D!S!");
}

#[test]
fn an_owner_is_told_where_output_stayed_that_could_not_be_copied() {
    let check = |told: &str, letters: &str, comment: &str| {
        let mut world = one_node();
        let job = world.queue("");
        world.place();
        world.started(job);
        let ReportedPhase::Exited {
            at,
            exit_status,
            usage,
            unclean,
            cause,
            images,
            undelivered: _,
        } = exited(0)
        else {
            panic!("an end");
        };
        let phase = ReportedPhase::Exited {
            at,
            exit_status,
            usage,
            unclean,
            cause,
            images,
            undelivered: told.into(),
        };
        world.report(job, phase);
        assert_eq!((world.letter(job), world.exit_status(job)), ('C', Some(0)));
        assert_eq!(letters_of(&world), letters, "{told}");
        let ended = world.job(job);
        let seen = ended.comment.as_deref().unwrap_or_default();
        assert!(seen.ends_with(comment), "{seen}");
    };
    check("", "Q>SE.", "");
    let kept = "Unable to copy file a to h:/x, error 1\n*** end error output\n\
                Output retained on that host in: /s/undelivered/1.hn1.OU\n\
                Unable to copy file b to h:/y, error 1\n\
                Output retained on that host in: /s/undelivered/1.hn1.ER\n";
    let comment = "is kept on node01: /s/undelivered/1.hn1.OU /s/undelivered/1.hn1.ER";
    check(kept, "Q>SoE.", comment);
    let staged = "Unable to copy file a to h:/x, error 1\n";
    let comment = "files are left on node01: Unable to copy file a to h:/x, error 1";
    check(staged, "Q>SoE.", comment);
}
