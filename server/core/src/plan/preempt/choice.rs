//! Which jobs are stopped so that another fits. Two ways are tried, and the cheaper of what they find is taken: jobs one by
//! one, cheapest first, and nodes one by one, that which is cleared most cheaply first. Then whoever is not needed is
//! left alone. It is cheaper to stop jobs of queues with a lower priority, then to lose less work, then to stop fewer.

use std::collections::BTreeMap;

use capstan_types::Timestamp;

use super::book::Candidate;
use crate::plan::cluster::{Cluster, When};
use crate::plan::fit::{Shape, pick};
use crate::plan::request::{Each, Part, Request, Target};
use crate::plan::reserve::places;
use crate::plan::timeline::Span;

/// A request, and who might be stopped so that it fits from a time on.
pub(super) struct Trial<'t, 'a> {
    cluster: &'t mut Cluster<'a>,
    shape: &'t Shape<'a>,
    span: Span,
    candidates: &'t [Candidate<'a>],
    /// What there is of each node when nobody is stopped.
    base: Vec<Each>,
    rooms: Vec<Each>,
}

/// By priority, highest first: work lost, jobs stopped.
type Cost = Vec<(i64, u64, usize)>;

impl<'t, 'a> Trial<'t, 'a> {
    pub(super) fn new(
        (cluster, shape): (&'t mut Cluster<'a>, &'t Shape<'a>),
        span: Span,
        candidates: &'t [Candidate<'a>],
    ) -> Self {
        let mut base = vec![Each::default(); cluster.seats.len()];
        for place in places(cluster, shape) {
            let seat = &cluster.seats[place];
            base[place] = seat.timeline.room(seat.free, span);
        }
        Self {
            rooms: base.clone(),
            cluster,
            shape,
            span,
            candidates,
            base,
        }
    }

    /// Whom to stop, of `allowed`, which has the cheapest first; nobody when that is not enough.
    pub(super) fn choose(&mut self, allowed: &[usize]) -> Option<Vec<usize>> {
        let allowed = self.lowest(allowed)?;
        let by_job = least(allowed.len(), |count| self.fits(&allowed[..count]))?;
        let by_job = self.thin(&allowed[..by_job]);
        let by_node = self.by_node(allowed).map(|victims| self.thin(&victims));
        let victims = match by_node {
            Some(by_node) if self.cost(&by_node) < self.cost(&by_job) => by_node,
            Some(_) | None => by_job,
        };
        Some(victims)
    }

    /// Whether the request fits when these are stopped.
    pub(super) fn fits(&mut self, victims: &[usize]) -> bool {
        self.rooms.copy_from_slice(&self.base);
        let mut early: BTreeMap<usize, Vec<(Timestamp, Each)>> = BTreeMap::new();
        for candidate in victims.iter().map(|at| &self.candidates[*at]) {
            for (place, each) in &candidate.holds {
                let on_node = early.entry(*place).or_default();
                on_node.push((candidate.ends, *each));
            }
        }
        for (place, early) in early {
            self.rooms[place] = self.room(place, &early);
        }
        pick(self.cluster, self.shape, When::Later(&self.rooms)).is_some()
    }

    fn room(&self, place: usize, early: &[(Timestamp, Each)]) -> Each {
        let seat = &self.cluster.seats[place];
        seat.timeline.room_if(seat.free, self.span, early)
    }

    /// As many of the lowest queues as are needed at all.
    fn lowest<'c>(&mut self, allowed: &'c [usize]) -> Option<&'c [usize]> {
        let priority = |at: &usize| self.candidates[*at].priority;
        let groups: Vec<usize> = allowed
            .chunk_by(|one, other| priority(one) == priority(other))
            .scan(0, |end, group| {
                *end += group.len();
                Some(*end)
            })
            .collect();
        let count = least(groups.len(), |count| {
            let end = count.checked_sub(1).map_or(0, |last| groups[last]);
            self.fits(&allowed[..end])
        })?;
        Some(&allowed[..count.checked_sub(1).map_or(0, |last| groups[last])])
    }

    /// Leaves alone whoever is not needed, dearest first. Each that is left is needed: without it, it would not fit.
    fn thin(&mut self, victims: &[usize]) -> Vec<usize> {
        let mut victims = victims.to_vec();
        victims.sort_unstable_by(|one, other| other.cmp(one));
        victims.dedup();
        // Most of a long list is not needed: parts of it are tried as a whole, then their halves.
        let mut kept = victims.clone();
        let mut parts = vec![(0, victims.len())];
        while let Some((from, until)) = parts.pop() {
            let part = &victims[from..until];
            let rest: Vec<usize> = kept
                .iter()
                .copied()
                .filter(|at| !part.contains(at))
                .collect();
            if self.fits(&rest) {
                kept = rest;
            } else if part.len() > 1 {
                let middle = usize::midpoint(from, until);
                parts.push((middle, until));
                parts.push((from, middle));
            }
        }
        kept.sort_unstable();
        kept
    }

    /// Clears nodes, the one that costs least first, until the request fits. For chunks that may share nodes it is not
    /// known what each must give: jobs one by one must do.
    fn by_node(&mut self, allowed: &[usize]) -> Option<Vec<usize>> {
        let Request::Nodes(parts) = &self.shape.request else {
            return None;
        };
        let mut on_nodes: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for at in allowed {
            for (place, _) in &self.candidates[*at].holds {
                on_nodes.entry(*place).or_default().push(*at);
            }
        }
        let mut cleared: Vec<(Cost, usize, Vec<usize>)> = Vec::new();
        for (place, on_node) in &on_nodes {
            if let Some(victims) = self.clear(*place, self.wanted(parts, *place), on_node) {
                cleared.push((self.cost(&victims), *place, victims));
            }
        }
        cleared.sort();
        let union = |count: usize| {
            let victims = cleared[..count].iter().flat_map(|(_, _, victims)| victims);
            let mut victims: Vec<usize> = victims.copied().collect();
            victims.sort_unstable();
            victims.dedup();
            victims
        };
        let count = least(cleared.len(), |count| self.fits(&union(count)))?;
        Some(union(count))
    }

    /// The most that any part of the request wants of this node.
    fn wanted(&self, parts: &[Part<'_>], place: usize) -> Each {
        let class = self.cluster.seats[place].class;
        let meant = parts
            .iter()
            .zip(&self.shape.classes)
            .filter(|(part, classes)| match part.target {
                Target::Node(node) => node == place,
                Target::Any | Target::Property(_) => classes.contains(&class),
            });
        meant.fold(Each::default(), |most, (part, _)| most.most(part.each))
    }

    /// The cheapest of these jobs that must stop so that the node has so much; `None` when all of them are not enough.
    fn clear(&self, place: usize, wanted: Each, on_node: &[usize]) -> Option<Vec<usize>> {
        let is_enough = |victims: &[usize]| {
            let early = victims.iter().flat_map(|at| {
                let candidate = &self.candidates[*at];
                let here = candidate.holds.iter().filter(|(node, _)| *node == place);
                here.map(|(_, each)| (candidate.ends, *each))
            });
            let room = self.room(place, &early.collect::<Vec<_>>());
            let slots = u32::from(self.cluster.seats[place].node.slots);
            wanted.fits_in(room) && (!self.shape.key.is_exclusive || room.slots == slots)
        };
        let count = least(on_node.len(), |count| is_enough(&on_node[..count]))?;
        let mut victims = on_node[..count].to_vec();
        for at in on_node[..count].iter().rev() {
            let rest: Vec<usize> = victims.iter().copied().filter(|kept| kept != at).collect();
            if is_enough(&rest) {
                victims = rest;
            }
        }
        let alone = on_node
            .iter()
            .find(|at| is_enough(&[**at]))
            .map(|at| vec![*at]);
        match alone {
            Some(alone) if self.cost(&alone) < self.cost(&victims) => Some(alone),
            Some(_) | None => Some(victims),
        }
    }

    fn cost(&self, victims: &[usize]) -> Cost {
        let mut by_priority: BTreeMap<i64, (u64, usize)> = BTreeMap::new();
        for candidate in victims.iter().map(|at| &self.candidates[*at]) {
            let (lost, count) = by_priority.entry(candidate.priority).or_default();
            *lost = lost.saturating_add(candidate.lost);
            *count += 1;
        }
        let highest_first = by_priority.into_iter().rev();
        highest_first
            .map(|(priority, (lost, count))| (priority, lost, count))
            .collect()
    }
}

/// The least of 0 to `most` that is enough, when more never is less; `None` when the most is not.
fn least(most: usize, mut is_enough: impl FnMut(usize) -> bool) -> Option<usize> {
    if !is_enough(most) {
        return None;
    }
    let (mut low, mut high) = (0, most);
    while low < high {
        let middle = usize::midpoint(low, high);
        match is_enough(middle) {
            true => high = middle,
            false => low = middle + 1,
        }
    }
    Some(low)
}
