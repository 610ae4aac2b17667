//! Access lists as Torque keeps and reads them: users and hosts in an order of their own, the first entry that matches
//! decides.

use std::cmp::Ordering;

/// An access list: comma-separated patterns, each with an optional `+` (allow, as without it) or `-` (deny).
#[derive(Clone, Copy, Debug)]
pub struct AccessList<'a>(pub &'a [Box<str>]);

impl AccessList<'_> {
    /// Whether `user` on `host` is allowed. An entry without a host means any. No entry allows nobody.
    #[must_use]
    pub fn allows_user(self, user: &str, host: &str) -> bool {
        self.first_match(|pattern| match pattern.split_once('@') {
            None => pattern == user,
            Some((name, on)) => name == user && matches_host(on, host),
        })
    }

    /// Whether `host` is allowed.
    #[must_use]
    pub fn allows_host(self, host: &str) -> bool {
        self.first_match(|pattern| matches_host(pattern, host))
    }

    /// Whether any of `groups` is allowed; groups are compared whole.
    #[must_use]
    pub fn allows_group(self, group: &str) -> bool {
        self.first_match(|pattern| pattern == group)
    }

    fn first_match(self, is_it: impl Fn(&str) -> bool) -> bool {
        let mut by_default = false;
        for entry in self.0 {
            let (allows, pattern) = match entry.strip_prefix('-') {
                Some(rest) => (false, rest),
                None => (true, entry.strip_prefix('+').unwrap_or(entry)),
            };
            if pattern.is_empty() {
                by_default = allows;
            } else if is_it(pattern) {
                return allows;
            }
        }
        by_default
    }
}

/// Whether `host` is what `pattern` says: case does not count, `*` stands for anything from there to the pattern's rest,
/// `[2-7]` for a number.
fn matches_host(pattern: &str, host: &str) -> bool {
    let mut rest = pattern;
    let mut host = host;
    while let Some(first) = rest.chars().next() {
        match first {
            '*' => {
                let tail = &rest[1..];
                return tail.is_empty()
                    || host
                        .char_indices()
                        .any(|(at, _)| host[at..].eq_ignore_ascii_case(tail));
            }
            '[' => {
                let Some((range, behind)) = rest[1..].split_once(']') else {
                    return false;
                };
                let digits = host.bytes().take_while(u8::is_ascii_digit).count();
                if !in_range(range, &host[..digits]) {
                    return false;
                }
                (rest, host) = (behind, &host[digits..]);
            }
            _ => {
                let Some(other) = host.chars().next() else {
                    return false;
                };
                if !first.eq_ignore_ascii_case(&other) {
                    return false;
                }
                (rest, host) = (&rest[first.len_utf8()..], &host[other.len_utf8()..]);
            }
        }
    }
    host.is_empty()
}

fn in_range(range: &str, number: &str) -> bool {
    let bounds = range.split_once('-');
    let bounds = bounds.and_then(|(low, high)| Some((low.parse().ok()?, high.parse().ok()?)));
    match (bounds, number.parse::<u64>()) {
        (Some((low, high)), Ok(number)) => (low..=high).contains(&number),
        (None, _) | (_, Err(_)) => false,
    }
}

/// Puts `entry` where Torque would: before the first that belongs behind it.
pub(super) fn insert(
    list: &mut Vec<Box<str>>,
    entry: Box<str>,
    order: impl Fn(&str, &str) -> Ordering,
) {
    let at = list.iter().position(|old| order(old, &entry).is_gt());
    list.insert(at.unwrap_or(list.len()), entry);
}

fn without_sign(entry: &str) -> &str {
    entry.strip_prefix(['+', '-']).unwrap_or(entry)
}

/// Users by name, then by host.
pub(super) fn user_order(one: &str, other: &str) -> Ordering {
    let split = |entry| {
        let entry = without_sign(entry);
        entry.split_once('@').unwrap_or((entry, ""))
    };
    let ((name, host), (other_name, other_host)) = (split(one), split(other));
    name.cmp(other_name)
        .then_with(|| host_order(host, other_host))
}

/// Hosts by their ends, so that narrower patterns stand before wider ones.
pub(super) fn host_order(one: &str, other: &str) -> Ordering {
    let reversed = |entry| without_sign(entry).bytes().rev().collect::<Vec<u8>>();
    let (one, other) = (reversed(one), reversed(other));
    let common = one.len().min(other.len());
    // Letters that come later stand first, and what goes on stands before what has ended.
    other[..common]
        .cmp(&one[..common])
        .then_with(|| other.len().cmp(&one.len()))
}
