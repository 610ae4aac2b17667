//! Whether any nodes could ever run a request, however idle: all that ever joined count, down ones by their last
//! inventory. Uses the order of choice of [`super::fit`], so what is accepted here is placed on an idle cluster.

use std::sync::Arc;

use capstan_types::{CardWish, QueueName};

use super::fit::turns;
use super::kinds::Kinds;
use super::realm::{Realm, Realms};
use super::request::{Each, Part, Request, ShapeKey, Target, may_run};
use crate::{JobSpec, Node, State};

/// Nothing, or why the request can never be met, for a person: "asks for 3 cards on one node; node01 has the most
/// with 2".
pub(crate) fn feasible(
    state: &State,
    spec: &JobSpec,
    queue: Option<&QueueName>,
) -> Result<(), Box<str>> {
    let realms = Realms::of(state.settings().map(AsRef::as_ref));
    let mut key = ShapeKey::of(spec);
    key.realm = queue.map_or(key.realm, |queue| realms.realm(queue));
    if is_simple_and_suits(state, &key, &realms) {
        return Ok(());
    }
    let nodes: Vec<&Arc<Node>> = state.nodes().filter(|node| node.has_joined()).collect();
    if nodes.is_empty() {
        return Err("no node has joined yet".into());
    }
    let find = |name: &str| {
        let found = nodes.binary_search_by(|node| node.name.as_str().cmp(name));
        found.ok()
    };
    let request = Request::of(&key, find);
    let known = Known {
        kinds: nodes.iter().map(|node| Kinds::of(node)).collect(),
        nodes,
        uid: key.uid,
        realm: key.realm,
        realms,
    };
    let is_ours = |node: &Arc<Node>| known.realm.has(known.realms.owners(node));
    if !known.nodes.iter().any(|node| is_ours(node)) {
        return Err(
            "no node is for jobs of this queue (own_nodes of the queues says which are)".into(),
        );
    }
    if !known.nodes.iter().any(|node| known.can_run(node)) {
        return Err(private_nodes_only(&spec.owner.user));
    }
    let found = match request {
        Request::Nodes(parts) => known.has_parts(&parts),
        Request::Free(parts) => known.has_chunks(&parts),
    };
    found.map_err(Into::into)
}

/// Nothing, or why no node there is would run this user's jobs at all. Without any node the first may do.
pub(crate) fn can_run_user(state: &State, spec: &JobSpec) -> Result<(), Box<str>> {
    let mut nodes = state.nodes().filter(|node| node.has_joined()).peekable();
    let is_empty = nodes.peek().is_none();
    let uid = spec.owner.uid;
    match is_empty || nodes.any(|node| may_run(node.inventory.only_uid, uid)) {
        true => Ok(()),
        false => Err(private_nodes_only(&spec.owner.user)),
    }
}

fn private_nodes_only(user: &str) -> Box<str> {
    format!("every node runs jobs of one user only, and none of {user}").into()
}

/// The usual request, so many nodes that are alike, is met by the first such nodes: no need to look at all of them.
fn is_simple_and_suits(state: &State, key: &ShapeKey<'_>, realms: &Realms<'_>) -> bool {
    let Request::Nodes(parts) = Request::of(key, |_| None) else {
        return false;
    };
    let [part] = &parts[..] else {
        return false;
    };
    let suits = |(place, node): &(usize, &Arc<Node>)| {
        node.has_joined()
            && may_run(node.inventory.only_uid, key.uid)
            && key.realm.has(realms.owners(node))
            && gives(part, *place, node)
    };
    let wanted = part.count as usize;
    part.target == Target::Any
        && state.nodes().enumerate().filter(suits).take(wanted).count() == wanted
}

/// Whether a node is what a part means, and large enough when idle.
fn gives(part: &Part<'_>, place: usize, node: &Node) -> bool {
    let whole = unmetered(Each::unmixed(node));
    // Nearly all requests name no cards, and then the kinds need not be looked at.
    if !part.each.fits_in(whole) {
        return false;
    }
    let kinds = Kinds::of(node);
    part.means(place, &node.properties, &kinds) && part.each.cards <= suitable(part, node, &kinds)
}

/// How many cards a node has that are what a part wants.
fn suitable(part: &Part<'_>, node: &Node, kinds: &Kinds<'_>) -> u32 {
    let mask = part.suiting(&node.properties, kinds);
    mask.map_or(0, |mask| kinds.count(mask))
}

/// Memory is no reason to refuse: more of it may come, and Torque never looked.
fn unmetered(whole: Each) -> Each {
    Each {
        memory_bytes: u64::MAX,
        ..whole
    }
}

/// All nodes in name order.
struct Known<'a> {
    nodes: Vec<&'a Arc<Node>>,
    /// Of the cards of each.
    kinds: Vec<Kinds<'a>>,
    /// Of the user who asks.
    uid: u32,
    /// Of the queue.
    realm: Realm,
    realms: Realms<'a>,
}

