//! An engine that hangs keeps its socket and takes requests, and answers none: every step of a start gives up on it in time,
//! and nothing that lasts as long as a container does is cut.

mod dialogue;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use capstan_runtime::{DockerEngine, Limits};
use capstan_supervisor::containers::testing::spec;
use capstan_supervisor::containers::{ContainerEngine, ContainerId, EngineError, EnterSpec};
use capstan_types::AgentId;
use dialogue::{json, request};
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};

const LIMITS: Limits = Limits {
    hello: Duration::from_millis(300),
    answer: Duration::from_millis(300),
    work: Duration::from_millis(1000),
};
/// Longer than all of them.
const LATE: Duration = Duration::from_millis(1500);
/// Under all limits of one start together, on a busy host.
const PATIENCE: Duration = Duration::from_secs(20);

/// An engine that takes all it is asked for and hangs at requests whose line has these words in it.
fn serve(socket: &Path, hangs_at: &'static str) {
    let listener = UnixListener::bind(socket).expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(converse(stream, hangs_at));
        }
    });
}

async fn converse(mut stream: UnixStream, hangs_at: &'static str) {
    while let Some((line, _)) = request(&mut stream).await {
        if line.contains(hangs_at) {
            std::future::pending::<()>().await;
        }
        let answer = match line.as_str() {
            line if line.contains("/attach?") => {
                "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n".to_owned()
            }
            line if line.contains("/wait?") => {
                let head = "HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n";
                stream.write_all(head.as_bytes()).await.expect("written");
                tokio::time::sleep(LATE).await;
                "{\"StatusCode\":3}\n".to_owned()
            }
            line if line.contains("/containers/create") => {
                json("201 Created", "{\"Id\":\"abc\",\"Warnings\":[]}")
            }
            line if line.contains("/version") => json("200 OK", "{\"ApiVersion\":\"1.41\"}"),
            line if line.contains("/images/") => json("200 OK", "{\"Id\":\"sha256:1\"}"),
            line if line.contains("/json?") => json("200 OK", "[]"),
            _ => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
        };
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn engine(hangs_at: &'static str) -> (tempfile::TempDir, DockerEngine) {
    let folder = tempfile::tempdir().expect("folder");
    let socket: PathBuf = folder.path().join("docker.sock");
    serve(&socket, hangs_at);
    let engine = DockerEngine::at(socket).with_limits(LIMITS);
    (folder, engine)
}

/// What an agent asks for one container.
async fn start(engine: &DockerEngine) -> Result<(), EngineError> {
    let agent = AgentId::from("hanging");
    engine.image("capstan:1").await?;
    engine
        .ensure_started(&spec(&agent, "one", &["true"]))
        .await?;
    Ok(())
}

#[tokio::test]
async fn every_step_of_a_start_gives_up_on_an_engine_that_hangs() {
    let steps = ["/version", "/images/", "/create", "/attach?", "/start"];
    for step in steps {
        let (_folder, engine) = engine(step);
        let began = Instant::now();
        let failed = tokio::time::timeout(PATIENCE, start(&engine)).await;
        let error = failed.expect(step).expect_err(step);
        assert!(error.is_transient(), "{step}: {error}");
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        assert!(
            cause.is_some_and(|cause| cause.contains("hangs")),
            "{step}: {error:?}"
        );
        assert!(began.elapsed() >= LIMITS.answer, "{step}");
    }
    let (_folder, engine) = engine("nothing");
    start(&engine).await.expect("it answers");
}

#[tokio::test]
async fn who_enters_a_container_gives_up_on_an_engine_that_hangs() {
    let entered = EnterSpec {
        command: vec!["true".to_owned()],
        environment: Vec::new(),
        terminal: None,
    };
    let id = ContainerId("abc".to_owned());
    let (_folder, engine) = engine("/exec");
    let created = tokio::time::timeout(PATIENCE, engine.create_entered(&id, &entered)).await;
    assert!(created.expect("in time").expect_err("hangs").is_transient());
    let begun = tokio::time::timeout(PATIENCE, engine.enter("exec", None)).await;
    assert!(begun.expect("in time").expect_err("hangs").is_transient());
}

#[tokio::test]
async fn an_engine_that_was_found_away_is_given_up_soon() {
    let (_folder, engine) = engine("");
    let hello = tokio::time::timeout(PATIENCE, engine.owned(&AgentId::from("hanging"))).await;
    assert!(hello.expect("in time").expect_err("hangs").is_transient());
}

#[tokio::test]
async fn the_wait_for_a_container_lasts_as_long_as_that() {
    let (_folder, engine) = engine("nothing");
    let id = ContainerId("abc".to_owned());
    assert_eq!(engine.wait(&id).await.expect("a code"), 3);
}
