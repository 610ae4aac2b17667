//! Questions to agents and tasks between them: what a scripted agent hears, and what comes back to whoever asked.

use capstan_proto::wire::agent_message::Message as Say;
use capstan_proto::wire::answer::Part;
use capstan_proto::wire::ask_node_request::Question as NodeQuestion;
use capstan_proto::wire::question::Question as Ask;
use capstan_proto::wire::server_message::Message as Hear;
use capstan_proto::wire::signal_attempt::Pause;
use capstan_proto::wire::task_report::Report;
use capstan_proto::wire::{
    Answer, AskNodeRequest, DiagnoseNode, Done, Failure, MessageJobRequest, PeekJobRequest,
    Question, ResetCardErrors, SetCardMode, SignalJobRequest, TaskReport, TaskRequest, TaskSeen,
    TaskTaken, Variable,
};
use tokio::task::JoinHandle;
use tonic::Status;

use crate::agent::{Agent, hello};
use crate::cluster::{Client, Cluster, refusal};

/// As the protocol says.
const CHUNKS_MAX: usize = 4;

/// A cluster with one node and a job that runs on it.
async fn running() -> (Cluster, Agent, String, u64) {
    let mut cluster = Cluster::start("").await;
    let (mut agent, _) = Agent::attach(cluster.server.agents_addr, hello("node01", "a1")).await;
    let id = cluster.submit(&[]).await.unwrap();
    let spec = agent.told_to_start().await;
    agent.started(spec.attempt).await;
    cluster.wait_until(&id, "job_state", "R").await;
    (cluster, agent, id, spec.attempt)
}

impl Agent {
    async fn asked(&mut self) -> Question {
        match self.hear().await.unwrap() {
            Some(Hear::Ask(question)) => question,
            other => panic!("not asked but {other:?}"),
        }
    }

    async fn answer(&self, id: u64, part: Part) {
        let part = Some(part);
        self.say(Say::Answer(Answer { id, part })).await;
    }

    async fn report(&self, task: u64, report: Report) {
        let report = Some(report);
        self.say(Say::TaskReport(TaskReport { task, report })).await;
    }

    async fn heard_of_task(&mut self) -> TaskReport {
        match self.hear().await.unwrap() {
            Some(Hear::TaskReport(report)) => report,
            other => panic!("no word of a task but {other:?}"),
        }
    }
}

fn signal(id: &str, signal: &str) -> SignalJobRequest {
    SignalJobRequest {
        job_id: id.to_owned(),
        signal: signal.to_owned(),
        asynchronous: false,
    }
}

/// Asks while the test goes on to be the agent.
async fn asking(
    cluster: &Cluster,
    ask: impl AsyncFnOnce(Client) -> Result<(), Status> + 'static,
) -> JoinHandle<Result<(), Status>>
where
{
    let client = Client::connect(&cluster.server.socket).await;
    tokio::task::spawn_local(ask(client))
}

fn local() -> tokio::task::LocalSet {
    tokio::task::LocalSet::new()
}

#[tokio::test]
async fn a_signal_is_done_when_the_agent_says_so() {
    local()
        .run_until(async {
            let (mut cluster, mut agent, id, attempt) = running().await;
            let wish = signal(&id, "SIGUSR1");
            let asked = asking(&cluster, async move |mut client: Client| {
                client.signal_job(wish).await.map(drop)
            })
            .await;
            let question = agent.asked().await;
            let Some(Ask::Signal(wished)) = question.question else {
                panic!("{question:?}");
            };
            assert_eq!(
                (wished.attempt, wished.signal, wished.pause()),
                (attempt, 10, Pause::None)
            );
            agent.answer(question.id, Part::Done(Done {})).await;
            asked.await.unwrap().unwrap();

            let refused = async |cluster: &mut Cluster, wish| {
                refusal(&cluster.client.signal_job(wish).await.unwrap_err())
            };
            let text = (
                15001,
                "Unknown Job Id Error MSG=cannot locate job".to_owned(),
            );
            assert_eq!(refused(&mut cluster, signal("99999", "TERM")).await, text);
            let text = (15015, "Unknown/illegal signal name".to_owned());
            assert_eq!(refused(&mut cluster, signal(&id, "FROB")).await, text);
            let waiting = cluster.submit(&[("Hold_Types", "u")]).await.unwrap();
            let text = (15018, "Request invalid for state of job".to_owned());
            assert_eq!(refused(&mut cluster, signal(&waiting, "TERM")).await, text);
            agent.ended(attempt, 0).await;
            cluster.wait_until(&id, "job_state", "C").await;
            let text = "Request invalid for state of job MSG=invalid state for job - COMPLETE";
            let text = (15018, text.to_owned());
            assert_eq!(refused(&mut cluster, signal(&id, "TERM")).await, text);
        })
        .await;
}

