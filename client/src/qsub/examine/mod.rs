//! `qsub --explain` and `qsub --dry-run`: says of a script before it is submitted what is wrong with it, what it would
//! become, and whether it would start. The same code as of a submission reads it, up to the last step: the server is asked
//! to examine and not to submit. Decides in which order things are looked at; what is found is decided beside it.

mod finding;
mod folders;
mod habits;
mod options;
mod overridden;
mod refusal;
mod report;
mod source;
mod values;

use std::io::{IsTerminal, Write};

use capstan_proto::wire::{ExamineRequest, SubmitRequest};
use capstan_types::{NodeSpec, Pbse, Select};

use crate::command::{Call, Failure, refusal as refusal_of};
use crate::dialect::{self, Dialect};
use crate::door;
use crate::getopt::{Item, Parsed};
use crate::output::screen::Screen;
use crate::torque_cfg::{self, SiteFile};

use super::draft::{Draft, Reading};
use super::options::{OPTIONS, misuse};
use super::whole::{self, Surroundings};
use super::{PREFIX, Submission, here, refused, request};

use finding::{Finding, Severity, Spot, Where};
use report::Report;
use source::{Placed, Scanned};

/// The long options that ask for it.
const EXPLAIN: &str = "explain";
const DRY_RUN: &str = "dry-run";
/// With one of them: as JSON.
const JSON: &str = "json";

/// How it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// What would become of it first, in sentences.
    Explain,
    /// What would be submitted, attribute by attribute.
    DryRun,
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    kind: Kind,
    is_json: bool,
}

impl Asked {
    /// What the command line asks for; `None` for a submission.
    pub(super) fn of(parsed: &Parsed) -> Option<Self> {
        let has = |word: &str| parsed.items.contains(&Item::Value('-', word.to_owned()));
        let kind = match (has(EXPLAIN), has(DRY_RUN)) {
            (true, _) => Kind::Explain,
            (false, true) => Kind::DryRun,
            (false, false) => return None,
        };
        let is_json = has(JSON);
        Some(Self { kind, is_json })
    }
}

/// The call as it would be without our options: that is what would be submitted.
fn plain(call: &Call) -> Call {
    let is_own = |word: &String| {
        let long = word.strip_prefix("--").unwrap_or_default();
        [EXPLAIN, DRY_RUN, JSON].contains(&long)
    };
    let mut args = Vec::with_capacity(call.args.len());
    let mut words = call.args.iter();
    while let Some(word) = words.next() {
        if word == "--" {
            args.push(word.clone());
            args.extend(words.cloned());
            break;
        }
        if !is_own(word) {
            args.push(word.clone());
        }
    }
    Call {
        args,
        ..call.clone()
    }
}

/// Examines the script and says what was found; the status is the one that the submission would have had.
///
/// # Errors
/// Nothing can be said: nobody reads it, or the server is too busy to examine anything.
pub(super) async fn run<W: Write>(
    call: &Call,
    asked: Asked,
    screen: &mut Screen<W>,
) -> Result<u8, Failure> {
    let call = plain(call);
    let report = Examination::of(&call).await?;
    Ok(report.print(screen.out(), asked))
}

/// One examination under way.
struct Examination<'a> {
    call: &'a Call,
    parsed: &'a Parsed,
    site: &'a SiteFile,
    report: Report,
    scanned: Scanned,
    /// All options, the script's before those of the command line.
    options: Vec<Placed>,
    has_walltime: bool,
}

