//! What a running attempt has written, for those who may look, and lines that the server adds to it. The files are
//! opened with the rights of the attempt's user, on a thread of its own: a file that hangs there hangs nobody else.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use capstan_proto::wire::{AttemptEnded, ReadOutput, WriteMessage};
use capstan_types::{AttemptId, Env};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::statfs::{PROC_SUPER_MAGIC, SYSFS_MAGIC, fstatfs};
use tokio::sync::mpsc;

use super::figures::Sister;
use super::footer::{self, Facts};
use super::live::{LiveAttempt, LiveTable};
use super::record::{Entry, Identity};
use super::shim::output_paths;
use super::signalling::NotReached;
use super::table::Supervisor;
use super::terminal::{look_on, tell};
use crate::containers::reach::Rights;

/// Files of attempts that are being read or written at once.
const FILES_MAX: usize = 64;
/// Those of one user's attempts: his files may lie on a server that does not answer.
const FILES_PER_USER_MAX: usize = 24;
/// How long the end of an attempt waits for its footer: cards stay lent until then.
const FOOTER_WAIT: Duration = Duration::from_secs(10);
/// Bytes of one chunk.
const CHUNK_BYTES: usize = 32 << 10;
/// Of a file without line feeds, so much is searched for the beginning of the last lines.
const TAIL_BYTES_MAX: u64 = 16 << 20;
/// A footer is looked for in so many last bytes: that of many nodes is long.
const FOOTER_BYTES_MAX: u64 = 128 << 10;
/// A file that is followed is looked at so often.
const FOLLOW_EVERY: Duration = Duration::from_millis(250);

static FILES: LazyLock<Places> = LazyLock::new(Places::default);

/// Who reads or writes how many files.
#[derive(Clone, Debug, Default)]
struct Places(Arc<Mutex<BTreeMap<u32, usize>>>);

/// A place to read or write one file, given back when it is dropped.
struct Place {
    places: Places,
    uid: u32,
}

impl Places {
    fn counts(&self) -> MutexGuard<'_, BTreeMap<u32, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a file of this user's, if there is one.
    fn take(&self, uid: u32) -> Option<Place> {
        let mut counts = self.counts();
        let own = counts.get(&uid).copied().unwrap_or(0);
        if own >= FILES_PER_USER_MAX || counts.values().sum::<usize>() >= FILES_MAX {
            return None;
        }
        counts.insert(uid, own + 1);
        let places = self.clone();
        Some(Place { places, uid })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.places.counts();
        let left = counts.get(&self.uid).map_or(0, |own| own.saturating_sub(1));
        match left {
            0 => counts.remove(&self.uid),
            left => counts.insert(self.uid, left),
        };
    }
}

/// The record of an attempt, its user, and the environment by which paths are expanded.
struct Outputs {
    entry: Entry,
    identity: Identity,
    env: Env,
}

impl Supervisor {
    /// Sends what the attempt has written to `chunks`, waiting for room; ends when that is all, when `chunks` is closed,
    /// or, following, when the attempt has ended.
    ///
    /// # Errors
    /// When the attempt does not run here, or its user may not read the file.
    pub async fn read_output(
        &self,
        wish: ReadOutput,
        chunks: mpsc::Sender<Vec<u8>>,
    ) -> Result<(), NotReached> {
        let attempt = AttemptId(wish.attempt);
        let live = self.started(attempt)?;
        if live.entry.spec.interactive.is_some() {
            return look_on(&live, &wish, &chunks).await;
        }
        let table = self.live.clone();
        let is_stderr = wish.stderr;
        self.as_user(&live, "reading", move |paths| {
            let path = if is_stderr { paths.1 } else { paths.0 };
            let read = open(&path, OFlag::O_RDONLY).and_then(|file| {
                let Some(file) = file else { return Ok(()) };
                let over = Over { table, attempt };
                pass_on(file, &wish, &chunks, &over)
            });
            read.map_err(|error| (path, error))
        })
        .await
    }

    /// Adds a line to what the attempt writes.
    ///
    /// # Errors
    /// When the attempt does not run here, or its user may not write to the file.
    pub async fn write_message(&self, message: WriteMessage) -> Result<(), NotReached> {
        let live = self.started(AttemptId(message.attempt))?;
        if live.entry.spec.interactive.is_some() {
            return tell(&live, &message.text).await;
        }
        self.as_user(&live, "writing", move |(stdout, stderr)| {
            let line = format!("{}\n", message.text);
            let wanted = [(message.to_stdout, stdout), (message.to_stderr, stderr)];
            for (_, path) in wanted.into_iter().filter(|(is_wanted, _)| *is_wanted) {
                let written = open(&path, OFlag::O_WRONLY | OFlag::O_APPEND).and_then(|file| {
                    file.map_or(Ok(()), |mut file| file.write_all(line.as_bytes()))
                });
                written.map_err(|error| (path, error))?;
            }
            Ok(())
        })
        .await
    }

