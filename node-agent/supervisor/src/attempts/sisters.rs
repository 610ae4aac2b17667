//! The site's scripts on the other nodes of an attempt: what a shim asks its agent for, how both say it on a line, and the
//! agent's asking of all those nodes at once, by way of the server.

use std::time::Duration;

use capstan_proto::wire::task_report::Report;
use capstan_proto::wire::{self, TaskRequest};
use capstan_types::AttemptId;
use futures_util::future::join_all;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};

use super::record::Entry;
use super::tasks::{TaskTable, TaskWanted, is_passing};

/// How long a node, or the server, that cannot be reached is tried again before an attempt begins.
const REACH_WAIT: Duration = Duration::from_secs(30);
/// And behind its end: by then it is the job's end that waits.
const REACH_WAIT_AFTER: Duration = Duration::from_secs(10);
const REACH_PAUSE: Duration = Duration::from_millis(500);
/// Of what a node complains of, so much is heard.
const COMPLAINT_BYTES_MAX: usize = 400;
/// Words that wait to be heard.
const WORDS_MAX: usize = 8;
/// The first word of these lines.
const WORD: &str = "sisters";
const FAIL: &str = "fail";

/// Which scripts are to be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Before,
    /// The script has ended like this.
    After {
        session: u32,
        exit_status: i32,
        cput_secs: u64,
        vmem_kb: u64,
        mem_kb: u64,
        walltime_secs: u64,
    },
}

/// How it went: nothing, or which script of which node complains of what.
pub(super) type Answer = Result<(), String>;

impl Wanted {
    /// As a shim says it.
    pub(super) fn line(self) -> String {
        match self {
            Self::Before => format!("{WORD} before\n"),
            Self::After {
                session,
                exit_status,
                cput_secs,
                vmem_kb,
                mem_kb,
                walltime_secs,
            } => format!(
                "{WORD} after {session} {exit_status} {cput_secs} {vmem_kb} {mem_kb} {walltime_secs}\n"
            ),
        }
    }

    /// As an agent reads it.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let (WORD, when) = (words.next()?, words.next()?) else {
            return None;
        };
        if when == "before" {
            return Some(Self::Before);
        }
        let (session, exit_status) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let mut number = || words.next()?.parse().ok();
        (when == "after").then_some(())?;
        Some(Self::After {
            session,
            exit_status,
            cput_secs: number()?,
            vmem_kb: number()?,
            mem_kb: number()?,
            walltime_secs: number()?,
        })
    }

    fn hooks(self) -> wire::SisterHooks {
        match self {
            Self::Before => wire::SisterHooks::default(),
            Self::After {
                session,
                exit_status,
                cput_secs,
                vmem_kb,
                mem_kb,
                walltime_secs,
            } => wire::SisterHooks {
                is_after: true,
                session,
                exit_status,
                usage: Some(wire::Usage {
                    cput_secs,
                    vmem_kb,
                    mem_kb,
                    walltime_secs,
                    ..wire::Usage::default()
                }),
            },
        }
    }
}

/// As an agent says it: one line, whatever was complained of.
pub(super) fn answer_line(answer: &Answer) -> String {
    match answer {
        Ok(()) => format!("{WORD} ok\n"),
        Err(problem) => format!("{WORD} failed {}\n", plain(problem)),
    }
}

/// The order to end for something that was found, with words for the user: one line.
pub(super) fn fail_line(status: i32, words: &str) -> String {
    format!("{FAIL} {status} {}\n", plain(words))
}

/// As a shim reads it.
pub(super) fn parse_fail(line: &str) -> Option<(i32, String)> {
    let rest = line.trim_end().strip_prefix(FAIL)?.strip_prefix(' ')?;
    let (status, words) = rest.split_once(' ')?;
    Some((status.parse().ok()?, words.to_owned()))
}

/// As a shim reads it.
pub(super) fn parse_answer(line: &str) -> Option<Answer> {
    let rest = line.trim_end().strip_prefix(WORD)?.strip_prefix(' ')?;
    match rest.split_once(' ') {
        None if rest == "ok" => Some(Ok(())),
        Some(("failed", problem)) => Some(Err(problem.to_owned())),
        None | Some(_) => None,
    }
}

/// One line of at most [`COMPLAINT_BYTES_MAX`] bytes.
fn plain(text: &str) -> String {
    let mut line = String::new();
    for c in text.trim().chars() {
        let c = if c.is_control() { ' ' } else { c };
        if line.len() + c.len_utf8() > COMPLAINT_BYTES_MAX {
            break;
        }
        line.push(c);
    }
    line
}

/// The other nodes of an attempt, as the server knows them, each with its index and the first of its slots. A site may
/// have names in PBS_NODEFILE end otherwise (`node_suffix`): the line of this node shows how.
pub(super) fn sisters(entry: &Entry) -> Vec<(String, u32, u32)> {
    let lines = &entry.spec.node_file;
    let first = lines.first().map_or("", String::as_str);
    let suffix = first.strip_prefix(entry.node.as_str()).unwrap_or_default();
    let mut seen: Vec<&str> = Vec::new();
    let mut sisters = Vec::new();
    for (slot, line) in (0..).zip(lines) {
        if seen.contains(&line.as_str()) {
            continue;
        }
        let index = seen.len() as u32;
        seen.push(line);
        let node = line.strip_suffix(suffix).unwrap_or(line);
        if node != entry.node {
            sisters.push((node.to_owned(), index, slot));
        }
    }
    sisters
}

