//! Jobs that wait for others. The rules are those of Torque's recorded sessions F01, H02 and, the other way round,
//! H03.

use capstan_core::{Account, Effect, Holds, JobState, Rejection};
use capstan_types::{Condition, JobId, Reason};

use crate::harness::{World, after, array, submission};
use Condition::{After, AfterAny, AfterNotOk, AfterOk};

/// What becomes of a job that waits for `condition` when its parent ends as `end` has it.
fn check(condition: Condition, end: impl Fn(&mut World, JobId), expected: char) {
    let mut world = World::with_nodes(&[("node01", 4, 0)]);
    let parent = world.queue("");
    let child = world.submit(after(condition, parent)).unwrap();
    let held = world.job(child);
    assert_eq!(
        (world.letter(child), held.effective_holds()),
        ('H', Holds::SYSTEM)
    );
    assert_eq!(world.plan().reasons, [(child, Reason::DependsOn(parent))]);
    end(&mut world, parent);
    assert_eq!(world.letter(child), expected, "{condition:?}");
    if expected == 'C' {
        assert_eq!(world.exit_status(child), Some(271));
        let comment = "Job deleted as result of dependency on job 1.hn1";
        assert_eq!(world.job(child).comment.as_deref(), Some(comment));
        let is_aborted = |effect: &Effect| {
            matches!(
                effect,
                Effect::Account {
                    record: Account::Aborted,
                    ..
                }
            )
        };
        assert!(world.effects.iter().any(is_aborted));
    }
}

fn runs(status: i32) -> impl Fn(&mut World, JobId) {
    move |world, parent| {
        world.place();
        world.started(parent);
        world.exits(parent, status);
    }
}

fn is_deleted(world: &mut World, parent: JobId) {
    world.delete(parent).unwrap();
}

#[test]
fn the_end_of_the_parent_releases_or_deletes() {
    check(AfterOk, runs(0), 'Q');
    check(AfterOk, runs(1), 'C');
    check(AfterNotOk, runs(1), 'Q');
    check(AfterNotOk, runs(0), 'C');
    check(AfterAny, runs(0), 'Q');
    check(AfterAny, runs(1), 'Q');
    check(After, runs(1), 'Q');
}

#[test]
fn a_parent_that_never_ran_counts_as_torque_counts_it() {
    check(AfterOk, is_deleted, 'Q');
    check(AfterAny, is_deleted, 'Q');
    check(AfterNotOk, is_deleted, 'C');
    check(After, is_deleted, 'C');
}

#[test]
fn the_start_of_the_parent_is_enough_for_after_only() {
    let starts = |world: &mut World, parent: JobId| {
        world.place();
        world.started(parent);
    };
    check(After, starts, 'Q');
    check(AfterOk, starts, 'H');
}

#[test]
fn a_chain_falls_link_by_link() {
    let mut world = World::with_nodes(&[("node01", 1, 0)]);
    let first = world.queue("");
    let second = world.submit(after(AfterOk, first)).unwrap();
    let third = world.submit(after(AfterOk, second)).unwrap();
    let anyway = world.submit(after(AfterAny, third)).unwrap();
    world.place();
    world.exits(first, 1);
    assert_eq!(
        (
            world.letter(second),
            world.letter(third),
            world.letter(anyway)
        ),
        ('C', 'C', 'Q')
    );
}

#[test]
fn all_conditions_must_be_met() {
    let mut world = World::with_nodes(&[("node01", 4, 0)]);
    let (a, b) = (world.queue(""), world.queue(""));
    let mut both = after(AfterOk, a);
    both.depends.push((After, b));
    both.depends.push((After, b));
    let child = world.submit(both).unwrap();
    assert_eq!(world.job(child).waits_for, [(AfterOk, a), (After, b)]);
    world.place();
    world.started(b);
    assert_eq!(world.letter(child), 'H');
    world.exits(a, 0);
    assert_eq!(
        (world.letter(child), world.job(child).eligible),
        ('Q', Some(world.now))
    );
}

#[test]
fn what_is_met_already_does_not_hold_and_what_cannot_be_met_is_refused() {
    let mut world = World::with_nodes(&[("node01", 4, 0)]);
    let parent = world.queue("");
    world.place();
    world.exits(parent, 0);
    for condition in [AfterOk, AfterAny, After] {
        let child = world.submit(after(condition, parent)).unwrap();
        assert_eq!(world.letter(child), 'Q');
    }
    let refused = world.submit(after(AfterNotOk, parent));
    let dead = |condition, exit_status| Rejection::DeadDependency {
        condition,
        on: parent,
        exit_status,
    };
    assert_eq!(refused, Err(dead(AfterNotOk, Some(0))));
    let text = "afternotok on job 1 can never be met: it has ended with status 0";
    assert_eq!(dead(AfterNotOk, Some(0)).to_string(), text);
    let unknown = JobId::whole(99);
    let refused = world.submit(after(AfterOk, unknown));
    assert_eq!(refused, Err(Rejection::BadDependency(AfterOk, unknown)));
}

#[test]
fn an_array_is_ok_when_all_its_members_are() {
    let mut world = World::with_nodes(&[("node01", 4, 0)]);
    let parent = world.submit(array("0-1", "")).unwrap();
    let (ok, not_ok) = (
        world.submit(after(AfterOk, parent)).unwrap(),
        world.submit(after(AfterNotOk, parent)).unwrap(),
    );
    let started = world.submit(after(After, parent)).unwrap();
    world.place();
    world.started(JobId::member(1, 0));
    assert_eq!(world.letter(started), 'Q');
    world.exits(JobId::member(1, 0), 0);
    assert_eq!((world.letter(ok), world.letter(not_ok)), ('H', 'H'));
    world.exits(JobId::member(1, 1), 7);
    assert_eq!((world.letter(ok), world.letter(not_ok)), ('C', 'Q'));
    assert_eq!(world.exit_status(parent), Some(7));
}

#[test]
fn a_member_that_waits_can_be_waited_for_and_vanishes_with_its_array() {
    let mut world = World::with_nodes(&[("node01", 1, 0)]);
    let parent = world.submit(array("0-9", "")).unwrap();
    let child = world.submit(after(AfterAny, JobId::member(1, 5))).unwrap();
    let strict = world.submit(after(After, JobId::member(1, 6))).unwrap();
    world.delete(parent).unwrap();
    assert_eq!(
        (
            world.letter(parent),
            world.letter(child),
            world.letter(strict)
        ),
        ('C', 'Q', 'C')
    );
}

#[test]
fn a_held_dependant_stays_held_when_its_parent_ends() {
    let mut world = World::with_nodes(&[("node01", 1, 0)]);
    let parent = world.queue("");
    let mut held = after(AfterOk, parent);
    held.holds = capstan_core::Holds::USER;
    let child = world.submit(held).unwrap();
    runs(0)(&mut world, parent);
    assert_eq!(
        (world.letter(child), world.job(child).eligible),
        ('H', None)
    );
    world.release(child, "u").unwrap();
    world.place();
    assert!(matches!(world.job(child).state, JobState::Starting(_)));
}

#[test]
fn deleting_a_dependant_leaves_nothing_behind() {
    let mut world = World::with_nodes(&[("node01", 1, 0)]);
    let parent = world.queue("");
    let child = world.submit(after(AfterOk, parent)).unwrap();
    world.delete(child).unwrap();
    runs(1)(&mut world, parent);
    assert_eq!(world.exit_status(child), None);
    world.pass(300);
    assert_eq!(world.state.job_count(), 0);
    world.submit(submission("")).unwrap();
}