#[tokio::test]
async fn a_job_is_suspended_when_its_agent_has_stopped_it() {
    local()
        .run_until(async {
            let (mut cluster, mut agent, id, _) = running().await;
            for (word, pause, state) in [
                ("suspend", Pause::Suspend, "S"),
                ("resume", Pause::Resume, "R"),
            ] {
                let wish = signal(&id, word);
                let asked = asking(&cluster, async move |mut client: Client| {
                    client.signal_job(wish).await.map(drop)
                })
                .await;
                let question = agent.asked().await;
                let Some(Ask::Signal(wished)) = question.question else {
                    panic!("{question:?}");
                };
                assert_eq!(wished.pause(), pause);
                agent.answer(question.id, Part::Done(Done {})).await;
                asked.await.unwrap().unwrap();
                assert_eq!(cluster.value(&id, "job_state").await, state);
            }
        })
        .await;
}

#[tokio::test]
async fn an_agents_no_and_its_silence_reach_whoever_asked() {
    local().run_until(async {
        let (cluster, mut agent, id, _) = running().await;
        let wish = MessageJobRequest {
            job_id: id.clone(),
            text: "a\x1bb\n".to_owned(),
            to_stdout: false,
            to_stderr: false,
        };
        let send = async move |mut client: Client| client.message_job(wish).await.map(drop);
        let asked = asking(&cluster, send.clone()).await;
        let question = agent.asked().await;
        let Some(Ask::WriteMessage(message)) = question.question else {
            panic!("{question:?}");
        };
        // Stderr when nothing is said; and nothing that a terminal would obey.
        assert_eq!((message.to_stdout, message.to_stderr), (false, true));
        assert_eq!(message.text, "a b");
        let failure = Failure {
            pbs_error: 15117,
            detail: "disk\nfull".to_owned(),
        };
        agent.answer(question.id, Part::Failed(failure)).await;
        let refused = asked.await.unwrap().unwrap_err();
        assert_eq!(refusal(&refused), (15117, "Error writing file MSG=disk full".to_owned()));
        // A connection that breaks before the answer.
        let asked = asking(&cluster, send).await;
        agent.asked().await;
        drop(agent);
        let refused = asked.await.unwrap().unwrap_err();
        let text = "Batch protocol error MSG=the connection to node node01 broke before its answer was complete";
        assert_eq!(refusal(&refused), (15033, text.to_owned()));
        // And none at all.
        let wish = signal(&id, "TERM");
        let asked = asking(&cluster, async move |mut client: Client| {
            client.signal_job(wish).await.map(drop)
        })
        .await;
        let refused = asked.await.unwrap().unwrap_err();
        assert_eq!(refusal(&refused).0, 15132);
    })
    .await;
}

#[tokio::test]
async fn output_is_passed_on_with_credit_for_what_was_taken() {
    let (mut cluster, mut agent, id, attempt) = running().await;
    let wish = PeekJobRequest {
        job_id: id,
        follow: true,
        last_lines: Some(3),
        ..PeekJobRequest::default()
    };
    let mut output = cluster.client.peek_job(wish).await.unwrap().into_inner();
    let question = agent.asked().await;
    let Some(Ask::ReadOutput(read)) = question.question else {
        panic!("{question:?}");
    };
    assert_eq!(
        (read.attempt, read.last_lines, read.follow),
        (attempt, Some(3), true)
    );
    for number in 0..CHUNKS_MAX {
        let data = number.to_string().into_bytes();
        agent.answer(question.id, Part::Data(data)).await;
    }
    for number in 0..CHUNKS_MAX {
        let chunk = output.message().await.unwrap().unwrap();
        assert_eq!(chunk.data, number.to_string().into_bytes());
        match agent.hear().await.unwrap() {
            Some(Hear::AnswerTaken(taken)) => {
                assert_eq!((taken.id, taken.chunks), (question.id, 1))
            }
            other => panic!("no credit but {other:?}"),
        }
    }
    // Who looks has seen enough.
    drop(output);
    match agent.hear().await.unwrap() {
        Some(Hear::DropQuestion(dropped)) => assert_eq!(dropped, question.id),
        other => panic!("not dropped but {other:?}"),
    }
}

