//! What a submission gets, and what it is refused for.

use std::sync::Arc;

use capstan_core::{Event, Holds, Payload, Queue, QueueRefusal, Rejection, Settings};
use capstan_types::{QueueName, ServerName};

use crate::harness::{World, inventory, submission};

fn world() -> World {
    let mut settings = Settings::new(ServerName::from("hn1"));
    let mut small = Queue::new(QueueName::from("small"));
    small.set("resources_default.nodes", "1:ppn=2");
    for (name, limit) in [
        ("walltime", "01:00:00"),
        ("mem", "1gb"),
        ("nodect", "2"),
        ("ncpus", "4"),
    ] {
        small.set(&format!("resources_max.{name}"), limit);
    }
    let mut closed = Queue::new(QueueName::from("closed"));
    closed.set("enabled", "False");
    for queue in [small, closed] {
        settings.add_queue(queue);
    }
    let node01 = settings.node_mut(&"node01".into());
    node01.set("properties", "S").unwrap();
    settings.script_bytes_max = 1000;
    settings.live_jobs_max = 3;
    let mut world = World::new(settings);
    world.attach("node01", inventory("node01", 4, 2), Vec::new());
    world.attach("node02", inventory("node02", 8, 1), Vec::new());
    world.detach("node02");
    world
}

/// The resource list of a job that asked for `asked` in `queue`.
fn check_list(queue: &str, asked: &str, expected: &str) {
    let mut world = world();
    let mut job = submission(asked);
    job.queue = Some(QueueName::from(queue));
    let id = world.submit(job).unwrap();
    let job = world.job(id);
    let list: Vec<_> = job
        .spec
        .resources
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    assert_eq!(list.join(" "), expected, "{asked}");
}

fn check_refused(queue: &str, asked: &str, expected: &str) {
    let mut world = world();
    let mut job = submission(asked);
    job.queue = Some(QueueName::from(queue));
    let refusal = world.submit(job).unwrap_err().to_string();
    let refusal = refusal.trim_start_matches("the cluster can never run this: ");
    assert_eq!(refusal, expected, "{asked}");
    assert_eq!(world.state.next_seq(), 1);
}

#[test]
fn defaults_of_the_queue_fill_what_is_missing() {
    check_list("batch", "", "walltime=168:00:00");
    check_list(
        "batch",
        "nodes=2:ppn=2 mem=1gb",
        "nodes=2:ppn=2 mem=1gb nodect=2 walltime=168:00:00",
    );
    check_list(
        "small",
        "walltime=60",
        "walltime=00:01:00 nodes=1:ppn=2 nodect=1",
    );
    check_list("small", "walltime=60 ncpus=3", "walltime=00:01:00 ncpus=3");
    check_list("small", "walltime=60 procs=3", "walltime=00:01:00 procs=3");
}

#[test]
fn limits_of_the_queue_hold_for_what_is_asked() {
    let over = |resource: &str| {
        let why = format!("the job asks for more {resource} than the most");
        format!("queue small does not take a job of alice@hn1: {why}")
    };
    check_refused("small", "walltime=1:00:01", &over("walltime"));
    check_refused("small", "walltime=60 mem=1025mb", &over("mem"));
    check_refused("small", "walltime=60 nodes=3", &over("nodect"));
    // As in Torque a job that does not say passes, whatever it gets.
    check_list("small", "", "walltime=168:00:00 nodes=1:ppn=2 nodect=1");
    check_list(
        "small",
        "walltime=3600 mem=1024mb",
        "walltime=01:00:00 mem=1024mb nodes=1:ppn=2 nodect=1",
    );
}

#[test]
fn what_no_nodes_could_ever_run_is_refused_with_the_reason() {
    check_refused(
        "batch",
        "nodes=1:gpus=3",
        "asks for 3 cards on one node; node01 has the most with 2",
    );
    check_refused(
        "batch",
        "nodes=1:gpus=9:S",
        "asks for 9 cards on one node; node01 has the most with 2",
    );
    check_refused(
        "batch",
        "nodes=node02:gpus=2",
        "asks for 2 cards on node02, which has 1",
    );
    check_refused(
        "batch",
        "nodes=3",
        "asks for 3 nodes; there are 2 of the right type",
    );
    check_refused(
        "batch",
        "nodes=2:gpus=2",
        "asks for 2 nodes; there are 1 of the right type",
    );
    check_refused("batch", "nodes=1:T", "no node has the property T");
    check_refused(
        "batch",
        "nodes=gpu07",
        "no node is named or has the property gpu07",
    );
    check_refused(
        "batch",
        "nodes=1:gpus=2:ppn=5",
        "asks for 2 cards and 5 slots together on one node, and none has both",
    );
    check_refused(
        "batch",
        "nodes=node01+node01:ppn=4",
        "asks for 5 slots on node01, which has 4",
    );
    check_refused(
        "batch",
        "nodes=1:S+1:gpus=2",
        "asks for 1 node; there are 0 of the right type",
    );
}

