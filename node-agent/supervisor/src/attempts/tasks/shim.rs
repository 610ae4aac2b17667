//! The process between the agent and one task: it starts the task as its user in the attempt's share, tells how it ended,
//! and outlives neither the agent nor the attempt. Single-threaded, as the shim of an attempt is.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use capstan_proto::wire::SisterHooks;
use capstan_types::Env;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, setsid};
use prost::Message;

use super::TaskOrder;
use super::process::{END, EXIT, FAILED, KILL, STARTED};
use crate::attempts::cgroup::{Bounds, Cgroup};
use crate::attempts::environment::{self, is_settable};
use crate::attempts::record::Identity;
use crate::attempts::shim::hooks::Hooks;
use crate::attempts::shim::kill::{kill_descendants, signal_descendants};
use crate::attempts::shim::launch::{Kept, job_mask, variables};
use crate::attempts::shim::login_name;
use crate::attempts::shim::program::{NotStarted, Program, Step};
use crate::attempts::shim::stay_off_cards;
use crate::attempts::shim::told::Outcome;

/// Largest order.
const ORDER_BYTES_MAX: usize = 64 << 20;
/// How long the agent may take over telling its order.
const ORDER_TIME: Duration = Duration::from_secs(10);
/// Between TERM and KILL when nobody waits for a task any more.
const GRACE: Duration = Duration::from_secs(5);
/// The status of a program that cannot be executed, as Torque's daemon gives it.
pub(super) const NOT_EXECUTED: i32 = 254;
/// The same of a program that a person runs, as a shell gives it.
pub(super) const NOT_FOUND: i32 = 127;
/// The longest that one `poll` sleeps.
const POLL_MAX: Duration = Duration::from_secs(3600);
/// How often a group is made again that another task's end took away.
const CGROUP_TRIES: u32 = 100;
const CGROUP_PAUSE: Duration = Duration::from_millis(5);

/// What the agent passes: the connection, and where the task writes.
pub(in crate::attempts) struct Passed {
    pub(in crate::attempts) agent: OwnedFd,
    pub(in crate::attempts) stdout: OwnedFd,
    pub(in crate::attempts) stderr: OwnedFd,
}

/// Runs a task to its end. Whoever is told is the agent, on the connection.
pub(in crate::attempts) fn run(passed: Passed) -> io::Result<()> {
    let (mut agent, order, signals) = begin(passed.agent)?;
    let streams = (File::from(passed.stdout), File::from(passed.stderr));
    if let Some(problem) = stay_off_cards(&order.entry) {
        say(&mut agent, &format!("{FAILED} {problem}"));
        return Ok(());
    }
    match &order.hooks {
        Some(hooks) => run_hooks(&order, hooks, &mut agent, (&signals, streams.1)),
        None => {
            let (stdout, stderr) = streams;
            run_program(&order, (None, stdout, stderr), &mut agent, &signals)?;
        }
    }
    leave_group(&order);
    Ok(())
}

/// Becomes a process between: hears what it is to run, and sees to it that nothing that it starts escapes it.
pub(super) fn begin(agent: OwnedFd) -> io::Result<(UnixStream, TaskOrder, SignalFd)> {
    let _leader = setsid();
    let mut agent = UnixStream::from(agent);
    let order = read_order(&mut agent)?;
    set_child_subreaper(true)?;
    let mut blocked = SigSet::all();
    blocked.remove(Signal::SIGSEGV);
    blocked.thread_block()?;
    let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
    let signals = SignalFd::with_flags(&SigSet::from(Signal::SIGCHLD), flags)?;
    Ok((agent, order, signals))
}

/// Nobody else would take away the group of an attempt whose script is elsewhere; while other tasks of it live it stays.
pub(super) fn leave_group(order: &TaskOrder) {
    if let Some(cgroup) = Cgroup::at(&order.entry.cgroups).filter(|_| order.entry.is_guest()) {
        let _busy = cgroup.remove();
    }
}

fn run_program(
    order: &TaskOrder,
    streams: (Option<File>, File, File),
    agent: &mut UnixStream,
    signals: &SignalFd,
) -> io::Result<()> {
    match start(order, streams) {
        Ok(child) => {
            say(agent, &format!("{STARTED} {}", child.as_raw()));
            agent.set_nonblocking(true)?;
            attend(child, agent, signals);
        }
        Err(NotRun::Program) => {
            say(agent, &format!("{STARTED} 0"));
            say(agent, &format!("{EXIT} {NOT_EXECUTED}"));
        }
        Err(NotRun::Problem(problem)) => {
            let line = problem.replace(['\n', '\r'], " ");
            say(agent, &format!("{FAILED} {line}"));
        }
    }
    Ok(())
}

