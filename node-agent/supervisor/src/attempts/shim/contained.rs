//! A job that is a container: in place of a shell, the shim starts the command that carries a container's streams,
//! signals and exit code. The script runs inside, and no program of the user's runs on the host; the agent finds out
//! by itself whose job it is and of which image.

use std::ffi::{CString, NulError};
use std::path::{Path, PathBuf};

use capstan_types::Env;

use crate::attempts::record::Entry;

/// What the command is called: it is one of the client's many names.
const COMMAND: &str = "startdocker";
/// What it is told: the job's own script, in the job's own image.
const ARGUMENT: &str = "--job-script";
/// The client by its own name; what it is called as decides what it does.
const CLIENT: &str = "capstan";
/// Where commands are installed when no setting says so.
const USUAL: [&str; 3] = ["/usr/local/bin", "/usr/bin", "/opt/capstan/bin"];

/// What runs in place of a shell.
pub(super) struct Carrier {
    /// The first that can be executed is.
    pub(super) paths: Vec<CString>,
    pub(super) arguments: Vec<CString>,
}

/// The carrier of a job that is a container; none for any other.
///
/// # Errors
/// A path of the site's holds a NUL.
pub(super) fn carrier(entry: &Entry) -> Result<Option<Carrier>, NulError> {
    if entry.spec.image.is_empty() {
        return Ok(None);
    }
    let own = std::env::current_exe().ok();
    let paths = places(&entry.commands_folder, own.as_deref());
    let text = |path: PathBuf| CString::new(path.into_os_string().into_encoded_bytes());
    Ok(Some(Carrier {
        paths: paths.into_iter().map(text).collect::<Result<_, _>>()?,
        arguments: vec![CString::new(COMMAND)?, CString::new(ARGUMENT)?],
    }))
}

/// What of the job's environment the carrier itself gets: nothing that has a program load, read or write files of the user's
/// choosing before it does anything (those that the C library ignores in set-uid programs, `sysdeps/generic/unsecvars.h`). The
/// script inside gets all of it by the agent.
///
/// # Errors
/// A variable holds a NUL.
pub(super) fn environment(env: &Env) -> Result<Vec<CString>, NulError> {
    const LOADERS: [&str; 13] = [
        "GCONV_PATH",
        "GETCONF_DIR",
        "GLIBC_TUNABLES",
        "HOSTALIASES",
        "LOCALDOMAIN",
        "LOCPATH",
        "MALLOC_TRACE",
        "NIS_PATH",
        "NLSPATH",
        "RESOLV_HOST_CONF",
        "RES_OPTIONS",
        "TMPDIR",
        "TZDIR",
    ];
    let is_harmless = |name: &str| !name.starts_with("LD_") && !LOADERS.contains(&name);
    let kept = env.iter().filter(|(name, _)| is_harmless(name));
    kept.map(|(name, value)| CString::new(format!("{name}={value}")))
        .collect()
}

/// The site's folder first, then beside the agent, then where commands usually are. Never by PATH: it may be the
/// user's.
fn places(commands_folder: &str, own: Option<&Path>) -> Vec<PathBuf> {
    let of_site = Some(PathBuf::from(commands_folder)).filter(|folder| folder.is_absolute());
    let beside = own.and_then(Path::parent).map(Path::to_owned);
    let folders = of_site.into_iter().chain(beside);
    let folders = folders.chain(USUAL.map(PathBuf::from));
    folders
        .flat_map(|folder| [folder.join(COMMAND), folder.join(CLIENT)])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_users_is_loaded_into_the_carrier() {
        let given = [
            ("LD_PRELOAD", "/home/alice/x.so"),
            ("LD_LIBRARY_PATH", "/home/alice"),
            ("GCONV_PATH", "/home/alice"),
            ("RANK", "3"),
            ("PBS_JOBID", "1.hn1"),
        ];
        let env: Env = given
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        let kept = environment(&env).unwrap();
        let mut kept: Vec<&str> = kept.iter().map(|it| it.to_str().unwrap()).collect();
        kept.sort_unstable();
        assert_eq!(kept, ["PBS_JOBID=1.hn1", "RANK=3"]);
    }

    #[test]
    fn only_a_job_with_an_image_is_carried_and_by_the_sites_command_first() {
        let mut entry = Entry {
            commands_folder: "/c".to_owned(),
            ..Entry::default()
        };
        assert!(carrier(&entry).expect("no NUL").is_none());
        entry.spec.image = "deepo".to_owned();
        let carrier = carrier(&entry).expect("no NUL").expect("carried");
        assert_eq!(carrier.paths[0].as_c_str(), c"/c/startdocker");
        assert_eq!(carrier.arguments[1].as_c_str(), c"--job-script");
        let of_nobody = places("", Some(Path::new("/opt/x/capstan-agent")));
        assert_eq!(of_nobody[1], Path::new("/opt/x/capstan"));
        assert!(of_nobody.iter().all(|path| path.is_absolute()));
    }
}
