//! Prologues and epilogues, by Torque's names, arguments, users and meanings. What runs as root must be root's own and
//! nobody else's to change, and so must the folders above it; what runs as the user is in the attempt's share.

use std::cell::Cell;
use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use capstan_proto::wire;
use capstan_types::Seconds;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::signalfd::SignalFd;
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Gid, Group, Pid};

use super::control::{Control, Limits, Order, Stop};
use super::fitness::{fitness, only_roots};
use super::launch::Kept;
use super::program::{NotStarted, Program};
use super::user::AsUser;
use crate::attempts::cgroup::{Bounds, Cgroup};
use crate::attempts::environment::environment;
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
/// What of the job's environment they see.
const VARIABLES: [&str; 11] = [
    "PBS_NODEFILE",
    "PBS_NODENUM",
    "PBS_NP",
    "PBS_NUM_NODES",
    "PBS_NUM_PPN",
    "PBS_O_WORKDIR",
    "PBS_JOBID",
    "PBS_GPUFILE",
    "PBS_SCRATCH",
    "CUDA_VISIBLE_DEVICES",
    "HOSTNAME",
];

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

/// What an epilogue is told of how it went.
pub(super) struct Outcome<'a> {
    pub(super) session: u32,
    pub(super) usage: &'a wire::Usage,
    pub(super) exit_status: i32,
}

/// What runs scripts around an attempt's own.
pub(super) struct Hooks<'a> {
    pub(super) entry: &'a Entry,
    pub(super) identity: &'a Identity,
    pub(super) signals: &'a SignalFd,
    pub(super) streams: &'a Kept,
    have_run: Cell<bool>,
}

/// Whose a script must be, and as whom it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// Root's, as root.
    Site,
    /// Root's, as the user.
    SiteForUser,
    /// The user's, as the user.
    Job,
}

/// How a script ended.
#[derive(Debug)]
enum Ended {
    /// There is none, or it ended with this status.
    With(i32),
    /// It took too long, or may not be run.
    Badly(String),
    Stopped(Stop),
}

