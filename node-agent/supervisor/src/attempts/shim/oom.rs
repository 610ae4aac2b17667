//! Which process of an attempt the kernel killed for want of memory, by the kernel's own log. Its line names the group, so
//! nobody else's kill is taken for ours; a user cannot write such a line.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;

use nix::errno::Errno;
use nix::fcntl::OFlag;

/// Longest record of the log, with what the kernel adds.
const RECORD_BYTES_MAX: usize = 8192;
/// Records that are looked at; the kernel's buffer holds fewer.
const RECORDS_MAX: usize = 1 << 20;
/// The kernel's names of processes have at most 15 bytes, and any of them may be written as four.
const NAME_CHARS_MAX: usize = 60;

/// A process that was killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Killed {
    pub(super) pid: u32,
    pub(super) name: String,
    /// At the limit of the attempt; else because the whole host was out of memory.
    pub(super) is_at_limit: bool,
}

impl Killed {
    /// In words. `limit_kb` is that of the job.
    pub(super) fn words(&self, limit_kb: Option<u64>) -> String {
        let Self { pid, name, .. } = self;
        match (self.is_at_limit, limit_kb) {
            (true, Some(limit)) => format!(
                "out of memory: the kernel killed process {pid} ({name}) at the job's limit of {limit}kb"
            ),
            (true, None) => {
                format!(
                    "out of memory: the kernel killed process {pid} ({name}) at a limit in the job"
                )
            }
            (false, _) => {
                format!("the node was out of memory: the kernel killed process {pid} ({name})")
            }
        }
    }
}

/// Of kills that the log does not tell of. `limit_kb` is that of the job.
pub(super) fn words_of_many(kills: u64, limit_kb: Option<u64>) -> String {
    let what = match kills {
        1 => "a process".to_owned(),
        kills => format!("{kills} processes"),
    };
    match limit_kb {
        Some(limit) => {
            format!("out of memory: the kernel killed {what} at the job's limit of {limit}kb")
        }
        None => format!("out of memory: the kernel killed {what}"),
    }
}

/// The last process of `cgroup` (`/capstan/1a2b3c4d/att-57`) that was killed; `None` when the log has none, or nobody may
/// read it.
pub(super) fn last_killed(cgroup: &str) -> Option<Killed> {
    if cgroup.is_empty() {
        return None;
    }
    let mut log = File::options()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open("/dev/kmsg")
        .ok()?;
    let mut record = vec![0; RECORD_BYTES_MAX];
    let mut last = None;
    for _ in 0..RECORDS_MAX {
        match log.read(&mut record) {
            Ok(0) => break,
            Ok(length) => {
                let text = String::from_utf8_lossy(&record[..length]);
                last = killed(&text, cgroup).or(last);
            }
            // The record was written over while we read; the next one is there.
            Err(error) if error.raw_os_error() == Some(Errno::EPIPE as i32) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    last
}

/// Reads `6,1234,5678,-;oom-kill:constraint=…,oom_memcg=GROUP,task_memcg=GROUP,task=NAME,pid=PID,uid=UID`.
fn killed(record: &str, cgroup: &str) -> Option<Killed> {
    let (head, line) = record.split_once(';')?;
    // Facility 0 is the kernel's; what programs write there has another.
    let priority: u32 = head.split(',').next()?.parse().ok()?;
    let line = line.lines().next().filter(|_| priority < 8)?;
    let fields = line.strip_prefix("oom-kill:")?;
    let (before, rest) = fields.split_once(",task_memcg=")?;
    let (group, rest) = rest.split_once(",task=")?;
    if !is_below(group, cgroup) {
        return None;
    }
    let (name, rest) = rest.rsplit_once(",pid=")?;
    let pid = rest.split(',').next()?.parse().ok()?;
    let limited = before.rsplit_once("oom_memcg=").map(|(_, group)| group);
    let plain = name.chars().filter(|c| !c.is_control());
    Some(Killed {
        pid,
        name: plain.take(NAME_CHARS_MAX).collect(),
        is_at_limit: limited.is_some_and(|group| is_below(group, cgroup)),
    })
}

/// Whether `group` is `cgroup` or one below it. An agent in a namespace of its own sees the end of the path only.
fn is_below(group: &str, cgroup: &str) -> bool {
    let rest = group.find(cgroup).map(|at| &group[at + cgroup.len()..]);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: &str = "/capstan/e2ac670f/att-1";

    fn record(limit: &str, group: &str) -> String {
        format!(
            "6,3316,33997468480,-;oom-kill:constraint=C,nodemask=(null),cpuset=/,mems_allowed=0{limit},\
             task_memcg={group},task=a,pid=1,b,pid=14778,uid=1001\n SUBSYSTEM=memory\n"
        )
    }

    fn check(limit: &str, group: &str, expected: Option<bool>) {
        let seen = killed(&record(limit, group), GROUP);
        let expected = expected.map(|is_at_limit| Killed {
            pid: 14778,
            name: "a,pid=1,b".to_owned(),
            is_at_limit,
        });
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_kill_is_told_by_the_group_it_happened_in() {
        check(",oom_memcg=/capstan/e2ac670f/att-1", GROUP, Some(true));
        let container = format!("{GROUP}/0123");
        check(&format!(",oom_memcg={container}"), &container, Some(true));
        check(",global_oom", GROUP, Some(false));
        check(
            ",oom_memcg=/capstan/e2ac670f/att-12",
            "/capstan/e2ac670f/att-12",
            None,
        );
        check(",oom_memcg=/user.slice", "/user.slice", None);
    }

    #[test]
    fn what_a_program_writes_into_the_log_is_no_kill() {
        let forged = record("", GROUP).replacen("6,", "14,", 1);
        assert_eq!(killed(&forged, GROUP), None);
        assert_eq!(killed("6,1,2,-;something else\n", GROUP), None);
    }
}