/// Runs the site's scripts for other nodes. Prologues stop when nobody waits for them; an epilogue clears up, and runs to
/// its end whoever does.
fn run_hooks(
    order: &TaskOrder,
    wanted: &SisterHooks,
    agent: &mut UnixStream,
    (signals, mut stderr): (&SignalFd, File),
) {
    let Some(identity) = &order.entry.identity else {
        return say(
            agent,
            &format!("{FAILED} as whom the job runs is not known"),
        );
    };
    say(agent, &format!("{STARTED} 0"));
    // As in Torque, what they print on other nodes goes nowhere.
    let nowhere = Kept::default();
    let hooks = Hooks::new(&order.entry, identity, signals, &nowhere).on_sister(order.node);
    let problems = if wanted.is_after {
        hooks.after_on_sister(&Outcome {
            session: wanted.session,
            usage: &wanted.usage.unwrap_or_default(),
            exit_status: wanted.exit_status,
        })
    } else {
        hooks.before_on_sister(agent).err().into_iter().collect()
    };
    kill_descendants();
    let status = i32::from(!problems.is_empty());
    // A pipe that is full or closed has no reader for this either.
    let _unread = stderr.write_all(problems.join("; ").as_bytes());
    drop(stderr);
    say(agent, &format!("{EXIT} {status}"));
}

fn read_order(agent: &mut UnixStream) -> io::Result<TaskOrder> {
    agent.set_nonblocking(false)?;
    agent.set_read_timeout(Some(ORDER_TIME))?;
    let mut length = [0; 4];
    agent.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > ORDER_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length];
    agent.read_exact(&mut bytes)?;
    TaskOrder::decode(bytes.as_slice()).map_err(io::Error::other)
}

/// Why there is no task.
pub(super) enum NotRun {
    /// The program cannot be executed; it said so itself, where it would have written.
    Program,
    Problem(String),
}

pub(super) fn start(
    order: &TaskOrder,
    (stdin, stdout, mut stderr): (Option<File>, File, File),
) -> Result<Pid, NotRun> {
    let problem = |problem: String| NotRun::Problem(problem);
    let text = |error: io::Error| NotRun::Problem(error.to_string());
    let entry = &order.entry;
    let identity = entry.identity.as_ref();
    let identity =
        identity.ok_or_else(|| problem("as whom the task runs is not known".to_owned()))?;
    let host = nix::unistd::gethostname().unwrap_or_default();
    let mut env = variables_of(order, identity, &host.to_string_lossy());
    for variable in order.environment.iter().filter(|it| is_settable(it)) {
        // What the job was promised stays as it is.
        if !variable.name.starts_with("PBS_") || variable.name.starts_with("PBS_O_") {
            env.set(variable.name.as_str(), variable.value.as_str());
        }
    }
    let nul = |_| problem("a word holds a NUL byte".to_owned());
    let shell = environment::shell(&entry.spec, identity, &entry.node);
    let login = [login_name(&shell)];
    let (name, arguments) = match &order.arguments[..] {
        [] => (shell.as_str(), &login[..]),
        arguments @ [name, ..] => (name.as_str(), arguments),
    };
    let folder = match order.folder.as_str() {
        "" => environment::start_folder(&entry.spec, identity),
        folder => folder,
    };
    let arguments = arguments.iter().map(|word| CString::new(word.as_str()));
    let complaint = stderr.try_clone().map_err(text)?;
    let mut program = Program {
        identity,
        cgroup: Cgroup::at(&entry.cgroups),
        stdin: match stdin {
            Some(stdin) => stdin,
            None => File::open("/dev/null").map_err(text)?,
        },
        stdout,
        stderr: complaint,
        folder: CString::new(folder).map_err(nul)?,
        paths: candidates(name, env.get("PATH").unwrap_or_default()).map_err(nul)?,
        arguments: arguments.collect::<Result<_, _>>().map_err(nul)?,
        environment: variables(&env).map_err(nul)?,
        has_terminal: order.session.as_ref().is_some_and(|it| it.has_terminal),
        umask: job_mask(entry),
        limits: Some(&entry.spec),
    };
    match start_inside(&mut program, order) {
        Ok(child) => Ok(child),
        Err(NotStarted::Step(Step::Program, errno)) => {
            // A pipe that is full or closed has no reader for this either.
            let _unread = writeln!(stderr, "{name}: {}", errno.desc());
            Err(NotRun::Program)
        }
        Err(NotStarted::Step(step, errno)) => Err(problem(format!("{step:?}: {}", errno.desc()))),
        Err(NotStarted::Fork(errno)) => Err(problem(format!("no process: {}", errno.desc()))),
    }
}

