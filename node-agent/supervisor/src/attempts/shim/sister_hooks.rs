//! Prologues and epilogues of an attempt's other nodes: the shim of its script has them run and waits; what runs them there
//! has the same rules for whose they are and as whom they run.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::ask::{Asked, Question, ask};
use super::control::{Control, Limits};
use super::hooks::{Ended, Hooks, Listener, NotBegun, Owner, name_of};
use super::told::{self, Outcome};
use crate::attempts::sisters::{Wanted, sisters};

/// How much longer than their scripts may take the other nodes are waited for.
const SISTERS_WAIT: Duration = Duration::from_secs(60);

impl Hooks<'_> {
    /// Has the attempt's other nodes run their prologues. As in Torque a node that fails is no reason to end the job,
    /// whatever the status: it is tried again.
    pub(super) fn sisters_before(
        &self,
        control: &mut Control,
        limits: &mut Vec<Limits>,
    ) -> Result<(), NotBegun> {
        if !self.has_sisters() {
            return Ok(());
        }
        match ask(
            control,
            self.signals,
            &Question::Sisters(Wanted::Before),
            self.sisters_time(),
            limits,
        ) {
            Asked::Answered(Ok(())) => Ok(()),
            Asked::Answered(Err(problem)) => Err(NotBegun::Failed(problem)),
            Asked::Stopped(stop) => Err(NotBegun::Stopped(stop)),
        }
    }

    /// Has the attempt's other nodes run their epilogues; a sentence, if one failed.
    pub(super) fn sisters_after(
        &self,
        control: &mut Control,
        outcome: &Outcome<'_>,
    ) -> Option<String> {
        if !self.has_sisters() {
            return None;
        }
        let usage = outcome.usage;
        let wanted = Wanted::After {
            session: outcome.session,
            exit_status: outcome.exit_status,
            cput_secs: usage.cput_secs,
            vmem_kb: usage.vmem_kb,
            mem_kb: usage.mem_kb,
            walltime_secs: usage.walltime_secs,
        };
        // Limits of a job that has ended.
        let mut limits = Vec::new();
        match ask(
            control,
            self.signals,
            &Question::Sisters(wanted),
            self.sisters_time(),
            &mut limits,
        ) {
            Asked::Answered(answer) => answer.err(),
            Asked::Stopped(_) => None,
        }
    }

    /// Without root there are no scripts, here or there.
    fn has_sisters(&self) -> bool {
        !self.entry.hooks_folder.is_empty() && !sisters(self.entry).is_empty()
    }

    /// Two scripts each, and the way to the other nodes.
    fn sisters_time(&self) -> Duration {
        Duration::from_secs(self.entry.hook_secs.into()) * 2 + SISTERS_WAIT
    }

    /// Runs the prologues of another node than that of the script; which failed, and how. `asker` closes, or says
    /// something, when nobody waits for it any more.
    pub(in crate::attempts) fn before_on_sister(&self, asker: &UnixStream) -> Result<(), String> {
        let arguments = told::prologue(self.entry, self.identity);
        let site = self.named("prologue.parallel");
        let all = [
            site.map(|path| (path, Owner::Site)),
            self.for_user("prologue.user.parallel"),
        ];
        for (path, owner) in all.into_iter().flatten() {
            let name = name_of(&path);
            match self.run(&path, owner, &arguments, Listener::Asker(asker)) {
                Ended::With(0) => {}
                Ended::With(status) => return Err(format!("{name} ended with {status}")),
                Ended::Badly(problem) => return Err(format!("{name} {problem}")),
                Ended::Stopped(_) => return Err(format!("{name} was stopped")),
            }
        }
        Ok(())
    }

    /// Runs the epilogues of another node than that of the script; a sentence for each that failed.
    pub(in crate::attempts) fn after_on_sister(&self, outcome: &Outcome<'_>) -> Vec<String> {
        let site = self.named("epilogue.parallel");
        let all = [
            self.for_user("epilogue.user.parallel"),
            site.map(|path| (path, Owner::Site)),
        ];
        self.run_all(all, outcome)
    }
}
