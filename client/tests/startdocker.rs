//! `startdocker` as a whole process, against a door that says what the test tells it to.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use capstan_proto::wire::container_input::Input;
use capstan_proto::wire::container_output::Output as Said;
use capstan_proto::wire::node_door_server::{NodeDoor, NodeDoorServer};
use capstan_proto::wire::{
    AdoptProcessRequest, ContainerInput, ContainerOutput, ContainerRefused, ContainerRequest,
    ContainerResume, ContainerStarted, Done, ListPlacesReply, ListPlacesRequest, RunTaskRequest,
    TaskOutput, WindowSize,
};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// Hands each call to the test.
struct Door(mpsc::Sender<Call>);

/// One call of the client.
struct Call {
    heard: Streaming<ContainerInput>,
    say: mpsc::Sender<Result<ContainerOutput, Status>>,
}

#[tonic::async_trait]
impl NodeDoor for Door {
    type RunContainerStream = ReceiverStream<Result<ContainerOutput, Status>>;

    async fn run_container(
        &self,
        request: Request<Streaming<ContainerInput>>,
    ) -> Result<Response<Self::RunContainerStream>, Status> {
        let (say, said) = mpsc::channel(8);
        let heard = request.into_inner();
        self.0
            .send(Call { heard, say })
            .await
            .map_err(|_| Status::unavailable("the test has ended"))?;
        Ok(Response::new(ReceiverStream::new(said)))
    }

    type RunTaskStream = tokio_stream::Empty<Result<TaskOutput, Status>>;

    async fn list_places(
        &self,
        _: Request<ListPlacesRequest>,
    ) -> Result<Response<ListPlacesReply>, Status> {
        Err(Status::unimplemented("only containers"))
    }

    async fn run_task(
        &self,
        _: Request<Streaming<RunTaskRequest>>,
    ) -> Result<Response<Self::RunTaskStream>, Status> {
        Err(Status::unimplemented("only containers"))
    }

    async fn adopt_process(
        &self,
        _: Request<AdoptProcessRequest>,
    ) -> Result<Response<Done>, Status> {
        Err(Status::unimplemented("only containers"))
    }
}

impl Call {
    async fn say(&self, said: Said) {
        self.say
            .send(Ok(ContainerOutput { output: Some(said) }))
            .await
            .expect("the client listens");
    }

    async fn started(&self, interactive: bool, terminal: bool) {
        self.say(Said::Started(ContainerStarted {
            terminal,
            interactive,
            container: "c1".to_owned(),
            stdin_window: 64 * 1024,
        }))
        .await;
    }

    async fn hear(&mut self) -> Input {
        let heard = tokio::time::timeout(Duration::from_secs(20), self.heard.message()).await;
        heard
            .expect("in time")
            .expect("a message")
            .expect("not the end")
            .input
            .expect("an input")
    }

    async fn request(&mut self) -> ContainerRequest {
        let Input::Request(request) = self.hear().await else {
            panic!("a request comes first");
        };
        request
    }
}

struct World {
    folder: tempfile::TempDir,
    calls: mpsc::Receiver<Call>,
    served: tokio::task::JoinHandle<()>,
}

impl World {
    fn open() -> Self {
        Self::open_in(tempfile::tempdir().expect("folder"))
    }

    fn open_in(folder: tempfile::TempDir) -> Self {
        let (send, calls) = mpsc::channel(1);
        let socket = folder.path().join("agent.sock");
        std::fs::remove_file(&socket).ok();
        let listener = UnixListener::bind(socket).expect("socket");
        let served = tokio::spawn(async move {
            let service = NodeDoorServer::new(Door(send));
            tonic::transport::Server::builder()
                .serve_with_incoming(service, UnixListenerStream::new(listener))
                .await
                .expect("served");
        });
        Self {
            folder,
            calls,
            served,
        }
    }

