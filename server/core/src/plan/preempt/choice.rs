//! Which jobs are stopped so that another fits. Two ways are tried, and the cheaper of what they find is taken: jobs one by
//! one, cheapest first, and nodes one by one, that which is cleared most cheaply first. Then whoever is not needed is
//! left alone. It is cheaper to stop jobs of queues with a lower priority, then to lose less work, then to stop fewer.

use std::collections::{BTreeMap, BTreeSet};

use capstan_types::Timestamp;

use super::book::Candidate;
use crate::plan::cluster::{Cluster, When};
use crate::plan::fit::{Shape, pick, takes};
use crate::plan::request::{Each, Part, Request, Target};
use crate::plan::reserve::places;
use crate::plan::timeline::Span;

/// When more jobs than this are taken one by one before the request fits, clearing nodes is all that is tried.
const JOBS_MAX: usize = 256;

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
        let count = least(allowed.len(), |count| self.fits(&allowed[..count]))?;
        let by_node = self.by_node(allowed).map(|victims| self.thin(&victims));
        match by_node {
            // So many cheap jobs here and there will hardly lose less than those of a few nodes.
            Some(by_node) if count > JOBS_MAX => Some(by_node),
            Some(by_node) => {
                let by_job = self.thin(&allowed[..count]);
                let is_cheaper = self.cost(&by_node) < self.cost(&by_job);
                Some(if is_cheaper { by_node } else { by_job })
            }
            None => Some(self.thin(&allowed[..count])),
        }
    }

    /// Whether the request fits when these are stopped.
    pub(super) fn fits(&mut self, victims: &[usize]) -> bool {
        self.rooms.copy_from_slice(&self.base);
        for (place, on_node) in self.on_nodes(victims) {
            self.rooms[place] = self.room(place, on_node.into_iter());
        }
        pick(self.cluster, self.shape, When::Later(&self.rooms)).is_some()
    }

    /// The same by the nodes on which they run.
    fn on_nodes(&self, victims: &[usize]) -> BTreeMap<usize, Vec<usize>> {
        let mut on_nodes: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for at in victims {
            for (place, _) in &self.candidates[*at].holds {
                on_nodes.entry(*place).or_default().push(*at);
            }
        }
        on_nodes
    }

    /// What there is of a node when these are stopped, all of which run there.
    fn room(&self, place: usize, victims: impl Iterator<Item = usize>) -> Each {
        let early = victims.flat_map(|at| {
            let candidate = &self.candidates[at];
            let here = candidate.holds.iter().filter(|(node, _)| *node == place);
            here.map(|(_, each)| (candidate.ends, *each))
                .collect::<Vec<_>>()
        });
        let early: Vec<(Timestamp, Each)> = early.collect();
        let seat = &self.cluster.seats[place];
        seat.timeline.room_if(seat.free, self.span, &early)
    }

    /// As many of the lowest queues as are needed at all.
    fn lowest<'c>(&mut self, allowed: &'c [usize]) -> Option<&'c [usize]> {
        let mut ends = vec![0];
        for queue in allowed.chunk_by(|one, other| self.priority(*one) == self.priority(*other)) {
            ends.push(ends.last().copied().unwrap_or(0) + queue.len());
        }
        let count = least(ends.len() - 1, |count| self.fits(&allowed[..ends[count]]))?;
        Some(&allowed[..ends[count]])
    }

    fn priority(&self, at: usize) -> i64 {
        self.candidates[at].priority
    }

    /// Leaves alone whoever is not needed, dearest first. Each that is left is needed: without it, it would not fit.
    fn thin(&mut self, victims: &[usize]) -> Vec<usize> {
        let mut victims = victims.to_vec();
        victims.sort_unstable_by(|one, other| other.cmp(one));
        victims.dedup();
        let mut stopped = self.on_nodes(&victims);
        self.fits(&victims);
        // Most of a long list is not needed: parts of it are tried as a whole, then their halves.
        let mut parts = vec![(0, victims.len())];
        while let Some((from, until)) = parts.pop() {
            let part = &victims[from..until];
            if self.fits_without(part, &stopped) {
                for at in part {
                    for (place, _) in &self.candidates[*at].holds {
                        let on_node = stopped.entry(*place).or_default();
                        on_node.retain(|other| other != at);
                    }
                }
            } else if part.len() > 1 {
                let middle = usize::midpoint(from, until);
                parts.push((middle, until));
                parts.push((from, middle));
            }
        }
        let kept: BTreeSet<usize> = stopped.into_values().flatten().collect();
        kept.into_iter().collect()
    }

    /// Whether it fits when these, dearest first, are left alone after all, of those who are stopped on each node. `rooms`
    /// is as if all of those were stopped, and stays so if it does not fit.
    fn fits_without(&mut self, part: &[usize], stopped: &BTreeMap<usize, Vec<usize>>) -> bool {
        let holds = part.iter().flat_map(|at| &self.candidates[*at].holds);
        let places: BTreeSet<usize> = holds.map(|(place, _)| *place).collect();
        let before: Vec<Each> = places.iter().map(|place| self.rooms[*place]).collect();
        for place in &places {
            let on_node = stopped.get(place).into_iter().flatten().copied();
            let is_part = |at: &usize| part.binary_search_by(|other| at.cmp(other)).is_ok();
            self.rooms[*place] = self.room(*place, on_node.filter(|at| !is_part(at)));
        }
        let is_enough = pick(self.cluster, self.shape, When::Later(&self.rooms)).is_some();
        if !is_enough {
            for (place, before) in places.iter().zip(before) {
                self.rooms[*place] = before;
            }
        }
        is_enough
    }

    /// Clears nodes, the one that costs least first, until the request fits. For chunks that may share nodes it is not
    /// known what each must give: jobs one by one must do.
    fn by_node(&mut self, allowed: &[usize]) -> Option<Vec<usize>> {
        let Request::Nodes(parts) = &self.shape.request else {
            return None;
        };
        let mut cleared: Vec<(Cost, usize, Vec<usize>)> = Vec::new();
        for (place, on_node) in self.on_nodes(allowed) {
            if let Some(victims) = self.clear(parts, place, &on_node) {
                cleared.push((self.cost(&victims), place, victims));
            }
        }
        cleared.sort();
        let union = |count: usize| {
            let victims = cleared[..count].iter();
            let victims: BTreeSet<usize> = victims
                .flat_map(|(_, _, victims)| victims)
                .copied()
                .collect();
            victims.into_iter().collect::<Vec<usize>>()
        };
        let count = least(cleared.len(), |count| self.fits(&union(count)))?;
        Some(union(count))
    }

    /// The cheapest of these jobs that must stop so that the node will do for each part of the request that means it;
    /// `None` when all of them are not enough.
    fn clear(&mut self, parts: &[Part<'_>], place: usize, on_node: &[usize]) -> Option<Vec<usize>> {
        let class = self.cluster.seats[place].class;
        let means = |at: &usize| match parts[*at].target {
            Target::Node(node) => node == place,
            Target::Any | Target::Property(_) => self.shape.classes[*at].contains(&class),
        };
        let wanted: Vec<usize> = (0..parts.len()).filter(means).collect();
        if wanted.is_empty() {
            return None;
        }
        self.cluster.begin();
        let count = least(on_node.len(), |count| {
            self.is_clear(place, &wanted, &on_node[..count])
        })?;
        let mut victims = on_node[..count].to_vec();
        for at in on_node[..count].iter().rev() {
            let rest: Vec<usize> = victims.iter().copied().filter(|kept| kept != at).collect();
            if self.is_clear(place, &wanted, &rest) {
                victims = rest;
            }
        }
        let mut alone = on_node.iter().map(|at| vec![*at]);
        let alone = alone.find(|alone| self.is_clear(place, &wanted, alone));
        match alone {
            Some(alone) if self.cost(&alone) < self.cost(&victims) => Some(alone),
            Some(_) | None => Some(victims),
        }
    }

    /// Whether the node will do for each of these parts of the request.
    fn is_clear(&mut self, place: usize, wanted: &[usize], victims: &[usize]) -> bool {
        self.rooms[place] = self.room(place, victims.iter().copied());
        let (shape, when) = (self.shape, When::Later(&self.rooms));
        let mut asks = wanted.iter().map(|part| shape.ask(*part));
        asks.all(|ask| takes(self.cluster, place, ask, (shape, when)).is_some())
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