#[tokio::test]
async fn an_agent_that_says_more_than_its_credit_is_cut_short() {
    local()
        .run_until(async {
            let (cluster, mut agent, _, _) = running().await;
            let diagnose = AskNodeRequest {
                node: "node01".to_owned(),
                question: Some(NodeQuestion::Diagnose(DiagnoseNode::default())),
            };
            let wish = diagnose.clone();
            let asked = asking(&cluster, async move |mut client: Client| {
                client.ask_node(wish).await.map(drop)
            })
            .await;
            let question = agent.asked().await;
            // Larger than a chunk may be.
            agent
                .answer(question.id, Part::Data(vec![b'x'; 1 << 20]))
                .await;
            let refused = asked.await.unwrap().unwrap_err();
            assert_eq!(refusal(&refused).0, 15033);
            // The connection stands, and the next question is answered.
            let asked = asking(&cluster, async move |mut client: Client| {
                let reply = client.ask_node(diagnose).await?.into_inner();
                assert_eq!(reply.text, "all is well");
                Ok(())
            })
            .await;
            let mut question = agent.hear().await.unwrap();
            while !matches!(question, Some(Hear::Ask(_))) {
                question = agent.hear().await.unwrap();
            }
            let Some(Hear::Ask(question)) = question else {
                return;
            };
            agent
                .answer(question.id, Part::Data(b"all is ".to_vec()))
                .await;
            agent
                .answer(question.id, Part::Data(b"well".to_vec()))
                .await;
            agent.answer(question.id, Part::Done(Done {})).await;
            asked.await.unwrap().unwrap();
        })
        .await;
}

#[tokio::test]
async fn a_card_is_named_by_index_or_uuid_and_must_be_a_real_one() {
    local()
        .run_until(async {
            let mut cluster = Cluster::start("").await;
            let (mut agent, _) =
                Agent::attach(cluster.server.agents_addr, hello("node01", "a1")).await;
            let mut simulated = hello("node02", "a2");
            if let Some(inventory) = &mut simulated.inventory {
                inventory.simulated = true;
            }
            let _second = Agent::attach(cluster.server.agents_addr, simulated).await;
            let mode = |node: &str, card: &str| AskNodeRequest {
                node: node.to_owned(),
                question: Some(NodeQuestion::SetCardMode(SetCardMode {
                    card: card.to_owned(),
                    mode: 3,
                })),
            };
            for (node, card, number, text) in [
                ("nosuch", "0", 15064, "Unknown node "),
                (
                    "node02",
                    "0",
                    15005,
                    "Unknown request MSG=Not allowed for virtual gpus",
                ),
                (
                    "node01",
                    "7",
                    15005,
                    "Unknown request MSG=GPU ID does not exist on node",
                ),
            ] {
                let refused = cluster.client.ask_node(mode(node, card)).await.unwrap_err();
                assert_eq!(
                    refusal(&refused),
                    (number, text.to_owned()),
                    "{node} {card}"
                );
            }
            for card in ["1", "GPU-node01-1"] {
                let wish = mode("node01", card);
                let asked = asking(&cluster, async move |mut client: Client| {
                    client.ask_node(wish).await.map(drop)
                })
                .await;
                let question = agent.asked().await;
                let Some(Ask::SetCardMode(set)) = question.question else {
                    panic!("{question:?}");
                };
                assert_eq!((set.card.as_str(), set.mode), ("GPU-node01-1", 3));
                agent.answer(question.id, Part::Done(Done {})).await;
                asked.await.unwrap().unwrap();
            }
            let neither = AskNodeRequest {
                node: "node01".to_owned(),
                question: Some(NodeQuestion::ResetCardErrors(ResetCardErrors {
                    card: "1".to_owned(),
                    ..ResetCardErrors::default()
                })),
            };
            let refused = cluster.client.ask_node(neither).await.unwrap_err();
            let text = "Unknown request MSG=No action specified".to_owned();
            assert_eq!(refusal(&refused), (15005, text));
        })
        .await;
}

