//! Short names of images, as a site offers them. One pure function turns what somebody typed into what a registry knows;
//! whether that is a possible name at all is [`crate::image::is_image_name`]'s to say.

use std::collections::BTreeMap;

/// What a site calls its images.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageAliases {
    /// Whole names, without a tag.
    names: BTreeMap<String, String>,
    /// Beginnings, each with a slash at its end.
    beginnings: BTreeMap<String, String>,
}

/// An alias that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAlias {
    /// There are more of them than [`ImageAliases::COUNT_MAX`].
    #[error(
        "there are {count} aliases of images, more than {}",
        ImageAliases::COUNT_MAX
    )]
    TooMany {
        /// As written.
        count: usize,
    },
    /// It stands for no image, or for no place where images can be.
    #[error("alias {alias}: `{target}` is no name of an image")]
    Target {
        /// As written.
        alias: String,
        /// As written.
        target: String,
    },
    /// The beginning of names must stand for the beginning of names.
    #[error("alias {alias}: `{target}` must end with / as the alias does")]
    Slash {
        /// As written.
        alias: String,
        /// As written.
        target: String,
    },
    /// What is typed with a tag would never be it.
    #[error("alias {alias}: an alias has neither a tag nor a digest nor a blank in it")]
    Name {
        /// As written.
        alias: String,
    },
}

impl ImageAliases {
    /// The most aliases of a site.
    pub const COUNT_MAX: usize = 500;
    /// The longest name that is looked at.
    const NAME_BYTES_MAX: usize = 255;

    /// Takes them as written: `deepo` for `bit:5000/deepo_9`, `@site/` for `bit:5000/`.
    ///
    /// # Errors
    /// The first that cannot be.
    pub fn new(written: &BTreeMap<String, String>) -> Result<Self, BadAlias> {
        if written.len() > Self::COUNT_MAX {
            let count = written.len();
            return Err(BadAlias::TooMany { count });
        }
        let mut aliases = Self::default();
        for (alias, target) in written {
            check(alias, target)?;
            let kind = match alias.ends_with('/') {
                true => &mut aliases.beginnings,
                false => &mut aliases.names,
            };
            kind.insert(alias.clone(), target.clone());
        }
        Ok(aliases)
    }

    /// What `typed` stands for: a whole name first, then the longest beginning, else itself. What came out is not looked
    /// up again, so that no two aliases can go round in circles. A tag or digest that was typed wins over the alias's own.
    #[must_use]
    pub fn resolve(&self, typed: &str) -> String {
        Self::meant(typed, self.iter())
    }

    /// [`Self::resolve`] by aliases that were checked before, and are looked through only once.
    #[must_use]
    pub fn meant<'a>(typed: &str, aliases: impl Iterator<Item = (&'a str, &'a str)>) -> String {
        if typed.len() > Self::NAME_BYTES_MAX {
            return typed.to_owned();
        }
        let (bare, version) = split_version(typed);
        let mut longest: Option<(&str, &str)> = None;
        for (alias, target) in aliases {
            if alias == bare && !alias.ends_with('/') {
                return match version {
                    "" => target.to_owned(),
                    version => format!("{}{version}", split_version(target).0),
                };
            }
            let is_beginning =
                alias.ends_with('/') && typed.len() > alias.len() && typed.starts_with(alias);
            if is_beginning && longest.is_none_or(|(known, _)| alias.len() > known.len()) {
                longest = Some((alias, target));
            }
        }
        match longest {
            Some((beginning, target)) => format!("{target}{}", &typed[beginning.len()..]),
            None => typed.to_owned(),
        }
    }

    /// Whole names and beginnings with what they stand for, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.names.iter().chain(&self.beginnings);
        all.map(|(alias, target)| (alias.as_str(), target.as_str()))
    }
}

