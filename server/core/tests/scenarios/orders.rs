//! What people order of jobs: alter, move, rerun, run, reorder, suspend, hold and delete; who may do what when.

use capstan_core::{
    AlterOrder, Altered, Effect, Event, JobState, MoveOrder, OrderProblem, Outcome, Queue,
    Rejection, Reply, ReportedPhase, RerunOrder, RunOrder, Settings, Submission, SuspendOrder,
    SwapOrder,
};
use capstan_types::{
    ArrayRequest, Condition, Holds, JobId, NodeSpec, QueueName, ServerName, Timestamp,
};

use crate::harness::{World, after, array, caller, deletion, hold_order, inventory, submission};

fn world() -> World {
    let mut settings = Settings::new(ServerName::from("hn1"));
    let mut short = Queue::new(QueueName::from("short"));
    short.set("resources_default.walltime", "00:10:00");
    short.set("resources_max.walltime", "02:00:00");
    settings.add_queue(short);
    let mut stopped = Queue::new(QueueName::from("stopped"));
    stopped.set("started", "False");
    settings.add_queue(stopped);
    let mut disabled = Queue::new(QueueName::from("disabled"));
    disabled.set("enabled", "False");
    settings.add_queue(disabled);
    settings.set("operators", "olga@hn1");
    let mut world = World::new(settings);
    for (name, slots, cards) in [("gpu01", 4, 2), ("gpu02", 4, 2)] {
        world.attach(name, inventory(name, slots, cards), Vec::new());
    }
    world
}

fn order(job: JobId, user: &str, altered: &[Altered]) -> AlterOrder {
    AlterOrder {
        job,
        members: None,
        by: caller(user),
        altered: altered.to_vec(),
        wish: Box::new(submission("")),
        slot_limit: None,
        comment: Box::default(),
    }
}

fn wishing(job: JobId, user: &str, altered: &[Altered], wish: Submission) -> AlterOrder {
    AlterOrder {
        wish: Box::new(wish),
        ..order(job, user, altered)
    }
}

fn resource(name: &str) -> Altered {
    Altered::Resource(name.into())
}

impl World {
    fn alter(&mut self, order: AlterOrder) -> Result<Outcome, Rejection> {
        self.apply(&Event::Alter(Box::new(order)))
    }

    fn alter_limit(&mut self, job: JobId, user: &str, limit: &str) -> Result<Outcome, Rejection> {
        let altered: Vec<Altered> = limit
            .split_whitespace()
            .map(|pair| resource(pair.split_once('=').unwrap().0))
            .collect();
        self.alter(wishing(job, user, &altered, submission(limit)))
    }

    fn relocate(&mut self, job: JobId, user: &str, queue: &str) -> Result<Outcome, Rejection> {
        self.apply(&Event::Move(MoveOrder {
            job,
            queue: Some(QueueName::from(queue)),
            by: caller(user),
        }))
    }

    fn rerun(&mut self, job: JobId, user: &str, force: bool) -> Result<Outcome, Rejection> {
        let by = caller(user);
        self.apply(&Event::Rerun(RerunOrder { job, force, by }))
    }

    fn start_now(&mut self, job: JobId, user: &str, hosts: &str) -> Result<Outcome, Rejection> {
        let hosts = (!hosts.is_empty()).then(|| NodeSpec::parse(hosts).unwrap());
        let by = caller(user);
        self.apply(&Event::Run(RunOrder { job, hosts, by }))
    }

    fn swap(&mut self, first: JobId, second: JobId, user: &str) -> Result<Outcome, Rejection> {
        let by = caller(user);
        self.apply(&Event::Swap(SwapOrder { first, second, by }))
    }

    fn suspend(&mut self, job: JobId, user: &str, on: bool) -> Result<Outcome, Rejection> {
        self.apply(&Event::Suspend(SuspendOrder {
            job,
            is_suspended: on,
            by: caller(user),
        }))
    }

