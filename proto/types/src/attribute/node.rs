//! What a node is told by `qmgr` and `pbsnodes`: every attribute that Torque 6.1.3 knows, in its order (the order of listings).

use super::AttributeDefinition;
use super::AttributeKind::{Computed, Integer, List, NodeState, NodeType, Text};
use super::AttributeSetter::{Internal, Manager, Operator};

pub(super) const TABLE: &[AttributeDefinition] = &[
    AttributeDefinition::new("state", NodeState, Operator),
    AttributeDefinition::new("power_state", Text, Manager)
        .without_effect("power states are left to the hosts"),
    AttributeDefinition::new("np", Integer, Operator),
    AttributeDefinition::new("properties", List, Manager),
    AttributeDefinition::new("ntype", NodeType, Operator)
        .without_effect("every node is of type cluster"),
    AttributeDefinition::new("jobs", Computed, Internal),
    AttributeDefinition::new("status", Text, Manager).without_effect("agents report it"),
    AttributeDefinition::new("note", Text, Operator),
    AttributeDefinition::new("mom_service_port", Integer, Operator)
        .without_effect("agents dial the server"),
    AttributeDefinition::new("mom_manager_port", Integer, Operator)
        .without_effect("agents dial the server"),
    AttributeDefinition::new("num_node_boards", Integer, Operator)
        .without_effect("a node is one board"),
    AttributeDefinition::new("numa_board_str", Text, Operator)
        .without_effect("a node is one board"),
    AttributeDefinition::new("gpus", Integer, Operator).without_effect("agents count the cards"),
    AttributeDefinition::new("numa_gpu_node_str", Text, Operator)
        .without_effect("a node is one board"),
    AttributeDefinition::new("gpu_status", List, Manager).without_effect("agents report it"),
    AttributeDefinition::new("mics", Integer, Operator)
        .without_effect("there is no support for MIC cards"),
    AttributeDefinition::new("mic_status", List, Manager)
        .without_effect("there is no support for MIC cards"),
    AttributeDefinition::new("TTL", Text, Manager)
        .without_effect("nodes stay until they are deleted"),
    AttributeDefinition::new("acl", List, Manager)
        .without_effect("a node takes the jobs of everybody"),
    AttributeDefinition::new("requestid", Text, Manager)
        .without_effect("nodes are not provisioned"),
    AttributeDefinition::new("total_sockets", Integer, Operator)
        .without_effect("slots are not bound to sockets"),
    AttributeDefinition::new("total_numa_nodes", Integer, Operator)
        .without_effect("slots are not bound to sockets"),
    AttributeDefinition::new("total_cores", Integer, Operator)
        .without_effect("slots are not bound to sockets"),
    AttributeDefinition::new("total_threads", Integer, Operator)
        .without_effect("slots are not bound to sockets"),
    AttributeDefinition::new("dedicated_sockets", Integer, Operator)
        .without_effect("slots are not bound to sockets"),
    AttributeDefinition::new("dedicated_numa_nodes", Integer, Operator)
        .without_effect("slots are not bound to sockets"),
    AttributeDefinition::new("dedicated_cores", Integer, Operator)
        .without_effect("slots are not bound to sockets"),
    AttributeDefinition::new("dedicated_threads", Integer, Operator)
        .without_effect("slots are not bound to sockets"),
];
