//! What the tables hold, how values are read and printed.

use super::*;

fn check(object: AttributeObject, directives: &[(&str, SetOperator, &str)], expected: &[&str]) {
    let mut attributes = Attributes::new(object);
    for (name, operator, value) in directives {
        let (name, resource) = name.split_once('.').unwrap_or((name, ""));
        attributes.change(name, resource, *operator, value).unwrap();
    }
    let lines = attributes.lines();
    let printed: Vec<String> = lines
        .iter()
        .map(|line| match line.resource {
            "" => format!("{} = {}", line.definition.name, line.value),
            resource => format!("{}.{resource} = {}", line.definition.name, line.value),
        })
        .collect();
    assert_eq!(printed, expected, "{directives:?}");
}

const SET: SetOperator = SetOperator::Assign;
const ADD: SetOperator = SetOperator::Add;
const TAKE: SetOperator = SetOperator::Remove;

#[test]
fn every_attribute_of_torque_is_there_once() {
    use AttributeObject as O;
    // Ours stand behind them.
    for (object, count, last) in [
        (O::Server, 118, "sendmail_path"),
        (O::Queue, 51, "ghost_queue"),
        (O::Node, 28, "dedicated_threads"),
        (O::Job, 96, "_other_"),
    ] {
        let names = object.attributes().iter().map(|known| known.name);
        let names: std::collections::BTreeSet<&str> = names.collect();
        assert_eq!(names.len(), object.attributes().len());
        assert_eq!(object.attributes()[count - 1].name, last);
        for name in names {
            assert_eq!(object.attribute(name).unwrap().name, name);
        }
    }
    assert_eq!(
        O::Server.attribute("SCHEDULING").unwrap().name,
        "scheduling"
    );
    assert_eq!(O::Server.attribute("nosuch"), None);
}

/// Session A04: queue limitq.
#[test]
fn a_listing_is_in_the_order_of_torque_and_resources_in_that_of_setting() {
    check(
        AttributeObject::Queue,
        &[
            ("queue_type", SET, "E"),
            ("enabled", SET, "T"),
            ("started", SET, "t"),
            ("resources_max.walltime", SET, "7200"),
            ("resources_max.nodect", SET, "1"),
            ("resources_min.walltime", SET, "00:01:00"),
            ("resources_max.mem", SET, "1GB"),
            ("max_user_queuable", SET, "2"),
            ("max_user_run", SET, "1"),
            ("max_running", SET, "3"),
        ],
        &[
            "queue_type = Execution",
            "max_user_queuable = 2",
            "max_running = 3",
            "resources_max.walltime = 02:00:00",
            "resources_max.nodect = 1",
            "resources_max.mem = 1gb",
            "resources_min.walltime = 00:01:00",
            "max_user_run = 1",
            "enabled = True",
            "started = True",
        ],
    );
}

#[test]
fn lists_go_on_and_lose_items() {
    check(
        AttributeObject::Queue,
        &[
            ("acl_users", SET, "bob"),
            ("acl_users", ADD, "carol@*"),
            ("route_destinations", SET, "limitq, batch,far"),
            ("route_destinations", TAKE, "far"),
        ],
        &[
            "acl_users = bob,carol@*",
            "route_destinations = limitq,batch",
        ],
    );
    let last = [("acl_hosts", SET, "a"), ("acl_hosts", TAKE, "a")];
    check(AttributeObject::Server, &last, &[]);
}

#[test]
fn numbers_times_and_sizes_are_added_and_taken_off() {
    check(
        AttributeObject::Queue,
        &[
            ("Priority", SET, "5"),
            ("Priority", TAKE, "7"),
            ("resources_max.mem", SET, "1gb"),
            ("resources_max.mem", ADD, "5mb"),
            ("resources_max.walltime", SET, "1:00:00"),
            ("resources_max.walltime", ADD, "60"),
            ("resources_max.ncpus", SET, "4"),
            ("resources_max.ncpus", TAKE, "1"),
        ],
        &[
            "Priority = -2",
            "resources_max.mem = 1078984704b",
            "resources_max.walltime = 01:01:00",
            "resources_max.ncpus = 3",
        ],
    );
}

#[test]
fn an_empty_value_unsets() {
    let queue = [("max_running", SET, "3"), ("max_running", SET, "")];
    check(AttributeObject::Queue, &queue, &[]);
    let resource = [
        ("resources_max.mem", SET, "1gb"),
        ("resources_max.mem", SET, ""),
    ];
    check(AttributeObject::Queue, &resource, &[]);
}

fn check_refused(name: &str, value: &str, expected: &AttributeError) {
    let mut attributes = Attributes::new(AttributeObject::Queue);
    let (name, resource) = name.split_once('.').unwrap_or((name, ""));
    let refused = attributes.change(name, resource, SET, value).unwrap_err();
    assert_eq!(&refused, expected);
    assert!(attributes.is_empty());
}

#[test]
fn wrong_values_are_refused_by_attribute() {
    let bad = |attribute: &str, value: &str| AttributeError::BadValue {
        attribute: attribute.into(),
        value: value.into(),
    };
    let unknown = |attribute: &str| AttributeError::UnknownResource {
        attribute: attribute.into(),
    };
    check_refused("queue_type", "x", &bad("queue_type", "x"));
    check_refused("queue_type", "Executions", &bad("queue_type", "Executions"));
    check_refused("enabled", "maybe", &bad("enabled", "maybe"));
    check_refused("max_running", "3x", &bad("max_running", "3x"));
    check_refused(
        "resources_max.walltime",
        "x",
        &bad("resources_max.walltime", "x"),
    );
    check_refused(
        "resources_max.nosuch",
        "1",
        &unknown("resources_max.nosuch"),
    );
    check_refused("resources_max", "1", &unknown("resources_max"));
    check_refused("max_running.mem", "1", &unknown("max_running.mem"));
    check_refused(
        "features_required",
        "a\u{1b}[2J",
        &bad("features_required", "a\u{1b}[2J"),
    );
    let twice = AttributeError::Duplicate {
        attribute: "acl_users".into(),
    };
    check_refused("acl_users", "bob,bob", &twice);
}

#[test]
fn the_first_entry_that_matches_decides() {
    let check = |list: &[&str], user: &str, host: &str, expected: bool| {
        let list: Vec<Box<str>> = list.iter().map(|entry| (*entry).into()).collect();
        let seen = AccessList(&list).allows_user(user, host);
        assert_eq!(seen, expected, "{user}@{host} in {list:?}");
    };
    check(&["bob", "carol@*"], "bob", "hn1", true);
    check(&["bob", "carol@*"], "carol", "hn1", true);
    check(&["bob", "carol@*"], "alice", "hn1", false);
    check(&["bob"], "bobby", "hn1", false);
    check(&["-bob@evil", "bob"], "bob", "evil", false);
    check(&["-bob", "+"], "alice", "hn1", true);
    check(&["alice@*.site.org"], "alice", "hn1.site.org", true);
    check(&["alice@*.site.org"], "alice", "hn1.site.com", false);
    check(&["alice@node[1-3]"], "alice", "node2", true);
    check(&["alice@node[1-3]"], "alice", "node4", false);
    check(&[], "alice", "hn1", false);
}
