//! A limit that keeps a job from running, with what is used of it: what programs compare is Torque's sentence, where it
//! has one; what people need is whose limit it is, what it says and how far it is used.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{QueueName, Seconds};

/// A limit, and why it stands in a job's way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunLimit {
    /// What is limited.
    pub of: Limited,
    /// Where.
    pub scope: LimitScope,
    /// For whom.
    pub whose: LimitedOwner,
    /// The limit, in the unit of [`Limited`].
    pub most: u64,
    /// What is used of it already, rounded up.
    pub used: u64,
    /// What the job wants of it, rounded up.
    pub wanted: u64,
}

/// What a limit counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Limited {
    /// Jobs that run.
    Jobs,
    /// Cards that running jobs hold.
    Cards,
    /// Slots that running jobs hold.
    Cores,
    /// Hours of cards, those that running jobs may still use included.
    CardHours {
        /// How far it looks back.
        window: Seconds,
    },
    /// Cards of one type that running jobs hold.
    CardsOf(Box<str>),
}

/// Where a limit holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LimitScope {
    /// In one queue.
    Queue(QueueName),
    /// On the whole server.
    Server,
}

/// Whose jobs a limit counts together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LimitedOwner {
    /// Everybody's.
    All,
    /// Those of one user.
    User(Box<str>),
    /// Those of one group.
    Group(Box<str>),
}

impl Limited {
    /// The attributes of queues and the server that limit it: for all, for each user, for each group.
    #[must_use]
    pub const fn attributes(&self) -> [&'static str; 3] {
        match self {
            Self::Jobs => ["max_running", "max_user_run", "max_group_run"],
            Self::Cards => ["max_cards", "max_user_cards", "max_group_cards"],
            Self::Cores => ["max_cores", "max_user_cores", "max_group_cores"],
            Self::CardHours { .. } => [
                "max_card_hours",
                "max_user_card_hours",
                "max_group_card_hours",
            ],
            Self::CardsOf(_) => ["max_cards_of", "max_user_cards_of", "max_group_cards_of"],
        }
    }

    fn amount(&self, f: &mut fmt::Formatter<'_>, count: u64) -> fmt::Result {
        let plural = if count == 1 { "" } else { "s" };
        match self {
            Self::Jobs => write!(f, "{count}"),
            Self::Cards => write!(f, "{count} card{plural}"),
            Self::Cores => write!(f, "{count} core{plural}"),
            Self::CardHours { .. } => write!(f, "{count} card-hour{plural}"),
            Self::CardsOf(kind) => write!(f, "{count} {kind} card{plural}"),
        }
    }
}

impl RunLimit {
    /// The attribute that says it.
    #[must_use]
    pub const fn attribute(&self) -> &'static str {
        let [all, user, group] = self.of.attributes();
        match self.whose {
            LimitedOwner::All => all,
            LimitedOwner::User(_) => user,
            LimitedOwner::Group(_) => group,
        }
    }

    /// The sentence of Torque's scheduler, and ours where it has none.
    #[must_use]
    pub const fn headline(&self) -> &'static str {
        use LimitScope as S;
        use LimitedOwner as O;
        match (&self.of, &self.scope, &self.whose) {
            (Limited::Jobs, S::Queue(_), O::All) => {
                "Not Running: Queue job limit has been reached."
            }
            (Limited::Jobs, S::Queue(_), O::User(_)) => {
                "Not Running: User has reached queue running job limit."
            }
            (Limited::Jobs, S::Queue(_), O::Group(_)) => {
                "Not Running: Group has reached queue running limit."
            }
            (Limited::Jobs, S::Server, O::All) => "Not Running: Server job limit has been reached.",
            (Limited::Jobs, S::Server, O::User(_)) => {
                "Not Running: User has reached server running job limit."
            }
            (Limited::Jobs, S::Server, O::Group(_)) => {
                "Not Running: Group has reached server running limit."
            }
            (Limited::Cards | Limited::CardsOf(_), ..) => {
                "Not Running: Limit of cards has been reached"
            }
            (Limited::Cores, ..) => "Not Running: Limit of cores has been reached",
            (Limited::CardHours { .. }, ..) => "Not Running: Limit of card-hours has been reached",
        }
    }

    /// Whether the headline is one of Torque's, which programs compare whole.
    #[must_use]
    pub const fn is_torques(&self) -> bool {
        matches!(self.of, Limited::Jobs)
    }

    /// Why a job that wants so much can never run, and what to do: "the job asks for 8 cards, and max_user_cards of queue
    /// gpu is 4: ask for 4 cards or fewer".
    #[must_use]
    pub fn refusal(&self) -> String {
        Never(self).to_string()
    }

    /// The attribute and its value, as `qmgr` says them, and where.
    fn rule(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = ", self.attribute())?;
        if let Limited::CardsOf(kind) = &self.of {
            write!(f, "{kind}=")?;
        }
        write!(f, "{} of {}", self.most, self.scope)?;
        match &self.of {
            Limited::CardHours { window } => write!(f, " within {window}"),
            Limited::Jobs | Limited::Cards | Limited::Cores | Limited::CardsOf(_) => Ok(()),
        }
    }
}

