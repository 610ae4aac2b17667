//! The nodes of a simulation: so many alike, or as a file describes them. A line of the file is
//! `NAME[A-B,C] cores=64 mem=512gb cards=8:RTX4090:24gb properties=S,nvlink`; `#` begins a comment.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use capstan_types::{NodeName, Size};

use crate::SimError;
use crate::trace::gang;

/// Most nodes.
pub(crate) const NODES_MAX: usize = 100_000;

/// Most cards of a node.
const CARDS_MAX: u32 = 1024;

/// Memory of a node of which only its cards are known: no job waits for it.
const MEMORY_BYTES: u64 = 1 << 50;

/// Memory of a card of which nothing is known.
const CARD_BYTES: u64 = 80 << 30;

/// Nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    /// Each with its name; slots per node in `slots`.
    pub nodes: Vec<NodeDescription>,
    /// Slots of the largest node: the size of a gang's share.
    slots: u32,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeDescription {
    /// Its name.
    pub name: NodeName,
    /// Processor cores.
    pub cores: u16,
    /// Memory.
    pub memory_bytes: u64,
    /// Its cards.
    pub cards: Vec<CardsOfOneModel>,
    /// Its properties.
    pub properties: Vec<Box<str>>,
}

/// Cards that are alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CardsOfOneModel {
    /// How many.
    pub count: u32,
    /// Product name.
    pub model: Box<str>,
    /// Memory of each.
    pub memory_bytes: u64,
}

impl NodeDescription {
    /// All its cards.
    #[must_use]
    pub fn card_count(&self) -> u32 {
        self.cards.iter().map(|cards| cards.count).sum()
    }
}

impl Cluster {
    /// The same, where nodes with cards of one model have all of these properties that any of them has: words that nail a
    /// node to one size of jobs then name the model only.
    #[must_use]
    pub fn joined(&self, words: &[Box<str>]) -> Self {
        let model = |node: &NodeDescription| node.cards.first().map(|cards| cards.model.clone());
        let mut of_model: BTreeMap<Option<Box<str>>, BTreeSet<Box<str>>> = BTreeMap::new();
        for node in &self.nodes {
            let own = node.properties.iter().filter(|word| words.contains(word));
            of_model
                .entry(model(node))
                .or_default()
                .extend(own.cloned());
        }
        let mut joined = self.clone();
        for node in &mut joined.nodes {
            let all = of_model.get(&model(node)).into_iter().flatten();
            let missing = all.filter(|word| !node.properties.contains(word));
            let missing: Vec<Box<str>> = missing.cloned().collect();
            node.properties.extend(missing);
        }
        joined
    }

    /// `nodes` nodes of `slots` slots, each a card with a core.
    ///
    /// # Errors
    /// None, or more than there can be.
    pub fn uniform(nodes: u32, slots: u32) -> Result<Self, SimError> {
        let is_sane =
            (1..=NODES_MAX).contains(&(nodes as usize)) && (1..=CARDS_MAX).contains(&slots);
        if !is_sane {
            let text = format!(
                "{nodes} nodes of {slots} slots: from 1 to {NODES_MAX} nodes of 1 to {CARDS_MAX} slots"
            );
            return Err(SimError::Cluster(text.into()));
        }
        let digits = nodes.to_string().len();
        let node = |number: u32| NodeDescription {
            name: format!("node{number:0digits$}").into(),
            cores: u16::try_from(slots).unwrap_or(u16::MAX),
            memory_bytes: MEMORY_BYTES,
            cards: vec![CardsOfOneModel {
                count: slots,
                model: "GPU".into(),
                memory_bytes: CARD_BYTES,
            }],
            properties: Vec::new(),
        };
        Ok(Self {
            nodes: (1..=nodes).map(node).collect(),
            slots,
        })
    }

