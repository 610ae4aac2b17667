//! `pbsdsh` and `pbs_track` as whole programs, against a scripted agent's door.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use capstan_proto::wire::node_door_server::{NodeDoor, NodeDoorServer};
use capstan_proto::wire::task_output::Output as Said;
use capstan_proto::wire::{
    AdoptProcessRequest, ContainerInput, ContainerOutput, Done, ListPlacesReply, ListPlacesRequest,
    RunTaskRequest, TaskOutput,
};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status, Streaming};

/// Three places on two nodes. A task says its place and its words, and exits with the number that is its last word.
struct Door;

#[tonic::async_trait]
impl NodeDoor for Door {
    type RunContainerStream = tokio_stream::Empty<Result<ContainerOutput, Status>>;
    type RunTaskStream = tokio_stream::Iter<std::vec::IntoIter<Result<TaskOutput, Status>>>;

    async fn run_container(
        &self,
        _: Request<Streaming<ContainerInput>>,
    ) -> Result<Response<Self::RunContainerStream>, Status> {
        Err(Status::unimplemented("only tasks"))
    }

    async fn list_places(
        &self,
        _: Request<ListPlacesRequest>,
    ) -> Result<Response<ListPlacesReply>, Status> {
        let nodes = ["gpu01", "gpu01", "cpu01"].map(str::to_owned).to_vec();
        Ok(Response::new(ListPlacesReply { nodes }))
    }

    async fn run_task(
        &self,
        request: Request<Streaming<RunTaskRequest>>,
    ) -> Result<Response<Self::RunTaskStream>, Status> {
        let mut said = request.into_inner();
        let RunTaskRequest {
            place, arguments, ..
        } = said.message().await?.expect("a request");
        if arguments[0] == "refused" {
            return Err(Status::failed_precondition("the job is ending"));
        }
        let status = arguments.last().and_then(|word| word.parse().ok());
        let said = [
            Said::Started(place + 2),
            Said::Stdout(format!("{place}: {}\n", arguments.join(" ")).into_bytes()),
            Said::Stderr(format!("err {place}\n").into_bytes()),
            Said::ExitStatus(status.unwrap_or(0)),
        ];
        let said = said.map(|output| {
            Ok(TaskOutput {
                output: Some(output),
            })
        });
        Ok(Response::new(tokio_stream::iter(said.to_vec())))
    }

    async fn adopt_process(
        &self,
        request: Request<AdoptProcessRequest>,
    ) -> Result<Response<Done>, Status> {
        let AdoptProcessRequest { job_id, pid } = request.into_inner();
        match (job_id.as_str(), pid) {
            ("1.hn1", 1) => Err(Status::permission_denied("process 1 is none of yours")),
            ("1.hn1", _) => Ok(Response::new(Done {})),
            _ => Err(Status::not_found("no such job")),
        }
    }
}

/// Runs a line of shell that leads a session of its own, as a job's shell does; `$C` is the client.
async fn run(line: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("agent.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o666)).unwrap();
    let served = tokio::spawn(
        tonic::transport::Server::builder()
            .serve_with_incoming(NodeDoorServer::new(Door), UnixListenerStream::new(listener)),
    );
    let mut shell = Command::new("setsid");
    shell
        .args(["-w", "sh", "-c", line])
        .env("C", env!("CARGO_BIN_EXE_capstan"))
        .env("PBS_ENVIRONMENT", "PBS_BATCH")
        .env("PBS_NODEFILE", folder.path().join("aux/1.hn1"))
        .env_remove("CAPSTAN_AGENT_SOCKET");
    let ended = tokio::task::spawn_blocking(move || shell.output().unwrap()).await;
    served.abort();
    ended.unwrap()
}

async fn check(line: &str, stdout: &str, stderr: &str, status: i32) {
    let output = run(line).await;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(
        (
            text(&output.stdout).as_str(),
            text(&output.stderr).as_str(),
            output.status.code()
        ),
        (stdout, stderr, Some(status)),
        "{line}"
    );
}

#[tokio::test]
async fn a_program_runs_where_it_was_asked_for() {
    check(
        "$C pbsdsh -s a b",
        "0: a b\n1: a b\n2: a b\n",
        "err 0\nerr 1\nerr 2\n",
        0,
    )
    .await;
    check(
        "$C pbsdsh -s -u a -u",
        "0: a -u\n2: a -u\n",
        "err 0\nerr 2\n",
        0,
    )
    .await;
    check("$C pbsdsh -n 1 a", "1: a\n", "err 1\n", 0).await;
    check("$C pbsdsh -h cpu01 a", "2: a\n", "err 2\n", 0).await;
    check(
        "$C pbsdsh -c 4 a",
        "",
        "pbsdsh(): only 3 nodes available\n",
        1,
    )
    .await;
    check(
        "$C pbsdsh -h nosuch a",
        "",
        "pbsdsh(): nosuch not found\n",
        1,
    )
    .await;
}

/// The recorded session I05: what a task prints is the job's and passes by a pipe behind pbsdsh.
#[tokio::test]
async fn output_goes_to_the_job_unless_it_is_captured() {
    check("$C pbsdsh -n 0 a | tr a z", "0: a\n", "err 0\n", 0).await;
    check("$C pbsdsh -o -n 0 a | tr a z", "0: z\n", "err 0\n", 0).await;
}

/// The recorded session I05, word for word.
#[tokio::test]
async fn what_happens_is_told_in_torques_words() {
    let verbose = "pbsdsh(): spawned task 0\n\
        pbsdsh(): spawn event returned: 0 (1 spawns and 0 obits outstanding)\n\
        pbsdsh(): sending obit for task 0\n\
        err 0\n\
        pbsdsh(): obit event returned: 0 (0 spawns and 1 obits outstanding)\n\
        pbsdsh(): task 0 exit status 0\n";
    check("$C pbsdsh -v -n 0 true", "0: true\n", verbose, 0).await;
    let output = run("$C pbsdsh exit 3; echo rc=$?").await;
    let stderr = String::from_utf8(output.stderr).unwrap();
    let told: Vec<&str> = stderr
        .lines()
        .filter(|line| !line.starts_with("err"))
        .collect();
    let expected = [0, 1, 2].map(|task| format!("pbsdsh(): task {task} exit status 3"));
    assert_eq!(told, expected);
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(
        stdout.ends_with("rc=0\n") && stdout.lines().count() == 4,
        "{stdout}"
    );
    let refused = "pbsdsh(): error 17000 on spawn\npbsdsh(): the job is ending\n";
    check("$C pbsdsh -n 0 refused", "", refused, 0).await;
    let outside = "pbsdsh(): not executing under PBS\n";
    check("unset PBS_ENVIRONMENT; $C pbsdsh a", "", outside, 1).await;
}

#[tokio::test]
async fn a_process_becomes_one_of_a_job() {
    check("$C pbs_track -j 1.hn1 -- echo a -b", "a -b\n", "", 0).await;
    check("$C pbs_track -j 1.hn1 -b -- echo a; sleep 0", "a\n", "", 0).await;
    check("$C pbs_track -j 1.hn1 -a 77", "", "Success!\n", 0).await;
    let denied = "pbs_track: permission denied: process 1 is none of yours\n";
    check("$C pbs_track -j 1.hn1 -a 1", "", denied, 255).await;
    let unknown = "pbs_track: MOM could not find job 2.hn1\n";
    check("$C pbs_track -j 2.hn1 -- echo a", "", unknown, 255).await;
    let missing = "execvp failed with error 2, message:\nNo such file or directory\n";
    check("$C pbs_track -j 1.hn1 -- /nosuch", "", missing, 2).await;
}
