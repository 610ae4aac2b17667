//! How much may run at once: jobs, cards, cores, card-hours; of a user, of a group, of all; in a queue and on the whole
//! server. What runs is counted once a plan, by number and not by name, and each job that is placed is added. Where
//! nothing is limited, nothing is counted.

use std::collections::BTreeMap;
use std::sync::Arc;

use capstan_types::{LimitScope, Limited, QueueName, RunLimit, Timestamp, is_model};

use super::card_types::{CardTypes, limited_types};
use crate::model::limit::{LimitRule, Per, cards, claimed_ms, rules};
use crate::{Job, JobSpec, NodeShare, Run, ShareCard, SharePolicy, State};

/// What runs or starts in this plan, counted where a limit looks at it.
#[derive(Clone)]
pub(super) struct RunLimits<'a> {
    state: &'a State,
    /// All limits, each once.
    counted: Vec<Counted>,
    /// Of each queue for whose jobs there are limits: which, in their order.
    queues: Vec<Vec<usize>>,
    by_queue: BTreeMap<&'a QueueName, usize>,
    users: Names,
    groups: Names,
    /// The types of cards that are limited.
    types: Vec<Box<str>>,
    /// The owner and queue asked for last: jobs of one owner come together.
    last: Option<(Arc<JobSpec>, QueueName, Seat)>,
    /// The answer given last.
    reached: Option<Answer>,
    /// When card-hours that keep a job from starting are the first to be forgotten.
    look_again: Option<Timestamp>,
    now: Timestamp,
}

/// One limit, and how much of it is used, by number of the user or group.
#[derive(Clone)]
struct Counted {
    rule: LimitRule,
    used: Vec<u64>,
    /// For whom another number holds.
    exceptions: BTreeMap<usize, u64>,
}

/// Where a job counts.
#[derive(Clone, Copy)]
struct Seat {
    queue: usize,
    user: usize,
    group: usize,
}

/// A limit that was reached, by its number, with what it was asked.
#[derive(Clone)]
struct Answer {
    asked: (usize, usize, u64, u64),
    limit: Arc<RunLimit>,
}

/// Names by number.
#[derive(Clone, Default)]
struct Names(BTreeMap<Box<str>, usize>);

impl Names {
    fn number(&mut self, name: &str) -> usize {
        if let Some(number) = self.0.get(name) {
            return *number;
        }
        let number = self.0.len();
        self.0.insert(name.into(), number);
        number
    }
}

impl<'a> RunLimits<'a> {
    pub(super) fn of(state: &'a State, now: Timestamp) -> Self {
        let mut limits = Self {
            state,
            counted: Vec::new(),
            queues: Vec::new(),
            by_queue: BTreeMap::new(),
            users: Names::default(),
            groups: Names::default(),
            types: limited_types(state.settings().map(AsRef::as_ref)),
            last: None,
            reached: None,
            look_again: None,
            now,
        };
        limits.read_rules();
        if !limits.counted.is_empty() {
            for (_, job) in state.running() {
                limits.count_running(job, now);
            }
            limits.count_spent(now);
        }
        limits
    }

    fn read_rules(&mut self) {
        let Some(settings) = self.state.settings() else {
            return;
        };
        // Those of the server are the same for all queues, and are counted once.
        let mut of_server = Vec::new();
        for rule in rules(settings, None) {
            of_server.push(self.add(rule));
        }
        for queue in settings.queues.values() {
            let mut of_server = of_server.iter().copied();
            let mut numbers = Vec::new();
            for rule in rules(settings, Some(queue)) {
                let is_own = matches!(rule.scope, LimitScope::Queue(_));
                numbers.extend(match is_own {
                    true => Some(self.add(rule)),
                    false => of_server.next(),
                });
            }
            if !numbers.is_empty() {
                self.by_queue.insert(&queue.name, self.queues.len());
                self.queues.push(numbers);
            }
        }
    }

    fn add(&mut self, rule: LimitRule) -> usize {
        let names = match rule.per {
            Per::All | Per::User => &mut self.users,
            Per::Group => &mut self.groups,
        };
        let own = rule.exceptions.iter();
        let exceptions = own
            .map(|(name, most)| (names.number(name), *most))
            .collect();
        self.counted.push(Counted {
            rule,
            used: Vec::new(),
            exceptions,
        });
        self.counted.len() - 1
    }

