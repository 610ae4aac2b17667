//! The life of jobs and nodes as clients and agents see it, restarts included.

use capstan_proto::wire::agent_message::Message as Say;
use capstan_proto::wire::known_attempt::Phase;
use capstan_proto::wire::server_message::Message as Hear;
use capstan_proto::wire::{
    AttemptEnded, CardUse, DeleteJobRequest, Heartbeat, HoldJobRequest, StatJobsRequest,
    StatNodesRequest, StatQueuesRequest, StatServerRequest,
};

use capstan_server::Server;
use capstan_store::{DiskStore, Options};

use crate::agent::{Agent, hello, known, over, running};
use crate::cluster::{Client, Cluster, refusal, settings};

/// From qsub to history: the order that the node gets, what qstat says at each step, and the accounting log.
#[tokio::test]
async fn a_job_runs_from_submission_to_history() {
    let mut cluster = Cluster::start("[nodes.node01]\nproperties = ['S']").await;
    let (mut agent, welcome) =
        Agent::attach(cluster.server.agents_addr, hello("node01", "a1")).await;
    assert_eq!(
        (welcome.server.as_str(), welcome.attempts.len()),
        ("hn1", 0)
    );
    let asked = [
        ("Job_Name", "testjob"),
        ("Resource_List.nodes", "1:ppn=2:gpus=1:S"),
        ("Resource_List.walltime", "300"),
        ("Output_Path", "hn1:/tmp/$PBS_JOBID.out"),
    ];
    let id = cluster.submit(&asked).await.unwrap();
    assert_eq!(id, "1.hn1");
    let spec = agent.told_to_start().await;
    assert_eq!(
        (spec.job_id.as_str(), spec.script.as_slice()),
        ("1.hn1", &b"echo hello\n"[..])
    );
    assert_eq!(spec.node_file, ["node01", "node01"]);
    assert_eq!((spec.num_nodes, spec.num_ppn, spec.cores), (1, 2, 2));
    assert_eq!(
        spec.gpu_file,
        [format!("node01-gpu{}", spec.cards[0].index)]
    );
    assert_eq!(spec.cards[0].model, "Test Card");
    assert_eq!(
        (spec.walltime_secs, spec.umask, spec.kill_delay_secs),
        (Some(300), 0o077, 2)
    );
    let output = spec.output.unwrap();
    assert_eq!(output.stdout, "hn1:/tmp/$PBS_JOBID.out");
    assert_eq!(output.stderr, "hn1:/tmp/testjob.e1");
    let variables: Vec<&str> = spec.variables.iter().map(|v| v.name.as_str()).collect();
    assert_eq!(variables, ["PBS_O_QUEUE", "PBS_O_WORKDIR", "PBS_O_SERVER"]);

    agent.started(spec.attempt).await;
    cluster.wait_until(&id, "session_id", "4711").await;
    assert_eq!(cluster.value(&id, "job_state").await, "R");
    assert!(cluster.value(&id, "exec_host").await.starts_with("node01/"));
    agent.ended(spec.attempt, 0).await;
    cluster.wait_until(&id, "job_state", "C").await;
    assert_eq!(cluster.value(&id, "exit_status").await, "0");
    assert_eq!(cluster.value(&id, "resources_used").await, "00:01:01");
    assert_eq!(
        agent.hear().await.unwrap(),
        Some(Hear::Forget(spec.attempt))
    );

    let log = cluster.folder.path().join("state/accounting");
    cluster.server.stop().await.unwrap();
    let file = std::fs::read_dir(log)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let text = std::fs::read_to_string(file).unwrap();
    let letters: Vec<&str> = text
        .lines()
        .map(|line| line.split(';').nth(1).unwrap())
        .collect();
    assert_eq!(letters, ["Q", "S", "E"], "{text}");
}

