//! Nodes that come, go, come back with something else, and never come back.

use capstan_core::{
    AttemptReport, Effect, Event, Hello, JobState, Link, NodeOrder, Rejection, ReportedPhase,
};
use capstan_types::{AgentId, AttemptId, JobId, NodeName};

use crate::harness::{World, caller, card, exited, hello, inventory, submission};

fn world() -> World {
    World::with_nodes(&[("node01", 4, 2), ("node02", 4, 2)])
}

fn running(world: &mut World, is_rerunnable: bool) -> JobId {
    let mut job = submission("nodes=node01:gpus=1");
    job.spec.is_rerunnable = is_rerunnable;
    let id = world.submit(job).unwrap();
    world.place();
    world.started(id);
    id
}

fn comes_back(world: &mut World, attempts: Vec<AttemptReport>) -> Vec<Effect> {
    world.detach("node01");
    let outcome = world.attach("node01", inventory("node01", 4, 2), attempts);
    outcome.effects
}

fn report(attempt: AttemptId, phase: ReportedPhase) -> AttemptReport {
    AttemptReport { attempt, phase }
}

fn runs(world: &World, id: JobId) -> AttemptReport {
    let (at, session) = (world.now, 1);
    report(world.attempt(id), ReportedPhase::Running { at, session })
}

fn welcome(attempts: &[AttemptId]) -> Effect {
    Effect::WelcomeNode {
        node: NodeName::from("node01"),
        agent: AgentId::from("agent-of-node01"),
        attempts: attempts.to_vec(),
    }
}

fn stop(attempt: AttemptId) -> Effect {
    let node = NodeName::from("node01");
    Effect::StopAttempt {
        node,
        attempt,
        grace_secs: 2,
    }
}

#[test]
fn what_runs_goes_on_when_the_agent_comes_back() {
    let mut world = world();
    let job = running(&mut world, true);
    let known = vec![runs(&world, job)];
    let effects = comes_back(&mut world, known);
    assert_eq!(effects, [welcome(&[world.attempt(job)])]);
    assert_eq!(world.letter(job), 'R');
}

#[test]
fn what_ended_meanwhile_is_stored_and_forgotten() {
    let mut world = world();
    let job = running(&mut world, true);
    let attempt = world.attempt(job);
    let effects = comes_back(&mut world, vec![report(attempt, exited(4))]);
    assert_eq!(world.exit_status(job), Some(4));
    assert_eq!(effects[0], welcome(&[]));
    let node = NodeName::from("node01");
    assert!(effects.contains(&Effect::ForgetAttempt { node, attempt }));
}

#[test]
fn an_attempt_that_the_agent_never_heard_of_is_started_again() {
    let mut world = world();
    let job = world.queue("nodes=node01");
    world.place();
    let effects = comes_back(&mut world, Vec::new());
    let (node, job) = (NodeName::from("node01"), world.job(job));
    let attempt = job.state.run().unwrap().attempt;
    assert_eq!(
        effects,
        [welcome(&[attempt]), Effect::StartAttempt { node, job }]
    );
}

#[test]
fn an_attempt_that_the_agent_has_yet_to_start_is_left_to_it() {
    let mut world = world();
    let job = world.queue("nodes=node01");
    world.place();
    let attempt = world.attempt(job);
    let effects = comes_back(&mut world, vec![report(attempt, ReportedPhase::Starting)]);
    assert_eq!(effects, [welcome(&[attempt])]);
}

#[test]
fn a_running_attempt_that_is_gone_is_rerun_or_lost() {
    let mut world = world();
    let (again, once) = (running(&mut world, true), running(&mut world, false));
    comes_back(&mut world, Vec::new());
    assert_eq!((world.letter(again), world.letter(once)), ('Q', 'C'));
    assert_eq!(world.exit_status(once), Some(-4));
    let comment = "lost: node node01 came back without it";
    assert_eq!(world.job(once).comment.as_deref(), Some(comment));
    assert_eq!(world.job(again).comment.as_deref(), Some(comment));
}

#[test]
fn a_stop_that_may_have_been_missed_is_ordered_again() {
    let mut world = world();
    let job = running(&mut world, true);
    world.delete(job).unwrap();
    let (attempt, known) = (world.attempt(job), vec![runs(&world, job)]);
    let effects = comes_back(&mut world, known);
    assert_eq!(effects, [welcome(&[attempt]), stop(attempt)]);
}

