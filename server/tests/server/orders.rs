//! Orders about jobs, from the client's call to the agent's stream and over a restart of the server.

use capstan_proto::wire::server_message::Message as Hear;
use capstan_proto::wire::{
    AlterJobRequest, Attribute, CheckpointJobRequest, DeleteJobRequest, MoveJobRequest,
    OrderJobsRequest, RerunJobRequest, RunJobRequest, StatJobsRequest, Variable,
};

use crate::agent::{Agent, hello};
use crate::cluster::{Client, Cluster, refusal};

const QUEUES: &str = "[queues.short]\nresources_default = {walltime = '00:10:00'}\n";

fn attributes(list: &[(&str, &str)]) -> Vec<Attribute> {
    let attributes = list.iter().map(|(name, value)| {
        let (name, resource) = name.split_once('.').unwrap_or((name, ""));
        Attribute {
            name: name.to_owned(),
            resource: resource.to_owned(),
            value: (*value).to_owned(),
        }
    });
    attributes.collect()
}

async fn alter(client: &mut Client, id: &str, list: &[(&str, &str)]) -> Result<(), (u16, String)> {
    let request = AlterJobRequest {
        job_id: id.to_owned(),
        attributes: attributes(list),
        ..AlterJobRequest::default()
    };
    let answer = client.alter_job(request).await;
    answer.map(drop).map_err(|status| refusal(&status))
}

fn told(number: u16, text: &str) -> Result<(), (u16, String)> {
    Err((number, text.to_owned()))
}

/// What was altered is what the node gets, also by a server that was restarted since.
#[tokio::test]
async fn an_altered_job_starts_as_it_was_altered() {
    let mut cluster = Cluster::start("").await;
    let id = cluster
        .submit(&[("Hold_Types", "u"), ("Resource_List.walltime", "300")])
        .await
        .unwrap();
    let request = AlterJobRequest {
        job_id: id.clone(),
        attributes: attributes(&[
            ("Job_Name", "other"),
            ("Resource_List.walltime", "60"),
            ("Mail_Points", "be"),
            ("Account_Name", "acct"),
            ("umask", "022"),
            ("comment", "as ordered"),
        ]),
        replace_variables: true,
        variables: vec![Variable {
            name: "ONLY".to_owned(),
            value: "this".to_owned(),
        }],
        ..AlterJobRequest::default()
    };
    cluster.client.alter_job(request).await.unwrap();
    assert_eq!(cluster.value(&id, "Job_Name").await, "other");
    assert_eq!(cluster.value(&id, "Account_Name").await, "acct");
    assert_eq!(cluster.value(&id, "Mail_Points").await, "be");
    assert_eq!(cluster.value(&id, "comment").await, "as ordered");

    let mut cluster = cluster.restart().await;
    let (mut agent, _) = Agent::attach(cluster.server.agents_addr, hello("node01", "a1")).await;
    alter(&mut cluster.client, &id, &[("Hold_Types", "n")])
        .await
        .unwrap();
    let spec = agent.told_to_start().await;
    assert_eq!((spec.job_name.as_str(), spec.umask), ("other", 0o22));
    assert_eq!(spec.walltime_secs, Some(60));
    assert_eq!(spec.script, b"echo hello\n");
    let variables: Vec<&str> = spec.variables.iter().map(|v| v.name.as_str()).collect();
    assert_eq!(
        variables,
        ["ONLY"],
        "all that was sent at submission is gone"
    );
    assert_eq!(
        spec.output.unwrap().stdout,
        "hn1:/tmp/STDIN.o1",
        "the name of the output stays"
    );
}

#[tokio::test]
async fn alterations_are_refused_in_the_words_of_torque() {
    let mut cluster = Cluster::start("").await;
    let client = &mut cluster.client;
    let id = client.submit(&[("Hold_Types", "u")]).await.unwrap();
    let unknown = "Unknown Job Id Error MSG=cannot locate job";
    assert_eq!(
        alter(client, "99999", &[("Priority", "1")]).await,
        told(15001, unknown)
    );
    assert_eq!(
        alter(client, &id, &[("Priority", "x")]).await,
        told(15016, "Illegal attribute or resource value for")
    );
    assert_eq!(
        alter(client, &id, &[("exec_host", "node01")]).await,
        told(
            15003,
            "Cannot set attribute, read only or insufficient permission "
        )
    );
    assert_eq!(
        alter(client, &id, &[("nosuch", "1")]).await,
        told(15002, "Undefined attribute ")
    );
    let resource = "Unknown resource type  Resource_List.nosuch";
    assert_eq!(
        alter(client, &id, &[("Resource_List.nosuch", "1")]).await,
        told(15037, resource)
    );
    let (mut agent, _) = Agent::attach(cluster.server.agents_addr, hello("node01", "a1")).await;
    let client = &mut cluster.client;
    alter(client, &id, &[("Hold_Types", "n")]).await.unwrap();
    agent.told_to_start().await;
    let fixed = "Cannot modify attribute while job running  Account_Name";
    assert_eq!(
        alter(client, &id, &[("Account_Name", "x")]).await,
        told(15017, fixed)
    );
    alter(client, &id, &[("Resource_List.walltime", "77")])
        .await
        .unwrap();
    match agent.hear().await.unwrap() {
        Some(Hear::Adjust(adjust)) => assert_eq!(adjust.walltime_secs, Some(77)),
        other => panic!("not told of the limit but {other:?}"),
    }
    let request = CheckpointJobRequest { job_id: id };
    let refused = client.checkpoint_job(request).await.unwrap_err();
    let text = "Invalid request MSG=job is not checkpointable".to_owned();
    assert_eq!(refusal(&refused), (15004, text));
}

