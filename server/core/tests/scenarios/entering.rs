//! Which jobs a queue takes, and where a routing queue sends them.

use capstan_core::{Holds, JobSpec, Queue, QueueRefusal, Rejection, Settings, Submission};
use capstan_types::{JobId, QueueName, ServerName};

use crate::harness::{World, array, inventory, submission};

/// A server with queue batch, and queue q that has these attributes beside being open.
fn world(attributes: &[(&str, &str)]) -> World {
    let mut settings = Settings::new(ServerName::from("hn1"));
    settings.add_queue(queue("q", attributes));
    let mut world = World::new(settings);
    world.attach("node01", inventory("node01", 4, 0), Vec::new());
    world
}

fn queue(name: &str, attributes: &[(&str, &str)]) -> Queue {
    let mut queue = Queue::created(QueueName::from(name), 0, capstan_types::Timestamp(0));
    let open = [
        ("queue_type", "Execution"),
        ("enabled", "True"),
        ("started", "True"),
    ];
    for (name, value) in open.iter().chain(attributes) {
        queue.set(name, value);
    }
    queue
}

fn to(queue: &str, mut job: Submission) -> Submission {
    job.queue = Some(QueueName::from(queue));
    // Held, so that nothing starts and counts do not change.
    job.holds = Holds::USER;
    job
}

fn check_refused(attributes: &[(&str, &str)], job: Submission, expected: &QueueRefusal) {
    let mut world = world(attributes);
    match world.submit(to("q", job)) {
        Err(Rejection::QueueRefuses { queue, owner, why }) => {
            assert_eq!(
                (queue.as_str(), &*owner, &why),
                ("q", "alice@hn1", expected)
            );
        }
        other => panic!("{attributes:?}: {other:?}"),
    }
}

fn check_taken(attributes: &[(&str, &str)], job: Submission) {
    let taken = world(attributes).submit(to("q", job));
    assert!(taken.is_ok(), "{attributes:?}: {taken:?}");
}

/// Sessions B10 and G03.
#[test]
fn access_lists_and_types_of_jobs_are_looked_at() {
    use QueueRefusal as Q;
    let users = [("acl_user_enable", "True"), ("acl_users", "bob,carol@*")];
    check_refused(&users, submission(""), &Q::UserAcl);
    check_taken(&[("acl_users", "bob")], submission(""));
    check_taken(
        &[("acl_user_enable", "True"), ("acl_users", "alice@hn*")],
        submission(""),
    );
    let groups = [("acl_group_enable", "True"), ("acl_groups", "physics")];
    check_refused(&groups, submission(""), &Q::GroupAcl);
    let either = [&users[..], &groups[..], &[("acl_logic_or", "True")]].concat();
    check_refused(&either, submission(""), &Q::BothAcls);
    let one_of_both = [
        &users[..],
        &[
            ("acl_group_enable", "t"),
            ("acl_groups", "users"),
            ("acl_logic_or", "t"),
        ],
    ];
    check_taken(&one_of_both.concat(), submission(""));
    let hosts = [("acl_host_enable", "True"), ("acl_hosts", "hn2")];
    check_refused(&hosts, submission(""), &Q::HostAcl("hn1".into()));
    let types = [("disallowed_types", "interactive,rerunable,job_array")];
    check_refused(&types, submission(""), &Q::Rerunable);
    check_refused(&types, array("0-1", ""), &Q::Rerunable);
    let mut once = submission("");
    once.spec.is_rerunnable = false;
    check_taken(&types, once.clone());
    let mut once_array = array("0-1", "");
    once_array.spec.is_rerunnable = false;
    check_refused(&types, once_array, &Q::JobArray);
    check_refused(
        &[("disallowed_types", "nonrerunable")],
        once,
        &Q::NonRerunable,
    );
    check_refused(&[("disallowed_types", "batch")], submission(""), &Q::Batch);
    check_refused(&[("enabled", "False")], submission(""), &Q::Disabled);
    check_refused(
        &[("from_route_only", "True")],
        submission(""),
        &Q::RoutedOnly,
    );
}

/// Session B11.
#[test]
fn what_is_asked_for_lies_between_minimum_and_maximum() {
    let limits = [
        ("resources_max.walltime", "02:00:00"),
        ("resources_max.nodect", "1"),
        ("resources_min.walltime", "00:01:00"),
        ("resources_max.mem", "1gb"),
    ];
    let over = |resource: &str| QueueRefusal::OverMaximum {
        resource: resource.into(),
        by_server: false,
    };
    check_refused(&limits, submission("walltime=03:00:00"), &over("walltime"));
    check_refused(&limits, submission("mem=2gb"), &over("mem"));
    let under = QueueRefusal::UnderMinimum("walltime".into());
    check_refused(&limits, submission("walltime=30"), &under);
    check_taken(&limits, submission("walltime=02:00:00 mem=1gb"));
    check_taken(&limits, submission(""));
    // What the queue gives by default, it does not refuse.
    let default = [("resources_default.walltime", "05:00:00"), limits[0]];
    check_taken(&default, submission(""));
}

#[test]
fn the_server_limits_what_the_queue_does_not() {
    let mut world = world(&[("resources_max.mem", "2gb")]);
    let mut settings = world.settings.clone();
    settings.set("resources_max.mem", "1gb");
    settings.set("resources_max.walltime", "01:00:00");
    world.must(&capstan_core::Event::ServerStarted(settings.into()));
    assert!(world.submit(to("q", submission("mem=2gb"))).is_ok());
    match world.submit(to("q", submission("walltime=2:00:00"))) {
        Err(Rejection::QueueRefuses { why, .. }) => {
            let (resource, by_server) = ("walltime".into(), true);
            assert_eq!(
                why,
                QueueRefusal::OverMaximum {
                    resource,
                    by_server
                }
            );
        }
        other => panic!("{other:?}"),
    }
}

