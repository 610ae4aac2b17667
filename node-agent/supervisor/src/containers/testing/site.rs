//! A site in a temporary folder: volumes, an ordinary user, an attempt, the agent's door on a Unix socket, and a client
//! that calls as that user.
#![expect(
    unsafe_code,
    reason = "a thread of a test becomes another user, which has no safe wrapper"
)]

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use capstan_proto::wire::container_input::Input;
use capstan_proto::wire::container_output::Output;
use capstan_proto::wire::node_door_client::NodeDoorClient;
use capstan_proto::wire::task_report::Report;
use capstan_proto::wire::{
    Card, ContainerInput, ContainerOutput, ContainerRefused, ContainerRequest, ContainerStarted,
    LaunchSpec,
};
use capstan_types::{AgentId, AttemptId, Env};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Server;

use super::super::door::Door;
use super::super::engine::ContainerEngine;
use super::super::exceptions::Exception;
use super::super::guests::guests;
use super::super::keeper::Keeper;
use super::super::settings::{CardsInContainers, ContainerSettings, Volume};
use crate::ports::{
    AdoptRefused, AttemptContext, Attempts, TaskAsked, TaskRefused, TaskStarted, Tasks,
};

/// Uid and gid of the test's user, whom no host knows.
pub const UID: u32 = 61_234;
/// A group that the user is in.
pub const GROUP: u32 = 61_500;
/// Name of the test's user.
pub const USER: &str = "ann";

/// A site; its folder goes away with it.
pub struct TestSite {
    folder: tempfile::TempDir,
    /// What every process that calls is taken for; none for no attempt at all.
    pub context: Option<AttemptContext>,
    /// How cards reach containers.
    pub cards: CardsInContainers,
    /// Who may have what everybody else is refused.
    pub exceptions: Vec<Exception>,
    /// What was noted of beginnings.
    pub beginnings: Beginnings,
}

/// Attempts, each with the problem that its node had.
pub(super) type Beginnings = Arc<std::sync::Mutex<Vec<(AttemptId, Option<String>)>>>;

