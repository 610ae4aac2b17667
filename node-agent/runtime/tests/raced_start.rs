//! A start that an agent asked for before it was killed may come true just when the next agent asks again: what the program
//! prints before that one listens is not lost.

mod dialogue;

use std::path::Path;
use std::sync::{Arc, Mutex};

use capstan_runtime::DockerEngine;
use capstan_supervisor::containers::testing::spec;
use capstan_supervisor::containers::{Attached, ContainerEngine, Output};
use capstan_types::AgentId;
use dialogue::{json, request};
use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};

/// The list of containers, made of what the creation was asked with.
type List = Arc<Mutex<String>>;

/// An engine that has the container already, not started, and whose program has begun to print when somebody attaches.
fn serve(socket: &Path) {
    let listener = UnixListener::bind(socket).expect("bound");
    let list = List::default();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(converse(stream, Arc::clone(&list)));
        }
    });
}

async fn converse(mut stream: UnixStream, list: List) {
    while let Some((line, body)) = request(&mut stream).await {
        let answer = match line.as_str() {
            line if line.contains("/version") => {
                json("200 OK", "{\"ApiVersion\":\"1.41\"}").into_bytes()
            }
            line if line.contains("/containers/create") => {
                *list.lock().expect("no panic") = listed(line, &body);
                json("409 Conflict", "{\"message\":\"the name is in use\"}").into_bytes()
            }
            line if line.contains("/containers/json") => {
                json("200 OK", &list.lock().expect("no panic")).into_bytes()
            }
            line if line.contains("/attach?") => {
                let head = "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
                [head.as_bytes(), &frame("tick\n")].concat()
            }
            line if line.contains("/logs?") => {
                let head = "HTTP/1.0 200 OK\r\n\r\n";
                let log = [head.as_bytes(), &frame("began\n"), &frame("tick\n")].concat();
                stream.write_all(&log).await.expect("written");
                return;
            }
            line if line.contains("/start") => b"HTTP/1.1 304 Not Modified\r\n\r\n".to_vec(),
            line => panic!("{line} is not expected"),
        };
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

fn listed(line: &str, body: &[u8]) -> String {
    let body: serde_json::Value = serde_json::from_slice(body).expect("a body");
    let name = line.split("name=").nth(1).expect("a name");
    let name = name.split([' ', '&']).next().expect("its end");
    let container = serde_json::json!({
        "Id": "abc", "Names": [format!("/{name}")], "Labels": body["Labels"], "State": "created", "Created": 5,
    });
    serde_json::Value::from(vec![container]).to_string()
}

/// A piece of stdout.
fn frame(text: &str) -> Vec<u8> {
    let mut frame = vec![1, 0, 0, 0];
    frame.extend((text.len() as u32).to_be_bytes());
    frame.extend(text.as_bytes());
    frame
}

#[tokio::test]
async fn what_a_program_printed_before_its_second_start_was_asked_for_is_heard() {
    let folder = tempfile::tempdir().expect("folder");
    let socket = folder.path().join("docker.sock");
    serve(&socket);
    let engine = DockerEngine::at(socket);
    let spec = spec(&AgentId::from("raced"), "one", &["true"]);
    let started = engine.ensure_started(&spec).await;
    let Attached { output, .. } = started.expect("started");
    let pieces: Vec<_> = output.collect().await;
    let heard = pieces.into_iter().map(|piece| match piece.expect("read") {
        Output::Stdout(bytes) | Output::Stderr(bytes) => bytes,
    });
    assert_eq!(heard.collect::<Vec<_>>().concat(), b"began\ntick\n");
}
