//! Prologues and epilogues, by Torque's names, arguments, users and meanings. What runs as root must be root's own and
//! nobody else's to change, and so must the folders above it; what runs as the user is in the attempt's share.

use std::cell::Cell;
use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::control::{Control, Limits, Order, Stop};
use super::fitness::{fitness, only_roots};
use super::launch::Kept;
use super::program::{NotStarted, Program};
use super::told::{self, Outcome};
use super::user::AsUser;
use crate::attempts::aimed;
use crate::attempts::cgroup::{Bounds, Cgroup};
use crate::attempts::proc;
use crate::attempts::record::{Entry, Fence, Identity};

/// The status that ends the job; any other but 0 puts it back in its queue.
const ABORT: i32 = 1;
/// The longest that one `poll` sleeps.
const POLL_MAX: Duration = Duration::from_secs(60);
/// The masks of what root's scripts and the user's make.
const ROOT_UMASK: u32 = 0o022;
const USER_UMASK: u32 = 0o077;
/// Kinds that `-T` cannot name: files of these names are for other users or other times.
const RESERVED: [&str; 5] = ["user", "parallel", "user.parallel", "precancel", "prologue"];

/// Why the script does not start.
#[derive(Debug)]
pub(super) enum NotBegun {
    /// A prologue says that the job is to end.
    Aborted(String),
    /// A prologue failed: the job is to be tried again.
    Failed(String),
    /// An order to end the attempt came meanwhile.
    Stopped(Stop),
}

/// What runs scripts around an attempt's own.
pub(in crate::attempts) struct Hooks<'a> {
    pub(super) entry: &'a Entry,
    pub(super) identity: &'a Identity,
    pub(super) signals: &'a SignalFd,
    pub(super) streams: &'a Kept,
    /// Which of the attempt's nodes this is.
    node: u32,
    have_run: Cell<bool>,
}

/// Whose a script must be, and as whom it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// Root's, as root.
    Site,
    /// Root's, as the user.
    SiteForUser,
    /// The user's, as the user.
    Job,
}

/// How a script ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// There is none, or it ended with this status.
    With(i32),
    /// It took too long, or may not be run.
    Badly(String),
    Stopped(Stop),
}

/// Who may say that a script is to stop.
pub(super) enum Listener<'a> {
    Nobody,
    /// The agent of the node of the attempt's script; what it says of limits is kept.
    Agent(&'a mut Control, &'a mut Vec<Limits>),
    /// On another node, whoever closes or writes.
    Asker(&'a UnixStream),
}

impl<'a> Hooks<'a> {
    pub(in crate::attempts) fn new(
        entry: &'a Entry,
        identity: &'a Identity,
        signals: &'a SignalFd,
        streams: &'a Kept,
    ) -> Self {
        Self {
            entry,
            identity,
            signals,
            streams,
            node: 0,
            have_run: Cell::new(false),
        }
    }

    /// As on another node of the attempt than that of its script.
    pub(in crate::attempts) fn on_sister(self, node: u32) -> Self {
        Self { node, ..self }
    }

    /// Whether any has: something of it may be left.
    pub(super) const fn have_run(&self) -> bool {
        self.have_run.get()
    }

    /// Runs what comes before the script, on other nodes as well; new limits that were ordered meanwhile.
    pub(super) fn before(&self, control: &mut Control) -> Result<Vec<Limits>, NotBegun> {
        let mut limits = Vec::new();
        if let Some(path) = self.named("presetup.prologue") {
            let arguments = told::presetup(self.entry, self.identity);
            let listener = Listener::Agent(control, &mut limits);
            self.prologue(&path, Owner::Site, &arguments, listener)?;
        }
        self.sisters_before(control, &mut limits)?;
        let arguments = told::prologue(self.entry, self.identity);
        let own = self.job_level(&self.entry.spec.prologue);
        let all = [
            self.site("prologue"),
            self.for_user("prologue.user"),
            own.map(|path| (path, Owner::Job)),
        ];
        for (path, owner) in all.into_iter().flatten() {
            let listener = Listener::Agent(control, &mut limits);
            self.prologue(&path, owner, &arguments, listener)?;
        }
        Ok(limits)
    }

    fn prologue(
        &self,
        path: &Path,
        owner: Owner,
        arguments: &[String],
        listener: Listener<'_>,
    ) -> Result<(), NotBegun> {
        let (name, node) = (name_of(path), &self.entry.node);
        match self.run(path, owner, arguments, listener) {
            Ended::With(0) => Ok(()),
            Ended::With(ABORT) => Err(NotBegun::Aborted(format!("{name} ended with {ABORT}"))),
            Ended::With(status) => {
                let problem = format!("{name} ended with {status} on {node}");
                Err(NotBegun::Failed(problem))
            }
            Ended::Badly(problem) => Err(NotBegun::Failed(format!("{name} {problem} on {node}"))),
            Ended::Stopped(stop) => Err(NotBegun::Stopped(stop)),
        }
    }

