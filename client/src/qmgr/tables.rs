//! What `qmgr` itself knows of attributes: which words are names of attributes, which of them it prints, which hold prose.
//! The tables are those of `capstan-types`.

use capstan_types::{AttributeDefinition, AttributeObject};

use super::grammar::Object;

/// Attributes of nodes that could be set but are reports or belong to the wiring; printed, they would be set again.
const NODE_REPORTS: &[&str] = &[
    "power_state",
    "mom_service_port",
    "mom_manager_port",
    "numa_gpu_node_str",
    "gpu_status",
    "mic_status",
    "total_sockets",
    "total_numa_nodes",
    "total_cores",
    "total_threads",
    "dedicated_sockets",
    "dedicated_numa_nodes",
    "dedicated_cores",
    "dedicated_threads",
];

/// Attributes whose value is prose: blanks are part of it also without quotes.
const PROSE: &[(Object, &str)] = &[
    (Object::Server, "comment"),
    (Object::Server, "mail_subject_fmt"),
    (Object::Server, "mail_body_fmt"),
    (Object::Node, "note"),
    (Object::Node, "status"),
];

/// The table for a kind of objects.
pub(crate) fn of(object: Object) -> AttributeObject {
    match object {
        Object::Server => AttributeObject::Server,
        Object::Queue => AttributeObject::Queue,
        Object::Node => AttributeObject::Node,
    }
}

/// What is known of an attribute. Torque's `qmgr` compares with case here, its server without.
fn definition(object: Object, name: &str) -> Option<&'static AttributeDefinition> {
    of(object)
        .attributes()
        .iter()
        .find(|known| known.name == name)
}

/// Whether `word` is an attribute, or a resource of one.
pub(crate) fn is_attribute(object: Object, word: &str) -> bool {
    let name = word.split('.').next().unwrap_or(word);
    definition(object, name).is_some()
}

/// Whether `print` shows it: it can be set, and setting it again makes sense.
pub(crate) fn is_printed(object: Object, name: &str) -> bool {
    let is_report = object == Object::Node && NODE_REPORTS.contains(&name);
    definition(object, name).is_some_and(|known| !known.is_read_only()) && !is_report
}

/// Whether `print` gives each item of a comma list its own line. The report of a node is one, too, as Torque prints it.
pub(crate) fn is_list(object: Object, name: &str) -> bool {
    let is_report = object == Object::Node && name == "status";
    is_report || definition(object, name).is_some_and(|known| known.kind.is_list())
}

/// Whether blanks are part of the value also without quotes.
pub(crate) fn is_prose(object: Object, name: &str) -> bool {
    PROSE.contains(&(object, name))
}
