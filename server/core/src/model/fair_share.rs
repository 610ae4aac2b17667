//! Who is owed what, at one moment: what each group and each user has used of late against the share that is theirs, and
//! one number for it. Running attempts count by what they have used so far, so that long jobs count while they run.
//!
//! Shares are shared out among those who want something: groups with waiting jobs among each other, and users with
//! waiting jobs within their group. Who wants nothing leaves his part to the others, and a user whose colleagues are idle
//! gets all of his group's.

use std::collections::BTreeMap;

use capstan_types::Timestamp;

use super::decay;
use super::share_policy::SharePolicy;
use super::{Job, State};

/// The factor of those who are owed most.
pub const FACTOR_MAX: u32 = 1_000_000;
/// The ratio of use to share of somebody whose share is nothing.
const NO_SHARE: f64 = 64.0;

/// Use and shares of all who have waiting jobs, running ones, or use that is not forgotten.
#[derive(Clone, Debug)]
pub struct FairShare {
    policy: SharePolicy,
    /// By name.
    groups: Vec<Group>,
    /// By group, then by name.
    users: Vec<User>,
    /// Of the groups with waiting jobs.
    competing: Sums,
}

#[derive(Clone, Debug)]
struct Group {
    name: Box<str>,
    /// Its users' place among all users.
    first: usize,
    behind: usize,
    /// Thousandths.
    share: u64,
    /// Thousandths of card-seconds.
    used: u64,
    /// Of its users with waiting jobs.
    competing: Sums,
}

#[derive(Clone, Debug)]
struct User {
    name: Box<str>,
    group: usize,
    share: u64,
    used: u64,
    is_waiting: bool,
}

/// How many compete, and what they have and have used together.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    count: usize,
    share: u128,
    used: u128,
}

/// Where one user stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// The group.
    pub group: Box<str>,
    /// The user.
    pub user: Box<str>,
    /// Whether he has jobs that could run now.
    pub is_waiting: bool,
    /// The group's share, thousandths.
    pub group_share: u64,
    /// What the group has used, thousandths of weighted card-seconds.
    pub group_used: u64,
    /// The group's part of the use of all groups that compete over its part of their shares; 1 is exactly its share.
    pub group_ratio: f64,
    /// The user's share within the group, thousandths.
    pub user_share: u64,
    /// What the user has used, thousandths of weighted card-seconds.
    pub user_used: u64,
    /// As the group's, among the users of the group who compete.
    pub user_ratio: f64,
    /// What follows for the order of jobs: [`FACTOR_MAX`] is owed most, half of it is exactly the share.
    pub factor: u32,
}

impl FairShare {
    /// Reckons for all of `state` at `now`.
    #[must_use]
    pub fn of(state: &State, now: Timestamp) -> Self {
        let policy = SharePolicy::of(state.settings().map(AsRef::as_ref));
        let mut found = Found::default();
        for spending in state.spendings() {
            let payer = &spending.payer;
            let used = spending.used_at(policy.half_life, now);
            found.entry(&payer.group, &payer.user).used += u128::from(used);
        }
        for (_, job) in state.running() {
            let run = job.state.run();
            let used = run.map_or(0, |run| policy.used_by(state, run, now));
            let owner = &job.spec.owner;
            found.entry(&owner.group, &owner.user).used += u128::from(used);
        }
        // All jobs of a row are one user's, and nothing of their own keeps them from starting.
        let firsts = state.rows().rows().map(|(_, row)| row.first.1);
        let others = state.rows().singles();
        let waiting = firsts.chain(others).filter_map(|id| state.waiting_job(id));
        for job in waiting.map(|waiting| &waiting.job) {
            if is_competing(job, now) {
                let owner = &job.spec.owner;
                found.entry(&owner.group, &owner.user).is_waiting = true;
            }
        }
        Self::made(policy, found)
    }