impl TestSite {
    /// Makes the site, or says aloud that it cannot.
    ///
    /// # Panics
    /// When the folders cannot be made.
    #[must_use]
    #[expect(clippy::print_stdout, reason = "a test that cannot run says so aloud")]
    pub fn make() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: only root can look as another user");
            return None;
        }
        let folder = tempfile::tempdir().expect("folder");
        let site = Self {
            context: None,
            folder,
            cards: CardsInContainers::Environment,
            exceptions: Vec::new(),
            beginnings: Beginnings::default(),
        };
        std::fs::set_permissions(site.path(""), PermissionsExt::from_mode(0o755))
            .expect("open folder");
        for (name, owner, mode) in [
            ("home", 0, 0o755),
            ("home/ann", UID, 0o700),
            ("data", 0, 0o755),
            ("data/ann", UID, 0o755),
            ("pub", 0, 0o755),
            ("pub/set", 0, 0o755),
            ("state", 0, 0o700),
            ("aux", 0, 0o755),
        ] {
            site.make_folder(name, owner, mode);
        }
        std::fs::write(site.path("aux/nodes"), "node01\n").expect("node file");
        std::fs::write(site.path("pub/set/a"), "public\n").expect("file");
        let context = site.context(AttemptId(7));
        Some(Self {
            context: Some(context),
            ..site
        })
    }

    /// A path in the site.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        // Not `join("")`, which would add a slash.
        name.split('/')
            .filter(|part| !part.is_empty())
            .fold(self.folder.path().to_owned(), |path, part| path.join(part))
    }

    /// A path in the site, as text.
    #[must_use]
    pub fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Makes a folder.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn make_folder(&self, name: &str, owner: u32, mode: u32) {
        let path = self.path(name);
        std::fs::create_dir(&path).expect("folder");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("mode");
        chown(&path, Some(owner), Some(owner)).expect("owner");
    }

    /// Makes a file of the user's.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn make_file(&self, name: &str, text: &str, mode: u32) {
        let path = self.path(name);
        std::fs::write(&path, text).expect("file");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("mode");
        chown(&path, Some(UID), Some(UID)).expect("owner");
    }

    fn context(&self, attempt: AttemptId) -> AttemptContext {
        let environment: Env = [("PBS_JOBID", "7.test"), ("CUDA_VISIBLE_DEVICES", "3")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into_iter()
            .collect();
        AttemptContext {
            attempt,
            spec: Arc::new(LaunchSpec {
                attempt: attempt.0,
                job_id: "7.test".to_owned(),
                user: USER.to_owned(),
                uid: UID,
                cards: vec![Card {
                    uuid: "GPU-11111111-2222-3333-4444-555555555555".to_owned(),
                    ..Card::default()
                }],
                memory_bytes: Some(1 << 30),
                ..LaunchSpec::default()
            }),
            uid: UID,
            gid: UID,
            groups: vec![UID, GROUP],
            home: self.path("home/ann"),
            login_shell: "/bin/sh".into(),
            environment,
            cgroup: None,
            node_file: self.path("aux/nodes"),
            gpu_file: None,
        }
    }

    /// The site's volumes.
    #[must_use]
    pub fn volumes(&self) -> Vec<Volume> {
        let volume = |name: &str, public, default_mount| Volume {
            name: name.to_owned(),
            path: self.path(name),
            read_only: public,
            public,
            default_mount,
        };
        vec![
            volume("home", false, true),
            volume("data", false, false),
            volume("pub", true, true),
        ]
    }

    /// The agent's settings.
    #[must_use]
    pub fn settings(&self) -> ContainerSettings {
        let agent = format!(
            "test-{}",
            self.folder
                .path()
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or("x")
        );
        ContainerSettings {
            agent: AgentId::from(agent.as_str()),
            state_dir: self.path("state"),
            stage_dir: self.path("stage"),
            volumes: self.volumes(),
            images: crate::images::ImageSettings::default(),
            cards: self.cards,
            networks: super::super::settings::DEFAULT_NETWORKS
                .map(str::to_owned)
                .into(),
            exceptions: self.exceptions.clone(),
        }
    }

    /// Where the door is.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.path("agent.sock")
    }

    /// Opens the door to `engine`; the task that serves it can be aborted, which is the agent's death.
    ///
    /// # Panics
    /// When it cannot be opened.
    pub fn serve<E: ContainerEngine>(
        &self,
        engine: E,
    ) -> (Arc<Keeper<E>>, tokio::task::JoinHandle<()>) {
        let keeper = Arc::new(Keeper::open(engine, self.settings()).expect("keeper"));
        let attempts = Arc::new(OneAttempt(self.context.clone(), self.beginnings.clone()));
        let door = Door::new(Arc::clone(&keeper), attempts).into_service();
        std::fs::remove_file(self.socket()).ok();
        let listener = UnixListener::bind(self.socket()).expect("socket");
        std::fs::set_permissions(self.socket(), PermissionsExt::from_mode(0o666)).expect("mode");
        let served = tokio::spawn(async move {
            Server::builder()
                .serve_with_incoming(door, guests(listener))
                .await
                .ok();
        });
        (keeper, served)
    }
}

/// The caller's attempt, and what was noted of beginnings.
struct OneAttempt(Option<AttemptContext>, Beginnings);

impl Attempts for OneAttempt {
    fn attempt_of(&self, _: u32) -> Option<AttemptContext> {
        self.0.clone()
    }

    fn note_beginning(&self, attempt: AttemptId, problem: Option<String>) {
        self.1.lock().expect("no panic").push((attempt, problem));
    }
}

/// One place; a task says its program's name on stdout, and exits with 3.
impl Tasks for OneAttempt {
    fn run_task(&self, _: AttemptId, asked: TaskAsked) -> Result<TaskStarted, TaskRefused> {
        let TaskAsked {
            place, arguments, ..
        } = asked;
        if place > 0 {
            return Err(TaskRefused::NoPlace { place, places: 1 });
        }
        let program = arguments.first().ok_or(TaskRefused::NoProgram)?;
        let (say, reports) = mpsc::channel(3);
        let said = [
            Report::Started(1),
            Report::Stdout(program.clone().into_bytes()),
            Report::ExitStatus(3),
        ];
        for report in said {
            say.try_send(report).expect("there is room");
        }
        Ok(TaskStarted {
            number: 2,
            reports,
            wish: watch::Sender::default(),
        })
    }

    fn adopt(&self, uid: u32, job_id: &str, pid: u32) -> Result<(), AdoptRefused> {
        let job = job_id.to_owned();
        let context = self.0.as_ref().ok_or(AdoptRefused::NoJob { job })?;
        match context.uid == uid {
            true => Ok(()),
            false => Err(AdoptRefused::NotYours { pid }),
        }
    }
}

/// A request for a command line, with options.
#[must_use]
pub fn request(image: &str, line: &str, options: &str) -> ContainerRequest {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    let nth = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    ContainerRequest {
        image: image.to_owned(),
        command_line: Some(line.to_owned()),
        engine_options: options.to_owned(),
        key: format!("{:x}{nth:04x}", std::process::id()),
        ..ContainerRequest::default()
    }
}