#[test]
fn a_node_that_is_down_counts_for_what_is_possible() {
    check_list(
        "batch",
        "nodes=node02:ppn=8",
        "nodes=node02:ppn=8 nodect=1 walltime=168:00:00",
    );
    check_list("batch", "procs=12", "procs=12 walltime=168:00:00");
}

#[test]
fn without_any_node_nothing_is_possible() {
    let mut world = World::new(Settings::new(ServerName::from("hn1")));
    let refusal = world.submit(submission("nodes=1")).unwrap_err();
    assert_eq!(
        refusal,
        Rejection::NeverFits("no node has joined yet".into())
    );
    world.queue("");
}

#[test]
fn a_node_of_another_user_only_is_none() {
    let mut world = World::new(Settings::new(ServerName::from("hn1")));
    let mut private = inventory("node01", 4, 0);
    private.only_uid = Some(77);
    world.attach("node01", private, Vec::new());
    let refusal = world.submit(submission("")).unwrap_err().to_string();
    assert!(
        refusal.ends_with("every node runs jobs of one user only, and none of alice"),
        "{refusal}"
    );
}

#[test]
fn unknown_and_disabled_queues_are_refused() {
    let mut world = world();
    let mut job = submission("");
    job.queue = Some("nowhere".into());
    assert_eq!(
        world.submit(job.clone()),
        Err(Rejection::UnknownQueue("nowhere".into()))
    );
    job.queue = Some("closed".into());
    assert_eq!(
        world.submit(job),
        Err(Rejection::QueueRefuses {
            queue: "closed".into(),
            owner: "alice@hn1".into(),
            why: QueueRefusal::Disabled,
        })
    );
}

#[test]
fn large_scripts_and_too_many_jobs_are_refused() {
    let mut world = world();
    let mut job = submission("");
    job.payload = Arc::new(Payload {
        script: vec![b'#'; 1001],
        ..Payload::default()
    });
    let (bytes, max) = (1001, 1000);
    assert_eq!(
        world.submit(job),
        Err(Rejection::ScriptTooLarge { bytes, max })
    );
    for _ in 0..3 {
        world.queue("");
    }
    assert_eq!(world.submit(submission("")), Err(Rejection::TooManyJobs(3)));
}

#[test]
fn holds_beyond_the_users_own_need_an_operator_or_a_manager() {
    let mut world = world();
    let mut job = submission("");
    job.holds = Holds::OPERATOR;
    assert_eq!(world.submit(job.clone()), Err(Rejection::NotOperator));
    job.holds = Holds::SYSTEM;
    assert_eq!(world.submit(job), Err(Rejection::NotManager));
}

#[test]
fn before_the_settings_are_known_nothing_is_taken() {
    let mut state = capstan_core::State::default();
    let event = Event::Submit(Box::new(submission("")));
    let refused = capstan_core::apply(&mut state, &event, crate::harness::DAWN);
    assert_eq!(refused, Err(Rejection::UnknownQueue("batch".into())));
}

/// Sessions B05 and B07: slots and memory may come with the next node.
#[test]
fn slots_and_memory_that_no_node_has_are_waited_for() {
    for asked in ["procs=999", "ncpus=99", "mem=2tb", "nodes=1 mem=2tb"] {
        let mut world = world();
        let id = world.queue(asked);
        assert!(world.place().placements.is_empty(), "{asked}");
        let plan = world.plan();
        let [(job, reason)] = &plan.reasons[..] else {
            panic!("{asked} says why it waits: {plan:?}");
        };
        assert_eq!(*job, id);
        let comment = "Not Running: Not enough of the right type of nodes are available";
        assert_eq!(reason.comment().as_deref(), Some(comment), "{asked}");
        let small = world.queue("");
        world.place();
        assert_eq!(world.letter(small), 'R', "nobody waits behind {asked}");
    }
}

/// Torque shows `-l gpus=N` as this and gives nothing; here it gives cards.
#[test]
fn cards_beside_nodes_are_given() {
    let mut world = world();
    let id = world.queue("gres=gpus:2");
    let plan = world.place();
    assert_eq!(plan.placements[0].shares[0].cards.len(), 2);
    let shown = world.job(id).spec.resources.get("gres").map(str::to_owned);
    assert_eq!(shown.as_deref(), Some("gpus:2"));
    check_refused(
        "batch",
        "gres=gpus:3",
        "asks for 3 cards on one node; node01 has the most with 2",
    );
}

#[test]
fn a_session_that_cannot_start_ends_instead_of_waiting_for_a_mender() {
    let mut world = world();
    let mut job = submission("");
    job.spec.shown = vec![("interactive".into(), "True".into())];
    job.spec.is_rerunnable = false;
    let job = world.submit(job).unwrap();
    world.place();
    let at = world.now;
    let reason = "no such shell".into();
    world.report(job, capstan_core::ReportedPhase::Unstartable { at, reason });
    assert!(world.job(job).has_ended());
}
