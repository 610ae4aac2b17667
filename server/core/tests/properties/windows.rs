//! No job is placed into a window that is not for it: over random reservations, maintenance and jobs, at every moment at
//! which a window begins what runs there by its walltime and what is set aside fit on the node together.

use capstan_core::{
    Event, Job, JobState, Placement, Queue, Reply, Reservation, ReservationKind, ReserveOrder,
    ReserveWish, State,
};
use capstan_types::{JobId, NodeName, QueueName, Span, Timestamp};
use proptest::prelude::*;

use crate::harness::{World, caller, submission};

/// Something happens. Numbers choose among what is there.
#[derive(Clone, Debug)]
pub(crate) enum WindowStep {
    Submit {
        cards: u32,
        slots: u32,
        walltime: u64,
        queue: usize,
    },
    Reserve {
        kind: u8,
        cards: u32,
        slots: u32,
        nodes: u32,
        from: u64,
        secs: u64,
        again: u64,
        is_forced: bool,
    },
    Place,
    Pass(u64),
}

const NODES: [(&str, u16, u32); 3] = [("a", 8, 4), ("b", 8, 4), ("c", 4, 0)];

pub(crate) fn step() -> impl Strategy<Value = WindowStep> {
    let submit =
        (0..4u32, 1..5u32, 1..400u64, 0..6usize).prop_map(|(cards, slots, walltime, queue)| {
            WindowStep::Submit {
                cards,
                slots,
                walltime,
                queue,
            }
        });
    let what = (0..6u8, 0..5u32, 1..5u32, 1..3u32);
    let when = (0..600u64, 1..500u64, 0..900u64, prop::bool::weighted(0.2));
    let reserve = (what, when).prop_map(
        |((kind, cards, slots, nodes), (from, secs, again, is_forced))| WindowStep::Reserve {
            kind,
            cards,
            slots,
            nodes,
            from,
            secs,
            again,
            is_forced,
        },
    );
    prop_oneof![
        8 => submit,
        3 => reserve,
        6 => Just(WindowStep::Place),
        5 => (1..300u64).prop_map(WindowStep::Pass),
    ]
}

pub(crate) fn world() -> World {
    let mut world = World::with_nodes(&[]);
    let mut settings = world.settings.clone();
    settings.add_queue(Queue::new(QueueName::from("exam")));
    world.settings = settings.clone();
    world.must(&Event::ServerStarted(settings.into()));
    for (name, slots, cards) in NODES {
        world.attach(
            name,
            crate::harness::inventory(name, slots, cards),
            Vec::new(),
        );
    }
    world
}

pub(crate) fn take(world: &mut World, step: &WindowStep) {
    match *step {
        WindowStep::Submit {
            cards,
            slots,
            walltime,
            queue,
        } => {
            let resources = format!("nodes=1:ppn={slots}:gpus={cards} walltime={walltime}");
            let mut job = submission(&resources);
            job.queue = Some(nth_queue(&world.state, queue));
            // The queue may be gone, or for others.
            world.submit(job).ok();
        }
        WindowStep::Reserve { .. } => {
            if let Ok(outcome) = world.apply(&Event::Reserve(Box::new(order(world.now, step)))) {
                assert!(matches!(outcome.reply, Reply::Reserved(_)));
            }
        }
        WindowStep::Place => {
            let plan = world.place();
            check(&world.state, &plan.placements, world.now);
        }
        WindowStep::Pass(secs) => {
            world.pass(secs);
            let over: Vec<JobId> = world
                .state
                .running()
                .filter(|(_, job)| {
                    end(job) <= world.now || matches!(job.state, JobState::Exiting(..))
                })
                .map(|(_, job)| job.id)
                .collect();
            over.into_iter().for_each(|job| {
                world.exits(job, 0);
            });
        }
    }
}

fn nth_queue(state: &State, at: usize) -> QueueName {
    let queues = &state.settings().unwrap().queues;
    let mut names = queues.keys().cycle().skip(at % queues.len().max(1));
    names.next().unwrap().clone()
}

