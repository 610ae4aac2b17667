//! The arithmetic of shares, on accounts that are given.

use super::*;
use crate::Settings;

const HOUR: u64 = 3_600_000;

/// Accounts `(group, user, used, is waiting)` under these `fairshare_shares`.
fn shares(shares: &str, accounts: &[(&'static str, &'static str, u64, bool)]) -> FairShare {
    let mut settings = Settings::new("hn1".into());
    settings.set("fairshare_shares", shares);
    let mut found = Found::default();
    for (group, user, used, is_waiting) in accounts {
        let tally = found.entry(group, user);
        tally.used = u128::from(*used);
        tally.is_waiting = *is_waiting;
    }
    FairShare::made(SharePolicy::of(Some(&settings)), found)
}

/// The use of each account when everybody always has work and whoever is owed most gets the next hour.
fn shared_out(mut shares: FairShare, hours: u32) -> Vec<u64> {
    let before: Vec<u64> = shares.users.iter().map(|user| user.used).collect();
    for _ in 0..hours {
        let waiting = (0..shares.users.len()).filter(|at| shares.users[*at].is_waiting);
        let next = waiting.max_by_key(|at| (shares.factor_of(*at), usize::MAX - at));
        shares.charge_to(next.unwrap(), HOUR);
    }
    let used = shares.users.iter().zip(before);
    used.map(|(user, before)| (user.used - before) / HOUR)
        .collect()
}

#[test]
fn exactly_the_share_is_half_and_nothing_used_is_owed_most() {
    let even = shares("", &[("g", "a", 500, true), ("g", "b", 500, true)]);
    assert_eq!(even.factor("a", "g"), 500_000);
    let uneven = shares("", &[("g", "a", 0, true), ("g", "b", 500, true)]);
    assert_eq!(uneven.factor("a", "g"), FACTOR_MAX);
    assert_eq!(uneven.factor("b", "g"), 250_000);
    let nothing = shares("", &[("g", "a", 0, true), ("h", "b", 0, true)]);
    assert_eq!(nothing.factor("a", "g"), 500_000);
}

#[test]
fn alone_nobody_is_ahead_of_his_share() {
    let alone = shares(
        "",
        &[
            ("g", "a", 9_999_999, true),
            ("g", "b", 5, false),
            ("h", "c", 7, false),
        ],
    );
    assert_eq!(alone.factor("a", "g"), 500_000);
}

#[test]
fn more_use_is_a_smaller_factor() {
    let mut shares = shares(
        "",
        &[
            ("g", "a", 0, true),
            ("g", "b", 0, true),
            ("h", "c", HOUR, true),
        ],
    );
    let mut last = shares.factor("a", "g");
    for _ in 0..100 {
        shares.charge("a", "g", HOUR / 10);
        let next = shares.factor("a", "g");
        assert!(next < last || next == 0, "{next} after {last}");
        last = next;
    }
}

#[test]
fn under_a_backlog_everybody_gets_his_share() {
    let four = [
        ("nlp", "carol", 0, true),
        ("vision", "alice", 0, true),
        ("vision", "bob", 0, true),
        ("vision", "dave", 0, true),
    ];
    let even = shares("", &four);
    assert_eq!(shared_out(even, 600), [300, 100, 100, 100]);
    let set = shares("vision=3,vision/alice=2", &four);
    assert_eq!(shared_out(set, 1600), [400, 600, 300, 300]);
}

/// A colleague who wants nothing costs a user nothing of the group's share.
#[test]
fn who_is_idle_leaves_his_share_to_his_group() {
    let idle = shares(
        "",
        &[
            ("g", "a", 0, true),
            ("g", "b", 0, false),
            ("h", "c", 0, true),
        ],
    );
    assert_eq!(shared_out(idle, 200), [100, 0, 100]);
}

#[test]
fn who_was_behind_catches_up_and_then_gets_his_share() {
    let behind = shares("", &[("g", "a", 100 * HOUR, true), ("g", "b", 0, true)]);
    assert_eq!(shared_out(behind, 300), [100, 200]);
}

#[test]
fn no_share_is_no_turn_while_others_wait() {
    let none = shares("g/a=0", &[("g", "a", 0, true), ("g", "b", 0, true)]);
    assert_eq!(
        shared_out(none, 51),
        [1, 50],
        "the first hour is nobody's turn"
    );
}

#[test]
fn a_stranger_stands_as_if_he_came_now() {
    let shares = shares("", &[("g", "a", HOUR, true), ("h", "b", HOUR, true)]);
    let standing = shares.standing("new", "i");
    assert_eq!((standing.factor, standing.user_used), (FACTOR_MAX, 0));
    assert_eq!(shares.factor("new", "i"), FACTOR_MAX);
    let colleague = shares.standing("new", "g");
    assert!(colleague.factor > shares.factor("a", "g"));
}

#[test]
fn what_users_have_used_adds_up_to_what_groups_have() {
    let shares = shares(
        "",
        &[
            ("g", "a", 3, true),
            ("g", "b", 4, false),
            ("h", "c", 5, false),
        ],
    );
    let standings: Vec<Standing> = shares.standings().collect();
    let used = |group: &str| -> u64 {
        let own = standings
            .iter()
            .filter(|standing| *standing.group == *group);
        own.map(|standing| standing.user_used).sum()
    };
    for standing in &standings {
        assert_eq!(used(&standing.group), standing.group_used);
    }
    assert_eq!(standings.len(), 3);
}

#[test]
fn the_largest_numbers_overflow_nothing() {
    let most = u64::MAX;
    let mut shares = shares(
        "g=1000000",
        &[("g", "a", most, true), ("h", "b", most, true)],
    );
    shares.charge("a", "g", most);
    assert!(shares.factor("a", "g") <= FACTOR_MAX);
    assert_eq!(shares.cost(u32::MAX, u32::MAX, most), most);
}
