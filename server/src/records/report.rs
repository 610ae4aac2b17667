//! What was used in a month, by user and group: summed up from the accounting log's own lines, so that it agrees with what
//! other programs make of them. Reads files: blocks.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use capstan_types::{ChunkTarget, NodeSpec, Seconds};

/// Longest line that is read; the log writes no longer ones.
const LINE_BYTES_MAX: u64 = 1 << 20;
/// Most bytes of one month that are read; what is behind is left out, and said to be.
const MONTH_BYTES_MAX: u64 = 16 << 30;

/// What one user of one group used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) jobs: u64,
    /// Of these, jobs that did not end with 0.
    pub(crate) failed: u64,
    /// Jobs that have not ended.
    pub(crate) running: u64,
    pub(crate) wall_secs: u64,
    pub(crate) core_secs: u64,
    pub(crate) card_secs: u64,
}

impl Used {
    pub(crate) fn add(&mut self, more: &Self) {
        let Self {
            jobs,
            failed,
            running,
            wall_secs,
            core_secs,
            card_secs,
        } = *more;
        self.jobs += jobs;
        self.failed += failed;
        self.running += running;
        self.wall_secs = self.wall_secs.saturating_add(wall_secs);
        self.core_secs = self.core_secs.saturating_add(core_secs);
        self.card_secs = self.card_secs.saturating_add(card_secs);
    }
}

/// Group and user.
pub(crate) type Who = (Box<str>, Box<str>);

/// A month, by group and user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Month {
    pub(crate) used: BTreeMap<Who, Used>,
    /// There was more than is read at once.
    pub(crate) is_cut: bool,
}

/// Sums up the jobs that ended in `month` (`202611`), from the accounting log in `state_folder`.
///
/// # Errors
/// The disk's.
pub(crate) fn month(state_folder: &Path, month: &str) -> std::io::Result<Month> {
    let mut sums = Month::default();
    let mut left = MONTH_BYTES_MAX;
    for path in files(&state_folder.join(super::ACCOUNTING), month)? {
        let mut lines = BufReader::new(File::open(path)?);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read =
                std::io::Read::take(&mut lines, LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
            if read == 0 {
                break;
            }
            let Some(rest) = left.checked_sub(read as u64) else {
                sums.is_cut = true;
                return Ok(sums);
            };
            left = rest;
            if let Some((who, used)) = ended(&String::from_utf8_lossy(&line)) {
                let sum = sums.used.entry(who).or_default();
                sum.add(&used);
            }
        }
    }
    Ok(sums)
}

/// The files of the days of `month`, in order.
fn files(folder: &Path, month: &str) -> std::io::Result<Vec<PathBuf>> {
    let is_day = |name: &str| {
        let day = name.strip_prefix(month).unwrap_or_default();
        day.len() == 2 && day.bytes().all(|byte| byte.is_ascii_digit())
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(is_day) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// Whose job ended by this line, and what it used: `TIME;E;ID;user=… group=… … resources_used.walltime=…`.
fn ended(line: &str) -> Option<(Who, Used)> {
    let mut fields = line.splitn(4, ';');
    let words = fields.nth(1).filter(|letter| *letter == "E");
    let words = words.and_then(|_| fields.nth(1))?;
    // What a user may choose (an account, the job's name, a resource) stands between: it has no blank now, but older records
    // may hold one.
    fn value<'w>(word: &'w str, name: &str) -> Option<&'w str> {
        word.strip_prefix(name)?.strip_prefix('=')
    }
    let word = |name: &str| {
        let mut words = words.split_ascii_whitespace();
        words.find_map(|word| value(word, name))
    };
    let last = |name: &str| {
        let mut words = words.split_ascii_whitespace().rev();
        words.find_map(|word| value(word, name))
    };
    let wall_secs = Seconds::parse(last("resources_used.walltime")?).ok()?.0;
    let slots: u64 = last("total_execution_slots")
        .and_then(|slots| slots.parse().ok())
        .unwrap_or(0);
    let used = Used {
        jobs: 1,
        failed: u64::from(last("Exit_status").is_none_or(|status| status != "0")),
        running: 0,
        wall_secs,
        core_secs: wall_secs.saturating_mul(slots),
        card_secs: wall_secs.saturating_mul(word("Resource_List.nodes").map_or(0, cards)),
    };
    Some(((word("group")?.into(), word("user")?.into()), used))
}

/// The cards that a request is for.
fn cards(nodes: &str) -> u64 {
    let chunks = NodeSpec::parse(nodes)
        .map(|spec| spec.chunks)
        .unwrap_or_default();
    let of_chunk = chunks.iter().map(|chunk| {
        let count = match chunk.target {
            ChunkTarget::Count(count) => count,
            ChunkTarget::Named(_) => 1,
        };
        u64::from(count) * u64::from(chunk.gpus)
    });
    of_chunk.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(user: &str, nodes: &str, status: i32) -> String {
        format!(
            "11/22/2026 03:45:58;E;1.hn1;user={user} group=g jobname=x queue=batch ctime=1 owner={user}@hn1 \
             exec_host=n1/0-1 Resource_List.nodes={nodes} session=1 total_execution_slots=2 unique_node_count=1 \
             end=5 Exit_status={status} resources_used.cput=0 resources_used.walltime=01:00:00\n"
        )
    }

    #[test]
    fn jobs_that_ended_in_a_month_are_summed_up_by_group_and_user() {
        let folder = tempfile::tempdir().unwrap();
        let logs = folder.path().join("accounting");
        std::fs::create_dir(&logs).unwrap();
        let write = |day: &str, text: &str| std::fs::write(logs.join(day), text).unwrap();
        let started = line("alice", "1:gpus=4", 0).replace(";E;", ";S;");
        // As records were that held an account as it was typed.
        let account =
            " account=x;E;1;user=bob Exit_status=0 resources_used.walltime=99:00:00 jobname";
        let started = started.replace(" jobname", account);
        let torn = "11/22/2026 03:45:58;E;2.hn1;user=alice gr";
        write(
            "20261101",
            &(line("alice", "2:ppn=1:gpus=2", 0) + &started + torn),
        );
        write(
            "20261130",
            &(line("alice", "1", 271).replace(" jobname", account)
                + &line("bob", "gpu01:gpus=1+1:gpus=3", 0)),
        );
        write("20261201", &line("bob", "1:gpus=8", 0));
        write("202611xx", &line("bob", "1:gpus=8", 0));
        let month = month(folder.path(), "202611").unwrap();
        let of = |user: &str| month.used[&("g".into(), user.into())];
        let alice = Used {
            jobs: 2,
            failed: 1,
            running: 0,
            wall_secs: 7200,
            core_secs: 14_400,
            card_secs: 4 * 3600,
        };
        assert_eq!(of("alice"), alice);
        assert_eq!(of("bob").card_secs, 4 * 3600);
        assert_eq!((month.used.len(), month.is_cut), (2, false));
    }
}
