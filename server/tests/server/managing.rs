//! What `qmgr` and `qterm` ask of the server, as recorded in sessions A01 to A10.

use capstan_proto::wire::manage_request::directive::Operator;
use capstan_proto::wire::manage_request::{Command, Directive, Object};
use capstan_proto::wire::{
    Attribute, ManageRequest, ShutdownRequest, StatNodesRequest, StatQueuesRequest,
    StatServerRequest, SubmitRequest,
};
use tonic::Status;

use crate::cluster::{Cluster, DEADLINE, refusal};

/// A line as `qmgr` reads it; directives with semicolons between them.
fn request(line: &str) -> ManageRequest {
    let (command, rest) = line.split_once(' ').unwrap();
    let (object, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    let (name, rest) = match object {
        "server" => ("", rest),
        _ => rest.split_once(' ').unwrap_or((rest, "")),
    };
    let command = match command {
        "create" => Command::Create,
        "delete" => Command::Delete,
        "set" => Command::Set,
        _ => Command::Unset,
    };
    let object = match object {
        "server" => Object::Server,
        "queue" => Object::Queue,
        _ => Object::Node,
    };
    let directives = rest.split(';').map(str::trim).filter(|d| !d.is_empty());
    ManageRequest {
        command: command.into(),
        object: object.into(),
        name: name.to_owned(),
        directives: directives.map(directive).collect(),
    }
}

fn directive(text: &str) -> Directive {
    let signs = [
        ("+=", Operator::Add),
        ("-=", Operator::Remove),
        ("=", Operator::Assign),
    ];
    let mut found = signs.iter();
    let found = found.find_map(|(sign, operator)| Some((text.split_once(sign)?, *operator)));
    let ((name, value), operator) = found.unwrap_or(((text, ""), Operator::Assign));
    let (name, resource) = name.trim().split_once('.').unwrap_or((name.trim(), ""));
    Directive {
        name: name.to_owned(),
        resource: resource.to_owned(),
        operator: operator.into(),
        value: value.trim().to_owned(),
    }
}

async fn manage(cluster: &mut Cluster, line: &str) -> Result<(), Status> {
    cluster.client.manage(request(line)).await.map(drop)
}

async fn check_refused(cluster: &mut Cluster, line: &str, number: u16, text: &str) {
    let status = manage(cluster, line).await.unwrap_err();
    assert_eq!(refusal(&status), (number, text.to_owned()), "{line}");
}

const SETUP: &[&str] = &[
    "set server scheduling = True",
    "set server default_queue = batch",
    "set server keep_completed = 120",
    "set server log_events = 511",
    "create queue batch",
    "set queue batch queue_type = Execution",
    "set queue batch resources_default.nodes = 1",
    "set queue batch resources_default.walltime = 01:00:00",
    "set queue batch enabled = True",
    "set queue batch started = True",
    "create queue limitq queue_type=E;enabled=T;started=T",
    "set queue limitq resources_max.walltime = 02:00:00",
    "set queue limitq resources_max.nodect = 1",
    "set queue limitq resources_min.walltime = 00:01:00",
    "set queue limitq resources_max.mem = 1gb",
    "set queue limitq max_user_queuable = 2",
    "set queue limitq max_user_run = 1",
    "set queue limitq max_running = 3",
    "create queue aclq queue_type=e;acl_user_enable=True;acl_users=bob;enabled=True;started=True",
    "set queue aclq acl_users += carol@*",
    "create queue routeq queue_type=Route;route_destinations=limitq;enabled=True;started=True",
    "set queue routeq route_destinations += batch",
];

async fn set_up() -> Cluster {
    let mut cluster = Cluster::start("[queues]").await;
    for line in SETUP {
        manage(&mut cluster, line).await.unwrap();
    }
    cluster
}

fn lines(attributes: &[Attribute]) -> Vec<String> {
    let lines = attributes.iter().map(|line| match line.resource.as_str() {
        "" => format!("{} = {}", line.name, line.value),
        resource => format!("{}.{resource} = {}", line.name, line.value),
    });
    lines.filter(|line| !line.starts_with("mtime = ")).collect()
}

const NO_JOBS: &str =
    "state_count = Transit:0 Queued:0 Held:0 Waiting:0 Running:0 Exiting:0 Complete:0 ";

/// Sessions A03 and A04; a restart changes nothing, whatever the settings file says.
#[tokio::test]
async fn listings_are_as_recorded_before_and_after_a_restart() {
    let mut cluster = set_up().await;
    for _ in 0..2 {
        let queues = StatQueuesRequest::default();
        let queues = cluster.client.stat_queues(queues).await.unwrap();
        let queues = queues.into_inner().queues;
        let names: Vec<&str> = queues.iter().map(|queue| queue.name.as_str()).collect();
        assert_eq!(names, ["batch", "limitq", "aclq", "routeq"]);
        let limitq = [
            "queue_type = Execution",
            "max_user_queuable = 2",
            "total_jobs = 0",
            NO_JOBS,
            "max_running = 3",
            "resources_max.walltime = 02:00:00",
            "resources_max.nodect = 1",
            "resources_max.mem = 1gb",
            "resources_min.walltime = 00:01:00",
            "max_user_run = 1",
            "enabled = True",
            "started = True",
        ];
        assert_eq!(lines(&queues[1].attributes), limitq);
        assert_eq!((queues[1].max_running, queues[3].routing), (3, true));
        let server = cluster
            .client
            .stat_server(StatServerRequest {})
            .await
            .unwrap();
        let mut server = lines(&server.into_inner().attributes);
        server.retain(|line| !line.starts_with("net_counter = "));
        let expected = [
            "server_state = Active",
            "scheduling = True",
            "total_jobs = 0",
            NO_JOBS,
            "acl_hosts = hn1",
            "default_queue = batch",
            "log_events = 511",
            "mail_from = adm",
            "query_other_jobs = True",
            "node_check_rate = 150",
            "tcp_timeout = 300",
            "job_stat_rate = 300",
            "poll_jobs = True",
            "down_on_error = True",
            "mom_job_sync = True",
            "pbs_version = 6.1.3.h5",
            "keep_completed = 120",
            "next_job_number = 0",
            "moab_array_compatible = True",
            "nppcu = 1",
            "timeout_for_job_delete = 120",
            "timeout_for_job_requeue = 120",
            "note_append_on_error = True",
        ];
        assert_eq!(server, expected);
        cluster = cluster.restart().await;
    }
}

/// Sessions A06 and A08: the texts are Torque's.
#[tokio::test]
async fn wrong_orders_are_refused_in_the_words_of_torque() {
    let mut cluster = set_up().await;
    let mut check = async |line: &str, number: u16, text: &str| {
        check_refused(&mut cluster, line, number, text).await;
    };
    check("set queue nosuch enabled = True", 15020, "Unknown queue").await;
    check("delete queue nosuch", 15020, "Unknown queue").await;
    check("create queue batch", 15027, "Queue already exists").await;
    check(
        "create queue abcdefghijklmnop",
        15030,
        "Queue name too long",
    )
    .await;
    let incomplete = "Cannot enable queue, incomplete definition";
    check("create queue q enabled=True", 15032, incomplete).await;
    let value = "Illegal attribute or resource value for resources_max.walltime";
    check("set queue batch resources_max.walltime = x", 15016, value).await;
    let value = "Illegal attribute or resource value for max_running";
    check("set queue batch max_running = x", 15016, value).await;
    let unknown = "Unknown resource type  resources_max.nosuch";
    check("set queue batch resources_max.nosuch = 1", 15037, unknown).await;
    let read_only = "Cannot set attribute, read only or insufficient permission  total_jobs";
    check("set queue batch total_jobs = 1", 15003, read_only).await;
    let wrong = "Type of queue routeq incompatible with attribute max_user_run";
    check("set queue routeq max_user_run = 1", 15028, wrong).await;
    let twice = "Duplicate entry in list  acl_users";
    check("set queue aclq acl_users += bob", 15057, twice).await;
    let types = "Bad type in disallowed_types list";
    check("set queue batch disallowed_types = big", 15077, types).await;
    check(
        "create node nosuchhost.invalid np=8",
        15064,
        "Unknown node ",
    )
    .await;
    check("set node nosuch np=8", 15064, "Unknown node ").await;
    let host = "Access from host not allowed, or unknown host";
    check("set server managers = bob", 15010, host).await;
    let host = "Bad ACL entry in host list MSG=First bad host: nosuchhost.invalid";
    check("set server managers = bob@nosuchhost.invalid", 15075, host).await;
    check(
        "create server x",
        15004,
        "Invalid request MSG=Invalid object type",
    )
    .await;
}

/// Session I02: a node that was just made.
#[tokio::test]
async fn a_node_is_made_and_waits_for_its_agent() {
    let mut cluster = set_up().await;
    manage(&mut cluster, "create node localhost np=8;properties=big")
        .await
        .unwrap();
    let node = StatNodesRequest {
        node: "localhost".to_owned(),
    };
    let found = cluster.client.stat_nodes(node.clone()).await.unwrap();
    let found = found.into_inner().nodes;
    assert_eq!(found[0].state, "down,offline,MOM-list-not-sent");
    let shown = lines(&found[0].attributes);
    assert!(shown.contains(&"np = 8".to_owned()), "{shown:?}");
    assert!(shown.contains(&"properties = big".to_owned()), "{shown:?}");
    check_refused(
        &mut cluster,
        "create node localhost",
        15068,
        "Node name already exists",
    )
    .await;
    let mut cluster = cluster.restart().await;
    let found = cluster.client.stat_nodes(node.clone()).await.unwrap();
    assert_eq!(found.into_inner().nodes[0].state, "down");
    manage(&mut cluster, "delete node localhost").await.unwrap();
    assert!(cluster.client.stat_nodes(node).await.is_err());
}

async fn submit(cluster: &mut Cluster, queue: &str, walltime: &str) -> Result<String, Status> {
    let attribute = |name: &str, resource: &str, value: &str| Attribute {
        name: name.to_owned(),
        resource: resource.to_owned(),
        value: value.to_owned(),
    };
    let mut attributes = vec![attribute("Hold_Types", "", "u")];
    if !walltime.is_empty() {
        attributes.push(attribute("Resource_List", "walltime", walltime));
    }
    let request = SubmitRequest {
        script: b"true\n".to_vec(),
        attributes,
        variables: Vec::new(),
        destination: queue.to_owned(),
    };
    let reply = cluster.client.0.submit(request).await?;
    Ok(reply.into_inner().job_id)
}

/// Sessions B10, B11 and B12.
#[tokio::test]
async fn queues_refuse_jobs_in_the_words_of_torque() {
    let mut cluster = set_up().await;
    manage(
        &mut cluster,
        "create queue disabledq queue_type=e;enabled=f;started=t",
    )
    .await
    .unwrap();
    let user = std::env::var("USER").unwrap_or_default();
    let mut check = async |queue: &str, walltime: &str, number: u16, text: &str| {
        let status = submit(&mut cluster, queue, walltime).await.unwrap_err();
        let (seen, told) = refusal(&status);
        let told = told.replace(&format!("user {user}@"), "user alice@");
        assert_eq!(
            (seen, told.replace("user root@", "user alice@")),
            (number, text.to_owned())
        );
    };
    check(
        "nosuch",
        "",
        15020,
        "Unknown queue MSG=requested queue not found",
    )
    .await;
    let disabled = "Queue is not enabled MSG=queue is disabled: user alice@hn1, queue disabledq";
    check("disabledq", "", 15023, disabled).await;
    let acl = "Unauthorized Request  MSG=user ACL rejected the submitting user: user alice@hn1, queue aclq";
    check("aclq", "", 15007, acl).await;
    let most =
        "Job exceeds queue resource limits MSG=cannot satisfy queue max walltime requirement";
    check("limitq", "03:00:00", 15038, most).await;
    let least =
        "Job exceeds queue resource limits MSG=Cannot satisfy queue min walltime requirement";
    check("limitq", "30", 15038, least).await;
}

#[tokio::test]
async fn qterm_ends_the_server() {
    let mut cluster = set_up().await;
    let wrong = ShutdownRequest {
        kind: "delay".to_owned(),
    };
    let status = cluster.client.shutdown(wrong).await.unwrap_err();
    assert_eq!(refusal(&status).0, 15004);
    let quick = ShutdownRequest {
        kind: "quick".to_owned(),
    };
    cluster.client.shutdown(quick).await.unwrap();
    let asked = cluster.server.asked_to_stop.clone();
    tokio::time::timeout(DEADLINE, asked.cancelled())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_server_that_schedules_nothing_is_idle() {
    let mut cluster = set_up().await;
    manage(&mut cluster, "set server scheduling = False")
        .await
        .unwrap();
    let server = cluster
        .client
        .stat_server(StatServerRequest {})
        .await
        .unwrap();
    let server = lines(&server.into_inner().attributes);
    assert_eq!(server[..2], ["server_state = Idle", "scheduling = False"]);
}
