//! Listings as JSON (`--json`): every attribute under its PBS name, resources nested in their list, values as text.

use capstan_proto::wire::{Attribute, JobAttributes, NodeRow};
use serde_json::{Map, Value, json};

/// One job.
pub(crate) fn job(job: &JobAttributes) -> Value {
    named("id", &job.id, &job.attributes)
}

/// One node. `simulated` tells the cards of tests and of the demo from real ones.
pub(crate) fn node(node: &NodeRow) -> Value {
    let mut object = named("name", &node.name, &node.attributes);
    object["simulated"] = json!(node.simulated);
    object
}

fn named(key: &str, name: &str, attributes: &[Attribute]) -> Value {
    json!({ key: name, "attributes": nested(attributes) })
}

fn nested(attributes: &[Attribute]) -> Value {
    let mut object = Map::new();
    for Attribute {
        name,
        resource,
        value,
    } in attributes
    {
        if resource.is_empty() {
            object.insert(name.clone(), json!(value));
            continue;
        }
        let list = object.entry(name.clone()).or_insert_with(|| json!({}));
        if let Some(list) = list.as_object_mut() {
            list.insert(resource.clone(), json!(value));
        }
    }
    Value::Object(object)
}
