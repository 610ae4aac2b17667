//! Whether a request fits now, and on which nodes: best fit by cards, then by slots, then by name, so that jobs are
//! packed and whole nodes stay free for those that need them; or in the order of declaration, where the site wants what
//! Torque's scheduler does. All nodes of a request or none.

use super::cluster::{Cluster, When};
use super::desk::Known;
use super::request::{Each, Part, Request, ShapeKey, Target};
use super::timeline::Span;
use crate::{NodeShare, OrderProblem, Rejection};

/// A request and what this plan knows of it.
pub(super) struct Shape<'a> {
    pub(super) number: usize,
    pub(super) key: ShapeKey<'a>,
    pub(super) request: Request<'a>,
    pub(super) known: Known,
    /// Per part: classes whose nodes would do when idle; of chunks that may share nodes, for one of them.
    pub(super) classes: Vec<Vec<usize>>,
    /// Parts in the order in which they choose: those with the least choice first.
    pub(super) turns: Vec<usize>,
}

impl<'a> Shape<'a> {
    pub(super) fn new(key: ShapeKey<'a>, number: usize, cluster: &Cluster<'a>) -> Self {
        let request = Request::of(&key, |name| cluster.find(name));
        let suits = |part: &Part<'_>| {
            let found = cluster.classes.iter().enumerate().filter(|(_, class)| {
                let is_meant = matches!(part.target, Target::Node(_))
                    || part.means(usize::MAX, class.properties);
                is_meant && class.is_enough(part.each, &key)
            });
            found.map(|(at, _)| at).collect::<Vec<_>>()
        };
        let parts = request.parts();
        let classes: Vec<_> = parts.iter().map(suits).collect();
        let choice = |part: usize| {
            classes[part]
                .iter()
                .map(|class| cluster.classes[*class].known)
                .sum()
        };
        let turns = turns(parts, choice);
        Self {
            number,
            key,
            request,
            known: Known::default(),
            classes,
            turns,
        }
    }
}

