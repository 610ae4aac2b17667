//! A request on the nodes there are: which of them would do, of which kinds its cards may be, what it may use of them.

use capstan_types::{CardWish, image_name};

use super::cluster::{Class, Cluster, Seat};
use super::desk::Known;
use super::fit::turns;
use super::image::Images;
use super::kinds::Mask;
use super::lending::CardOrder;
use super::request::{Each, Part, Request, ShapeKey, Target};
use super::slices::Slice;

/// A request and what this plan knows of it.
#[derive(Clone)]
pub(super) struct Shape<'a> {
    pub(super) number: usize,
    pub(super) key: ShapeKey<'a>,
    pub(super) request: Request<'a>,
    pub(super) known: Known,
    /// Per part: classes whose nodes would do when idle; of chunks that may share nodes, for one of them.
    pub(super) classes: Vec<Vec<usize>>,
    /// Parts in the order in which they choose: those with the least choice first.
    pub(super) turns: Vec<usize>,
    /// Per part and class: of which kinds its cards may be.
    pub(super) masks: Vec<Vec<Mask>>,
    /// The nodes that are up could not give it without slices of cards that are not its own, so that it may take them.
    pub(super) is_exempt: bool,
    /// Which nodes hold the image of its container; empty when it names none that any node holds.
    pub(super) holders: Vec<bool>,
    /// How far the image is that it needs to start at all.
    pub(super) images: Option<Images>,
}

/// What is asked of one node.
#[derive(Clone, Copy)]
pub(super) struct Ask<'s> {
    pub(super) each: Each,
    /// By class.
    pub(super) masks: &'s [Mask],
    pub(super) wish: CardWish,
    pub(super) is_exempt: bool,
}

impl Ask<'_> {
    pub(super) fn order(&self, class: usize) -> CardOrder {
        CardOrder {
            cards: self.each.cards,
            mask: self.masks.get(class).copied().unwrap_or(0),
            wish: self.wish,
        }
    }
}

impl<'a> Shape<'a> {
    pub(super) fn new(key: ShapeKey<'a>, number: usize, cluster: &Cluster<'a>) -> Self {
        let request = Request::of(&key, |name| cluster.find(name));
        let parts = request.parts();
        let mut masks = Vec::with_capacity(parts.len());
        let mut classes = Vec::with_capacity(parts.len());
        for part in parts {
            let (of_part, suiting) = suiting(cluster, part, &key);
            masks.push(of_part);
            classes.push(suiting);
        }
        let choice = |part: usize| {
            classes[part]
                .iter()
                .map(|class| cluster.classes[*class].known)
                .sum()
        };
        let turns = turns(parts, choice);
        let is_exempt = !leaves_slices(cluster, &request, &classes, &turns);
        let holders = key
            .image
            .map_or(Vec::new(), |image| holders(cluster, image));
        let images = key.needs.map(|image| Images::of(image, key.uid, cluster));
        Self {
            number,
            key,
            request,
            known: Known::default(),
            classes,
            turns,
            masks,
            is_exempt,
            holders,
            images,
        }
    }

    /// What a part asks of each of its nodes.
    pub(super) fn ask(&self, at: usize) -> Ask<'_> {
        let part = &self.request.parts()[at];
        Ask {
            each: part.each,
            masks: &self.masks[at],
            wish: part.wish,
            is_exempt: self.is_exempt,
        }
    }

    /// Whether the node lacks the image of its container.
    pub(super) fn lacks_image(&self, place: usize) -> bool {
        self.holders.get(place).is_some_and(|holds| !holds)
    }

    /// What is free of a node as a part of the request may use it: cards of the kinds that it wants, slots and memory
    /// that are no other card's slice.
    pub(super) fn seen(&self, cluster: &Cluster<'_>, at: usize, place: usize) -> Each {
        let seat = &cluster.seats[place];
        let class = &cluster.classes[seat.class];
        let ask = self.ask(at);
        let mask = ask.order(seat.class).mask;
        let mut free = seat.free;
        free.cards = match ask.each.cards {
            0 => free.cards,
            _ => free.cards_of(mask, class.kinds.is_mixed()),
        };
        if ask.wish.is_shared && ask.each.cards > 0 {
            let shared = cluster.with_room(place, &ask.order(seat.class)).count();
            free.cards = free
                .cards
                .saturating_add(u32::try_from(shared).unwrap_or(u32::MAX));
        }
        match seat.slice.filter(|_| !ask.is_exempt) {
            Some(slice) => slice.usable(free, ask.each.cards),
            None => free,
        }
    }
}