/// A restart between start and end: the new server knows the job, welcomes its attempt, and hears how it ended.
#[tokio::test]
async fn a_restart_keeps_what_was_accepted_and_what_runs() {
    let mut cluster = Cluster::start("").await;
    let (mut agent, _) = Agent::attach(cluster.server.agents_addr, hello("node01", "a1")).await;
    let running_id = cluster
        .submit(&[("Resource_List.nodes", "1:ppn=4")])
        .await
        .unwrap();
    let spec = agent.told_to_start().await;
    agent.started(spec.attempt).await;
    cluster.wait_until(&running_id, "session_id", "4711").await;
    let waiting_id = cluster
        .submit(&[("Resource_List.nodes", "1:ppn=3")])
        .await
        .unwrap();
    let held_id = cluster.submit(&[("Hold_Types", "u")]).await.unwrap();

    let mut cluster = cluster.restart().await;
    assert_eq!(
        agent.hear().await.unwrap_or_default(),
        None,
        "the old stream has ended"
    );
    assert_eq!(cluster.value(&running_id, "job_state").await, "R");
    assert_eq!(cluster.value(&waiting_id, "job_state").await, "Q");
    assert_eq!(cluster.value(&held_id, "job_state").await, "H");
    let mut again = hello("node01", "a1");
    again.attempts = vec![known(
        spec.attempt,
        &running_id,
        Phase::Ended(over(spec.attempt, 3)),
    )];
    let (mut agent, _) = Agent::attach(cluster.server.agents_addr, again).await;
    cluster.wait_until(&running_id, "exit_status", "3").await;
    let mut heard = vec![
        agent.hear().await.unwrap().unwrap(),
        agent.hear().await.unwrap().unwrap(),
    ];
    heard.sort_by_key(|message| matches!(message, Hear::Start(_)));
    assert_eq!(heard[0], Hear::Forget(spec.attempt));
    let Hear::Start(start) = &heard[1] else {
        panic!("{heard:?}")
    };
    assert_eq!(start.spec.as_ref().unwrap().job_id, waiting_id);
    let next = cluster.submit(&[]).await.unwrap();
    assert_eq!(next, "4.hn1", "numbers go on");
}

/// The same on a store on disk, as the daemon has it.
#[tokio::test]
async fn the_state_folder_keeps_everything() {
    let folder = tempfile::tempdir().unwrap();
    let start = async || {
        let settings = settings(&folder, "");
        let dir = settings.state_dir.join("store");
        std::fs::create_dir_all(&dir).unwrap();
        let (store, state, _) = DiskStore::open(&dir, Options::default()).unwrap();
        let server = Server::start(settings, Box::new(store), state)
            .await
            .unwrap();
        let client = Client::connect(&server.socket).await;
        (server, client)
    };
    let (server, mut client) = start().await;
    let agent = Agent::attach(server.agents_addr, hello("node01", "a1")).await;
    let id = client
        .submit(&[("Hold_Types", "u"), ("Job_Name", "kept")])
        .await
        .unwrap();
    drop((agent, client));
    server.stop().await.unwrap();
    let (server, mut client) = start().await;
    assert_eq!(client.value(&id, "Job_Name").await, "kept");
    let variables = client.value(&id, "Variable_List").await;
    assert!(variables.contains("PBS_O_WORKDIR=/tmp"), "{variables}");
    drop(client);
    server.stop().await.unwrap();
}

/// A running attempt that the server still wants is welcomed and goes on.
#[tokio::test]
async fn a_reconnected_agent_keeps_its_attempts() {
    let mut cluster = Cluster::start("").await;
    let addr = cluster.server.agents_addr;
    let (mut old, _) = Agent::attach(addr, hello("node01", "a1")).await;
    let id = cluster.submit(&[]).await.unwrap();
    let spec = old.told_to_start().await;
    old.started(spec.attempt).await;
    cluster.wait_until(&id, "session_id", "4711").await;
    let mut again = hello("node01", "a1");
    again.attempts = vec![known(
        spec.attempt,
        &id,
        Phase::Running(running(spec.attempt)),
    )];
    let (new, welcome) = Agent::attach(addr, again).await;
    assert_eq!(welcome.attempts, [spec.attempt]);
    assert_eq!(
        old.hear().await.unwrap_or_default(),
        None,
        "the old connection is replaced"
    );
    cluster.wait_for_node("node01", "free").await;
    new.ended(spec.attempt, 0).await;
    cluster.wait_until(&id, "job_state", "C").await;
}

