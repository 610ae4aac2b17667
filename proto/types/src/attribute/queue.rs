//! What a queue is told by `qmgr`: every attribute that Torque 6.1.3 knows, in its order (the order of listings).

use super::AttributeDefinition;
use super::AttributeKind::{
    Boolean, Computed, Hosts, Integer, List, QueueType, Resources, Text, Time, Users,
};
use super::AttributeSetter::{Nobody, Operator, User};

pub(super) const TABLE: &[AttributeDefinition] = &[
    AttributeDefinition::new("queue_type", QueueType, Operator),
    AttributeDefinition::new("Priority", Integer, Operator),
    AttributeDefinition::new("hostlist", Hosts, Operator)
        .without_effect("Torque does not read it either"),
    AttributeDefinition::new("restartable", Boolean, Operator)
        .without_effect("Torque does not read it either"),
    AttributeDefinition::new("max_queuable", Integer, Operator),
    AttributeDefinition::new("max_user_queuable", Integer, Operator),
    AttributeDefinition::new("total_jobs", Computed, Nobody),
    AttributeDefinition::new("state_count", Computed, Nobody),
    AttributeDefinition::new("max_report", Integer, Operator)
        .without_effect("listings are streamed"),
    AttributeDefinition::new("max_running", Integer, Operator),
    AttributeDefinition::new("acl_host_enable", Boolean, Operator),
    AttributeDefinition::new("acl_hosts", Hosts, Operator),
    AttributeDefinition::new("acl_user_enable", Boolean, Operator),
    AttributeDefinition::new("acl_users", Users, Operator),
    AttributeDefinition::new("from_route_only", Boolean, Operator),
    AttributeDefinition::new("resources_max", Resources, Operator),
    AttributeDefinition::new("resources_min", Resources, Operator),
    AttributeDefinition::new("resources_default", Resources, Operator),
    AttributeDefinition::new("acl_group_enable", Boolean, Operator),
    AttributeDefinition::new("acl_groups", List, Operator),
    AttributeDefinition::new("acl_logic_or", Boolean, Operator),
    AttributeDefinition::new("acl_group_sloppy", Boolean, Operator),
    AttributeDefinition::new("mtime", Time, Nobody),
    AttributeDefinition::new("disallowed_types", List, Operator),
    AttributeDefinition::new("checkpoint_dir", Text, Operator)
        .without_effect("jobs are not checkpointed"),
    AttributeDefinition::new("checkpoint_min", Integer, Operator)
        .without_effect("jobs are not checkpointed"),
    AttributeDefinition::new("checkpoint_defaults", Text, Operator)
        .without_effect("jobs are not checkpointed"),
    AttributeDefinition::new("rendezvous_retry", Integer, Operator)
        .without_effect("Torque does not read it either"),
    AttributeDefinition::new("reserved_expedite", Integer, Operator)
        .without_effect("Torque does not read it either"),
    AttributeDefinition::new("reserved_sync", Integer, Operator)
        .without_effect("Torque does not read it either"),
    AttributeDefinition::new("resources_available", Resources, Operator)
        .without_effect("agents count what their nodes have"),
    AttributeDefinition::new("resources_assigned", Resources, Nobody),
    AttributeDefinition::new("kill_delay", Integer, Operator),
    AttributeDefinition::new("max_user_run", Integer, Operator),
    AttributeDefinition::new("max_group_run", Integer, Operator),
    AttributeDefinition::new("keep_completed", Integer, Operator),
    AttributeDefinition::new("is_transit", Boolean, Operator)
        .without_effect("a queue is on this server"),
    AttributeDefinition::new("route_destinations", List, Operator),
    AttributeDefinition::new("alt_router", Boolean, Operator)
        .without_effect("Torque does not read it either"),
    AttributeDefinition::new("route_held_jobs", Boolean, Operator),
    AttributeDefinition::new("route_waiting_jobs", Boolean, Operator),
    AttributeDefinition::new("route_retry_time", Integer, Operator),
    AttributeDefinition::new("route_lifetime", Integer, Operator),
    AttributeDefinition::new("enabled", Boolean, Operator),
    AttributeDefinition::new("started", Boolean, Operator),
    AttributeDefinition::new("features_required", Text, Operator),
    AttributeDefinition::new("required_login_property", Text, Operator)
        .without_effect("there is no Cray login node"),
    AttributeDefinition::new("req_information_max", Text, User)
        .without_effect("limits of -L requests are those of -l"),
    AttributeDefinition::new("req_information_min", Text, User)
        .without_effect("limits of -L requests are those of -l"),
    AttributeDefinition::new("req_information_default", Text, User)
        .without_effect("limits of -L requests are those of -l"),
    AttributeDefinition::new("ghost_queue", Boolean, Operator)
        .without_effect("queues are kept in the store"),
    // Order, which Torque leaves to other schedulers.
    AttributeDefinition::new("strict_fifo", Boolean, Operator),
    // Nodes that are its own.
    AttributeDefinition::new("own_nodes", List, Operator),
    // Limits beside Torque's.
    AttributeDefinition::new("max_group_queuable", Integer, Operator),
    AttributeDefinition::new("max_cards", Integer, Operator),
    AttributeDefinition::new("max_user_cards", Integer, Operator),
    AttributeDefinition::new("max_group_cards", Integer, Operator),
    AttributeDefinition::new("max_cores", Integer, Operator),
    AttributeDefinition::new("max_user_cores", Integer, Operator),
    AttributeDefinition::new("max_group_cores", Integer, Operator),
    AttributeDefinition::new("max_card_hours", Integer, Operator),
    AttributeDefinition::new("max_user_card_hours", Integer, Operator),
    AttributeDefinition::new("max_group_card_hours", Integer, Operator),
    AttributeDefinition::new("max_cards_of", List, Operator),
    AttributeDefinition::new("max_user_cards_of", List, Operator),
    AttributeDefinition::new("max_group_cards_of", List, Operator),
    AttributeDefinition::new("limit_exceptions", List, Operator),
    // When its jobs start.
    AttributeDefinition::new("active_hours", Text, Operator),
    AttributeDefinition::new("finish_in_hours", Boolean, Operator),
    // Whose running jobs may be stopped for waiting ones.
    AttributeDefinition::new("preempts", Boolean, Operator),
    AttributeDefinition::new("preemptable", Text, Operator),
    AttributeDefinition::new("preempt_grace", Integer, Operator),
    AttributeDefinition::new("preempt_after", Integer, Operator),
    // What its jobs hear before their walltime ends, when they name nothing themselves.
    AttributeDefinition::new("warning_signal", Text, Operator),
    // Whether jobs must be containers, and of which image those are that name none.
    AttributeDefinition::new("containers", Text, Operator),
    AttributeDefinition::new("default_image", Text, Operator),
    // How long sessions at a terminal live without it, and without a key or use of a card (seconds).
    AttributeDefinition::new("interactive_keep", Integer, Operator),
    AttributeDefinition::new("interactive_idle", Integer, Operator),
];
