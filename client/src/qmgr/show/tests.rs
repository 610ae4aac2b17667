//! What `list` and `print` show is what Torque showed, and what is printed makes the same attributes again.

use super::*;
use crate::qmgr::grammar::{Operator, Request, parse};
use crate::qmgr::lines::{Lines, requests};
use capstan_types::{AttributeObject, Attributes, SetOperator};
use proptest::prelude::*;

/// Attributes from `name=value` lines; a dot parts name and resource.
fn shown(name: &str, lines: &str) -> Shown {
    let attribute = |line: &str| {
        let (key, value) = line.split_once('=').unwrap();
        let (name, resource) = key.split_once('.').unwrap_or((key, ""));
        Attribute {
            name: name.into(),
            resource: resource.into(),
            value: value.into(),
        }
    };
    Shown::new(name, lines.lines().map(attribute).collect())
}

fn printed(object: Object, shown: &Shown) -> String {
    let mut out = Vec::new();
    print(&mut out, object, shown);
    String::from_utf8(out).unwrap()
}

fn listed(object: Object, shown: &Shown) -> String {
    let mut out = Vec::new();
    list(&mut out, object, shown, &TimeZone::UTC);
    String::from_utf8(out).unwrap()
}

const LIMITQ: &str = "queue_type=Execution
max_user_queuable=2
total_jobs=0
state_count=Transit:0 Queued:0 
resources_max.walltime=02:00:00
mtime=1795319098
disallowed_types=interactive,job_array
started=True";

#[test]
fn a_queue_is_listed_as_recorded() {
    let expected = "Queue limitq
\tqueue_type = Execution
\tmax_user_queuable = 2
\ttotal_jobs = 0
\tstate_count = Transit:0 Queued:0 
\tresources_max.walltime = 02:00:00
\tmtime = Sun Nov 22 03:44:58 2026
\tdisallowed_types = interactive,job_array
\tstarted = True

";
    assert_eq!(listed(Object::Queue, &shown("limitq", LIMITQ)), expected);
}

#[test]
fn a_queue_is_printed_without_what_cannot_be_set() {
    let expected = "#
# Create and define queue limitq
#
create queue limitq
set queue limitq queue_type = Execution
set queue limitq max_user_queuable = 2
set queue limitq resources_max.walltime = 02:00:00
set queue limitq disallowed_types = interactive
set queue limitq disallowed_types += job_array
set queue limitq started = True
";
    assert_eq!(printed(Object::Queue, &shown("limitq", LIMITQ)), expected);
}

#[test]
fn a_node_is_printed_with_its_report_line_by_line() {
    let node = "state=free\npower_state=Running\nnp=4\nproperties=gpu,fast\nntype=cluster\njobs=0/1.hn1
status=opsys=linux,uname=Linux hn1 6.1 #1,varattr= \nnote=fan is loud\nmom_service_port=15002\ngpus=2\ngpu_status=gpu[0]=x";
    let expected = "#
# Create and define node gpu01
#
create node gpu01
set node gpu01 state = free
set node gpu01 np = 4
set node gpu01 properties = gpu
set node gpu01 properties += fast
set node gpu01 ntype = cluster
set node gpu01 status = opsys=linux
set node gpu01 status += uname=Linux hn1 6.1 #1
set node gpu01 status += varattr= 
set node gpu01 note = fan is loud
set node gpu01 gpus = 2
";
    assert_eq!(printed(Object::Node, &shown("gpu01", node)), expected);
}

#[test]
fn long_lists_are_folded_between_items() {
    let hosts: Vec<String> = (0..12).map(|at| format!("node{at:02}")).collect();
    let text = listed(
        Object::Server,
        &shown("hn1", &format!("acl_hosts={}", hosts.join(","))),
    );
    let expected = "Server hn1
\tacl_hosts = node00,node01,node02,node03,node04,node05,node06,node07,
                    node08,node09,node10,node11

";
    assert_eq!(text, expected);
}

#[test]
fn asked_for_attributes_come_in_the_order_of_the_request() {
    let directive = |name: &str| Directive {
        name: name.into(),
        ..Directive::default()
    };
    let (started, kind) = (directive("started"), directive("queue_type"));
    let only = shown("q", LIMITQ)
        .only(Object::Queue, &[&started, &kind])
        .unwrap();
    let names: Vec<&str> = only
        .attributes
        .iter()
        .map(|found| found.name.as_str())
        .collect();
    assert_eq!(names, ["started", "queue_type"]);
    let unknown = shown("q", LIMITQ).only(Object::Queue, &[&started, &directive("nosuch")]);
    assert_eq!(unknown.err().as_deref(), Some("nosuch"));
}