#[tokio::test]
async fn a_deleted_running_job_is_told_to_stop_and_ends() {
    let mut cluster = Cluster::start("").await;
    let (mut agent, _) = Agent::attach(cluster.server.agents_addr, hello("node01", "a1")).await;
    let id = cluster.submit(&[]).await.unwrap();
    let spec = agent.told_to_start().await;
    agent.started(spec.attempt).await;
    cluster.wait_until(&id, "session_id", "4711").await;
    let delete = DeleteJobRequest {
        job_id: id.clone(),
        grace_secs: Some(9),
        ..DeleteJobRequest::default()
    };
    cluster.client.delete_job(delete.clone()).await.unwrap();
    let Some(Hear::Stop(stop)) = agent.hear().await.unwrap() else {
        panic!("not told to stop")
    };
    assert_eq!(
        (stop.attempt, stop.signal, stop.grace_secs),
        (spec.attempt, 15, 9)
    );
    assert_eq!(cluster.value(&id, "job_state").await, "E");
    agent.ended(spec.attempt, 271).await;
    cluster.wait_until(&id, "exit_status", "271").await;
    let status = cluster.client.delete_job(delete).await.unwrap_err();
    let text = "Request invalid for state of job MSG=invalid state for job - COMPLETE";
    assert_eq!(refusal(&status), (15018, text.to_owned()));
}

#[tokio::test]
async fn holds_are_set_and_released() {
    let mut cluster = Cluster::start("").await;
    let (_agent, _) = Agent::attach(cluster.server.agents_addr, hello("node01", "a1")).await;
    let id = cluster.submit(&[("Hold_Types", "u")]).await.unwrap();
    let hold = |kinds: &str| HoldJobRequest {
        job_id: id.clone(),
        kinds: kinds.to_owned(),
    };
    cluster.client.hold_job(hold("o")).await.unwrap();
    assert_eq!(cluster.value(&id, "Hold_Types").await, "ou");
    cluster.client.release_job(hold("uo")).await.unwrap();
    assert_eq!(cluster.value(&id, "Hold_Types").await, "n");
    let status = cluster.client.hold_job(hold("x")).await.unwrap_err();
    assert_eq!(refusal(&status).0, 15016);
}

#[tokio::test]
async fn what_can_never_run_is_refused_and_what_waits_says_why() {
    let mut cluster = Cluster::start("[queues.mcc]\nresources_max = {walltime = '02:00:00'}").await;
    let addr = cluster.server.agents_addr;
    let (mut agent, _) = Agent::attach(addr, hello("node01", "a1")).await;
    let too_many = [("Resource_List.nodes", "1:gpus=3")];
    let status = cluster.submit(&too_many).await.unwrap_err();
    let (number, text) = refusal(&status);
    assert_eq!(number, 15038);
    let torque = "Job exceeds queue resource limits MSG=cannot locate feasible nodes (nodes file \
                  is empty, all systems are busy, or no nodes have the requested feature)";
    assert_eq!(text, torque);
    cluster
        .submit(&[("Resource_List.nodes", "1:gpus=2")])
        .await
        .unwrap();
    agent.told_to_start().await;
    let id = cluster
        .submit(&[("Resource_List.nodes", "1:gpus=1")])
        .await
        .unwrap();
    cluster
        .wait_until_starts(&id, "comment", "Not Running: ")
        .await;
}