    fn running(&mut self, resources: &str) -> JobId {
        let job = self.queue(resources);
        self.place();
        self.started(job);
        job
    }

    fn asked(&self, job: JobId, name: &str) -> Option<String> {
        self.job(job).spec.resources.get(name).map(str::to_owned)
    }
}

fn problem(refused: Result<Outcome, Rejection>) -> OrderProblem {
    match refused {
        Err(Rejection::Order(problem)) => problem,
        other => panic!("not refused as an order: {other:?}"),
    }
}

#[test]
fn nearly_everything_of_a_waiting_job_can_be_altered() {
    let mut world = world();
    let mut held = submission("walltime=60");
    held.holds = Holds::USER;
    let job = world.submit(held).unwrap();
    let mut wish = submission("nodes=2:ppn=2 mem=1gb");
    wish.spec.name = "other".into();
    wish.spec.umask = Some(0o22);
    wish.spec.shown = vec![("Account_Name".into(), "acct".into())];
    wish.priority = 7;
    wish.not_before = Some(Timestamp(world.now.0 + 60_000));
    let altered = [
        Altered::Name,
        Altered::Umask,
        Altered::Priority,
        Altered::NotBefore,
        Altered::Holds,
        resource("nodes"),
        resource("mem"),
        Altered::Shown("Account_Name".into()),
    ];
    world.alter(wishing(job, "alice", &altered, wish)).unwrap();
    let seen = world.job(job);
    assert_eq!((&*seen.spec.name, seen.spec.umask), ("other", Some(0o22)));
    assert_eq!((seen.priority, seen.holds), (7, Holds::NONE));
    assert_eq!(seen.letter(world.now), 'W');
    assert_eq!(seen.spec.nodes.as_ref().unwrap().to_string(), "2:ppn=2");
    assert_eq!(seen.spec.memory_bytes, Some(1 << 30));
    assert_eq!(world.asked(job, "nodect").as_deref(), Some("2"));
    assert_eq!(world.asked(job, "walltime").as_deref(), Some("00:01:00"));
    assert_eq!(seen.spec.shown.len(), 1);
    let away = [Altered::Shown("Account_Name".into())];
    world.alter(order(job, "alice", &away)).unwrap();
    assert_eq!(world.job(job).spec.shown, []);
}

/// In Torque the names of output files are made once, at submission.
#[test]
fn a_new_name_leaves_the_output_where_it_was() {
    let mut world = world();
    let mut job = submission("");
    job.spec.work_folder = "/home/alice".into();
    let job = world.submit(job).unwrap();
    let mut wish = submission("");
    wish.spec.name = "other".into();
    world
        .alter(wishing(job, "alice", &[Altered::Name], wish))
        .unwrap();
    let spec = &world.job(job).spec;
    assert_eq!(&*spec.stdout_path, format!("/home/alice/job.o{}", job.seq));
    assert_eq!(&*spec.stderr_path, format!("/home/alice/job.e{}", job.seq));
}

#[test]
fn a_resource_that_is_unset_has_the_queues_default_again() {
    let mut world = world();
    let job = world.queue("walltime=60");
    world
        .alter(order(job, "alice", &[resource("walltime")]))
        .unwrap();
    assert_eq!(world.asked(job, "walltime").as_deref(), Some("168:00:00"));
    assert_eq!(&*world.job(job).spec.defaulted, ["walltime".into()]);
}

#[test]
fn the_queues_limits_bind_owners_and_not_operators() {
    let mut world = world();
    let mut job = submission("walltime=60");
    job.queue = Some(QueueName::from("short"));
    let job = world.submit(job).unwrap();
    let refused = world.alter_limit(job, "alice", "walltime=10800");
    assert!(
        matches!(refused, Err(Rejection::QueueRefuses { .. })),
        "{refused:?}"
    );
    let refused = world.alter_limit(job, "alice", "nodes=3");
    assert!(
        matches!(refused, Err(Rejection::NeverFits(_))),
        "{refused:?}"
    );
    world.alter_limit(job, "olga", "walltime=10800").unwrap();
    assert_eq!(world.asked(job, "walltime").as_deref(), Some("03:00:00"));
}

