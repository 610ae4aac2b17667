//! The course of an attempt in its shim: files to the node, prologues, the script, epilogues, files from the node, and the
//! end as it is reported. What was begun is ended whichever of them fails.

use std::time::Duration;

use capstan_proto::wire::{self, attempt_ended::Outcome};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;

use super::ask::{Question, ask};
use super::attend::{Ran, Shim};
use super::control::{Control, Stop};
use super::delivery::{self, Outgoing};
use super::hooks::{Hooks, NotBegun};
use super::launch::{self, Prepared};
use super::staging::{Copied, NotStaged, Staging};
use super::terminal::NotWatched;
use super::told;
use super::verdict::{self, Cause, Exit};
use super::{ended, files, kill, scratch};
use crate::attempts::cgroup::Cgroup;
use crate::attempts::farewell::Farewell;
use crate::attempts::record::{Entry, Identity};

/// The exit status of a session to whose terminal nobody came: Torque's JOB_EXEC_FAIL1.
const NOT_WATCHED: i32 = -1;
/// How long output waits for its footer: longer than the agent waits for other nodes.
const FOOTER_WAIT: Duration = Duration::from_secs(15);

pub(super) struct Course<'a> {
    pub(super) entry: &'a Entry,
    pub(super) signals: &'a SignalFd,
    pub(super) control: &'a mut Control,
}

/// How the script went, or why there was none.
struct Over {
    outcome: Outcome,
    ran: Ran,
    session: u32,
}

impl Over {
    fn unbegun(exit_status: i32, cause: String) -> Self {
        let ran = Ran {
            exit_status,
            cause,
            ..Ran::default()
        };
        let outcome = Outcome::ExitStatus(exit_status);
        let session = 0;
        Self {
            outcome,
            ran,
            session,
        }
    }

    fn failed(outcome: Outcome) -> Self {
        let over = Self::unbegun(verdict::PROLOGUE_FAILED, String::new());
        Self { outcome, ..over }
    }
}

