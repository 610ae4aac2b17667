//! What an agent answers while its jobs run: signals, pauses, messages, output so far, diagnosis, other limits; and what
//! tasks for other nodes say, as far as there is credit for it.

use std::os::unix::fs::symlink;
use std::path::Path;

use capstan_proto::wire::agent_message::Message as Say;
use capstan_proto::wire::answer::Part;
use capstan_proto::wire::attempt_ended::Outcome;
use capstan_proto::wire::question::Question as Ask;
use capstan_proto::wire::server_message::Message as Order;
use capstan_proto::wire::signal_attempt::Pause;
use capstan_proto::wire::task_report::Report;
use capstan_proto::wire::{
    AdjustAttempt, AnswerTaken, DiagnoseNode, Question, ReadOutput, RunTask, SetCardMode,
    SignalAttempt, TaskTaken, WriteMessage,
};

use crate::harness::{Node, is_skipped_without_root, processes_with, wait_until};

const BADSTATE: u32 = 15018;
const CANNOT_READ: u32 = 15143;
const UNKNOWN_REQUEST: u32 = 15005;
/// As the protocol says.
const CHUNKS_MAX: usize = 4;
const WORDS_MAX: usize = 8;

async fn ask(node: &Node, id: u64, question: Ask) {
    let question = Some(question);
    node.order(Order::Ask(Question { id, question })).await;
}

/// The next part of the answer to question `id`.
async fn part(node: &mut Node, id: u64) -> Part {
    let pick = |message| match message {
        Say::Answer(answer) if answer.id == id => answer.part,
        _ => None,
    };
    node.next("an answer", pick).await
}

/// The whole answer, with credit for every chunk; the error's number when it failed.
async fn answer(node: &mut Node, id: u64, question: Ask) -> Result<String, u32> {
    ask(node, id, question).await;
    let mut text = Vec::new();
    loop {
        match part(node, id).await {
            Part::Data(data) => {
                text.extend(data);
                let taken = AnswerTaken { id, chunks: 1 };
                node.order(Order::AnswerTaken(taken)).await;
            }
            Part::Done(_) => return Ok(String::from_utf8(text).unwrap()),
            Part::Failed(failure) => return Err(failure.pbs_error),
        }
    }
}

fn signal(attempt: u64, signal: i32, pause: Pause) -> Ask {
    Ask::Signal(SignalAttempt {
        attempt,
        signal,
        pause: pause.into(),
    })
}

fn read(attempt: u64) -> ReadOutput {
    ReadOutput {
        attempt,
        ..ReadOutput::default()
    }
}

/// A job that has said that it runs.
async fn running(node: &mut Node, script: &str) {
    let spec = node.spec(1, script);
    node.run(spec).await;
    node.started(1).await;
}

fn ready(node: &Node) -> String {
    format!("echo ready > {}\n", node.work("ready").display())
}

/// The login shell hears it as well, as in Torque: a job whose shell does not trap the signal ends by it.
#[tokio::test]
async fn a_signal_reaches_every_process_of_the_script() {
    let mut node = Node::start("").await;
    let script = format!("{}sleep 1000 & wait", ready(&node));
    running(&mut node, &script).await;
    node.made("ready").await;
    assert_eq!(
        answer(&mut node, 1, signal(1, 0, Pause::None)).await,
        Ok(String::new())
    );
    assert_eq!(
        answer(&mut node, 2, signal(1, 10, Pause::None)).await,
        Ok(String::new())
    );
    let ended = node.ended(1).await;
    assert_eq!(ended.outcome, Some(Outcome::ExitStatus(256 + 10)));
    // It is over; and of an attempt that never was there is nothing to be told either.
    for attempt in [1, 99] {
        let answered = answer(&mut node, 3 + attempt, signal(attempt, 15, Pause::None)).await;
        assert_eq!(answered, Err(BADSTATE), "{attempt}");
    }
}

/// State of every process that carries `mark`: `T` is stopped.
fn states(mark: &str) -> Vec<String> {
    let stat = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/stat")).ok();
    let state = |stat: String| {
        let (_, rest) = stat.rsplit_once(") ")?;
        Some(rest.chars().take(1).collect())
    };
    processes_with(mark)
        .into_iter()
        .filter_map(|pid| state(stat(pid)?))
        .collect()
}

