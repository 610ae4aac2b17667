//! What the server as a whole is told by `qmgr`: every attribute that Torque 6.1.3 knows, in its order (the order of listings).

use super::AttributeDefinition;
use super::AttributeKind::{
    Boolean, Computed, Costs, Hosts, Integer, List, Resources, Text, Users,
};
use super::AttributeSetter::{Manager, Nobody, Operator};

pub(super) const TABLE: &[AttributeDefinition] = &[
    AttributeDefinition::new("server_state", Computed, Nobody),
    AttributeDefinition::new("scheduling", Boolean, Operator),
    AttributeDefinition::new("max_running", Integer, Operator),
    AttributeDefinition::new("max_user_run", Integer, Operator),
    AttributeDefinition::new("max_group_run", Integer, Operator),
    AttributeDefinition::new("total_jobs", Computed, Nobody),
    AttributeDefinition::new("state_count", Computed, Nobody),
    AttributeDefinition::new("acl_host_enable", Boolean, Manager),
    AttributeDefinition::new("acl_hosts", Hosts, Manager),
    AttributeDefinition::new("acl_user_enable", Boolean, Manager),
    AttributeDefinition::new("acl_users", Users, Manager),
    AttributeDefinition::new("acl_roots", Users, Manager),
    AttributeDefinition::new("gres_modifiers", List, Manager)
        .without_effect("nobody but managers may alter gres"),
    AttributeDefinition::new("managers", Users, Manager),
    AttributeDefinition::new("operators", Users, Manager),
    AttributeDefinition::new("default_queue", Text, Operator),
    AttributeDefinition::new("log_events", Integer, Operator),
    AttributeDefinition::new("mail_from", Text, Operator),
    AttributeDefinition::new("query_other_jobs", Boolean, Manager),
    AttributeDefinition::new("resources_available", Resources, Operator)
        .without_effect("agents count what their nodes have"),
    AttributeDefinition::new("resources_default", Resources, Operator),
    AttributeDefinition::new("resources_max", Resources, Operator),
    AttributeDefinition::new("resources_assigned", Resources, Nobody),
    AttributeDefinition::new("resources_cost", Costs, Operator).without_effect("jobs have no cost"),
    AttributeDefinition::new("system_cost", Integer, Operator).without_effect("jobs have no cost"),
    AttributeDefinition::new("scheduler_iteration", Integer, Operator)
        .without_effect("the scheduler runs whenever something has changed"),
    AttributeDefinition::new("node_ping_rate", Integer, Operator).without_effect(
        "agents keep a connection and send heartbeats (heartbeat_secs in server.toml)",
    ),
    AttributeDefinition::new("node_check_rate", Integer, Operator).without_effect(
        "agents keep a connection and send heartbeats (heartbeat_secs in server.toml)",
    ),
    AttributeDefinition::new("tcp_timeout", Integer, Operator).without_effect(
        "agents keep a connection and send heartbeats (heartbeat_secs in server.toml)",
    ),
    AttributeDefinition::new("comment", Text, Manager),
    AttributeDefinition::new("default_node", Text, Manager)
        .without_effect("a job that names no node gets any"),
    AttributeDefinition::new("node_pack", Boolean, Manager)
        .without_effect("jobs are always packed"),
    AttributeDefinition::new("node_suffix", Text, Manager),
    AttributeDefinition::new("job_stat_rate", Integer, Manager).without_effect(
        "agents keep a connection and send heartbeats (heartbeat_secs in server.toml)",
    ),
    AttributeDefinition::new("poll_jobs", Boolean, Manager).without_effect(
        "agents keep a connection and send heartbeats (heartbeat_secs in server.toml)",
    ),
    AttributeDefinition::new("log_level", Integer, Manager).without_effect(
        "the log files are one a day; CAPSTAN_LOG chooses what goes to standard error",
    ),
    AttributeDefinition::new("down_on_error", Boolean, Manager),
    AttributeDefinition::new("disable_server_id_check", Boolean, Manager)
        .without_effect("ids are read with any server name"),
    AttributeDefinition::new("job_nanny", Boolean, Manager)
        .without_effect("agents make sure themselves that deleted jobs end"),
    AttributeDefinition::new("owner_purge", Boolean, Manager),
    AttributeDefinition::new("queue_centric_limits", Boolean, Manager)
        .without_effect("limits compare what both queue and job name"),
    AttributeDefinition::new("mom_job_sync", Boolean, Manager)
        .without_effect("agents and server always agree on what runs"),
    AttributeDefinition::new("mail_domain", Text, Manager),
    AttributeDefinition::new("pbs_version", Text, Nobody),
    AttributeDefinition::new("kill_delay", Integer, Operator),
    AttributeDefinition::new("acl_logic_or", Boolean, Operator),
    AttributeDefinition::new("acl_group_sloppy", Boolean, Operator),
    AttributeDefinition::new("keep_completed", Integer, Operator),
    AttributeDefinition::new("submit_hosts", List, Operator)
        .without_effect("callers are known by the socket of the server host or of a node"),
    AttributeDefinition::new("allow_node_submit", Boolean, Operator)
        .without_effect("nodes may always submit"),
    AttributeDefinition::new("allow_proxy_user", Boolean, Operator)
        .without_effect("managers may always submit for others (-P)"),
    AttributeDefinition::new("auto_node_np", Boolean, Manager)
        .without_effect("a node without np has as many slots as cores"),
    AttributeDefinition::new("log_file_max_size", Integer, Operator).without_effect(
        "the log files are one a day; CAPSTAN_LOG chooses what goes to standard error",
    ),
    AttributeDefinition::new("log_file_roll_depth", Integer, Operator).without_effect(
        "the log files are one a day; CAPSTAN_LOG chooses what goes to standard error",
    ),
    AttributeDefinition::new("log_keep_days", Integer, Operator),
    AttributeDefinition::new("next_job_number", Integer, Manager),
    AttributeDefinition::new("tokens", List, Manager).without_effect("there are no tokens"),
    AttributeDefinition::new("net_counter", Computed, Nobody),
    AttributeDefinition::new("extra_resc", List, Operator)
        .without_effect("-l takes the names that Torque knows"),
    AttributeDefinition::new("server_name", Text, Manager)
        .without_effect("ids keep the name that server.toml gives"),
    AttributeDefinition::new("sched_version", Text, Manager)
        .without_effect("the scheduler is part of the server"),
    AttributeDefinition::new("accounting_keep_days", Integer, Operator),
    AttributeDefinition::new("lock_file", Text, Manager)
        .without_effect("one server per state folder holds its lock"),
    AttributeDefinition::new("lock_file_update_time", Integer, Manager)
        .without_effect("one server per state folder holds its lock"),
    AttributeDefinition::new("lock_file_check_time", Integer, Manager)
        .without_effect("one server per state folder holds its lock"),
    AttributeDefinition::new("credential_lifetime", Integer, Manager)
        .without_effect("the kernel vouches for callers"),
    AttributeDefinition::new("job_must_report", Boolean, Manager)
        .without_effect("jobs leave the list after keep_completed"),
    AttributeDefinition::new("checkpoint_dir", Text, Manager)
        .without_effect("jobs are not checkpointed"),
    AttributeDefinition::new("display_job_server_suffix", Boolean, Manager)
        .without_effect("ids end in the name of the server"),
    AttributeDefinition::new("job_suffix_alias", Text, Manager)
        .without_effect("ids end in the name of the server"),
    AttributeDefinition::new("use_jobs_subdirs", Boolean, Manager)
        .without_effect("jobs are not files"),
    AttributeDefinition::new("mail_subject_fmt", Text, Manager),
    AttributeDefinition::new("mail_body_fmt", Text, Manager),
    AttributeDefinition::new("np_default", Integer, Manager),
    AttributeDefinition::new("clone_batch_size", Integer, Manager)
        .without_effect("members of arrays are not cloned"),
    AttributeDefinition::new("clone_batch_delay", Integer, Manager)
        .without_effect("members of arrays are not cloned"),
    AttributeDefinition::new("job_start_timeout", Integer, Operator)
        .without_effect("an agent takes a start order into its ledger at once"),
    AttributeDefinition::new("job_force_cancel_time", Integer, Manager)
        .without_effect("a deleted job ends with its node; qdel -p forgets it"),
    AttributeDefinition::new("max_job_array_size", Integer, Manager),
    AttributeDefinition::new("max_slot_limit", Integer, Manager),
    AttributeDefinition::new("record_job_info", Boolean, Manager)
        .without_effect("the journal keeps every change"),
    AttributeDefinition::new("record_job_script", Boolean, Manager)
        .without_effect("the journal keeps every script"),
    AttributeDefinition::new("job_log_file_max_size", Integer, Operator)
        .without_effect("the journal keeps every change"),
    AttributeDefinition::new("job_log_file_roll_depth", Integer, Operator)
        .without_effect("the journal keeps every change"),
    AttributeDefinition::new("job_log_keep_days", Integer, Operator)
        .without_effect("the journal keeps every change"),
    AttributeDefinition::new("authorized_users", List, Manager)
        .without_effect("callers are known by the kernel"),
    AttributeDefinition::new("min_threads", Integer, Manager)
        .without_effect("the server is one event loop and sizes itself"),
    AttributeDefinition::new("max_threads", Integer, Manager)
        .without_effect("the server is one event loop and sizes itself"),
    AttributeDefinition::new("thread_idle_seconds", Integer, Manager)
        .without_effect("the server is one event loop and sizes itself"),
    AttributeDefinition::new("moab_array_compatible", Boolean, Operator)
        .without_effect("holds of slot limits are always told apart"),
    AttributeDefinition::new("no_mail_force", Boolean, Manager),
    AttributeDefinition::new("cray_enabled", Boolean, Manager)
        .without_effect("there is no Cray login node"),
    AttributeDefinition::new("interactive_jobs_can_roam", Boolean, Manager)
        .without_effect("there is no Cray login node"),
    AttributeDefinition::new("max_user_queuable", Integer, Manager),
    AttributeDefinition::new("automatic_requeue_exit_code", Integer, Manager),
    AttributeDefinition::new("nppcu", Integer, Manager)
        .without_effect("there is no Cray login node"),
    AttributeDefinition::new("job_sync_timeout", Integer, Manager)
        .without_effect("agents and server always agree on what runs"),
    AttributeDefinition::new("pass_cpu_clock", Boolean, Manager)
        .without_effect("cpu clocks are not set"),
    AttributeDefinition::new("job_full_report_time", Integer, Manager)
        .without_effect("agents report when something changes"),
    AttributeDefinition::new("copy_on_rerun", Boolean, Manager)
        .without_effect("output is written where it stays"),
    AttributeDefinition::new("job_exclusive_on_use", Boolean, Manager)
        .without_effect("nodes are shared by default"),
    AttributeDefinition::new("disable_automatic_requeue", Boolean, Manager)
        .without_effect("a job is put back in its queue unless -r n forbids it"),
    AttributeDefinition::new("exit_code_canceled_job", Integer, Manager),
    AttributeDefinition::new("timeout_for_job_delete", Integer, Manager)
        .without_effect("qmgr does not wait for nodes"),
    AttributeDefinition::new("timeout_for_job_requeue", Integer, Manager)
        .without_effect("qmgr does not wait for nodes"),
    AttributeDefinition::new("dont_write_nodes_file", Boolean, Manager)
        .without_effect("nodes are kept in the store"),
    AttributeDefinition::new("acl_user_hosts", Hosts, Manager)
        .without_effect("callers are known by the kernel of the server host or of a node"),
    AttributeDefinition::new("acl_group_hosts", Hosts, Manager)
        .without_effect("callers are known by the kernel of the server host or of a node"),
    AttributeDefinition::new("node_submit_exceptions", List, Manager)
        .without_effect("nodes may always submit"),
    AttributeDefinition::new("legacy_vmem", Boolean, Manager)
        .without_effect("vmem is the limit of the job"),
    AttributeDefinition::new("note_append_on_error", Boolean, Manager),
    AttributeDefinition::new("email_batch_seconds", Integer, Manager),
    AttributeDefinition::new("tcp_incoming_timeout", Integer, Operator).without_effect(
        "agents keep a connection and send heartbeats (heartbeat_secs in server.toml)",
    ),
    AttributeDefinition::new("ghost_array_recovery", Boolean, Manager)
        .without_effect("arrays are kept in the store"),
    AttributeDefinition::new("cgroup_per_task", Boolean, Manager)
        .without_effect("a job has one cgroup on each node"),
    AttributeDefinition::new("idle_slot_limit", Integer, Manager)
        .without_effect("arrays name their own (-i)"),
    AttributeDefinition::new("default_gpu_mode", Text, Manager)
        .without_effect("a card keeps its mode unless the job asks for one"),
    AttributeDefinition::new("sendmail_path", Text, Manager),
    // The order of waiting jobs, which Torque leaves to other schedulers.
    AttributeDefinition::new("policy", Text, Manager),
    AttributeDefinition::new("weight_queue", Integer, Manager),
    AttributeDefinition::new("weight_priority", Integer, Manager),
    AttributeDefinition::new("weight_age", Integer, Manager),
    AttributeDefinition::new("weight_fairshare", Integer, Manager),
    AttributeDefinition::new("weight_size", Integer, Manager),
    AttributeDefinition::new("weight_shortness", Integer, Manager),
    AttributeDefinition::new("backfill_depth", Integer, Manager),
    AttributeDefinition::new("backfill_spare", Boolean, Manager),
    AttributeDefinition::new("starve_after", Integer, Manager),
    // Fair share, which Torque leaves to other schedulers.
    AttributeDefinition::new("fairshare_half_life", Text, Manager),
    AttributeDefinition::new("fairshare_shares", List, Manager),
    AttributeDefinition::new("fairshare_card_weights", List, Manager),
    AttributeDefinition::new("fairshare_core_weight", Text, Manager),
    // Reservations.
    AttributeDefinition::new("reservations_by_users", Boolean, Manager),
    // Limits beside Torque's.
    AttributeDefinition::new("max_queuable", Integer, Operator),
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
    AttributeDefinition::new("card_hours_window", Text, Operator),
    // Whose running jobs may be stopped for waiting ones.
    AttributeDefinition::new("preempt_again_after", Integer, Operator),
    AttributeDefinition::new("guaranteed_cards", List, Operator),
    // Whether work that needs no cards leaves each card its fair slice of cores and memory.
    AttributeDefinition::new("card_slices", Boolean, Manager),
    // What is told of how busy jobs were: with the job, and at the end of its output.
    AttributeDefinition::new("job_samples", Boolean, Manager),
    AttributeDefinition::new("job_footer", Boolean, Manager),
    // Whether jobs must be containers, and of which image those are that name none.
    AttributeDefinition::new("containers", Text, Manager),
    AttributeDefinition::new("default_image", Text, Manager),
    // What jobs hear before their walltime ends, when neither they nor their queue name anything.
    AttributeDefinition::new("warning_signal", Text, Manager),
    // How long sessions at a terminal live without it, and without a key or use of a card (seconds).
    AttributeDefinition::new("interactive_keep", Integer, Manager),
    AttributeDefinition::new("interactive_idle", Integer, Manager),
];
