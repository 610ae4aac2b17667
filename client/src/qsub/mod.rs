//! `qsub`: submits a script and prints the id of the job.

mod additional;
pub(crate) mod checks;
pub(crate) mod date;
mod draft;
mod examine;
mod filter;
mod interactive;
mod lists;
mod options;
mod paths;
mod request;
mod script;
mod tasks;
#[cfg(test)]
mod tests;
mod wait;
mod whole;

use std::io::{IsTerminal, Write};
use std::os::unix::fs::MetadataExt;

use capstan_proto::Refusal;
use capstan_types::Pbse;

use crate::command::{Call, Environment, Failure, exit_status, refusal, with_hint};
use crate::dialect::{self, Dialect};
use crate::door;
use crate::getopt::{self, Parsed};
use crate::output::screen::Screen;
use crate::torque_cfg::{self, SiteFile};

pub(crate) use additional::is_dependency_list;
pub(crate) use date::execution_time;
use draft::Draft;
pub(crate) use draft::Reading;
use filter::Filter;
pub(crate) use lists::exported_variables;
pub(crate) use options::OPTIONS;
pub(crate) use paths::{Origin, output_path};
pub(crate) use request::Place;
use script::Script;
use whole::Surroundings;

/// Where directives begin when nobody says otherwise.
const PREFIX: &str = "#PBS";

/// Submits the job.
///
/// # Errors
/// Everything that keeps the job from being accepted, in Torque's words and with its exit status.
pub(crate) async fn run<W: Write>(call: &Call, screen: &mut Screen<W>) -> Result<u8, Failure> {
    let parsed = call.parse(OPTIONS);
    if let Some(asked) = examine::Asked::of(&parsed) {
        return examine::run(call, asked, screen).await;
    }
    let site = torque_cfg::load(&call.env);
    let submission = Submission::load(&parsed, call, &site)?;
    let spoken = dialect::from_environment(&call.env);
    let mut draft = submission.draft(spoken.unwrap_or_default())?;
    let patience = door::patience(draft.retry.as_deref(), &call.env);
    if draft.is_ambiguous && spoken.is_none() {
        let mut server = door::open(call, patience).await?;
        draft = submission.draft(dialect::of_server(&mut server).await)?;
    }
    let place = here(&call.env).named_by(&site);
    let around = Surroundings {
        place: &place,
        env: &call.env,
        site: &site,
        has_terminal: std::io::stdin().is_terminal() && std::io::stdout().is_terminal(),
    };
    whole::initial_folder(&draft, &place, &site)?;
    if parsed.operands.len() > 1 && !submission.is_command && !draft.is_interactive {
        return Err(options::misuse("index issues"));
    }
    whole::check(&draft, &around)?;

    let (is_silent, waits, is_interactive) = (draft.is_silent, draft.waits, draft.is_interactive);
    let is_proxy = draft.get("proxy_user").is_some();
    let script = submission.to_send(&draft, &place);
    let mut request = request::build(draft, script, &around, &call.args)?;
    let destination = request.destination.clone();
    let is_root = nix::unistd::getuid().is_root() && nix::unistd::geteuid().is_root() && !is_proxy;
    let host = destination.split_once('@').map_or("", |(_, host)| host);
    let mut server = door::open_at(call, host, patience).await?;
    // The name has led here; the server need not know every name of its host.
    request
        .destination
        .truncate(destination.find('@').unwrap_or(destination.len()));
    let reply = server
        .submit(request)
        .await
        .map_err(|status| refused(&refusal(&status), &destination, is_root))?;
    let id = reply.into_inner().job_id;
    if is_interactive {
        return interactive::sit(call, screen, server, &id).await;
    }
    if !is_silent {
        writeln!(screen.out(), "{id}")?;
    }
    match waits {
        true => {
            screen.flush()?;
            wait::for_end(&mut server, &id).await
        }
        false => Ok(0),
    }
}

/// A script and the options around it, before they are understood.
struct Submission<'a> {
    parsed: &'a Parsed,
    call: &'a Call,
    site: &'a SiteFile,
    script: Script,
    /// The script is one that runs the command behind `--`.
    is_command: bool,
    /// What the site's filter adds to an interactive job.
    added: Vec<Vec<String>>,
}

impl<'a> Submission<'a> {
    /// Reads the script, and passes it through the site's filter.
    fn load(parsed: &'a Parsed, call: &'a Call, site: &'a SiteFile) -> Result<Self, Failure> {
        let filter = Filter::of(site)?;
        let command = match parsed.before_dashes {
            Some(0) if !parsed.operands.is_empty() => Some(&parsed.operands),
            _ => None,
        };
        let operand = parsed.operands.first().map(String::as_str);
        let mut script = match (command, operand) {
            (Some(words), _) => Script::of_command(words),
            (None, None | Some("" | "-")) if parsed.has('I') => Script::none(),
            (None, Some(path)) if parsed.has('I') && parsed.has('x') => Script::of_program(path),
            (None, operand) => Script::load(operand)?,
        };
        let mut added = Vec::new();
        match filter {
            Some(filter) if parsed.has('I') => {
                let output = filter.pass(&call.args, b"\n\n")?;
                added = filter::added_options(&output);
            }
            Some(filter) if command.is_none() => {
                script.bytes = filter.pass(&call.args, &script.bytes)?;
            }
            // A command has no directives for a filter to change, but the filter may refuse it.
            Some(filter) => drop(filter.pass(&call.args, &script.bytes)?),
            None => {}
        }
        Ok(Self {
            parsed,
            call,
            site,
            script,
            is_command: command.is_some(),
            added,
        })
    }

    /// What goes to the server: of an interactive job no script, whose directives have been read, but with `-x` the command
    /// that runs in place of a shell.
    fn to_send(&self, draft: &Draft, place: &Place) -> Script {
        if !draft.is_interactive {
            return self.script.clone();
        }
        let words = match draft.runs_script {
            true => &self.parsed.operands[..],
            false => &[],
        };
        self.script.with_command(words, place)
    }

    /// Reads all options, weak to strong.
    fn draft(&self, dialect: Dialect) -> Result<Draft, Failure> {
        let env = &self.call.env;
        let reading = Reading { env, dialect };
        let mut draft = Draft::of_site(self.site);
        let variable = env.get("PBS_DPREFIX");
        draft.is_ambiguous = variable.is_some() && self.parsed.value('C').is_none();
        let variable = variable.filter(|_| dialect == Dialect::Pro);
        let prefix = self.parsed.value('C').or(variable).unwrap_or(PREFIX);
        if !self.is_command {
            self.script.apply_directives(prefix, &mut draft, &reading)?;
        }
        draft.apply(&self.parsed.items, &reading)?;
        for words in &self.added {
            let parsed = getopt::parse(self.call.program, OPTIONS, words);
            draft.apply(&parsed.items, &reading)?;
        }
        Ok(draft)
    }
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
        _ => {
            let text = format!("qsub: submit error ({})", refusal.text());
            Failure::new(status, with_hint(text, refusal))
        }
    }
}

/// This host and the current folder: the one that the shell shows in `PWD` when it is the right one, so that paths
/// through symbolic links stay as the user knows them (they may lead elsewhere on a node).
pub(crate) fn here(env: &Environment) -> Place {
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
    Place {
        host: door::known_host_name(env),
        folder,
    }
}
