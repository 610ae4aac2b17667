//! Jobs that hang together in rarer ways: members of arrays waited for, jobs that let others go, sets that start at once,
//! circles.

use capstan_core::{Holds, Job, JobState, MembersWait, Rejection, Submission, Tie, depend_shown};
use capstan_types::{Condition, JobId};

use crate::harness::{World, after, array, submission};
use Condition::{After, AfterAny, AfterNotOk, AfterOk};

fn tied(ties: &[Tie]) -> Submission {
    Submission {
        ties: ties.to_vec(),
        ..submission("")
    }
}

fn members(condition: Condition, count: Option<u32>) -> Tie {
    let array = JobId::array(1);
    Tie::Members(MembersWait {
        condition,
        array,
        count,
    })
}

fn shown(world: &World, id: JobId) -> String {
    let job: &Job = &world.job(id);
    depend_shown(&world.state, job)
}

fn world() -> World {
    World::with_nodes(&[("node01", 8, 0)])
}

/// What becomes of a job that waits for members of the array `0-3` whose members end as `ends` says (`-` runs still).
fn check_members(tie: Tie, ends: [Option<i32>; 4], expected: char) {
    let mut world = world();
    world.submit(array("0-3", "")).unwrap();
    let child = world.submit(tied(&[tie])).unwrap();
    assert_eq!(world.letter(child), 'H');
    world.place();
    for (index, end) in (0..).zip(ends) {
        let member = JobId::member(1, index);
        world.started(member);
        if let Some(status) = end {
            world.exits(member, status);
        }
    }
    assert_eq!(world.letter(child), expected, "{tie:?} {ends:?}");
}

#[test]
fn so_many_members_are_enough_or_too_few() {
    let (good, bad) = (Some(0), Some(1));
    check_members(members(AfterOk, None), [good, good, good, good], 'Q');
    check_members(members(AfterOk, None), [good, good, good, None], 'H');
    check_members(members(AfterOk, None), [good, bad, None, None], 'C');
    check_members(members(AfterOk, Some(2)), [good, bad, good, None], 'Q');
    check_members(members(AfterOk, Some(2)), [bad, bad, None, good], 'H');
    check_members(members(AfterOk, Some(2)), [bad, bad, bad, None], 'C');
    check_members(members(AfterNotOk, Some(1)), [good, bad, None, None], 'Q');
    check_members(members(AfterNotOk, None), [bad, good, None, None], 'C');
    check_members(members(AfterAny, Some(3)), [bad, good, bad, None], 'Q');
    check_members(members(AfterAny, None), [bad, good, bad, None], 'H');
    check_members(members(After, None), [None, None, None, None], 'Q');
}

#[test]
fn members_that_never_ran_count_as_parents_that_never_ran() {
    let check = |tie: Tie, expected: char| {
        let mut world = world();
        let parent = world.submit(array("0-3", "")).unwrap();
        let child = world.submit(tied(&[tie])).unwrap();
        world.delete(parent).unwrap();
        assert_eq!(world.letter(child), expected, "{tie:?}");
        if expected == 'C' {
            let comment = "Job deleted as result of dependency on job 1[].hn1";
            assert_eq!(world.job(child).comment.as_deref(), Some(comment));
        }
    };
    check(members(AfterOk, None), 'Q');
    check(members(AfterAny, Some(4)), 'Q');
    check(members(AfterNotOk, Some(1)), 'C');
    check(members(After, Some(1)), 'C');
}

#[test]
fn more_members_than_there_are_can_never_be() {
    let mut world = world();
    let parent = world.submit(array("0-3", "")).unwrap();
    let refused = world.submit(tied(&[members(AfterOk, Some(5))]));
    let dead = Rejection::DeadDependency {
        condition: AfterOk,
        on: parent,
        exit_status: None,
    };
    assert_eq!(refused, Err(dead));
    let single = world.queue("");
    let wait = MembersWait {
        condition: AfterOk,
        array: single,
        count: None,
    };
    assert!(world.submit(tied(&[Tie::Members(wait)])).is_err());
}

/// Sessions F01 and F03: both sides show it, each in the order in which it came to be.
#[test]
fn both_sides_show_what_hangs_together() {
    let mut world = world();
    let mut held = submission("");
    held.holds = Holds::USER;
    let (first, second) = (
        world.submit(held.clone()).unwrap(),
        world.submit(held).unwrap(),
    );
    world.pass(1);
    let mut child = after(AfterOk, first);
    child.depends.extend([(AfterOk, second), (AfterAny, first)]);
    let child = world.submit(child).unwrap();
    assert_eq!(
        shown(&world, child),
        "afterok:1.hn1:2.hn1,afterany:1.hn1",
        "as typed"
    );
    assert_eq!(shown(&world, second), "beforeok:3.hn1");
    assert_eq!(shown(&world, first), "beforeok:3.hn1,beforeany:3.hn1");
    world.delete(child).unwrap();
    assert_eq!(shown(&world, first), "");
}

