//! Exceptions of the site from what `-u` refuses: which options, with which values, for which users, groups and
//! queues. Without any written down there are none.

use std::collections::BTreeSet;

use serde::Deserialize;

/// The options that an exception may name.
const OPTIONS: [&str; 11] = [
    "privileged",
    "cap-add",
    "device",
    "pid",
    "uts",
    "userns",
    "cgroupns",
    "ipc",
    "security-opt",
    "runtime",
    "sysctl",
];

/// An exception as the settings file has it: `[[container_exceptions]]`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct ExceptionFile {
    /// `cap-add` for any value of it, `cap-add=SYS_PTRACE` for this one.
    pub options: Vec<String>,
    /// For these users,
    #[serde(default)]
    pub users: Vec<String>,
    /// for who is in one of these groups,
    #[serde(default)]
    pub groups: Vec<String>,
    /// and for jobs of these queues.
    #[serde(default)]
    pub queues: Vec<String>,
}

/// An exception that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadException {
    /// It names an option that is never excepted.
    #[error("container_exceptions: {option} cannot be excepted; these can: {}", OPTIONS.join(", "))]
    Option {
        /// As written.
        option: String,
    },
    /// It is for nobody.
    #[error("container_exceptions: the exception for {options} names no users, groups or queues")]
    Nobody {
        /// Its options.
        options: String,
    },
}

/// An exception in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exception(ExceptionFile);

/// The exceptions in force.
///
/// # Errors
/// One that names an option which nobody can be given, or nobody.
pub fn resolve_exceptions(written: Vec<ExceptionFile>) -> Result<Vec<Exception>, BadException> {
    let checked = written.into_iter().map(|exception| {
        let names =
            |option: &String| OPTIONS.contains(&option.split('=').next().unwrap_or_default());
        if let Some(option) = exception.options.iter().find(|option| !names(option)) {
            let option = option.clone();
            return Err(BadException::Option { option });
        }
        let ExceptionFile {
            options,
            users,
            groups,
            queues,
        } = &exception;
        if users.is_empty() && groups.is_empty() && queues.is_empty() {
            let options = options.join(", ");
            return Err(BadException::Nobody { options });
        }
        Ok(Exception(exception))
    });
    checked.collect()
}

/// What one request is excepted from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Allowed(BTreeSet<String>);

impl Allowed {
    /// By all exceptions that name the user, one of their groups, or the queue of the job.
    #[must_use]
    pub(super) fn to(exceptions: &[Exception], user: &str, groups: &[u32], queue: &str) -> Self {
        let named = |names: &[String], name: &str| names.iter().any(|each| each == name);
        let in_group = |names: &[String]| {
            names.iter().any(|name| {
                let group = nix::unistd::Group::from_name(name).ok().flatten();
                group.is_some_and(|group| groups.contains(&group.gid.as_raw()))
            })
        };
        let apply = exceptions
            .iter()
            .map(|Exception(file)| file)
            .filter(|file| {
                named(&file.users, user) || named(&file.queues, queue) || in_group(&file.groups)
            });
        Self(
            apply
                .flat_map(|file| file.options.iter().cloned())
                .collect(),
        )
    }

    /// Whether the option is allowed, with this value.
    #[must_use]
    pub(super) fn has(&self, option: &str, value: Option<&str>) -> bool {
        let exact = value.is_some_and(|value| self.0.contains(&format!("{option}={value}")));
        self.0.contains(option) || exact
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exception(options: &[&str], users: &[&str], queues: &[&str]) -> ExceptionFile {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        ExceptionFile {
            options: owned(options),
            users: owned(users),
            queues: owned(queues),
            groups: vec!["root".into()],
        }
    }

    #[test]
    fn an_exception_holds_for_whom_it_names_and_for_its_value() {
        let written = vec![
            exception(&["cap-add=SYS_PTRACE"], &["ann"], &[]),
            exception(&["pid"], &[], &["debug"]),
        ];
        let all = resolve_exceptions(written).expect("good");
        let ann = Allowed::to(&all, "ann", &[7], "batch");
        assert!(ann.has("cap-add", Some("SYS_PTRACE")));
        assert!(!ann.has("cap-add", Some("SYS_ADMIN")) && !ann.has("pid", Some("host")));
        assert!(Allowed::to(&all, "bob", &[7], "debug").has("pid", Some("host")));
        assert!(
            Allowed::to(&all, "bob", &[0], "batch").has("pid", None),
            "by the group root"
        );
        assert_eq!(Allowed::to(&all, "bob", &[7], "batch"), Allowed::default());
    }

    #[test]
    fn what_breaks_the_house_cannot_be_excepted() {
        for option in [
            "cgroup-parent",
            "volumes-from",
            "d",
            "restart=always",
            "volume",
            "",
        ] {
            let written = vec![exception(&[option], &["ann"], &[])];
            assert!(resolve_exceptions(written).is_err(), "{option}");
        }
        let nobody = ExceptionFile {
            options: vec!["pid".into()],
            ..ExceptionFile::default()
        };
        assert!(resolve_exceptions(vec![nobody]).is_err());
    }
}