impl Course<'_> {
    /// Runs everything; `started` is called with the session of the script when that runs.
    pub(super) fn run(mut self, started: impl FnOnce(&mut Control, u32)) -> wire::AttemptEnded {
        let entry = self.entry;
        let copied = match self.stage_in() {
            Ok(copied) => copied,
            Err(ended) => return *ended,
        };
        let prepared = match launch::prepare(entry, &self.control.terminal_name()) {
            Ok(prepared) => prepared,
            Err(problem) => {
                files::remove(entry, None);
                scratch::remove(entry);
                if let Some(identity) = &entry.identity {
                    self.staging(identity).remove(copied);
                }
                return ended(entry, problem.outcome(), wire::Usage::default());
            }
        };
        let written = prepared.files;
        let identity = prepared.identity;
        let kept = prepared.kept();
        let outgoing = prepared.outgoing();
        let hooks = Hooks::new(entry, identity, self.signals, &kept);
        let over = self.script(prepared, &hooks, started);
        let ended = self.finish(&hooks, (copied, outgoing), over);
        files::remove(entry, Some(&written));
        ended
    }

    /// Prologues and the script.
    fn script(
        &mut self,
        mut prepared: Prepared<'_>,
        hooks: &Hooks<'_>,
        started: impl FnOnce(&mut Control, u32),
    ) -> Over {
        let before = hooks.before(self.control);
        prepared.show(hooks.streams);
        let limits = match before {
            Ok(limits) => limits,
            Err(NotBegun::Aborted(problem)) => {
                prepared.dismiss(verdict::PROLOGUE_ABORTED, &problem);
                return Over::unbegun(verdict::PROLOGUE_ABORTED, problem);
            }
            Err(NotBegun::Stopped(stop)) => return Over::unbegun(stopped(stop), String::new()),
            Err(NotBegun::Failed(problem)) => {
                prepared.dismiss(verdict::PROLOGUE_FAILED, &problem);
                let problem = format!("prologue failed: {problem}");
                return Over::failed(Outcome::PrologueFailed(problem));
            }
        };
        let limits = match prepared.wait_for_terminal(self.control, self.signals, limits) {
            Ok(limits) => limits,
            Err(NotWatched::Stopped(stop)) => {
                return Over::unbegun(stopped(stop), String::new());
            }
            Err(NotWatched::Nobody) => {
                let cause = "nobody came to the terminal of this interactive job".to_owned();
                return Over::unbegun(NOT_WATCHED, cause);
            }
        };
        let launched = match prepared.start() {
            Ok(launched) => launched,
            Err(problem) => return Over::failed(problem.outcome()),
        };
        let session = launched.child.as_raw() as u32;
        started(self.control, session);
        let ran = Shim::new(launched, hooks).attend(self.control, &limits);
        Over {
            outcome: Outcome::ExitStatus(ran.exit_status),
            ran,
            session,
        }
    }

    /// Epilogues, files from the node, and what was made for the attempt.
    fn finish(
        &mut self,
        hooks: &Hooks<'_>,
        (copied, outgoing): (Copied, Vec<Outgoing>),
        over: Over,
    ) -> wire::AttemptEnded {
        let Over {
            outcome,
            ran,
            session,
        } = over;
        let Ran {
            exit_status,
            cause,
            usage,
            mut messages,
        } = ran;
        let told = told::Outcome {
            session,
            usage: &usage,
            exit_status,
        };
        messages.extend(hooks.sisters_after(self.control, &told));
        messages.extend(hooks.after(&told));
        if hooks.have_run() {
            end_rest(self.entry);
        }
        let staging = self.staging(hooks.identity);
        match outcome {
            // Whatever its exit status, and whoever ended it: what a job made until its walltime is worth keeping.
            Outcome::ExitStatus(_) if session != 0 => {
                let problems = staging.copy_out(copied, self.control);
                for problem in &problems {
                    hooks.streams.append(problem);
                }
                messages.extend(problems);
            }
            Outcome::ExitStatus(_)
            | Outcome::Unstartable(_)
            | Outcome::Lost(_)
            | Outcome::StageInFailed(_)
            | Outcome::PrologueFailed(_) => staging.remove(copied),
        }
        scratch::leave(self.entry, exit_status != 0);
        let ended = wire::AttemptEnded {
            messages,
            cause,
            ..ended(self.entry, outcome, usage)
        };
        self.deliver(&outgoing, hooks, ended)
    }

    /// Sends output to other hosts, with its footer; the end with a message for what stays here.
    fn deliver(
        &mut self,
        outgoing: &[Outgoing],
        hooks: &Hooks<'_>,
        mut ended: wire::AttemptEnded,
    ) -> wire::AttemptEnded {
        if outgoing.is_empty() {
            return ended;
        }
        let Some(Outcome::ExitStatus(exit_status)) = ended.outcome else {
            // The job is tried again, and has not said anything yet.
            delivery::forget(self.entry, outgoing);
            return ended;
        };
        if self.entry.spec.footer && outgoing.iter().any(|stream| stream.letter == 'o') {
            let usage = ended.usage.unwrap_or_default();
            let farewell = Farewell {
                exit_status,
                cput_secs: usage.cput_secs,
                vmem_kb: usage.vmem_kb,
                mem_kb: usage.mem_kb,
                walltime_secs: usage.walltime_secs,
                cause: ended.cause.clone(),
            };
            let question = Question::Footer(farewell);
            // Limits of a job that has ended.
            let mut limits = Vec::new();
            // Without an agent, output leaves without a footer.
            let _answer = ask(
                self.control,
                self.signals,
                &question,
                FOOTER_WAIT,
                &mut limits,
            );
        }
        let staging = self.staging(hooks.identity);
        let problems = staging.deliver(outgoing, self.control);
        ended.messages.extend(problems);
        ended
    }

    /// Copies files to the node; the attempt's end, when the script cannot start for want of one.
    fn stage_in(&mut self) -> Result<Copied, Box<wire::AttemptEnded>> {
        let entry = self.entry;
        let has_files = !entry.spec.stage_in.is_empty();
        let Some(identity) = entry.identity.as_ref().filter(|_| has_files) else {
            return Ok(Copied::default());
        };
        let problem = match self.staging(identity).copy_in(self.control) {
            Ok(copied) => return Ok(copied),
            Err(problem) => problem,
        };
        Err(Box::new(match problem {
            NotStaged::Failed(message) => {
                let line = |text: &str| text.lines().next().unwrap_or_default().to_owned();
                let cause = message.lines().nth(2).map(line).unwrap_or_default();
                let reason = format!("{}: {cause}", line(&message));
                let outcome = Outcome::StageInFailed(reason);
                wire::AttemptEnded {
                    messages: vec![message],
                    ..ended(entry, outcome, wire::Usage::default())
                }
            }
            NotStaged::Stopped(stop) => {
                let outcome = Outcome::ExitStatus(stopped(stop));
                ended(entry, outcome, wire::Usage::default())
            }
        }))
    }

    fn staging<'b>(&self, identity: &'b Identity) -> Staging<'b>
    where
        Self: 'b,
    {
        Staging {
            entry: self.entry,
            identity,
            signals: self.signals,
        }
    }
}

/// The status of an attempt that was stopped before its script began.
fn stopped(stop: Stop) -> i32 {
    let signal = Signal::try_from(stop.signal).unwrap_or(Signal::SIGTERM);
    verdict::exit_status(Some(Cause::Stopped(signal)), Exit::Signal(signal as i32))
}

/// Kills what prologues and epilogues left behind.
fn end_rest(entry: &Entry) {
    if let Some(cgroup) = Cgroup::at(&entry.cgroups) {
        // What could not be killed in time is tried again below, by descent.
        let _all = cgroup.kill_all(|| {});
    }
    kill::kill_descendants();
}