#[test]
fn a_job_can_make_others_wait_for_it() {
    let mut world = world();
    let mut held = submission("");
    held.holds = Holds::USER;
    let target = world.submit(held).unwrap();
    let first = world.submit(tied(&[Tie::Before(AfterOk, target)])).unwrap();
    assert_eq!(shown(&world, target), "afterok:2.hn1");
    assert_eq!(shown(&world, first), "beforeok:1.hn1");
    world.release(target, "u").unwrap();
    assert_eq!(world.letter(target), 'H');
    world.place();
    world.started(first);
    world.exits(first, 0);
    assert_eq!(world.letter(target), 'Q');
    world.place();
    let refused = world.submit(tied(&[Tie::Before(AfterOk, target)]));
    assert_eq!(
        refused,
        Err(Rejection::BadDependency(AfterOk, target)),
        "it has an attempt"
    );
}

#[test]
fn a_job_waits_until_so_many_have_let_it_go() {
    let mut world = world();
    let target = world.submit(tied(&[Tie::On(2)])).unwrap();
    assert_eq!(
        (world.letter(target), &*shown(&world, target)),
        ('H', "on:2")
    );
    let one = world
        .submit(tied(&[Tie::Before(AfterAny, target)]))
        .unwrap();
    assert_eq!(shown(&world, target), "afterany:2.hn1,on:1");
    world.place();
    world.exits(one, 1);
    assert_eq!(world.letter(target), 'H', "the second has not come yet");
    let two = world
        .submit(tied(&[Tie::Before(AfterAny, target)]))
        .unwrap();
    world.place();
    world.exits(two, 0);
    assert_eq!(world.letter(target), 'Q');
}

/// Session F03.
#[test]
fn a_set_starts_when_it_is_complete() {
    let mut world = world();
    let master = world.submit(tied(&[Tie::SyncCount(2)])).unwrap();
    assert_eq!(
        (world.letter(master), &*shown(&world, master)),
        ('H', "synccount:2")
    );
    let first = world.submit(tied(&[Tie::SyncWith(master)])).unwrap();
    assert_eq!(shown(&world, first), "syncwith:1.hn1");
    assert_eq!(shown(&world, master), "synccount:2:2.hn1");
    assert!(world.place().placements.is_empty());
    let second = world.submit(tied(&[Tie::SyncWith(master)])).unwrap();
    assert_eq!(world.place().placements.len(), 3);
    for job in [master, first, second] {
        assert!(matches!(world.job(job).state, JobState::Starting(_)));
    }
}

#[test]
fn a_set_without_its_master_is_gone() {
    let mut world = world();
    let master = world.submit(tied(&[Tie::SyncCount(2)])).unwrap();
    let joined = world.submit(tied(&[Tie::SyncWith(master)])).unwrap();
    world.delete(master).unwrap();
    assert_eq!(world.exit_status(joined), Some(271));
    for bad in [master, JobId::whole(99)] {
        assert!(world.submit(tied(&[Tie::SyncWith(bad)])).is_err());
    }
}

#[test]
fn a_job_never_waits_for_itself() {
    let mut world = world();
    let mut held = submission("");
    held.holds = Holds::USER;
    let first = world.submit(held).unwrap();
    let second = world.submit(after(AfterOk, first)).unwrap();
    let mut circle = after(AfterOk, second);
    circle.ties = vec![Tie::Before(AfterOk, first)];
    let refused = world.submit(circle);
    let refused = refused.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the jobs would wait for each other for ever: 3 -> 2 -> 1 -> 3"
    );
    let mut between = after(AfterOk, first);
    between.ties = vec![Tie::Before(AfterOk, second)];
    world.submit(between).unwrap();
}

#[test]
fn an_array_can_be_made_to_wait() {
    let mut world = world();
    let target = world.submit(array("0-3", "")).unwrap();
    let first = world.submit(tied(&[Tie::Before(AfterOk, target)])).unwrap();
    assert_eq!(world.letter(JobId::member(1, 2)), 'H');
    world.place();
    world.exits(first, 0);
    assert_eq!(world.place().placements.len(), 4);
}

fn of_bob(mut submission: Submission) -> Submission {
    submission.spec.owner.user = "bob".into();
    submission.spec.owner.uid = 1001;
    submission
}

/// A job of bob's that ends well would have alice's deleted; one that is held would hold hers for ever.
#[test]
fn nobody_makes_jobs_of_others_wait() {
    let mut world = world();
    let target = world.submit(submission("")).unwrap();
    for condition in [AfterNotOk, AfterAny] {
        let hostile = of_bob(tied(&[Tie::Before(condition, target)]));
        world.submit(hostile).unwrap();
        assert_eq!(
            (world.letter(target), shown(&world, target)),
            ('Q', String::new())
        );
    }
    world.place();
    for hostile in [2, 3] {
        world.started(JobId::whole(hostile));
        world.exits(JobId::whole(hostile), 0);
    }
    assert_eq!(world.letter(target), 'R');
}

#[test]
fn nobody_joins_a_set_of_others() {
    let mut world = world();
    let master = world.submit(tied(&[Tie::SyncCount(1)])).unwrap();
    let refused = world.submit(of_bob(tied(&[Tie::SyncWith(master)])));
    assert_eq!(refused, Err(Rejection::BadDependency(After, master)));
    assert_eq!(world.letter(master), 'H');
}