#[tokio::test]
async fn a_job_is_moved_with_the_defaults_of_its_new_queue() {
    let mut cluster = Cluster::start(QUEUES).await;
    let id = cluster.submit(&[("Hold_Types", "u")]).await.unwrap();
    let to = |destination: &str| MoveJobRequest {
        job_id: id.clone(),
        destination: destination.to_owned(),
    };
    cluster.client.move_job(to("short@hn1")).await.unwrap();
    assert_eq!(cluster.value(&id, "queue").await, "short");
    let refused = cluster.client.move_job(to("short")).await.unwrap_err();
    let there = format!("Job is already in destination queue. MSG=Job {id} already in queue short");
    assert_eq!(refusal(&refused), (15127, there));
    let refused = cluster.client.move_job(to("nosuch")).await.unwrap_err();
    assert_eq!(refusal(&refused), (15020, "Unknown queue".to_owned()));
    let mut other = to("batch");
    other.job_id = "99999".to_owned();
    let refused = cluster.client.move_job(other).await.unwrap_err();
    assert_eq!(refusal(&refused).0, 15001);
}

/// Sessions E06 and E07: started on the node of choice, stopped, started again as another attempt.
#[tokio::test]
async fn a_job_is_run_on_a_chosen_node_and_rerun() {
    let mut cluster = Cluster::start("").await;
    let address = cluster.server.agents_addr;
    let (_first, _) = Agent::attach(address, hello("node01", "a1")).await;
    let (mut second, _) = Agent::attach(address, hello("node02", "a2")).await;
    let id = cluster.submit(&[("Hold_Types", "u")]).await.unwrap();
    let run = |hosts: &str| RunJobRequest {
        job_id: id.clone(),
        hosts: hosts.to_owned(),
        asynchronous: false,
    };
    let rerun = || RerunJobRequest {
        job_id: id.clone(),
        force: false,
        message: String::new(),
    };
    let refused = cluster.client.rerun_job(rerun()).await.unwrap_err();
    let state = format!("Request invalid for state of job MSG=job {id} is in a bad state");
    assert_eq!(refusal(&refused), (15018, state));
    let refused = cluster.client.run_job(run("nosuchhost")).await.unwrap_err();
    assert_eq!(refusal(&refused).0, 15064);
    cluster.client.run_job(run("node02:ppn=2")).await.unwrap();
    let spec = second.told_to_start().await;
    assert_eq!(spec.node_file, ["node02", "node02"]);
    second.started(spec.attempt).await;
    cluster.wait_until(&id, "session_id", "4711").await;
    let refused = cluster.client.run_job(run("")).await.unwrap_err();
    let running = "Request invalid for state of job MSG=job already running".to_owned();
    assert_eq!(refusal(&refused), (15018, running));
    cluster.client.rerun_job(rerun()).await.unwrap();
    match second.hear().await.unwrap() {
        Some(Hear::Stop(stop)) => {
            assert_eq!((stop.attempt, stop.grace_secs), (spec.attempt, 0));
        }
        other => panic!("not told to stop but {other:?}"),
    }
    second.ended(spec.attempt, 265).await;
    cluster.wait_until(&id, "job_state", "H").await;
    assert_eq!(cluster.value(&id, "start_count").await, "1");
    assert_eq!(cluster.value(&id, "exit_status").await, "0");
}

#[tokio::test]
async fn two_jobs_change_places_and_a_purged_one_is_unknown() {
    let mut cluster = Cluster::start("").await;
    let first = cluster.submit(&[("Hold_Types", "u")]).await.unwrap();
    let second = cluster.submit(&[("Hold_Types", "u")]).await.unwrap();
    let swap = OrderJobsRequest {
        first: first.clone(),
        second: second.clone(),
    };
    cluster.client.order_jobs(swap).await.unwrap();
    let mut listing = cluster.client.stat_jobs(StatJobsRequest::default()).await;
    let listing = listing.as_mut().unwrap().get_mut().message().await.unwrap();
    let rows = listing.unwrap().rows;
    let ids: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
    assert_eq!(ids, [second.as_str(), first.as_str()]);
    let (mut agent, _) = Agent::attach(cluster.server.agents_addr, hello("node01", "a1")).await;
    for id in [&first, &second] {
        let wish = [("Resource_List.nodes", "1:ppn=4"), ("Hold_Types", "n")];
        alter(&mut cluster.client, id, &wish[..1]).await.unwrap();
    }
    alter(&mut cluster.client, &second, &[("Hold_Types", "n")])
        .await
        .unwrap();
    assert_eq!(agent.told_to_start().await.job_id, second);
    let purge = DeleteJobRequest {
        job_id: first.clone(),
        purge: true,
        ..DeleteJobRequest::default()
    };
    cluster.client.delete_job(purge).await.unwrap();
    let refused = cluster.client.job(&first).await.unwrap_err();
    assert_eq!(refusal(&refused).0, 15001);
}