/// What is asked of all the other nodes of an attempt.
#[derive(Clone, Debug)]
pub(super) struct Asking {
    pub(super) attempt: AttemptId,
    pub(super) sisters: Vec<(String, u32, u32)>,
    pub(super) wanted: Wanted,
}

impl Asking {
    pub(super) fn new(entry: &Entry, wanted: Wanted) -> Self {
        Self {
            attempt: entry.attempt(),
            sisters: sisters(entry),
            wanted,
        }
    }

    /// Has all of them run their scripts, at the same time. What went wrong on whichever is told first.
    pub(super) async fn ask(self, tasks: &TaskTable) -> Answer {
        let wait = match self.wanted {
            Wanted::Before => REACH_WAIT,
            Wanted::After { .. } => REACH_WAIT_AFTER,
        };
        let deadline = Instant::now() + wait;
        let all = self
            .sisters
            .iter()
            .map(|sister| self.one(sister, tasks, deadline));
        join_all(all).await.into_iter().collect()
    }

    /// Asks one node, again and again until it, and the server in between, can be reached.
    async fn one(
        &self,
        (node, index, slot): &(String, u32, u32),
        tasks: &TaskTable,
        deadline: Instant,
    ) -> Answer {
        loop {
            let (reports, heard) = mpsc::channel(WORDS_MAX);
            let request = TaskRequest {
                attempt: self.attempt.0,
                node: node.clone(),
                vnode: *slot,
                node_index: *index,
                hooks: Some(self.wanted.hooks()),
                ..TaskRequest::default()
            };
            let heard = match tasks.want(TaskWanted::plain(request, reports)) {
                true => hear(heard).await,
                false => Heard::Unreachable("the agent has no connection to the server".to_owned()),
            };
            let problem = match heard {
                Heard::Ended(answer) => {
                    return answer.map_err(|problem| format!("{problem} on {node}"));
                }
                Heard::Refused(problem) => return Err(format!("{node}: {problem}")),
                Heard::Unreachable(problem) => problem,
            };
            if timeout_at(deadline, sleep(REACH_PAUSE)).await.is_err() {
                return Err(format!("{node} cannot be asked for its part: {problem}"));
            }
        }
    }
}

enum Heard {
    Ended(Answer),
    /// Another try would be refused as well.
    Refused(String),
    Unreachable(String),
}

async fn hear(mut heard: mpsc::Receiver<Report>) -> Heard {
    let mut said = Vec::new();
    while let Some(report) = heard.recv().await {
        match report {
            Report::Started(_) | Report::Stdout(_) => {}
            Report::Stderr(bytes) => {
                let room = COMPLAINT_BYTES_MAX - said.len();
                said.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
            Report::ExitStatus(0) => return Heard::Ended(Ok(())),
            Report::ExitStatus(_) => {
                return Heard::Ended(Err(plain(&String::from_utf8_lossy(&said))));
            }
            Report::Failed(failure) => {
                return match is_passing(&failure) {
                    true => Heard::Unreachable(failure.detail),
                    false => Heard::Refused(failure.detail),
                };
            }
        }
    }
    Heard::Unreachable("the connection to the server ended".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_and_answered_survives_the_line() {
        let after = Wanted::After {
            session: 7,
            exit_status: -11,
            cput_secs: 1,
            vmem_kb: 2,
            mem_kb: 3,
            walltime_secs: 4,
        };
        for wanted in [Wanted::Before, after] {
            assert_eq!(Wanted::parse(wanted.line().trim_end()), Some(wanted));
        }
        for bad in [
            "sisters",
            "sisters after 1",
            "started 1 2 3 4",
            "sisters never 1 2 3 4 5 6",
        ] {
            assert_eq!(Wanted::parse(bad), None, "{bad}");
        }
        let answers = [
            Ok(()),
            Err("prologue.parallel ended with 3 on gpu02".to_owned()),
        ];
        for answer in answers {
            assert_eq!(parse_answer(&answer_line(&answer)), Some(answer));
        }
        assert_eq!(parse_answer("sisters maybe\n"), None);
        let words = "rank 3 on gpu02 failed first, with exit status 7".to_owned();
        assert_eq!(parse_fail(&fail_line(7, &words)), Some((7, words)));
        assert_eq!(parse_fail("fail x y\n"), None);
        assert_eq!(parse_answer("limits 1 2\n"), None);
    }

    #[test]
    fn a_complaint_is_one_line_of_bounded_length() {
        let line = answer_line(&Err(format!("a\nb\x1b[2J{}", "x".repeat(9999))));
        assert_eq!(line.matches('\n').count(), 1);
        assert!(line.len() < COMPLAINT_BYTES_MAX + 20 && !line.contains('\x1b'));
    }

    #[test]
    fn the_other_nodes_are_those_of_the_node_file_without_the_sites_suffix() {
        let check = |lines: &[&str], expected: &[(&str, u32, u32)]| {
            let mut entry = Entry {
                node: "gpu01".into(),
                ..Entry::default()
            };
            entry.spec.node_file = lines.iter().map(|line| (*line).to_owned()).collect();
            let expected: Vec<_> = expected
                .iter()
                .map(|(node, index, slot)| ((*node).to_owned(), *index, *slot))
                .collect();
            assert_eq!(sisters(&entry), expected, "{lines:?}");
        };
        check(&["gpu01", "gpu01"], &[]);
        check(
            &["gpu01", "gpu01", "gpu02", "gpu03", "gpu03"],
            &[("gpu02", 1, 2), ("gpu03", 2, 3)],
        );
        check(&["gpu01-ib", "gpu02-ib"], &[("gpu02", 1, 1)]);
        check(&[], &[]);
    }
}
