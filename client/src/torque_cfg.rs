//! The site's file of client settings, in the form and with the keys of Torque's `torque.cfg`: one `KEY VALUE` a line.
//! Decides which file counts and who may have written it; what a key means is its user's to know.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::command::Environment;

/// Another file than the site's, for trying one out. It counts only when root or the owner of this program wrote it, and
/// before the site's own only for these two: a submit filter is the site's rule, and a variable is the user's, who would
/// name any file of root's to be rid of the filter.
pub(crate) const FILE_VARIABLE: &str = "CAPSTAN_TORQUE_CFG";
const FILE_DEFAULT: &str = "/etc/capstan/torque.cfg";
/// In an installation under one folder, from the folder of its programs.
const FILE_BESIDE: &str = "../etc/torque.cfg";
/// How much of a file is read.
const BYTES_MAX: u64 = 64 << 10;

/// The settings of the file, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct SiteFile(Vec<(String, String)>);

impl SiteFile {
    /// Reads the text of a file; lines without a value and comments (`#`) say nothing.
    pub(crate) fn parse(text: &str) -> Self {
        let pair = |line: &str| {
            let mut words = line.split_ascii_whitespace();
            let key = words.next().filter(|key| !key.starts_with('#'))?;
            Some((key.to_owned(), words.next()?.to_owned()))
        };
        Self(text.lines().filter_map(pair).collect())
    }

    /// The value of a key; the first of two counts, as in Torque.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        let found = self.0.iter().find(|(name, _)| name == key);
        found.map(|(_, value)| value.as_str())
    }

    /// Whether a key has this value, in any case.
    pub(crate) fn is(&self, key: &str, value: &str) -> bool {
        self.get(key)
            .is_some_and(|found| found.eq_ignore_ascii_case(value))
    }
}

/// The settings of the file that counts here; none when there is no such file.
pub(crate) fn load(env: &Environment) -> SiteFile {
    let named = env.get(FILE_VARIABLE).map(PathBuf::from);
    let beside = std::env::current_exe().ok();
    let beside = beside.and_then(|program| Some(program.parent()?.join(FILE_BESIDE)));
    let sites = [beside, Some(PathBuf::from(FILE_DEFAULT))];
    let text = first(named, sites, rules_here(nix::unistd::getuid().as_raw()));
    text.map(|text| SiteFile::parse(&text)).unwrap_or_default()
}

/// The text of the file that counts: the one that a variable names before those of the site, or only when there are none.
fn first(named: Option<PathBuf>, sites: [Option<PathBuf>; 2], is_free: bool) -> Option<String> {
    let [beside, default] = sites;
    let candidates = match is_free {
        true => [named, beside, default],
        false => [beside, default, named],
    };
    candidates.iter().flatten().find_map(|path| read(path))
}

/// Whether this user may set the site's settings aside: root, or the owner of this program.
fn rules_here(uid: u32) -> bool {
    let owner = std::fs::metadata("/proc/self/exe").map(|program| program.uid());
    uid == 0 || owner.is_ok_and(|owner| owner == uid)
}

/// The text of a file that only root or the owner of this program can have written.
fn read(path: &Path) -> Option<String> {
    let file = File::open(path).ok()?;
    let found = file.metadata().ok()?;
    let owner = std::fs::metadata("/proc/self/exe").map(|program| program.uid());
    let is_owners = found.uid() == 0 || owner.is_ok_and(|owner| owner == found.uid());
    if !found.is_file() || !is_owners || found.mode() & 0o022 != 0 {
        return None;
    }
    let mut text = String::new();
    file.take(BYTES_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_line_is_a_key_and_a_word() {
        let file = SiteFile::parse(
            "# SUBMITFILTER /bad\nSUBMITFILTER\t/opt/filter rest\nVALIDATEPATH False\nEMPTY\n\nVALIDATEPATH true\n",
        );
        assert_eq!(file.get("SUBMITFILTER"), Some("/opt/filter"));
        assert!(file.is("VALIDATEPATH", "false") && !file.is("VALIDATEPATH", "true"));
        assert_eq!((file.get("EMPTY"), file.get("NOSUCH")), (None, None));
    }

    #[test]
    fn a_variable_does_not_rid_a_user_of_the_sites_settings() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
            Some(path)
        };
        let (named, site) = (file("named", "A 1\n"), file("site", "SUBMITFILTER /f\n"));
        let check = |sites, is_free, expected: &str| {
            let text = first(named.clone(), sites, is_free);
            assert_eq!(text.as_deref(), Some(expected));
        };
        check([None, site.clone()], false, "SUBMITFILTER /f\n");
        check([site.clone(), None], true, "A 1\n");
        check([None, None], false, "A 1\n");
        assert!(rules_here(0) && !rules_here(u32::MAX));
    }

    #[test]
    fn a_file_that_others_may_write_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("torque.cfg");
        std::fs::write(&path, "CLIENTRETRY 3\n").unwrap();
        let with_mode = |mode| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            read(&path).is_some()
        };
        assert!(with_mode(0o644));
        assert!(!with_mode(0o666) && !with_mode(0o664));
        assert_eq!(read(folder.path()), None);
    }
}