    /// Runs `work` on the paths of stdout and stderr with the rights of the attempt's user.
    async fn as_user<W>(
        &self,
        live: &LiveAttempt,
        wanted: &'static str,
        work: W,
    ) -> Result<(), NotReached>
    where
        W: FnOnce((PathBuf, PathBuf)) -> Result<(), (PathBuf, io::Error)> + Send + 'static,
    {
        as_user(live, wanted, work).await
    }
}

/// Adds what became of an attempt to what it wrote, once: an agent that was started anew meanwhile does so again. An
/// output that cannot be written any more is its user's own doing.
pub(super) async fn add_footer(live: &LiveAttempt, ended: &AttemptEnded, sisters: Vec<Sister>) {
    let facts = Facts {
        node: live.entry.node.clone(),
        started_ms: live.started_ms(),
        images: ended.images.clone(),
        sisters,
    };
    let spec = &live.entry.spec;
    let (head, Some(text)) = (footer::head(spec), footer::text(spec, ended, &facts)) else {
        return;
    };
    let added = as_user(live, "writing", move |(stdout, _)| {
        let add = || -> io::Result<()> {
            if let Some(mut file) = open(&stdout, OFlag::O_RDONLY)? {
                let end = file.metadata()?.len();
                file.seek(SeekFrom::Start(end.saturating_sub(FOOTER_BYTES_MAX)))?;
                let mut tail = Vec::new();
                file.take(FOOTER_BYTES_MAX).read_to_end(&mut tail)?;
                let mut lines = tail.split(|byte| *byte == b'\n');
                if lines.any(|line| line == head.as_bytes()) {
                    return Ok(());
                }
            }
            let file = open(&stdout, OFlag::O_WRONLY | OFlag::O_APPEND)?;
            file.map_or(Ok(()), |mut file| file.write_all(text.as_bytes()))
        };
        add().map_err(|error| (stdout, error))
    });
    match tokio::time::timeout(FOOTER_WAIT, added).await {
        Ok(Ok(())) => {}
        Ok(Err(problem)) => {
            tracing::debug!(attempt = %live.entry.attempt(), %problem, "no footer");
        }
        Err(_late) => {
            tracing::warn!(attempt = %live.entry.attempt(), "no footer: the file does not answer");
        }
    }
}

/// Runs `work` on the paths of stdout and stderr with the rights of the attempt's user.
async fn as_user<W>(live: &LiveAttempt, wanted: &'static str, work: W) -> Result<(), NotReached>
where
    W: FnOnce((PathBuf, PathBuf)) -> Result<(), (PathBuf, io::Error)> + Send + 'static,
{
    let outputs = outputs(live).ok_or(NotReached::NotHere)?;
    let place = FILES.take(outputs.identity.uid).ok_or(NotReached::Busy)?;
    let user = outputs.identity.user.clone();
    let rights = Rights {
        uid: outputs.identity.uid,
        gid: outputs.identity.gid,
        groups: outputs.identity.groups.clone(),
    };
    let looked = rights
        .look(move || {
            let Outputs {
                entry,
                identity,
                env,
            } = outputs;
            let paths = output_paths(&entry, &identity, &env);
            let done = work(paths);
            drop(place);
            done
        })
        .await;
    let done = looked.map_err(|error| (PathBuf::new(), error));
    done.and_then(|done| done)
        .map_err(|(path, source)| NotReached::File {
            wanted,
            path: path.to_string_lossy().into_owned(),
            user,
            source,
        })
}

fn outputs(live: &LiveAttempt) -> Option<Outputs> {
    Some(Outputs {
        entry: live.entry.clone(),
        identity: live.entry.identity.clone()?,
        env: live.context()?.environment,
    })
}

/// Opens a plain file; `None` for anything else (`/dev/null`, a pipe), which keeps nothing. In `/proc` and `/sys` a user's
/// path would mean this agent (`/proc/self`), to which the kernel lets its own threads, whatever rights they have.
fn open(path: &Path, access: OFlag) -> io::Result<Option<File>> {
    let how = OpenHow::new()
        .flags(access | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let file = match openat2(AT_FDCWD, path, how) {
        // A pipe that nobody reads; a link to what a process has open, which is ours and not the job's.
        Err(Errno::ENXIO | Errno::ELOOP) => return Ok(None),
        opened => File::from(opened?),
    };
    let is_plain = file.metadata()?.is_file();
    let is_the_kernels =
        [PROC_SUPER_MAGIC, SYSFS_MAGIC].contains(&fstatfs(&file)?.filesystem_type());
    Ok((is_plain && !is_the_kernels).then_some(file))
}

/// Tells whether an attempt is over.
struct Over {
    table: LiveTable,
    attempt: AttemptId,
}

impl Over {
    fn is_over(&self) -> bool {
        self.table.get(self.attempt).is_none()
    }
}

fn pass_on(
    mut file: File,
    wish: &ReadOutput,
    chunks: &mpsc::Sender<Vec<u8>>,
    over: &Over,
) -> io::Result<()> {
    if let Some(lines) = wish.last_lines {
        let start = tail_start(&mut file, lines.into())?;
        file.seek(SeekFrom::Start(start))?;
    }
    let mut lines_left = wish.first_lines.map(u64::from);
    loop {
        // Asked before the last look, so that nothing written meanwhile is missed.
        let is_last_look = !wish.follow || over.is_over();
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let mut length = file.read(&mut chunk)?;
            if let Some(left) = &mut lines_left {
                length = cut(&chunk[..length], left);
            }
            if length == 0 {
                break;
            }
            if chunks.blocking_send(chunk[..length].to_vec()).is_err() {
                return Ok(());
            }
        }
        if is_last_look || chunks.is_closed() || lines_left == Some(0) {
            return Ok(());
        }
        std::thread::sleep(FOLLOW_EVERY);
    }
}

/// How much of `chunk` belongs to the first `left` lines, which are counted down.
fn cut(chunk: &[u8], left: &mut u64) -> usize {
    if *left == 0 {
        return 0;
    }
    for (at, _) in chunk.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
        *left -= 1;
        if *left == 0 {
            return at + 1;
        }
    }
    chunk.len()
}

