//! Nodes kept for a job that does not fit now: as many as it asks for, those nearest to fitting it. Nodes that are
//! kept already count for the job that was first; nodes that are down or offline are not worth keeping, and when
//! too few of the right ones are up nothing is kept, or one broken node would stop the whole cluster.

use capstan_types::JobId;

use super::cluster::{Class, Cluster};
use super::fit::Shape;
use super::request::{Each, Part, Request, Target};

/// Whether the request fits on the nodes that are up and not offline, were they idle.
pub(super) fn can_hope(cluster: &mut Cluster<'_>, shape: &Shape<'_>) -> bool {
    match &shape.request {
        Request::Nodes(parts) => {
            cluster.begin();
            shape
                .turns
                .iter()
                .all(|at| could_get(cluster, shape, &parts[*at], *at))
        }
        Request::Free(parts) => parts.iter().enumerate().all(|(at, part)| {
            let usable = shape.classes[at]
                .iter()
                .flat_map(|class| &cluster.classes[*class].usable);
            let meant = usable.filter(|place| is_meant(part, **place));
            let wholes = meant.map(|place| Each::whole(cluster.seats[*place].node));
            let all: u64 = wholes
                .map(|whole| u64::from(part.each.how_often_in(whole)))
                .sum();
            all >= u64::from(part.count)
        }),
    }
}

/// Whether this is the node that a part names, if it names one.
fn is_meant(part: &Part<'_>, place: usize) -> bool {
    match part.target {
        Target::Node(wanted) => wanted == place,
        Target::Any | Target::Property(_) => true,
    }
}

fn could_get(cluster: &mut Cluster<'_>, shape: &Shape<'_>, part: &Part<'_>, at: usize) -> bool {
    let mut missing = part.count;
    if let Target::Node(place) = part.target {
        let is_right =
            cluster.seats[place].node.is_usable() && is_right(cluster, shape, part, place);
        cluster.choose(place);
        return is_right;
    }
    for class in &shape.classes[at] {
        for nth in 0..cluster.classes[*class].usable.len() {
            if missing == 0 {
                return true;
            }
            let place = cluster.classes[*class].usable[nth];
            if !cluster.is_chosen(place) && has_memory(cluster, place, part.each) {
                cluster.choose(place);
                missing -= 1;
            }
        }
    }
    missing == 0
}

/// Whether the named node is what its part says and large enough when idle.
pub(super) fn is_right(
    cluster: &Cluster<'_>,
    shape: &Shape<'_>,
    part: &Part<'_>,
    place: usize,
) -> bool {
    let class = &cluster.classes[cluster.seats[place].class];
    part.means(place, class.properties)
        && class.is_enough(part.each, shape.key.uid)
        && has_memory(cluster, place, part.each)
}

fn has_memory(cluster: &Cluster<'_>, place: usize, each: Each) -> bool {
    each.memory_bytes <= cluster.seats[place].node.inventory.memory_bytes
}

/// Keeps nodes for `job` of this shape; how many were kept anew.
pub(super) fn keep(cluster: &mut Cluster<'_>, shape: &Shape<'_>, job: JobId) -> u32 {
    match &shape.request {
        Request::Nodes(parts) => {
            let turns = shape.turns.iter();
            turns
                .map(|at| keep_part(cluster, &shape.classes[*at], &parts[*at], job))
                .sum()
        }
        Request::Free(parts) => {
            let turns = shape.turns.iter();
            turns
                .map(|at| keep_chunks(cluster, &shape.classes[*at], &parts[*at], job))
                .sum()
        }
    }
}

/// Nodes for chunks that may share them: as many as hold so many chunks when idle.
fn keep_chunks(cluster: &mut Cluster<'_>, classes: &[usize], part: &Part<'_>, job: JobId) -> u32 {
    let mut kept = 0;
    let mut missing = part.count;
    while missing > 0 {
        let place = match part.target {
            Target::Node(place) => Some(place).filter(|place| cluster.is_open(*place)),
            Target::Any | Target::Property(_) => nearest(cluster, classes, part.each),
        };
        let Some(place) = place else {
            break;
        };
        let whole = Each::whole(cluster.seats[place].node);
        missing = missing.saturating_sub(part.each.how_often_in(whole).max(1));
        cluster.keep(place, job);
        kept += 1;
    }
    kept
}

fn keep_part(cluster: &mut Cluster<'_>, classes: &[usize], part: &Part<'_>, job: JobId) -> u32 {
    let mut kept = 0;
    while kept < part.count {
        let place = match part.target {
            Target::Node(place) => Some(place).filter(|place| cluster.is_open(*place)),
            Target::Any | Target::Property(_) => nearest(cluster, classes, part.each),
        };
        let Some(place) = place else {
            break;
        };
        cluster.keep(place, job);
        kept += 1;
    }
    kept
}

/// The open node that lacks least of `each`: most free cards if it wants cards, else most free slots. Ties go to the
/// last name, away from where best fit packs.
fn nearest(cluster: &Cluster<'_>, classes: &[usize], each: Each) -> Option<usize> {
    let classes = classes.iter().map(|class| &cluster.classes[*class]);
    let candidates = classes.filter_map(|class| nearest_in(cluster, class, each));
    candidates.max().map(|(_, _, place)| place)
}

fn nearest_in(cluster: &Cluster<'_>, class: &Class<'_>, each: Each) -> Option<(u32, u32, usize)> {
    let ranked = if each.cards > 0 {
        &class.by_cards
    } else {
        &class.by_slots
    };
    let mut last_first = ranked.iter().rev();
    last_first
        .find(|(_, _, place)| has_memory(cluster, *place, each))
        .copied()
}

/// The first job in line that keeps a node which this shape could use.
pub(super) fn keeper(cluster: &Cluster<'_>, shape: &Shape<'_>) -> Option<JobId> {
    let parts = shape.request.parts();
    let named = parts.iter().filter_map(|part| match part.target {
        Target::Node(place) => cluster.seats[place].kept_for,
        Target::Any | Target::Property(_) => None,
    });
    let classes = shape.classes.iter().flatten();
    let others = classes.filter_map(|class| cluster.classes[*class].first_keeper);
    // Classes of a named node stand for its size only: they count when the node itself is not kept.
    named.min().or_else(|| others.min()).map(|(_, job)| job)
}

/// The first keeper, when every node that this shape could use is kept: then nothing else needs to be said, and
/// nothing is left to keep.
pub(super) fn all_kept(cluster: &Cluster<'_>, shape: &Shape<'_>) -> Option<JobId> {
    let mut classes = shape.classes.iter().flatten();
    let is_any_open = classes.any(|class| !cluster.classes[*class].by_cards.is_empty());
    keeper(cluster, shape).filter(|_| !is_any_open)
}
