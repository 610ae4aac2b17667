//! Whether a request fits now, and on which nodes: best fit by cards, then by slots, then by name, so that jobs are
//! packed and whole nodes stay free for those that need them; or in the order of declaration, where the site wants what
//! Torque's scheduler does. All nodes of a request or none.

use super::chunks::{chunks_wanted_and_free, pick_free};
use super::cluster::{Class, Cluster, When};
use super::lending::CardOrder;
use super::request::{Each, Part, Request, Target};
use super::shape::Ask;
pub(super) use super::shape::Shape;
use super::timeline::Span;
use crate::{NodeShare, OrderProblem, Rejection};

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
        .map(|pick| cluster.lend(pick.place, pick.each, &pick.orders, span.until))
        .collect();
    if shape.key.is_exclusive {
        let places = picks.iter().map(|pick| pick.place);
        places.for_each(|place| cluster.close(place, span.until));
    }
    Some(shares)
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
        let class = &cluster.classes[seat.class];
        let suits = |(at, part): (usize, &Part<'_>)| {
            part.means(*place, class.properties, &class.kinds)
                && part.each.fits_in(shape.seen(cluster, at, *place))
        };
        seat.node.is_usable() && parts.iter().enumerate().any(suits)
    });
    let free = u32::try_from(could_take.count()).unwrap_or(u32::MAX);
    Rejection::Order(OrderProblem::NothingFree { wanted, free })
}