#[tokio::test]
async fn a_paused_job_stops_as_a_whole_and_still_hears_that_it_must_end() {
    let mut node = Node::start("").await;
    let folder = node.folder.path().file_name().unwrap().to_string_lossy();
    let mark = format!("paused-{folder}");
    // A daemon of a session of its own as well.
    let script = format!(
        "(setsid bash -c 'while :; do sleep 0.05; done' {mark} &)\n\
         {}while :; do sleep 0.05; done # {mark}",
        ready(&node)
    );
    running(&mut node, &script).await;
    node.made("ready").await;
    let suspended = answer(&mut node, 1, signal(1, 0, Pause::Suspend)).await;
    assert_eq!(suspended, Ok(String::new()));
    let all = |wanted: bool| {
        let mark = mark.clone();
        move || {
            let states = states(&mark);
            let is_as_wanted = states.iter().all(|state| (state == "T") == wanted);
            match !states.is_empty() && is_as_wanted {
                true => Ok(()),
                false => Err(format!("{states:?}")),
            }
        }
    };
    wait_until("all is stopped", all(true)).await;
    assert_eq!(
        answer(&mut node, 2, signal(1, 0, Pause::Resume)).await,
        Ok(String::new())
    );
    wait_until("all goes on", all(false)).await;
    // SIGSTOP by itself stops it as a whole, too.
    assert_eq!(
        answer(&mut node, 3, signal(1, 19, Pause::None)).await,
        Ok(String::new())
    );
    wait_until("all is stopped", all(true)).await;
    node.stop(1, 5).await;
    let ended = node.ended(1).await;
    assert_eq!(ended.outcome, Some(Outcome::ExitStatus(256 + 15)));
}

#[tokio::test]
async fn output_is_read_whole_or_by_lines_while_the_job_writes() {
    let mut node = Node::start("").await;
    let script = format!("seq 1 100; echo oops >&2\n{}sleep 1000", ready(&node));
    running(&mut node, &script).await;
    node.made("ready").await;
    let all: String = (1..=100).map(|number| format!("{number}\n")).collect();
    assert_eq!(
        answer(&mut node, 1, Ask::ReadOutput(read(1))).await,
        Ok(all)
    );
    let last = ReadOutput {
        last_lines: Some(2),
        ..read(1)
    };
    let last = answer(&mut node, 2, Ask::ReadOutput(last)).await;
    assert_eq!(last.as_deref(), Ok("99\n100\n"));
    let first = ReadOutput {
        first_lines: Some(3),
        ..read(1)
    };
    let first = answer(&mut node, 3, Ask::ReadOutput(first)).await;
    assert_eq!(first.as_deref(), Ok("1\n2\n3\n"));
    let stderr = ReadOutput {
        stderr: true,
        ..read(1)
    };
    let stderr = answer(&mut node, 4, Ask::ReadOutput(stderr)).await;
    assert_eq!(stderr.as_deref(), Ok("oops\n"));
    node.stop(1, 0).await;
    node.ended(1).await;
    assert_eq!(
        answer(&mut node, 5, Ask::ReadOutput(read(1))).await,
        Err(BADSTATE)
    );
}

/// Nobody takes the chunks: only those that may be under way come, and a question that is dropped says no more.
#[tokio::test]
async fn an_answer_waits_for_credit() {
    let mut node = Node::start("").await;
    let script = format!(
        "head -c 1000000 /dev/zero | tr '\\0' x\n{}sleep 1000",
        ready(&node)
    );
    running(&mut node, &script).await;
    node.made("ready").await;
    ask(&node, 1, Ask::ReadOutput(read(1))).await;
    let mut length = 0;
    for _ in 0..CHUNKS_MAX {
        match part(&mut node, 1).await {
            Part::Data(data) => length += data.len(),
            other => panic!("{other:?}"),
        }
    }
    assert!(length <= CHUNKS_MAX * (32 << 10));
    // Another question is answered meanwhile, and behind it nothing of the first has come.
    ask(&node, 2, signal(1, 0, Pause::None)).await;
    let pick = |message| match message {
        Say::Answer(answer) => Some((answer.id, answer.part)),
        _ => None,
    };
    let (id, _) = node.next("an answer", pick).await;
    assert_eq!(id, 2);
    node.order(Order::DropQuestion(1)).await;
    let taken = AnswerTaken { id: 1, chunks: 4 };
    node.order(Order::AnswerTaken(taken)).await;
    assert_eq!(
        answer(&mut node, 3, signal(1, 0, Pause::None)).await,
        Ok(String::new())
    );
}

#[tokio::test]
async fn output_is_followed_until_the_job_ends() {
    let mut node = Node::start("").await;
    let go = node.work("go");
    let script = format!(
        "echo one\n{}until [ -e {} ]; do sleep 0.05; done; echo two",
        ready(&node),
        go.display()
    );
    running(&mut node, &script).await;
    node.made("ready").await;
    let follow = ReadOutput {
        follow: true,
        ..read(1)
    };
    ask(&node, 1, Ask::ReadOutput(follow)).await;
    assert_eq!(part(&mut node, 1).await, Part::Data(b"one\n".to_vec()));
    std::fs::write(&go, "").unwrap();
    assert_eq!(part(&mut node, 1).await, Part::Data(b"two\n".to_vec()));
    assert!(matches!(part(&mut node, 1).await, Part::Done(_)));
}