/// All that a call said, in the end.
#[derive(Debug, Default)]
pub struct Heard {
    /// Joined.
    pub stdout: String,
    /// Joined.
    pub stderr: String,
    /// For the person.
    pub notices: Vec<String>,
    /// When it was started.
    pub started: Option<ContainerStarted>,
    /// When it ended.
    pub code: Option<i32>,
    /// When it was refused.
    pub refused: Option<ContainerRefused>,
    /// The stream broke.
    pub broken: bool,
}

/// A call under way. Dropping it is the client's death.
pub struct Call {
    say: mpsc::Sender<ContainerInput>,
    hear: Streaming<ContainerOutput>,
    /// So far.
    pub heard: Heard,
}

impl Call {
    /// Calls the door at `socket` as user `uid`, whose thread connects and then ends.
    ///
    /// # Panics
    /// When the door cannot be reached.
    pub async fn open(socket: &Path, uid: u32, first: Input) -> Self {
        let path = socket.to_owned();
        let stream = tokio::task::spawn_blocking(move || connect_as(uid, &path))
            .await
            .expect("thread");
        let stream = tokio::net::UnixStream::from_std(stream).expect("stream");
        let mut stream = Some(hyper_util::rt::TokioIo::new(stream));
        let channel = tonic::transport::Endpoint::from_static("http://capstan.invalid")
            .connect_with_connector(tower::service_fn(move |_: tonic::transport::Uri| {
                std::future::ready(
                    stream
                        .take()
                        .ok_or(std::io::Error::other("one connection only")),
                )
            }))
            .await
            .expect("channel");
        let (say, said) = mpsc::channel(4);
        say.send(ContainerInput { input: Some(first) })
            .await
            .expect("said");
        let answer = NodeDoorClient::new(channel)
            .run_container(ReceiverStream::new(said))
            .await;
        Self {
            say,
            hear: answer.expect("answer").into_inner(),
            heard: Heard::default(),
        }
    }

    /// Says something more.
    ///
    /// # Panics
    /// When the door does not listen any more.
    pub async fn say(&self, input: Input) {
        self.say
            .send(ContainerInput { input: Some(input) })
            .await
            .expect("said");
    }

    /// Hears on until `enough`, or the end.
    ///
    /// # Panics
    /// When that takes too long.
    pub async fn until(&mut self, enough: impl Fn(&Heard) -> bool) -> &Heard {
        let hear = async { while !enough(&self.heard) && self.next().await {} };
        let in_time = tokio::time::timeout(std::time::Duration::from_secs(60), hear).await;
        assert!(in_time.is_ok(), "still waiting; so far {:?}", self.heard);
        &self.heard
    }

    /// Hears all.
    pub async fn end(mut self) -> Heard {
        self.until(|heard| heard.code.is_some() || heard.refused.is_some())
            .await;
        self.heard
    }

    async fn next(&mut self) -> bool {
        let message = match self.hear.message().await {
            Ok(Some(ContainerOutput {
                output: Some(message),
            })) => message,
            Ok(_) | Err(_) => {
                self.heard.broken = true;
                return false;
            }
        };
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        match message {
            Output::Notice(notice) => self.heard.notices.push(notice),
            Output::Started(started) => self.heard.started = Some(started),
            Output::Stdout(bytes) => self.heard.stdout += &text(bytes),
            Output::Stderr(bytes) => self.heard.stderr += &text(bytes),
            Output::ExitCode(code) => self.heard.code = Some(code),
            Output::Refused(refused) => self.heard.refused = Some(refused),
            Output::StdinTaken(_) => {}
        }
        true
    }
}

/// Connects as user `uid`, on a thread that becomes that user and ends.
///
/// # Panics
/// When nobody listens.
#[must_use]
pub fn connect_as(uid: u32, socket: &Path) -> std::os::unix::net::UnixStream {
    let connect = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: plain numbers; the raw calls change this thread only, which ends at once.
            let done = unsafe {
                libc::syscall(libc::SYS_setresgid, uid, uid, uid)
                    + libc::syscall(libc::SYS_setresuid, uid, uid, uid)
            };
            assert_eq!(done, 0, "the thread becomes the user");
            std::os::unix::net::UnixStream::connect(socket).expect("the door is open")
        });
        thread.join()
    });
    let stream = connect.expect("thread");
    stream.set_nonblocking(true).expect("non-blocking");
    stream
}
