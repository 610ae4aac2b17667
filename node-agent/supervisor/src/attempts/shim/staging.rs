//! Files of `-W stagein=` and `stageout=`: copied to the node before the script starts and from it when it has ended, by
//! programs that run as the user, so that the kernel decides what may be read and written. Within a bounded time.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use capstan_proto::wire::StagedFile;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, pipe2};

use super::control::{Control, Order, Stop};
use super::kill::kill_descendants;
use super::other_hosts::local_path;
use super::program::Program;
use super::user::AsUser;
use crate::attempts::cgroup::{Bounds, Cgroup};
use crate::attempts::record::{Entry, Identity};

/// How long all copies of one direction may take together.
const COPY_TIME: Duration = Duration::from_secs(2 * 3600);
/// The longest that one `poll` sleeps.
const POLL_MAX: Duration = Duration::from_secs(60);
/// What is kept of the words of a program that copies.
const SAID_BYTES_MAX: usize = 2048;
/// Messages that go into the report; more would only repeat them.
pub(super) const MESSAGES_MAX: usize = 16;
/// Files of one list, as the server bounds it.
const FILES_MAX: usize = 1000;
/// What copies files that this node has itself, and what copies those of other hosts unless the site names another.
const LOCAL_PROGRAM: [&str; 3] = ["/bin/cp", "-rpH", "--"];
const REMOTE_PROGRAM: [&str; 2] = ["/usr/bin/scp", "-Brp"];
/// Has `scp` read no settings of its user's: `ProxyCommand`, `LocalCommand`, `Match exec` and others name programs that it
/// would start on this host (`ssh_config(5)`). Keys and known hosts are found without them, in their usual places.
const NO_USER_SETTINGS: [&str; 2] = ["-F", "/dev/null"];
/// The mask of copies: they keep the modes of their originals.
const UMASK: u32 = 0o077;

/// Why the script does not start.
#[derive(Debug)]
pub(super) enum NotStaged {
    /// A file could not be copied; in the words of Torque's mail.
    Failed(String),
    /// An order to end the attempt came meanwhile.
    Stopped(Stop),
}

/// What copies files, and what may interrupt it.
pub(super) struct Staging<'a> {
    pub(super) entry: &'a Entry,
    pub(super) identity: &'a Identity,
    pub(super) signals: &'a SignalFd,
}

/// Files on this node that are ours to take away again.
#[derive(Debug, Default)]
pub(super) struct Copied(Vec<PathBuf>);

/// How a copy ended.
pub(super) enum Ended {
    Well,
    Badly(String),
    Stopped(Stop),
}

