//! Random orders about jobs: every one is taken or refused, and what always holds still does.

use capstan_core::{
    AlterOrder, Altered, Event, Holds, MoveOrder, Queue, RerunOrder, RunOrder, Settings,
    SuspendOrder, SwapOrder,
};
use capstan_types::{JobId, NodeSpec, QueueName, ServerName};
use proptest::prelude::*;

use crate::NODES;
use crate::harness::{World, caller, submission};

/// What is ordered; numbers choose among what is there.
#[derive(Clone, Copy, Debug)]
pub(crate) enum OrderStep {
    Priority(i32),
    Holds(bool),
    /// Another request for nodes, by its owner, who is bound by what the cluster has.
    Nodes(usize),
    Walltime(u64),
    Wait,
    SlotLimit(u32),
    Move(bool),
    Rerun(bool),
    Run(Option<usize>),
    Swap(usize),
    Suspend(bool),
}

const REQUESTS: [&str; 4] = [
    "nodes=1:ppn=2",
    "nodes=2",
    "nodes=1:gpus=1",
    "nodes=node02:ppn=3",
];

pub(crate) fn order_step() -> impl Strategy<Value = OrderStep> {
    use OrderStep as O;
    prop_oneof![
        1 => (-3..3).prop_map(O::Priority),
        1 => any::<bool>().prop_map(O::Holds),
        2 => any::<usize>().prop_map(O::Nodes),
        1 => (1u64..1000).prop_map(O::Walltime),
        1 => Just(O::Wait),
        1 => (0u32..4).prop_map(O::SlotLimit),
        2 => any::<bool>().prop_map(O::Move),
        3 => any::<bool>().prop_map(O::Rerun),
        4 => prop::option::of(any::<usize>()).prop_map(O::Run),
        2 => any::<usize>().prop_map(O::Swap),
        2 => any::<bool>().prop_map(O::Suspend),
    ]
}

/// A cluster with two queues, so that jobs can be moved.
pub(crate) fn world() -> World {
    let mut settings = Settings::new(ServerName::from("hn1"));
    let mut other = Queue::new(QueueName::from("other"));
    other.set("resources_default.walltime", "00:10:00");
    settings.add_queue(other);
    let mut world = World::new(settings);
    for (name, slots, cards) in NODES {
        world.attach(name, crate::steps::machine(name, slots, cards), Vec::new());
    }
    world
}

/// Gives the order to one of the jobs; it may well be refused.
pub(crate) fn give(world: &mut World, at: usize, step: OrderStep) {
    let all: Vec<JobId> = world.state.jobs().map(|job| job.id).collect();
    let Some(&job) = all.get(at % all.len().max(1)) else {
        return;
    };
    let asks_for_memory = world
        .state
        .job(job)
        .is_some_and(|job| job.spec.memory_bytes.is_some());
    let event = match step {
        // Memory is not looked at when an order is taken: on fewer nodes it may be more than any has.
        OrderStep::Nodes(_) if asks_for_memory => return,
        OrderStep::Priority(priority) => {
            let mut order = alteration(job, "alice", Altered::Priority);
            order.wish.priority = priority;
            Event::Alter(Box::new(order))
        }
        OrderStep::Holds(is_held) => {
            let mut order = alteration(job, "root", Altered::Holds);
            order.wish.holds = if is_held { Holds::USER } else { Holds::NONE };
            Event::Alter(Box::new(order))
        }
        OrderStep::Nodes(which) => resource(job, REQUESTS[which % REQUESTS.len()]),
        OrderStep::Walltime(secs) => resource(job, &format!("walltime={secs}")),
        OrderStep::Wait => {
            let mut order = alteration(job, "alice", Altered::NotBefore);
            order.wish.not_before = Some(world.now.plus_secs(50));
            Event::Alter(Box::new(order))
        }
        OrderStep::SlotLimit(limit) => {
            let mut order = alteration(job, "alice", Altered::SlotLimit);
            order.slot_limit = Some(limit).filter(|limit| *limit > 0);
            Event::Alter(Box::new(order))
        }
        OrderStep::Move(is_other) => Event::Move(MoveOrder {
            job,
            queue: Some(QueueName::from(if is_other { "other" } else { "batch" })),
            by: caller("alice"),
        }),
        OrderStep::Rerun(force) => {
            let by = caller("root");
            Event::Rerun(RerunOrder { job, force, by })
        }
        OrderStep::Run(host) => Event::Run(RunOrder {
            job,
            hosts: host.map(|at| NodeSpec::parse(NODES[at % NODES.len()].0).unwrap()),
            by: caller("root"),
        }),
        OrderStep::Swap(with) => Event::Swap(SwapOrder {
            first: job,
            second: all[with % all.len()],
            by: caller("root"),
        }),
        OrderStep::Suspend(is_suspended) => Event::Suspend(SuspendOrder {
            job,
            is_suspended,
            by: caller("root"),
        }),
    };
    world.apply(&event).ok();
}

fn resource(job: JobId, request: &str) -> Event {
    let name = request.split('=').next().unwrap();
    let mut order = alteration(job, "alice", Altered::Resource(name.into()));
    order.wish = Box::new(submission(request));
    Event::Alter(Box::new(order))
}

fn alteration(job: JobId, user: &str, item: Altered) -> AlterOrder {
    AlterOrder {
        job,
        members: None,
        by: caller(user),
        altered: vec![item],
        wish: Box::new(submission("")),
        slot_limit: None,
        comment: Box::default(),
    }
}
