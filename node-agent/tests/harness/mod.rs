//! A real agent in a folder of its own, and a server that only orders and listens.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, Instant};

use capstan_proto::wire::agent_link_server::{AgentLink, AgentLinkServer};
use capstan_proto::wire::task_report::Report;
use capstan_proto::wire::{
    AgentMessage, AttemptEnded, AttemptStarted, Hello, LaunchSpec, OutputFiles, ServerMessage,
    StartAttempt, StopAttempt, Welcome, agent_message, attempt_ended::Outcome, known_attempt,
    server_message,
};
use nix::unistd::{User, geteuid};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// Longest wait for any state.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
const USER: &str = "capstan-test";

/// The user that jobs run as: an ordinary one when we are root, else ourselves.
pub(crate) fn user() -> User {
    if !geteuid().is_root() {
        return User::from_uid(geteuid()).unwrap().expect("we have a name");
    }
    static MADE: Once = Once::new();
    MADE.call_once(|| {
        if User::from_name(USER).unwrap().is_none() {
            let made = Command::new("useradd")
                .args(["-m", "-s", "/bin/bash", USER])
                .status();
            assert!(made.unwrap().success(), "useradd");
        }
    });
    User::from_name(USER).unwrap().expect("just made")
}

/// Says aloud that a test needs root; true when it cannot run.
pub(crate) fn is_skipped_without_root() -> bool {
    let is_skipped = !geteuid().is_root();
    if is_skipped {
        eprintln!("skipped: not root");
    }
    is_skipped
}