#[test]
fn a_running_jobs_limits_go_down_by_its_owner_and_up_by_operators() {
    let mut world = world();
    let job = world.running("walltime=600 mem=1gb");
    let refused = world.alter_limit(job, "alice", "walltime=601");
    assert_eq!(
        problem(refused),
        OrderProblem::MayNotRaise("walltime".into())
    );
    let refused = world.alter(order(job, "alice", &[resource("mem")]));
    assert_eq!(problem(refused), OrderProblem::MayNotRaise("mem".into()));
    let outcome = world.alter_limit(job, "alice", "walltime=300").unwrap();
    let attempt = world.attempt(job);
    let told = |secs| Effect::AdjustAttempt {
        node: "gpu01".into(),
        attempt,
        walltime_secs: Some(secs),
        cput_secs: Some(100 * 365 * 86_400),
        memory_bytes: Some(1 << 30),
    };
    assert_eq!(outcome.effects, [told(300)]);
    let outcome = world.alter_limit(job, "olga", "walltime=900").unwrap();
    assert_eq!(outcome.effects, [told(900)]);
    // An agent that comes back may not have heard it.
    let known = vec![capstan_core::AttemptReport {
        attempt,
        phase: ReportedPhase::Running {
            at: world.now,
            session: 1,
        },
    }];
    world.detach("gpu01");
    let outcome = world.attach("gpu01", inventory("gpu01", 4, 2), known);
    assert!(outcome.effects.contains(&told(900)), "{outcome:?}");
}

#[test]
fn what_binds_the_start_is_fixed_once_a_job_runs() {
    let mut world = world();
    let job = world.running("walltime=600");
    for (item, name) in [
        (Altered::Shown("Account_Name".into()), "Account_Name"),
        (resource("nodes"), "Resource_List.nodes"),
        (Altered::Depends, "depend"),
        (Altered::Join, "Join_Path"),
        (Altered::Umask, "umask"),
        (Altered::Group, "group_list"),
    ] {
        let refused = world.alter(order(job, "olga", &[Altered::Name, item]));
        assert_eq!(
            problem(refused),
            OrderProblem::FixedWhileRunning(name.into())
        );
    }
    let free = [
        Altered::Name,
        Altered::Priority,
        Altered::Stdout,
        Altered::Rerunnable,
        Altered::Shown("Mail_Points".into()),
        Altered::Variables,
    ];
    let outcome = world.alter(order(job, "alice", &free)).unwrap();
    assert_eq!(outcome.effects, [], "its node need not know");
}

#[test]
fn holds_are_altered_by_those_who_may_set_what_changes() {
    let mut world = world();
    let job = world.queue("");
    let with = |letters: &str| Submission {
        holds: Holds::parse(letters).unwrap(),
        ..submission("")
    };
    let set = |world: &mut World, user: &str, letters: &str| {
        world.alter(wishing(job, user, &[Altered::Holds], with(letters)))
    };
    assert_eq!(set(&mut world, "alice", "s"), Err(Rejection::NotManager));
    assert_eq!(set(&mut world, "alice", "o"), Err(Rejection::NotOperator));
    assert_eq!(set(&mut world, "olga", "s"), Err(Rejection::NotManager));
    set(&mut world, "olga", "o").unwrap();
    set(&mut world, "alice", "uo").unwrap();
    assert_eq!(world.job(job).holds.to_string(), "ou");
    assert_eq!(set(&mut world, "alice", "n"), Err(Rejection::NotOperator));
    set(&mut world, "root", "n").unwrap();
    assert_eq!(world.letter(job), 'Q');
}

