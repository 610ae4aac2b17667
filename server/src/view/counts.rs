//! How many jobs there are in each state, as queues and the server show it. Members of arrays count one by one.

use std::collections::BTreeMap;

use capstan_core::Job;
use capstan_types::{JobPart, QueueName};

use super::Scene;

/// Numbers of jobs by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts([u64; LETTERS.len()]);

/// In the order of `state_count`.
const LETTERS: [(char, &str); 7] = [
    ('T', "Transit"),
    ('Q', "Queued"),
    ('H', "Held"),
    ('W', "Waiting"),
    ('R', "Running"),
    ('E', "Exiting"),
    ('C', "Complete"),
];

impl Counts {
    fn add(&mut self, letter: char, jobs: u64) {
        let at = LETTERS.iter().position(|(known, _)| *known == letter);
        self.0[at.unwrap_or_default()] += jobs;
    }

    /// All jobs.
    pub(crate) fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// By letter, those that there are.
    pub(crate) fn by_letter(&self) -> impl Iterator<Item = (char, u64)> {
        let pairs = LETTERS.iter().zip(self.0);
        pairs
            .filter(|(_, jobs)| *jobs > 0)
            .map(|((letter, _), jobs)| (*letter, jobs))
    }

    /// `Transit:0 Queued:1 … Complete:0 `, with the blank at its end.
    pub(crate) fn state_count(&self) -> String {
        let pairs = LETTERS.iter().zip(self.0);
        pairs
            .map(|((_, name), jobs)| format!("{name}:{jobs} "))
            .collect()
    }

    fn add_all(&mut self, other: &Self) {
        for (own, more) in self.0.iter_mut().zip(other.0) {
            *own += more;
        }
    }
}

/// Jobs of each queue that has any.
pub(crate) fn by_queue<'a>(scene: Scene<'a>) -> BTreeMap<&'a QueueName, Counts> {
    let mut queues: BTreeMap<&QueueName, Counts> = BTreeMap::new();
    for job in scene.snapshot.state.jobs() {
        let queue = queues.entry(&job.queue).or_default();
        for (letter, jobs) in counted(scene, job) {
            queue.add(letter, jobs);
        }
    }
    queues
}

/// All jobs.
pub(crate) fn all(scene: Scene<'_>) -> Counts {
    let mut all = Counts::default();
    by_queue(scene)
        .values()
        .for_each(|queue| all.add_all(queue));
    all
}

fn counted(scene: Scene<'_>, job: &Job) -> [(char, u64); 2] {
    match (job.id.part, &job.array) {
        // The array itself is no job: its members are, with a record or not.
        (JobPart::Array, Some(array)) => match array.waiting.first() {
            // Those beyond the limits of the array are held.
            Some(index) => {
                let free = job.members_free();
                let member = job.as_member(index);
                [
                    (member.letter(scene.now), free),
                    ('H', array.waiting.len() - free),
                ]
            }
            None => [('C', 0); 2],
        },
        (JobPart::Whole | JobPart::Array | JobPart::Member(_), _) => {
            [(job.letter(scene.now), 1), ('C', 0)]
        }
    }
}
