//! Preemption, told once more without the plan's own words: only who may be stopped is stopped, never one more than
//! needed, nobody twice within the named time, nobody in vain; and whenever stopping all who may be stopped would do,
//! somebody is.

use std::collections::BTreeMap;
use std::sync::Arc;

use capstan_core::{
    Change, Holds, Job, JobState, Plan, Preemption, PreemptionRight, Queue, Settings, State,
    Submission, plan,
};
use capstan_types::{JobId, QueueName, ServerName, Timestamp};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::harness::{World, inventory, submission};

/// Names and values.
type Attributes = &'static [(&'static str, &'static str)];

/// Name, priority, what is said of preemption.
const QUEUES: [(&str, &str, Attributes); 4] = [
    ("high", "10", &[("preempts", "True")]),
    (
        "mid",
        "5",
        &[
            ("preempts", "True"),
            ("preemptable", "cancel"),
            ("preempt_grace", "5"),
        ],
    ),
    (
        "low",
        "0",
        &[("preemptable", "requeue"), ("preempt_after", "100")],
    ),
    ("safe", "0", &[]),
];
const AGAIN_SECS: u64 = 3000;

/// A job: queue, nodes, cards on each, whether it may run twice, whether it is of the group with a guarantee.
#[derive(Clone, Debug)]
struct Wish {
    queue: usize,
    nodes: u32,
    cards: u32,
    slots: u32,
    is_rerunnable: bool,
    is_of_vision: bool,
}

fn wish() -> impl Strategy<Value = Wish> {
    let numbers = (0..QUEUES.len(), 1..3_u32, 0..5_u32, 1..5_u32);
    (numbers, any::<bool>(), any::<bool>()).prop_map(
        |((queue, nodes, cards, slots), is_rerunnable, is_of_vision)| Wish {
            queue,
            nodes,
            cards,
            slots,
            is_rerunnable,
            is_of_vision,
        },
    )
}

fn world(nodes: &[u32], guaranteed: u32) -> World {
    let mut settings = Settings::new(ServerName::from("hn1"));
    for (name, priority, said) in QUEUES {
        let mut queue = Queue::new(QueueName::from(name));
        queue.set("Priority", priority);
        said.iter()
            .for_each(|(attribute, value)| queue.set(attribute, value));
        settings.add_queue(queue);
    }
    settings.set("preempt_again_after", &AGAIN_SECS.to_string());
    settings.set("guaranteed_cards", &format!("vision={guaranteed}"));
    settings.set("card_slices", "False");
    let mut world = World::new(settings);
    for (at, cards) in nodes.iter().enumerate() {
        let name = format!("n{at}");
        world.attach(&name, inventory(&name, 8, *cards), Vec::new());
    }
    world
}

fn job(wish: &Wish) -> Submission {
    let Wish {
        nodes,
        cards,
        slots,
        ..
    } = wish;
    let mut job = submission(&format!("nodes={nodes}:ppn={slots}:gpus={cards}"));
    job.queue = Some(QueueName::from(QUEUES[wish.queue].0));
    job.spec.is_rerunnable = wish.is_rerunnable;
    job.spec.owner.group = if wish.is_of_vision { "vision" } else { "misc" }.into();
    job
}

/// The state as it would be if these jobs ran no more.
fn without(state: &State, jobs: &[JobId]) -> State {
    let mut state = state.clone();
    for id in jobs {
        let mut job = Job::clone(state.job(*id).unwrap());
        job.state = JobState::Pending;
        job.holds = Holds::USER;
        state.absorb(&Change::PutJob(Arc::new(job)));
    }
    state
}

fn starts(state: &State, job: JobId, now: Timestamp) -> bool {
    let plan = plan(state, now);
    plan.placements.iter().any(|placed| placed.job == job)
}

fn queue_of<'a>(state: &'a State, job: &Job) -> &'a Queue {
    &state.settings().unwrap().queues[&job.queue]
}

