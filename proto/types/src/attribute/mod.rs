//! The attributes of the server, of queues, nodes and jobs: what Torque knows of each, and their values. The tables are
//! in Torque's order, which is the order of all listings.

mod acl;
mod definition;
mod job;
mod node;
mod queue;
mod server;
#[cfg(test)]
mod tests;
mod value;
mod values;

pub use acl::AccessList;
pub use definition::{
    AttributeDefinition, AttributeEffect, AttributeKind, AttributeObject, AttributeSetter,
};
pub use value::{AttributeError, AttributeValue, SetOperator, parse_boolean};
pub use values::{AttributeLine, Attributes};