/// A node that a request would get.
pub(super) struct Pick {
    pub(super) part: usize,
    pub(super) place: usize,
    pub(super) each: Each,
    /// Its cards.
    pub(super) orders: Vec<CardOrder>,
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
pub(super) type Wanted<'s, 'a> = (&'s Shape<'a>, When<'s>);

fn pick_parts(
    cluster: &mut Cluster<'_>,
    (shape, when): Wanted<'_, '_>,
    parts: &[Part<'_>],
) -> Option<Vec<Pick>> {
    cluster.begin();
    let mut picks = Vec::with_capacity(parts.len());
    for &at in &shape.turns {
        let part = &parts[at];
        let ask = shape.ask(at);
        let places = match part.target {
            Target::Node(place) => {
                let found = named(cluster, (part, ask), place, (shape, when));
                found.into_iter().collect()
            }
            Target::Any | Target::Property(_) => {
                let classes = &shape.classes[at];
                best(cluster, classes, (ask, part.count), (shape, when))
            }
        };
        if places.len() < part.count as usize {
            return None;
        }
        for place in places {
            cluster.choose(place);
            let each = takes(cluster, place, ask, (shape, when))?;
            picks.push(Pick {
                part: at,
                place,
                each,
                orders: vec![ask.order(cluster.seats[place].class)],
            });
        }
    }
    picks.sort_by_key(|pick| pick.part);
    Some(picks)
}

fn named(
    cluster: &Cluster<'_>,
    (part, ask): (&Part<'_>, Ask<'_>),
    place: usize,
    (shape, when): Wanted<'_, '_>,
) -> Option<usize> {
    let seat = &cluster.seats[place];
    let class = &cluster.classes[seat.class];
    let is_meant = part.means(place, class.properties, &class.kinds);
    let is_right = is_meant && class.is_enough(part.each, &shape.key);
    let takes = || takes(cluster, place, ask, (shape, when)).is_some();
    let is_free = !cluster.is_chosen(place) && takes();
    (is_right && is_free).then_some(place)
}

/// What the node would give then for what is asked, and itself as a whole to a job that wants nodes for itself; `None`
/// when it cannot.
pub(super) fn takes(
    cluster: &Cluster<'_>,
    place: usize,
    ask: Ask<'_>,
    (shape, when): Wanted<'_, '_>,
) -> Option<Each> {
    if !cluster.is_open(place, when) || !shape.admits(place, when) {
        return None;
    }
    let room = cluster.room(place, when);
    let order = ask.order(cluster.seats[place].class);
    let asked = (ask.each, &order, ask.is_exempt);
    let each = cluster.offer(place, asked, room, when)?;
    may_have(cluster, place, shape, room).then_some(each)
}

/// Whether a job that wants nodes for itself could have this one: every share has a slot.
pub(super) fn may_have(cluster: &Cluster<'_>, place: usize, shape: &Shape<'_>, room: Each) -> bool {
    !shape.key.is_exclusive || room.slots == u32::from(cluster.seats[place].node.slots)
}

/// The `count` open nodes that the site's scheduler would take for `each`, in the order in which they are lent. Fewer
/// when there are not so many.
pub(super) fn best(
    cluster: &Cluster<'_>,
    classes: &[usize],
    (ask, count): (Ask<'_>, u32),
    (shape, when): Wanted<'_, '_>,
) -> Vec<usize> {
    if !cluster.in_order {
        return tightest(cluster, classes, (ask, count), (shape, when));
    }
    let mut found = declared(cluster, classes, |place| {
        !cluster.is_chosen(place) && takes(cluster, place, ask, (shape, when)).is_some()
    });
    found.truncate(count as usize);
    // Torque puts each node that it finds before those it has.
    found.reverse();
    found
}

/// Usable nodes of these classes that are `right`, in the order in which they were declared.
pub(super) fn declared(
    cluster: &Cluster<'_>,
    classes: &[usize],
    right: impl Fn(usize) -> bool,
) -> Vec<usize> {
    let usable = classes
        .iter()
        .flat_map(|class| &cluster.classes[*class].usable);
    let mut found: Vec<usize> = usable.copied().filter(|place| right(*place)).collect();
    found.sort_by_key(|place| (cluster.seats[*place].node.ordinal, *place));
    found
}

/// How good a node is for a request, the best first: a node without cards for one that wants none; one where the request
/// leaves least, cards first, then slots; one that is in use already; one that holds the image; then by name.
type Rank = (bool, u32, u32, bool, bool, usize);

/// The `count` best open nodes for what is asked. Fewer when there are not so many.
fn tightest(
    cluster: &Cluster<'_>,
    classes: &[usize],
    (ask, count): (Ask<'_>, u32),
    (shape, when): Wanted<'_, '_>,
) -> Vec<usize> {
    let mut found: Vec<Rank> = Vec::new();
    let wastes_cards = |class: &usize| ask.each.cards == 0 && cluster.classes[*class].cards > 0;
    for is_waste in [false, true] {
        // Nodes with cards are not even looked at while work that wants none finds others.
        if is_waste && found.len() >= count as usize {
            break;
        }
        for class in classes
            .iter()
            .filter(|class| wastes_cards(class) == is_waste)
        {
            let class = &cluster.classes[*class];
            match when {
                When::Now(_) if ask.wish.is_shared && ask.each.cards > 0 => {
                    found.extend(sharing(cluster, class, ask, (shape, when)));
                }
                When::Now(_) => {
                    found.extend(tightest_now(cluster, class, (ask, count), (shape, when)));
                }
                When::Later(rooms) => {
                    let fitting = class.usable.iter().filter(|place| {
                        !cluster.is_chosen(**place)
                            && takes(cluster, **place, ask, (shape, when)).is_some()
                    });
                    found.extend(fitting.map(|place| {
                        let room = rooms[*place];
                        let known = (is_waste, room.cards, room.slots);
                        // Whether it is in use now says nothing of then.
                        let (wastes, cards, slots, _, lacks_image, place) =
                            rank(cluster, shape, known, *place);
                        (wastes, cards, slots, false, lacks_image, place)
                    }));
                }
            }
        }
    }
    found.sort_unstable();
    found.truncate(count as usize);
    found.into_iter().map(|(.., place)| place).collect()
}

fn rank(
    cluster: &Cluster<'_>,
    shape: &Shape<'_>,
    (wastes_cards, cards, slots): (bool, u32, u32),
    place: usize,
) -> Rank {
    let is_idle = cluster.seats[place].is_idle();
    let lacks_image = shape.lacks_image(place);
    (wastes_cards, cards, slots, is_idle, lacks_image, place)
}

/// The best nodes of a class now, at least `count` if there are so many.
fn tightest_now(
    cluster: &Cluster<'_>,
    class: &Class<'_>,
    (ask, count): (Ask<'_>, u32),
    (shape, when): Wanted<'_, '_>,
) -> Vec<Rank> {
    let by_cards = (ask.each.cards..=class.cards).flat_map(|cards| {
        let range = (cards, ask.each.slots, 0)..=(cards, u32::MAX, usize::MAX);
        class.by_cards.range(range)
    });
    let wastes_cards = ask.each.cards == 0 && class.cards > 0;
    let mut found = Vec::new();
    let mut last = (0, 0);
    for (cards, slots, place) in by_cards {
        // Those that are as good as the last one may hold the image that the last one lacks.
        let may_be_better = !shape.holders.is_empty() && last == (*cards, *slots);
        if found.len() >= count as usize && !may_be_better {
            break;
        }
        let fits = || takes(cluster, *place, ask, (shape, when)).is_some();
        if !cluster.is_chosen(*place) && fits() {
            found.push(rank(cluster, shape, (wastes_cards, *cards, *slots), *place));
            last = (*cards, *slots);
        }
    }
    found
}

/// The nodes of a class for a request that shares its cards with others: where fewest have to be taken anew first.
fn sharing(
    cluster: &Cluster<'_>,
    class: &Class<'_>,
    ask: Ask<'_>,
    (shape, when): Wanted<'_, '_>,
) -> Vec<Rank> {
    let open = class.usable.iter().copied();
    let open = open.filter(|place| !cluster.is_chosen(*place));
    let ranked = open.filter_map(|place| {
        let each = takes(cluster, place, ask, (shape, when))?;
        let free = cluster.seats[place].free;
        let anew = each.cards.saturating_mul(class.cards.saturating_add(1));
        let cards = anew.saturating_add(free.cards);
        Some(rank(cluster, shape, (false, cards, free.slots), place))
    });
    ranked.collect()
}