#[test]
fn comments_are_for_operators() {
    let mut world = world();
    let job = world.queue("");
    let mut comment = order(job, "alice", &[Altered::Comment]);
    comment.comment = "look at me".into();
    assert_eq!(world.alter(comment.clone()), Err(Rejection::NotOperator));
    comment.by = caller("olga");
    world.alter(comment).unwrap();
    assert_eq!(world.job(job).comment.as_deref(), Some("look at me"));
}

#[test]
fn nobody_waits_for_himself_not_even_by_way_of_others() {
    let mut world = world();
    let first = world.queue("");
    let second = world.submit(after(Condition::AfterOk, first)).unwrap();
    for on in [first, second] {
        let wish = after(Condition::AfterAny, on);
        let refused = world.alter(wishing(first, "alice", &[Altered::Depends], wish));
        let way = match on == first {
            true => vec![first, first],
            false => vec![first, second, first],
        };
        assert_eq!(refused, Err(Rejection::DependencyLoop(way)));
    }
    world
        .alter(order(second, "alice", &[Altered::Depends]))
        .unwrap();
    assert_eq!(world.letter(second), 'Q');
}

/// Session G02: what can be altered is, and the answer says that not everything was.
#[test]
fn of_an_array_every_member_that_can_be_is_altered() {
    let mut world = world();
    let id = world.submit(array("0-3", "nodes=1:ppn=4")).unwrap();
    world.place();
    let member = |index| JobId::member(id.seq, index);
    assert_eq!(
        (world.letter(member(0)), world.letter(member(2))),
        ('R', 'Q')
    );
    let mut wish = submission("");
    wish.spec.umask = Some(0o77);
    let outcome = world
        .alter(wishing(id, "alice", &[Altered::Umask], wish.clone()))
        .unwrap();
    assert_eq!(outcome.reply, Reply::SomeUnchanged);
    let umask = |world: &World, index| world.job(member(index)).spec.umask;
    assert_eq!((umask(&world, 0), umask(&world, 2)), (None, Some(0o77)));

    let mut running = wishing(id, "alice", &[Altered::Umask], wish.clone());
    running.members = Some("0,1".parse_list());
    let refused = world.alter(running);
    assert_eq!(problem(refused), OrderProblem::MembersUnchanged(id));
    wish.priority = 5;
    let mut range = wishing(id, "alice", &[Altered::Priority], wish);
    range.members = Some("1-2,99".parse_list());
    let outcome = world.alter(range).unwrap();
    assert_eq!(outcome.reply, Reply::Done);
    let priority = |index| world.job(member(index)).priority;
    assert_eq!((0..4).map(priority).collect::<Vec<_>>(), [0, 5, 5, 0]);
}

trait List {
    fn parse_list(self) -> capstan_types::IndexSet;
}

impl List for &str {
    fn parse_list(self) -> capstan_types::IndexSet {
        ArrayRequest::parse_list(self).unwrap()
    }
}

#[test]
fn the_slot_limit_of_an_array_can_be_raised_and_lifted() {
    let mut world = world();
    let id = world.submit(array("0-5%1", "")).unwrap();
    world.place();
    assert_eq!(world.state.running().count(), 1);
    let mut limit = order(id, "alice", &[Altered::SlotLimit]);
    limit.slot_limit = Some(3);
    world.alter(limit.clone()).unwrap();
    world.place();
    assert_eq!(world.state.running().count(), 3);
    limit.slot_limit = None;
    world.alter(limit).unwrap();
    world.place();
    assert_eq!(world.state.running().count(), 6);
}

#[test]
fn variables_are_altered_for_a_whole_submission() {
    let mut world = world();
    let id = world.submit(array("0-1", "")).unwrap();
    let member = JobId::member(id.seq, 0);
    let refused = world.alter(order(member, "alice", &[Altered::Variables]));
    assert_eq!(problem(refused), OrderProblem::SharedVariables(member));
    let outcome = world
        .alter(order(id, "alice", &[Altered::Variables]))
        .unwrap();
    assert!(world.job(id).spec.has_own_variables);
    let is_payload = |change: &capstan_core::Change| matches!(change, capstan_core::Change::PutPayload(job, _) if *job == id);
    assert!(outcome.changes.iter().any(is_payload), "{outcome:?}");
}