/// Three nodes, a job on two of them: its agents, first the script's, then the other of its, then a stranger.
async fn pair() -> (Cluster, [Agent; 3], [String; 3], u64) {
    let mut cluster = Cluster::start("").await;
    let mut agents = Vec::new();
    for (node, agent) in [("node01", "a1"), ("node02", "a2"), ("node03", "a3")] {
        let (agent, _) = Agent::attach(cluster.server.agents_addr, hello(node, agent)).await;
        agents.push((node.to_owned(), agent));
    }
    let asked = [("Resource_List.nodes", "2:ppn=4")];
    let id = cluster.submit(&asked).await.unwrap();
    let hosts = loop {
        let hosts = cluster.value(&id, "exec_host").await;
        if !hosts.is_empty() {
            break hosts;
        }
    };
    let names: Vec<&str> = hosts
        .split('+')
        .map(|part| part.split('/').next().unwrap())
        .collect();
    // Those of the job first, in its order.
    let rank = |name: &str| names.iter().position(|host| *host == name).unwrap_or(9);
    agents.sort_by_key(|(name, _)| rank(name));
    let (names, agents): (Vec<String>, Vec<Agent>) = agents.into_iter().unzip();
    let mut agents: [Agent; 3] = agents.try_into().ok().unwrap();
    let spec = agents[0].told_to_start().await;
    agents[0].started(spec.attempt).await;
    cluster.wait_until(&id, "job_state", "R").await;
    (cluster, agents, names.try_into().unwrap(), spec.attempt)
}

fn task(number: u64, attempt: u64, node: &str) -> TaskRequest {
    TaskRequest {
        task: number,
        attempt,
        node: node.to_owned(),
        vnode: 4,
        task_number: 2,
        node_index: 1,
        arguments: vec!["hostname".to_owned()],
        environment: vec![Variable {
            name: "A".to_owned(),
            value: "1".to_owned(),
        }],
        folder: String::new(),
        hooks: None,
        figures: false,
        key: String::new(),
        from_byte: None,
    }
}

#[tokio::test]
async fn a_task_runs_on_another_node_of_the_attempt() {
    let (_cluster, [mut first, mut second, _], nodes, attempt) = pair().await;
    first
        .say(Say::TaskRequest(task(7, attempt, &nodes[1])))
        .await;
    let order = match second.hear().await.unwrap() {
        Some(Hear::RunTask(order)) => order,
        other => panic!("not told to run but {other:?}"),
    };
    let spec = order.spec.unwrap();
    assert_eq!(
        (spec.attempt, spec.script.len(), spec.cores),
        (attempt, 0, 4)
    );
    assert_eq!(
        (order.vnode, order.task_number, order.node_index),
        (4, 2, 1)
    );
    assert_eq!(order.arguments, ["hostname"]);
    second.report(order.task, Report::Started(4711)).await;
    second
        .report(order.task, Report::Stdout(b"hi".to_vec()))
        .await;
    for expected in [Report::Started(4711), Report::Stdout(b"hi".to_vec())] {
        let heard = first.heard_of_task().await;
        assert_eq!((heard.task, heard.report), (7, Some(expected)));
        match second.hear().await.unwrap() {
            Some(Hear::TaskTaken(taken)) => assert_eq!(taken.task, order.task),
            other => panic!("no credit but {other:?}"),
        }
    }
    second.report(order.task, Report::ExitStatus(3)).await;
    let heard = first.heard_of_task().await;
    assert_eq!((heard.task, heard.report), (7, Some(Report::ExitStatus(3))));
}

/// The asking node takes nothing: more than its credit does not leave the server, until it gives some.
#[tokio::test]
async fn words_of_a_task_wait_for_whoever_asked() {
    let (_cluster, [mut first, mut second, _], nodes, attempt) = pair().await;
    first
        .say(Say::TaskRequest(task(7, attempt, &nodes[1])))
        .await;
    let Some(Hear::RunTask(order)) = second.hear().await.unwrap() else {
        panic!("not told to run");
    };
    for number in 0..9 {
        second
            .report(order.task, Report::Stdout(vec![number]))
            .await;
        if number < 8 {
            let heard = first.heard_of_task().await;
            assert_eq!(heard.report, Some(Report::Stdout(vec![number])));
            assert!(matches!(
                second.hear().await.unwrap(),
                Some(Hear::TaskTaken(_))
            ));
        }
    }
    // The ninth has no credit; a refused request shows that nothing else was on its way.
    first
        .say(Say::TaskRequest(task(8, attempt, "nosuch")))
        .await;
    assert_eq!(first.heard_of_task().await.task, 8);
    first
        .say(Say::TaskTaken(TaskTaken { task: 7, chunks: 1 }))
        .await;
    let heard = first.heard_of_task().await;
    assert_eq!(
        (heard.task, heard.report),
        (7, Some(Report::Stdout(vec![8])))
    );
}

