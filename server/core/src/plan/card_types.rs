//! Types of cards that some limit counts: which nodes have cards of them, and which a job may not have now. A job that
//! may have no more cards of a type is kept from all nodes that have any; on the others it may start.

use capstan_types::{Limited, is_model};

use crate::model::limit::{EXCEPTIONS, rules};
use crate::{Node, Settings};

/// Most types of cards that limits tell apart; those behind them are not limited.
const TYPES_MAX: usize = 64;

/// Some of the limited types, a bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CardTypes(u64);

/// All types that a limit of any queue or of the server names.
pub(super) fn limited_types(settings: Option<&Settings>) -> Vec<Box<str>> {
    let Some(settings) = settings else {
        return Vec::new();
    };
    let attributes = Limited::CardsOf(Box::default()).attributes();
    let mut owners = settings.queues.values().map(|queue| &queue.attributes);
    let is_set = |attributes_of: &capstan_types::Attributes| {
        let mut names = attributes.iter().chain([&EXCEPTIONS]);
        names.any(|name| attributes_of.get(name).is_some())
    };
    if !is_set(&settings.attributes) && !owners.any(is_set) {
        return Vec::new();
    }
    let queues = settings.queues.values().map(Some);
    let all = queues
        .chain([None])
        .flat_map(|queue| rules(settings, queue));
    let mut types: Vec<Box<str>> = all
        .filter_map(|rule| match rule.of {
            Limited::CardsOf(kind) => Some(kind),
            Limited::Jobs | Limited::Cards | Limited::Cores | Limited::CardHours { .. } => None,
        })
        .collect();
    types.sort_unstable();
    types.dedup();
    types.truncate(TYPES_MAX);
    types
}

impl CardTypes {
    /// Of these types, those that `node` has cards of.
    pub(super) fn of(types: &[Box<str>], node: &Node) -> Self {
        let has = |kind: &str| {
            let mut cards = node.inventory.cards.iter();
            cards.any(|card| is_model(&card.model, kind))
        };
        let found = types.iter().enumerate().filter(|(_, kind)| has(kind));
        Self(found.fold(0, |bits, (at, _)| bits | 1 << at))
    }

    /// These and `kind`.
    pub(super) fn with(self, types: &[Box<str>], kind: &str) -> Self {
        let at = types.binary_search_by(|known| (**known).cmp(kind));
        Self(at.map_or(self.0, |at| self.0 | 1 << at))
    }

    /// Whether none of these is among `others`.
    pub(super) const fn are_apart(self, others: Self) -> bool {
        self.0 & others.0 == 0
    }
}