impl Known<'_> {
    fn can_run(&self, node: &Node) -> bool {
        may_run(node.inventory.only_uid, self.uid) && self.realm.has(self.realms.owners(node))
    }

    fn has_parts(&self, parts: &[Part<'_>]) -> Result<(), String> {
        let choice = |at: usize| self.suiting(&parts[at]).count() as u32;
        let mut chosen = vec![false; self.nodes.len()];
        for at in turns(parts, choice) {
            let part = &parts[at];
            let free = self.suiting(part).filter(|place| !chosen[*place]);
            let mut free: Vec<usize> = free.collect();
            if free.len() < part.count as usize {
                return Err(self.why_not(part, free.len()));
            }
            free.sort_by_cached_key(|place| {
                let whole = Each::whole(self.nodes[*place]);
                (whole.cards, whole.slots, *place)
            });
            free.truncate(part.count as usize);
            free.into_iter().for_each(|place| chosen[place] = true);
        }
        Ok(())
    }

    fn has_chunks(&self, parts: &[Part<'_>]) -> Result<(), String> {
        for part in parts {
            let offers = self.meant(part);
            let offers =
                offers.map(|place| u64::from(part.each.how_often_in(self.whole(part, place))));
            let all: u64 = offers.sum();
            if all < u64::from(part.count) {
                let wanted = many(u64::from(part.count), "chunk");
                return Err(format!("asks for {wanted}; all nodes together have {all}"));
            }
        }
        Ok(())
    }

    fn meant(&self, part: &Part<'_>) -> impl Iterator<Item = usize> {
        let places = 0..self.nodes.len();
        places.filter(move |place| {
            let node = self.nodes[*place];
            self.can_run(node) && part.means(*place, &node.properties, &self.kinds[*place])
        })
    }

    fn suiting(&self, part: &Part<'_>) -> impl Iterator<Item = usize> {
        let each = part.each;
        self.meant(part)
            .filter(move |place| each.fits_in(self.whole(part, *place)))
    }

    /// All of a node that a part could use: its cards are those of the right kinds.
    fn whole(&self, part: &Part<'_>, place: usize) -> Each {
        let node = self.nodes[place];
        let whole = unmetered(Each::unmixed(node));
        match part.each.cards {
            0 => whole,
            _ => Each {
                cards: suitable(part, node, &self.kinds[place]),
                ..whole
            },
        }
    }

    /// `left` nodes would do, and more are asked for.
    fn why_not(&self, part: &Part<'_>, left: usize) -> String {
        let Part {
            count,
            each,
            target,
            ..
        } = part;
        let on = match target {
            Target::Node(place) => self.nodes[*place].name.to_string(),
            Target::Any | Target::Property(_) => "one node".to_owned(),
        };
        if let Target::Node(place) = target
            && !self.can_run(self.nodes[*place])
        {
            return format!("{on} runs jobs of another user only");
        }
        if let Some(unlike) = self.unlike(part, &on) {
            return unlike;
        }
        if let Some(lacking) = self.lacking(part, &on) {
            return lacking;
        }
        if self.suiting(part).next().is_none() {
            let (cards, slots) = (
                many(u64::from(each.cards), "card"),
                many(u64::from(each.slots), "slot"),
            );
            return format!("asks for {cards} and {slots} together on one node, and none has both");
        }
        format!(
            "asks for {}; there are {left} of the right type",
            many(u64::from(*count), "node")
        )
    }

    /// What no node is that a part wants.
    fn unlike(&self, part: &Part<'_>, on: &str) -> Option<String> {
        let is_like = |word: &str| {
            let any = CardWish::ANY;
            let mut nodes = self.nodes.iter().zip(&self.kinds);
            nodes.any(|(node, kinds)| {
                let word = std::iter::once(word);
                kinds.suiting(&any, word, &node.properties).is_some()
            })
        };
        if let Target::Property(name) = part.target
            && !is_like(name)
        {
            return Some(format!("no node is named or has the property {name}"));
        }
        let mut words = part.properties.iter();
        if let Some(missing) = words.find(|word| !is_like(word)) {
            return Some(format!("no node has the property {missing}"));
        }
        if self.meant(part).next().is_some() {
            return None;
        }
        let wanted: Vec<&str> = part.properties.iter().map(AsRef::as_ref).collect();
        let cards = part.wish.to_string();
        Some(match (wanted.is_empty(), cards.trim_start_matches(':')) {
            (_, "") => format!("{on} with all of {} does not exist", wanted.join(", ")),
            (true, cards) => format!("no node has cards with {cards}"),
            (false, cards) => {
                let wanted = wanted.join(", ");
                format!("no node has cards with {cards} and all of {wanted}")
            }
        })
    }

    /// What even the largest of the nodes that are meant has too little of.
    fn lacking(&self, part: &Part<'_>, on: &str) -> Option<String> {
        [Measure::Cards, Measure::Slots]
            .into_iter()
            .find_map(|measure| {
                let sized = self
                    .meant(part)
                    .map(|place| (measure.of(self.whole(part, place)), place));
                // The first of those that have most.
                let most = sized.min_by_key(|(has, place)| (std::cmp::Reverse(*has), *place));
                let (has, place) = most.filter(|(has, _)| measure.of(part.each) > *has)?;
                let asked = measure.say(measure.of(part.each));
                let name = &self.nodes[place].name;
                Some(match part.target {
                    Target::Node(_) => format!("asks for {asked} on {on}, which has {has}"),
                    Target::Any | Target::Property(_) => {
                        format!("asks for {asked} on {on}; {name} has the most with {has}")
                    }
                })
            })
    }
}

/// What a node has more or less of.
#[derive(Clone, Copy)]
enum Measure {
    Cards,
    Slots,
}

impl Measure {
    fn of(self, each: Each) -> u64 {
        match self {
            Self::Cards => u64::from(each.cards),
            Self::Slots => u64::from(each.slots),
        }
    }

    /// "2 cards".
    fn say(self, amount: u64) -> String {
        match self {
            Self::Cards => many(amount, "card"),
            Self::Slots => many(amount, "slot"),
        }
    }
}

fn many(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}