    fn start(&self, words: &[&str]) -> Child {
        command(self.folder.path(), words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started")
    }

    async fn call(&mut self) -> Call {
        let call = tokio::time::timeout(Duration::from_secs(20), self.calls.recv()).await;
        call.expect("in time").expect("a call")
    }

    /// The agent dies: its connections break.
    fn die(self) -> tempfile::TempDir {
        self.served.abort();
        self.folder
    }
}

fn command(folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_capstan"));
    command
        .arg("startdocker")
        .args(words)
        .env("CAPSTAN_AGENT_SOCKET", folder.join("agent.sock"));
    command
}

async fn end(child: Child) -> Output {
    tokio::task::spawn_blocking(move || child.wait_with_output().expect("ended"))
        .await
        .expect("joined")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn the_request_is_what_was_typed() {
    let mut world = World::open();
    let child = world.start(&[
        "-u",
        "-e A -i",
        "-D",
        "/d",
        "-P",
        "/p",
        "-s",
        "x.sh",
        "bit:5000/deepo",
    ]);
    let mut call = world.call().await;
    let request = call.request().await;
    assert_eq!(
        (request.image.as_str(), request.script.as_deref()),
        ("bit:5000/deepo", Some("x.sh"))
    );
    assert_eq!(
        (request.data_folder.as_str(), request.proc_folder.as_str()),
        ("/d", "/p")
    );
    assert_eq!(
        (request.engine_options.as_str(), request.command_line),
        ("-e A -i", None)
    );
    assert_eq!(
        PathBuf::from(request.current_folder),
        std::env::current_dir().expect("folder")
    );
    assert!(
        request
            .environment
            .iter()
            .any(|variable| variable.name == "PATH")
    );
    assert_eq!((request.key.len(), request.terminal), (16, None));
    call.started(false, false).await;
    call.say(Said::Stdout(b"out\n".to_vec())).await;
    call.say(Said::Stderr(b"err\n".to_vec())).await;
    call.say(Said::Notice("a notice".to_owned())).await;
    call.say(Said::ExitCode(43)).await;
    let output = end(child).await;
    assert_eq!(
        (output.status.code(), text(&output.stdout)),
        (Some(43), "out\n".to_owned())
    );
    assert!(
        text(&output.stderr).contains("err\n")
            && text(&output.stderr).contains("startdocker: a notice\n")
    );
}

#[tokio::test]
async fn a_refusal_is_told_with_its_hint() {
    let mut world = World::open();
    let child = world.start(&["-c", "x", "i"]);
    let mut call = world.call().await;
    assert_eq!(
        call.request().await.environment,
        [],
        "nothing is sent that nobody asked for"
    );
    call.say(Said::Refused(ContainerRefused {
        exit_code: 127,
        message: "no such thing".to_owned(),
        hint: "try another".to_owned(),
    }))
    .await;
    let output = end(child).await;
    assert_eq!(output.status.code(), Some(127));
    assert_eq!(
        text(&output.stderr),
        "startdocker: no such thing\nhint: try another\n"
    );
}

#[test]
fn without_an_agent_the_socket_and_the_way_out_are_named() {
    let folder = tempfile::tempdir().expect("folder");
    let output = command(folder.path(), &["-c", "x", "i"])
        .output()
        .expect("ran");
    assert_eq!(output.status.code(), Some(125));
    let said = text(&output.stderr);
    assert!(
        said.contains(&folder.path().join("agent.sock").display().to_string()),
        "{said}"
    );
    assert!(said.contains("startdocker works inside a job"), "{said}");
    let output = command(folder.path(), &["-c", "x", "-s", "y", "i"])
        .output()
        .expect("ran");
    assert_eq!(output.status.code(), Some(125));
    assert!(
        text(&output.stderr)
            .starts_with("startdocker: -s and -c exclude each other\nusage: startdocker")
    );
}

#[tokio::test]
async fn stdin_goes_only_where_it_is_taken() {
    let mut world = World::open();
    let mut child = world.start(&["-u", "-i", "-c", "cat", "i"]);
    let mut stdin = child.stdin.take().expect("stdin");
    stdin.write_all(b"some text").expect("written");
    drop(stdin);
    let mut call = world.call().await;
    call.request().await;
    call.started(true, false).await;
    assert!(matches!(call.hear().await, Input::Stdin(bytes) if bytes == b"some text"));
    assert!(matches!(call.hear().await, Input::StdinClosed(_)));
    call.say(Said::ExitCode(0)).await;
    assert_eq!(end(child).await.status.code(), Some(0));

    // A shell loop around a startdocker without -i keeps its input.
    let line = r#"while read line; do "$0" startdocker -c x i; echo "$line"; done"#;
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", line, env!("CARGO_BIN_EXE_capstan")]);
    shell.env(
        "CAPSTAN_AGENT_SOCKET",
        world.folder.path().join("agent.sock"),
    );
    let mut shell = shell
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    shell
        .stdin
        .take()
        .expect("stdin")
        .write_all(b"1\n2\n")
        .expect("written");
    for _ in 0..2 {
        let mut call = world.call().await;
        call.request().await;
        call.started(false, false).await;
        call.say(Said::ExitCode(0)).await;
    }
    assert_eq!(text(&end(shell).await.stdout), "1\n2\n");
}

#[tokio::test]
async fn stdin_waits_for_credit() {
    let mut world = World::open();
    let mut child = world.start(&["-u", "-i", "-c", "cat", "i"]);
    let mut stdin = child.stdin.take().expect("stdin");
    let writer = std::thread::spawn(move || stdin.write_all(&vec![b'x'; 200 * 1024]));
    let mut call = world.call().await;
    call.request().await;
    call.started(true, false).await;
    let (mut taken, mut credit) = (0, 64 * 1024);
    while taken < 200 * 1024 {
        let Input::Stdin(bytes) = call.hear().await else {
            panic!("more stdin")
        };
        taken += bytes.len();
        assert!(taken <= credit, "{taken} of {credit}");
        if credit - taken < 32 * 1024 {
            call.say(Said::StdinTaken(48 * 1024)).await;
            credit += 48 * 1024;
        }
    }
    writer.join().expect("joined").expect("written");
    call.say(Said::ExitCode(0)).await;
    assert_eq!(end(child).await.status.code(), Some(0));
}

#[tokio::test]
async fn signals_go_to_the_container_and_end_a_client_without_one() {
    let mut world = World::open();
    let mut child = world.start(&["-c", "x", "i"]);
    let pid = Pid::from_raw(child.id().cast_signed());
    let mut call = world.call().await;
    call.request().await;
    call.started(false, false).await;
    call.say(Said::Stdout(b"ready".to_vec())).await;
    let stdout = OwnedFd::from(child.stdout.take().expect("stdout"));
    assert!(
        read_until(stdout.try_clone().expect("stdout"), "ready").await,
        "it knows of the start"
    );
    for signal in [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGQUIT,
        Signal::SIGUSR1,
    ] {
        kill(pid, signal).expect("signal");
        assert!(
            matches!(call.hear().await, Input::Signal(number) if number == signal as i32),
            "{signal}"
        );
    }
    call.say(Said::ExitCode(143)).await;
    assert_eq!(end(child).await.status.code(), Some(143));

    let child = world.start(&["-c", "x", "i"]);
    let mut call = world.call().await;
    call.request().await;
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).expect("signal");
    assert_eq!(
        end(child).await.status.code(),
        Some(143),
        "nothing was started yet"
    );
}

#[tokio::test]
async fn a_reader_that_went_away_ends_the_client() {
    let mut world = World::open();
    let mut child = world.start(&["-c", "yes", "i"]);
    drop(child.stdout.take());
    let mut call = world.call().await;
    call.request().await;
    call.started(false, false).await;
    while call
        .say
        .send(Ok(ContainerOutput {
            output: Some(Said::Stdout(b"y\n".to_vec())),
        }))
        .await
        .is_ok()
    {}
    assert_eq!(end(child).await.status.code(), Some(141));
}

#[tokio::test]
async fn a_restarted_agent_is_waited_for_and_nothing_comes_twice() {
    let mut world = World::open();
    let child = world.start(&["-c", "x", "i"]);
    let mut call = world.call().await;
    let first = call.request().await;
    drop(call);
    let mut world = World::open_in(world.die());
    let mut call = world.call().await;
    assert_eq!(
        call.request().await,
        first,
        "the same request, with the same key"
    );
    call.started(false, false).await;
    call.say(Said::Stdout(b"one\n".to_vec())).await;
    call.say(Said::Stderr(b"err\n".to_vec())).await;
    call.say
        .send(Err(Status::unavailable("the agent is stopping")))
        .await
        .expect("said");
    drop(call);
    let mut world = World::open_in(world.die());
    let mut call = world.call().await;
    let Input::Resume(resume) = call.hear().await else {
        panic!("the client goes on");
    };
    let expected = ContainerResume {
        container: "c1".to_owned(),
        stdout_bytes: 4,
        stderr_bytes: 4,
        terminal: None,
    };
    assert_eq!(resume, expected);
    call.started(false, false).await;
    call.say(Said::Stdout(b"two\n".to_vec())).await;
    call.say(Said::ExitCode(5)).await;
    let output = end(child).await;
    assert_eq!(
        (text(&output.stdout).as_str(), output.status.code()),
        ("one\ntwo\n", Some(5))
    );
    assert!(text(&output.stderr).contains("the agent of this node went away"));
}

#[tokio::test]
async fn a_terminal_is_raw_while_the_container_has_it() {
    let mut world = World::open();
    let size = nix::pty::Winsize {
        ws_row: 40,
        ws_col: 111,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let pty = nix::pty::openpty(&size, None).expect("pty");
    let slave = || pty.slave.try_clone().expect("slave");
    let child = command(world.folder.path(), &["-u", "-it", "-c", "sh", "i"])
        .stdin(slave())
        .stdout(slave())
        .stderr(slave())
        .spawn()
        .expect("started");
    let is_raw = || {
        !tcgetattr(&pty.slave)
            .expect("terminal")
            .local_flags
            .contains(LocalFlags::ICANON)
    };
    let mut call = world.call().await;
    assert_eq!(
        call.request().await.terminal,
        Some(WindowSize {
            rows: 40,
            columns: 111
        })
    );
    assert!(!is_raw());
    call.started(true, true).await;
    wait_until("raw", &is_raw).await;
    let mut master = std::fs::File::from(pty.master.try_clone().expect("master"));
    master.write_all(b"\x03").expect("a key");
    assert!(
        matches!(call.hear().await, Input::Stdin(bytes) if bytes == b"\x03"),
        "keys are no signals"
    );
    call.say(Said::Stdout(b"prompt".to_vec())).await;
    assert!(read_until(pty.master.try_clone().expect("master"), "prompt").await);
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGWINCH).expect("signal");
    assert!(matches!(
        call.hear().await,
        Input::Resize(WindowSize {
            rows: 40,
            columns: 111
        })
    ));
    call.say(Said::ExitCode(0)).await;
    assert_eq!(end(child).await.status.code(), Some(0));
    assert!(!is_raw(), "as it was before");
}

async fn wait_until(what: &str, seen: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !seen() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::task::yield_now().await;
    }
}

async fn read_until(from: OwnedFd, wanted: &'static str) -> bool {
    let read = move || {
        let mut from = std::fs::File::from(from);
        let mut all = Vec::new();
        let mut piece = [0; 256];
        while !text(&all).contains(wanted) {
            match from.read(&mut piece) {
                Ok(length) if length > 0 => all.extend_from_slice(&piece[..length]),
                Ok(_) | Err(_) => return false,
            }
        }
        true
    };
    tokio::task::spawn_blocking(read).await.expect("joined")
}