/// Session E04: defaults of the old queue go, those of the new one come.
#[test]
fn a_moved_job_has_the_defaults_of_its_new_queue() {
    let mut world = world();
    let job = world.queue("mem=1gb");
    world.pass(10);
    world.relocate(job, "alice", "short").unwrap();
    let seen = world.job(job);
    assert_eq!(seen.queue, QueueName::from("short"));
    assert_eq!(seen.queued, world.now);
    assert_eq!(world.asked(job, "walltime").as_deref(), Some("00:10:00"));
    assert_eq!(world.asked(job, "mem").as_deref(), Some("1gb"));
    world.relocate(job, "alice", "batch").unwrap();
    let typed = world.queue("nodes=2");
    world.relocate(typed, "alice", "short").unwrap();
    assert_eq!(world.asked(typed, "nodect").as_deref(), Some("2"));
    world.relocate(job, "alice", "short").unwrap();
    let refused = world.relocate(job, "alice", "short");
    let there = OrderProblem::AlreadyInQueue(job, QueueName::from("short"));
    assert_eq!(problem(refused), there);
}

#[test]
fn a_job_goes_only_where_it_may() {
    let mut world = world();
    let job = world.queue("walltime=50000");
    let refused = world.relocate(job, "alice", "nosuch");
    assert_eq!(refused, Err(Rejection::UnknownQueue("nosuch".into())));
    for queue in ["disabled", "short"] {
        let refused = world.relocate(job, "alice", queue);
        assert!(
            matches!(refused, Err(Rejection::QueueRefuses { .. })),
            "{refused:?}"
        );
    }
    assert_eq!(
        world.relocate(job, "bob", "stopped"),
        Err(Rejection::NotOwner(job))
    );
    world.relocate(job, "root", "disabled").unwrap();
    world.relocate(job, "alice", "stopped").unwrap();
    assert_eq!(world.place().placements, []);
    let running = world.running("");
    let refused = world.relocate(running, "alice", "stopped");
    assert_eq!(problem(refused), OrderProblem::WrongState(running));
}

/// Session E06: operators only, and back to its place.
#[test]
fn a_rerun_job_goes_back_to_its_queue_and_runs_again() {
    let mut world = world();
    let job = world.running("");
    assert_eq!(
        world.rerun(job, "bob", false),
        Err(Rejection::NotOwner(job))
    );
    let refused = world.rerun(job, "alice", false);
    assert_eq!(problem(refused), OrderProblem::MayNotRerun);
    let outcome = world.rerun(job, "olga", false).unwrap();
    let (node, attempt) = ("gpu01".into(), world.attempt(job));
    let stop = Effect::StopAttempt {
        node,
        attempt,
        grace_secs: 0,
    };
    assert_eq!(outcome.effects, [stop]);
    world.exits(job, 271);
    assert_eq!(world.letter(job), 'Q');
    world.place();
    assert_eq!(world.job(job).run_count, 2);
    assert_ne!(world.attempt(job), attempt);
}

#[test]
fn only_what_runs_and_may_run_twice_is_rerun() {
    let mut world = world();
    let waiting = world.queue("nodes=2:ppn=4");
    let refused = world.rerun(waiting, "root", false);
    assert_eq!(problem(refused), OrderProblem::NotRunning(waiting));
    world.delete(waiting).unwrap();
    assert_eq!(
        world.rerun(waiting, "root", false),
        Err(Rejection::AlreadyEnded(waiting))
    );
    let mut once = submission("");
    once.spec.is_rerunnable = false;
    let once = world.submit(once).unwrap();
    world.place();
    let refused = world.rerun(once, "root", true);
    assert_eq!(problem(refused), OrderProblem::NotRerunnable(once));
    let job = world.running("");
    world.delete(job).unwrap();
    let refused = world.rerun(job, "root", false);
    assert_eq!(problem(refused), OrderProblem::Exiting(job));
}