    /// Takes a job into account that starts now, on these shares.
    pub(super) fn count(&mut self, job: &Job, shares: &[NodeShare]) {
        let Some(seat) = self.seat(job) else {
            return;
        };
        for number in &self.queues[seat.queue] {
            let counted = &mut self.counted[*number];
            let amount = match &counted.rule.of {
                Limited::CardsOf(kind) => cards_of(self.state, shares, kind),
                Limited::Jobs | Limited::Cards | Limited::Cores | Limited::CardHours { .. } => {
                    counted.rule.wanted(&job.spec)
                }
            };
            counted.add(seat, amount);
        }
    }

    /// Types of cards that a limit keeps from `job`, whatever it asked for, and the first such limit.
    pub(super) fn banned(&mut self, job: &Job) -> Option<(CardTypes, Arc<RunLimit>)> {
        if self.types.is_empty() {
            return None;
        }
        let wanted = cards(&job.spec).saturating_mul(1000);
        let seat = self.seat(job).filter(|_| wanted > 0)?;
        let mut banned = CardTypes::default();
        let mut first = None;
        for number in &self.queues[seat.queue] {
            let counted = &self.counted[*number];
            let Limited::CardsOf(kind) = &counted.rule.of else {
                continue;
            };
            let subject = seat.of(counted.rule.per);
            let used = counted.used.get(subject).copied().unwrap_or(0);
            if used.saturating_add(wanted) > counted.most(subject) {
                banned = banned.with(&self.types, kind);
                first.get_or_insert((*number, subject, used, wanted));
            }
        }
        let asked = first?;
        Some((banned, self.answer(asked, &job.spec)))
    }

    /// The first limit that keeps `job` from starting now.
    pub(super) fn reached(&mut self, job: &Job) -> Option<Arc<RunLimit>> {
        let seat = self.seat(job)?;
        for number in &self.queues[seat.queue] {
            let counted = &self.counted[*number];
            let subject = seat.of(counted.rule.per);
            let used = counted.used.get(subject).copied().unwrap_or(0);
            let wanted = counted.rule.wanted(&job.spec);
            if wanted > 0 && used.saturating_add(wanted) > counted.most(subject) {
                return Some(self.answer((*number, subject, used, wanted), &job.spec));
            }
        }
        None
    }

    /// Whether a limit may let a job go though nothing has happened: what is counted is forgotten with time.
    pub(super) fn forget(&self) -> bool {
        let mut rules = self.counted.iter().map(|counted| &counted.rule.of);
        rules.any(|of| matches!(of, Limited::CardHours { .. }))
    }

    /// When a job that waits for a limit might start though nothing has happened.
    pub(super) const fn look_again(&self) -> Option<Timestamp> {
        self.look_again
    }

    /// All limits that keep `job` from starting now.
    pub(super) fn all_reached(&mut self, job: &Job) -> Vec<Arc<RunLimit>> {
        let Some(seat) = self.seat(job) else {
            return Vec::new();
        };
        let over = self.queues[seat.queue].iter().filter_map(|number| {
            let counted = &self.counted[*number];
            let subject = seat.of(counted.rule.per);
            let used = counted.used.get(subject).copied().unwrap_or(0);
            let wanted = counted.rule.wanted(&job.spec);
            let is_over = wanted > 0 && used.saturating_add(wanted) > counted.most(subject);
            is_over.then(|| Arc::new(counted.rule.reached(&job.spec, used, wanted)))
        });
        over.collect()
    }

    /// Many jobs have one answer.
    fn answer(&mut self, asked: (usize, usize, u64, u64), spec: &JobSpec) -> Arc<RunLimit> {
        if let Some(last) = self.reached.as_ref().filter(|last| last.asked == asked) {
            return last.limit.clone();
        }
        let (number, _, used, wanted) = asked;
        if let (Limited::CardHours { .. }, None) = (&self.counted[number].rule.of, self.look_again)
        {
            let policy = SharePolicy::of(self.state.settings().map(AsRef::as_ref));
            let spendings = self.state.spendings();
            let next = spendings.filter_map(|spending| spending.next_forgotten(&policy, self.now));
            self.look_again = next.min();
        }
        let limit = Arc::new(self.counted[number].rule.reached(spec, used, wanted));
        let answer = limit.clone();
        self.reached = Some(Answer { asked, limit });
        answer
    }

