//! Job arrays: one record until a member runs or is touched.

use capstan_core::{Account, Effect, Event, JobState, Rejection, ReportedPhase};
use capstan_types::{JobId, Reason};

use crate::harness::{World, array};

fn world() -> World {
    World::with_nodes(&[("node01", 2, 0)])
}

#[test]
fn an_array_of_ten_thousand_is_three_changes() {
    let mut world = world();
    let outcome = world.must(&Event::Submit(Box::new(array("0-9999", ""))));
    assert_eq!(
        outcome.changes.len(),
        3,
        "the counter, the payload, the array"
    );
    assert_eq!(world.state.job_count(), 1);
    let member = world.job(JobId::member(1, 9999));
    assert_eq!(
        (member.id, member.letter(world.now)),
        (JobId::member(1, 9999), 'Q')
    );
    assert!(world.state.resolve(JobId::member(1, 10_000)).is_none());
    let outcome = world.delete(JobId::array(1)).unwrap();
    assert_eq!(outcome.changes.len(), 1);
    assert_eq!(
        (
            world.letter(JobId::array(1)),
            world.exit_status(JobId::array(1))
        ),
        ('C', None)
    );
}

#[test]
fn members_run_and_the_array_ends_with_the_last() {
    let mut world = world();
    let whole = world.submit(array("1-3", "")).unwrap();
    let members: Vec<JobId> = (1..=3).map(|index| JobId::member(1, index)).collect();
    world.place();
    assert_eq!((world.letter(whole), world.letter(members[2])), ('R', 'Q'));
    world.exits(members[0], 0);
    world.exits(members[1], 0);
    assert_eq!(world.letter(whole), 'Q');
    world.place();
    world.exits(members[2], 0);
    assert_eq!(
        (world.letter(whole), world.exit_status(whole)),
        ('C', Some(0))
    );
    let ended = world.effects.iter().filter(|effect| {
        matches!(
            effect,
            Effect::Account {
                record: Account::Ended,
                ..
            }
        )
    });
    assert_eq!(ended.count(), 3, "members are accounted, the array is not");
    world.pass(300);
    assert_eq!(world.state.job_count(), 0);
}

#[test]
fn the_slot_limit_counts_attempts() {
    let mut world = world();
    let whole = world.submit(array("0-4%1", "")).unwrap();
    world.place();
    assert_eq!(world.plan().reasons, [(whole, Reason::ArraySlotLimit(1))]);
    let (at, reason) = (world.now, "gone".into());
    world.report(JobId::member(1, 0), ReportedPhase::Lost { at, reason });
    let plan = world.place();
    assert_eq!(plan.placements.len(), 1);
    let waiting = plan
        .reasons
        .iter()
        .all(|(_, reason)| *reason == Reason::ArraySlotLimit(1));
    assert!(waiting && plan.reasons.len() == 1, "{:?}", plan.reasons);
}

#[test]
fn one_member_is_deleted_alone() {
    let mut world = world();
    let whole = world.submit(array("0-2", "")).unwrap();
    let member = JobId::member(1, 1);
    world.delete(member).unwrap();
    assert_eq!(
        (world.letter(member), world.exit_status(member)),
        ('C', None)
    );
    assert_eq!(world.delete(member), Err(Rejection::AlreadyEnded(member)));
    world.place();
    assert_eq!(
        (
            world.letter(JobId::member(1, 0)),
            world.letter(JobId::member(1, 2))
        ),
        ('R', 'R')
    );
    world.exits(JobId::member(1, 0), 5);
    world.exits(JobId::member(1, 2), 0);
    assert_eq!(world.exit_status(whole), Some(5));
}

#[test]
fn deleting_the_array_stops_what_runs_and_drops_what_waits() {
    let mut world = world();
    let whole = world.submit(array("0-99", "")).unwrap();
    world.place();
    let outcome = world.delete(whole).unwrap();
    let stops = outcome
        .effects
        .iter()
        .filter(|effect| matches!(effect, Effect::StopAttempt { .. }));
    assert_eq!(stops.count(), 2);
    assert!(world.plan().placements.is_empty());
    for index in [0, 1] {
        world.exits(JobId::member(1, index), 271);
    }
    assert_eq!(
        (world.letter(whole), world.exit_status(whole)),
        ('C', Some(271))
    );
}

#[test]
fn a_hold_on_the_array_holds_members_with_and_without_a_record() {
    let mut world = world();
    let whole = world.submit(array("0-3", "")).unwrap();
    world.hold(JobId::member(1, 3), "u").unwrap();
    assert_eq!(world.letter(JobId::member(1, 3)), 'H');
    world.hold(whole, "u").unwrap();
    assert_eq!(
        (world.letter(whole), world.letter(JobId::member(1, 0))),
        ('Q', 'H'),
        "as in Torque an array is queued, and its members show their holds"
    );
    assert!(world.place().placements.is_empty());
    world.release(whole, "u").unwrap();
    assert_eq!(world.letter(JobId::member(1, 3)), 'Q');
    assert_eq!(world.place().placements.len(), 2);
}