/// Jobs that `by` may have stopped for its queue's sake.
fn allowed(world: &World, by: &Job) -> Vec<JobId> {
    let above = queue_of(&world.state, by);
    let running = world.state.running().map(|(_, job)| job);
    let may = running.filter(|job| {
        let queue = queue_of(&world.state, job);
        let run = job.state.run().unwrap();
        let ran = run.started.map_or(0, |(at, _)| world.now.secs_since(at));
        let is_fresh = job
            .preempted
            .is_some_and(|at| world.now.secs_since(at) < AGAIN_SECS);
        let end = queue.attributes.text("preemptable");
        above.is("preempts")
            && queue.priority() < above.priority()
            && matches!(job.state, JobState::Starting(_) | JobState::Running(_))
            && (end == Some("cancel") || end == Some("requeue") && job.spec.is_rerunnable)
            && ran >= queue.attributes.limit("preempt_after").unwrap_or(0)
            && !is_fresh
    });
    may.map(|job| job.id).collect()
}

fn check(world: &World, plan: &Plan, by: JobId, stopped: &mut BTreeMap<JobId, Timestamp>) {
    let job = world.job(by);
    let told: Vec<&Preemption> = plan.preemptions.iter().collect();
    let may = allowed(world, &job);
    for one in &told {
        assert_eq!(one.for_job, by);
        let victim = world.job(one.job);
        let end = queue_of(&world.state, &victim)
            .attributes
            .text("preemptable");
        assert_eq!(end, Some(if one.requeue { "requeue" } else { "cancel" }));
        assert!(!one.requeue || victim.spec.is_rerunnable, "{one:?}");
        match one.right {
            PreemptionRight::Priority => assert!(may.contains(&one.job), "{one:?}"),
            PreemptionRight::Guarantee => {
                assert_eq!(&*job.spec.owner.group, "vision");
                assert_ne!(&*victim.spec.owner.group, "vision");
            }
        }
        let last = stopped.insert(one.job, world.now);
        let is_late = last.is_none_or(|at| world.now.secs_since(at) >= AGAIN_SECS);
        assert!(is_late, "{} is stopped twice", one.job);
    }
    let all: Vec<JobId> = told.iter().map(|one| one.job).collect();
    if !all.is_empty() {
        assert!(
            starts(&without(&world.state, &all), by, world.now),
            "stopped in vain: {all:?}"
        );
        for spared in &all {
            let others: Vec<JobId> = all.iter().copied().filter(|one| one != spared).collect();
            let is_needed = !starts(&without(&world.state, &others), by, world.now);
            assert!(is_needed, "{spared} is stopped without need: {all:?}");
        }
    } else if !plan.placements.iter().any(|placed| placed.job == by) {
        let would = starts(&without(&world.state, &may), by, world.now);
        assert!(!would, "nobody is stopped though {may:?} would do");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_more_are_stopped_than_needed_and_only_who_may_be(
        nodes in vec(1..7_u32, 1..4),
        guaranteed in 0..8_u32,
        running in vec((wish(), 0..400_u64), 1..14),
        urgent in vec((wish(), prop_oneof![Just(0_u64), Just(500), Just(3500)]), 1..4),
    ) {
        let mut world = world(&nodes, guaranteed);
        let mut stopped = BTreeMap::new();
        for (wish, secs) in &running {
            // Who does not start at once is gone, so that all that happens later is for the urgent ones.
            let Ok(id) = world.submit(job(wish)) else { continue };
            let plan = world.plan();
            if plan.preemptions.is_empty() && plan.placements.len() == 1 {
                world.place();
                world.started(id);
            } else {
                world.delete(id).unwrap();
            }
            world.pass(*secs);
        }
        for (wish, secs) in &urgent {
            let Ok(id) = world.submit(job(wish)) else { continue };
            let plan = world.plan();
            check(&world, &plan, id, &mut stopped);
            world.place();
            let told: Vec<JobId> = plan.preemptions.iter().map(|one| one.job).collect();
            if !told.is_empty() {
                prop_assert!(world.plan().preemptions.is_empty(), "told twice");
                for victim in &told {
                    world.exits(*victim, 271);
                }
                let next = world.plan();
                let first = next.placements.first().map(|placed| placed.job);
                prop_assert_eq!(first, Some(id), "the room is for another");
                world.place();
            }
            if world.job(id).state.run().is_some() {
                world.started(id);
                world.pass(*secs);
                world.exits(id, 0);
                // Who was put back runs again.
                let again = world.place();
                for placed in again.placements {
                    world.started(placed.job);
                }
            } else {
                world.delete(id).unwrap();
            }
        }
    }
}
