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
    request::refuse_root(
        nix::unistd::getuid().as_raw(),
        nix::unistd::geteuid().as_raw(),
        &draft,
    )?;

    let is_silent = draft.is_silent;
    let patience = door::patience(draft.retry.as_deref(), &call.env);
    let request = request::build(draft, script, &place, &call.env, &call.args)?;
    let destination = request.destination.clone();
    let mut server = door::open(call, patience).await?;
    let reply = server
        .submit(request)
        .await
        .map_err(|status| refused(&refusal(&status), &destination))?;
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

/// The server's no.
fn refused(refusal: &Refusal, destination: &str) -> Failure {
    let status = exit_status(refusal.error);
    match destination.split_once('@') {
        Some((_, server)) if refusal.error == Pbse::Badhost => Failure::new(
            status,
            format!(
                "{}\nqsub: {}",
                door::unresolved(server),
                door::unresolved_connection(server)
            ),
        ),
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