    /// Runs what comes behind the script; a sentence for each that failed.
    pub(super) fn after(&self, outcome: &Outcome<'_>) -> Vec<String> {
        let own = self.job_level(&self.entry.spec.epilogue);
        let all = [
            self.for_user("epilogue.user"),
            own.map(|path| (path, Owner::Job)),
            self.site("epilogue"),
        ];
        self.run_all(all, outcome)
    }

    /// Runs what comes before the signals of an order to end.
    pub(super) fn before_cancel(&self, outcome: &Outcome<'_>) -> Vec<String> {
        self.run_all([self.for_user("epilogue.precancel")], outcome)
    }

    pub(super) fn run_all<const COUNT: usize>(
        &self,
        all: [Option<(PathBuf, Owner)>; COUNT],
        outcome: &Outcome<'_>,
    ) -> Vec<String> {
        let mut arguments = None;
        let mut problems = Vec::new();
        for (path, owner) in all.into_iter().flatten() {
            let arguments =
                arguments.get_or_insert_with(|| told::epilogue(self.entry, self.identity, outcome));
            let name = name_of(&path);
            match self.run(&path, owner, arguments, Listener::Nobody) {
                Ended::With(0) | Ended::Stopped(_) => {}
                Ended::With(status) => problems.push(format!("{name} ended with {status}")),
                Ended::Badly(problem) => problems.push(format!("{name} {problem}")),
            }
        }
        problems
    }

    /// `prologue.NAME` of the job's kind (`-T NAME`) where there is one, else `prologue`.
    fn site(&self, name: &str) -> Option<(PathBuf, Owner)> {
        let kind = self.entry.spec.job_type.as_str();
        let is_kind = !kind.is_empty() && !kind.contains('/') && !RESERVED.contains(&kind);
        let of_kind = is_kind
            .then(|| self.named(&format!("{name}.{kind}")))
            .flatten();
        let path = of_kind.or_else(|| self.named(name))?;
        Some((path, Owner::Site))
    }

    pub(super) fn for_user(&self, name: &str) -> Option<(PathBuf, Owner)> {
        Some((self.named(name)?, Owner::SiteForUser))
    }

    /// The site's script of this name, if it is there.
    pub(super) fn named(&self, name: &str) -> Option<PathBuf> {
        if self.entry.hooks_folder.is_empty() {
            return None;
        }
        let path = Path::new(&self.entry.hooks_folder).join(name);
        fs::symlink_metadata(&path).ok().map(|_| path)
    }

    /// The job's own script (`-l prologue=PATH`), beside the folder of `qsub` when its path is not whole. A job inside an image
    /// has none: nothing of the user's runs on the host then.
    fn job_level(&self, path: &str) -> Option<PathBuf> {
        let is_contained = !self.entry.spec.image.is_empty();
        if path.is_empty() || self.entry.hooks_folder.is_empty() || is_contained {
            return None;
        }
        let variables = &self.entry.spec.variables;
        let submitted = variables.iter().find(|it| it.name == "PBS_O_WORKDIR");
        let folder = submitted.map_or(self.identity.home.as_str(), |it| it.value.as_str());
        Some(Path::new(folder).join(path))
    }

    /// Runs one script to its end, unless the listener hears that it is to stop.
    pub(super) fn run(
        &self,
        path: &Path,
        owner: Owner,
        arguments: &[String],
        listener: Listener<'_>,
    ) -> Ended {
        if let Err(problem) = self.check(path, owner) {
            return Ended::Badly(problem);
        }
        match self.start(path, owner, arguments) {
            Ok(child) => self.follow(child, listener),
            Err(problem) => Ended::Badly(problem),
        }
    }

    /// Whether the script may be run as whom it would run.
    fn check(&self, path: &Path, owner: Owner) -> Result<(), String> {
        if owner == Owner::Job {
            let looked = AsUser::become_user(self.identity).map(|_rights| fs::metadata(path));
            let found = match looked {
                Ok(Ok(found)) => found,
                Ok(Err(error)) => return Err(format!("cannot be run: {error}")),
                Err(errno) => return Err(format!("cannot be run: {}", errno.desc())),
            };
            return fitness(&found, self.identity.uid, 0o500);
        }
        only_roots(path, if owner == Owner::Site { 0o500 } else { 0o505 })
    }