impl Examination<'_> {
    async fn of(call: &Call) -> Result<Report, Failure> {
        let parsed = call.parse(OPTIONS);
        let site = torque_cfg::load(&call.env);
        let mut examination = Examination {
            call,
            parsed: &parsed,
            site: &site,
            report: Report::default(),
            scanned: Scanned::default(),
            options: Vec::new(),
            has_walltime: false,
        };
        examination.look().await?;
        let Examination {
            mut report,
            scanned,
            ..
        } = examination;
        report.lines = scanned.lines;
        Ok(report)
    }

    /// In the order in which qsub goes.
    async fn look(&mut self) -> Result<(), Failure> {
        let operand = self.parsed.operands.first().map(String::as_str);
        self.report.name = match operand {
            None | Some("" | "-") => "STDIN".to_owned(),
            Some(path) => path.to_owned(),
        };
        let (call, parsed, site) = (self.call, self.parsed, self.site);
        let submission = match Submission::load(parsed, call, site) {
            Ok(submission) => submission,
            Err(failure) => {
                self.unreadable(operand, failure);
                return Ok(());
            }
        };
        let mut dialect = dialect::from_environment(&call.env);
        if dialect.is_none() && is_ambiguous(&submission) {
            let patience = door::patience(parsed.value('b'), &call.env);
            if let Ok(mut server) = door::open(call, patience).await {
                dialect = Some(dialect::of_server(&mut server).await);
            }
        }
        let dialect = dialect.unwrap_or_default();
        let prefix = prefix(&submission, dialect);
        let directives = if submission.is_command { "" } else { prefix };
        self.read_options(&submission.script.bytes, directives, dialect);
        let draft = match submission.draft(dialect) {
            Ok(draft) => draft,
            Err(failure) => {
                self.refuse(failure);
                self.habits(prefix, None);
                return Ok(());
            }
        };
        self.has_walltime = draft.asks("walltime");
        self.habits(prefix, cards(&draft));
        self.judge(draft, submission).await
    }

    /// A script that qsub would not read. One with the line ends of DOS can still be looked at.
    fn unreadable(&mut self, operand: Option<&str>, failure: Failure) {
        let bytes = operand.and_then(|path| std::fs::read(path).ok());
        let bytes = bytes.filter(|bytes| bytes.windows(2).any(|pair| pair == b"\r\n"));
        let is_text = failure.text.contains("DOS/Windows");
        let Some(bytes) = bytes.filter(|_| is_text) else {
            self.refuse(failure);
            return;
        };
        self.read_options(&bytes, PREFIX, Dialect::default());
        self.habits(PREFIX, None);
        let lines = bytes.split(|byte| *byte == b'\n');
        let ends: Vec<usize> = (0..)
            .zip(lines)
            .filter(|(_, line)| line.ends_with(b"\r"))
            .map(|(line, _)| line)
            .collect();
        let first = ends.first().copied().unwrap_or(0);
        let at = self.scanned.lines.get(first).map_or(0, String::len);
        let message = match ends.len() {
            1 => "this line ends as on Windows (CR LF)".to_owned(),
            count => format!("this line ends as on Windows (CR LF), as {count} lines do"),
        };
        let spot = Spot {
            within: Where::Script,
            line: first,
            at,
        };
        let name = operand.unwrap_or_default();
        let finding = Finding::new(Severity::Error, message).at(spot, 0);
        let advice = format!("sed -i 's/\\r$//' {name} makes it a script");
        self.report.add([finding.advise(advice)]);
        self.report.refuse(failure);
    }

    /// A refusal of qsub's own: told by the errors that point at it, else in its own words.
    fn refuse(&mut self, failure: Failure) {
        if !self.report.has_errors() {
            let words = options::words_of(&failure);
            self.report.add([Finding::new(Severity::Error, words)]);
        }
        self.report.refuse(failure);
    }

    /// Looks at every option by itself.
    fn read_options(&mut self, script: &[u8], prefix: &str, dialect: Dialect) {
        let call = self.call;
        let reading = Reading {
            env: &call.env,
            dialect,
        };
        let mut draft = Draft::of_site(self.site);
        self.scanned = source::scan(script, prefix);
        for words in &self.scanned.directives {
            match words {
                Ok(words) => {
                    let placed = source::placed("qsub", OPTIONS, words);
                    self.report
                        .add(options::check(&placed, &mut draft, &reading));
                    self.report.add(operands(words));
                    self.options.extend(placed);
                }
                Err(spot) => {
                    let message = "this quote is not closed";
                    let finding = Finding::new(Severity::Error, message);
                    self.report.add([finding.at(*spot, 1)]);
                }
            }
        }
        let (line, words) = source::command_line("qsub", &call.args);
        self.report.command_line = line;
        let placed = source::placed("qsub", OPTIONS, &words);
        self.report
            .add(options::check(&placed, &mut draft, &reading));
        self.options.extend(placed);
        self.report.add(overridden::check(&self.options));
    }

    fn habits(&mut self, prefix: &str, cards: Option<u32>) {
        let found = habits::check(&self.scanned, prefix, cards);
        self.report.add(found);
    }

    /// What can be judged of the whole: here, then by the server.
    async fn judge(&mut self, draft: Draft, submission: Submission<'_>) -> Result<(), Failure> {
        let (call, parsed, site) = (self.call, self.parsed, self.site);
        let place = here(&call.env).named_by(site);
        let around = Surroundings {
            place: &place,
            env: &call.env,
            site,
            has_terminal: std::io::stdin().is_terminal() && std::io::stdout().is_terminal(),
        };
        let patience = door::patience(draft.retry.as_deref(), &call.env);
        let is_proxy = draft.get("proxy_user").is_some();
        let is_interactive = draft.is_interactive;
        let built = whole::initial_folder(&draft, &place, site)
            .and_then(|()| {
                let is_one = parsed.operands.len() <= 1;
                match is_one || submission.is_command || is_interactive {
                    true => whole::check(&draft, &around),
                    false => Err(misuse("index issues")),
                }
            })
            .and_then(|()| request::build(draft, submission.script, &around, &call.args));
        let request = match built {
            Ok(request) => request,
            Err(failure) => {
                self.refuse(failure);
                return Ok(());
            }
        };
        let found = folders::check(&request, &self.options, &place.host);
        self.report.add(found);
        self.ask(request, patience, is_proxy).await
    }

    /// Asks the server what would become of it.
    async fn ask(
        &mut self,
        mut request: SubmitRequest,
        patience: std::time::Duration,
        is_proxy: bool,
    ) -> Result<(), Failure> {
        let destination = request.destination.clone();
        let is_root =
            nix::unistd::getuid().is_root() && nix::unistd::geteuid().is_root() && !is_proxy;
        let (queue, host) = destination.split_once('@').unwrap_or((&destination, ""));
        let mut server = match door::open_at(self.call, host, patience).await {
            Ok(server) => server,
            Err(failure) => {
                self.refuse(failure);
                return Ok(());
            }
        };
        request.destination.truncate(queue.len());
        let asked = ExamineRequest {
            submission: Some(request),
        };
        match server.examine_job(asked).await {
            Ok(reply) => {
                let reply = reply.into_inner();
                self.report.add(self.no_walltime(&reply));
                self.report.reply = Some(reply);
            }
            Err(status) => {
                let no = refusal_of(&status);
                if no.error == Pbse::ServerBusy || status.code() == tonic::Code::Unimplemented {
                    let text = format!("qsub: this cannot be examined now: {}", no.text());
                    return Err(Failure::new(1, crate::command::with_hint(text, &no)));
                }
                let finding = refusal::finding(&no, &self.options, queue, &mut server).await;
                self.report.add([finding]);
                self.report.refuse(refused(&no, &destination, is_root));
            }
        }
        Ok(())
    }

    /// A job that names no walltime: long ones wait longer, because short ones fit into gaps.
    fn no_walltime(&self, reply: &capstan_proto::wire::ExamineReply) -> Option<Finding> {
        let mut defaults = reply.defaults.iter();
        let default = defaults.find(|one| one.name == "walltime");
        let message = match default {
            _ if self.has_walltime => return None,
            Some(one) => format!("no walltime: {} gives it {}", one.of, one.value),
            None => "no walltime: the job has no end of its own".to_owned(),
        };
        let advice = "-l walltime=HH:MM:SS; a job that says how short it is finds a gap sooner";
        Some(Finding::new(Severity::Warning, message).advise(advice))
    }
}

