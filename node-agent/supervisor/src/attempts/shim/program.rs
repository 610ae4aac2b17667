//! Turns a child into a program of the user's: session, cgroup, streams, limits, rights, folder, then exec.
#![expect(
    unsafe_code,
    reason = "clone and signal dispositions have no safe form"
)]

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use capstan_proto::wire::LaunchSpec;
use nix::errno::Errno;
use nix::libc;
use nix::sched::{CloneFlags, clone};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{
    Gid, Pid, Uid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, execve, geteuid, setgroups,
    setresgid, setresuid, setsid,
};

use super::user::groups;
use crate::attempts::cgroup::Cgroup;
use crate::attempts::record::Identity;

/// Stack of the child until it executes the program.
const STACK_BYTES: usize = 128 * 1024;
/// What reads a program that the kernel cannot execute and that has no `#!` line.
const SHELL: &CStr = c"/bin/sh";

/// Everything that the child needs, made before it begins.
pub(in crate::attempts) struct Program<'a> {
    pub(in crate::attempts) identity: &'a Identity,
    /// To begin in.
    pub(in crate::attempts) cgroup: Option<Cgroup>,
    pub(in crate::attempts) stdin: File,
    pub(in crate::attempts) stdout: File,
    pub(in crate::attempts) stderr: File,
    pub(in crate::attempts) folder: CString,
    /// Where the program may be: the first that can be executed is.
    pub(in crate::attempts) paths: Vec<CString>,
    pub(in crate::attempts) arguments: Vec<CString>,
    pub(in crate::attempts) environment: Vec<CString>,
    pub(in crate::attempts) umask: Mode,
    /// Its stdin is a terminal, which is to be its own: keys that mean signals are then for its processes.
    pub(in crate::attempts) has_terminal: bool,
    /// Whose limits hold; absent for what we run on the user's behalf.
    pub(in crate::attempts) limits: Option<&'a LaunchSpec>,
}

/// What the child does before it executes the program, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::attempts) enum Step {
    Session,
    Cgroup,
    Streams,
    Limits,
    Rights,
    Folder,
    Program,
}

/// Why there is no process.
#[derive(Debug)]
pub(in crate::attempts) enum NotStarted {
    Fork(Errno),
    Step(Step, Errno),
}

impl Program<'_> {
    /// Starts it; when this returns, it has been executed. For processes with one thread only.
    pub(in crate::attempts) fn start(&self) -> Result<Pid, NotStarted> {
        let mut failure = None;
        let mut stack = vec![0; STACK_BYTES];
        let child = {
            let run = Box::new(|| {
                failure = Some(self.begin());
                // The status that a shell gives for a command it cannot run; nobody but us looks at it.
                127
            });
            // A child in our own memory, for which we stand still until it executes: copying the page tables first,
            // only to drop them, was the dearest part of a start.
            let flags = CloneFlags::CLONE_VM | CloneFlags::CLONE_VFORK;
            // SAFETY: this process has one thread, and it waits; so the child has the memory for itself. It leaves by
            // exec or by the end of the closure, and what it changes beside memory (signals, files, rights) is its
            // own.
            unsafe { clone(run, &mut stack, flags, Some(Signal::SIGCHLD as i32)) }
        };
        let child = child.map_err(NotStarted::Fork)?;
        let Some((step, errno)) = failure else {
            return Ok(child);
        };
        // Reaped here, or it would be taken for the program.
        let _reaped = nix::sys::wait::waitpid(child, None);
        Err(NotStarted::Step(step, errno))
    }

    /// Becomes the program; returns only when that fails.
    fn begin(&self) -> (Step, Errno) {
        match self.prepare() {
            Ok(()) => (Step::Program, self.execute()),
            Err(failure) => failure,
        }
    }

    fn prepare(&self) -> Result<(), (Step, Errno)> {
        let plain = |error: io::Error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
        let at = |step: Step| move |errno: Errno| (step, errno);
        setsid().map_err(at(Step::Session))?;
        if let Some(cgroup) = &self.cgroup {
            cgroup
                .enter()
                .map_err(|error| (Step::Cgroup, plain(error)))?;
        }
        // The job is what the kernel should kill when memory runs out, not us who account for it.
        let _unprivileged = std::fs::write("/proc/self/oom_score_adj", "0");
        reset_signals();
        dup2_stdin(self.stdin.as_fd()).map_err(at(Step::Streams))?;
        dup2_stdout(self.stdout.as_fd()).map_err(at(Step::Streams))?;
        dup2_stderr(self.stderr.as_fd()).map_err(at(Step::Streams))?;
        if self.has_terminal {
            take_terminal().map_err(at(Step::Streams))?;
        }
        if let Some(spec) = self.limits {
            set_limits(spec).map_err(at(Step::Limits))?;
        }
        take_rights(self.identity).map_err(at(Step::Rights))?;
        umask(self.umask);
        chdir(self.folder.as_c_str()).map_err(at(Step::Folder))
    }

    /// As `execvp` does; returns only when nothing can be executed.
    fn execute(&self) -> Errno {
        let mut worst = Errno::ENOENT;
        for path in &self.paths {
            let Err(errno) = execve(path, &self.arguments, &self.environment);
            if errno == Errno::ENOEXEC {
                let mut arguments = vec![SHELL.to_owned(), path.clone()];
                arguments.extend(self.arguments.iter().skip(1).cloned());
                let Err(errno) = execve(SHELL, &arguments, &self.environment);
                return errno;
            }
            if errno == Errno::EACCES {
                worst = errno;
            } else if ![Errno::ENOENT, Errno::ENOTDIR].contains(&errno) {
                return errno;
            }
        }
        worst
    }
}

/// Makes the terminal that is stdin that of this session.
fn take_terminal() -> Result<(), Errno> {
    // SAFETY: a plain system call on a descriptor that stays open.
    let taken = unsafe { libc::ioctl(libc::STDIN_FILENO, libc::TIOCSCTTY, 0) };
    Errno::result(taken).map(drop)
}

/// Rust ignores SIGPIPE and we block all; a program must find signals as a login would leave them.
fn reset_signals() {
    for number in Signal::iterator() {
        // SAFETY: the default action runs no code of ours. KILL and STOP refuse, as they must.
        let _refused = unsafe { signal(number, SigHandler::SigDfl) };
    }
    // Unblocking a valid set cannot fail.
    let _unblocked = SigSet::all().thread_unblock();
}

/// As Torque sets them: `mem` alone sets none, and of `vmem` and `pvmem` the smaller one counts.
fn set_limits(spec: &LaunchSpec) -> Result<(), Errno> {
    let address_space = [spec.vmem_bytes, spec.pvmem_bytes];
    let limits = [
        (spec.pmem_bytes, Resource::RLIMIT_DATA),
        (spec.pmem_bytes, Resource::RLIMIT_RSS),
        (
            address_space.into_iter().flatten().min(),
            Resource::RLIMIT_AS,
        ),
        (spec.file_bytes, Resource::RLIMIT_FSIZE),
        (spec.pcput_secs, Resource::RLIMIT_CPU),
    ];
    for (limit, resource) in limits {
        if let Some(limit) = limit {
            setrlimit(resource, limit, limit)?;
        }
    }
    // Behind others everybody may go, before them nobody: we are root, and the wish is the user's.
    if let Some(nice) = spec.nice.filter(|nice| (1..=19).contains(nice)) {
        // SAFETY: a plain system call on this process.
        let _refused = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
    }
    Ok(())
}

fn take_rights(identity: &Identity) -> Result<(), Errno> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    setgroups(&groups(identity))?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)
}