/// Where the last `lines` lines begin.
fn tail_start(file: &mut File, lines: u64) -> io::Result<u64> {
    let end = file.metadata()?.len();
    let floor = end.saturating_sub(TAIL_BYTES_MAX);
    // The line feed at the very end ends the last line and begins none.
    let mut wanted = lines;
    let mut at = end;
    let mut block = vec![0; CHUNK_BYTES];
    while at > floor && lines > 0 {
        let from = at.saturating_sub(CHUNK_BYTES as u64).max(floor);
        let length = (at - from) as usize;
        file.seek(SeekFrom::Start(from))?;
        file.read_exact(&mut block[..length])?;
        for offset in (0..length).rev() {
            let is_at_end = from + offset as u64 + 1 == end;
            if block[offset] != b'\n' || is_at_end {
                continue;
            }
            wanted -= 1;
            if wanted == 0 {
                return Ok(from + offset as u64 + 1);
            }
        }
        at = from;
    }
    Ok(if lines == 0 { end } else { floor })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    #[test]
    fn the_last_lines_begin_behind_a_line_feed() {
        let check = |text: &str, lines, expected: &str| {
            let start = tail_start(&mut written(text), lines).unwrap();
            assert_eq!(&text[start as usize..], expected, "{text:?} {lines}");
        };
        check("a\nb\nc\n", 1, "c\n");
        check("a\nb\nc", 2, "b\nc");
        check("a\nb\nc\n", 9, "a\nb\nc\n");
        check("a\n", 0, "");
        check("", 3, "");
        let long = format!("{}\nlast\n", "x".repeat(3 * CHUNK_BYTES));
        check(&long, 1, "last\n");
        check(&long, 2, &long);
    }

    #[test]
    fn one_users_files_take_no_others_places() {
        let places = Places::default();
        let alices: Vec<Place> = (0..FILES_MAX).map_while(|_| places.take(1000)).collect();
        assert_eq!(alices.len(), FILES_PER_USER_MAX);
        let others: Vec<Place> = (0..).map_while(|uid| places.take(2000 + uid)).collect();
        assert_eq!(alices.len() + others.len(), FILES_MAX);
        drop(alices);
        assert!(places.take(1000).is_some());
        drop(others);
        assert!(places.counts().is_empty());
    }

    #[test]
    fn the_first_lines_end_with_a_line_feed() {
        let check = |text: &str, lines, expected: &str| {
            let mut left = lines;
            assert_eq!(&text[..cut(text.as_bytes(), &mut left)], expected);
        };
        check("a\nb\nc\n", 2, "a\nb\n");
        check("a\nb", 2, "a\nb");
        check("a\nb", 0, "");
    }

    /// `qsub -o /proc/self/maps` and `qpeek` would show the memory of the agent.
    #[test]
    fn a_path_that_means_the_agent_itself_keeps_nothing() {
        let kept = written("secret");
        let own = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&kept));
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/proc/thread-self/maps", &link).unwrap();
        let link = link.to_string_lossy();
        for path in ["/proc/self/maps", "/proc/thread-self/status", &own, &link] {
            let opened = open(Path::new(path), OFlag::O_RDONLY).unwrap();
            assert!(opened.is_none(), "{path}");
        }
        let plain = folder.path().join("plain");
        std::fs::write(&plain, "").unwrap();
        assert!(open(&plain, OFlag::O_RDONLY).unwrap().is_some());
    }
}