#[tokio::test]
async fn a_task_ends_when_nobody_waits_for_it() {
    let (_cluster, [first, mut second, _], nodes, attempt) = pair().await;
    let mut orders = Vec::new();
    for number in [1, 2] {
        first
            .say(Say::TaskRequest(task(number, attempt, &nodes[1])))
            .await;
        match second.hear().await.unwrap() {
            Some(Hear::RunTask(order)) => orders.push(order.task),
            other => panic!("not told to run but {other:?}"),
        }
    }
    let stopped = async |second: &mut Agent| match second.hear().await.unwrap() {
        Some(Hear::StopTask(task)) => task,
        other => panic!("not told to stop but {other:?}"),
    };
    first.say(Say::DropTask(1)).await;
    assert_eq!(stopped(&mut second).await, orders[0]);
    drop(first);
    assert_eq!(stopped(&mut second).await, orders[1]);
}

#[tokio::test]
async fn a_task_with_a_key_is_left_when_the_way_to_it_breaks_and_stopped_when_its_end_is_known() {
    let (_cluster, [mut first, mut second, _], nodes, attempt) = pair().await;
    let mut orders = Vec::new();
    for number in [1, 2, 3] {
        let request = TaskRequest {
            key: format!("{number:032}"),
            from_byte: (number == 3).then_some(5),
            ..task(number, attempt, &nodes[1])
        };
        first.say(Say::TaskRequest(request.clone())).await;
        match second.hear().await.unwrap() {
            Some(Hear::RunTask(order)) => {
                assert_eq!(
                    (&order.key, order.from_byte),
                    (&request.key, request.from_byte)
                );
                orders.push(order.task);
            }
            other => panic!("not told to run but {other:?}"),
        }
    }
    let seen = TaskSeen { task: 1, bytes: 7 };
    first.say(Say::TaskSeen(seen)).await;
    match second.hear().await.unwrap() {
        Some(Hear::TaskSeen(seen)) => assert_eq!((seen.task, seen.bytes), (orders[0], 7)),
        other => panic!("not told what has arrived but {other:?}"),
    }
    second.report(orders[0], Report::ExitStatus(3)).await;
    let heard = first.heard_of_task().await;
    assert_eq!((heard.task, heard.report), (1, Some(Report::ExitStatus(3))));
    // How it ended is kept there until that has arrived.
    first.say(Say::DropTask(1)).await;
    match second.hear().await.unwrap() {
        Some(Hear::StopTask(task)) => assert_eq!(task, orders[0]),
        other => panic!("not told to stop but {other:?}"),
    }
    drop(first);
    let mut left = Vec::new();
    for _ in 0..2 {
        match second.hear().await.unwrap() {
            Some(Hear::LeaveTask(task)) => left.push(task),
            other => panic!("not told to leave it but {other:?}"),
        }
    }
    left.sort_unstable();
    assert_eq!(left, orders[1..]);
}

#[tokio::test]
async fn a_task_is_refused_where_the_attempt_has_nothing_and_lost_with_its_node() {
    let (_cluster, [mut first, mut second, mut third], nodes, attempt) = pair().await;
    let failed = async |asker: &mut Agent| match asker.heard_of_task().await.report {
        Some(Report::Failed(failure)) => failure.pbs_error,
        other => panic!("not refused but {other:?}"),
    };
    first
        .say(Say::TaskRequest(task(1, attempt, &nodes[2])))
        .await;
    assert_eq!(failed(&mut first).await, 15018);
    // A stranger may not have anything run on the nodes of others' jobs.
    third
        .say(Say::TaskRequest(task(1, attempt, &nodes[1])))
        .await;
    assert_eq!(failed(&mut third).await, 15018);
    first
        .say(Say::TaskRequest(task(2, attempt + 1, &nodes[1])))
        .await;
    assert_eq!(failed(&mut first).await, 15018);
    first
        .say(Say::TaskRequest(task(3, attempt, &nodes[1])))
        .await;
    assert!(matches!(
        second.hear().await.unwrap(),
        Some(Hear::RunTask(_))
    ));
    drop(second);
    assert_eq!(failed(&mut first).await, 15033);
}
