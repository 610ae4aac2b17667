//! What the site has said of fair share: how fast use is forgotten, what a card or a core counts, who has which share.
//! The lists are text in the settings; here they are numbers.

use capstan_types::{CardWish, Seconds, Timestamp, is_model};

use super::decay::HalfLife;
use super::{NodeShare, Run, Settings, State};

/// Half of all use is forgotten in so long when nobody says: a week, as is usual (Slurm's `PriorityDecayHalfLife`).
const HALF_LIFE_SECS: u64 = 7 * 86_400;
/// How far limits of card-hours look back when nobody says.
const WINDOW_SECS: u64 = 7 * 86_400;
/// The shortest such window: each of its parts is longer than a minute then.
const WINDOW_SECS_MIN: u64 = 3600;
/// A core counts a twentieth of a card when nobody says: nodes have some 16 cores a card.
const CORE_WEIGHT: u64 = 50;
/// What a card counts whose type has no weight; also a share that nobody set.
const UNIT: u64 = 1000;
/// The largest weight or share, thousandths.
const WEIGHT_MAX: u64 = 1_000_000 * UNIT;

/// What the site has said of fair share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharePolicy {
    pub(super) half_life: HalfLife,
    pub(super) window_ms: u64,
    /// Thousandths of a card.
    core_weight: u64,
    /// Type of card and its weight in thousandths; the first that fits counts.
    card_weights: Vec<(Box<str>, u64)>,
    /// `group` or `group/user`, and the share in thousandths, by name.
    shares: Vec<(Box<str>, u64)>,
}

impl SharePolicy {
    /// Into so many parts the window of card-hours is cut: use leaves it part by part.
    pub(super) const SPELLS: u64 = 24;

    /// What `settings` say, and else the defaults. What cannot be read was refused when it was set, and counts as not
    /// said.
    #[must_use]
    pub fn of(settings: Option<&Settings>) -> Self {
        let attributes = settings.map(|settings| &settings.attributes);
        let text = |name| attributes.and_then(|attributes| attributes.text(name));
        let list = |name| {
            let items = attributes.map_or(&[][..], |attributes| attributes.list(name));
            let read = items.iter().filter_map(|item| read_entry(item));
            read.collect::<Vec<_>>()
        };
        let secs = |name, default| text(name).and_then(read_secs).unwrap_or(default);
        let window_secs = secs("card_hours_window", WINDOW_SECS).max(WINDOW_SECS_MIN);
        let mut shares = list("fairshare_shares");
        // A name that is there twice has the share that was said last.
        shares.reverse();
        shares.sort_by(|(one, _), (other, _)| one.cmp(other));
        shares.dedup_by(|later, kept| later.0 == kept.0);
        Self {
            half_life: HalfLife(secs("fairshare_half_life", HALF_LIFE_SECS) * 1000),
            window_ms: window_secs * 1000,
            core_weight: text("fairshare_core_weight")
                .and_then(read_thousandths)
                .unwrap_or(CORE_WEIGHT),
            card_weights: list("fairshare_card_weights"),
            shares,
        }
    }

    /// Half of all use is forgotten in so many seconds; 0 for never.
    #[must_use]
    pub const fn half_life_secs(&self) -> u64 {
        self.half_life.0 / 1000
    }

    /// How long one part of the window is, milliseconds.
    pub(super) const fn spell_ms(&self) -> u64 {
        self.window_ms / Self::SPELLS
    }

    /// How far limits of card-hours look back.
    pub(crate) const fn window(&self) -> Seconds {
        Seconds(self.window_ms / 1000)
    }

    /// The share of a group, thousandths.
    pub(super) fn group_share(&self, group: &str) -> u64 {
        let at = self
            .shares
            .binary_search_by(|(name, _)| (**name).cmp(group));
        at.map_or(UNIT, |at| self.shares[at].1)
    }

    /// The share of a user among those of his group, thousandths.
    pub(super) fn user_share(&self, group: &str, user: &str) -> u64 {
        let is_it = |name: &str| {
            let split = name.rsplit_once('/');
            split.is_some_and(|(of, name)| of == group && name == user)
        };
        let mut found = self.shares.iter().filter(|(name, _)| is_it(name));
        found.next().map_or(UNIT, |(_, share)| *share)
    }