#[test]
fn force_gives_up_an_attempt_whose_node_is_silent() {
    let mut world = world();
    let job = world.running("");
    let old = world.attempt(job);
    world.detach("gpu01");
    world.rerun(job, "root", false).unwrap();
    assert_eq!(world.letter(job), 'E', "its node may still have to stop it");
    world.rerun(job, "root", true).unwrap();
    assert_eq!(world.letter(job), 'Q');
    world.place();
    assert_eq!(world.node_of(job), "gpu02".into());
    assert_ne!(world.attempt(job), old);
}

/// Session E07: past the line, holds and dependencies, on nodes of the operator's choice.
#[test]
fn an_operator_starts_any_waiting_job_now() {
    let mut world = world();
    let first = world.queue("nodes=2:ppn=4");
    let mut held = submission("nodes=1:ppn=4");
    held.holds = Holds::USER;
    held.depends = vec![(Condition::AfterOk, first)];
    let held = world.submit(held).unwrap();
    assert_eq!(
        world.start_now(held, "alice", ""),
        Err(Rejection::NotOperator)
    );
    world.start_now(held, "olga", "gpu02").unwrap();
    let run = world.job(held).state.run().cloned().unwrap();
    assert_eq!(
        (&*run.shares[0].node.to_string(), &*run.shares[0].slots),
        ("gpu02", &[0][..])
    );
    assert_eq!(world.asked(held, "nodes").as_deref(), Some("1:ppn=4"));
    let refused = world.start_now(held, "olga", "");
    assert_eq!(problem(refused), OrderProblem::AlreadyRunning(held));
    // What it no longer waits for may end as it likes.
    world.delete(first).unwrap();
    assert_eq!(world.letter(held), 'R');
    world.started(held);
    world.rerun(held, "root", false).unwrap();
    world.exits(held, 271);
    assert_eq!(world.letter(held), 'H', "a hold counts again after a rerun");
}

#[test]
fn a_job_cannot_be_forced_onto_what_is_not_there() {
    let mut world = world();
    let mut job = submission("nodes=1:ppn=3");
    job.holds = Holds::USER;
    let job = world.submit(job).unwrap();
    let refused = world.start_now(job, "root", "nosuchhost");
    assert_eq!(
        problem(refused),
        OrderProblem::NoSuchHost("nosuchhost".into())
    );
    world.running("nodes=2:ppn=2");
    let refused = world.start_now(job, "root", "");
    let none = OrderProblem::NothingFree { wanted: 1, free: 0 };
    assert_eq!(problem(refused), none);
    let mut stopped = submission("");
    stopped.queue = Some(QueueName::from("stopped"));
    let stopped = world.submit(stopped).unwrap();
    let refused = world.start_now(stopped, "root", "");
    let queue = OrderProblem::QueueStopped("stopped".into());
    assert_eq!(problem(refused), queue);
    let limited = world.submit(array("0-2%1", "")).unwrap();
    world.start_now(limited, "root", "").unwrap();
    let refused = world.start_now(JobId::member(limited.seq, 1), "root", "");
    let full = OrderProblem::SlotLimit {
        limit: 1,
        running: 1,
    };
    assert_eq!(problem(refused), full);
}