#[test]
fn an_array_without_members_or_with_too_many_is_refused() {
    let mut world = world();
    let max = world.settings.array_members_max;
    let refused = world.submit(array(&format!("0-{max}"), ""));
    let members = max + 1;
    assert_eq!(refused, Err(Rejection::ArrayTooLarge { members, max }));
}

#[test]
fn a_requeued_member_is_a_job_of_its_own() {
    let mut world = world();
    world.submit(array("0-0", "")).unwrap();
    world.place();
    let member = JobId::member(1, 0);
    let (at, reason) = (world.now, "gone".into());
    world.report(member, ReportedPhase::Lost { at, reason });
    assert!(matches!(world.job(member).state, JobState::Pending));
    world.place();
    assert_eq!(world.job(member).run_count, 2);
    world.exits(member, 0);
    assert_eq!(world.exit_status(JobId::array(1)), Some(0));
}

/// Sessions G01 and C02: members beyond the limit are held, and let go one by one.
#[test]
fn members_beyond_the_slot_limit_are_held() {
    let mut world = world();
    let whole = world.submit(array("0-5%2", "")).unwrap();
    let letters = |world: &World| {
        let members = (0..6).map(|index| world.letter(JobId::member(1, index)));
        members.collect::<String>()
    };
    let holds = |world: &World, index| {
        let job = world.job(JobId::member(1, index));
        job.effective_holds().to_string()
    };
    assert_eq!(
        (letters(&world).as_str(), world.letter(whole)),
        ("QQHHHH", 'Q')
    );
    assert_eq!(
        (holds(&world, 1), holds(&world, 2)),
        ("n".into(), "l".into())
    );
    world.place();
    assert_eq!(
        (letters(&world).as_str(), world.letter(whole)),
        ("RRHHHH", 'R')
    );
    world.exits(JobId::member(1, 0), 0);
    assert_eq!(letters(&world), "CRQHHH");
    world.hold(whole, "u").unwrap();
    assert_eq!(
        (holds(&world, 2), holds(&world, 3)),
        ("u".into(), "ul".into())
    );
    assert_eq!(letters(&world), "CRHHHH");
    world.release(whole, "u").unwrap();
    world.place();
    assert_eq!(letters(&world), "CRRHHH");
}

#[test]
fn a_member_with_a_record_waits_for_its_slot_like_the_others() {
    let mut world = world();
    world.submit(array("0-3%1", "")).unwrap();
    let last = JobId::member(1, 3);
    world.hold(last, "u").unwrap();
    world.release(last, "u").unwrap();
    world.place();
    let running = world.state.running().count();
    assert_eq!(running, 1, "one slot, one attempt");
    while world.state.live_count() > 0 {
        let job = world.state.running().next().map(|(_, job)| job.id);
        match job {
            Some(job) => world.exits(job, 0),
            None => world.must(&Event::Tick),
        };
        world.place();
    }
    assert_eq!(world.exit_status(JobId::array(1)), Some(0));
}

#[test]
fn only_so_many_members_are_queued_at_once() {
    let mut world = world();
    let mut job = array("0-9", "");
    job.spec.array.as_mut().unwrap().idle_limit = Some(3);
    world.submit(job).unwrap();
    let letters = |world: &World| {
        let members = (0..10).map(|index| world.letter(JobId::member(1, index)));
        members.collect::<String>()
    };
    assert_eq!(letters(&world), "QQQHHHHHHH");
    world.place();
    assert_eq!(letters(&world), "RRQQQHHHHH", "two slots there are");
}

/// Session G03.
#[test]
fn the_servers_limit_on_slots_refuses_more_and_fills_in() {
    let mut settings = world().settings;
    settings.set("max_slot_limit", "2");
    settings.set("max_job_array_size", "5");
    let mut world = World::new(settings);
    world.attach(
        "node01",
        crate::harness::inventory("node01", 8, 0),
        Vec::new(),
    );
    let refused = world.submit(array("0-3%5", ""));
    let (limit, max) = (5, 2);
    assert_eq!(refused, Err(Rejection::SlotLimitTooHigh { limit, max }));
    let (members, max) = (99_999_999, 5);
    let refused = world.submit(array("1-99999999", ""));
    assert_eq!(refused, Err(Rejection::ArrayTooLarge { members, max }));
    let id = world.submit(array("0-3", "")).unwrap();
    let request = world.job(id).spec.array.clone().unwrap();
    assert_eq!(
        (request.to_string().as_str(), request.slot_limit),
        ("0-3", Some(2))
    );
    assert_eq!(world.place().placements.len(), 2);
}

#[test]
fn an_array_whose_members_were_purged_one_by_one_leaves_nothing() {
    let mut world = world();
    world.submit(array("0-2", "")).unwrap();
    world.place();
    for index in 0..3 {
        let mut order = crate::harness::deletion(JobId::member(1, index), "root");
        order.purge = true;
        world.must(&Event::Delete(order));
    }
    assert_eq!(world.state.job_count(), 0);
}
