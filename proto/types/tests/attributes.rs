//! What holds for every attribute: what is printed is read again as the same, and no text does harm.

use capstan_types::{
    AttributeKind, AttributeObject, Attributes, SetOperator, resource, resource_kind,
};
use proptest::prelude::*;
use proptest::sample::select;

const OBJECTS: [AttributeObject; 4] = [
    AttributeObject::Server,
    AttributeObject::Queue,
    AttributeObject::Node,
    AttributeObject::Job,
];

/// Resources of every kind, and one that is none.
const RESOURCES: [&str; 9] = [
    "walltime",
    "mem",
    "ncpus",
    "nice",
    "nodes",
    "arch",
    "srfs_assist",
    "nodect",
    "nosuch",
];

fn value(kind: AttributeKind) -> BoxedStrategy<String> {
    match kind {
        AttributeKind::Boolean => "(t|T|true|False|y|no|0|1)".boxed(),
        AttributeKind::Integer | AttributeKind::Time => "-?[0-9]{1,9}".boxed(),
        AttributeKind::QueueType => "(e|E|exec|R|Route|ROU)".boxed(),
        AttributeKind::NodeType => "cluster".boxed(),
        AttributeKind::List | AttributeKind::NodeState => "[a-z0-9]{1,4}(,[a-z0-9]{1,4}){0,4}".boxed(),
        AttributeKind::Users => "[+-]?[a-c]{1,2}(@[a-c*.]{1,5})?(,[d-f]{1,2}(@[a-c*.]{1,5})?){0,3}".boxed(),
        AttributeKind::Hosts => "[a-c*.]{1,5}(,[d-f.]{1,5}){0,3}".boxed(),
        AttributeKind::Resources => {
            "([0-9]{1,4}(:[0-5][0-9]){0,2}|[0-9]{1,5}[kmgt]?[bw]?|[a-z]{1,6}|True|[1-9](:ppn=[1-9])?)".boxed()
        }
        AttributeKind::Costs => "-?[0-9]{1,6}".boxed(),
        AttributeKind::Text
        | AttributeKind::Holds
        | AttributeKind::Dependencies
        | AttributeKind::Computed => "[ -~]{0,20}".boxed(),
    }
}

/// An attribute, a resource for those that want one, an operator and a value that may well be right.
fn directive(
    object: AttributeObject,
) -> impl Strategy<Value = (String, String, SetOperator, String)> {
    let operators = [SetOperator::Assign, SetOperator::Add, SetOperator::Remove];
    select(object.attributes()).prop_flat_map(move |known| {
        let wants_resource = matches!(known.kind, AttributeKind::Resources | AttributeKind::Costs);
        let resources = if wants_resource {
            &RESOURCES[..]
        } else {
            &[""][..]
        };
        (
            Just(known.name.to_owned()),
            select(resources).prop_map(str::to_owned),
            select(operators.to_vec()),
            value(known.kind),
        )
    })
}

fn object() -> impl Strategy<Value = (AttributeObject, Vec<(String, String, SetOperator, String)>)>
{
    select(&OBJECTS[..]).prop_flat_map(|object| {
        (
            Just(object),
            prop::collection::vec(directive(object), 0..40),
        )
    })
}

proptest! {
    #[test]
    fn what_is_printed_is_read_as_the_same((object, directives) in object()) {
        let mut attributes = Attributes::new(object);
        for (name, resource, operator, value) in directives {
            let before = attributes.clone();
            if attributes.change(&name, &resource, operator, &value).is_err() {
                prop_assert_eq!(&attributes, &before, "a refusal changes nothing");
            }
        }
        let mut read = Attributes::new(object);
        for line in attributes.lines() {
            let name = line.definition.name;
            // As `qmgr print` writes lists: one `=`, then `+=`.
            let items: Vec<&str> = match line.definition.kind.is_list() {
                true => line.value.split(',').collect(),
                false => vec![&line.value],
            };
            for (at, item) in items.into_iter().enumerate() {
                let operator = if at == 0 { SetOperator::Assign } else { SetOperator::Add };
                read.change(name, line.resource, operator, item).unwrap();
            }
        }
        prop_assert_eq!(read, attributes);
    }

    #[test]
    fn no_text_does_harm(name in "\\PC{0,12}", resource in "\\PC{0,12}", text in ".{0,60}") {
        for object in OBJECTS {
            let mut attributes = Attributes::new(object);
            drop(attributes.change(&name, &resource, SetOperator::Add, &text));
            for known in object.attributes() {
                drop(attributes.change(known.name, "", SetOperator::Assign, &text));
                drop(attributes.change(known.name, "mem", SetOperator::Remove, &text));
                drop(attributes.unset(known.name, &resource));
            }
            for line in attributes.lines() {
                prop_assert!(!line.value.chars().any(char::is_control));
            }
        }
    }
}

#[test]
fn the_resources_of_this_test_are_of_every_kind() {
    let kinds = RESOURCES.iter().filter_map(|name| resource_kind(name));
    let mut kinds: Vec<String> = kinds.map(|kind| format!("{kind:?}")).collect();
    kinds.sort();
    kinds.dedup();
    assert_eq!(kinds.len(), 7);
    assert!(resource("nosuch").is_none());
}
