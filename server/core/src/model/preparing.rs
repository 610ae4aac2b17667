//! Images that nodes get for jobs that wait: what a node was told to get for whom, and what came of it. So a job whose
//! container has no image yet waits for it without holding anything, and a node where it cannot be had is left alone.

use capstan_types::{ImageAliases, JobId, NodeSpec, Timestamp, image_name};
use serde::{Deserialize, Serialize};

use super::{Job, JobState, Node, Settings};

/// An image that a node was told to get, on one user's terms: who may have it is between that user and the registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preparation {
    /// As the job names it.
    pub image: Box<str>,
    /// The user whose accounts at registries may be used.
    pub uid: u32,
    /// The first job that it is for.
    pub job: JobId,
    /// How far it is.
    pub stage: Preparing,
    /// How often it has failed there since it last came.
    pub failures: u32,
}

/// How far an image of a node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Preparing {
    /// The node was told to get it.
    Coming {
        /// When.
        since: Timestamp,
    },
    /// It is there.
    There {
        /// Since when.
        since: Timestamp,
    },
    /// It could not be had.
    Failed {
        /// Until then this node is not told to get it again.
        until: Timestamp,
        /// Why, in one sentence.
        problem: Box<str>,
    },
}

/// An operator's order to start a job (`qrun`) that waits for its image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forced {
    /// The job, the array, or a member.
    pub job: JobId,
    /// The image as it is typed; an order is void when the job has been given another.
    pub image: Box<str>,
    /// `-H`.
    pub hosts: Option<NodeSpec>,
}

/// What came of an image that a node was told to get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageReport {
    /// As the order named it.
    pub image: Box<str>,
    /// On whose terms.
    pub uid: u32,
    /// Why it is not there; `None` when it is.
    pub problem: Option<ImageProblem>,
}

/// Why an image could not be had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageProblem {
    /// One sentence.
    pub text: Box<str>,
    /// Waiting is no use: the name is wrong, or the registry does not let the user have it.
    pub is_lasting: bool,
}

impl Forced {
    /// Most orders for single members that an array keeps; an order for the array is for all of them.
    pub const MEMBERS_MAX: usize = 256;
}

impl Preparation {
    /// Most images that are remembered for one node; those that are over go first.
    pub const COUNT_MAX: usize = 64;
    /// For so long the word of a node that an image is there counts when its list of images does not name it.
    pub const THERE_SECS: u64 = 600;
    /// A node is not told again for so long after an image could not be had there; twice as long after each further
    /// failure, and at most [`Self::PAUSE_SECS_MAX`].
    pub const PAUSE_SECS: u64 = 60;
    /// The longest such pause.
    pub const PAUSE_SECS_MAX: u64 = 900;
    /// After so many failures on all nodes together the jobs that want an image on the same terms are held.
    pub const FAILURES_MAX: u32 = 6;
    /// The same when it is no use to wait: there is no such image, or its registry does not let the user have it.
    pub const LASTING_FAILURES_MAX: u32 = 2;

    /// Whether it is of `image` on the terms of `uid`.
    #[must_use]
    pub fn is_of(&self, image: &str, uid: u32) -> bool {
        *self.image == *image && self.uid == uid
    }

    /// Whether it is under way.
    #[must_use]
    pub const fn is_coming(&self) -> bool {
        matches!(self.stage, Preparing::Coming { .. })
    }

    /// How long a node is left alone after so many failures, in seconds.
    #[must_use]
    pub fn pause_secs(failures: u32) -> u64 {
        let doublings = failures.saturating_sub(1).min(10);
        (Self::PAUSE_SECS << doublings).min(Self::PAUSE_SECS_MAX)
    }
}

impl Node {
    /// What became of `image` on the terms of `uid` here.
    #[must_use]
    pub fn preparation(&self, image: &str, uid: u32) -> Option<&Preparation> {
        self.preparing.iter().find(|one| one.is_of(image, uid))
    }

    /// What this node calls the image that `typed` means, by its own short names.
    #[must_use]
    pub fn image_meant(&self, typed: &str) -> String {
        let aliases = self.inventory.aliases.iter();
        let aliases = aliases.map(|(name, image)| (&**name, &**image));
        image_name(&ImageAliases::meant(typed, aliases))
    }

    /// Whether its list of images has this one, by the name that [`Self::image_meant`] gives.
    #[must_use]
    pub fn lists_image(&self, name: &str) -> bool {
        let images = &self.inventory.images;
        images.binary_search_by(|own| (**own).cmp(name)).is_ok()
    }
}

impl Settings {
    /// Whether `job` waits, and for an image of this name on the terms of `uid`.
    #[must_use]
    pub fn may_want(&self, job: &Job, image: &str, uid: u32) -> bool {
        matches!(job.state, JobState::Pending)
            && job.spec.owner.uid == uid
            && self.image_of(&job.queue, &job.spec) == Some(image)
    }
}

#[cfg(test)]
mod tests {
    use super::Preparation;

    #[test]
    fn pauses_double_up_to_a_quarter_of_an_hour() {
        let pauses = [1, 2, 3, 4, 5, 6, 99].map(Preparation::pause_secs);
        assert_eq!(pauses, [60, 120, 240, 480, 900, 900, 900]);
    }
}
