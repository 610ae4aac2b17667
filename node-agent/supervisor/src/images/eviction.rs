//! Which images leave a full disk: those that were not used for longest, until there is room again; never one that a
//! container is made of, that a pull waits for, or that the site has pinned. A pure judgement over gathered facts.

use std::time::{Duration, SystemTime};

/// How full the disk for images may get, in parts of a hundred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    /// Above this, images leave …
    pub high_percent: u32,
    /// … until this.
    pub low_percent: u32,
}

/// The disk for images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// All of it.
    pub bytes: u64,
    /// What is not free for those who are not root.
    pub used_bytes: u64,
}

impl Disk {
    /// Parts of a hundred; a disk of no size is full.
    #[must_use]
    pub fn percent(self) -> u32 {
        let part = u128::from(self.used_bytes) * 100;
        u32::try_from(part.checked_div(u128::from(self.bytes)).unwrap_or(100)).unwrap_or(100)
    }
}

/// An image, as far as it may have to leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// `sha256:…`.
    pub id: String,
    /// `NAME:TAG`, any number of them.
    pub names: Vec<String>,
    /// What its leaving makes free at most: layers may be shared.
    pub bytes: u64,
    /// A container is made of it.
    pub in_use: bool,
    /// When a container was last made of it, or when it was first seen.
    pub used: SystemTime,
}

/// An image that was used a moment ago is about to be used again: between a pull and its container there is time.
const JUST_USED: Duration = Duration::from_secs(600);

/// The images that leave, in order. `pinned` are names, or beginnings of names with a star at their end.
#[must_use]
pub fn leaving<'a>(
    held: &'a [Held],
    disk: Disk,
    marks: Watermarks,
    pinned: &[String],
    now: SystemTime,
) -> Vec<&'a Held> {
    if disk.percent() <= marks.high_percent {
        return Vec::new();
    }
    let wanted = u128::from(disk.bytes) * u128::from(marks.low_percent.min(100)) / 100;
    let mut too_much = u128::from(disk.used_bytes).saturating_sub(wanted);
    let mut idle: Vec<&Held> = held
        .iter()
        .filter(|image| !image.in_use && !is_pinned(image, pinned))
        .filter(|image| {
            let age = now.duration_since(image.used);
            // A clock that went back: it is young.
            age.is_ok_and(|age| age > JUST_USED)
        })
        .collect();
    // Ties by id, so that two looks agree.
    idle.sort_by(|one, other| (one.used, &one.id).cmp(&(other.used, &other.id)));
    idle.into_iter()
        .take_while(|image| {
            let leaves = too_much > 0;
            too_much = too_much.saturating_sub(image.bytes.into());
            leaves
        })
        .collect()
}

fn is_pinned(image: &Held, pinned: &[String]) -> bool {
    image.names.iter().any(|name| {
        pinned.iter().any(|pin| match pin.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => *name == capstan_types::image_name(pin),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKS: Watermarks = Watermarks {
        high_percent: 80,
        low_percent: 60,
    };

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000)
    }

    /// 30 bytes, last used so many hours ago.
    fn image(id: &str, hours: u64) -> Held {
        Held {
            id: id.to_owned(),
            names: vec![format!("bit:5000/{id}:latest")],
            bytes: 30,
            in_use: false,
            used: now() - Duration::from_secs(hours * 3600),
        }
    }

    fn check(held: &[Held], used_bytes: u64, pinned: &[&str], expected: &[&str]) {
        let disk = Disk {
            bytes: 100,
            used_bytes,
        };
        let pinned: Vec<_> = pinned.iter().map(|&pin| pin.to_owned()).collect();
        let gone = leaving(held, disk, MARKS, &pinned, now());
        let gone: Vec<_> = gone.iter().map(|image| image.id.as_str()).collect();
        assert_eq!(gone, expected);
    }

    #[test]
    fn below_the_high_mark_nothing_leaves() {
        check(&[image("a", 900)], 80, &[], &[]);
    }

    #[test]
    fn the_longest_unused_leave_until_the_low_mark() {
        let held = [
            image("new", 1),
            image("old", 100),
            image("older", 200),
            image("mid", 50),
        ];
        check(&held, 90, &[], &["older"]);
        check(&held, 95, &[], &["older", "old"]);
    }

    #[test]
    fn what_is_in_use_pinned_or_just_used_never_leaves() {
        let mut running = image("running", 300);
        running.in_use = true;
        let held = [
            running,
            image("base", 200),
            image("site-x", 150),
            image("fresh", 0),
        ];
        check(&held, 99, &["bit:5000/base", "bit:5000/site-*"], &[]);
        check(&held, 99, &["bit:5000/site-*"], &["base"]);
    }

    #[test]
    fn a_disk_of_no_size_is_full_and_a_huge_one_is_counted_right() {
        assert_eq!(Disk::default().percent(), 100);
        let huge = Disk {
            bytes: u64::MAX,
            used_bytes: u64::MAX / 2,
        };
        assert_eq!(huge.percent(), 49);
    }
}