fn order(now: Timestamp, step: &WindowStep) -> ReserveOrder {
    let WindowStep::Reserve {
        kind,
        cards,
        slots,
        nodes,
        from,
        secs,
        again,
        is_forced,
    } = *step
    else {
        panic!("only reservations are made");
    };
    let span = |from: u64| Span {
        from: now.plus_secs(from),
        until: now.plus_secs(from + secs),
    };
    let mut spans = vec![span(from)];
    if again > secs {
        spans.push(span(from + again));
    }
    let hosts = || vec![NODES[nodes as usize % 3].0.into()];
    let wish = match kind {
        0 => ReserveWish::Maintenance { hosts: hosts() },
        1 => ReserveWish::Dedicated {
            queues: vec![QueueName::from("exam")],
            hosts: hosts(),
        },
        _ => {
            let resources = format!("nodes={nodes}:ppn={slots}:gpus={cards}");
            ReserveWish::Jobs(Box::new(submission(&resources).spec))
        }
    };
    ReserveOrder {
        by: caller("root"),
        name: "".into(),
        wish,
        users: vec!["alice@*".into()],
        groups: Vec::new(),
        spans,
        rule: "".into(),
        is_forced,
    }
}

fn walltime(job: &Job) -> u64 {
    job.spec.resources.seconds("walltime").unwrap().0
}

fn end(job: &Job) -> Timestamp {
    job.state.run().unwrap().placed.plus_secs(walltime(job))
}

/// Slots and cards.
type Size = (u64, u64);

fn plus(one: Size, other: Size) -> Size {
    (one.0 + other.0, one.1 + other.1)
}

/// `state` is after the placements.
fn check(state: &State, placements: &[Placement], now: Timestamp) {
    for placement in placements {
        let job = state.job(placement.job).unwrap();
        let span = Span {
            from: now,
            until: end(job),
        };
        if let Some(own) = state.reservation_of_queue(&job.queue) {
            let current = own
                .current(now)
                .unwrap_or_else(|| panic!("{} is open", own.id));
            assert!(
                span.until <= current.until,
                "{} outlasts {}",
                job.id,
                own.id
            );
        }
        for share in &placement.shares {
            for other in state.reservations() {
                let is_there = other.shares.iter().any(|own| own.node == share.node);
                let meets = other.meeting(span).next().is_some();
                let is_whole = !matches!(other.kind, ReservationKind::Jobs);
                let is_in = is_there && meets && is_whole && other.is_closed_to(&job.queue);
                assert!(!is_in, "{} runs into {}", job.id, other.id);
            }
            check_node(state, &share.node, span);
        }
    }
}

/// At all times of `span` at which a window begins.
fn check_node(state: &State, node: &NodeName, span: Span) {
    let begins = state
        .reservations()
        .flat_map(|made| made.meeting(span).map(|met| met.from));
    let times: Vec<Timestamp> = begins.map(|from| from.max(span.from)).collect();
    for at in times {
        let reserved =
            |made: &&std::sync::Arc<Reservation>| made.has_queue() && made.current(at).is_some();
        let mut total: Size = (0, 0);
        for made in state.reservations().filter(reserved) {
            let mut set_aside: Size = (0, 0);
            for share in made.shares.iter().filter(|share| share.node == *node) {
                set_aside = plus(set_aside, (share.slots.into(), share.cards.into()));
            }
            let used = held(state, node, at, |job| job.queue == made.id.queue());
            assert!(
                used.0 <= set_aside.0 && used.1 <= set_aside.1,
                "{} uses {used:?} of {set_aside:?} on {node}",
                made.id
            );
            total = plus(total, set_aside);
        }
        let is_inside = |job: &Job| {
            let own = state.reservation_of_queue(&job.queue);
            own.is_some_and(|own| own.current(at).is_some())
        };
        total = plus(total, held(state, node, at, |job| !is_inside(job)));
        let whole = state.node(node).unwrap();
        let size = (u64::from(whole.slots), whole.inventory.cards.len() as u64);
        assert!(
            total.0 <= size.0 && total.1 <= size.1,
            "{node} has {size:?} and is to give {total:?} at {at}"
        );
    }
}

fn held(state: &State, node: &NodeName, at: Timestamp, counts: impl Fn(&Job) -> bool) -> Size {
    let running = state
        .running()
        .filter(|(_, job)| counts(job) && end(job) > at);
    let shares = running.flat_map(|(_, job)| job.state.run().unwrap().shares.to_vec());
    let on_node = shares.filter(|share| share.node == *node);
    on_node.fold((0, 0), |sum, share| {
        plus(sum, (share.slots.len() as u64, share.cards.len() as u64))
    })
}