/// The order in which parts choose their nodes: named nodes, then the fewest suitable nodes, then the most wanted.
/// Choosing in this order finds nodes wherever suitable sets are nested, which they are but in contrived requests.
pub(super) fn turns(parts: &[Part<'_>], choice: impl Fn(usize) -> u32) -> Vec<usize> {
    let mut turns: Vec<usize> = (0..parts.len()).collect();
    turns.sort_by_cached_key(|at| {
        let part = &parts[*at];
        let choice = match part.target {
            Target::Node(_) => 0,
            Target::Any | Target::Property(_) => choice(*at).max(1),
        };
        let wanted = (part.each.cards, part.each.slots, part.each.memory_bytes);
        (choice, std::cmp::Reverse(wanted), *at)
    });
    turns
}

/// Lends the nodes that the request gets now for `span`, in the order of its parts; nothing when it does not fit.
pub(super) fn fit(
    cluster: &mut Cluster<'_>,
    shape: &Shape<'_>,
    span: Span,
) -> Option<Vec<NodeShare>> {
    let picks = pick(cluster, shape, When::Now(span))?;
    let shares: Vec<NodeShare> = picks
        .iter()
        .map(|pick| cluster.lend(pick.place, pick.each, span.until))
        .collect();
    if shape.key.is_exclusive {
        let places = picks.iter().map(|pick| pick.place);
        places.for_each(|place| cluster.close(place, span.until));
    }
    Some(shares)
}

/// Of chunks that may share nodes: how many are wanted, and how many nodes that are up could take now, kept or not.
pub(super) fn chunks_wanted_and_free(
    cluster: &Cluster<'_>,
    shape: &Shape<'_>,
    parts: &[Part<'_>],
) -> (u32, u32) {
    let mut wanted: u32 = 0;
    let mut free: u32 = 0;
    for (at, part) in parts.iter().enumerate() {
        wanted = wanted.saturating_add(part.count);
        let usable = shape.classes[at]
            .iter()
            .flat_map(|class| &cluster.classes[*class].usable);
        let offers = usable.map(|place| part.each.how_often_in(cluster.seats[*place].free));
        free = free.saturating_add(offers.fold(0, u32::saturating_add));
    }
    (wanted, free)
}

/// How much is wanted and how much is there, of a request that does not fit now.
pub(super) fn shortage(cluster: &Cluster<'_>, shape: &Shape<'_>) -> Rejection {
    let parts = match &shape.request {
        Request::Nodes(parts) => parts,
        Request::Free(parts) => {
            let (wanted, free) = chunks_wanted_and_free(cluster, shape, parts);
            return Rejection::Order(OrderProblem::NothingFree { wanted, free });
        }
    };
    let counts = parts.iter().map(|part| part.count);
    let wanted = counts.fold(0, u32::saturating_add);
    let seats = cluster.seats.iter().enumerate();
    let could_take = seats.filter(|(place, seat)| {
        let properties = cluster.classes[seat.class].properties;
        let suits =
            |part: &Part<'_>| part.means(*place, properties) && part.each.fits_in(seat.free);
        seat.node.is_usable() && parts.iter().any(suits)
    });
    let free = u32::try_from(could_take.count()).unwrap_or(u32::MAX);
    Rejection::Order(OrderProblem::NothingFree { wanted, free })
}

/// A node that a request would get.
pub(super) struct Pick {
    part: usize,
    pub(super) place: usize,
    pub(super) each: Each,
}

/// The nodes that the request would get then, in the order of its parts; nothing when it would not fit.
pub(super) fn pick(
    cluster: &mut Cluster<'_>,
    shape: &Shape<'_>,
    when: When<'_>,
) -> Option<Vec<Pick>> {
    match &shape.request {
        Request::Nodes(parts) => pick_parts(cluster, (shape, when), parts),
        Request::Free(parts) => pick_free(cluster, (shape, when), parts),
    }
}

/// A request, and when it is to fit.
type Wanted<'s, 'a> = (&'s Shape<'a>, When<'s>);

fn pick_parts(
    cluster: &mut Cluster<'_>,
    (shape, when): Wanted<'_, '_>,
    parts: &[Part<'_>],
) -> Option<Vec<Pick>> {
    cluster.begin();
    let mut picks = Vec::with_capacity(parts.len());
    for &at in &shape.turns {
        let part = &parts[at];
        let places = match part.target {
            Target::Node(place) => {
                let found = named(cluster, part, place, (shape, when));
                found.into_iter().collect()
            }
            Target::Any | Target::Property(_) => {
                let classes = &shape.classes[at];
                best(cluster, classes, (part.each, part.count), (shape, when))
            }
        };
        if places.len() < part.count as usize {
            return None;
        }
        for place in places {
            cluster.choose(place);
            let each = part.each;
            picks.push(Pick {
                part: at,
                place,
                each,
            });
        }
    }
    picks.sort_by_key(|pick| pick.part);
    Some(picks)
}

fn named(
    cluster: &Cluster<'_>,
    part: &Part<'_>,
    place: usize,
    (shape, when): Wanted<'_, '_>,
) -> Option<usize> {
    let seat = &cluster.seats[place];
    let class = &cluster.classes[seat.class];
    let is_right = part.means(place, class.properties) && class.is_enough(part.each, &shape.key);
    let is_free = !cluster.is_chosen(place) && takes(cluster, place, part.each, (shape, when));
    (is_right && is_free).then_some(place)
}

/// Whether the node could give `each` then, and itself as a whole to a job that wants nodes for itself.
pub(super) fn takes(
    cluster: &Cluster<'_>,
    place: usize,
    each: Each,
    (shape, when): Wanted<'_, '_>,
) -> bool {
    cluster.is_open(place, when) && {
        let room = cluster.room(place, when);
        each.fits_in(room) && may_have(cluster, place, shape, room)
    }
}

/// Whether a job that wants nodes for itself could have this one: every share has a slot.
fn may_have(cluster: &Cluster<'_>, place: usize, shape: &Shape<'_>, room: Each) -> bool {
    !shape.key.is_exclusive || room.slots == u32::from(cluster.seats[place].node.slots)
}

/// The `count` open nodes that the site's scheduler would take for `each`, in the order in which they are lent. Fewer
/// when there are not so many.
fn best(
    cluster: &Cluster<'_>,
    classes: &[usize],
    (each, count): (Each, u32),
    (shape, when): Wanted<'_, '_>,
) -> Vec<usize> {
    if !cluster.in_order {
        return tightest(cluster, classes, (each, count), (shape, when));
    }
    let mut found = declared(cluster, classes, |place| {
        !cluster.is_chosen(place) && takes(cluster, place, each, (shape, when))
    });
    found.truncate(count as usize);
    // Torque puts each node that it finds before those it has.
    found.reverse();
    found
}

/// Usable nodes of these classes that are `right`, in the order in which they were declared.
fn declared(cluster: &Cluster<'_>, classes: &[usize], right: impl Fn(usize) -> bool) -> Vec<usize> {
    let usable = classes
        .iter()
        .flat_map(|class| &cluster.classes[*class].usable);
    let mut found: Vec<usize> = usable.copied().filter(|place| right(*place)).collect();
    found.sort_by_key(|place| (cluster.seats[*place].node.ordinal, *place));
    found
}

/// The `count` open nodes on which `each` leaves least: cards first, then slots, then by name. Fewer when there are
/// not so many.
fn tightest(
    cluster: &Cluster<'_>,
    classes: &[usize],
    (each, count): (Each, u32),
    (shape, when): Wanted<'_, '_>,
) -> Vec<usize> {
    let mut found = Vec::new();
    let fits =
        |place: usize| !cluster.is_chosen(place) && takes(cluster, place, each, (shape, when));
    for class in classes.iter().map(|class| &cluster.classes[*class]) {
        match when {
            When::Now(_) => {
                let by_cards = (each.cards..=class.cards).flat_map(|cards| {
                    let range = (cards, each.slots, 0)..=(cards, u32::MAX, usize::MAX);
                    class.by_cards.range(range)
                });
                let fitting = by_cards.filter(|(_, _, place)| fits(*place));
                found.extend(fitting.take(count as usize));
            }
            When::Later(rooms) => {
                let fitting = class.usable.iter().filter(|place| fits(**place));
                found.extend(fitting.map(|place| {
                    let room = rooms[*place];
                    (room.cards, room.slots, *place)
                }));
            }
        }
    }
    found.sort_unstable();
    found.truncate(count as usize);
    found.into_iter().map(|(_, _, place)| place).collect()
}

/// All chunks on one node if any has so much, else on as few nodes as will do.
fn pick_free(
    cluster: &mut Cluster<'_>,
    (shape, when): Wanted<'_, '_>,
    parts: &[Part<'_>],
) -> Option<Vec<Pick>> {
    cluster.begin();
    if let Some(pick) = pick_together(cluster, (shape, when), parts) {
        return Some(vec![pick]);
    }
    let mut picks: Vec<Pick> = Vec::new();
    for &at in &shape.turns {
        let part = &parts[at];
        let mut missing = part.count;
        for (offer, place) in offers(cluster, (shape, when), (part, at), &picks) {
            let each = part.each.times(offer.min(missing));
            match picks.iter_mut().find(|pick| pick.place == place) {
                Some(pick) => pick.each = pick.each.and(each),
                None => picks.push(Pick {
                    part: at,
                    place,
                    each,
                }),
            }
            missing = missing.saturating_sub(offer);
            if missing == 0 {
                break;
            }
        }
        if missing > 0 {
            return None;
        }
    }
    Some(picks)
}

fn pick_together(
    cluster: &Cluster<'_>,
    (shape, when): Wanted<'_, '_>,
    parts: &[Part<'_>],
) -> Option<Pick> {
    let all = parts.iter().map(|part| part.each.times(part.count));
    let each = all.fold(Each::default(), Each::and);
    let (first, others) = shape.classes.split_first()?;
    let in_all = |class: &&usize| others.iter().all(|classes| classes.contains(class));
    let classes: Vec<usize> = first.iter().filter(in_all).copied().collect();
    let named = parts.iter().find_map(|part| match part.target {
        Target::Node(place) => Some(place),
        Target::Any | Target::Property(_) => None,
    });
    let place = match named {
        Some(place) => {
            let class = &cluster.classes[cluster.seats[place].class];
            let means_all = parts.iter().all(|part| part.means(place, class.properties));
            let is_free = takes(cluster, place, each, (shape, when));
            (means_all && is_free).then_some(place)
        }
        None => best(cluster, &classes, (each, 1), (shape, when))
            .first()
            .copied(),
    }?;
    Some(Pick {
        part: 0,
        place,
        each,
    })
}

/// How many chunks of a part which open nodes could take beside what is picked already, in the order in which to ask
/// them.
fn offers(
    cluster: &Cluster<'_>,
    (shape, when): Wanted<'_, '_>,
    (part, at): (&Part<'_>, usize),
    picks: &[Pick],
) -> Vec<(u32, usize)> {
    let offer = |place: usize| {
        let room = cluster.room(place, when);
        let picked = picks.iter().find(|pick| pick.place == place);
        let free = picked.map_or(room, |pick| room.minus(pick.each));
        match cluster.is_open(place, when) && may_have(cluster, place, shape, room) {
            true => part.each.how_often_in(free),
            false => 0,
        }
    };
    let is_meant = |place: usize| match part.target {
        Target::Node(wanted) => wanted == place,
        Target::Any | Target::Property(_) => true,
    };
    let places = declared(cluster, &shape.classes[at], |place| {
        is_meant(place) && offer(place) > 0
    });
    let mut offers: Vec<(u32, usize)> = places
        .into_iter()
        .map(|place| (offer(place), place))
        .collect();
    if !cluster.in_order {
        offers.sort_by_key(|(offer, place)| {
            let is_new = picks.iter().all(|pick| pick.place != *place);
            let cards = cluster.room(*place, when).cards;
            (is_new, std::cmp::Reverse(*offer), cards, *place)
        });
    }
    offers
}
