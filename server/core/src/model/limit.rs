//! Limits on what may run at once, as the settings have them: of a queue and of the server, for all, for each user, for
//! each group. Who counts, and when, is the plan's; here is what there is to count, and what a job wants of it.

use capstan_types::{Attributes, Chunk, LimitScope, Limited, LimitedOwner, RunLimit, Seconds};

use super::share_policy::{SharePolicy, read_entry};
use super::{Job, JobSpec, Queue, Settings};

const HOUR_MS: u64 = 3_600_000;
/// In what cards are counted: a shared card counts by the part of it that is lent.
const WHOLE: u64 = 1000;

/// One limit that is set.
#[derive(Clone, Debug)]
pub(crate) struct LimitRule {
    pub(crate) of: Limited,
    pub(crate) scope: LimitScope,
    pub(crate) per: Per,
    /// In the unit of [`LimitRule::wanted`].
    pub(crate) most: u64,
    /// Users or groups for whom another number holds, in the same unit; the last one holds.
    pub(crate) exceptions: Vec<(Box<str>, u64)>,
}

/// Whose jobs a limit counts together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Per {
    /// Everybody's.
    All,
    /// Each user's.
    User,
    /// Each group's.
    Group,
}

impl Per {
    const EACH: [Self; 3] = [Self::All, Self::User, Self::Group];

    /// Who of the owners of `job` it is.
    pub(crate) fn owner_of(self, job: &JobSpec) -> LimitedOwner {
        match self {
            Self::All => LimitedOwner::All,
            Self::User => LimitedOwner::User(job.owner.user.clone()),
            Self::Group => LimitedOwner::Group(job.owner.group.clone()),
        }
    }
}

/// An entry of `limit_exceptions`, `WHO:ATTRIBUTE=NUMBER` (`alice:max_user_cards=16`, `nlp:max_group_cards_of=a100=8`): for
/// this user or group another number holds than the attribute says beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LimitException<'a> {
    pub(crate) who: &'a str,
    pub(crate) attribute: &'a str,
    /// Of a list by type: of which.
    pub(crate) kind: Option<&'a str>,
    /// In the unit of the attribute; the largest number for `unlimited`.
    pub(crate) most: u64,
}

impl<'a> LimitException<'a> {
    /// Reads one; `None` when it is none.
    pub(crate) fn read(text: &'a str) -> Option<Self> {
        let (who, rest) = text.split_once(':')?;
        let (attribute, value) = rest.split_once('=')?;
        let limits = |prefix: &str| {
            let limit = attribute.strip_prefix(prefix)?;
            const LIMITS: [&str; 6] = [
                "run",
                "queuable",
                "cards",
                "cores",
                "card_hours",
                "cards_of",
            ];
            LIMITS.contains(&limit).then_some(limit == "cards_of")
        };
        let is_by_type = limits("max_user_").or_else(|| limits("max_group_"))?;
        let (kind, number) = match is_by_type {
            true => {
                let (kind, number) = value.rsplit_once('=')?;
                (Some(kind), number)
            }
            false => (None, value),
        };
        let is_name = |name: &str| !name.is_empty() && !name.contains([' ', '=', ':']);
        if !is_name(who) || !kind.is_none_or(is_name) {
            return None;
        }
        let most = match number {
            "unlimited" => u64::MAX,
            number => number.parse().ok()?,
        };
        Some(Self {
            who,
            attribute,
            kind,
            most,
        })
    }
}

/// What `attribute` of a queue or the server allows `who`, a user or a group by the attribute's name.
pub(crate) fn limit_for(attributes: &Attributes, attribute: &str, who: &str) -> Option<u64> {
    let is_own = |own: &LimitException<'_>| own.attribute == attribute && own.who == who;
    let own = exceptions(attributes).filter(is_own).last();
    own.map_or_else(|| attributes.limit(attribute), |own| Some(own.most))
}

fn exceptions(attributes: &Attributes) -> impl Iterator<Item = LimitException<'_>> {
    let entries = attributes.list(EXCEPTIONS).iter();
    entries.filter_map(|entry| LimitException::read(entry))
}

/// The attribute for those who have limits of their own.
pub(crate) const EXCEPTIONS: &str = "limit_exceptions";

/// The limits for jobs of `queue`, in the order in which they are looked at: kind by kind as Torque's scheduler does,
/// those of the queue before those of the server.
pub(crate) fn rules(settings: &Settings, queue: Option<&Queue>) -> Vec<LimitRule> {
    let of_queue = queue.map(|queue| {
        let scope = LimitScope::Queue(queue.name.clone());
        rules_of(settings, &queue.attributes, &scope)
    });
    let mut rules = of_queue.unwrap_or_default();
    rules.extend(rules_of(
        settings,
        &settings.attributes,
        &LimitScope::Server,
    ));
    // Stable: of equal ones the queue's stays first.
    rules.sort_by_key(|rule| (rank(&rule.of), rule.per as u8));
    rules
}

const fn rank(of: &Limited) -> u8 {
    match of {
        Limited::Jobs => 0,
        Limited::Cards => 1,
        Limited::CardsOf(_) => 2,
        Limited::Cores => 3,
        Limited::CardHours { .. } => 4,
    }
}