#[test]
fn a_deleted_attempt_that_is_gone_was_deleted() {
    let mut world = world();
    let job = running(&mut world, true);
    world.delete(job).unwrap();
    comes_back(&mut world, Vec::new());
    assert_eq!(world.exit_status(job), Some(271));
}

#[test]
fn a_lost_node_gives_its_rerunnable_jobs_back_and_keeps_the_others() {
    let mut world = world();
    let (again, once) = (running(&mut world, true), running(&mut world, false));
    let old = world.attempt(again);
    world.detach("node01");
    world.pass(299);
    assert_eq!(world.letter(again), 'R');
    world.pass(1);
    assert_eq!((world.letter(again), world.letter(once)), ('Q', 'R'));
    assert_eq!(
        world.job(again).comment.as_deref(),
        Some("lost: node node01 is gone")
    );

    // The node was only cut off: its old attempt is stopped, and until then the node gets nothing new.
    let (at, session) = (world.now, 1);
    let known = vec![
        report(old, ReportedPhase::Running { at, session }),
        runs(&world, once),
    ];
    let effects = comes_back(&mut world, known);
    assert_eq!(effects, [welcome(&[world.attempt(once)]), stop(old)]);
    assert!(world.place().placements.is_empty());
    let node = NodeName::from("node01");
    world.must(&Event::Reported {
        node,
        report: report(old, exited(271)),
    });
    assert_eq!(world.place().placements.len(), 1);
    assert!(world.attempt(again) > old);
}

#[test]
fn a_job_being_deleted_does_not_wait_for_a_lost_node() {
    let mut world = world();
    let job = running(&mut world, false);
    world.delete(job).unwrap();
    world.detach("node01");
    world.pass(300);
    assert_eq!(world.exit_status(job), Some(271));
}

#[test]
fn a_lost_second_node_stops_the_script_on_the_first() {
    let mut world = world();
    let job = world.queue("nodes=2:gpus=1");
    world.place();
    world.started(job);
    let attempt = world.attempt(job);
    world.detach("node02");
    let outcome = world.pass(300);
    let (node, grace_secs) = (NodeName::from("node01"), 0);
    let stop = Effect::StopAttempt {
        node,
        attempt,
        grace_secs,
    };
    assert!(outcome.effects.contains(&stop));
    assert_eq!(
        world.state.node(&"node01".into()).unwrap().strays,
        [attempt]
    );
}

#[test]
fn a_name_is_taken_while_its_agent_is_connected() {
    let mut world = world();
    let other = Hello {
        node: "node01".into(),
        agent: "another".into(),
        inventory: inventory("node01", 4, 2),
        attempts: Vec::new(),
        unclean: Vec::new(),
    };
    let event = Event::NodeAttached(Box::new(other));
    assert_eq!(
        world.apply(&event),
        Err(Rejection::NodeNameTaken("node01".into()))
    );
    world.detach("node01");
    world.must(&event);
    assert_eq!(
        world.state.node(&"node01".into()).unwrap().agent,
        "another".into()
    );
    // The old agent's connection ends late: that is not this agent's.
    world.detach("node01");
    assert!(world.state.node(&"node01".into()).unwrap().is_up());
}

#[test]
fn the_same_agent_may_come_again_before_its_old_connection_has_ended() {
    let mut world = world();
    let event = hello("node01", inventory("node01", 4, 2), Vec::new());
    world.must(&event);
}

#[test]
fn a_restarted_server_waits_for_its_nodes_and_keeps_its_jobs() {
    let mut world = world();
    let job = running(&mut world, true);
    let mut settings = world.settings.clone();
    let node01 = settings.node_mut(&"node01".into());
    node01.set("properties", "S").unwrap();
    node01.set("np", "16").unwrap();
    world.pass(1000);
    world.must(&Event::ServerStarted(settings.into()));
    let node = world.state.node(&"node01".into()).unwrap().clone();
    assert_eq!((node.link, node.slots), (Link::Lost(world.now), 16));
    assert!(node.has_property("S"));
    world.pass(299);
    assert!(matches!(world.job(job).state, JobState::Running(_)));
}