    fn made(policy: SharePolicy, found: Found<'_>) -> Self {
        let mut groups: Vec<Group> = Vec::new();
        let mut users = Vec::with_capacity(found.accounts.len());
        let accounts = found.accounts.into_iter();
        for ((group, user), index) in accounts {
            let Tally { used, is_waiting } = found.tallies[index];
            if groups.last().is_none_or(|last| *last.name != *group) {
                groups.push(Group {
                    name: group.into(),
                    first: users.len(),
                    behind: users.len(),
                    share: policy.group_share(group),
                    used: 0,
                    competing: Sums::default(),
                });
            }
            let at = groups.len() - 1;
            let own = User {
                name: user.into(),
                group: at,
                share: policy.user_share(group, user),
                used: u64::try_from(used).unwrap_or(u64::MAX),
                is_waiting,
            };
            let group = &mut groups[at];
            group.behind = users.len() + 1;
            group.used = group.used.saturating_add(own.used);
            if is_waiting {
                group.competing.add(own.share, own.used);
            }
            users.push(own);
        }
        let mut competing = Sums::default();
        for group in groups.iter().filter(|group| group.competing.count > 0) {
            competing.add(group.share, group.used);
        }
        Self {
            policy,
            groups,
            users,
            competing,
        }
    }

    /// The account of a user, for [`Self::factor_of`] and [`Self::charge_to`]; `None` for one of whom nothing is known.
    #[must_use]
    pub fn account(&self, user: &str, group: &str) -> Option<usize> {
        let group = &self.groups[self.find_group(group)?];
        let users = &self.users[group.first..group.behind];
        let at = users.binary_search_by(|own| (*own.name).cmp(user));
        at.ok().map(|at| group.first + at)
    }

    /// What a user is owed, from 0 to [`FACTOR_MAX`]: 2^-ratio, where the ratio is that of use to share. It is 1 for
    /// somebody who has had exactly his share; of group and user the mean counts where there is competition on both
    /// levels, else the one level that has some.
    #[must_use]
    pub fn factor(&self, user: &str, group: &str) -> u32 {
        match self.account(user, group) {
            Some(account) => self.factor_of(account),
            None => self.standing(user, group).factor,
        }
    }

    /// As [`Self::factor`], of an account.
    #[must_use]
    pub fn factor_of(&self, account: usize) -> u32 {
        let user = &self.users[account];
        let group = &self.groups[user.group];
        self.rated(Some(group), (user.share, user.used, user.is_waiting))
            .factor
    }

    /// Charges what a job that starts in this plan is going to use, [`Self::cost`], so that the next is somebody else's
    /// turn.
    pub fn charge(&mut self, user: &str, group: &str, cost: u64) {
        if let Some(account) = self.account(user, group) {
            self.charge_to(account, cost);
        }
    }

    /// As [`Self::charge`], to an account.
    pub fn charge_to(&mut self, account: usize, cost: u64) {
        let user = &mut self.users[account];
        let group = &mut self.groups[user.group];
        user.used = user.used.saturating_add(cost);
        group.used = group.used.saturating_add(cost);
        if user.is_waiting {
            group.competing.used += u128::from(cost);
        }
        if group.competing.count > 0 {
            self.competing.used += u128::from(cost);
        }
    }

    /// What a job costs that holds so many cards and cores for so many seconds: thousandths of weighted card-seconds.
    /// Which cards it gets is not known yet: each counts one.
    #[must_use]
    pub const fn cost(&self, cards: u32, cores: u32, secs: u64) -> u64 {
        self.policy.cost(cards, cores, secs)
    }

    /// Where a user stands, known or not.
    #[must_use]
    pub fn standing(&self, user: &str, group: &str) -> Standing {
        let found = self.find_group(group).map(|at| &self.groups[at]);
        let own = self.account(user, group).map(|at| &self.users[at]);
        let user_share = self.policy.user_share(group, user);
        let (user_used, is_waiting) = own.map_or((0, false), |own| (own.used, own.is_waiting));
        let group_share = self.policy.group_share(group);
        let rated = match found {
            Some(found) => self.rated(Some(found), (user_share, user_used, is_waiting)),
            None => self.rated_in(group_share, (user_share, user_used, is_waiting)),
        };
        Standing {
            group: group.into(),
            user: user.into(),
            is_waiting,
            group_share,
            group_used: found.map_or(0, |found| found.used),
            group_ratio: rated.group_ratio,
            user_share,
            user_used,
            user_ratio: rated.user_ratio,
            factor: rated.factor,
        }
    }