fn why(refused: Result<JobId, Rejection>) -> QueueRefusal {
    match refused {
        Err(Rejection::QueueRefuses { why, .. }) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn so_many_jobs_fit_into_a_queue() {
    let mut world = world(&[("max_user_queuable", "2"), ("max_queuable", "3")]);
    let bobs = || {
        let mut job = to("q", submission(""));
        job.spec = JobSpec {
            owner: capstan_core::Owner {
                user: "bob".into(),
                ..job.spec.owner.clone()
            },
            ..job.spec
        };
        job
    };
    let first = world.submit(to("q", submission(""))).unwrap();
    world.submit(to("q", submission(""))).unwrap();
    assert_eq!(
        why(world.submit(to("q", submission("")))),
        QueueRefusal::UserFull
    );
    // An array counts member by member.
    let mut two = bobs();
    two.spec.array = array("0-1", "").spec.array;
    assert_eq!(why(world.submit(two)), QueueRefusal::Full);
    world.submit(bobs()).unwrap();
    assert_eq!(why(world.submit(bobs())), QueueRefusal::Full);
    world.delete(first).unwrap();
    world.submit(to("q", submission(""))).unwrap();
}

/// Session B12.
#[test]
fn a_routing_queue_hands_a_job_to_the_first_that_takes_it() {
    let mut settings = Settings::new(ServerName::from("hn1"));
    settings.add_queue(queue("limitq", &[("resources_max.walltime", "02:00:00")]));
    let mut routeq = Queue::created("routeq".into(), 0, capstan_types::Timestamp(0));
    for (name, value) in [
        ("queue_type", "Route"),
        ("route_destinations", "limitq,batch@hn1"),
        ("enabled", "True"),
        ("started", "True"),
    ] {
        routeq.set(name, value);
    }
    settings.add_queue(routeq.clone());
    routeq.name = "narrow".into();
    routeq.set("route_destinations", "nosuch,limitq");
    settings.add_queue(routeq.clone());
    routeq.name = "circle".into();
    routeq.set("route_destinations", "circle");
    settings.add_queue(routeq);
    let mut world = World::new(settings);
    world.attach("node01", inventory("node01", 4, 0), Vec::new());
    let mut check = |queue: &str, resources: &str, expected: Result<&str, Rejection>| {
        let routed = world.submit(to(queue, submission(resources)));
        let seen = routed.map(|id| world.job(id).queue.to_string());
        assert_eq!(seen, expected.map(str::to_owned), "{queue} {resources}");
    };
    check("routeq", "walltime=100", Ok("limitq"));
    check("routeq", "walltime=10:00:00", Ok("batch"));
    check("routeq", "", Ok("limitq"));
    let nowhere = |queue: &str| Err(Rejection::NoDestination(queue.into()));
    check("narrow", "walltime=10:00:00", nowhere("narrow"));
    check("circle", "", nowhere("circle"));
}

#[test]
fn a_second_group_opens_a_queue_that_is_sloppy_about_groups() {
    let list = [("acl_group_enable", "True"), ("acl_groups", "physics")];
    let mut physicist = submission("");
    physicist.spec.owner.groups = vec!["physics".into()];
    check_refused(&list, physicist.clone(), &QueueRefusal::GroupAcl);
    let sloppy = [&list[..], &[("acl_group_sloppy", "True")]].concat();
    check_taken(&sloppy, physicist);
    check_refused(&sloppy, submission(""), &QueueRefusal::GroupAcl);
}

#[test]
fn a_queue_may_want_features_of_the_nodes_that_its_jobs_do_not_ask_for() {
    let mut world = world(&[("features_required", "fast,big")]);
    let to_q = || {
        let mut job = submission("nodes=1");
        job.queue = Some("q".into());
        job
    };
    assert!(matches!(world.submit(to_q()), Err(Rejection::NeverFits(_))));
    let mut settings = world.settings.clone();
    let node = settings.node_mut(&"node02".into());
    node.set("properties", "big,other,fast").unwrap();
    world.must(&capstan_core::Event::ServerStarted(settings.into()));
    for node in ["node01", "node02"] {
        world.attach(node, inventory(node, 4, 0), Vec::new());
    }
    let job = world.submit(to_q()).unwrap();
    world.place();
    assert_eq!(world.node_of(job).as_str(), "node02");
    assert_eq!(world.job(job).spec.resources.get("nodes"), Some("1"));
}

/// Each of eight queues routes to all of them: more than a thousand million ways of ten hops.
#[test]
fn queues_that_route_to_each_other_are_tried_once() {
    let mut settings = Settings::new(ServerName::from("hn1"));
    let names: Vec<String> = (0..8).map(|number| format!("r{number}")).collect();
    let destinations = names.join(",");
    for name in &names {
        let routes = [
            ("queue_type", "Route"),
            ("route_destinations", &*destinations),
        ];
        settings.add_queue(queue(name, &routes));
    }
    let mut last = queue(
        "r8",
        &[
            ("queue_type", "Route"),
            ("route_destinations", "r7,r0,batch"),
        ],
    );
    settings.add_queue(last.clone());
    last.name = "r7".into();
    settings.add_queue(last);
    let mut world = World::new(settings);
    world.attach("node01", inventory("node01", 4, 0), Vec::new());
    for start in ["r8", "r0"] {
        let routed = world.submit(to(start, submission(""))).unwrap();
        assert_eq!(world.job(routed).queue.as_str(), "batch", "{start}");
    }
}