    /// Where `job` counts; `None` when no limit holds for it.
    fn seat(&mut self, job: &Job) -> Option<Seat> {
        if self.by_queue.is_empty() {
            return None;
        }
        let is_last = |(spec, queue, _): &&(Arc<JobSpec>, QueueName, Seat)| {
            let (one, other) = (&spec.owner, &job.spec.owner);
            *queue == job.queue && one.user == other.user && one.group == other.group
        };
        if let Some((_, _, seat)) = self.last.as_ref().filter(is_last) {
            return Some(*seat);
        }
        let owner = &job.spec.owner;
        let seat = Seat {
            queue: *self.by_queue.get(&job.queue)?,
            user: self.users.number(&owner.user),
            group: self.groups.number(&owner.group),
        };
        self.last = Some((job.spec.clone(), job.queue.clone(), seat));
        Some(seat)
    }

    /// Takes a job into account that runs: what it holds, which may be another amount than it would ask for now.
    fn count_running(&mut self, job: &Job, now: Timestamp) {
        let (Some(run), Some(seat)) = (job.state.run(), self.seat(job)) else {
            return;
        };
        for number in &self.queues[seat.queue] {
            let counted = &mut self.counted[*number];
            let held = held(self.state, &counted.rule.of, (job, run), now);
            counted.add(seat, held);
        }
    }

    /// Takes into account what jobs that have ended have used of card-hours.
    fn count_spent(&mut self, now: Timestamp) {
        let is_of_hours = |counted: &Counted| matches!(counted.rule.of, Limited::CardHours { .. });
        if !self.counted.iter().any(is_of_hours) {
            return;
        }
        let policy = SharePolicy::of(self.state.settings().map(AsRef::as_ref));
        for spending in self.state.spendings() {
            let seat = Seat {
                queue: 0, // The limit says which.
                user: self.users.number(&spending.payer.user),
                group: self.groups.number(&spending.payer.group),
            };
            for counted in self
                .counted
                .iter_mut()
                .filter(|counted| is_of_hours(counted))
            {
                let queue = match &counted.rule.scope {
                    LimitScope::Queue(queue) => Some(queue),
                    LimitScope::Server => None,
                };
                let spent = spending.card_ms(&policy, queue, now);
                counted.add(seat, spent);
            }
        }
    }
}

impl Seat {
    const fn of(self, per: Per) -> usize {
        match per {
            Per::All => 0,
            Per::User => self.user,
            Per::Group => self.group,
        }
    }
}

impl Counted {
    fn most(&self, subject: usize) -> u64 {
        let own = self.exceptions.get(&subject).copied();
        own.unwrap_or(self.rule.most)
    }

    fn add(&mut self, seat: Seat, amount: u64) {
        let subject = seat.of(self.rule.per);
        if self.used.len() <= subject {
            self.used.resize(subject + 1, 0);
        }
        self.used[subject] = self.used[subject].saturating_add(amount);
    }
}

/// What a running job has of what a limit counts.
fn held(state: &State, of: &Limited, (job, run): (&Job, &Run), now: Timestamp) -> u64 {
    let cards = || run.shares.iter().flat_map(|share| &share.cards);
    let whole = || cards().map(thousandths).sum::<u64>();
    match of {
        Limited::Jobs => 1,
        Limited::Cards => whole(),
        Limited::Cores => run
            .shares
            .iter()
            .map(|share| share.slots.len() as u64)
            .sum(),
        Limited::CardHours { window } => {
            let elapsed_ms = now.0.saturating_sub(run.placed.0);
            let ms = claimed_ms(job, elapsed_ms).min(window.0.saturating_mul(1000));
            u64::try_from(u128::from(whole()) * u128::from(ms) / 1000).unwrap_or(u64::MAX)
        }
        Limited::CardsOf(kind) => cards_of(state, &run.shares, kind),
    }
}

/// Cards of one type in these shares, thousandths.
fn cards_of(state: &State, shares: &[NodeShare], kind: &str) -> u64 {
    let of_share = |share: &NodeShare| {
        let node = state.node(&share.node);
        let is_of_kind = |card: &&ShareCard| {
            let mut own = node.iter().flat_map(|node| &node.inventory.cards);
            own.any(|own| own.uuid == card.uuid && is_model(&own.model, kind))
        };
        share
            .cards
            .iter()
            .filter(is_of_kind)
            .map(thousandths)
            .sum::<u64>()
    };
    shares.iter().map(of_share).sum()
}

/// How much of a card is lent.
fn thousandths(card: &ShareCard) -> u64 {
    u64::from(card.share)
}
