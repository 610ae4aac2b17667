//! What would become of a submission, and past cycles made again: neither leaves a trace.

use capstan_proto::wire::examine_reply::Outlook;
use capstan_proto::wire::server_message::Message as Hear;
use capstan_proto::wire::{
    Attribute, ExamineReply, ExamineRequest, StatServerRequest, SubmitRequest,
};
use capstan_server::{Server, past};
use capstan_store::{DiskStore, Options};
use clap::Parser;
use tonic::Status;

use crate::agent::{Agent, hello};
use crate::cluster::{Client, Cluster, refusal, settings};

fn request(attributes: &[(&str, &str)], queue: &str) -> SubmitRequest {
    let attributes = attributes.iter().map(|(name, value)| {
        let (name, resource) = name.split_once('.').unwrap_or((name, ""));
        Attribute {
            name: name.to_owned(),
            resource: resource.to_owned(),
            value: (*value).to_owned(),
        }
    });
    SubmitRequest {
        script: b"true\n".to_vec(),
        attributes: attributes.collect(),
        variables: Vec::new(),
        destination: queue.to_owned(),
    }
}

async fn examine(
    client: &mut Client,
    attributes: &[(&str, &str)],
    queue: &str,
) -> Result<ExamineReply, Status> {
    let request = ExamineRequest {
        submission: Some(request(attributes, queue)),
    };
    Ok(client.examine_job(request).await?.into_inner())
}

#[tokio::test]
async fn an_examination_stores_nothing_and_uses_no_number() {
    let mut cluster = Cluster::start("").await;
    let (_agent, _) = Agent::attach(cluster.server.agents_addr, hello("node01", "a1")).await;
    cluster.wait_for_node("node01", "free").await;
    let records = cluster.disk.records().len();
    let asked = [
        ("Job_Name", "what"),
        ("Resource_List.nodes", "1:ppn=2:gpus=2"),
    ];
    for _ in 0..3 {
        let reply = examine(&mut cluster.client, &asked, "").await.unwrap();
        let job = reply.job.unwrap();
        assert_eq!(job.id, "1.hn1");
        let value = |name: &str, resource: &str| {
            let mut all = job.attributes.iter();
            let found = all.find(|one| one.name == name && one.resource == resource);
            found.map(|one| one.value.clone()).unwrap_or_default()
        };
        assert_eq!(value("Job_Name", ""), "what");
        assert_eq!(value("Resource_List", "walltime"), "168:00:00");
        let default = &reply.defaults[0];
        assert_eq!(
            (default.name.as_str(), default.of.as_str()),
            ("walltime", "queue batch")
        );
        let Some(Outlook::Starts(start)) = reply.outlook else {
            panic!("it would wait: {:?}", reply.outlook);
        };
        let part = &start.parts[0];
        assert_eq!(
            (part.node.as_str(), part.cards.len(), part.slots.len()),
            ("node01", 2, 2)
        );
        assert_eq!((start.jobs, start.jobs_in_all), (1, 1));
    }
    assert_eq!(cluster.disk.records().len(), records, "nothing is stored");
    assert_eq!(
        cluster.submit(&asked).await.unwrap(),
        "1.hn1",
        "no number is used"
    );
    cluster.wait_until("1.hn1", "job_state", "R").await;

    // The cards are lent now: the same job would wait behind this one, and says why and until when.
    let reply = examine(&mut cluster.client, &asked, "").await.unwrap();
    let Some(Outlook::Waits(wait)) = reply.outlook else {
        panic!("it would start: {:?}", reply.outlook);
    };
    assert!(wait.reason.contains("wants 2 cards"), "{wait:?}");
    assert_eq!(wait.place_in_line, Some(1), "{wait:?}");
    assert!(
        wait.expected_start_secs.is_some(),
        "its nodes are reserved: {wait:?}"
    );
    assert_eq!(wait.confidence, "firm");

    // What is suggested comes true.
    let other = [("Resource_List.nodes", "1:ppn=3")];
    let reply = examine(&mut cluster.client, &other, "").await.unwrap();
    let Some(Outlook::Waits(wait)) = reply.outlook else {
        panic!("it would start: {:?}", reply.outlook);
    };
    for change in &wait.changes {
        let value = change.strip_prefix("-l nodes=").unwrap();
        let changed = [("Resource_List.nodes", value)];
        let reply = examine(&mut cluster.client, &changed, "").await.unwrap();
        assert!(
            matches!(reply.outlook, Some(Outlook::Starts(_))),
            "{change}"
        );
    }
    assert!(!wait.changes.is_empty(), "2 of 4 slots are free");
}

#[tokio::test]
async fn members_of_an_array_that_would_start_are_counted() {
    let mut cluster = Cluster::start("").await;
    let (_agent, _) = Agent::attach(cluster.server.agents_addr, hello("node01", "a1")).await;
    cluster.wait_for_node("node01", "free").await;
    let asked = [
        ("job_array_request", "0-9"),
        ("Resource_List.nodes", "1:gpus=1"),
    ];
    let reply = examine(&mut cluster.client, &asked, "").await.unwrap();
    assert_eq!(reply.job.unwrap().id, "1[].hn1");
    let Some(Outlook::Starts(start)) = reply.outlook else {
        panic!("it would wait: {:?}", reply.outlook);
    };
    assert_eq!((start.jobs, start.jobs_in_all), (2, 10));
}