/// Of which kinds the cards of a part may be, class by class, and the classes whose nodes would do when idle.
fn suiting(cluster: &Cluster<'_>, part: &Part<'_>, key: &ShapeKey<'_>) -> (Vec<Mask>, Vec<usize>) {
    let mut masks = vec![0; cluster.classes.len()];
    let mut suiting = Vec::new();
    for (at, class) in cluster.classes.iter().enumerate() {
        let named = matches!(part.target, Target::Node(_));
        // Classes of a named node stand for its size only.
        let found = part.suiting(class.properties, &class.kinds);
        let mask = found.or(named.then_some(0));
        let Some(mask) = mask.filter(|_| class.is_enough(part.each, key)) else {
            continue;
        };
        masks[at] = mask;
        let cards = match class.kinds.is_mixed() {
            true => class.kinds.count(mask),
            false if mask == 0 && part.each.cards > 0 => 0,
            false => class.cards,
        };
        if part.each.cards <= cards || named {
            suiting.push(at);
        }
    }
    (masks, suiting)
}

/// Whether the nodes that are up could give a request when idle, and leave all other cards their slices. Parts get nodes
/// of their own here, as they do at worst.
fn leaves_slices(
    cluster: &Cluster<'_>,
    request: &Request<'_>,
    classes: &[Vec<usize>],
    turns: &[usize],
) -> bool {
    if !cluster.has_slices {
        return true;
    }
    let parts = request.parts();
    let mut left: Vec<usize> = cluster
        .classes
        .iter()
        .map(|class| class.usable.len())
        .collect();
    turns.iter().all(|at| {
        let part = &parts[*at];
        let named = match part.target {
            Target::Node(place) => Some(cluster.seats[place].class),
            Target::Any | Target::Property(_) => None,
        };
        let times = |class: usize| {
            let often = often_beside_slices(&cluster.classes[class], part);
            match request {
                Request::Nodes(_) => often.min(1),
                Request::Free(_) => often,
            }
        };
        let mut missing = part.count;
        for class in in_order_of_choice(cluster, part, &classes[*at], times) {
            let times = times(class);
            if times == 0 || named.is_some_and(|own| own != class) {
                continue;
            }
            let wanted = missing.div_ceil(times);
            let taken = left[class].min(wanted as usize);
            left[class] -= taken;
            let given = times.saturating_mul(u32::try_from(taken).unwrap_or(u32::MAX));
            missing = missing.saturating_sub(given);
        }
        missing == 0
    })
}

/// Classes in the order in which a part chooses their nodes when all are idle: what is found possible here is then found
/// by [`super::fit::pick`] as well, and nobody waits for ever for what it would not find.
fn in_order_of_choice(
    cluster: &Cluster<'_>,
    part: &Part<'_>,
    classes: &[usize],
    times: impl Fn(usize) -> u32,
) -> Vec<usize> {
    let mut classes = classes.to_vec();
    classes.sort_by_key(|at| {
        let class = &cluster.classes[*at];
        let wastes_cards = part.each.cards == 0 && class.cards > 0;
        let most_first = std::cmp::Reverse(times(*at));
        (most_first, wastes_cards, class.cards, class.slots)
    });
    classes
}

/// How often the largest node of a class gives what a part wants and leaves all other cards their slices.
fn often_beside_slices(class: &Class<'_>, part: &Part<'_>) -> u32 {
    let mut whole = Each {
        slots: class.slots,
        cards: class.cards,
        memory_bytes: class.memory_bytes,
        ..Each::default()
    };
    let often = part.each.how_often_in(whole);
    let Some(slice) = Slice::of(whole) else {
        return often;
    };
    (whole.spare_slots, whole.spare_memory) = slice.spare(whole);
    let thousandths = thousandths(part.each.cards, &part.wish);
    often.min(slice.how_often(part.each, thousandths, whole))
}

/// What of cards a request has when it wants so many: of shared ones the usual share, whatever their memory.
pub(super) fn thousandths(cards: u32, wish: &CardWish) -> u64 {
    let each = match wish.is_shared {
        true => CardWish::SHARE_DEFAULT,
        false => CardWish::WHOLE,
    };
    u64::from(cards) * u64::from(each)
}

/// Which nodes hold an image; nothing when none does.
fn holders(cluster: &Cluster<'_>, image: &str) -> Vec<bool> {
    let name = image_name(image);
    let holds = |seat: &Seat<'_>| {
        let images = &seat.node.inventory.images;
        images.binary_search_by(|own| (**own).cmp(&*name)).is_ok()
    };
    let holders: Vec<bool> = cluster.seats.iter().map(holds).collect();
    match holders.contains(&true) {
        true => holders,
        false => Vec::new(),
    }
}