impl Staging<'_> {
    /// Copies everything to the node. What was copied before a failure is taken away.
    pub(super) fn copy_in(&self, control: &mut Control) -> Result<Copied, NotStaged> {
        let deadline = Instant::now() + COPY_TIME;
        let mut copied = Copied::default();
        for file in self.entry.spec.stage_in.iter().take(FILES_MAX) {
            let made = self.as_user(|| self.incoming(file)).flatten();
            let Some(made) = made else { continue };
            let ended = self.copy(file, Direction::In, deadline, control);
            copied.0.extend(made.ours);
            let problem = match ended {
                Ended::Well => continue,
                Ended::Badly(problem) => {
                    NotStaged::Failed(message(&file.remote, &file.local, &problem))
                }
                Ended::Stopped(stop) => NotStaged::Stopped(stop),
            };
            self.remove(copied);
            return Err(problem);
        }
        Ok(copied)
    }

    /// Copies everything from the node, and takes away what was copied, in both directions. Gives a message for each
    /// file that stays here because it could not be copied.
    pub(super) fn copy_out(&self, mut copied: Copied, control: &mut Control) -> Vec<String> {
        let deadline = Instant::now() + COPY_TIME;
        let mut messages = Vec::new();
        for file in self.entry.spec.stage_out.iter().take(FILES_MAX) {
            let leaving = self.as_user(|| self.outgoing(file)).flatten();
            let problem = match self.copy(file, Direction::Out, deadline, control) {
                Ended::Well => {
                    copied.0.extend(leaving);
                    continue;
                }
                Ended::Badly(problem) => problem,
                Ended::Stopped(_) => "stopped while it was copied".to_owned(),
            };
            // What is left of it may be all there is.
            let kept = self.home().join(&file.local);
            copied.0.retain(|path| *path != kept);
            if messages.len() < MESSAGES_MAX {
                messages.push(message(&file.local, &file.remote, &problem));
            }
        }
        self.remove(copied);
        messages
    }

    /// What a copy to the node will make that was not there, or write over; `None` when the two are one file.
    fn incoming(&self, file: &StagedFile) -> Option<Incoming> {
        let local = self.home().join(&file.local);
        if self.is_one_file(file, &local) {
            return None;
        }
        let name = Path::new(&file.remote).file_name();
        let target = match (local.is_dir(), name) {
            (true, Some(name)) => local.join(name),
            (true, None) => return Some(Incoming { ours: None }),
            (false, _) => local,
        };
        // Files of the user that are only added to are not ours to take away.
        let ours = (!target.is_dir()).then_some(target);
        Some(Incoming { ours })
    }

    /// What to take away when it has been copied: a file, or a folder that holds nothing but what the job made.
    fn outgoing(&self, file: &StagedFile) -> Option<PathBuf> {
        let local = self.home().join(&file.local);
        if self.is_one_file(file, &local) {
            return None;
        }
        let found = fs::symlink_metadata(&local).ok()?;
        if !found.is_dir() {
            return Some(local);
        }
        // Never the home folder, nor what it lies in, by whatever name.
        let (whole, home) = (fs::canonicalize(&local).ok()?, self.home());
        let home = fs::canonicalize(home).unwrap_or_else(|_| home.to_owned());
        (whole.starts_with(&home) && whole != home).then_some(local)
    }

    fn is_one_file(&self, file: &StagedFile, local: &Path) -> bool {
        let id = |path: &Path| fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
        let Some(remote) = local_path(self.entry, &file.host, &file.remote) else {
            return false;
        };
        id(local).is_some() && id(local) == id(&self.home().join(remote))
    }

    fn home(&self) -> &Path {
        Path::new(&self.identity.home)
    }

    /// Runs the program that copies `file`.
    fn copy(
        &self,
        file: &StagedFile,
        direction: Direction,
        deadline: Instant,
        control: &mut Control,
    ) -> Ended {
        let StagedFile {
            local,
            host,
            remote,
        } = file;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        if host.is_empty() || host.starts_with('-') || !host.chars().all(is_plain) {
            return Ended::Badly(format!("`{host}` is no host\n"));
        }
        let (words, local, remote) = match local_path(self.entry, host, remote) {
            Some(remote) => {
                let words = LOCAL_PROGRAM.map(str::to_owned).to_vec();
                (words, local.clone(), remote.to_string_lossy().into_owned())
            }
            None => {
                let local = self.home().join(local).to_string_lossy().into_owned();
                (self.remote_program(), local, format!("{host}:{remote}"))
            }
        };
        let paths = match direction {
            Direction::In => [remote, local],
            Direction::Out => [local, remote],
        };
        self.run(&words, &paths, (deadline, control))
    }

    /// What copies to and from other hosts.
    pub(super) fn remote_program(&self) -> Vec<String> {
        remote_program(self.entry)
    }

    /// Runs a program that copies, to its end.
    pub(super) fn run(
        &self,
        words: &[String],
        paths: &[String; 2],
        (deadline, control): (Instant, &mut Control),
    ) -> Ended {
        match self.start(words, paths) {
            Ok((child, said)) => self.follow(child, said, deadline, control),
            Err(problem) => Ended::Badly(format!("{}: {problem}\n", words[0])),
        }
    }

    fn start(&self, words: &[String], paths: &[String; 2]) -> Result<(Pid, File), String> {
        let text = |errno: Errno| errno.desc().to_owned();
        let (reading, writing) = pipe2(OFlag::O_CLOEXEC).map_err(text)?;
        fcntl(&reading, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(text)?;
        let null = File::open("/dev/null").map_err(|error| error.to_string())?;
        let writing = File::from(writing);
        let nul = |_| "a name holds a NUL byte".to_owned();
        let arguments = words.iter().chain(paths);
        let arguments = arguments.map(|word| CString::new(word.as_str()));
        let variables = ["PATH=/bin:/usr/bin", "LC_ALL=C"].map(str::to_owned);
        let home = format!("HOME={}", self.identity.home);
        let variables = variables.into_iter().chain([home]).map(CString::new);
        // What a user's settings have a copy start is held to the limits of the job.
        let cgroup = Cgroup::at(&self.entry.cgroups);
        if let Some(cgroup) = cgroup.as_ref().filter(|group| !group.is_whole()) {
            let made = cgroup.create(&Bounds::of(self.entry));
            made.map_err(|error| error.to_string())?;
        }
        let program = Program {
            identity: self.identity,
            cgroup,
            stdin: null,
            stdout: writing.try_clone().map_err(|error| error.to_string())?,
            stderr: writing,
            folder: CString::new(self.identity.home.as_str()).map_err(nul)?,
            paths: vec![CString::new(words[0].as_str()).map_err(nul)?],
            arguments: arguments.collect::<Result<_, _>>().map_err(nul)?,
            environment: variables.collect::<Result<_, _>>().map_err(nul)?,
            has_terminal: false,
            umask: Mode::from_bits_truncate(UMASK),
            limits: None,
        };
        let child = program
            .start()
            .map_err(|problem| format!("cannot be run: {problem:?}"))?;
        Ok((child, File::from(reading)))
    }

    /// Waits for a program that copies, listening for orders to stop.
    fn follow(
        &self,
        child: Pid,
        mut said: File,
        deadline: Instant,
        control: &mut Control,
    ) -> Ended {
        let mut words = Vec::new();
        loop {
            let is_open = hear(&mut said, &mut words);
            if let Some(ended) = reap(child) {
                hear(&mut said, &mut words);
                // What a user's settings of ssh had it start would live beside the script and outside of its limits.
                kill_descendants();
                let words = String::from_utf8_lossy(&words).into_owned();
                return match ended {
                    0 => Ended::Well,
                    _ => Ended::Badly(words),
                };
            }
            let stop = control.orders().into_iter().find_map(|order| match order {
                Order::Stop(stop) => Some(stop),
                // The limits of the script, which does not run.
                Order::Limits(_) | Order::Sisters(_) | Order::Fail(..) => None,
            });
            let left = deadline.saturating_duration_since(Instant::now());
            if stop.is_some() || left.is_zero() {
                kill_descendants();
                let limit = COPY_TIME.as_secs();
                let late = || Ended::Badly(format!("not copied within {limit} seconds\n"));
                return stop.map_or_else(late, Ended::Stopped);
            }
            let mut watched = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            // Once its streams are closed they are always ready.
            watched.extend(is_open.then(|| PollFd::new(said.as_fd(), PollFlags::POLLIN)));
            watched.extend(control.watched());
            // Interrupted or not, everything is looked at again.
            let _ready = poll(
                &mut watched,
                PollTimeout::try_from(left.min(POLL_MAX)).unwrap_or(PollTimeout::ZERO),
            );
            drop(watched);
            while let Ok(Some(_child)) = self.signals.read_signal() {}
        }
    }

    /// Takes away what was only copied, with the user's rights.
    pub(super) fn remove(&self, copied: Copied) {
        let Copied(paths) = copied;
        self.as_user(|| {
            for path in paths {
                let is_folder = fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir());
                // What is gone already, or may not be removed, was dealt with by the job or is its user's affair.
                let _left = match is_folder {
                    true => fs::remove_dir_all(&path),
                    false => fs::remove_file(&path),
                };
            }
        });
    }

    fn as_user<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        let _rights = AsUser::become_user(self.identity).ok()?;
        Some(work())
    }
}

