//! People: what they submit, delete, hold and release.

use std::sync::Arc;

use capstan_core::{
    Caller, DeleteOrder, Event, HoldOrder, Holds, JobSpec, NodeOrder, Owner, Payload, Reply,
    Submission,
};
use capstan_types::{ArrayRequest, Condition};

use crate::server::{Answer, ids};
use crate::world::World;

const SHAPES: [&str; 9] = [
    "1",
    "1:gpus=1",
    "1:gpus=1",
    "1:gpus=2",
    "1:ppn=3",
    "2:gpus=1",
    "2:ppn=2",
    "node02",
    "1:gpus=1+1:ppn=2",
];

/// One of the things that people do.
pub(crate) fn act(world: &mut World) {
    match world.rng.below(20) {
        0..13 => submit(world),
        13..16 => delete(world),
        16 => hold(world),
        17 | 18 => release(world),
        _ => offline(world),
    }
}

fn submit(world: &mut World) {
    if world.submitted >= world.jobs_max {
        return;
    }
    world.submitted += 1;
    let submission = submission(world);
    if let Some(outcome) = world.client_event(&Event::Submit(Box::new(submission)))
        && let Reply::Submitted(id) = outcome.reply
    {
        world.truth.promised.insert(id);
    }
}

fn submission(world: &mut World) -> Submission {
    let known = ids(&world.server.state);
    let rng = &mut world.rng;
    let mut spec = JobSpec {
        name: "sim".into(),
        owner: Owner {
            user: "alice".into(),
            uid: 1000,
            ..Owner::default()
        },
        is_rerunnable: rng.chance(60),
        array: rng.chance(15).then(|| {
            ArrayRequest::parse(["0-3", "1-5%2", "7"][rng.below(3) as usize]).expect("valid")
        }),
        ..JobSpec::default()
    };
    if rng.chance(10) {
        spec.resources.set("procs", "5").expect("valid");
    } else {
        let shape = rng.pick(&SHAPES).expect("there are shapes");
        spec.resources.set("nodes", shape).expect("valid");
    }
    if rng.chance(25) {
        let image = ["torch:2", "lab:5000/python"][rng.below(2) as usize];
        spec.shown.push(("image".into(), image.into()));
    }
    let conditions = [
        Condition::After,
        Condition::AfterOk,
        Condition::AfterNotOk,
        Condition::AfterAny,
    ];
    let parent = known
        .get(rng.below(known.len() as u64) as usize)
        .filter(|_| rng.chance(20));
    let condition = conditions[rng.below(4) as usize];
    Submission {
        spec,
        payload: Arc::new(Payload::default()),
        queue: None,
        priority: rng.below(3) as i32,
        holds: if rng.chance(5) {
            Holds::USER
        } else {
            Holds::default()
        },
        not_before: rng.chance(10).then(|| world.now.plus_secs(rng.below(60))),
        depends: parent
            .map(|parent| (condition, *parent))
            .into_iter()
            .collect(),
        ties: Vec::new(),
    }
}

fn delete(world: &mut World) {
    let known = ids(&world.server.state);
    let Some(&job) = world.rng.pick(&known) else {
        return;
    };
    let order = DeleteOrder {
        job,
        by: root(),
        grace_secs: None,
        purge: world.rng.chance(25),
        message: Box::default(),
    };
    // Whoever gets no answer does not know whether it was done.
    let before = world.truth.deleted.insert(job);
    let stored = world.client_answer(&Event::Delete(order));
    if matches!(stored, Answer::Refused(_) | Answer::NotStored) && before {
        world.truth.deleted.remove(&job);
    }
}

fn hold(world: &mut World) {
    if let Some(order) = hold_order(world, Holds::USER) {
        world.client_event(&Event::Hold(order));
    }
}

fn release(world: &mut World) {
    let all = Holds::USER.with(Holds::SYSTEM);
    if let Some(order) = hold_order(world, all) {
        world.client_event(&Event::Release(order));
    }
}

fn hold_order(world: &mut World, holds: Holds) -> Option<HoldOrder> {
    let known = ids(&world.server.state);
    let job = *world.rng.pick(&known)?;
    let by = root();
    Some(HoldOrder { job, holds, by })
}

fn offline(world: &mut World) {
    let at = world.rng.below(world.agents.len() as u64) as usize;
    let order = NodeOrder {
        node: world.agents[at].name.clone(),
        offline: Some(world.rng.chance(40)),
        note: None,
        by: root(),
    };
    world.client_event(&Event::AlterNode(order));
}

pub(crate) fn root() -> Caller {
    Caller {
        user: "root".into(),
        uid: 0,
        host: "hn1".into(),
    }
}

/// Everything that waits for a person is let go.
pub(crate) fn let_everything_go(world: &mut World) {
    for at in 0..world.agents.len() {
        let order = NodeOrder {
            node: world.agents[at].name.clone(),
            offline: Some(false),
            note: None,
            by: root(),
        };
        world.client_event(&Event::AlterNode(order));
    }
    let held: Vec<_> = world
        .server
        .state
        .pending()
        .filter(|job| !job.holds.is_empty())
        .map(|job| job.id)
        .collect();
    for job in held {
        let holds = Holds::USER.with(Holds::SYSTEM).with(Holds::OPERATOR);
        let order = HoldOrder {
            job,
            holds,
            by: root(),
        };
        world.client_event(&Event::Release(order));
    }
}
