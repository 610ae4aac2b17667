//! `qsub`: submits a script and prints the id of the job.

mod additional;
mod date;
mod draft;
mod lists;
mod options;
mod request;
mod script;
#[cfg(test)]
mod tests;

use std::io::{IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use capstan_proto::Refusal;
use capstan_types::Pbse;

use crate::command::{Call, Environment, Failure, exit_status, refusal};
use crate::door;
use crate::getopt::Parsed;
use crate::output::screen::Screen;

use draft::Draft;
pub(crate) use options::OPTIONS;
use request::Place;
use script::Script;

/// Submits the job.
///
/// # Errors
/// Everything that keeps the job from being accepted, in Torque's words and with its exit status.
pub(crate) async fn run<W: Write>(call: &Call, screen: &mut Screen<W>) -> Result<u8, Failure> {
    let parsed = call.parse(OPTIONS);
    let (draft, script) = draft(&parsed, call)?;
    let place = here(&call.env);
    request::check_whole(
        &draft,
        std::io::stdin().is_terminal() && std::io::stdout().is_terminal(),
    )?;
    request::check_folders(&draft, &place, |folder| Path::new(folder).is_dir())?;

    let is_silent = draft.is_silent;
    let is_proxy = draft.get("proxy_user").is_some();
    let patience = door::patience(draft.retry.as_deref(), &call.env);
    let request = request::build(draft, script, &place, &call.env, &call.args)?;
    let destination = request.destination.clone();
    let is_root = nix::unistd::getuid().is_root() && nix::unistd::geteuid().is_root() && !is_proxy;
    let mut server = door::open(call, patience).await?;
    let reply = server
        .submit(request)
        .await
        .map_err(|status| refused(&refusal(&status), &destination, is_root))?;
    if !is_silent {
        writeln!(screen.out(), "{}", reply.into_inner().job_id)?;
    }
    Ok(0)
}

/// Reads the script and all options, weak to strong.
fn draft(parsed: &Parsed, call: &Call) -> Result<(Draft, Script), Failure> {
    let mut draft = Draft::default();
    let script = match parsed.has('I') {
        // An interactive job has no script to read.
        true => Script {
            bytes: Vec::new(),
            default_name: "STDIN".to_owned(),
        },
        false => Script::load(parsed.operands.first().map(String::as_str))?,
    };
    script.apply_directives(parsed.value('C').unwrap_or("#PBS"), &mut draft, &call.env)?;
    draft.apply(&parsed.items, &call.env)?;
    if parsed.operands.len() > 1 {
        return Err(options::misuse("index issues"));
    }
    Ok((draft, script))
}

/// The server's no. Root's is worded as Torque's qsub words it; the server decides, because its settings may allow it.
fn refused(refusal: &Refusal, destination: &str, is_root: bool) -> Failure {
    let status = exit_status(refusal.error);
    let host = destination.split_once('@').map(|(_, host)| host);
    match (refusal.error, host) {
        (Pbse::Baduser, _) if is_root => Failure::new(1, "qsub can not be run as root"),
        (Pbse::Badhost, Some(host)) => {
            let (name, connection) = (door::unresolved(host), door::unresolved_connection(host));
            Failure::new(status, format!("{name}\nqsub: {connection}"))
        }
        _ => Failure::new(status, format!("qsub: submit error ({})", refusal.text())),
    }
}

/// This host and the current folder: the one that the shell shows in `PWD` when it is the right one, so that paths
/// through symbolic links stay as the user knows them (they may lead elsewhere on a node).
fn here(env: &Environment) -> Place {
    let same = |shown: &&str| {
        let id = |path: &str| {
            std::fs::metadata(path)
                .map(|found| (found.dev(), found.ino()))
                .ok()
        };
        shown.starts_with('/') && id(shown).is_some_and(|shown| Some(shown) == id("."))
    };
    let folder = match env.get("PWD").filter(same) {
        Some(shown) => shown.to_owned(),
        None => std::env::current_dir()
            .map(|folder| folder.to_string_lossy().into_owned())
            .unwrap_or_default(),
    };
    let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned());
    Place {
        host: host.unwrap_or_else(|_| "localhost".to_owned()),
        folder,
    }
}
