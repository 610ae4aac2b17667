//! The node's health script, by Torque's conventions: run as root every so often, around jobs if the site wants that, and
//! when the first line that it writes begins with ERROR, that line is the node's message and nothing is started there.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use capstan_supervisor::attempts::{NodeCheck, only_roots};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, geteuid};

/// What of a script's output is read, as in Torque: the message and a little more.
const OUTPUT_BYTES_MAX: usize = 4096;
/// Longest message.
const MESSAGE_CHARS_MAX: usize = 1024;
/// The word by which a script says that the node is not well.
const ERROR: &str = "ERROR";
/// Between two looks at a script that runs.
const PAUSE: Duration = Duration::from_millis(50);

/// The health script and its times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HealthCheck {
    pub(crate) script: PathBuf,
    pub(crate) interval: Duration,
    /// A script that takes longer says by that that the node is not well.
    pub(crate) timeout: Duration,
    /// Also before every job, and behind every job.
    pub(crate) on_job_start: bool,
    pub(crate) on_job_end: bool,
}

/// What the health script said last.
#[derive(Debug, Default)]
pub(crate) struct Health {
    problem: Mutex<String>,
}

impl Health {
    /// Its complaint; empty when all is well, or there is no script.
    pub(crate) fn problem(&self) -> String {
        let problem = self.problem.lock();
        problem.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether that is news.
    fn set(&self, problem: String) -> bool {
        let mut known = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = *known != problem;
        *known = problem;
        is_new
    }

    /// Looks once; whether there is news.
    async fn look(&self, check: &HealthCheck) -> bool {
        let check = check.clone();
        let looked = tokio::task::spawn_blocking(move || run(&check)).await;
        self.note(looked.unwrap_or_else(|error| format!("{ERROR} health check: {error}")))
    }

    /// Keeps what a look found, and says on the log what is new.
    fn note(&self, problem: String) -> bool {
        let is_new = self.set(problem.clone());
        match problem.as_str() {
            _ if !is_new => {}
            "" => tracing::info!("the health script finds the node well again"),
            problem => tracing::error!(
                problem,
                "the health script complains; nothing is started here"
            ),
        }
        is_new
    }
}

/// Looks at the node's health for ever; `news` hears of every change. The first look is done when this returns: an agent
/// must not ask for work before it.
pub(crate) async fn watch(
    check: Option<HealthCheck>,
    news: impl Fn() + Send + 'static,
) -> Arc<Health> {
    let health = Arc::new(Health::default());
    let Some(check) = check else { return health };
    health.look(&check).await;
    let watched = health.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(check.interval).await;
            if watched.look(&check).await {
                news();
            }
        }
    });
    health
}

/// The looks around jobs.
pub(crate) struct AroundJobs<N> {
    check: HealthCheck,
    health: Arc<Health>,
    news: N,
}

impl<N: Fn() + Send + Sync> AroundJobs<N> {
    /// `None` when the site wants no look around jobs.
    pub(crate) fn wanted(
        check: Option<&HealthCheck>,
        health: &Arc<Health>,
        news: N,
    ) -> Option<Self> {
        let check = check.filter(|check| check.on_job_start || check.on_job_end)?;
        Some(Self {
            check: check.clone(),
            health: health.clone(),
            news,
        })
    }

    fn look(&self) {
        if self.health.note(run(&self.check)) {
            (self.news)();
        }
    }
}

impl<N: Fn() + Send + Sync> NodeCheck for AroundJobs<N> {
    fn at_start(&self) -> Option<String> {
        if !self.check.on_job_start {
            return None;
        }
        self.look();
        let problem = self.health.problem();
        (!problem.is_empty()).then(|| format!("the health script complains: {problem}"))
    }

    fn at_end(&self) {
        if self.check.on_job_end {
            self.look();
        }
    }
}

/// Runs the script once; what it complains of.
fn run(check: &HealthCheck) -> String {
    let name = check.script.display();
    if geteuid().is_root()
        && let Err(problem) = only_roots(&check.script, 0o500)
    {
        return format!("{ERROR} the health script {name} {problem}");
    }
    match output(check) {
        Ok(Some(output)) => complaint(&output),
        Ok(None) => {
            let secs = check.timeout.as_secs();
            format!("{ERROR} the health script {name} took longer than {secs} s")
        }
        Err(error) => format!("{ERROR} the health script {name} cannot be run: {error}"),
    }
}