#[test]
fn control_characters_do_not_reach_a_terminal() {
    let text = listed(Object::Server, &shown("hn1", "comment=a\u{1b}[2Jb"));
    assert_eq!(text, "Server hn1\n\tcomment = a?[2Jb\n\n");
}

/// Carries out on `attributes` what a text orders, as the server does.
fn load(text: &str, object: Object, attributes: &mut Attributes) {
    let mut lines = Lines::default();
    for line in text.lines() {
        let Some(text) = lines.take(line) else {
            continue;
        };
        for request in requests(&text) {
            let order = match parse(request) {
                Ok(Request::Order(order)) => order,
                other => panic!("{request:?} is {other:?}"),
            };
            assert_eq!(order.object, object, "{request:?}");
            for Directive {
                name,
                resource,
                operator,
                value,
            } in &order.directives
            {
                let operator = match operator {
                    Operator::Assign => SetOperator::Assign,
                    Operator::Add => SetOperator::Add,
                    Operator::Remove => SetOperator::Remove,
                };
                let changed = attributes.change(name, resource, operator, value);
                assert_eq!(changed, Ok(()), "{request:?}");
            }
        }
    }
}

/// An object with attributes of any kind, set as people set them.
fn any_attributes(object: AttributeObject) -> impl Strategy<Value = Attributes> {
    let value = prop_oneof![
        "[0-9]{1,5}",
        "(True|false|t)",
        "(Execution|r)",
        "[a-z]{1,5}(@[a-z*.]{1,6})?(,[a-z]{1,5}){0,4}",
        "[0-9]{1,4}(kb|mb|gb)",
        "[0-9]{1,3}:[0-5][0-9]:[0-5][0-9]",
        "[ -~]{1,24}",
        "\\PC{1,8}",
    ];
    let name = prop::sample::select(object.attributes().to_vec());
    let resource =
        prop::sample::select(vec!["", "", "walltime", "mem", "nodect", "ncpus", "nodes"]);
    prop::collection::vec((name, resource, value), 1..40).prop_map(move |settings| {
        let mut attributes = Attributes::new(object);
        for (known, resource, value) in settings {
            // What is refused is left out: the rest is what a server can hold. Reports are made by agents.
            if known.name != "status"
                && tables::is_printed(of(object), known.name)
                && is_count(known.name, resource, &value)
            {
                drop(attributes.change(known.name, resource, SetOperator::Assign, &value));
            }
        }
        attributes
    })
}

/// Torque's `qmgr` lets limits of queues on nodes be plain numbers only.
fn is_count(name: &str, resource: &str, value: &str) -> bool {
    let is_limit = name.starts_with("resources_max") || name.starts_with("resources_min");
    !is_limit || !resource.starts_with("node") || value.bytes().all(|b| b.is_ascii_digit())
}

fn of(object: AttributeObject) -> Object {
    match object {
        AttributeObject::Server => Object::Server,
        AttributeObject::Queue => Object::Queue,
        AttributeObject::Node | AttributeObject::Job => Object::Node,
    }
}

fn check_print_and_load(attributes: &Attributes, object: AttributeObject) {
    let lines = attributes.lines().into_iter().map(|line| Attribute {
        name: line.definition.name.into(),
        resource: line.resource.to_owned(),
        value: line.value.to_string(),
    });
    let text = printed(of(object), &Shown::new("x1", lines.collect()));
    let mut loaded = Attributes::new(object);
    load(&text, of(object), &mut loaded);
    assert_eq!(&loaded, attributes, "{text}");
}

proptest! {
    #[test]
    fn a_printed_server_loads_again(attributes in any_attributes(AttributeObject::Server)) {
        check_print_and_load(&attributes, AttributeObject::Server);
    }

    #[test]
    fn a_printed_queue_loads_again(attributes in any_attributes(AttributeObject::Queue)) {
        check_print_and_load(&attributes, AttributeObject::Queue);
    }

    #[test]
    fn a_printed_node_loads_again(attributes in any_attributes(AttributeObject::Node)) {
        check_print_and_load(&attributes, AttributeObject::Node);
    }
}