/// What it finds: what the script does when a person runs it, else what Torque gives to tasks.
fn variables_of(order: &TaskOrder, identity: &Identity, host: &str) -> Env {
    let Some(session) = order.session.as_ref().filter(|it| !it.is_task) else {
        return environment::of_task(&order.entry, identity, host, order.place());
    };
    let mut env = environment::of_session(&order.entry, identity, host, order.place());
    if session.has_terminal {
        let kind = match session.term.as_str() {
            "" => "dumb",
            kind => kind,
        };
        env.set("TERM", kind);
    }
    env
}

/// Starts the program in the attempt's group, which is made when the attempt has none here yet, and made again when the
/// end of another task has just taken it away.
fn start_inside(program: &mut Program<'_>, order: &TaskOrder) -> Result<Pid, NotStarted> {
    let mut tries = 0;
    loop {
        if let Some(cgroup) = program.cgroup.as_ref().filter(|group| !group.is_whole()) {
            // Whether it is there now, entering tells.
            let _made = cgroup.create(&Bounds::of(&order.entry));
        }
        match program.start() {
            Err(NotStarted::Step(Step::Cgroup, Errno::ENOENT | Errno::ENODEV))
                if tries < CGROUP_TRIES =>
            {
                tries += 1;
                std::thread::sleep(CGROUP_PAUSE);
            }
            started => return started,
        }
    }
}

/// Where `execvp` would look.
fn candidates(name: &str, path: &str) -> Result<Vec<CString>, std::ffi::NulError> {
    if name.contains('/') {
        return Ok(vec![CString::new(name)?]);
    }
    let folders = path.split(':').map(|folder| match folder {
        "" => ".",
        folder => folder,
    });
    folders
        .map(|folder| CString::new(format!("{folder}/{name}")))
        .collect()
}

/// Waits until nothing of the task is left, or nobody wants it any more.
fn attend(child: Pid, agent: &mut UnixStream, signals: &SignalFd) {
    let mut kill_at = None;
    let mut has_agent = true;
    loop {
        if !reap(child, agent) {
            return;
        }
        let wish = match has_agent {
            true => orders(agent),
            false => Wish::GoOn,
        };
        match wish {
            Wish::GoOn => {}
            Wish::Kill => return kill_descendants(),
            Wish::End | Wish::Alone => {
                has_agent = matches!(wish, Wish::End);
                signal_descendants(Signal::SIGTERM);
                kill_at.get_or_insert_with(|| Instant::now() + GRACE);
            }
        }
        if kill_at.is_some_and(|at| at <= Instant::now()) {
            return kill_descendants();
        }
        let timeout = kill_at.map_or(POLL_MAX, |at| at.saturating_duration_since(Instant::now()));
        let mut watched = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        watched.extend(has_agent.then(|| PollFd::new(agent.as_fd(), PollFlags::POLLIN)));
        let millis = timeout.as_micros().div_ceil(1000) as i32;
        // Interrupted or not, everything is looked at again.
        let _ready = poll(
            &mut watched,
            PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX),
        );
        while let Ok(Some(_child)) = signals.read_signal() {}
    }
}

/// Reaps whoever ended, telling of the task itself; false when nobody is left.
fn reap(child: Pid, agent: &mut UnixStream) -> bool {
    loop {
        match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => return true,
            Ok(WaitStatus::Exited(pid, code)) if pid == child => {
                say(agent, &format!("{EXIT} {code}"));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => {
                say(agent, &format!("{EXIT} {}", 128 + signal as i32));
            }
            Err(Errno::ECHILD) => return false,
            Ok(_) | Err(_) => {}
        }
    }
}

enum Wish {
    GoOn,
    /// Nobody waits any more.
    End,
    /// As above, and no agent is there to say anything else.
    Alone,
    /// The attempt has ended.
    Kill,
}

fn orders(agent: &mut UnixStream) -> Wish {
    let mut byte = [0];
    match agent.read(&mut byte) {
        Ok(1) if byte[0] == KILL => Wish::Kill,
        Ok(1) if byte[0] == END => Wish::End,
        Ok(1) => Wish::GoOn,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Wish::GoOn,
        Ok(_) | Err(_) => Wish::Alone,
    }
}

/// An agent that cannot be told has gone, and its end is seen on the same connection.
pub(super) fn say(agent: &mut UnixStream, line: &str) {
    let _gone = agent.write_all(format!("{line}\n").as_bytes());
}