/// Placements are in the order of the line.
#[test]
fn two_jobs_change_places() {
    let mut world = world();
    let ids: Vec<JobId> = (0..3).map(|_| world.queue("nodes=1:ppn=2")).collect();
    let order = |world: &World| -> Vec<JobId> {
        let plan = world.plan();
        plan.placements.iter().map(|placed| placed.job).collect()
    };
    assert_eq!(order(&world), ids);
    assert_eq!(
        world.swap(ids[0], ids[2], "bob"),
        Err(Rejection::NotOwner(ids[0]))
    );
    world.swap(ids[0], ids[2], "alice").unwrap();
    assert_eq!(order(&world), [ids[2], ids[1], ids[0]]);
    world.swap(ids[2], ids[1], "alice").unwrap();
    assert_eq!(order(&world), [ids[1], ids[2], ids[0]]);
    world.relocate(ids[0], "alice", "short").unwrap();
    world.swap(ids[0], ids[1], "alice").unwrap();
    assert_eq!(world.job(ids[1]).queue, QueueName::from("short"));
    assert_eq!(world.job(ids[0]).queue, QueueName::from("batch"));
    world.place();
    let refused = world.swap(ids[0], ids[1], "alice");
    assert_eq!(problem(refused), OrderProblem::WrongState(ids[0]));
}

#[test]
fn a_suspended_job_is_shown_as_such_and_keeps_what_it_holds() {
    let mut world = world();
    let job = world.queue("nodes=1:ppn=4");
    let refused = world.suspend(job, "root", true);
    assert_eq!(problem(refused), OrderProblem::WrongState(job));
    world.place();
    world.started(job);
    assert_eq!(
        world.suspend(job, "alice", true),
        Err(Rejection::NotOperator)
    );
    let held = world.state.held().count();
    world.suspend(job, "olga", true).unwrap();
    let again = world.suspend(job, "olga", true).unwrap();
    assert_eq!(again.changes, []);
    assert_eq!((world.letter(job), world.state.held().count()), ('S', held));
    world.suspend(job, "olga", false).unwrap();
    assert_eq!(world.letter(job), 'R');
    world.suspend(job, "olga", true).unwrap();
    world.delete(job).unwrap();
    assert_eq!(world.letter(job), 'E');
    world.exits(job, 271);
    assert_eq!(world.exit_status(job), Some(271));
}

/// Session E02.
#[test]
fn what_exits_or_has_ended_is_no_longer_held_or_altered() {
    let mut world = world();
    let job = world.running("");
    world.hold(job, "u").unwrap();
    assert_eq!(world.letter(job), 'R', "a hold counts when it is rerun");
    world.delete(job).unwrap();
    assert_eq!(problem(world.hold(job, "u")), OrderProblem::Exiting(job));
    assert_eq!(problem(world.release(job, "u")), OrderProblem::Exiting(job));
    world.exits(job, 271);
    assert_eq!(world.hold(job, "u"), Err(Rejection::AlreadyEnded(job)));
    let refused = world.alter(order(job, "alice", &[Altered::Name]));
    assert_eq!(refused, Err(Rejection::AlreadyEnded(job)));
}

#[test]
fn system_holds_are_for_managers() {
    let mut world = world();
    let job = world.queue("");
    let hold = |world: &mut World, letters, user| {
        world.apply(&Event::Hold(hold_order(job, letters, user)))
    };
    assert_eq!(hold(&mut world, "s", "olga"), Err(Rejection::NotManager));
    hold(&mut world, "o", "olga").unwrap();
    hold(&mut world, "s", "root").unwrap();
    assert_eq!(world.job(job).holds.to_string(), "so");
}

/// Session E01: nothing is left of a purged job, whatever its state; dependants have their news (H02).
#[test]
fn a_purged_job_is_gone() {
    let mut world = world();
    let purge = |world: &mut World, job, user| {
        let mut order = deletion(job, user);
        order.purge = true;
        world.apply(&Event::Delete(order))
    };
    let waiting = world.queue("nodes=2:ppn=4");
    let child = world.submit(after(Condition::AfterOk, waiting)).unwrap();
    assert_eq!(
        purge(&mut world, waiting, "alice"),
        Err(Rejection::NotManager)
    );
    purge(&mut world, waiting, "root").unwrap();
    assert!(world.state.resolve(waiting).is_none());
    assert_eq!(world.letter(child), 'Q');
    world.place();
    let attempt = world.attempt(child);
    let outcome = purge(&mut world, child, "root").unwrap();
    assert!(world.state.resolve(child).is_none());
    let stop = Effect::StopAttempt {
        node: "gpu01".into(),
        attempt,
        grace_secs: 0,
    };
    assert!(outcome.effects.contains(&stop), "{outcome:?}");
    assert_eq!(world.state.held().count(), 0);
    let done = world.running("nodes=gpu02");
    world.exits(done, 0);
    purge(&mut world, done, "root").unwrap();
    assert!(world.state.resolve(done).is_none());
    let many = world.submit(array("0-9", "nodes=gpu02:ppn=2")).unwrap();
    world.place();
    purge(&mut world, many, "root").unwrap();
    assert_eq!(world.state.submission(many.seq).count(), 0);
    assert_eq!(world.state.live_count(), 0);
}