/// The end of an attempt names cards that are not clean: the next heartbeat that finds nobody on them frees them.
#[tokio::test]
async fn an_unclean_card_is_lent_again_once_a_heartbeat_finds_it_clean() {
    let mut cluster = Cluster::start("").await;
    let addr = cluster.server.agents_addr;
    let (mut agent, _) = Agent::attach(addr, hello("node01", "a1")).await;
    let both_cards = [("Resource_List.nodes", "1:gpus=2")];
    let first = cluster.submit(&both_cards).await.unwrap();
    let attempt = agent.told_to_start().await.attempt;
    agent.started(attempt).await;
    let end = AttemptEnded {
        unclean_cards: vec!["GPU-node01-0".to_owned()],
        ..over(attempt, 0)
    };
    agent.say(Say::Ended(end)).await;
    cluster.wait_until(&first, "job_state", "C").await;
    let second = cluster.submit(&both_cards).await.unwrap();
    let waits = "Not Running: ";
    cluster.wait_until_starts(&second, "comment", waits).await;
    // A driver that does not answer has cleaned nothing, and the first look after the end may be an old one.
    agent.say(Say::Heartbeat(Heartbeat::default())).await;
    agent.say(Say::Heartbeat(all_clean())).await;
    loop {
        if let Some(Hear::Start(start)) = agent.hear().await.unwrap() {
            assert!(start.spec.unwrap().job_id.starts_with(&second));
            break;
        }
    }
}

fn all_clean() -> Heartbeat {
    let cards = (0..2).map(|index| CardUse {
        uuid: format!("GPU-node01-{index}"),
        ..CardUse::default()
    });
    Heartbeat {
        cards: cards.collect(),
        ..Heartbeat::default()
    }
}

/// Rows of all jobs, queues, nodes and the server agree with each other.
#[tokio::test]
async fn listings_show_jobs_queues_nodes_and_the_server() {
    let mut cluster = Cluster::start("").await;
    let (_agent, _) = Agent::attach(cluster.server.agents_addr, hello("node01", "a1")).await;
    for _ in 0..3 {
        cluster.submit(&[("Hold_Types", "u")]).await.unwrap();
    }
    let array = [("job_array_request", "0-4"), ("Hold_Types", "u")];
    assert_eq!(cluster.submit(&array).await.unwrap(), "4[].hn1");
    let request = StatJobsRequest {
        expand_arrays: true,
        ..StatJobsRequest::default()
    };
    let mut stream = cluster
        .client
        .stat_jobs(request)
        .await
        .unwrap()
        .into_inner();
    let mut ids = Vec::new();
    while let Some(batch) = stream.message().await.unwrap() {
        ids.extend(
            batch
                .rows
                .into_iter()
                .map(|row| format!("{} {}", row.id, row.state)),
        );
    }
    let expected = [
        "1.hn1 H",
        "2.hn1 H",
        "3.hn1 H",
        "4[0].hn1 H",
        "4[1].hn1 H",
        "4[2].hn1 H",
        "4[3].hn1 H",
        "4[4].hn1 H",
    ];
    assert_eq!(ids, expected);
    let queues = cluster
        .client
        .stat_queues(StatQueuesRequest::default())
        .await
        .unwrap();
    let batch = &queues.into_inner().queues[0];
    assert_eq!((batch.name.as_str(), batch.jobs["H"]), ("batch", 8));
    let nodes = cluster
        .client
        .stat_nodes(StatNodesRequest::default())
        .await
        .unwrap();
    let node = &nodes.into_inner().nodes[0];
    assert_eq!(
        (node.name.as_str(), node.state.as_str()),
        ("node01", "free")
    );
    let server = cluster
        .client
        .stat_server(StatServerRequest {})
        .await
        .unwrap()
        .into_inner();
    let journal = server
        .statistics
        .iter()
        .find(|a| a.name == "journal_fsyncs")
        .unwrap();
    assert!(journal.value.parse::<u64>().unwrap() >= 5, "{journal:?}");
}
