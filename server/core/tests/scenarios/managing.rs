//! What managers may do with the server, its queues and its nodes, and what they are refused.

use capstan_core::{
    Directive, Event, JobState, Link, ManageCommand, ManageOrder, ManageProblem, QueueType,
    Rejection, Settings,
};
use capstan_types::{AttributeError, AttributeObject, ServerName, SetOperator};

use crate::harness::{World, caller, inventory, submission};

/// A line as `qmgr` reads it, without quotes: `set queue q a = 1,b.c += 2`.
pub(crate) fn order(user: &str, line: &str) -> Event {
    let (command, rest) = line.split_once(' ').unwrap();
    let (object, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    let object = match object {
        "server" => AttributeObject::Server,
        "queue" => AttributeObject::Queue,
        "node" => AttributeObject::Node,
        other => panic!("{other} is no object"),
    };
    let (name, rest) = match object {
        AttributeObject::Server => ("", rest),
        AttributeObject::Queue | AttributeObject::Node | AttributeObject::Job => {
            rest.split_once(' ').unwrap_or((rest, ""))
        }
    };
    let command = match command {
        "create" => ManageCommand::Create,
        "delete" => ManageCommand::Delete,
        "set" => ManageCommand::Set,
        "unset" => ManageCommand::Unset,
        other => panic!("{other} is no command"),
    };
    let directives = rest.split(';').map(str::trim).filter(|d| !d.is_empty());
    Event::Manage(Box::new(ManageOrder {
        by: caller(user),
        command,
        object,
        name: name.into(),
        directives: directives.map(directive).collect(),
    }))
}

fn directive(text: &str) -> Directive {
    let operators = [
        ("+=", SetOperator::Add),
        ("-=", SetOperator::Remove),
        ("=", SetOperator::Assign),
    ];
    let found = operators
        .iter()
        .find_map(|(sign, operator)| Some((text.split_once(sign)?, *operator)));
    let ((name, value), operator) = found.unwrap_or(((text, ""), SetOperator::Assign));
    let (name, resource) = name.trim().split_once('.').unwrap_or((name.trim(), ""));
    Directive {
        name: name.into(),
        resource: resource.into(),
        operator,
        value: value.trim().into(),
    }
}

/// A server as one that starts with an empty table of queues.
fn bare() -> World {
    let mut settings = Settings::new(ServerName::from("hn1"));
    settings.queues.clear();
    settings.attributes.unset("default_queue", "").unwrap();
    World::new(settings)
}

fn manage(world: &mut World, line: &str) {
    world.must(&order("root", line));
}

fn refused(world: &mut World, user: &str, line: &str) -> ManageProblem {
    match world.apply(&order(user, line)) {
        Err(Rejection::Manage(problem)) => problem,
        other => panic!("{line}: {other:?}"),
    }
}

/// What `print` would say of a queue.
fn printed(world: &World, queue: &str) -> Vec<String> {
    let settings = world.state.settings().unwrap();
    let lines = settings.queues[queue].attributes.lines();
    let lines = lines.iter().map(|line| match line.resource {
        "" => format!("{} = {}", line.definition.name, line.value),
        resource => format!("{}.{resource} = {}", line.definition.name, line.value),
    });
    lines.collect()
}

/// Sessions A01 and A02.
#[test]
fn queues_are_made_and_set_as_recorded() {
    let mut world = bare();
    manage(&mut world, "create queue batch");
    manage(&mut world, "set queue batch queue_type = Execution");
    manage(&mut world, "set queue batch resources_default.nodes = 1");
    manage(&mut world, "set queue batch enabled = True");
    let stopped = "set queue stoppedq queue_type = Execution;enabled = True;started = False";
    manage(&mut world, "create queue stoppedq");
    manage(&mut world, stopped);
    manage(&mut world, "create queue routeq");
    manage(&mut world, "set queue routeq queue_type = Route");
    manage(&mut world, "set queue routeq route_destinations = limitq");
    manage(&mut world, "set queue routeq route_destinations += batch");
    manage(&mut world, "set queue routeq enabled = True");
    let noint = "create queue noint enabled=t;queue_type=e;disallowed_types=interactive,job_array";
    manage(&mut world, noint);
    let settings = world.state.settings().unwrap().clone();
    let order = settings.queues_in_order();
    let order: Vec<&str> = order.iter().map(|queue| queue.name.as_str()).collect();
    assert_eq!(order, ["batch", "stoppedq", "routeq", "noint"]);
    let batch = [
        "queue_type = Execution",
        "resources_default.nodes = 1",
        "enabled = True",
    ];
    assert_eq!(printed(&world, "batch"), batch);
    let routeq = [
        "queue_type = Route",
        "route_destinations = limitq,batch",
        "enabled = True",
    ];
    assert_eq!(printed(&world, "routeq"), routeq);
    assert_eq!(
        settings.queues["routeq"].queue_type(),
        Some(QueueType::Route)
    );
    assert!(!settings.queues["stoppedq"].is_started());
}

#[test]
fn managers_make_and_remove_and_operators_set() {
    let mut world = bare();
    manage(&mut world, "create queue batch");
    manage(
        &mut world,
        "set server operators = olga@hn1;managers = mia@*",
    );
    world.must(&order("olga", "set queue batch Priority = 7"));
    world.must(&order("mia", "create queue other"));
    let line = "create queue mine";
    assert_eq!(
        refused(&mut world, "alice", line),
        ManageProblem::NotManager
    );
    assert_eq!(refused(&mut world, "olga", line), ManageProblem::NotManager);
    let line = "delete queue batch";
    assert_eq!(
        refused(&mut world, "alice", line),
        ManageProblem::NotManager
    );
    let line = "set server scheduling = False";
    assert_eq!(
        refused(&mut world, "alice", line),
        ManageProblem::NotOperator
    );
    let read_only = |attribute: &str| ManageProblem::ReadOnly {
        attribute: attribute.into(),
    };
    let check = |world: &mut World, user: &str, line: &str, expected: ManageProblem| {
        assert_eq!(refused(world, user, line), expected, "{line}");
    };
    check(
        &mut world,
        "olga",
        "set server managers += olga@hn1",
        read_only("managers"),
    );
    check(
        &mut world,
        "root",
        "set queue batch total_jobs = 3",
        read_only("total_jobs"),
    );
    let nodect = "set queue batch resources_max.nodect = 2";
    check(
        &mut world,
        "olga",
        nodect,
        read_only("resources_max.nodect"),
    );
    manage(&mut world, nodect);
}

#[test]
fn one_wrong_directive_and_nothing_happens() {
    let mut world = bare();
    manage(&mut world, "create queue q");
    let bad = ManageProblem::Attribute(AttributeError::BadValue {
        attribute: "max_running".into(),
        value: "x".into(),
    });
    let line = "set queue q queue_type = e;enabled = True;max_running = x";
    assert_eq!(refused(&mut world, "root", line), bad);
    assert!(printed(&world, "q").is_empty());
    refused(&mut world, "root", "create queue r queue_type=e;nosuch=1");
    assert!(!world.state.settings().unwrap().queues.contains_key("r"));
}

#[test]
fn a_queue_is_enabled_only_when_it_is_complete() {
    let mut world = bare();
    manage(&mut world, "create queue q");
    manage(&mut world, "set queue q started = True");
    let incomplete = ManageProblem::QueueIncomplete("q".into());
    let enable = "set queue q enabled = True";
    assert_eq!(refused(&mut world, "root", enable), incomplete);
    manage(&mut world, "set queue q enabled = False");
    manage(&mut world, "set queue q queue_type = r");
    assert_eq!(refused(&mut world, "root", enable), incomplete);
    manage(
        &mut world,
        "set queue q enabled = True;route_destinations = far",
    );
}

#[test]
fn names_and_types_of_queues_are_checked() {
    let mut world = bare();
    let long = "create queue abcdefghijklmnop";
    assert_eq!(
        refused(&mut world, "root", long),
        ManageProblem::QueueNameTooLong
    );
    manage(&mut world, "create queue abcdefghijklmno");
    let again = refused(&mut world, "root", "create queue abcdefghijklmno");
    assert_eq!(again, ManageProblem::QueueExists("abcdefghijklmno".into()));
    let none = refused(&mut world, "root", "set queue nosuch enabled = True");
    assert_eq!(none, ManageProblem::NoQueue("nosuch".into()));
    manage(&mut world, "create queue r queue_type=Route");
    let wrong = refused(&mut world, "root", "set queue r max_user_run = 1");
    let expected = ManageProblem::WrongQueueType {
        queue: "r".into(),
        attribute: "max_user_run".into(),
    };
    assert_eq!(wrong, expected);
    let word = refused(&mut world, "root", "set queue r disallowed_types = big");
    assert_eq!(word, ManageProblem::NoJobType { word: "big".into() });
}

#[test]
fn an_empty_name_means_all_queues() {
    let mut world = bare();
    for line in ["create queue a queue_type=e", "create queue b queue_type=e"] {
        manage(&mut world, line);
    }
    manage(&mut world, "set queue @hn1 started = True");
    let settings = world.state.settings().unwrap();
    assert!(
        settings
            .queues
            .values()
            .all(capstan_core::Queue::is_started)
    );
}

#[test]
fn a_queue_with_jobs_is_not_removed() {
    let mut world = World::with_nodes(&[("node01", 4, 0)]);
    let job = world.queue("");
    let busy = ManageProblem::QueueBusy("batch".into());
    assert_eq!(refused(&mut world, "root", "delete queue batch"), busy);
    world.delete(job).unwrap();
    manage(&mut world, "delete queue batch");
    let refusal = world.submit(submission("")).unwrap_err();
    assert_eq!(refusal, Rejection::NoDefaultQueue);
}

#[test]
fn unset_takes_an_attribute_or_one_resource_away() {
    let mut world = bare();
    manage(&mut world, "create queue q queue_type=e;max_running=3");
    manage(
        &mut world,
        "set queue q resources_max.mem = 1gb;resources_max.ncpus = 2",
    );
    manage(&mut world, "unset queue q max_running;resources_max.mem");
    assert_eq!(
        printed(&world, "q"),
        ["queue_type = Execution", "resources_max.ncpus = 2"]
    );
    manage(&mut world, "unset queue q resources_max");
    assert_eq!(printed(&world, "q"), ["queue_type = Execution"]);
    let unknown = refused(&mut world, "root", "unset queue q resources_max.nosuch");
    let attribute = "resources_max.nosuch".into();
    assert_eq!(
        unknown,
        AttributeError::UnknownResource { attribute }.into()
    );
}

#[test]
fn the_next_job_number_is_set_and_known_jobs_keep_theirs() {
    let mut world = World::with_nodes(&[("node01", 4, 0)]);
    manage(&mut world, "set server next_job_number = 100");
    assert_eq!(world.queue("").seq, 100);
    manage(&mut world, "set server next_job_number = 7");
    assert_eq!(world.queue("").seq, 101);
    manage(&mut world, "set server next_job_number += 50");
    assert_eq!(world.queue("").seq, 102);
    let beyond = refused(&mut world, "root", "set server next_job_number = 100000000");
    let attribute = "next_job_number".into();
    assert_eq!(beyond, ManageProblem::TooLarge { attribute });
    assert!(
        world
            .state
            .settings()
            .unwrap()
            .attributes
            .get("next_job_number")
            .is_none()
    );
}

#[test]
fn a_manager_is_a_user_of_some_host() {
    let mut world = bare();
    let entry = "bob".into();
    let line = "set server managers = bob";
    assert_eq!(
        refused(&mut world, "root", line),
        ManageProblem::NoHost { entry }
    );
    manage(&mut world, "set server managers = bob@elsewhere");
    let line = "create queue mine";
    assert_eq!(refused(&mut world, "bob", line), ManageProblem::NotManager);
}

#[test]
fn a_node_that_was_made_waits_for_its_agent() {
    let mut world = World::with_nodes(&[("node01", 4, 0)]);
    manage(&mut world, "create node node02 np=8;properties=big,new");
    let node = world.state.node(&"node02".into()).unwrap().clone();
    assert_eq!((node.link, node.slots), (Link::New, 8));
    let exists = ManageProblem::NodeExists("node02".into());
    assert_eq!(refused(&mut world, "root", "create node node02"), exists);
    // What it will have is not known: nothing can be promised.
    assert!(world.submit(submission("nodes=1:big")).is_err());
    world.attach("node02", inventory("node02", 2, 1), Vec::new());
    let node = world.state.node(&"node02".into()).unwrap().clone();
    assert_eq!((node.is_up(), node.slots), (true, 8));
    assert!(node.has_property("big") && node.has_property("new"));
    let job = world.submit(submission("nodes=1:big:ppn=8")).unwrap();
    world.place();
    assert_eq!(world.node_of(job).as_str(), "node02");
}

#[test]
fn nodes_are_set_one_by_one_by_property_or_all() {
    let mut world = World::with_nodes(&[("node01", 4, 0), ("node02", 4, 0)]);
    manage(
        &mut world,
        "set node node01 properties = S;np = 2;note = bad fan",
    );
    manage(&mut world, "set node :S state = offline");
    manage(&mut world, "set node all properties += T");
    let one = world.state.node(&"node01".into()).unwrap().clone();
    let two = world.state.node(&"node02".into()).unwrap().clone();
    assert_eq!(
        (one.slots, &*one.note, one.is_offline),
        (2, "bad fan", true)
    );
    assert_eq!(one.properties, ["S".into(), "T".into()]);
    assert_eq!((two.properties.len(), two.is_offline), (1, false));
    manage(&mut world, "set node node01 state -= offline");
    assert!(!world.state.node(&"node01".into()).unwrap().is_offline);
    let value = |attribute: &str| ManageProblem::NodeValue {
        attribute: attribute.into(),
    };
    assert_eq!(
        refused(&mut world, "root", "set node node01 np = 0"),
        value("np")
    );
    assert_eq!(
        refused(&mut world, "root", "set node node01 state = odd"),
        value("state")
    );
    let attribute = "state".into();
    let both = refused(&mut world, "root", "set node node01 state = free,offline");
    assert_eq!(both, ManageProblem::MutuallyExclusive { attribute });
    let none = refused(&mut world, "root", "set node nosuch np = 2");
    assert_eq!(none, ManageProblem::NoNode("nosuch".into()));
    let unset = refused(&mut world, "root", "unset node node01 np");
    assert_eq!(unset, ManageProblem::NotUnset);
}

#[test]
fn the_jobs_of_a_node_that_is_removed_wait_again() {
    let mut world = World::with_nodes(&[("node01", 4, 0)]);
    let job = world.queue("");
    world.place();
    world.started(job);
    manage(&mut world, "delete node node01");
    assert!(matches!(world.job(job).state, JobState::Pending));
    assert!(world.state.node(&"node01".into()).is_none());
    world.attach("node01", inventory("node01", 4, 0), Vec::new());
    world.place();
    assert!(matches!(world.job(job).state, JobState::Starting(_)));
}

#[test]
fn an_ended_job_is_shown_as_long_as_its_queue_wants() {
    let mut world = World::with_nodes(&[("node01", 4, 0)]);
    manage(
        &mut world,
        "create queue short queue_type=e;enabled=t;started=t;keep_completed=10",
    );
    let long = world.queue("");
    let mut job = submission("");
    job.queue = Some("short".into());
    let short = world.submit(job).unwrap();
    for job in [long, short] {
        world.delete(job).unwrap();
    }
    world.pass(9);
    assert!(world.state.job(short).is_some());
    world.pass(1);
    assert!(world.state.job(short).is_none() && world.state.job(long).is_some());
    world.pass(290);
    assert!(world.state.job(long).is_none());
}

#[test]
fn the_program_that_sends_mail_is_roots_to_choose() {
    let mut world = bare();
    world.must(&order("root", "set server managers = mia@*"));
    world.must(&order("mia", "set server mail_from = adm"));
    let line = "set server sendmail_path = /bin/sh";
    let expected = ManageProblem::ReadOnly {
        attribute: "sendmail_path".into(),
    };
    assert_eq!(refused(&mut world, "mia", line), expected);
    world.must(&order("root", "set server sendmail_path = /opt/sendmail"));
}
