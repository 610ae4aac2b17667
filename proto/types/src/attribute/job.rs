//! What a job is told by `qsub` and `qalter`: every attribute that Torque 6.1.3 knows, in its order (the order of listings).

use super::AttributeDefinition;
use super::AttributeKind::{Boolean, Dependencies, Holds, Integer, List, Resources, Text, Time};
use super::AttributeSetter::{Internal, Nobody, Operator, Submitter, User};

pub(super) const TABLE: &[AttributeDefinition] = &[
    AttributeDefinition::new("Job_Name", Text, User).while_running(),
    AttributeDefinition::new("Job_Owner", Text, Nobody),
    AttributeDefinition::new("resources_used", Resources, Nobody),
    AttributeDefinition::new("job_state", Text, Nobody),
    AttributeDefinition::new("queue", Text, User),
    AttributeDefinition::new("server", Text, Nobody),
    AttributeDefinition::new("Account_Name", Text, User),
    AttributeDefinition::new("Checkpoint", Text, User)
        .while_running()
        .without_effect("jobs are not checkpointed"),
    AttributeDefinition::new("ctime", Time, Nobody),
    AttributeDefinition::new("depend", Dependencies, User),
    AttributeDefinition::new("Error_Path", Text, User).while_running(),
    AttributeDefinition::new("exec_host", Text, Nobody),
    AttributeDefinition::new("exec_port", Text, Nobody).without_effect("agents dial the server"),
    AttributeDefinition::new("exec_gpus", Text, Nobody),
    AttributeDefinition::new("Execution_Time", Time, User).while_running(),
    AttributeDefinition::new("group_list", List, User),
    AttributeDefinition::new("Hold_Types", Holds, User).while_running(),
    AttributeDefinition::new("interactive", Integer, Submitter),
    AttributeDefinition::new("Join_Path", Text, User),
    AttributeDefinition::new("Keep_Files", Text, User),
    AttributeDefinition::new("Mail_Points", Text, User).while_running(),
    AttributeDefinition::new("Mail_Users", List, User).while_running(),
    AttributeDefinition::new("mtime", Time, Nobody),
    AttributeDefinition::new("Output_Path", Text, User).while_running(),
    AttributeDefinition::new("Priority", Integer, User).while_running(),
    AttributeDefinition::new("qtime", Time, Nobody),
    AttributeDefinition::new("Rerunable", Boolean, User).while_running(),
    AttributeDefinition::new("Resource_List", Resources, User).while_running(),
    AttributeDefinition::new("session_id", Integer, Nobody),
    AttributeDefinition::new("Shell_Path_List", List, User).while_running(),
    AttributeDefinition::new("stagein", List, User),
    AttributeDefinition::new("stageout", List, User),
    AttributeDefinition::new("substate", Integer, Internal),
    AttributeDefinition::new("User_List", List, User),
    AttributeDefinition::new("Variable_List", List, User).while_running(),
    AttributeDefinition::new("euser", Text, Nobody),
    AttributeDefinition::new("egroup", Text, Nobody),
    AttributeDefinition::new("hashname", Text, Internal).without_effect("jobs are not files"),
    AttributeDefinition::new("hop_count", Integer, Internal)
        .without_effect("jobs stay on this server"),
    AttributeDefinition::new("queue_rank", Integer, Internal)
        .without_effect("jobs are ordered by age and id"),
    AttributeDefinition::new("queue_type", Text, Nobody),
    AttributeDefinition::new("sched_hint", Text, Operator)
        .while_running()
        .without_effect("the scheduler takes no hints"),
    AttributeDefinition::new("security", Text, Internal)
        .without_effect("the kernel vouches for callers"),
    AttributeDefinition::new("comment", Text, Operator).while_running(),
    AttributeDefinition::new("cookie", Text, Internal)
        .without_effect("tasks are known by their cgroup"),
    AttributeDefinition::new("alt_id", Text, Nobody)
        .without_effect("Torque does not set it either"),
    AttributeDefinition::new("etime", Time, Nobody),
    AttributeDefinition::new("exit_status", Integer, Nobody),
    AttributeDefinition::new("forward_x11", Text, Internal),
    AttributeDefinition::new("submit_args", Text, Submitter),
    AttributeDefinition::new("job_array_id", Integer, Nobody),
    AttributeDefinition::new("job_array_request", Text, Submitter),
    AttributeDefinition::new("umask", Integer, User),
    AttributeDefinition::new("start_time", Time, Nobody),
    AttributeDefinition::new("start_count", Integer, Nobody),
    AttributeDefinition::new("checkpoint_dir", Text, User)
        .without_effect("jobs are not checkpointed"),
    AttributeDefinition::new("checkpoint_name", Text, User)
        .while_running()
        .without_effect("jobs are not checkpointed"),
    AttributeDefinition::new("checkpoint_time", Time, Operator)
        .while_running()
        .without_effect("jobs are not checkpointed"),
    AttributeDefinition::new("checkpoint_restart_status", Text, User)
        .while_running()
        .without_effect("jobs are not checkpointed"),
    AttributeDefinition::new("restart_name", Text, Operator)
        .while_running()
        .without_effect("jobs are not checkpointed"),
    AttributeDefinition::new("fault_tolerant", Boolean, User)
        .while_running()
        .without_effect("a job ends with any of its nodes"),
    AttributeDefinition::new("comp_time", Time, Nobody),
    AttributeDefinition::new("reported", Boolean, Nobody)
        .without_effect("jobs leave the list after keep_completed"),
    AttributeDefinition::new("jobtype", Text, User),
    AttributeDefinition::new("inter_cmd", Text, User),
    AttributeDefinition::new("job_radix", Integer, User).without_effect("agents dial the server"),
    AttributeDefinition::new("total_runtime", Text, Nobody),
    AttributeDefinition::new("sister_list", Text, Nobody).without_effect("agents dial the server"),
    AttributeDefinition::new("proxy_user", Text, Internal),
    AttributeDefinition::new("node_exclusive", Boolean, User),
    AttributeDefinition::new("submit_host", Text, Submitter),
    AttributeDefinition::new("init_work_dir", Text, Submitter),
    AttributeDefinition::new("pagg_id", Integer, Nobody)
        .without_effect("there is no Cray login node"),
    AttributeDefinition::new("gpu_flags", Integer, Nobody),
    AttributeDefinition::new("job_id", Text, Internal),
    AttributeDefinition::new("job_arguments", Text, User),
    AttributeDefinition::new("reservation_id", Text, User)
        .without_effect("there is no Cray login node"),
    AttributeDefinition::new("login_node_id", Text, User)
        .without_effect("there is no Cray login node"),
    AttributeDefinition::new("login_property", Text, User)
        .without_effect("there is no Cray login node"),
    AttributeDefinition::new("external_nodes", Text, User)
        .without_effect("there is no Cray login node"),
    AttributeDefinition::new("multi_req_alps", Text, User)
        .without_effect("there is no Cray login node"),
    AttributeDefinition::new("exec_mics", Text, Nobody)
        .without_effect("there is no support for MIC cards"),
    AttributeDefinition::new("system_start_time", Integer, Nobody)
        .without_effect("nodes are told apart by their agents"),
    AttributeDefinition::new("nppcu", Integer, Nobody)
        .without_effect("there is no Cray login node"),
    AttributeDefinition::new("login_node_key", Integer, User)
        .without_effect("there is no Cray login node"),
    AttributeDefinition::new("request_version", Integer, User),
    AttributeDefinition::new("req_information", Text, User),
    AttributeDefinition::new("copy_on_rerun", Integer, User)
        .without_effect("output is written where it stays"),
    AttributeDefinition::new("cpuset_string", Text, Nobody)
        .without_effect("slots are not bound to cores"),
    AttributeDefinition::new("memset_string", Text, Nobody)
        .without_effect("slots are not bound to cores"),
    AttributeDefinition::new("user_kill_delay", Integer, User),
    AttributeDefinition::new("idle_slot_limit", Integer, User),
    AttributeDefinition::new("L_Request", Text, User),
    AttributeDefinition::new("gpus_reserved", Text, Nobody).without_effect("exec_gpus says it"),
    AttributeDefinition::new("mics_reserved", Text, Nobody)
        .without_effect("there is no support for MIC cards"),
    AttributeDefinition::new("_other_", Text, User)
        .without_effect("unknown attributes are refused"),
    // Beside Torque's: a warning before the walltime ends, and why the job ended.
    AttributeDefinition::new("signal", Text, User),
    AttributeDefinition::new("exit_cause", Text, Nobody),
    // The job is a container of this image.
    AttributeDefinition::new("image", Text, User),
    // Whether the job ends with the first of its tasks under `pbsdsh` that fails.
    AttributeDefinition::new("gang", Text, User),
];