#[tokio::test]
async fn what_would_be_refused_is_refused_alike() {
    let mut cluster = Cluster::start("").await;
    let cases: [(&[(&str, &str)], &str); 4] = [
        (&[], "nosuch"),
        (&[("Resource_List.nosuch", "1")], ""),
        (&[("Resource_List.nodes", "1:gpus=99")], ""),
        (&[("Priority", "5000")], ""),
    ];
    for (asked, queue) in cases {
        let examined = examine(&mut cluster.client, asked, queue)
            .await
            .unwrap_err();
        let submitted = cluster.client.0.submit(request(asked, queue)).await;
        let submitted = submitted.unwrap_err();
        assert_eq!(refusal(&examined), refusal(&submitted), "{asked:?} {queue}");
        assert_eq!(examined.code(), submitted.code());
    }
}

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    arguments: past::Arguments,
}

/// What `capstan replay ARGUMENTS` prints, and its status.
fn replayed(store: &std::path::Path, arguments: &[&str]) -> (String, u8) {
    let store = store.to_str().unwrap();
    let own = ["replay", "--store", store];
    let words = own.iter().chain(arguments);
    let line = Line::try_parse_from(words).unwrap();
    let mut out = Vec::new();
    let status = past::run(&line.arguments, &mut out).unwrap();
    (String::from_utf8(out).unwrap(), status)
}

/// A server on disk with a node runs some jobs; every cycle that placed something is made again while it runs and after.
#[tokio::test]
async fn every_cycle_of_a_run_is_made_again_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let (disk, state, _) = DiskStore::open(&store, Options::default()).unwrap();
    let server = Server::start(settings(&folder, ""), Box::new(disk), state)
        .await
        .unwrap();
    let mut client = Client::connect(&server.socket).await;
    let (mut agent, _) = Agent::attach(server.agents_addr, hello("node01", "a1")).await;
    client.wait_for_node("node01", "free").await;
    for round in 1..=5 {
        let first = client
            .submit(&[("Resource_List.nodes", "1:ppn=2:gpus=2")])
            .await
            .unwrap();
        let spec = agent.told_to_start().await;
        agent.started(spec.attempt).await;
        client.wait_until(&first, "session_id", "4711").await;
        let second = client
            .submit(&[("Resource_List.nodes", "1:gpus=1")])
            .await
            .unwrap();
        assert_eq!(second, format!("{}.hn1", 2 * round));
        agent.ended(spec.attempt, 0).await;
        client.wait_until(&first, "job_state", "C").await;
        let forget = agent.hear().await.unwrap();
        assert!(matches!(forget, Some(Hear::Forget(_))), "{forget:?}");
        let spec = agent.told_to_start().await;
        agent.started(spec.attempt).await;
        client.wait_until(&second, "session_id", "4711").await;
        agent.ended(spec.attempt, 0).await;
        client.wait_until(&second, "job_state", "C").await;
        let forget = agent.hear().await.unwrap();
        assert!(matches!(forget, Some(Hear::Forget(_))), "{forget:?}");
    }
    assert_eq!(
        replayed(&store, &["--check"]),
        ("10 cycles as stored, 0 not\n".to_owned(), 0)
    );
    let (listed, _) = replayed(&store, &["--list"]);
    assert_eq!(listed.lines().count(), 10, "{listed}");
    let (cycle, status) = replayed(&store, &["--job", "3"]);
    assert_eq!(status, 0, "{cycle}");
    assert!(cycle.contains("placed  1, as stored in record "), "{cycle}");
    assert!(
        cycle.contains("  3.hn1  node01 slots 0-1 cards 0,1\n"),
        "{cycle}"
    );
    let now = client.stat_server(StatServerRequest {}).await;
    assert!(now.is_ok(), "the server goes on");
    drop(client);
    server.stop().await.unwrap();
    let (again, _) = replayed(&store, &["--job", "3"]);
    assert_eq!(again, cycle, "the same bytes, whenever it is asked");
    let (json, _) = replayed(&store, &["--job", "3", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["stored"]["verdict"], "same");
    assert_eq!(value["placements"][0]["job"], "3.hn1");
    // The cycle in force at its very time is that one; a moment before, the job waited for the scheduler.
    let at = value["at"]
        .as_str()
        .unwrap()
        .replace(' ', "T")
        .replace("TUTC", "Z");
    let (same, _) = replayed(&store, &["--at", &at, "--json"]);
    assert_eq!(same, json);
    let (end, _) = replayed(&store, &["--at", "4102444800"]);
    assert!(
        end.contains("placed  0, as stored: a cycle that places nothing"),
        "{end}"
    );
    assert!(end.contains("waits   0\n"), "{end}");
}

#[test]
fn what_the_journal_does_not_have_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let line = |words: &[&str]| {
        let own = ["replay", "--store", folder.path().to_str().unwrap()];
        let words = own.iter().chain(words);
        let line = Line::try_parse_from(words).unwrap();
        format!(
            "{:#}",
            past::run(&line.arguments, &mut Vec::new()).unwrap_err()
        )
    };
    let missing = line(&["--list"]);
    assert!(missing.contains("reading the store"), "{missing}");
    assert!(
        Line::try_parse_from(["replay"]).is_err(),
        "something must be asked for"
    );
    assert!(Line::try_parse_from(["replay", "--at", "yesterday"]).is_err());
    assert!(Line::try_parse_from(["replay", "--list", "--check"]).is_err());
}
