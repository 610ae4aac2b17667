//! Two simulations of the same jobs: who waits less, who waits more.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::metrics::{mean, rounded};
use crate::summary::{Done, done};
use crate::{Run, Trace};

/// A wait that changes by less is as good as the same.
const SAME_S: f64 = 1.0;

/// Classes of run times: a name, and from how many seconds on.
const LENGTHS: [(&str, f64); 5] = [
    ("under a minute", 0.0),
    ("1 to 10 minutes", 60.0),
    ("10 minutes to 1 hour", 600.0),
    ("1 hour to 1 day", 3600.0),
    ("over a day", 86_400.0),
];

/// What a change of policy does to the waits.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Comparison {
    /// All jobs.
    pub all: Shift,
    /// By user, those first whose mean wait changes most.
    pub users: Vec<Shift>,
    /// By how many cards a job has.
    pub sizes: Vec<Shift>,
    /// By how long it runs.
    pub lengths: Vec<Shift>,
}

/// What it does to some of the jobs.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Shift {
    /// Of whom, or of what kind.
    pub name: String,
    /// Jobs that ran both times.
    pub jobs: usize,
    /// Of these, those that wait less.
    pub winners: usize,
    /// Those that wait longer.
    pub losers: usize,
    /// Mean wait before.
    pub before_s: f64,
    /// Mean wait after.
    pub after_s: f64,
    /// After less before.
    pub change_s: f64,
}

/// Compares two runs of `trace`.
#[must_use]
pub fn compare(trace: &Trace, before: &Run, after: &Run) -> Comparison {
    let runs = trace.jobs.iter().zip(&before.jobs).zip(&after.jobs);
    let pairs =
        runs.filter_map(|((job, before), after)| Some((done((job, before))?, done((job, after))?)));
    let pairs: Vec<(Done<'_>, Done<'_>)> = pairs.collect();
    let mut users = shifts(&pairs, |job| (0, job.job.user.to_string()));
    users.sort_by(|a, b| b.change_s.abs().total_cmp(&a.change_s.abs()));
    Comparison {
        all: shifts(&pairs, |_| (0, "all".to_owned()))
            .pop()
            .unwrap_or_default(),
        users,
        sizes: shifts(&pairs, |job| size_class(job.size)),
        lengths: shifts(&pairs, |job| length_class(job.run_s)),
    }
}

/// Its rank and its name.
type Class = (u32, String);

/// 1, 2, 3-4, 5-8, 9-16 …
fn size_class(size: u32) -> Class {
    let rank = size.max(1).next_power_of_two().trailing_zeros();
    let to = 1u64 << rank;
    let name = match to {
        0 | 1 => "1 card".to_owned(),
        2 => "2 cards".to_owned(),
        to => format!("{} to {to} cards", to / 2 + 1),
    };
    (rank, name)
}

fn length_class(run_s: f64) -> Class {
    let fits = |(_, (_, from)): &(u32, (&str, f64))| run_s >= *from;
    let found = (0..).zip(LENGTHS).take_while(fits).last();
    found.map_or((0, String::new()), |(rank, (name, _))| {
        (rank, name.to_owned())
    })
}

fn shifts(pairs: &[(Done<'_>, Done<'_>)], class: impl Fn(&Done<'_>) -> Class) -> Vec<Shift> {
    let mut by_class: BTreeMap<Class, Vec<(f64, f64)>> = BTreeMap::new();
    for (before, after) in pairs {
        let waits = by_class.entry(class(before)).or_default();
        waits.push((before.wait_s, after.wait_s));
    }
    let shift = |((_, name), waits): (Class, Vec<(f64, f64)>)| {
        let (before, after): (Vec<f64>, Vec<f64>) = waits.iter().copied().unzip();
        let changed = |by: &dyn Fn(f64) -> bool| {
            waits
                .iter()
                .filter(|(before, after)| by(after - before))
                .count()
        };
        Shift {
            name,
            jobs: waits.len(),
            winners: changed(&|change| change <= -SAME_S),
            losers: changed(&|change| change >= SAME_S),
            before_s: rounded(mean(&before), 3),
            after_s: rounded(mean(&after), 3),
            change_s: rounded(mean(&after) - mean(&before), 3),
        }
    };
    by_class.into_iter().map(shift).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_have_names() {
        let sizes: Vec<String> = [0, 1, 2, 3, 4, 5, 8, 9]
            .map(|size| size_class(size).1)
            .into();
        let expected = [
            "1 card",
            "1 card",
            "2 cards",
            "3 to 4 cards",
            "3 to 4 cards",
            "5 to 8 cards",
            "5 to 8 cards",
            "9 to 16 cards",
        ];
        assert_eq!(sizes, expected);
        assert_eq!(length_class(59.9).1, "under a minute");
        assert_eq!(length_class(3600.0).1, "1 hour to 1 day");
        assert_eq!(length_class(1e9).1, "over a day");
    }
}
