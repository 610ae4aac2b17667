//! Tasks that a node runs for programs on another node of their attempt, and who may not ask for any.

use std::fs;

use capstan_proto::connect_unix;
use capstan_proto::wire::node_door_client::NodeDoorClient;
use capstan_proto::wire::task_report::Report;
use capstan_proto::wire::{
    AdoptProcessRequest, ListPlacesRequest, RunTask, RunTaskRequest, Variable, server_message,
};
use tonic::Code;

use crate::harness::{Node, is_skipped_without_root, wait_until_gone};

/// An order for a program of attempt 9, which runs on another node.
fn order(node: &Node, task: u64, words: &[&str]) -> RunTask {
    let mut spec = node.spec(9, "");
    spec.node_file = vec!["node02".into(), "node01".into()];
    RunTask {
        task,
        spec: Some(spec),
        vnode: 1,
        task_number: 7,
        node_index: 1,
        arguments: words.iter().map(|word| (*word).to_owned()).collect(),
        environment: vec![
            Variable {
                name: "EXTRA".into(),
                value: "a b".into(),
            },
            Variable {
                name: "PBS_JOBID".into(),
                value: "1.forged".into(),
            },
            Variable {
                name: "PBS_JOBCOOKIE".into(),
                value: "AB".repeat(16),
            },
        ],
        folder: String::new(),
        hooks: None,
        figures: false,
        key: String::new(),
        from_byte: None,
    }
}

/// All that a task says: stdout, stderr, and the last word.
async fn said(node: &mut Node, task: u64) -> (String, String, Report) {
    let (mut stdout, mut stderr) = (String::new(), String::new());
    loop {
        match node.task_report(task).await {
            Report::Started(_) => {}
            Report::Stdout(bytes) => stdout.push_str(&String::from_utf8(bytes).unwrap()),
            Report::Stderr(bytes) => stderr.push_str(&String::from_utf8(bytes).unwrap()),
            last @ (Report::ExitStatus(_) | Report::Failed(_)) => return (stdout, stderr, last),
        }
    }
}

async fn run(node: &mut Node, task: u64, words: &[&str]) -> (String, String, Report) {
    let order = order(node, task, words);
    node.order(server_message::Message::RunTask(order)).await;
    said(node, task).await
}

#[tokio::test]
async fn a_task_for_another_node_runs_as_the_jobs_user() {
    let mut node = Node::start("").await;
    let script = "id -u; pwd; umask; echo $PBS_NODENUM $PBS_VNODENUM $PBS_TASKNUM $PBS_JOBID $PBS_JOBCOOKIE $EXTRA; \
                  cat; echo oops >&2; exit 3";
    let (out, err, last) = run(&mut node, 1, &["sh", "-c", script]).await;
    let home = node.user.dir.display();
    let expected = format!(
        "{}\n{home}\n0077\n1 1 7 9.srv {} a b\n",
        node.user.uid,
        "AB".repeat(16)
    );
    assert_eq!((out, err.as_str()), (expected, "oops\n"));
    assert_eq!(last, Report::ExitStatus(3));
}

#[tokio::test]
async fn how_a_task_ends_is_told_as_a_shell_would() {
    let mut node = Node::start("").await;
    let (_, _, last) = run(&mut node, 1, &["sh", "-c", "kill -9 $$"]).await;
    assert_eq!(last, Report::ExitStatus(137));
    let (_, err, last) = run(&mut node, 2, &["nosuchprogram"]).await;
    assert_eq!(last, Report::ExitStatus(254));
    assert_eq!(err, "nosuchprogram: No such file or directory\n");
    let (_, _, last) = run(&mut node, 3, &["a\0b"]).await;
    assert!(matches!(last, Report::Failed(_)), "{last:?}");
    let mut other = order(&node, 4, &["true"]);
    other.spec.as_mut().unwrap().uid += 1;
    node.order(server_message::Message::RunTask(other)).await;
    let (_, _, last) = said(&mut node, 4).await;
    assert!(
        matches!(&last, Report::Failed(why) if why.detail.contains("uid")),
        "{last:?}"
    );
}

#[tokio::test]
async fn the_last_words_of_a_task_are_heard() {
    let mut node = Node::start("").await;
    for task in 1..=20 {
        let (out, err, last) = run(&mut node, task, &["sh", "-c", "echo out; echo err >&2"]).await;
        assert_eq!(
            (out.as_str(), err.as_str()),
            ("out\n", "err\n"),
            "task {task}"
        );
        assert_eq!(last, Report::ExitStatus(0));
    }
}