    /// Reads a description.
    ///
    /// # Errors
    /// A line that describes no node, or a name that is there twice.
    pub fn parse(path: &Path, text: &str) -> Result<Self, SimError> {
        let mut cluster = Self::default();
        let mut names = std::collections::BTreeSet::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let damaged = |what: String| SimError::Line {
                path: path.into(),
                line: at as u64 + 1,
                what: what.into(),
            };
            for node in nodes(line).map_err(damaged)? {
                if cluster.nodes.len() >= NODES_MAX {
                    return Err(damaged(format!("more than {NODES_MAX} nodes")));
                }
                if !names.insert(node.name.clone()) {
                    return Err(damaged(format!("node {} is described twice", node.name)));
                }
                cluster.nodes.push(node);
            }
        }
        if cluster.nodes.is_empty() {
            let text = format!("{}: no node is described", path.display());
            return Err(SimError::Cluster(text.into()));
        }
        let slots = cluster.nodes.iter().map(|node| cluster.unit_of(node));
        cluster.slots = slots.max().unwrap_or(0);
        Ok(cluster)
    }

    /// What is counted: cards, or cores where no node has a card.
    #[must_use]
    pub fn counts_cards(&self) -> bool {
        self.nodes.iter().any(|node| !node.cards.is_empty())
    }

    /// Cards of a node, or its cores where no node has a card.
    #[must_use]
    pub fn unit_of(&self, node: &NodeDescription) -> u32 {
        if self.counts_cards() {
            node.card_count()
        } else {
            u32::from(node.cores)
        }
    }

    /// All cards (or cores).
    #[must_use]
    pub fn capacity(&self) -> u64 {
        let counts_cards = self.counts_cards();
        let units = self.nodes.iter().map(|node| match counts_cards {
            true => u64::from(node.card_count()),
            false => u64::from(node.cores),
        });
        units.sum()
    }

    /// Nodes and slots on each for a gang of so many slots.
    #[must_use]
    pub(crate) fn gang(&self, slots: u32) -> (u32, u32) {
        gang(slots, self.slots)
    }

    /// Whether a gang of so many slots fits when nothing runs.
    #[must_use]
    pub(crate) fn holds(&self, slots: u32) -> bool {
        let (nodes, each) = self.gang(slots);
        let wide = self.nodes.iter().filter(|node| self.unit_of(node) >= each);
        wide.take(nodes as usize).count() == nodes as usize
    }
}

/// The nodes of one line.
fn nodes(line: &str) -> Result<Vec<NodeDescription>, String> {
    let mut words = line.split_ascii_whitespace();
    let names = names(words.next().unwrap_or_default())?;
    let mut node = NodeDescription {
        name: NodeName::from(""),
        cores: 0,
        memory_bytes: MEMORY_BYTES,
        cards: Vec::new(),
        properties: Vec::new(),
    };
    for word in words {
        let (key, value) = word
            .split_once('=')
            .ok_or_else(|| format!("'{}' is no KEY=VALUE", word.escape_debug()))?;
        let wrong = |what: &str| format!("{key}='{}' is no {what}", value.escape_debug());
        match key {
            "cores" => node.cores = value.parse().map_err(|_| wrong("number of cores"))?,
            "mem" => {
                let size = Size::parse(value).map_err(|_| wrong("size such as 512gb"))?;
                node.memory_bytes = size.bytes();
            }
            "cards" => node.cards.push(
                cards(value)
                    .ok_or_else(|| wrong("COUNT[:MODEL[:MEMORY]] such as 8:RTX4090:24gb"))?,
            ),
            "properties" => {
                let own = value.split(',').filter(|name| !name.is_empty());
                node.properties.extend(own.map(Box::from));
            }
            _ => {
                return Err(format!(
                    "'{}' is nothing of a node: cores, mem, cards, properties",
                    key.escape_debug()
                ));
            }
        }
    }
    if node.card_count() > CARDS_MAX {
        return Err(format!("a node has at most {CARDS_MAX} cards"));
    }
    if node.cores == 0 {
        // Whoever only names cards means that cores are no matter.
        node.cores = u16::try_from(node.card_count().max(1)).unwrap_or(u16::MAX);
    }
    let named = |name: String| NodeDescription {
        name: name.into(),
        ..node.clone()
    };
    Ok(names.into_iter().map(named).collect())
}