/// What the script wrote; nothing when it took too long.
fn output(check: &HealthCheck) -> io::Result<Option<Vec<u8>>> {
    let mut child = Command::new(&check.script)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()?;
    let group = Pid::from_raw(child.id() as i32);
    let mut said = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    fcntl(&said, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    let deadline = Instant::now() + check.timeout;
    let mut output = Vec::new();
    loop {
        // Asked before the last look, so that nothing it wrote is missed.
        let has_ended = child.try_wait()?.is_some();
        hear(&mut said, &mut output);
        if has_ended || Instant::now() > deadline {
            // What it started beside itself must not pile up, run after run.
            let _gone = killpg(group, Signal::SIGKILL);
            if !has_ended {
                child.wait()?;
            }
            return Ok(has_ended.then_some(output));
        }
        std::thread::sleep(PAUSE);
    }
}

/// Takes what was written, keeping the beginning.
fn hear(said: &mut impl Read, output: &mut Vec<u8>) {
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = said.read(&mut bytes) {
        let room = OUTPUT_BYTES_MAX - output.len();
        output.extend_from_slice(&bytes[..count.min(room)]);
    }
}

/// The first line, when it begins with ERROR; the exit status means nothing, as in Torque.
fn complaint(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let line = text.lines().next().unwrap_or_default();
    if !line.starts_with(ERROR) {
        return String::new();
    }
    let plain = line.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(MESSAGE_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_a_first_line_that_begins_with_error_is_a_complaint() {
        let check =
            |output: &str, expected: &str| assert_eq!(complaint(output.as_bytes()), expected);
        check("ERROR disk full\nmore\n", "ERROR disk full");
        check("ERROR \x1b[31mred\n", "ERROR  [31mred");
        check("all is well\nERROR later\n", "");
        check(" ERROR\n", "");
        check("", "");
        assert_eq!(
            complaint(format!("ERROR {}", "x".repeat(5000)).as_bytes()).len(),
            1024
        );
    }

    /// A script of this text, and what comes of it.
    fn check(text: &str, mode: u32) -> String {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("check");
        fs::write(&script, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(mode)).unwrap();
        run(&HealthCheck {
            script,
            interval: Duration::from_secs(1),
            timeout: Duration::from_millis(500),
            on_job_start: false,
            on_job_end: false,
        })
    }

    #[test]
    fn a_script_that_hangs_or_may_not_be_run_is_a_complaint() {
        assert_eq!(check("exit 3", 0o700), "");
        assert_eq!(check("echo ERROR no disk; sleep 0", 0o700), "ERROR no disk");
        assert!(check("sleep 60", 0o700).contains("took longer"));
        assert!(check("head -c 100000 /dev/zero", 0o700).is_empty());
        assert!(
            check("true", 0o600).contains("cannot be run")
                || check("true", 0o600).contains("lacks")
        );
        if geteuid().is_root() {
            assert!(check("true", 0o777).contains("lets others write"));
        }
    }

    #[test]
    fn a_job_does_not_begin_where_the_look_before_it_finds_something() {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("check");
        let write = |text: &str| {
            fs::write(&script, format!("#!/bin/sh\n{text}\n")).unwrap();
            fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).unwrap();
        };
        let mut check = HealthCheck {
            script: script.clone(),
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(10),
            on_job_start: false,
            on_job_end: false,
        };
        let health = Arc::new(Health::default());
        assert!(AroundJobs::wanted(Some(&check), &health, || {}).is_none());
        check.on_job_start = true;
        check.on_job_end = true;
        let told = std::sync::atomic::AtomicU32::new(0);
        let count = || {
            told.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        };
        let around = AroundJobs::wanted(Some(&check), &health, count).unwrap();
        write("true");
        assert_eq!(around.at_start(), None);
        write("echo ERROR no disk");
        around.at_end();
        assert_eq!(health.problem(), "ERROR no disk");
        let against = around.at_start();
        assert_eq!(
            against.as_deref(),
            Some("the health script complains: ERROR no disk")
        );
        write("true");
        assert_eq!(around.at_start(), None);
        // Of three looks that found something else than the one before, none went untold, and no other was.
        assert_eq!(told.into_inner(), 2);
    }
}