/// Polls until `look` sees what it wants; fails with `what` and the last thing said.
pub(crate) async fn wait_until<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match look() {
            Ok(seen) => return seen,
            Err(last) if Instant::now() > deadline => panic!("{what}: not in time; saw: {last}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

type Outbound = mpsc::Sender<Result<ServerMessage, Status>>;

#[derive(Default)]
struct State {
    wanted: BTreeSet<u64>,
    link: Option<Outbound>,
    refusal: Option<Status>,
}

struct Listening {
    state: Arc<Mutex<State>>,
    heard: mpsc::UnboundedSender<agent_message::Message>,
}

#[tonic::async_trait]
impl AgentLink for Listening {
    type AttachStream = ReceiverStream<Result<ServerMessage, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let mut inbound = request.into_inner();
        let (out, stream) = mpsc::channel(256);
        let welcome = {
            let mut state = self.state.lock().unwrap();
            if let Some(refusal) = &state.refusal {
                return Err(refusal.clone());
            }
            state.link = Some(out.clone());
            Welcome {
                server: "srv".into(),
                attempts: state.wanted.iter().copied().collect(),
                heartbeat_secs: 1,
                now_ms: 0,
                guests: None,
            }
        };
        let heard = self.heard.clone();
        tokio::spawn(async move {
            let mut welcome = Some(welcome);
            while let Some(Ok(message)) = inbound.next().await {
                let message = message.message.expect("a known message");
                let is_hello = matches!(message, agent_message::Message::Hello(_));
                if heard.send(message).is_err() {
                    return;
                }
                if let Some(welcome) = welcome.take_if(|_| is_hello) {
                    let message = Some(server_message::Message::Welcome(welcome));
                    let _gone = out.send(Ok(ServerMessage { message })).await;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// A server, an agent, and the folder of both.
pub(crate) struct Node {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) user: User,
    state: Arc<Mutex<State>>,
    heard: mpsc::UnboundedReceiver<agent_message::Message>,
    agent: Option<Child>,
    as_user: bool,
}

impl Node {
    /// Starts both; `settings` is added to the agent's file.
    pub(crate) async fn start(settings: &str) -> Self {
        Self::start_as(settings, false).await
    }

    /// As [`Node::start`], with the agent run by the ordinary user and without rights.
    pub(crate) async fn start_as(settings: &str, as_user: bool) -> Self {
        let user = user();
        let folder = tempfile::Builder::new()
            .prefix("capstan-agent-")
            .tempdir()
            .unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        // Where jobs write; the user's own.
        let work = folder.path().join("work");
        fs::create_dir(&work).unwrap();
        std::os::unix::fs::chown(&work, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (heard_tx, heard) = mpsc::unbounded_channel();
        let state = Arc::new(Mutex::new(State::default()));
        let service = AgentLinkServer::new(Listening {
            state: state.clone(),
            heard: heard_tx,
        });
        tokio::spawn(
            tonic::transport::Server::builder()
                .serve_with_incoming(service, TcpListenerStream::new(listener)),
        );
        let root = if as_user {
            work
        } else {
            folder.path().to_owned()
        };
        let text = format!(
            "node_name = 'node01'\nserver = '127.0.0.1:{port}'\nstate_dir = '{root}/state'\n\
             run_dir = '{root}/run'\nnvml_library = '/nonexistent/libnvidia-ml.so'\n\
             docker_socket = '{root}/no-docker.sock'\ncores = 4\n{settings}\n",
            root = root.display()
        );
        fs::write(folder.path().join("agent.toml"), text).unwrap();
        let mut node = Self {
            folder,
            user,
            state,
            heard,
            agent: None,
            as_user,
        };
        node.start_agent();
        node.hello().await;
        node
    }

    pub(crate) fn start_agent(&mut self) {
        let mut command = Command::new(self.program());
        command
            .arg("--settings")
            .arg(self.folder.path().join("agent.toml"));
        command.env("CAPSTAN_LOG", "debug").stdin(Stdio::null());
        let log = self.folder.path().join("agent.log");
        let log = fs::File::options().append(true).create(true).open(log);
        command.stderr(log.unwrap());
        if self.as_user {
            command
                .uid(self.user.uid.as_raw())
                .gid(self.user.gid.as_raw());
        }
        self.agent = Some(command.spawn().unwrap());
    }

    /// The agent's binary, where the ordinary user can reach it.
    pub(crate) fn program(&self) -> PathBuf {
        let built = PathBuf::from(env!("CARGO_BIN_EXE_capstan-agent"));
        if !self.as_user {
            return built;
        }
        let copy = self.folder.path().join("capstan-agent");
        if !copy.exists() {
            fs::copy(built, &copy).unwrap();
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
        }
        copy
    }

    /// `kill -9` of the agent.
    pub(crate) fn kill_agent(&mut self) {
        let mut agent = self.agent.take().expect("an agent runs");
        agent.kill().unwrap();
        agent.wait().unwrap();
    }

    /// SIGTERM, and the agent's own end.
    pub(crate) async fn stop_agent(&mut self) {
        let mut agent = self.agent.take().expect("an agent runs");
        let pid = nix::unistd::Pid::from_raw(agent.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        let status = wait_until("the agent stops", || match agent.try_wait().unwrap() {
            Some(status) => Ok(status),
            None => Err("it runs".to_owned()),
        })
        .await;
        assert!(status.success(), "{status}");
    }

    /// The process that forks shims.
    pub(crate) fn spawner(&self) -> i32 {
        let agent = self.agent.as_ref().expect("an agent runs").id();
        // Children are listed by the thread that made them.
        let threads = fs::read_dir(format!("/proc/{agent}/task")).unwrap();
        let children = threads.map(|thread| {
            fs::read_to_string(thread.unwrap().path().join("children")).unwrap_or_default()
        });
        let children = children.collect::<String>();
        let mut children = children.split_ascii_whitespace();
        children.next().expect("a spawner").parse().unwrap()
    }

    /// A path under the folder that jobs write to.
    pub(crate) fn work(&self, name: &str) -> PathBuf {
        self.folder.path().join("work").join(name)
    }

    pub(crate) fn state_folder(&self) -> PathBuf {
        let root = self.folder.path();
        let root = if self.as_user {
            root.join("work")
        } else {
            root.to_owned()
        };
        root.join("state")
    }

    /// A job that writes `out` and `err` to the work folder.
    pub(crate) fn spec(&self, attempt: u64, script: &str) -> LaunchSpec {
        let path = |name: &str| self.work(name).to_string_lossy().into_owned();
        LaunchSpec {
            attempt,
            job_id: format!("{attempt}.srv"),
            job_name: "job".into(),
            queue: "batch".into(),
            server: "srv".into(),
            user: self.user.name.clone(),
            uid: self.user.uid.as_raw(),
            script: script.as_bytes().to_vec(),
            output: Some(OutputFiles {
                stdout: path("out"),
                stderr: path("err"),
                ..OutputFiles::default()
            }),
            umask: 0o077,
            kill_delay_secs: 1,
            node_file: vec!["node01".into()],
            num_nodes: 1,
            num_ppn: 1,
            cores: 1,
            ..LaunchSpec::default()
        }
    }

    pub(crate) async fn order(&self, message: server_message::Message) {
        let link = self.state.lock().unwrap().link.clone().expect("attached");
        let message = Some(message);
        link.send(Ok(ServerMessage { message }))
            .await
            .expect("attached");
    }

    pub(crate) async fn run(&self, spec: LaunchSpec) {
        self.state.lock().unwrap().wanted.insert(spec.attempt);
        let start = StartAttempt { spec: Some(spec) };
        self.order(server_message::Message::Start(start)).await;
    }

    pub(crate) async fn stop(&self, attempt: u64, grace_secs: u32) {
        let stop = StopAttempt {
            attempt,
            signal: 15,
            grace_secs,
        };
        self.order(server_message::Message::Stop(stop)).await;
    }

    /// From the next hello on, the server does not know this attempt.
    pub(crate) fn unwant(&self, attempt: u64) {
        self.state.lock().unwrap().wanted.remove(&attempt);
    }

    /// Whether the server refuses the agent, and cuts what it has.
    pub(crate) fn refuse(&self, refusal: Option<Status>) {
        let mut state = self.state.lock().unwrap();
        state.refusal = refusal;
        state.link = None;
    }

    /// The next message that `pick` takes.
    pub(crate) async fn next<T>(
        &mut self,
        what: &str,
        pick: impl Fn(agent_message::Message) -> Option<T>,
    ) -> T {
        let wait = async {
            loop {
                let message = self.heard.recv().await.expect("the server lives");
                if let Some(picked) = pick(message) {
                    return picked;
                }
            }
        };
        match tokio::time::timeout(DEADLINE, wait).await {
            Ok(picked) => picked,
            Err(_) => {
                let log = fs::read_to_string(self.folder.path().join("agent.log"));
                panic!(
                    "{what}: not in time; the agent said:\n{}",
                    log.unwrap_or_default()
                );
            }
        }
    }

    pub(crate) async fn hello(&mut self) -> Hello {
        self.next("hello", |message| match message {
            agent_message::Message::Hello(hello) => Some(hello),
            _ => None,
        })
        .await
    }

    pub(crate) async fn started(&mut self, attempt: u64) -> AttemptStarted {
        self.next("started", |message| match message {
            agent_message::Message::Started(started) if started.attempt == attempt => Some(started),
            _ => None,
        })
        .await
    }

    /// The end of an attempt, as a report or in a hello.
    pub(crate) async fn ended(&mut self, attempt: u64) -> AttemptEnded {
        self.next("ended", |message| match message {
            agent_message::Message::Ended(ended) if ended.attempt == attempt => Some(ended),
            agent_message::Message::Hello(hello) => {
                let mut known = hello.attempts.into_iter();
                match known.find(|known| known.attempt == attempt)?.phase? {
                    known_attempt::Phase::Ended(ended) => Some(ended),
                    known_attempt::Phase::Starting(_) | known_attempt::Phase::Running(_) => None,
                }
            }
            _ => None,
        })
        .await
    }

    /// The next that any task says which runs here for another node.
    pub(crate) async fn any_task_report(&mut self) -> Report {
        self.next("any task's word", |message| match message {
            agent_message::Message::TaskReport(said) => said.report,
            _ => None,
        })
        .await
    }

    /// The next that a task says which runs here for another node.
    pub(crate) async fn task_report(&mut self, task: u64) -> Report {
        self.next("a task's word", |message| match message {
            agent_message::Message::TaskReport(said) if said.task == task => said.report,
            _ => None,
        })
        .await
    }

    pub(crate) async fn usage(&mut self, attempt: u64) -> capstan_proto::wire::Usage {
        self.next("usage", |message| match message {
            agent_message::Message::Heartbeat(beat) => {
                let mut uses = beat.attempts.into_iter();
                uses.find(|seen| seen.attempt == attempt)
                    .and_then(|seen| seen.usage)
            }
            _ => None,
        })
        .await
    }

    /// Runs a job to its end.
    pub(crate) async fn outcome(&mut self, spec: LaunchSpec) -> Outcome {
        let attempt = spec.attempt;
        self.run(spec).await;
        self.ended(attempt).await.outcome.expect("an outcome")
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.work(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Waits until a job has made this file, which it may do before it ends.
    pub(crate) async fn made(&self, name: &str) -> String {
        let path = self.work(name);
        wait_until(name, || match fs::read_to_string(&path) {
            Ok(text) if !text.is_empty() => Ok(text),
            other => Err(format!("{other:?}")),
        })
        .await
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            let _gone = agent.kill();
            let _gone = agent.wait();
        }
        self.remove_cgroups();
        // A failed test may leave jobs; those that are left carry the folder in their command line.
        for pid in processes_with(&self.folder.path().to_string_lossy()) {
            let pid = nix::unistd::Pid::from_raw(pid);
            let _gone = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
    }
}

impl Node {
    /// A killed agent leaves its folders, which are empty unless a test failed.
    fn remove_cgroups(&self) {
        let id = fs::read_to_string(self.state_folder().join("agent-id")).unwrap_or_default();
        let Some(short) = id.get(..8) else { return };
        let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten();
        for hierarchy in hierarchies.filter_map(Result::ok) {
            let own = hierarchy.path().join("capstan").join(short);
            // Those that keep processes off cards belong to no attempt; a killed agent's spawner is in one, and on its way
            // out.
            let deadline = Instant::now() + Duration::from_secs(2);
            let is_busy = |gone: std::io::Result<()>| {
                gone.is_err_and(|error| error.kind() == std::io::ErrorKind::ResourceBusy)
            };
            while is_busy(fs::remove_dir(own.join("no-cards"))) && Instant::now() < deadline {
                std::thread::yield_now();
            }
            for group in ["site", ""] {
                let _other = fs::remove_dir(own.join(group));
            }
        }
    }
}

/// Processes, but for this one, whose command line or environment contains `text`.
pub(crate) fn processes_with(text: &str) -> Vec<i32> {
    let contains = |path: PathBuf| {
        fs::read(path).is_ok_and(|bytes| {
            bytes
                .windows(text.len())
                .any(|part| part == text.as_bytes())
        })
    };
    let pids = fs::read_dir("/proc").unwrap().filter_map(|folder| {
        let name = folder.ok()?.file_name();
        name.to_str()?.parse::<i32>().ok()
    });
    pids.filter(|&pid| pid != std::process::id() as i32)
        .filter(|pid| {
            let folder = Path::new("/proc").join(pid.to_string());
            contains(folder.join("cmdline")) || contains(folder.join("environ"))
        })
        .collect()
}

/// Waits until no process carries `text`.
pub(crate) async fn wait_until_gone(text: &str) {
    wait_until("no process left", || {
        match processes_with(text).as_slice() {
            [] => Ok(()),
            left => Err(format!("{left:?}")),
        }
    })
    .await;
}
