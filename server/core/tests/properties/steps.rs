//! Random events of a small cluster, and the way to its end.

use capstan_core::{
    AttemptReport, Event, Holds, ImageProblem, ImageReport, Inventory, Job, JobState, MembersWait,
    NodeOrder, Plan, ReportedPhase, Submission, Sync, Tie, Usage,
};
use capstan_types::{Condition, JobId, NodeName, Place, Select};
use proptest::prelude::*;

use crate::NODES;
use crate::harness::{
    World, array, caller, card, deletion, exited, hold_order, inventory, submission,
};
use crate::orders::{OrderStep, give, order_step};

/// Something happens. Numbers choose among what is there, whatever that is.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Submit {
        shape: usize,
        priority: i32,
        is_rerunnable: bool,
        hold: bool,
        wait_secs: u64,
        depends: Option<(Condition, usize)>,
    },
    SubmitArray(usize),
    /// A job that hangs together with another one or two.
    SubmitTied(usize, usize, Condition),
    Place,
    /// A plan that is carried out only after another one.
    PlaceLate,
    OfAttempt(usize, AttemptStep),
    Delete(usize, bool),
    Hold(usize),
    Release(usize),
    OfNode(usize, NodeStep),
    Order(usize, OrderStep),
    Pass(u64),
    RestartServer,
    /// What came of an image that a node was told to get.
    Image(usize, Option<bool>),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum AttemptStep {
    Started,
    Exited(i32),
    Lost,
    Unstartable,
    StageInFailed,
    PrologueFailed,
    Stale,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum NodeStep {
    Detach,
    /// The agent knows of all its attempts, or of each second only.
    Attach(bool),
    Offline(bool),
    Unclean(bool),
    Shrink(bool),
}

const SHAPES: [&str; 14] = [
    "",
    "nodes=1:gpus=1",
    "nodes=1:gpus=2",
    "nodes=1:ppn=4",
    "nodes=2",
    "nodes=2:gpus=1",
    "nodes=3",
    "nodes=node02:ppn=8",
    "nodes=node01:gpus=1+1:ppn=2",
    "ncpus=3",
    "procs=5",
    "procs=14",
    "mem=40gb",
    "nodes=2 mem=100gb",
];

const IMAGES: [&str; 2] = ["torch:2", "lab:5000/python"];

const CHUNKED: [&str; 4] = [
    "",
    "select=2:ncpus=2:ngpus=1",
    "select=1:ncpus=3+2:ncpus=1:mem=20gb",
    "select=1:ncpus=2",
];

const PLACES: [&str; 5] = ["free", "pack", "scatter", "excl", "scatter:exclhost"];

const ARRAYS: [(&str, &str); 4] = [
    ("0-2", ""),
    ("1-6%2", "nodes=1:gpus=1"),
    ("3,5,9%1", "nodes=1:ppn=2"),
    ("0-9", "procs=2"),
];

pub(crate) fn step() -> impl Strategy<Value = Step> {
    let depends = prop::option::weighted(0.3, (condition(), any::<usize>()));
    let waits = prop_oneof![4 => Just(0u64), 1 => Just(50u64)];
    let submit = (
        any::<usize>(),
        -3..3,
        any::<bool>(),
        prop::bool::weighted(0.1),
        waits,
        depends,
    );
    let submit = submit.prop_map(
        |(shape, priority, is_rerunnable, hold, wait_secs, depends)| Step::Submit {
            shape,
            priority,
            is_rerunnable,
            hold,
            wait_secs,
            depends,
        },
    );
    let one = any::<usize>;
    prop_oneof![
        8 => submit,
        2 => one().prop_map(Step::SubmitArray),
        3 => (one(), one(), condition()).prop_map(|(at, how, what)| Step::SubmitTied(at, how, what)),
        8 => Just(Step::Place),
        2 => Just(Step::PlaceLate),
        14 => (one(), attempt_step()).prop_map(|(at, step)| Step::OfAttempt(at, step)),
        3 => (one(), prop::bool::weighted(0.2)).prop_map(|(at, purge)| Step::Delete(at, purge)),
        1 => one().prop_map(Step::Hold),
        1 => one().prop_map(Step::Release),
        8 => (one(), node_step()).prop_map(|(at, step)| Step::OfNode(at, step)),
        8 => (one(), order_step()).prop_map(|(at, step)| Step::Order(at, step)),
        4 => prop_oneof![Just(1u64), Just(30), Just(400)].prop_map(Step::Pass),
        1 => Just(Step::RestartServer),
        6 => (one(), prop::option::weighted(0.4, any::<bool>())).prop_map(|(at, end)| Step::Image(at, end)),
    ]
}

fn condition() -> impl Strategy<Value = Condition> {
    prop::sample::select(vec![
        Condition::After,
        Condition::AfterOk,
        Condition::AfterNotOk,
        Condition::AfterAny,
    ])
}

fn attempt_step() -> impl Strategy<Value = AttemptStep> {
    prop_oneof![
        5 => Just(AttemptStep::Started),
        6 => (0..3).prop_map(AttemptStep::Exited),
        1 => Just(AttemptStep::Lost),
        1 => Just(AttemptStep::Unstartable),
        1 => Just(AttemptStep::StageInFailed),
        1 => Just(AttemptStep::PrologueFailed),
        1 => Just(AttemptStep::Stale),
    ]
}

fn node_step() -> impl Strategy<Value = NodeStep> {
    prop_oneof![
        2 => Just(NodeStep::Detach),
        3 => any::<bool>().prop_map(NodeStep::Attach),
        1 => any::<bool>().prop_map(NodeStep::Offline),
        1 => any::<bool>().prop_map(NodeStep::Unclean),
        1 => any::<bool>().prop_map(NodeStep::Shrink),
    ]
}

pub(crate) fn take(world: &mut World, step: Step) {
    match step {
        Step::Submit { .. } => submit(world, step),
        Step::SubmitArray(which) => {
            let (list, shape) = ARRAYS[which % ARRAYS.len()];
            // Refused when the nodes have shrunk meanwhile.
            world.submit(array(list, shape)).ok();
        }
        Step::SubmitTied(at, how, condition) => submit_tied(world, (at, how), condition),
        Step::Place => {
            world.place();
        }
        Step::PlaceLate => {
            let Plan { placements, .. } = world.plan();
            world.place();
            world.must(&Event::Placed(placements));
        }
        Step::OfAttempt(at, step) => report(world, at, step),
        Step::Delete(at, purge) => {
            if let Some(job) = nth_job(world, at) {
                let mut order = deletion(job, "root");
                order.purge = purge;
                world.apply(&Event::Delete(order)).ok();
            }
        }
        Step::Hold(at) => {
            if let Some(job) = nth_job(world, at) {
                world.apply(&Event::Hold(hold_order(job, "u", "root"))).ok();
            }
        }
        Step::Release(at) => {
            if let Some(job) = nth_job(world, at) {
                world
                    .apply(&Event::Release(hold_order(job, "uos", "root")))
                    .ok();
            }
        }
        Step::Pass(secs) => {
            world.pass(secs);
        }
        Step::RestartServer => {
            let settings = world.settings.clone();
            world.must(&Event::ServerStarted(settings.into()));
        }
        Step::OfNode(at, step) => of_a_node(world, at, step),
        Step::Order(at, step) => give(world, at, step),
        Step::Image(at, failed) => prepared(world, at, failed),
    }
}

fn submit(world: &mut World, step: Step) {
    let Step::Submit {
        shape,
        priority,
        is_rerunnable,
        hold,
        wait_secs,
        depends,
    } = step
    else {
        return;
    };
    let mut job: Submission = submission(SHAPES[shape % SHAPES.len()]);
    if shape % 5 == 0 {
        job.spec
            .shown
            .push(("image".into(), IMAGES[shape / 5 % 2].into()));
    }
    job.priority = priority;
    job.spec.is_rerunnable = is_rerunnable;
    job.holds = if hold { Holds::USER } else { Holds::default() };
    job.not_before = (wait_secs > 0).then(|| world.now.plus_secs(wait_secs));
    let parent = depends.and_then(|(condition, at)| Some((condition, nth_job(world, at)?)));
    job.depends = parent.into_iter().collect();
    world.submit(job).ok();
}

/// A refusal is an answer as well: what it hangs on may be over, or it would be a circle.
fn submit_tied(world: &mut World, (at, how): (usize, usize), condition: Condition) {
    let Some(other) = nth_job(world, at) else {
        return;
    };
    let array = JobId::array(other.seq);
    let count = (how > 40).then_some(how as u32 % 3);
    let members = MembersWait {
        condition,
        array,
        count,
    };
    let mut job = submission(CHUNKED[how % CHUNKED.len()]);
    job.spec.select = job
        .spec
        .resources
        .get("select")
        .map(|text| Select::parse(text).unwrap());
    job.spec.placing = Some(Place::parse(PLACES[how % PLACES.len()]).unwrap())
        .filter(|_| job.spec.select.is_some());
    job.ties = match how % 5 {
        0 => vec![Tie::Before(condition, other)],
        1 => vec![Tie::Members(members)],
        2 => vec![Tie::SyncCount(1)],
        3 => vec![Tie::SyncWith(other)],
        _ => Vec::new(),
    };
    if how % 7 == 0 {
        job.depends = vec![(condition, other)];
    }
    world.submit(job).ok();
}

fn of_a_node(world: &mut World, at: usize, step: NodeStep) {
    match step {
        NodeStep::Detach => world.detach(NODES[at % 3].0),
        NodeStep::Attach(knows_all) => attach(world, at, knows_all),
        NodeStep::Offline(is_offline) => {
            let order = NodeOrder {
                node: NODES[at % 3].0.into(),
                offline: Some(is_offline),
                note: None,
                by: caller("root"),
            };
            world.must(&Event::AlterNode(order));
        }
        NodeStep::Unclean(is_unclean) => {
            let node = NODES[at % 3].0;
            let cards = if is_unclean {
                vec![card(node, 0)]
            } else {
                Vec::new()
            };
            let node = node.into();
            world.must(&Event::CardsUnclean { node, cards });
        }
        NodeStep::Shrink(is_small) => {
            let (node, slots, cards) = NODES[at % 3];
            let cards = if is_small { cards / 2 } else { cards };
            let inventory = Box::new(machine(node, slots, cards));
            let node = node.into();
            world.must(&Event::NodeChanged { node, inventory });
        }
    }
}

fn attach(world: &mut World, at: usize, knows_all: bool) {
    let (name, slots, cards) = NODES[at % 3];
    let node = NodeName::from(name);
    // An agent knows the attempts whose script it runs.
    let scripts = world.state.running().filter(|(_, job)| {
        let run = job.state.run();
        run.is_some_and(|run| run.shares[0].node == node)
    });
    let known = scripts.map(|(attempt, _)| attempt);
    let known: Vec<_> = known
        .filter(|attempt| knows_all || attempt.0 % 2 == 0)
        .collect();
    let (now, session) = (world.now, 1);
    let known = known.into_iter().map(|attempt| AttemptReport {
        attempt,
        phase: ReportedPhase::Running { at: now, session },
    });
    let known = known.collect();
    world.attach(name, machine(name, slots, cards), known);
}

fn report(world: &mut World, which: usize, step: AttemptStep) {
    let at = world.now;
    let phase = match step {
        AttemptStep::Started => {
            let session = 7;
            ReportedPhase::Running { at, session }
        }
        AttemptStep::Exited(status) => exited(status),
        AttemptStep::Lost => {
            let reason = "it is gone".into();
            ReportedPhase::Lost { at, reason }
        }
        AttemptStep::Unstartable => {
            let reason = "no folder".into();
            ReportedPhase::Unstartable { at, reason }
        }
        AttemptStep::StageInFailed => {
            let reason = "no file".into();
            ReportedPhase::StageInFailed { at, reason }
        }
        AttemptStep::PrologueFailed => {
            let reason = "prologue ended with 3".into();
            ReportedPhase::PrologueFailed { at, reason }
        }
        AttemptStep::Stale => return stale(world, which),
    };
    if let Some(job) = nth_running(world, which) {
        world.report(job, phase);
    }
}

/// A node with a container engine, which holds no image.
pub(crate) fn machine(name: &str, slots: u16, cards: u32) -> Inventory {
    Inventory {
        engine: "29.1".into(),
        ..inventory(name, slots, cards)
    }
}

/// Of one of the images that nodes were told to get; `failed` says whether it is for good.
fn prepared(world: &mut World, at: usize, failed: Option<bool>) {
    let coming: Vec<_> = world
        .state
        .nodes()
        .flat_map(|node| {
            node.preparing
                .iter()
                .map(|one| (node.name.clone(), one.clone()))
        })
        .filter(|(_, one)| one.is_coming())
        .collect();
    let Some((node, one)) = coming.get(at % coming.len().max(1)).cloned() else {
        return;
    };
    let problem = failed.map(|is_lasting| ImageProblem {
        text: "no".into(),
        is_lasting,
    });
    let report = ImageReport {
        image: one.image,
        uid: one.uid,
        problem,
    };
    world.must(&Event::ImagePrepared { node, report });
}

/// A node speaks of an attempt that it has no business with.
fn stale(world: &mut World, at: usize) {
    let attempt = capstan_types::AttemptId(at as u64 % 20);
    let phase = ReportedPhase::Using(Usage::default());
    let node = NodeName::from("node99");
    let report = AttemptReport { attempt, phase };
    let outcome = world.must(&Event::Reported { node, report });
    assert_eq!(outcome.changes, []);
}

fn nth_job(world: &World, at: usize) -> Option<JobId> {
    let all: Vec<JobId> = world.state.jobs().map(|job| job.id).collect();
    all.get(at % all.len().max(1)).copied()
}

fn nth_running(world: &World, at: usize) -> Option<JobId> {
    let all: Vec<JobId> = world.state.running().map(|(_, job)| job.id).collect();
    all.get(at % all.len().max(1)).copied()
}

fn release_all(world: &mut World) {
    let held = world.state.pending().filter(|job| !job.holds.is_empty());
    let held: Vec<JobId> = held.map(|job| job.id).collect();
    for job in held {
        let order = hold_order(job, "uos", "root");
        world.apply(&Event::Release(order)).ok();
    }
}

/// All nodes come back whole, all holds go: then everything that was accepted must start and end.
pub(crate) fn bring_to_an_end(world: &mut World) {
    world.pass(100);
    for (at, (name, slots, cards)) in NODES.into_iter().enumerate() {
        let node = NodeName::from(name);
        world.must(&Event::AlterNode(NodeOrder {
            node: node.clone(),
            offline: Some(false),
            note: None,
            by: caller("root"),
        }));
        attach(world, at, true);
        let inventory = Box::new(machine(name, slots, cards));
        world.must(&Event::NodeChanged {
            node: node.clone(),
            inventory,
        });
        let cards = Vec::new();
        world.must(&Event::CardsUnclean { node, cards });
    }
    release_all(world);
    // Nobody comes any more to complete these sets: their owners give up.
    let open = |job: &&std::sync::Arc<Job>| matches!(job.ties.sync, Some(Sync::Count { .. }));
    let sets: Vec<JobId> = world
        .state
        .pending()
        .filter(open)
        .map(|job| job.id)
        .collect();
    for job in sets {
        world.apply(&Event::Delete(deletion(job, "root"))).ok();
    }
    for _ in 0..200 {
        world.place();
        for _ in 0..NODES.len() * IMAGES.len() {
            prepared(world, 0, None);
        }
        world.place();
        let running: Vec<JobId> = world.state.running().map(|(_, job)| job.id).collect();
        if running.is_empty() {
            // A hold that was set while a job ran counts once it is put back.
            release_all(world);
            // Who is left waits for its files to be there.
            world.pass(30 * 60);
        }
        for job in running {
            if world
                .state
                .job(job)
                .is_some_and(|job| job.state.run().is_some())
            {
                world.exits(job, 0);
            }
        }
        if world.state.live_count() == 0 {
            break;
        }
    }
    let left: Vec<_> = world
        .state
        .jobs()
        .filter(|job| !matches!(job.state, JobState::Ended(_)))
        .collect();
    let reasons = world.plan().reasons;
    assert!(left.is_empty(), "never ended: {reasons:?}; {left:?}");
    assert_eq!(world.state.held().count(), 0);
    world.pass(301);
    assert_eq!(world.state.job_count(), 0);
}