#[tokio::test]
async fn a_message_stands_between_what_the_job_writes() {
    let mut node = Node::start("").await;
    let go = node.work("go");
    let script = format!(
        "echo before >&2\n{}until [ -e {} ]; do sleep 0.05; done; echo after >&2",
        ready(&node),
        go.display()
    );
    running(&mut node, &script).await;
    node.made("ready").await;
    let message = WriteMessage {
        attempt: 1,
        text: "hello there".into(),
        to_stdout: false,
        to_stderr: true,
    };
    let written = answer(&mut node, 1, Ask::WriteMessage(message)).await;
    assert_eq!(written, Ok(String::new()));
    std::fs::write(&go, "").unwrap();
    node.ended(1).await;
    assert_eq!(node.read("err"), "before\nhello there\nafter\n");
    assert_eq!(node.read("out"), "");
}

/// A user who puts a link in the place of the output sees through root's eyes otherwise.
#[tokio::test]
async fn output_is_read_with_the_users_rights_only() {
    if is_skipped_without_root() {
        return;
    }
    let mut node = Node::start("").await;
    let script = format!("{}sleep 1000", ready(&node));
    running(&mut node, &script).await;
    node.made("ready").await;
    std::fs::remove_file(node.work("out")).unwrap();
    symlink(Path::new("/etc/shadow"), node.work("out")).unwrap();
    let seen = answer(&mut node, 1, Ask::ReadOutput(read(1))).await;
    assert_eq!(seen, Err(CANNOT_READ));
}

#[tokio::test]
async fn a_job_that_runs_gets_another_walltime() {
    let mut node = Node::start("").await;
    let mut spec = node.spec(1, "sleep 1000");
    spec.walltime_secs = Some(1000);
    node.run(spec).await;
    node.started(1).await;
    let adjust = AdjustAttempt {
        attempt: 1,
        walltime_secs: Some(1),
        ..AdjustAttempt::default()
    };
    node.order(Order::Adjust(adjust)).await;
    let ended = node.ended(1).await;
    assert_eq!(ended.outcome, Some(Outcome::ExitStatus(-11)));
    assert!(
        node.read("err").contains("exceeded limit 1\n"),
        "{}",
        node.read("err")
    );
}

#[tokio::test]
async fn a_node_is_diagnosed_and_refuses_what_its_driver_cannot() {
    let mut node = Node::start("").await;
    running(&mut node, "sleep 1000").await;
    let diagnose = |level, attribute: &str| {
        Ask::Diagnose(DiagnoseNode {
            level,
            attribute: attribute.into(),
        })
    };
    let report = answer(&mut node, 1, diagnose(3, "")).await.unwrap();
    assert!(
        report.contains("\njob[1.srv]  state=RUNNING  sidlist="),
        "{report}"
    );
    let system = answer(&mut node, 2, diagnose(0, "opsys")).await;
    assert_eq!(system.as_deref(), Ok("linux"));
    let mode = SetCardMode {
        card: "GPU-nosuch".into(),
        mode: 1,
    };
    let refused = answer(&mut node, 3, Ask::SetCardMode(mode)).await;
    assert_eq!(refused, Err(UNKNOWN_REQUEST));
}

async fn word(node: &mut Node, task: u64) -> Report {
    let pick = |message| match message {
        Say::TaskReport(report) if report.task == task => report.report,
        _ => None,
    };
    node.next("a word of a task", pick).await
}

/// A task of an attempt whose script runs elsewhere; what it prints waits for credit, and goes on with it.
#[tokio::test]
async fn a_task_for_another_node_says_what_there_is_credit_for() {
    let mut node = Node::start("").await;
    let mut spec = node.spec(7, "");
    spec.node_file = vec!["node00".into(), "node01".into()];
    let arguments = ["sh", "-c", "head -c 1000000 /dev/zero; exit 3"];
    let task = RunTask {
        task: 5,
        spec: Some(spec),
        vnode: 1,
        task_number: 2,
        node_index: 1,
        arguments: arguments.map(ToOwned::to_owned).to_vec(),
        ..RunTask::default()
    };
    node.order(Order::RunTask(task)).await;
    let (mut words, mut printed) = (0, 0);
    loop {
        let said = word(&mut node, 5).await;
        words += 1;
        match said {
            Report::Started(_) | Report::Stderr(_) => {}
            Report::Stdout(bytes) => printed += bytes.len(),
            Report::ExitStatus(status) => {
                assert_eq!((printed, status), (1_000_000, 3));
                return;
            }
            Report::Failed(failure) => panic!("{failure:?}"),
        }
        if words == WORDS_MAX {
            // All that is allowed has come; an answer comes before anything else of the task.
            ask(&node, 1, signal(99, 0, Pause::None)).await;
            let pick = |message| match message {
                Say::TaskReport(_) => Some(true),
                Say::Answer(_) => Some(false),
                _ => None,
            };
            assert!(!node.next("a word or an answer", pick).await);
        }
        if words >= WORDS_MAX {
            let taken = TaskTaken { task: 5, chunks: 1 };
            node.order(Order::TaskTaken(taken)).await;
        }
    }
}
