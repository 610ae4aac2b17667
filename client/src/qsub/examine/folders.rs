//! Whether the output of the job can be written, as far as this host can tell: the folders of `-o` and `-e`, looked at
//! with the caller's own rights.

use std::path::Path;

use capstan_proto::wire::SubmitRequest;
use nix::unistd::{AccessFlags, access};

use super::finding::{Finding, Severity};
use super::source::Placed;

/// What keeps the output from being written.
pub(super) fn check(request: &SubmitRequest, options: &[Placed], host: &str) -> Vec<Finding> {
    let value = |name: &str| {
        let found = request.attributes.iter().find(|one| one.name == name);
        found.map(|one| one.value.as_str())
    };
    let joined = value("Join_Path").unwrap_or("n");
    let keeps = value("Keep_Files").unwrap_or("n");
    let folder = value("init_work_dir").unwrap_or_default();
    let streams = [
        ('o', "stdout", value("Output_Path"), joined != "eo"),
        ('e', "stderr", value("Error_Path"), joined != "oe"),
    ];
    let mut findings: Vec<Finding> = Vec::new();
    for (letter, stream, path, counts) in streams {
        // A kept file goes to the home folder of the node.
        if !counts || keeps.contains(letter) {
            continue;
        }
        let local = match path {
            Some(path) => path
                .strip_prefix(host)
                .and_then(|rest| rest.strip_prefix(':')),
            None => Some(folder),
        };
        let is_plain = |path: &&str| path.starts_with('/') && !path.contains('$');
        let Some(local) = local.filter(is_plain) else {
            continue;
        };
        let is_folder = path.is_none() || local.ends_with('/');
        let Some(problem) = problem(Path::new(local), is_folder) else {
            continue;
        };
        let message = format!("{stream} of the job cannot be written: {problem}");
        let named = options
            .iter()
            .rev()
            .find(|one| one.letter() == Some(letter));
        let finding = Finding::new(Severity::Warning, message);
        let finding = match named.and_then(Placed::spot).filter(|_| path.is_some()) {
            Some((spot, bytes)) => finding.at(spot, bytes),
            None => finding,
        };
        let is_told = |one: &Finding| one.message.ends_with(&problem);
        if path.is_some() || !findings.iter().any(is_told) {
            findings.push(finding.advise("name a folder of yours with -o and -e"));
        }
    }
    findings
}

/// Why the caller cannot write there; `None` when he can. Folders that are missing are made when the job starts, with
/// his rights.
fn problem(path: &Path, is_folder: bool) -> Option<String> {
    let may = |path: &Path, how: AccessFlags| access(path, how).is_ok();
    if !is_folder && path.exists() && !path.is_dir() {
        let refused = || format!("{} may not be written by you", path.display());
        return (!may(path, AccessFlags::W_OK)).then(refused);
    }
    let folder = if is_folder { path } else { path.parent()? };
    let there = folder.ancestors().find(|above| above.exists())?;
    let shown = there.display();
    let problem = match there.is_dir() {
        false => format!("{shown} is no folder"),
        true if may(there, AccessFlags::W_OK | AccessFlags::X_OK) => return None,
        true => format!("{shown} may not be written by you"),
    };
    match there == folder {
        true => Some(problem),
        false => Some(format!("{} is not there, and {problem}", folder.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use capstan_proto::wire::Attribute;

    #[test]
    fn folders_that_are_not_there_are_told() {
        let here = tempfile::tempdir().unwrap();
        let good = here.path().to_str().unwrap().to_owned();
        std::fs::write(here.path().join("file"), "").unwrap();
        let check_paths = |attributes: &[(&str, &str)], expected: &[&str]| {
            let attributes = attributes.iter().map(|(name, value)| Attribute {
                name: (*name).to_owned(),
                resource: String::new(),
                value: (*value).to_owned(),
            });
            let request = SubmitRequest {
                attributes: attributes.collect(),
                ..SubmitRequest::default()
            };
            let found = check(&request, &[], "hn1");
            let seen: Vec<_> = found.iter().map(|one| one.message.as_str()).collect();
            assert_eq!(seen, expected, "{request:?}");
        };
        let work = ("init_work_dir", good.as_str());
        check_paths(&[work], &[]);
        let made = format!("hn1:{good}/yet/to/come/out");
        check_paths(&[work, ("Output_Path", &made)], &[]);
        let file = format!("{good}/file");
        let no_folder = format!("stdout of the job cannot be written: {file} is no folder");
        check_paths(&[("init_work_dir", &file)], &[&no_folder]);
        let below = format!("hn1:{file}/below/out");
        let told = format!(
            "stdout of the job cannot be written: {file}/below is not there, and {file} is no folder"
        );
        check_paths(&[work, ("Output_Path", &below)], &[&told]);
        check_paths(&[work, ("Output_Path", &below), ("Keep_Files", "o")], &[]);
        check_paths(&[work, ("Error_Path", &below), ("Join_Path", "oe")], &[]);
        check_paths(&[work, ("Output_Path", "other:/dev/null/out")], &[]);
        check_paths(&[work, ("Output_Path", "hn1:/dev/null/$PBS_JOBID/")], &[]);
        let file = format!("hn1:{good}/file/out");
        let told = format!("stderr of the job cannot be written: {good}/file is no folder");
        check_paths(&[work, ("Error_Path", &file)], &[&told]);
        check_paths(&[work, ("Output_Path", "hn1:/dev/null")], &[]);
    }
}
