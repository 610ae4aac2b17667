//! Cards and who has them, read from what the server lists of nodes and jobs: from the same attributes that `pbsnodes` and
//! `qstat -f` print. Pure.

use std::collections::BTreeMap;

use capstan_proto::wire::{Attribute, JobAttributes, NodeRow};

/// One card of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Card {
    pub(super) index: String,
    pub(super) model: String,
    /// `Exclusive`, `Shared`, `Unallocated` or `Unavailable`.
    pub(super) state: String,
    /// As the server writes them, with their units; empty when the card does not say.
    pub(super) load: String,
    pub(super) memory_used: String,
    pub(super) memory_total: String,
    pub(super) heat: String,
}

/// One node.
#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) state: String,
    pub(super) slots: String,
    /// Words by which jobs ask for it.
    pub(super) properties: Vec<String>,
    pub(super) cards: Vec<Card>,
    /// Items of its `status`: `loadave`, `availmem` …
    pub(super) status: BTreeMap<String, String>,
    /// What an administrator should know of it.
    pub(super) messages: Vec<String>,
}

/// One job that runs.
#[derive(Clone, Debug, Default)]
pub(super) struct Job {
    pub(super) id: String,
    pub(super) user: String,
    pub(super) name: String,
    /// Nodes and indices of its cards.
    pub(super) cards: Vec<(String, String)>,
    pub(super) nodes: Vec<String>,
    /// What stands behind `resources_used.`.
    pub(super) used: BTreeMap<String, String>,
}

impl Node {
    pub(super) fn read(row: &NodeRow) -> Self {
        let status = value(&row.attributes, "status");
        let items = status.split(',').filter_map(|item| item.split_once('='));
        let mut node = Self {
            name: row.name.clone(),
            state: row.state.clone(),
            slots: value(&row.attributes, "np").to_owned(),
            properties: value(&row.attributes, "properties")
                .split(',')
                .filter(|word| !word.is_empty())
                .map(str::to_owned)
                .collect(),
            cards: cards(value(&row.attributes, "gpu_status")),
            ..Self::default()
        };
        for (name, value) in items {
            match name {
                "message" => node.messages.push(value.to_owned()),
                _ => drop(node.status.insert(name.to_owned(), value.to_owned())),
            }
        }
        if node.cards.is_empty() {
            // A driver that says nothing of its cards: they are only counted.
            let count: usize = value(&row.attributes, "gpus").parse().unwrap_or(0);
            node.cards = (0..count)
                .map(|index| Card {
                    index: index.to_string(),
                    ..Card::default()
                })
                .collect();
        }
        node
    }
}

/// `gpu[0]=gpu_id=…;gpu_product_name=…;…,gpu[1]=…,driver_ver=…`.
fn cards(status: &str) -> Vec<Card> {
    let card = |item: &str| {
        let (index, keys) = item.strip_prefix("gpu[")?.split_once("]=")?;
        let keys: BTreeMap<&str, &str> = keys
            .split(';')
            .filter_map(|key| key.split_once('='))
            .collect();
        let key = |name: &str| keys.get(name).copied().unwrap_or_default().to_owned();
        Some(Card {
            index: index.to_owned(),
            model: key("gpu_product_name"),
            state: key("gpu_state"),
            load: key("gpu_utilization"),
            memory_used: key("gpu_memory_used"),
            memory_total: key("gpu_memory_total"),
            heat: key("gpu_temperature"),
        })
    };
    status.split(',').filter_map(card).collect()
}

impl Job {
    /// `None` for a job that holds nothing now.
    pub(super) fn read(job: &JobAttributes) -> Option<Self> {
        let attribute = |name| value(&job.attributes, name);
        if !["R", "E", "S"].contains(&attribute("job_state")) {
            return None;
        }
        let host = |part: &str| part.split('/').next().unwrap_or(part).to_owned();
        let mut nodes: Vec<String> = attribute("exec_host").split('+').map(host).collect();
        nodes.dedup();
        let card = |part: &str| {
            let (host, index) = part.split_once("-gpu/")?;
            Some((host.to_owned(), index.to_owned()))
        };
        let used = job
            .attributes
            .iter()
            .filter(|known| known.name == "resources_used");
        Some(Self {
            id: job.id.clone(),
            user: attribute("euser").to_owned(),
            name: attribute("Job_Name").to_owned(),
            cards: attribute("exec_gpus").split('+').filter_map(card).collect(),
            nodes,
            used: used
                .map(|known| (known.resource.clone(), known.value.clone()))
                .collect(),
        })
    }

    pub(super) fn has(&self, node: &str, card: &str) -> bool {
        self.cards
            .iter()
            .any(|(host, index)| host == node && index == card)
    }
}

fn value<'a>(attributes: &'a [Attribute], name: &str) -> &'a str {
    let found = attributes.iter().find(|known| known.name == name);
    found.map_or("", |known| &known.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(name: &str, value: &str) -> Attribute {
        Attribute {
            name: name.into(),
            value: value.into(),
            ..Attribute::default()
        }
    }

    #[test]
    fn cards_are_read_from_gpu_status_and_counted_where_there_is_none() {
        let status = "gpu[0]=gpu_id=00:3B;gpu_product_name=A100;gpu_memory_total=40960 MB;gpu_memory_used=7 MB;\
                      gpu_state=Exclusive;gpu_utilization=97%;gpu_temperature=71 C,gpu[3]=gpu_id=x,\
                      driver_ver=570,timestamp=Sun Nov 22";
        let mut row = NodeRow {
            name: "gpu01".into(),
            attributes: vec![
                attribute("gpus", "2"),
                attribute("gpu_status", status),
                attribute(
                    "status",
                    "loadave=0.50,message=card 0 drained: XID 79,message=two",
                ),
            ],
            ..NodeRow::default()
        };
        let node = Node::read(&row);
        let [first, other] = &node.cards[..] else {
            panic!("{node:?}")
        };
        assert_eq!((first.model.as_str(), first.load.as_str()), ("A100", "97%"));
        assert_eq!(
            (first.memory_used.as_str(), first.heat.as_str()),
            ("7 MB", "71 C")
        );
        assert_eq!((other.index.as_str(), other.state.as_str()), ("3", ""));
        assert_eq!(node.messages, ["card 0 drained: XID 79", "two"]);
        assert_eq!(node.status["loadave"], "0.50");
        row.attributes.remove(1);
        assert_eq!(Node::read(&row).cards.len(), 2);
    }

    #[test]
    fn only_jobs_that_hold_something_are_read() {
        let mut row = JobAttributes {
            id: "3.hn1".into(),
            attributes: vec![
                attribute("job_state", "R"),
                attribute("euser", "alice"),
                attribute("exec_host", "gpu01/0-1+gpu02/3"),
                attribute("exec_gpus", "gpu02-gpu/1+gpu01-gpu/0"),
            ],
            ..JobAttributes::default()
        };
        let job = Job::read(&row).unwrap();
        assert_eq!(job.nodes, ["gpu01", "gpu02"]);
        assert!(job.has("gpu02", "1") && job.has("gpu01", "0") && !job.has("gpu01", "1"));
        row.attributes[0].value = "Q".into();
        assert!(Job::read(&row).is_none());
    }
}
