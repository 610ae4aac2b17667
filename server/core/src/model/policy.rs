//! How waiting jobs are ordered and nodes kept for those that do not fit: the site's weights, from its attributes, with
//! the values of a named policy for those that are not set.

use super::{Scheduler, Settings};

/// A named set of values: what `set server policy = NAME` chooses. Every attribute that is set itself wins over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyName {
    /// Strict order of arrival: nobody overtakes.
    Fifo,
    /// Order of arrival, with backfill around a reservation of the first job that does not fit.
    Easy,
    /// Short work first by history, against waiting time; backfill.
    Default,
    /// As the default, and who used little of his share comes before who used much.
    Fair,
}

/// What a score is made of, in points. A score is a sum: who has more comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weights {
    /// Per point of the queue's `Priority`.
    pub queue: i64,
    /// For the highest `-p`, 1023; for lower ones in proportion.
    pub priority: i64,
    /// Per doubling of the waiting time, counted from [`Policy::AGE_FROM_SECS`].
    pub age: i64,
    /// Between the user who is owed most and the one who owes most.
    pub fairshare: i64,
    /// Per doubling of the cards (of a job without cards: the slots); below 0 small jobs come first.
    pub size: i64,
    /// Per halving of the expected run time, counted from [`Policy::SHORT_FROM_SECS`].
    pub shortness: i64,
}

/// The policy in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What orders waiting jobs.
    pub weights: Weights,
    /// For how many jobs that do not fit nodes are reserved; 0: no job starts behind one that does not fit.
    pub backfill_depth: u32,
    /// Whether who ends after a reservation has begun may have what it leaves over; if not, gaps are filled only with what
    /// ends before.
    pub backfills_spare: bool,
    /// A job that has waited for so long goes to the front; `None` for never.
    pub starve_after_secs: Option<u64>,
    /// Torque's own scheduler: only who starves gets a reservation.
    pub reserves_for_starving_only: bool,
}

impl PolicyName {
    /// All of them, in the order in which they are named to people.
    pub const ALL: [Self; 4] = [Self::Default, Self::Fair, Self::Easy, Self::Fifo];

    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Fifo => "fifo",
            Self::Easy => "easy",
            Self::Default => "default",
            Self::Fair => "fair",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|name| name.word() == text)
    }

    const fn policy(self) -> Policy {
        let arrival = Weights {
            queue: 100_000,
            priority: 0,
            age: 100,
            fairshare: 0,
            size: 0,
            shortness: 0,
        };
        let shortest = Weights {
            priority: 200,
            shortness: 75,
            size: 30,
            ..arrival
        };
        let easy = Policy {
            weights: arrival,
            backfill_depth: 1,
            backfills_spare: true,
            starve_after_secs: None,
            reserves_for_starving_only: false,
        };
        let default = Policy {
            weights: shortest,
            starve_after_secs: Some(96 * 3600),
            ..easy
        };
        match self {
            Self::Fifo => Policy {
                backfill_depth: 0,
                ..easy
            },
            Self::Easy => easy,
            Self::Default => default,
            Self::Fair => Policy {
                weights: Weights {
                    fairshare: 400,
                    ..shortest
                },
                ..default
            },
        }
    }
}

impl Policy {
    /// Waiting time is counted in doublings from so long on: shorter waits make little difference. Seconds.
    pub const AGE_FROM_SECS: u64 = 1800;
    /// Run time is counted in halvings down to so short: shorter ones make little difference. Seconds.
    pub const SHORT_FROM_SECS: u64 = 60;
    /// From so large a `weight_fairshare` on shares are strict: users take turns within a plan, and who has had more than his
    /// share does not get around that by waiting.
    pub const STRICT_SHARES_FROM: i64 = 400;
    /// The largest weight, up or down.
    pub const WEIGHT_MAX: i64 = 1_000_000;
    /// The largest `backfill_depth`.
    pub const DEPTH_MAX: u32 = 1000;

    /// Whether shares decide before all else, and not only among other things.
    #[must_use]
    pub const fn has_strict_shares(&self) -> bool {
        self.weights.fairshare.saturating_abs() >= Self::STRICT_SHARES_FROM
    }

    /// The policy that these settings say.
    #[must_use]
    pub fn of(settings: &Settings) -> Self {
        if settings.scheduler == Scheduler::Fifo {
            return Self::torque();
        }
        let attributes = &settings.attributes;
        let name = attributes.text("policy").and_then(PolicyName::parse);
        let mut policy = name.unwrap_or(PolicyName::Default).policy();
        let weights = &mut policy.weights;
        for (attribute, weight) in [
            ("weight_queue", &mut weights.queue),
            ("weight_priority", &mut weights.priority),
            ("weight_age", &mut weights.age),
            ("weight_fairshare", &mut weights.fairshare),
            ("weight_size", &mut weights.size),
            ("weight_shortness", &mut weights.shortness),
        ] {
            if let Some(set) = attributes.integer(attribute) {
                *weight = set.clamp(-Self::WEIGHT_MAX, Self::WEIGHT_MAX);
            }
        }
        if let Some(depth) = attributes.limit("backfill_depth") {
            policy.backfill_depth = u32::try_from(depth)
                .unwrap_or(u32::MAX)
                .min(Self::DEPTH_MAX);
        }
        if let Some(does) = attributes.boolean("backfill_spare") {
            policy.backfills_spare = does;
        }
        if let Some(secs) = attributes.limit("starve_after") {
            policy.starve_after_secs = (secs > 0).then_some(secs);
        }
        policy
    }

    /// First come, first served by queue priority; who fits starts; nodes are kept for who has waited a day.
    const fn torque() -> Self {
        Self {
            backfill_depth: u32::MAX,
            starve_after_secs: Some(Scheduler::STARVING_SECS),
            reserves_for_starving_only: true,
            ..PolicyName::Easy.policy()
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        PolicyName::Default.policy()
    }
}
