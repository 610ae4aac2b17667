//! The paths of `-o` and `-e`: `[host:]path`, made absolute and with the host in front, as Torque's commands send them.

use std::path::Path;

/// Where output paths begin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin<'a> {
    /// The host that is meant when none is named.
    pub(crate) host: &'a str,
    /// The folder that relative paths are seen from.
    pub(crate) folder: &'a str,
    /// The home folder.
    pub(crate) home: Option<&'a str>,
}

/// `[host:]path` as it is sent; `None` for what cannot be a path. With a host the path is left as it is; without one
/// it is made absolute, and a folder that exists here gets a slash behind it, which asks for the default name in it.
/// A host alone (`host:`) asks for the default path there.
pub(crate) fn output_path(typed: &str, origin: &Origin<'_>) -> Option<String> {
    let typed = typed.trim_start();
    let is_host = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
    };
    if typed.is_empty() || typed.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return None;
    }
    match typed.split_once(':') {
        Some(("", "")) => None,
        Some(("", path)) => Some(format!("{}:{path}", origin.host)),
        Some((host, _)) if is_host(host) => Some(typed.to_owned()),
        // A colon behind the first folder's name is no host's and no path's, as Torque sees it.
        Some((path, _)) if path.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '.') => {
            None
        }
        _ => {
            let mut path = join(origin.folder, &origin.expanded(typed));
            if !path.ends_with('/') && Path::new(&path).is_dir() {
                path.push('/');
            }
            Some(format!("{}:{path}", origin.host))
        }
    }
}

impl Origin<'_> {
    /// A path that begins with a variable known to be a folder, with the folder in its place. Torque would take
    /// `$PBS_O_WORKDIR/x` for a relative path and write to `/work/folder//work/folder/x`. Other variables are the node's.
    fn expanded(&self, path: &str) -> String {
        let folders = [
            ("HOME", self.home),
            ("PBS_O_HOME", self.home),
            ("PBS_O_WORKDIR", Some(self.folder)),
        ];
        let rest = |name: &str| {
            let rest = path.strip_prefix(&format!("${name}"));
            let rest = rest.or_else(|| path.strip_prefix(&format!("${{{name}}}")));
            rest.filter(|rest| rest.starts_with('/'))
        };
        let found = folders
            .iter()
            .find_map(|(name, folder)| Some((rest(name)?, (*folder)?)));
        match found {
            Some((rest, folder)) => format!("{}{rest}", folder.trim_end_matches('/')),
            None => path.to_owned(),
        }
    }
}

/// `path` seen from `folder`.
pub(crate) fn join(folder: &str, path: &str) -> String {
    match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("{}/{path}", folder.trim_end_matches('/')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_absolute_unless_a_host_is_named() {
        let origin = Origin {
            host: "hn1",
            folder: "/home/alice",
            home: Some("/home/alice"),
        };
        let check = |typed: &str, expected: Option<&str>| {
            assert_eq!(
                output_path(typed, &origin).as_deref(),
                expected,
                "{typed:?}"
            );
        };
        check("x", Some("hn1:/home/alice/x"));
        check(" x", Some("hn1:/home/alice/x"));
        check("/tmp", Some("hn1:/tmp/"));
        check("/tmp/", Some("hn1:/tmp/"));
        check("other:rel", Some("other:rel"));
        check("other:", Some("other:"));
        check(":rel", Some("hn1:rel"));
        check("/a:b", Some("hn1:/a:b"));
        check("$X:b", Some("hn1:/home/alice/$X:b"));
        check("$HOME/x", Some("hn1:/home/alice/x"));
        check("${PBS_O_WORKDIR}/x", Some("hn1:/home/alice/x"));
        for bad in ["", " ", ":", "a b", "a/b:c", "a\u{1b}b"] {
            check(bad, None);
        }
    }
}