    fn start(&self, path: &Path, owner: Owner, arguments: &[String]) -> Result<Pid, String> {
        let root = Identity {
            user: "root".to_owned(),
            groups: vec![0],
            ..Identity::default()
        };
        let is_roots = owner == Owner::Site;
        let identity = if is_roots { &root } else { self.identity };
        let cgroup = match is_roots {
            // What the site does around a job, it may do with all cards; we may not.
            true => self.entry.fence.as_ref().map(Fence::site),
            false => None,
        };
        let cgroup = match cgroup {
            Some(site) => Cgroup::at(&[site]),
            None => Cgroup::at(&self.entry.cgroups).filter(|_| !is_roots),
        };
        if let Some(cgroup) = cgroup.as_ref().filter(|group| !group.is_whole()) {
            let made = cgroup.create(&Bounds::of(self.entry));
            made.map_err(|error| format!("has no cgroup: {error}"))?;
        }
        let folder = if is_roots {
            &self.entry.hooks_folder
        } else {
            &self.identity.home
        };
        let nul = |_| "cannot be told its arguments: one holds a NUL byte".to_owned();
        let path = CString::new(path.as_os_str().as_encoded_bytes()).map_err(nul)?;
        let arguments = arguments.iter().map(|word| CString::new(word.as_str()));
        let arguments: Result<Vec<_>, _> =
            [Ok(path.clone())].into_iter().chain(arguments).collect();
        let program = Program {
            identity,
            cgroup,
            stdin: null()?,
            stdout: stream(self.streams.stdout.as_ref())?,
            stderr: stream(self.streams.stderr.as_ref())?,
            folder: CString::new(folder.as_str()).map_err(nul)?,
            paths: vec![path],
            arguments: arguments.map_err(nul)?,
            environment: told::variables(self.entry, self.identity, self.node).map_err(nul)?,
            has_terminal: false,
            umask: Mode::from_bits_truncate(if is_roots { ROOT_UMASK } else { USER_UMASK }),
            limits: (!is_roots).then_some(&self.entry.spec),
        };
        self.have_run.set(true);
        program.start().map_err(|problem| match problem {
            NotStarted::Fork(errno) => format!("cannot be run: {}", errno.desc()),
            NotStarted::Step(step, errno) => {
                format!("cannot be run: {} ({step:?})", errno.desc())
            }
        })
    }

    /// Waits for a script within its time.
    fn follow(&self, child: Pid, mut listener: Listener<'_>) -> Ended {
        let deadline = Instant::now() + Duration::from_secs(self.entry.hook_secs.into());
        loop {
            if let Some(status) = reap(child) {
                end_session(child);
                return Ended::With(status);
            }
            let stopped = listener.stopped();
            let left = deadline.saturating_duration_since(Instant::now());
            if stopped.is_some() || left.is_zero() {
                end_session(child);
                let _reaped = waitpid(child, None);
                let secs = self.entry.hook_secs;
                let late = || Ended::Badly(format!("took longer than {secs} s"));
                return stopped.map_or_else(late, Ended::Stopped);
            }
            let mut watched = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            listener.watch(&mut watched);
            // Interrupted or not, everything is looked at again.
            let _ready = poll(
                &mut watched,
                PollTimeout::try_from(left.min(POLL_MAX)).unwrap_or(PollTimeout::ZERO),
            );
            drop(watched);
            while let Ok(Some(_child)) = self.signals.read_signal() {}
        }
    }
}

impl Listener<'_> {
    /// The order to stop, if one has come.
    fn stopped(&mut self) -> Option<Stop> {
        match self {
            Self::Nobody => None,
            Self::Agent(control, limits) => {
                let mut stopped = None;
                for order in control.orders() {
                    match order {
                        Order::Stop(stop) => stopped = Some(stop),
                        Order::Limits(new) => limits.push(new),
                        // An answer that came after it was waited for.
                        Order::Sisters(_) => {}
                        // It is found in jobs that run.
                        Order::Fail(..) => {}
                    }
                }
                stopped
            }
            Self::Asker(asker) => {
                let mut watched = [PollFd::new(asker.as_fd(), PollFlags::POLLIN)];
                let is_heard = poll(&mut watched, PollTimeout::ZERO).is_ok_and(|ready| ready > 0);
                is_heard.then_some(Stop {
                    signal: Signal::SIGKILL as i32,
                    grace: Duration::ZERO,
                })
            }
        }
    }

    fn watch<'fd>(&'fd self, watched: &mut Vec<PollFd<'fd>>) {
        match self {
            Self::Nobody => {}
            Self::Agent(control, _) => watched.extend(control.watched()),
            Self::Asker(asker) => watched.push(PollFd::new(asker.as_fd(), PollFlags::POLLIN)),
        }
    }
}

pub(super) fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.chars().filter(|c| !c.is_control()).collect()
}

fn null() -> Result<File, String> {
    File::open("/dev/null").map_err(|error| format!("cannot be run: {error}"))
}

fn stream(kept: Option<&File>) -> Result<File, String> {
    let text = |error: std::io::Error| format!("cannot be given its output: {error}");
    match kept {
        Some(file) => file.try_clone().map_err(text),
        None => File::options().write(true).open("/dev/null").map_err(text),
    }
}

/// The exit code of `child`, once it has ended.
fn reap(child: Pid) -> Option<i32> {
    match waitpid(child, Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::StillAlive) => None,
        Ok(WaitStatus::Exited(_, code)) => Some(code),
        Ok(WaitStatus::Signaled(_, signal, _)) => Some(128 + signal as i32),
        // Nothing else is asked for; a child that is not there has ended.
        Ok(_) | Err(_) => Some(Signal::SIGKILL as i32),
    }
}

/// Kills what a script left of its session. Who left the session as well is killed with the job.
fn end_session(leader: Pid) {
    let session = leader.as_raw() as u32;
    let left = || {
        let all = proc::all().into_iter();
        let left = all.filter(|(_, stat)| stat.session == session);
        left.map(|(pid, _)| pid).collect()
    };
    // Some may have ended since.
    let _killed = aimed::send(&left(), Signal::SIGKILL, left);
}