fn rules_of(settings: &Settings, attributes: &Attributes, scope: &LimitScope) -> Vec<LimitRule> {
    if attributes.is_empty() {
        return Vec::new();
    }
    let window = SharePolicy::of(Some(settings)).window();
    let mut rules = Vec::new();
    // Who is an exception is limited also where nobody else is.
    let mut add = |of: Limited, per, (attribute, unit): (&str, u64), most: Option<u64>| {
        let kind = match &of {
            Limited::CardsOf(kind) => Some(&**kind),
            Limited::Jobs | Limited::Cards | Limited::Cores | Limited::CardHours { .. } => None,
        };
        let own =
            exceptions(attributes).filter(|own| own.attribute == attribute && own.kind == kind);
        let own = own.map(|own| (own.who.into(), own.most.saturating_mul(unit)));
        let exceptions: Vec<(Box<str>, u64)> = own.collect();
        if most.is_none() && exceptions.is_empty() {
            return;
        }
        rules.push(LimitRule {
            of,
            scope: scope.clone(),
            per,
            most: most.unwrap_or(u64::MAX),
            exceptions,
        });
    };
    let numbers = [
        (Limited::Jobs, 1),
        (Limited::Cards, WHOLE),
        (Limited::Cores, 1),
        (Limited::CardHours { window }, HOUR_MS),
    ];
    for (of, unit) in numbers {
        for (per, attribute) in Per::EACH.into_iter().zip(of.attributes()) {
            let most = attributes.limit(attribute);
            let most = most.map(|most| most.saturating_mul(unit));
            add(of.clone(), per, (attribute, unit), most);
        }
    }
    let lists = Limited::CardsOf(Box::default()).attributes();
    for (per, attribute) in Per::EACH.into_iter().zip(lists) {
        let entries = attributes.list(attribute).iter();
        let entries = entries.filter_map(|entry| read_entry(entry));
        let mut kinds: Vec<(Box<str>, Option<u64>)> =
            entries.map(|(kind, most)| (kind, Some(most))).collect();
        for own in exceptions(attributes).filter(|own| own.attribute == attribute) {
            let kind = own.kind.unwrap_or_default();
            if !kinds.iter().any(|(known, _)| **known == *kind) {
                kinds.push((kind.into(), None));
            }
        }
        for (kind, most) in kinds {
            add(Limited::CardsOf(kind), per, (attribute, WHOLE), most);
        }
    }
    rules
}

impl LimitRule {
    /// The number that holds for the owner of a job.
    fn most_for(&self, spec: &JobSpec) -> u64 {
        let who = match self.per {
            Per::All => return self.most,
            Per::User => &spec.owner.user,
            Per::Group => &spec.owner.group,
        };
        let own = self.exceptions.iter().rfind(|(name, _)| name == who);
        own.map_or(self.most, |(_, most)| *most)
    }

    /// What a job with this specification wants of it. Cards are counted in thousandths, card-hours in milliseconds.
    /// Of cards of one type it is those that it asks for by this name: which others it gets is known when it has them.
    pub(crate) fn wanted(&self, spec: &JobSpec) -> u64 {
        match &self.of {
            Limited::Jobs => 1,
            Limited::Cards => cards(spec).saturating_mul(WHOLE),
            Limited::Cores => cores(spec),
            Limited::CardHours { window } => {
                let secs = secs(spec).min(window.0);
                cards(spec).saturating_mul(secs.saturating_mul(1000))
            }
            Limited::CardsOf(kind) => cards_called(spec, kind).saturating_mul(WHOLE),
        }
    }

    /// Why it stands in the way of a job that wants so much, where so much is used already.
    pub(crate) fn reached(&self, spec: &JobSpec, used: u64, wanted: u64) -> RunLimit {
        let unit = match &self.of {
            Limited::Jobs | Limited::Cores => 1,
            Limited::Cards | Limited::CardsOf(_) => WHOLE,
            Limited::CardHours { .. } => HOUR_MS,
        };
        RunLimit {
            of: self.of.clone(),
            scope: self.scope.clone(),
            whose: self.per.owner_of(spec),
            most: self.most_for(spec) / unit,
            used: used.div_ceil(unit),
            wanted: wanted.div_ceil(unit),
        }
    }

    /// Whether a job with this specification could never run under it, however idle the cluster. That no job may run at
    /// all is another thing: such a limit stops a queue for a time, as in Torque.
    pub(crate) fn forbids(&self, spec: &JobSpec) -> Option<RunLimit> {
        let wanted = self.wanted(spec);
        let is_over = self.of != Limited::Jobs && wanted > self.most_for(spec);
        is_over.then(|| self.reached(spec, 0, wanted))
    }
}

/// Cards that a job asks for, over all its nodes.
pub(crate) fn cards(spec: &JobSpec) -> u64 {
    spec.nodes.as_ref().map_or(0, |nodes| nodes.card_count())
}

/// Cards that a job asks for by this name of their type.
fn cards_called(spec: &JobSpec, kind: &str) -> u64 {
    let chunks = spec.nodes.iter().flat_map(|nodes| &nodes.chunks);
    let is_called = |chunk: &&Chunk| {
        let mut words = chunk.properties.iter();
        words.any(|word| word.eq_ignore_ascii_case(kind))
    };
    let cards = |chunk: &Chunk| u64::from(chunk.node_count()) * u64::from(chunk.gpus);
    chunks.filter(is_called).map(cards).sum()
}

/// Slots that a job asks for, over all its nodes; one that asks for none gets one.
pub(crate) fn cores(spec: &JobSpec) -> u64 {
    let loose = spec.loose_slots.map(u64::from);
    let nodes = spec.nodes.as_ref().map(|nodes| nodes.slot_count());
    loose.or(nodes).unwrap_or(1)
}

/// For how long a job may run.
fn secs(spec: &JobSpec) -> u64 {
    let asked = spec.resources.seconds("walltime");
    asked.map_or(u64::MAX / 1000, |span: Seconds| span.0)
}

/// How long `job`, which runs since `elapsed_ms`, may have held its cards when it ends: milliseconds.
pub(crate) fn claimed_ms(job: &Job, elapsed_ms: u64) -> u64 {
    secs(&job.spec).saturating_mul(1000).max(elapsed_ms)
}