    /// What a job counts that holds so many cards of no known type and so many cores for `secs`: thousandths of
    /// card-seconds.
    pub(super) const fn cost(&self, cards: u32, cores: u32, secs: u64) -> u64 {
        let cards = (cards as u64).saturating_mul(UNIT);
        let cores = (cores as u64).saturating_mul(self.core_weight);
        let rate = if cards > cores { cards } else { cores };
        rate.saturating_mul(secs)
    }

    /// What an attempt has used since it was placed, as much as is left of it at `now`: thousandths of card-seconds.
    pub(super) fn used_by(&self, state: &State, run: &Run, now: Timestamp) -> u64 {
        let elapsed_ms = now.0.saturating_sub(run.placed.0);
        let used =
            u128::from(self.rate(state, run)) * u128::from(self.half_life.weighed(elapsed_ms));
        u64::try_from(used / 1000).unwrap_or(u64::MAX)
    }

    /// How much an attempt uses, thousandths of a card: its cards or its cores, whichever count more. So a job that takes
    /// all cores of a node counts even when it takes one card, and no job counts twice.
    fn rate(&self, state: &State, run: &Run) -> u64 {
        let cards = run
            .shares
            .iter()
            .map(|share| self.weight_of_cards(state, share));
        let cards = cards.fold(0, u64::saturating_add);
        let cores: u64 = run
            .shares
            .iter()
            .map(|share| share.slots.len() as u64)
            .sum();
        cards.max(cores.saturating_mul(self.core_weight))
    }

    fn weight_of_cards(&self, state: &State, share: &NodeShare) -> u64 {
        if self.card_weights.is_empty() {
            return share.cards.iter().map(|card| u64::from(card.share)).sum();
        }
        let node = state.node(&share.node);
        let weight = |card: &super::ShareCard| {
            let mut own = node.iter().flat_map(|node| &node.inventory.cards);
            let model = own.find(|own| own.uuid == card.uuid);
            let weight = model.map_or(UNIT, |own| self.card_weight(&own.model));
            weight * u64::from(card.share) / u64::from(CardWish::WHOLE)
        };
        let cards = share.cards.iter().map(weight);
        cards.fold(0, u64::saturating_add)
    }

    fn card_weight(&self, model: &str) -> u64 {
        let mut weights = self.card_weights.iter();
        let found = weights.find(|(word, _)| is_model(model, word));
        found.map_or(UNIT, |(_, weight)| *weight)
    }
}

/// Reads `NAME=NUMBER`, an entry of a list of shares or weights; the number as [`read_thousandths`].
#[must_use]
pub(crate) fn read_entry(text: &str) -> Option<(Box<str>, u64)> {
    let (name, number) = text.rsplit_once('=')?;
    let name = name.trim();
    let is_fit = !name.is_empty() && !name.contains([' ', '=']);
    let number = read_thousandths(number.trim())?;
    is_fit.then(|| (name.into(), number))
}

/// Reads a number from 0 to a million with at most three digits behind the point: thousandths.
#[must_use]
pub(crate) fn read_thousandths(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let are_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !are_digits(whole) || !are_digits(fraction) || fraction.len() > 3 {
        return None;
    }
    let fraction: u64 = format!("{fraction:0<3}").parse().ok()?;
    let whole: u64 = whole.parse().ok()?;
    let all = whole.checked_mul(UNIT)?.checked_add(fraction)?;
    (all <= WEIGHT_MAX).then_some(all)
}

/// Reads a span: seconds, or `[DD:]HH:MM:SS`.
#[must_use]
pub(crate) fn read_secs(text: &str) -> Option<u64> {
    Seconds::parse(text.trim()).ok().map(|span| span.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_at_most_three_digits_behind_the_point() {
        let check = |text, expected| assert_eq!(read_thousandths(text), expected, "{text}");
        check("2", Some(2000));
        check("0.05", Some(50));
        check("1.125", Some(1125));
        check("1000000", Some(1_000_000_000));
        for bad in [
            "",
            ".",
            "1.",
            ".5",
            "-1",
            "1.2345",
            "1000001",
            "1e3",
            "x",
            "99999999999999999999",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn an_entry_is_a_name_and_a_number() {
        let check = |text, expected: Option<(&str, u64)>| {
            let read = read_entry(text);
            let read = read.as_ref().map(|(name, number)| (&**name, *number));
            assert_eq!(read, expected, "{text}");
        };
        check("vision=3", Some(("vision", 3000)));
        check("vision/alice=0.5", Some(("vision/alice", 500)));
        for bad in ["vision", "=3", "vision=", "vision=x", "a b=3", "a=b=3"] {
            check(bad, None);
        }
    }
}