    /// Where everybody stands, by group, then by name.
    pub fn standings(&self) -> impl Iterator<Item = Standing> {
        self.users.iter().map(|user| {
            let group = &self.groups[user.group];
            self.standing(&user.name, &group.name)
        })
    }

    fn find_group(&self, name: &str) -> Option<usize> {
        self.groups
            .binary_search_by(|group| (*group.name).cmp(name))
            .ok()
    }

    /// A user of a group of which nothing is known.
    fn rated_in(&self, group_share: u64, user: (u64, u64, bool)) -> Rated {
        let group = Group {
            name: Box::default(),
            first: 0,
            behind: 0,
            share: group_share,
            used: 0,
            competing: Sums::default(),
        };
        self.rated(Some(&group), user)
    }

    /// Who does not compete is rated as if he did: as a job of his would be if he submitted it now.
    fn rated(&self, group: Option<&Group>, (share, used, is_waiting): (u64, u64, bool)) -> Rated {
        let Some(group) = group else {
            return Rated::even();
        };
        let mut users = group.competing;
        if !is_waiting {
            users.add(share, used);
        }
        let mut groups = self.competing;
        if group.competing.count == 0 {
            groups.add(group.share, group.used);
        }
        let group_ratio = groups.ratio(group.share, group.used);
        let user_ratio = users.ratio(share, used);
        let ratio = match (groups.count > 1, users.count > 1) {
            (true, true) => (group_ratio + user_ratio) / 2.0,
            (true, false) => group_ratio,
            (false, true) => user_ratio,
            (false, false) => 1.0,
        };
        Rated {
            group_ratio,
            user_ratio,
            factor: factor(ratio),
        }
    }
}

/// Whether a waiting job is one that could start now, were there room.
fn is_competing(job: &Job, now: Timestamp) -> bool {
    let has_any = job
        .array
        .as_ref()
        .is_none_or(|array| !array.waiting.is_empty());
    has_any && job.is_eligible(now)
}

/// Ratios and what follows from them.
struct Rated {
    group_ratio: f64,
    user_ratio: f64,
    factor: u32,
}

impl Rated {
    fn even() -> Self {
        Self {
            group_ratio: 1.0,
            user_ratio: 1.0,
            factor: factor(1.0),
        }
    }
}

impl Sums {
    fn add(&mut self, share: u64, used: u64) {
        self.count += 1;
        self.share += u128::from(share);
        self.used += u128::from(used);
    }

    /// The part of the use that is this one's over the part of the shares that is. Plain divisions of IEEE numbers: the
    /// same on every machine.
    fn ratio(&self, share: u64, used: u64) -> f64 {
        if self.used == 0 {
            return 1.0; // Nobody is ahead of anybody.
        }
        if share == 0 {
            return NO_SHARE;
        }
        let part_used = used as f64 / self.used as f64;
        let part_share = share as f64 / self.share as f64;
        part_used / part_share
    }
}

/// 2^-ratio of [`FACTOR_MAX`], rounded.
fn factor(ratio: f64) -> u32 {
    const BITS_32: f64 = 4_294_967_296.0;
    let exponent = (ratio.clamp(0.0, NO_SHARE) * BITS_32) as u64;
    let scaled = u128::from(decay::power(exponent)) * u128::from(FACTOR_MAX);
    ((scaled + u128::from(decay::ONE / 2)) >> 62) as u32
}

/// Accounts as they are found; most of them in runs of one owner's jobs.
#[derive(Default)]
struct Found<'a> {
    accounts: BTreeMap<(&'a str, &'a str), usize>,
    tallies: Vec<Tally>,
    last: Option<(&'a str, &'a str, usize)>,
}

#[derive(Clone, Copy, Default)]
struct Tally {
    used: u128,
    is_waiting: bool,
}

impl<'a> Found<'a> {
    fn entry(&mut self, group: &'a str, user: &'a str) -> &mut Tally {
        let at = match self.last {
            Some((of, name, at)) if of == group && name == user => at,
            Some(_) | None => {
                let tallies = &mut self.tallies;
                *self.accounts.entry((group, user)).or_insert_with(|| {
                    tallies.push(Tally::default());
                    tallies.len() - 1
                })
            }
        };
        self.last = Some((group, user, at));
        &mut self.tallies[at]
    }
}

#[cfg(test)]
mod tests;