/// Words of a directive that are no options: qsub ignores them.
fn operands(words: &[source::Word]) -> Vec<Finding> {
    let placed = source::placed("qsub", OPTIONS, words);
    let is_taken = |word: &source::Word| {
        let mut own = placed.iter();
        own.any(|one| one.word == *word || one.value.as_ref() == Some(word))
    };
    let ignored = words
        .iter()
        .take_while(|word| word.text != "--" && !word.text.starts_with('#'))
        .filter(|word| !is_taken(word));
    let found = ignored.map(|word| {
        let finding = Finding::new(Severity::Warning, "this is no option, and is ignored");
        match word.spot(0) {
            Some(spot) => finding.at(spot, word.text.len().max(1)),
            None => finding,
        }
    });
    found.collect()
}

/// Whether the dialects understand something of it differently; what cannot be read is nothing.
fn is_ambiguous(submission: &Submission<'_>) -> bool {
    let draft = submission.draft(Dialect::default());
    draft.is_ok_and(|draft| draft.is_ambiguous)
}

/// What directives begin with.
fn prefix<'a>(submission: &Submission<'a>, dialect: Dialect) -> &'a str {
    let variable = submission.call.env.get("PBS_DPREFIX");
    let variable = variable.filter(|_| dialect == Dialect::Pro);
    submission.parsed.value('C').or(variable).unwrap_or(PREFIX)
}

/// Cards of the job on each of its nodes; `None` when they are not the same on all.
fn cards(draft: &Draft) -> Option<u32> {
    let asked = |name: &str| {
        let found = draft.resources.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    };
    let loose = asked("gpus").or(asked("ngpus")).map(str::parse::<u32>);
    if let Some(select) = asked("select") {
        let nodes = Select::parse(select).ok()?.as_nodes();
        return alike(&nodes);
    }
    match (asked("nodes"), loose) {
        (Some(nodes), loose) => {
            let own = alike(&NodeSpec::parse(nodes).ok()?)?;
            match (own, loose) {
                (0, Some(loose)) => loose.ok(),
                (own, _) => Some(own),
            }
        }
        (None, Some(loose)) => loose.ok(),
        (None, None) => Some(0),
    }
}

fn alike(nodes: &NodeSpec) -> Option<u32> {
    let first = nodes.chunks.first()?.gpus;
    let is_alike = nodes.chunks.iter().all(|chunk| chunk.gpus == first);
    is_alike.then_some(first)
}
