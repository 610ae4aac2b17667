//! What an attempt has, and used, on the nodes where its script does not run: the node of the script asks for it when the
//! end is told at the end of the output, and the others answer from what they saw of their tasks.

use std::time::Duration;

use capstan_proto::wire::task_report::Report;
use capstan_proto::wire::{NodeFigures, RunTask, TaskRequest};
use capstan_types::AttemptId;
use futures_util::future::join_all;
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::record::Entry;
use super::sampling::Visits;
use super::sisters::sisters;
use super::tasks::{TaskTable, TaskWanted};

/// How long all nodes together may take; who is late is not waited for.
const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// Longest answer of one node, bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Nodes of one attempt that are asked; a footer of more would be no footer.
pub(super) const NODES_MAX: usize = 64;
/// Cards of one node that are told.
const CARDS_MAX: usize = 64;

/// What is known of one node.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sister {
    pub(super) node: String,
    /// `None` when it did not answer.
    pub(super) figures: Option<NodeFigures>,
}

/// Asks the other nodes of an attempt, all at once, in the order of PBS_NODEFILE.
pub(super) async fn of_sisters(entry: &Entry, tasks: &TaskTable) -> Vec<Sister> {
    let attempt = entry.attempt();
    let all = sisters(entry).into_iter().take(NODES_MAX);
    let asked = all.map(|sister| async {
        let answer = timeout(ANSWER_WAIT, of_one(attempt, &sister, tasks)).await;
        Sister {
            figures: answer.ok().flatten(),
            node: sister.0,
        }
    });
    join_all(asked).await
}

async fn of_one(
    attempt: AttemptId,
    (node, index, slot): &(String, u32, u32),
    tasks: &TaskTable,
) -> Option<NodeFigures> {
    let (reports, mut heard) = mpsc::channel(2);
    let request = TaskRequest {
        attempt: attempt.0,
        node: node.clone(),
        vnode: *slot,
        node_index: *index,
        figures: true,
        ..TaskRequest::default()
    };
    if !tasks.want(TaskWanted::plain(request, reports)) {
        return None;
    }
    let mut bytes = Vec::new();
    while let Some(report) = heard.recv().await {
        match report {
            Report::Started(_) | Report::Stderr(_) => {}
            Report::Stdout(more) if bytes.len() + more.len() <= ANSWER_BYTES_MAX => {
                bytes.extend_from_slice(&more);
            }
            Report::ExitStatus(0) => return NodeFigures::decode(&*bytes).ok(),
            Report::Stdout(_) | Report::ExitStatus(_) | Report::Failed(_) => return None,
        }
    }
    None
}

/// The answer of a node where the script does not run.
pub(super) fn answer(order: &RunTask, visits: &Visits) -> mpsc::Receiver<Report> {
    let spec = order.spec.clone().unwrap_or_default();
    let attempt = AttemptId(spec.attempt);
    let all = visits.usage().into_iter();
    let usage = all
        .filter(|seen| seen.attempt == attempt.0)
        .find_map(|seen| seen.usage);
    let figures = NodeFigures {
        cores: spec.cores,
        cards: spec.cards.into_iter().take(CARDS_MAX).collect(),
        usage,
    };
    let (reports, said) = mpsc::channel(2);
    for report in [
        Report::Stdout(figures.encode_to_vec()),
        Report::ExitStatus(0),
    ] {
        // The queue was made a moment ago and has room for both.
        let _room = reports.try_send(report);
    }
    said
}

#[cfg(test)]
mod tests {
    use capstan_proto::wire::{Card, LaunchSpec};

    use super::*;

    #[tokio::test]
    async fn a_node_tells_its_share_also_where_nothing_ran() {
        let order = RunTask {
            spec: Some(LaunchSpec {
                attempt: 7,
                cores: 4,
                cards: vec![Card::default(); 2],
                ..LaunchSpec::default()
            }),
            figures: true,
            ..RunTask::default()
        };
        let mut said = answer(&order, &Visits::default());
        let Some(Report::Stdout(bytes)) = said.recv().await else {
            panic!("no figures");
        };
        let figures = NodeFigures::decode(&*bytes).unwrap();
        assert_eq!((figures.cores, figures.cards.len()), (4, 2));
        assert_eq!(figures.usage, None);
        assert_eq!(said.recv().await, Some(Report::ExitStatus(0)));
    }

    #[tokio::test]
    async fn a_node_that_cannot_be_asked_is_told_without_figures() {
        let mut entry = Entry {
            node: "gpu01".into(),
            ..Entry::default()
        };
        entry.spec.node_file = ["gpu01", "gpu02"].map(str::to_owned).to_vec();
        let seen = of_sisters(&entry, &TaskTable::default()).await;
        let expected = Sister {
            node: "gpu02".into(),
            figures: None,
        };
        assert_eq!(seen, [expected]);
    }
}