#[test]
fn unclean_cards_wait_until_they_are_seen_clean() {
    let mut world = World::with_nodes(&[("node01", 4, 2)]);
    let job = world.queue("nodes=1:gpus=2");
    world.place();
    let ReportedPhase::Exited {
        at,
        exit_status,
        usage,
        ..
    } = exited(0)
    else {
        panic!("an exit");
    };
    let unclean = vec![card("node01", 1), card("elsewhere", 0)];
    world.report(
        job,
        ReportedPhase::Exited {
            at,
            exit_status,
            usage,
            unclean,
            cause: Box::default(),
            images: Vec::new(),
            undelivered: Box::default(),
        },
    );
    let node = NodeName::from("node01");
    assert_eq!(
        world.state.node(&node).unwrap().unclean,
        [card("node01", 1)]
    );
    world.queue("nodes=1:gpus=2");
    assert!(world.place().placements.is_empty());
    let cards = Vec::new();
    let clean = Event::CardsUnclean { node, cards };
    world.must(&clean);
    assert_eq!(world.must(&clean).changes, [], "no news is no change");
    assert_eq!(world.place().placements.len(), 1);
}

#[test]
fn only_operators_alter_nodes() {
    let mut world = world();
    let mut order = NodeOrder {
        node: "node01".into(),
        offline: Some(true),
        note: Some("fan".into()),
        by: caller("alice"),
    };
    assert_eq!(
        world.apply(&Event::AlterNode(order.clone())),
        Err(Rejection::NotOperator)
    );
    order.by = caller("root");
    world.must(&Event::AlterNode(order.clone()));
    let node = world.state.node(&"node01".into()).unwrap();
    assert_eq!((node.is_offline, &*node.note), (true, "fan"));
    order.node = "node99".into();
    assert_eq!(
        world.apply(&Event::AlterNode(order)),
        Err(Rejection::UnknownNode("node99".into()))
    );
}

#[test]
fn other_hardware_counts_from_now_on() {
    let mut world = World::with_nodes(&[("node01", 4, 2)]);
    let job = world.queue("nodes=1:gpus=2");
    let node = NodeName::from("node01");
    let one_card = Box::new(inventory("node01", 4, 1));
    world.must(&Event::NodeChanged {
        node,
        inventory: one_card,
    });
    let plan = world.place();
    assert!(plan.placements.is_empty());
    let text = plan.reasons[0].1.to_string();
    assert!(
        text.ends_with("(wants 2 cards on 1 node; node01 has 1 free)"),
        "{text}"
    );
    assert_eq!(world.letter(job), 'Q');
}

/// A failed card: who may run again is put back, who may not is told, and nobody is troubled twice.
#[test]
fn a_card_that_fails_gives_its_job_back_or_tells_it() {
    for is_rerunnable in [true, false] {
        let mut world = World::with_nodes(&[("node01", 4, 2)]);
        let job = running(&mut world, is_rerunnable);
        let share = world.job(job).state.run().unwrap().shares[0].clone();
        let lent = share.cards[0].uuid.clone();
        let other = if lent == card("node01", 0) { 1 } else { 0 };
        let fails = |card| Event::CardsFailed {
            node: "node01".into(),
            cards: vec![(card, "XID 79".into())],
        };
        assert_eq!(world.must(&fails(card("node01", other))).changes, []);
        let outcome = world.must(&fails(lent.clone()));
        let said = world.job(job).comment.clone().unwrap();
        assert!(said.contains("of node node01 failed: XID 79"), "{said}");
        match &world.job(job).state {
            JobState::Exiting(_, order) => assert!(is_rerunnable && order.requeue),
            JobState::Running(_) => assert!(!is_rerunnable && outcome.effects.is_empty()),
            JobState::Pending | JobState::Starting(_) | JobState::Ended(_) => panic!("{said}"),
        }
        assert_eq!(world.must(&fails(lent)).changes, [], "told once");
    }
}

/// What an agent has not seen clean when it comes is not lent, nor what is found later before it was looked at.
#[test]
fn new_cards_are_lent_once_they_were_seen_clean() {
    let mut world = World::with_nodes(&[]);
    let Event::NodeAttached(mut first) = hello("node01", inventory("node01", 4, 1), Vec::new())
    else {
        panic!("a hello");
    };
    first.unclean = vec![card("node01", 0), card("elsewhere", 0)];
    world.must(&Event::NodeAttached(first));
    let node = NodeName::from("node01");
    let unclean = |world: &World| world.state.node(&node).unwrap().unclean.clone();
    assert_eq!(unclean(&world), [card("node01", 0)]);
    world.must(&Event::NodeChanged {
        node: node.clone(),
        inventory: Box::new(inventory("node01", 4, 2)),
    });
    assert_eq!(unclean(&world), [card("node01", 0), card("node01", 1)]);
    world.queue("nodes=1:gpus=1");
    assert!(world.place().placements.is_empty());
    world.must(&Event::CardsUnclean {
        node,
        cards: vec![card("node01", 0)],
    });
    assert_eq!(world.place().placements.len(), 1);
}
