//! What `qsub` and `qalter` check of the value of an option before the server sees it, as Torque's commands do. Each
//! function gives the value that is sent, or `None` for one that is refused.

use super::lists::{AtList, at_list};

/// Characters of a job's name at most.
const NAME_CHARACTERS_MAX: usize = 256;

/// A name for a job: printable characters without blanks.
pub(crate) fn job_name(text: &str) -> Option<&str> {
    let is_printable = |c: char| !c.is_whitespace() && !c.is_control();
    let is_name = !text.is_empty()
        && text.chars().all(is_printable)
        && text.chars().count() <= NAME_CHARACTERS_MAX;
    is_name.then_some(text)
}

/// One of these words.
pub(crate) fn one_of<'a>(text: &'a str, words: &[&str]) -> Option<&'a str> {
    words.contains(&text).then_some(text)
}

/// Text that begins with a number of at least 1, as C's `strtol` reads it; what stands behind is the server's to judge.
pub(crate) fn begins_positive(text: &str) -> Option<&str> {
    let digits = text.trim_start();
    let digits = digits.strip_prefix('+').unwrap_or(digits);
    let digits = digits.trim_end_matches(|c: char| !c.is_ascii_digit());
    let digits = digits
        .split(|c: char| !c.is_ascii_digit())
        .next()
        .unwrap_or("");
    digits.bytes().any(|b| b != b'0').then_some(text)
}

/// `-1024` to `1023`, with or without a sign.
pub(crate) fn priority(text: &str) -> Option<i32> {
    let text = text.trim_start();
    let priority = text.parse().ok()?;
    (-1024..=1023).contains(&priority).then_some(priority)
}

/// `n`, `p`, or letters of `abef`.
pub(crate) fn mail_points(text: &str) -> Option<&str> {
    let text = text.trim_start();
    let is_known = !text.is_empty() && text.bytes().all(|b| b"abef".contains(&b));
    (is_known || text == "n" || text == "p").then_some(text)
}

/// `none`, `shutdown`, `interval=5`, `c=10` … in a list.
pub(crate) fn checkpoint(text: &str) -> Option<&str> {
    const WORDS: &[&str] = &[
        "n", "c", "s", "u", "none", "shutdown", "periodic", "enabled", "interval", "depth", "dir",
    ];
    let text = text.trim_start();
    let is_known =
        |item: &str| WORDS.contains(&item.split('=').next().unwrap_or("").trim_end_matches(' '));
    (!text.is_empty() && text.split(',').all(is_known)).then_some(text)
}

/// `user[@host],…`.
pub(crate) fn users(text: &str) -> Option<&str> {
    at_list(text).map(|_| text)
}

/// `name[@host],…`, no host twice.
pub(crate) fn one_per_host(text: &str) -> Option<&str> {
    at_list(text)
        .filter(|list| list.is_one_per_host)
        .map(|_| text)
}

/// `path[@host],…`, no host twice.
pub(crate) fn shells(text: &str) -> Option<&str> {
    let is_right = |list: &AtList| list.is_one_per_host && list.is_absolute;
    at_list(text).filter(is_right).map(|_| text)
}

/// `local@host:remote,…`.
pub(crate) fn stage_list(text: &str) -> Option<&str> {
    let is_pair = |item: &str| {
        let parts = item
            .split_once('@')
            .and_then(|(local, rest)| Some((local, rest.split_once(':')?)));
        parts.is_some_and(|(local, (host, remote))| {
            !local.trim().is_empty() && !host.is_empty() && !remote.trim().is_empty()
        })
    };
    text.split(',').all(is_pair).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_may_have_something_behind_it() {
        let check = |text: &str, is_right: bool| {
            assert_eq!(begins_positive(text).is_some(), is_right, "{text:?}");
        };
        for right in ["5", " 7", "+1", "5x", "010", "99999999999999999999"] {
            check(right, true);
        }
        for bad in ["", "x", "0", "-3", "00", "x5", "- 3", "+-3"] {
            check(bad, false);
        }
    }

    #[test]
    fn stage_lists_have_three_parts() {
        let check = |text: &str, is_right: bool| {
            assert_eq!(stage_list(text).is_some(), is_right, "{text:?}");
        };
        check("a@hn1:/tmp/b", true);
        check("a@hn1:/tmp/b,c@hn1:d", true);
        // The second word belongs to the list, as in Torque.
        check("a@hn1:/tmp/b,stageout=c@hn1:/tmp/d", true);
        for bad in [
            "foo", "a@hn1", "a:b", "@hn1:b", "a@:b", "a@hn1:", "", "a@hn1:b,",
        ] {
            check(bad, false);
        }
    }

    #[test]
    fn checkpoint_words_come_in_lists() {
        for right in ["n", "c=10", "enabled,interval=5", "dir=/x", "shutdown , n"] {
            let right = right.replace(" ,", ",").replace(", ", ",");
            assert!(checkpoint(&right).is_some(), "{right}");
        }
        for bad in ["", "x", "n,", "interval5", "N"] {
            assert!(checkpoint(bad).is_none(), "{bad}");
        }
    }
}
