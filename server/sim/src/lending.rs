//! Which cards are lent when, as the simulation sees it: how many are free in all and on how many nodes how many.

use std::collections::BTreeMap;

use capstan_core::NodeShare;
use capstan_types::NodeName;

use crate::Cluster;

/// Free cards (or cores, where no node has a card) of all nodes.
pub(crate) struct Lending {
    places: BTreeMap<NodeName, usize>,
    free: Vec<u32>,
    /// How many nodes have so many free.
    nodes_by_free: Vec<u32>,
    free_in_all: u64,
    counts_cards: bool,
}

impl Lending {
    pub(crate) fn new(cluster: &Cluster) -> Self {
        let free: Vec<u32> = cluster
            .nodes
            .iter()
            .map(|node| cluster.unit_of(node))
            .collect();
        let names = cluster.nodes.iter().map(|node| node.name.clone());
        let most = free.iter().max().copied().unwrap_or(0);
        let mut nodes_by_free = vec![0; most as usize + 1];
        for free in &free {
            nodes_by_free[*free as usize] += 1;
        }
        Self {
            places: names.zip(0..).collect(),
            nodes_by_free,
            free_in_all: free.iter().copied().map(u64::from).sum(),
            free,
            counts_cards: cluster.counts_cards(),
        }
    }

    /// What a share holds of what is counted.
    pub(crate) fn amount(&self, share: &NodeShare) -> u32 {
        let amount = match self.counts_cards {
            true => share.cards.len(),
            false => share.slots.len(),
        };
        u32::try_from(amount).unwrap_or(u32::MAX)
    }

    pub(crate) fn lend(&mut self, share: &NodeShare) {
        let amount = self.amount(share);
        self.change(share, |free| free.saturating_sub(amount));
    }

    pub(crate) fn take_back(&mut self, share: &NodeShare) {
        let amount = self.amount(share);
        self.change(share, |free| free + amount);
    }

    fn change(&mut self, share: &NodeShare, to: impl Fn(u32) -> u32) {
        let Some(&place) = self.places.get(&share.node) else {
            return;
        };
        let (old, new) = (self.free[place], to(self.free[place]));
        self.free[place] = new;
        self.nodes_by_free[old as usize] -= 1;
        if let Some(nodes) = self.nodes_by_free.get_mut(new as usize) {
            *nodes += 1;
        }
        self.free_in_all = self.free_in_all + u64::from(new) - u64::from(old);
    }

    pub(crate) fn free_in_all(&self) -> u64 {
        self.free_in_all
    }

    /// Whether there are so many nodes with so many free on each.
    pub(crate) fn has(&self, nodes: u32, each: u32) -> bool {
        let wide = self.nodes_by_free.iter().skip(each as usize);
        wide.map(|nodes| u64::from(*nodes)).sum::<u64>() >= u64::from(nodes)
    }

    /// Whether so many nodes with so many free on each are not there although the free cards of all nodes together would do.
    pub(crate) fn is_scattered(&self, nodes: u32, each: u32) -> bool {
        let would_do = self.free_in_all >= u64::from(nodes) * u64::from(each);
        would_do && !self.has(nodes, each)
    }
}