impl<'a> Hooks<'a> {
    pub(super) fn new(
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
            have_run: Cell::new(false),
        }
    }

    /// Whether any has: something of it may be left.
    pub(super) const fn have_run(&self) -> bool {
        self.have_run.get()
    }

    /// Runs what comes before the script; new limits that were ordered meanwhile.
    pub(super) fn before(&self, control: &mut Control) -> Result<Vec<Limits>, NotBegun> {
        let mut limits = Vec::new();
        let arguments = self.prologue_arguments();
        let own = self.job_level(&self.entry.spec.prologue);
        let all = [
            self.site("prologue"),
            self.for_user("prologue.user"),
            own.map(|path| (path, Owner::Job)),
        ];
        for (path, owner) in all.into_iter().flatten() {
            let name = name_of(&path);
            match self.run(&path, owner, &arguments, Some((control, &mut limits))) {
                Ended::With(0) => {}
                Ended::With(ABORT) => {
                    return Err(NotBegun::Aborted(format!("{name} ended with {ABORT}")));
                }
                Ended::With(status) => {
                    return Err(NotBegun::Failed(format!("{name} ended with {status}")));
                }
                Ended::Badly(problem) => {
                    return Err(NotBegun::Failed(format!("{name} {problem}")));
                }
                Ended::Stopped(stop) => return Err(NotBegun::Stopped(stop)),
            }
        }
        Ok(limits)
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

    fn run_all<const COUNT: usize>(
        &self,
        all: [Option<(PathBuf, Owner)>; COUNT],
        outcome: &Outcome<'_>,
    ) -> Vec<String> {
        let mut arguments = None;
        let mut problems = Vec::new();
        for (path, owner) in all.into_iter().flatten() {
            let arguments = arguments.get_or_insert_with(|| self.epilogue_arguments(outcome));
            let name = name_of(&path);
            match self.run(&path, owner, arguments, None) {
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

    fn for_user(&self, name: &str) -> Option<(PathBuf, Owner)> {
        Some((self.named(name)?, Owner::SiteForUser))
    }

    /// The site's script of this name, if it is there.
    fn named(&self, name: &str) -> Option<PathBuf> {
        if self.entry.hooks_folder.is_empty() {
            return None;
        }
        let path = Path::new(&self.entry.hooks_folder).join(name);
        fs::symlink_metadata(&path).ok().map(|_| path)
    }

    /// The job's own script (`-l prologue=PATH`), beside the folder of `qsub` when its path is not whole.
    fn job_level(&self, path: &str) -> Option<PathBuf> {
        if path.is_empty() || self.entry.hooks_folder.is_empty() {
            return None;
        }
        let variables = &self.entry.spec.variables;
        let submitted = variables.iter().find(|it| it.name == "PBS_O_WORKDIR");
        let folder = submitted.map_or(self.identity.home.as_str(), |it| it.value.as_str());
        Some(Path::new(folder).join(path))
    }

    /// Runs one script to its end. With `control`, orders are heard meanwhile.
    fn run(
        &self,
        path: &Path,
        owner: Owner,
        arguments: &[String],
        control: Option<(&mut Control, &mut Vec<Limits>)>,
    ) -> Ended {
        if let Err(problem) = self.check(path, owner) {
            return Ended::Badly(problem);
        }
        match self.start(path, owner, arguments) {
            Ok(child) => self.follow(child, control),
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
            environment: self.variables().map_err(nul)?,
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

    /// As Torque gives it, and what the job sees of cards and scratch space.
    fn variables(&self) -> Result<Vec<CString>, std::ffi::NulError> {
        let host = nix::unistd::gethostname().unwrap_or_default();
        let env = environment(self.entry, self.identity, &host.to_string_lossy());
        let nodes = self.entry.spec.resource_list.rsplit_once("neednodes=");
        let own = [
            ("PATH", "/bin:/usr/bin"),
            ("PBS_MSHOST", self.entry.node.as_str()),
            ("PBS_RESOURCE_NODES", nodes.map_or("", |(_, nodes)| nodes)),
        ];
        let jobs = VARIABLES
            .into_iter()
            .filter_map(|name| Some((name, env.get(name)?)));
        own.into_iter()
            .chain(jobs)
            .map(|(name, value)| CString::new(format!("{name}={value}")))
            .collect()
    }

    /// Waits for a script within its time.
    fn follow(&self, child: Pid, mut control: Option<(&mut Control, &mut Vec<Limits>)>) -> Ended {
        let deadline = Instant::now() + Duration::from_secs(self.entry.hook_secs.into());
        loop {
            if let Some(status) = reap(child) {
                end_session(child);
                return Ended::With(status);
            }
            let mut stopped = None;
            if let Some((control, limits)) = &mut control {
                for order in control.orders() {
                    match order {
                        Order::Stop(stop) => stopped = Some(stop),
                        Order::Limits(new) => limits.push(new),
                    }
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if stopped.is_some() || left.is_zero() {
                end_session(child);
                let _reaped = waitpid(child, None);
                let secs = self.entry.hook_secs;
                let late = || Ended::Badly(format!("took longer than {secs} s"));
                return stopped.map_or_else(late, Ended::Stopped);
            }
            let mut watched = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            if let Some((control, _)) = &control {
                watched.extend(control.watched());
            }
            // Interrupted or not, everything is looked at again.
            let _ready = poll(
                &mut watched,
                PollTimeout::try_from(left.min(POLL_MAX)).unwrap_or(PollTimeout::ZERO),
            );
            drop(watched);
            while let Ok(Some(_child)) = self.signals.read_signal() {}
        }
    }

    /// Torque's eight arguments of prologues.
    fn prologue_arguments(&self) -> Vec<String> {
        let spec = &self.entry.spec;
        let [id, user, group, name] = self.who();
        let resources = spec.resource_list.clone();
        let (queue, account) = (spec.queue.clone(), spec.account.clone());
        vec![
            id,
            user,
            group,
            name,
            resources,
            queue,
            account,
            self.entry.script_file(),
        ]
    }

    /// Torque's eleven arguments of epilogues.
    fn epilogue_arguments(&self, outcome: &Outcome<'_>) -> Vec<String> {
        let spec = &self.entry.spec;
        let [id, user, group, name] = self.who();
        vec![
            id,
            user,
            group,
            name,
            outcome.session.to_string(),
            spec.resource_list.clone(),
            used(outcome.usage),
            spec.queue.clone(),
            spec.account.clone(),
            outcome.exit_status.to_string(),
            self.entry.script_file(),
        ]
    }

    fn who(&self) -> [String; 4] {
        let spec = &self.entry.spec;
        let gid = self.identity.gid;
        let group = Group::from_gid(Gid::from_raw(gid)).ok().flatten();
        let group = group.map_or_else(|| gid.to_string(), |group| group.name);
        [
            spec.job_id.clone(),
            self.identity.user.clone(),
            group,
            spec.job_name.clone(),
        ]
    }
}

/// `cput=00:00:00,vmem=0kb,walltime=00:00:00,mem=0kb,energy_used=0`.
fn used(usage: &wire::Usage) -> String {
    format!(
        "cput={},vmem={}kb,walltime={},mem={}kb,energy_used=0",
        Seconds(usage.cput_secs),
        usage.vmem_kb,
        Seconds(usage.walltime_secs),
        usage.mem_kb,
    )
}

fn name_of(path: &Path) -> String {
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
    let left = proc::all()
        .into_iter()
        .filter(|(_, stat)| stat.session == session);
    for (pid, _) in left {
        // It may have ended since.
        let _gone = kill(Pid::from_raw(pid as i32), Signal::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_is_told_as_torque_tells_it() {
        let usage = wire::Usage {
            cput_secs: 61,
            mem_kb: 7,
            vmem_kb: 8,
            walltime_secs: 3600,
            ..wire::Usage::default()
        };
        let expected = "cput=00:01:01,vmem=8kb,walltime=01:00:00,mem=7kb,energy_used=0";
        assert_eq!(used(&usage), expected);
    }
}