/// What it says and how far it is used: "max_user_cards = 4 of queue gpu: alice has 3 cards, the job wants 2 cards".
impl fmt::Display for RunLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rule(f)?;
        f.write_str(": ")?;
        match (&self.of, &self.whose) {
            (Limited::Jobs, LimitedOwner::All) if self.used == 1 => return f.write_str("1 runs"),
            (Limited::Jobs, LimitedOwner::All) => return write!(f, "{} run", self.used),
            (Limited::Jobs, LimitedOwner::User(name) | LimitedOwner::Group(name)) => {
                return write!(f, "{name} has {} running", self.used);
            }
            (_, LimitedOwner::User(name) | LimitedOwner::Group(name)) => write!(f, "{name} has ")?,
            (_, LimitedOwner::All) => f.write_str("all have ")?,
        }
        self.of.amount(f, self.used)?;
        match self.of {
            Limited::CardHours { .. } => f.write_str(" used or claimed, the job may use ")?,
            Limited::Jobs | Limited::Cards | Limited::Cores | Limited::CardsOf(_) => {
                f.write_str(", the job wants ")?;
            }
        }
        self.of.amount(f, self.wanted)
    }
}

/// As [`RunLimit::refusal`].
struct Never<'a>(&'a RunLimit);

impl fmt::Display for Never<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = self.0;
        let verb = match limit.of {
            Limited::CardHours { .. } => "may use",
            Limited::Jobs | Limited::Cards | Limited::Cores | Limited::CardsOf(_) => "asks for",
        };
        write!(f, "the job {verb} ")?;
        limit.of.amount(f, limit.wanted)?;
        f.write_str(", more than ")?;
        limit.rule(f)?;
        f.write_str(" ever lets run: ")?;
        match limit.of {
            Limited::CardHours { .. } => f.write_str("ask for fewer cards or a shorter walltime"),
            Limited::Jobs | Limited::Cards | Limited::Cores | Limited::CardsOf(_) => {
                f.write_str("ask for at most ")?;
                limit.of.amount(f, limit.most)
            }
        }
    }
}

impl fmt::Display for LimitScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queue(name) => write!(f, "queue {name}"),
            Self::Server => f.write_str("the server"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(of: Limited, whose: LimitedOwner, (most, used, wanted): (u64, u64, u64)) -> RunLimit {
        RunLimit {
            of,
            scope: LimitScope::Queue("gpu".into()),
            whose,
            most,
            used,
            wanted,
        }
    }

    #[test]
    fn a_limit_says_its_name_its_value_and_who_uses_how_much() {
        let check = |limit: RunLimit, expected: &str| assert_eq!(limit.to_string(), expected);
        let alice = || LimitedOwner::User("alice".into());
        check(
            limit(Limited::Cards, alice(), (4, 3, 2)),
            "max_user_cards = 4 of queue gpu: alice has 3 cards, the job wants 2 cards",
        );
        check(
            limit(
                Limited::CardsOf("a100".into()),
                LimitedOwner::All,
                (4, 4, 1),
            ),
            "max_cards_of = a100=4 of queue gpu: all have 4 a100 cards, the job wants 1 a100 card",
        );
        check(
            limit(
                Limited::Jobs,
                LimitedOwner::Group("vision".into()),
                (2, 2, 1),
            ),
            "max_group_run = 2 of queue gpu: vision has 2 running",
        );
        let window = Seconds(7 * 86_400);
        check(
            RunLimit {
                scope: LimitScope::Server,
                ..limit(Limited::CardHours { window }, alice(), (100, 90, 24))
            },
            "max_user_card_hours = 100 of the server within 168:00:00: alice has 90 card-hours used \
             or claimed, the job may use 24 card-hours",
        );
    }

    #[test]
    fn a_job_that_can_never_run_is_told_what_to_ask_for() {
        let alice = LimitedOwner::User("alice".into());
        assert_eq!(
            limit(Limited::Cards, alice, (4, 0, 8)).refusal(),
            "the job asks for 8 cards, more than max_user_cards = 4 of queue gpu ever lets run: ask for \
             at most 4 cards"
        );
    }
}
