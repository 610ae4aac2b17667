//! What goes wrong: full disks, wrong agents, broken connections, two servers.

use capstan_proto::PROTOCOL;
use capstan_proto::wire::agent_message::Message as Say;
use capstan_proto::wire::{Heartbeat, StatNodesRequest, StatServerRequest};
use capstan_server::Server;
use capstan_store::{MemoryDisk, MemoryStore};
use tonic::Code;

use crate::agent::{Agent, hello};
use crate::cluster::{Cluster, refusal, settings};

/// Nothing of a group that could not be stored is seen, done or numbered; the next one goes through.
#[tokio::test]
async fn a_full_disk_refuses_and_loses_nothing() {
    let mut cluster = Cluster::start("").await;
    let (_agent, _) = Agent::attach(cluster.server.agents_addr, hello("node01", "a1")).await;
    let first = cluster.submit(&[("Hold_Types", "u")]).await.unwrap();
    cluster.disk.set_full(true);
    let status = cluster.submit(&[]).await.unwrap_err();
    let (number, text) = refusal(&status);
    assert_eq!((number, status.code()), (15117, Code::ResourceExhausted));
    assert!(
        text.starts_with("Error writing file MSG=nothing was stored: "),
        "{text}"
    );
    let server = cluster
        .client
        .stat_server(StatServerRequest {})
        .await
        .unwrap()
        .into_inner();
    let total = server
        .attributes
        .iter()
        .find(|a| a.name == "total_jobs")
        .unwrap();
    assert_eq!(total.value, "1");
    cluster.disk.set_full(false);
    let second = cluster.submit(&[("Hold_Types", "u")]).await.unwrap();
    assert_eq!((first.as_str(), second.as_str()), ("1.hn1", "2.hn1"));
}

/// A report that cannot be stored must not be lost: the agent is cut off, so that it says everything again.
#[tokio::test]
async fn an_agent_whose_report_could_not_be_stored_is_cut_off() {
    let mut cluster = Cluster::start("").await;
    let addr = cluster.server.agents_addr;
    let (mut agent, _) = Agent::attach(addr, hello("node01", "a1")).await;
    let id = cluster.submit(&[]).await.unwrap();
    let spec = agent.told_to_start().await;
    cluster.disk.set_full(true);
    agent.started(spec.attempt).await;
    assert_eq!(agent.hear().await.unwrap_or_default(), None);
    cluster.disk.set_full(false);
    let mut again = hello("node01", "a1");
    again.attempts = vec![crate::agent::known(
        spec.attempt,
        &id,
        capstan_proto::wire::known_attempt::Phase::Running(crate::agent::running(spec.attempt)),
    )];
    Agent::attach(addr, again).await;
    cluster.wait_until(&id, "session_id", "4711").await;
}

#[tokio::test]
async fn an_agent_of_another_protocol_is_refused_with_both_numbers() {
    let cluster = Cluster::start("").await;
    let mut other = hello("node01", "a1");
    other.protocol += 1;
    let agent = Agent::dial(cluster.server.agents_addr, Say::Hello(other)).await;
    let status = agent.unwrap().hear().await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    let text = status.message();
    let (theirs, ours) = (PROTOCOL + 1, PROTOCOL);
    let expected = [format!("protocol {theirs}"), format!("speaks {ours}")];
    assert!(expected.iter().all(|part| text.contains(part)), "{text}");
}

#[tokio::test]
async fn the_first_word_must_be_a_hello() {
    let cluster = Cluster::start("").await;
    let first = Say::Heartbeat(Heartbeat::default());
    let agent = Agent::dial(cluster.server.agents_addr, first).await;
    let status = agent.unwrap().hear().await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
}

/// The second of two agents with one name is told so, and the first goes on.
#[tokio::test]
async fn a_node_name_belongs_to_one_agent() {
    let mut cluster = Cluster::start("").await;
    let addr = cluster.server.agents_addr;
    let (mut first, _) = Agent::attach(addr, hello("node01", "a1")).await;
    let second = Agent::dial(addr, Say::Hello(hello("node01", "a2"))).await;
    let status = second.unwrap().hear().await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists);
    assert!(status.message().contains("node01"), "{status}");
    cluster.submit(&[]).await.unwrap();
    first.told_to_start().await;
}

/// A node whose agent is gone is shown as down after the time for it, and gets no work.
#[tokio::test]
async fn a_node_without_an_agent_goes_down() {
    let mut cluster = Cluster::start("node_down_after_secs = 0\nnode_lost_after_secs = 3600").await;
    let addr = cluster.server.agents_addr;
    let (agent, _) = Agent::attach(addr, hello("node01", "a1")).await;
    cluster.wait_for_node("node01", "free").await;
    drop(agent);
    cluster.wait_for_node("node01", "down").await;
    Agent::attach(addr, hello("node01", "a1")).await;
    let status = cluster.client.stat_nodes(StatNodesRequest {
        node: "nosuch".to_owned(),
    });
    let (number, text) = refusal(&status.await.unwrap_err());
    assert_eq!(
        (number, &*text),
        (15064, "Unknown node  MSG=cannot locate specified node")
    );
}

#[tokio::test]
async fn a_second_server_on_one_run_folder_is_refused() {
    let cluster = Cluster::start("").await;
    let (store, state) = MemoryStore::open(&MemoryDisk::default());
    let settings = settings(&cluster.folder, "");
    let error = Server::start(settings, Box::new(store), state)
        .await
        .err()
        .unwrap();
    assert!(
        error.to_string().contains("another server runs on"),
        "{error}"
    );
}