fn cards(text: &str) -> Option<CardsOfOneModel> {
    let mut parts = text.splitn(3, ':');
    let count = parts.next()?.parse().ok()?;
    let model = parts.next().filter(|model| !model.is_empty());
    let memory = parts.next().map(Size::parse).transpose().ok()?;
    (1..=CARDS_MAX).contains(&count).then(|| CardsOfOneModel {
        count,
        model: model.unwrap_or("GPU").into(),
        memory_bytes: memory.map_or(CARD_BYTES, Size::bytes),
    })
}

/// `gpu[01-48,60]`: the names meant; the digits of the first number are those of all in its range.
fn names(text: &str) -> Result<Vec<String>, String> {
    let wrong = || {
        let text: String = text.chars().take(40).collect();
        format!(
            "'{}' is no name and no range such as gpu[01-48,60]",
            text.escape_debug()
        )
    };
    let is_name = |name: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        !name.is_empty() && name.len() <= 255 && name.chars().all(fits)
    };
    let Some((head, rest)) = text.split_once('[') else {
        return is_name(text)
            .then(|| vec![text.to_owned()])
            .ok_or_else(wrong);
    };
    let (ranges, tail) = rest.split_once(']').ok_or_else(wrong)?;
    let mut found = Vec::new();
    for range in ranges.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let digits = first.len();
        let (Ok(from), Ok(to)) = (first.parse::<u32>(), last.parse::<u32>()) else {
            return Err(wrong());
        };
        if from > to || (to - from) as usize >= NODES_MAX || digits > 9 {
            return Err(wrong());
        }
        found.extend((from..=to).map(|number| format!("{head}{number:0digits$}{tail}")));
        if found.len() > NODES_MAX {
            return Err(format!("more than {NODES_MAX} nodes"));
        }
    }
    match found.iter().all(|name| is_name(name)) {
        true => Ok(found),
        false => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Cluster, String> {
        Cluster::parse(Path::new("c"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn joined_words_are_those_of_all_nodes_with_cards_of_the_model() {
        let text = "a cores=8 cards=8:GTX1080Ti properties=S,old\nb cores=8 cards=8:GTX1080Ti properties=E\n\
                    c cores=8 cards=8:RTX3090 properties=A\nd cores=8\n";
        let cluster = Cluster::parse(Path::new("x"), text).unwrap();
        let words = ["S", "E", "A"].map(Box::from);
        let properties = |cluster: &Cluster| -> Vec<String> {
            let nodes = cluster.nodes.iter();
            nodes.map(|node| node.properties.join(",")).collect()
        };
        assert_eq!(
            properties(&cluster.joined(&words)),
            ["S,old,E", "E,S", "A", ""]
        );
        assert_eq!(cluster.joined(&[]), cluster);
    }

    #[test]
    fn nodes_are_described_by_ranges() {
        let cluster = read(
            "# ours\ngpu[01-02,10] cores=64 mem=512gb cards=8:RTX4090:24gb properties=S,nvlink # eight\nbig cores=128\n",
        )
        .unwrap();
        let names: Vec<&str> = cluster
            .nodes
            .iter()
            .map(|node| node.name.as_str())
            .collect();
        assert_eq!(names, ["gpu01", "gpu02", "gpu10", "big"]);
        assert_eq!(cluster.capacity(), 24);
        assert_eq!(cluster.nodes[0].memory_bytes, 512 << 30);
        assert_eq!(*cluster.nodes[0].properties[1], *"nvlink");
        assert!(cluster.holds(24) && !cluster.holds(25));
    }

    #[test]
    fn what_is_no_node_is_said_with_its_line() {
        let check = |text: &str, expected: &str| {
            let error = read(text).unwrap_err();
            assert!(error.contains(expected), "{text:?}: {error}");
        };
        check("a\nb cores=x", "c:2: cores='x' is no number of cores");
        check("a[1-", "c:1: 'a[1-' is no name");
        check("a[5-1]", "is no name");
        check("a[0-4000000000]", "is no name");
        check("a cards=0", "is no COUNT");
        check("a ram=1gb", "'ram' is nothing of a node");
        check("a x", "'x' is no KEY=VALUE");
        check("a\na", "c:2: node a is described twice");
        check("", "c: no node is described");
    }
}
