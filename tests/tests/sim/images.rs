//! The images of a simulated node: what it is told to get comes after a while, or cannot be had. Pulls that are under way
//! die with the agent's process; what has come stays.

use std::collections::{BTreeMap, BTreeSet};

use capstan_core::{ImageProblem, ImageReport};
use capstan_types::Timestamp;

use crate::rng::Rng;

/// Images take so long at most.
const PULL_MS_MAX: u64 = 90_000;

#[derive(Default)]
pub(crate) struct Images {
    here: BTreeSet<Box<str>>,
    under_way: BTreeMap<(Box<str>, u32), Timestamp>,
}

impl Images {
    /// An order; one that is worked on already changes nothing.
    pub(crate) fn get(&mut self, image: &str, uid: u32, now: Timestamp, rng: &mut Rng) {
        let due = Timestamp(now.0 + rng.below(PULL_MS_MAX));
        let due = if self.has(image) { now } else { due };
        self.under_way.entry((image.into(), uid)).or_insert(due);
    }

    pub(crate) fn drop_order(&mut self, image: &str, uid: u32) {
        self.under_way.remove(&(image.into(), uid));
    }

    /// The process is gone.
    pub(crate) fn lose(&mut self) {
        self.under_way.clear();
    }

    pub(crate) fn has(&self, image: &str) -> bool {
        self.here.contains(image)
    }

    /// What has come, or could not be had.
    pub(crate) fn pass(&mut self, now: Timestamp, rng: &mut Rng) -> Vec<ImageReport> {
        let due = self.under_way.iter().filter(|(_, due)| **due <= now);
        let due: Vec<(Box<str>, u32)> = due.map(|(key, _)| key.clone()).collect();
        let reports = due.into_iter().map(|(image, uid)| {
            self.under_way.remove(&(image.clone(), uid));
            let problem = (!self.has(&image) && rng.chance(25)).then(|| ImageProblem {
                text: "the registry sleeps".into(),
                is_lasting: rng.chance(30),
            });
            if problem.is_none() {
                self.here.insert(image.clone());
            }
            ImageReport {
                image,
                uid,
                problem,
            }
        });
        reports.collect()
    }
}