fn check(alias: &str, target: &str) -> Result<(), BadAlias> {
    let owned = || (alias.to_owned(), target.to_owned());
    let is_beginning = alias.ends_with('/');
    let bare = alias.trim_end_matches('/');
    let bare = bare.strip_prefix('@').unwrap_or(bare);
    // A port is no tag: only what stands behind the last slash counts, and a beginning may be a host with its port.
    let has_version = !is_beginning && !split_version(bare).1.is_empty();
    let is_plain = bare.bytes().all(|byte| byte.is_ascii_graphic()) && !bare.contains('@');
    if bare.is_empty() || has_version || !is_plain || alias.len() > ImageAliases::NAME_BYTES_MAX {
        let (alias, _) = owned();
        return Err(BadAlias::Name { alias });
    }
    if is_beginning && !target.ends_with('/') {
        let (alias, target) = owned();
        return Err(BadAlias::Slash { alias, target });
    }
    let sample = match is_beginning {
        true => format!("{target}x"),
        false => target.to_owned(),
    };
    match crate::is_image_name(&sample) {
        true => Ok(()),
        false => {
            let (alias, target) = owned();
            Err(BadAlias::Target { alias, target })
        }
    }
}

/// A name and its tag or digest, with the sign before it; a port is part of the name.
fn split_version(name: &str) -> (&str, &str) {
    // The digest's sign is never at the front: that is how a site's own names may begin.
    if let Some(at) = name.rfind('@').filter(|&at| at > 0) {
        return name.split_at(at);
    }
    let last = name.rfind('/').map_or(0, |at| at + 1);
    match name[last..].find(':') {
        Some(colon) => name.split_at(last + colon),
        None => (name, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aliases(written: &[(&str, &str)]) -> Result<ImageAliases, BadAlias> {
        let written = written
            .iter()
            .map(|&(alias, target)| (alias.to_owned(), target.to_owned()));
        ImageAliases::new(&written.collect())
    }

    fn check_resolved(typed: &str, expected: &str) {
        let aliases = aliases(&[
            ("deepo", "bit:5000/deepo_9:2019"),
            ("bit:5000/", "registry.lab:5001/old/"),
            ("bit:5000/new/", "registry.lab:5001/"),
            ("@site/", "registry.lab:5001/site/"),
            ("lab/torch", "registry.lab:5001/torch"),
            ("@cuda", "nvidia/cuda:12.4.1-base-ubuntu22.04"),
            ("loop", "loop:1"),
        ]);
        assert_eq!(aliases.unwrap().resolve(typed), expected, "{typed}");
    }

    #[test]
    fn a_whole_name_stands_for_an_image_and_a_typed_tag_wins() {
        check_resolved("deepo", "bit:5000/deepo_9:2019");
        check_resolved("deepo:2020", "bit:5000/deepo_9:2020");
        check_resolved("lab/torch:2.5", "registry.lab:5001/torch:2.5");
        check_resolved("@cuda", "nvidia/cuda:12.4.1-base-ubuntu22.04");
        check_resolved("@cuda:12", "nvidia/cuda:12");
    }

    #[test]
    fn the_longest_beginning_is_replaced() {
        check_resolved("bit:5000/deepo", "registry.lab:5001/old/deepo");
        check_resolved("bit:5000/new/a:1", "registry.lab:5001/a:1");
        check_resolved(
            "@site/a/b@sha256:00",
            "registry.lab:5001/site/a/b@sha256:00",
        );
    }

    #[test]
    fn what_is_no_alias_stays_as_it_was_typed() {
        for typed in [
            "",
            "deep",
            "deepo/x",
            "bit:5000/",
            "@site",
            "@other/x",
            "a b",
            "busybox",
        ] {
            check_resolved(typed, typed);
        }
        let endless = format!("@site/{}", "x".repeat(300));
        check_resolved(&endless, &endless);
    }

    #[test]
    fn what_comes_out_is_not_looked_up_again() {
        check_resolved("loop", "loop:1");
    }

    #[test]
    fn an_alias_that_cannot_be_is_named() {
        let refused = |alias: &str, target: &str, word: &str| {
            let problem = aliases(&[(alias, target)]).unwrap_err().to_string();
            assert!(problem.contains(word), "{alias} = {target}: {problem}");
        };
        refused("a:1", "b", "neither a tag");
        refused("a b", "b", "neither a tag");
        refused("@", "b", "neither a tag");
        refused("a", "b c", "`b c` is no name");
        refused("a", "b; rm -rf /", "no name");
        refused("@site/", "bit:5000", "must end with /");
        refused("@site/", "../", "no name");
        refused("@site/", "/", "no name");
    }
}
