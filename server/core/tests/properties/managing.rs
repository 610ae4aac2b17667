//! What managers say in any order leaves a server whose listing, read by a fresh server, makes the same server.

use capstan_core::{Directive, Event, ManageCommand, ManageOrder, Settings};
use capstan_types::{AttributeObject, Attributes, ServerName, SetOperator};
use proptest::prelude::*;
use proptest::sample::select;

use crate::harness::{World, caller};

/// Directives that are often right, for the server and for queues.
const OF_SERVER: [(&str, &str, &str); 9] = [
    ("scheduling", "", "False"),
    ("managers", "", "ann@hn1,bob@*"),
    ("operators", "", "carol@*.org"),
    ("comment", "", "back at noon"),
    ("resources_max", "walltime", "3600"),
    ("resources_default", "mem", "1gb"),
    ("keep_completed", "", "-5"),
    ("next_job_number", "", "77"),
    ("pbs_version", "", "7"),
];
const OF_QUEUES: [(&str, &str, &str); 13] = [
    ("queue_type", "", "e"),
    ("queue_type", "", "Route"),
    ("enabled", "", "True"),
    ("started", "", "t"),
    ("Priority", "", "5"),
    ("route_destinations", "", "a,b"),
    ("max_user_run", "", "3"),
    ("resources_max", "nodect", "2"),
    ("resources_min", "walltime", "60"),
    ("acl_users", "", "bob,+alice@*"),
    ("disallowed_types", "", "batch,interactive"),
    ("disallowed_types", "", "odd"),
    ("nosuch", "", "1"),
];
const OPERATORS: [SetOperator; 4] = [
    SetOperator::Assign,
    SetOperator::Assign,
    SetOperator::Add,
    SetOperator::Remove,
];

fn directive(table: &'static [(&str, &str, &str)]) -> impl Strategy<Value = Directive> {
    (select(table), select(&OPERATORS[..])).prop_map(|((name, resource, value), operator)| {
        Directive {
            name: name.into(),
            resource: resource.into(),
            operator,
            value: value.into(),
        }
    })
}

fn order() -> impl Strategy<Value = ManageOrder> {
    let commands = [
        ManageCommand::Create,
        ManageCommand::Set,
        ManageCommand::Set,
        ManageCommand::Set,
        ManageCommand::Unset,
        ManageCommand::Delete,
    ];
    let to_server = prop::collection::vec(directive(&OF_SERVER), 1..3);
    let to_queue = prop::collection::vec(directive(&OF_QUEUES), 0..4);
    let names = ["a", "b", "c", ""];
    (
        select(commands.to_vec()),
        any::<bool>(),
        select(names.to_vec()),
        to_server,
        to_queue,
    )
        .prop_map(|(command, is_server, name, to_server, to_queue)| {
            let (object, name, directives) = match is_server {
                true => (AttributeObject::Server, "", to_server),
                false => (AttributeObject::Queue, name, to_queue),
            };
            plain(command, object, name, directives)
        })
}

fn plain(
    command: ManageCommand,
    object: AttributeObject,
    name: &str,
    directives: Vec<Directive>,
) -> ManageOrder {
    ManageOrder {
        by: caller("root"),
        command,
        object,
        name: name.into(),
        directives,
    }
}

fn bare() -> World {
    let mut settings = Settings::new(ServerName::from("hn1"));
    settings.queues.clear();
    World::new(settings)
}

/// Sets what a listing says, one attribute an order, a list item by item.
fn load(world: &mut World, object: AttributeObject, name: &str, listed: &Attributes) {
    for line in listed.lines() {
        let items: Vec<&str> = match line.definition.kind.is_list() {
            true => line.value.split(',').collect(),
            false => vec![&line.value],
        };
        for (at, item) in items.into_iter().enumerate() {
            let directive = Directive {
                name: line.definition.name.into(),
                resource: line.resource.into(),
                operator: match at {
                    0 => SetOperator::Assign,
                    _ => SetOperator::Add,
                },
                value: item.into(),
            };
            let order = plain(ManageCommand::Set, object, name, vec![directive]);
            world.must(&Event::Manage(Box::new(order)));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_listing_makes_the_same_server(orders in prop::collection::vec(order(), 0..60)) {
        let mut world = bare();
        for order in orders {
            // A refusal is as good; that it changes nothing is checked by the world.
            drop(world.apply(&Event::Manage(Box::new(order))));
        }
        let made = world.state.settings().unwrap().clone();
        let mut fresh = bare();
        for queue in made.queues_in_order() {
            let create = plain(ManageCommand::Create, AttributeObject::Queue, queue.name.as_str(), Vec::new());
            fresh.must(&Event::Manage(Box::new(create)));
            load(&mut fresh, AttributeObject::Queue, queue.name.as_str(), &queue.attributes);
        }
        // What a fresh server has set and this one has not, is not in its listing.
        let unset = fresh.settings.attributes.lines().into_iter().map(|line| line.definition.name);
        let unset: Vec<Directive> = unset.filter(|name| made.attributes.get(name).is_none()).map(|name| Directive {
            name: name.into(),
            resource: "".into(),
            operator: SetOperator::Assign,
            value: "".into(),
        }).collect();
        fresh.must(&Event::Manage(Box::new(plain(ManageCommand::Unset, AttributeObject::Server, "", unset))));
        load(&mut fresh, AttributeObject::Server, "", &made.attributes);
        let loaded = fresh.state.settings().unwrap().clone();
        prop_assert_eq!(&loaded.attributes, &made.attributes);
        let names = |settings: &Settings| -> Vec<String> {
            settings.queues_in_order().iter().map(|queue| queue.name.to_string()).collect()
        };
        prop_assert_eq!(names(&loaded), names(&made));
        for (name, queue) in &made.queues {
            prop_assert_eq!(&loaded.queues[name].attributes, &queue.attributes);
        }
    }
}