#[test]
fn every_running_member_of_an_array_is_rerun() {
    let mut world = world();
    let id = world.submit(array("0-5", "nodes=1:ppn=4")).unwrap();
    assert_eq!(
        problem(world.rerun(id, "root", false)),
        OrderProblem::NotRunning(id)
    );
    world.place();
    world.rerun(id, "root", false).unwrap();
    for index in [0, 1] {
        let member = JobId::member(id.seq, index);
        assert!(matches!(world.job(member).state, JobState::Exiting(..)));
        world.exits(member, 271);
        assert_eq!(world.letter(member), 'Q');
    }
}

fn settled(attribute: &str, value: &str) -> World {
    let mut world = world();
    let mut settings = world.settings.clone();
    settings.set(attribute, value);
    world.must(&Event::ServerStarted(std::sync::Arc::new(settings)));
    for (name, slots, cards) in [("gpu01", 4, 2), ("gpu02", 4, 2)] {
        world.attach(name, inventory(name, slots, cards), Vec::new());
    }
    world
}

#[test]
fn owners_purge_where_the_site_lets_them() {
    let mut world = settled("owner_purge", "True");
    let job = world.queue("");
    let mut order = deletion(job, "bob");
    order.purge = true;
    let refused = world.apply(&Event::Delete(order.clone()));
    assert_eq!(refused, Err(Rejection::NotOwner(job)));
    order.by = caller("alice");
    world.must(&Event::Delete(order));
    assert!(world.state.resolve(job).is_none());
}

#[test]
fn a_site_says_what_deleted_jobs_show() {
    let mut world = settled("exit_code_canceled_job", "99");
    let running = world.running("");
    world.delete(running).unwrap();
    world.exits(running, 271);
    let waiting = world.queue("");
    world.delete(waiting).unwrap();
    assert_eq!(world.exit_status(running), Some(99));
    assert_eq!(world.exit_status(waiting), Some(99));
    let job = world.running("");
    world.exits(job, 3);
    assert_eq!(world.exit_status(job), Some(3));
}

#[test]
fn a_script_can_ask_for_another_run_by_its_exit_status() {
    let mut world = settled("automatic_requeue_exit_code", "85");
    let job = world.running("");
    world.exits(job, 85);
    assert_eq!(world.letter(job), 'Q');
    world.place();
    world.started(job);
    world.exits(job, 0);
    assert_eq!((world.letter(job), world.exit_status(job)), ('C', Some(0)));
}

#[test]
fn an_array_whose_dependency_fails_ends_with_the_member_that_was_made_to_run() {
    let mut world = world();
    let parent = world.queue("nodes=1:ppn=1");
    let mut waiting = array("0-2", "nodes=1:ppn=1");
    waiting.depends = vec![(Condition::AfterNotOk, parent)];
    let array = world.submit(waiting).unwrap();
    let member = JobId::member(array.seq, 1);
    world.start_now(member, "root", "").unwrap();
    world.started(member);
    world.delete(parent).unwrap();
    assert!(world.job(member).state.run().is_some());
    assert!(!world.job(array).has_ended());
    world.exits(member, 0);
    assert!(world.job(array).has_ended());
}