/// What copies to and from other hosts. Of a job that may only run in its image, nothing of its user's runs with it.
fn remote_program(entry: &Entry) -> Vec<String> {
    let mut words = match entry.copy_program.is_empty() {
        true => REMOTE_PROGRAM.map(str::to_owned).to_vec(),
        false => entry.copy_program.clone(),
    };
    let is_confined = entry.spec.cards_in_containers_only && !entry.spec.image.is_empty();
    let program = words.first().map(Path::new).and_then(Path::file_name);
    // Of any other program the site that named it knows what it reads.
    if is_confined && program.is_some_and(|name| name == "scp") {
        // Before the site's own options: of two `-F` the last counts, and that may be a file of the site's.
        words.splice(1..1, NO_USER_SETTINGS.map(str::to_owned));
    }
    words
}

/// What a copy to the node makes.
struct Incoming {
    /// To be taken away at the end.
    ours: Option<PathBuf>,
}

#[derive(Clone, Copy)]
enum Direction {
    In,
    Out,
}

/// In the words of Torque's mail.
pub(super) fn message(from: &str, to: &str, problem: &str) -> String {
    let end = if problem.ends_with('\n') { "" } else { "\n" };
    format!(
        "Unable to copy file {from} to {to}, error 1\n*** error from copy\n{problem}{end}*** end error output\n"
    )
}

/// Takes what was said, keeping its beginning; false when nothing more can come.
fn hear(said: &mut File, words: &mut Vec<u8>) -> bool {
    let mut bytes = [0; 4096];
    loop {
        match said.read(&mut bytes) {
            Ok(0) => return false,
            Ok(count) => {
                let room = SAID_BYTES_MAX.saturating_sub(words.len());
                words.extend_from_slice(&bytes[..count.min(room)]);
            }
            Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_copies_for_a_job_that_must_be_a_container_reads_no_settings_of_its_user() {
        let check = |image: &str, is_required: bool, site: &str, expected: &str| {
            let mut entry = Entry::default();
            entry.spec.image = image.to_owned();
            entry.spec.cards_in_containers_only = is_required;
            entry.copy_program = site.split_whitespace().map(str::to_owned).collect();
            assert_eq!(remote_program(&entry).join(" "), expected);
        };
        check("torch", true, "", "/usr/bin/scp -F /dev/null -Brp");
        check("torch", false, "", "/usr/bin/scp -Brp");
        check("", true, "", "/usr/bin/scp -Brp");
        let own = "/opt/bin/scp -B -F /etc/ssh/jobs --";
        let expected = "/opt/bin/scp -F /dev/null -B -F /etc/ssh/jobs --";
        check("torch", true, own, expected);
        check("torch", true, "/opt/bin/copy -q", "/opt/bin/copy -q");
    }

    #[test]
    fn failures_are_told_in_torques_words() {
        let told = message("/nosuch/file", "x", "/bin/cp: cannot stat\n");
        let expected = "Unable to copy file /nosuch/file to x, error 1\n*** error from copy\n\
                        /bin/cp: cannot stat\n*** end error output\n";
        assert_eq!(told, expected);
    }
}