/// The last of them to end takes the attempt's group away while the next ones enter it.
#[tokio::test]
async fn tasks_that_come_and_go_do_not_hinder_each_other() {
    let mut node = Node::start("").await;
    for round in 0..8 {
        let tasks = round * 4 + 1..=round * 4 + 4;
        for task in tasks.clone() {
            let order = order(&node, task, &["true"]);
            node.order(server_message::Message::RunTask(order)).await;
        }
        // Their words come in any order: one task's would be lost while another's are waited for.
        let mut ended = 0;
        while ended < 4 {
            match node.any_task_report().await {
                Report::ExitStatus(0) => ended += 1,
                Report::Started(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

/// Nobody waits any more, or the agent dies: what ignores TERM is killed.
#[tokio::test]
async fn nothing_of_a_task_outlives_those_who_wait_for_it() {
    let mut node = Node::start("").await;
    let mark = format!(
        "task-{}",
        node.folder.path().file_name().unwrap().to_string_lossy()
    );
    let words = [
        "bash",
        "-c",
        "trap '' TERM; echo up; while :; do sleep 1; done",
        &mark,
    ];
    for (task, is_agent_killed) in [(1, false), (2, true)] {
        let order = order(&node, task, &words);
        node.order(server_message::Message::RunTask(order)).await;
        while !matches!(node.task_report(task).await, Report::Stdout(_)) {}
        match is_agent_killed {
            false => node.order(server_message::Message::StopTask(task)).await,
            true => node.kill_agent(),
        }
        wait_until_gone(&mark).await;
    }
}

/// Who wants it is away for a while, and so is the agent: it goes on where it was heard last, until its end has arrived.
#[tokio::test]
async fn a_task_with_a_key_goes_on_until_its_end_is_known() {
    let mut node = Node::start("").await;
    let go = node.folder.path().join("go");
    let script = format!(
        "echo one; until test -e {}; do sleep 0.05; done; echo two >&2; exit 5",
        go.display()
    );
    let keyed = |node: &Node, task, from_byte| RunTask {
        key: "0123456789abcdef".repeat(2),
        from_byte,
        ..order(node, task, &["bash", "-c", &script])
    };
    let first = keyed(&node, 1, None);
    node.order(server_message::Message::RunTask(first)).await;
    assert!(matches!(node.task_report(1).await, Report::Started(_)));
    assert_eq!(node.task_report(1).await, Report::Stdout(b"one\n".to_vec()));
    node.order(server_message::Message::LeaveTask(1)).await;
    node.kill_agent();
    fs::write(&go, "").unwrap();
    node.start_agent();
    node.hello().await;
    for task in [2, 3] {
        // Also who asks for it again because the answer was lost.
        let again = keyed(&node, task, Some(4));
        node.order(server_message::Message::RunTask(again)).await;
        let end = (String::new(), "two\n".to_owned(), Report::ExitStatus(5));
        assert_eq!(said(&mut node, task).await, end);
    }
    node.order(server_message::Message::StopTask(3)).await;
    let folder = node.folder.path().to_owned();
    crate::harness::wait_until("nothing of it is left", || {
        let found = walk(&folder);
        let mut left = found.filter(|name| name.ends_with(".program") || name.ends_with(".guest"));
        left.next().map_or(Ok(()), Err)
    })
    .await;
    let late = keyed(&node, 4, Some(4));
    node.order(server_message::Message::RunTask(late)).await;
    let (.., end) = said(&mut node, 4).await;
    assert!(matches!(end, Report::Failed(_)), "{end:?}");
}

/// Names of all files in a folder and those below.
fn walk(folder: &std::path::Path) -> Box<dyn Iterator<Item = String>> {
    let all = fs::read_dir(folder).into_iter().flatten().flatten();
    Box::new(
        all.flat_map(|entry| match entry.file_type().unwrap().is_dir() {
            true => walk(&entry.path()),
            false => Box::new(std::iter::once(entry.path().display().to_string())),
        }),
    )
}

/// A task's processes are in the attempt's group, and the group goes with the last of them.
#[tokio::test]
async fn a_task_lives_in_the_share_of_its_attempt() {
    if is_skipped_without_root() {
        return;
    }
    if !fs::exists("/sys/fs/cgroup/freezer").unwrap() {
        return;
    }
    let mut node = Node::start("").await;
    let (out, _, _) = run(&mut node, 1, &["grep", "freezer", "/proc/self/cgroup"]).await;
    let group = out.trim().rsplit(':').next().unwrap();
    assert!(group.ends_with("/att-9"), "{out}");
    let group = format!("/sys/fs/cgroup/freezer{group}");
    crate::harness::wait_until("the group is gone", || match fs::exists(&group).unwrap() {
        true => Err("there".to_owned()),
        false => Ok(()),
    })
    .await;
}

/// This process is in no attempt.
#[tokio::test]
async fn who_is_in_no_attempt_may_ask_for_nothing() {
    let node = Node::start("").await;
    node.run(node.spec(1, "sleep 300")).await;
    let channel = connect_unix(&node.folder.path().join("run/agent.sock"))
        .await
        .unwrap();
    let mut door = NodeDoorClient::new(channel);
    let listed = door.list_places(ListPlacesRequest {}).await;
    assert_eq!(listed.unwrap_err().code(), Code::PermissionDenied);
    let request = RunTaskRequest {
        arguments: vec!["true".into()],
        ..RunTaskRequest::default()
    };
    let run = door.run_task(tokio_stream::once(request)).await.map(drop);
    assert_eq!(run.unwrap_err().code(), Code::PermissionDenied);
    // Root owns no job, and the job's owner no process of root's.
    let request = AdoptProcessRequest {
        job_id: "1.srv".into(),
        pid: std::process::id(),
    };
    let adopted = door.adopt_process(request).await;
    if !is_skipped_without_root() {
        assert_eq!(adopted.unwrap_err().code(), Code::NotFound);
    }
}
