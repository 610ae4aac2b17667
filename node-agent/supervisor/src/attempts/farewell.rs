//! The footer's coming into the output: what the agent adds to an end, and what a shim tells it of one that is near, when
//! output is about to leave the node and the footer is to stand in it by then. That is one line of text.

use capstan_proto::wire::{self, AttemptEnded, attempt_ended::Outcome};

use super::figures;
use super::keeper::Keeping;
use super::live::{self, LiveAttempt};
use super::outputs;
use super::sisters::Answer;
use crate::ports::Containers;

/// The first word of the line.
const WORD: &str = "farewell";
/// Of the cause so much is told.
const CAUSE_BYTES_MAX: usize = 300;
/// How startdocker ends when there is no container.
const NOT_STARTED: i32 = 125;
/// Why there is none, where that was not kept.
const FORGOTTEN: &str =
    "its container did not begin, and the agent that knew why was ended: the job's output tells";

/// How the script ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Farewell {
    pub(super) exit_status: i32,
    pub(super) cput_secs: u64,
    pub(super) vmem_kb: u64,
    pub(super) mem_kb: u64,
    pub(super) walltime_secs: u64,
    /// One line; empty when it ended by itself.
    pub(super) cause: String,
}

impl Farewell {
    /// As a shim says it.
    pub(super) fn line(&self) -> String {
        let Self {
            exit_status,
            cput_secs,
            vmem_kb,
            mem_kb,
            walltime_secs,
            cause,
        } = self;
        let mut said = String::new();
        for c in cause.chars() {
            if said.len() + c.len_utf8() > CAUSE_BYTES_MAX {
                break;
            }
            said.push(if c.is_control() { ' ' } else { c });
        }
        format!("{WORD} {exit_status} {cput_secs} {vmem_kb} {mem_kb} {walltime_secs} {said}\n")
    }

    /// As an agent reads it.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let mut words = line.trim_end_matches('\n').splitn(7, ' ');
        (words.next()? == WORD).then_some(())?;
        let exit_status = words.next()?.parse().ok()?;
        let mut number = || words.next()?.parse().ok();
        Some(Self {
            exit_status,
            cput_secs: number()?,
            vmem_kb: number()?,
            mem_kb: number()?,
            walltime_secs: number()?,
            cause: words.next()?.to_owned(),
        })
    }

    /// As an end that is reported.
    pub(super) fn ended(self, attempt: u64) -> AttemptEnded {
        let Self {
            exit_status,
            cput_secs,
            vmem_kb,
            mem_kb,
            walltime_secs,
            cause,
        } = self;
        AttemptEnded {
            usage: Some(wire::Usage {
                cput_secs,
                vmem_kb,
                mem_kb,
                walltime_secs,
                ..wire::Usage::default()
            }),
            cause,
            ..live::ended(attempt, Outcome::ExitStatus(exit_status))
        }
    }
}

impl<C: Containers, G> Keeping<C, G> {
    /// Adds what the agent saw of an attempt to its end.
    pub(super) fn complete(&self, attempt: &LiveAttempt, ended: &mut AttemptEnded) {
        if let Some(usage) = &mut ended.usage {
            usage.vmem_kb = usage.vmem_kb.max(attempt.vmem_kb_peak());
            usage.measures = attempt.with_meter(|meter| meter.measures());
        }
        if let (Some(failed), Some(Outcome::ExitStatus(1..))) = (attempt.failed(), &ended.outcome)
            && ended.cause.is_empty()
        {
            ended.cause.clone_from(&failed.words);
        }
        if let (Some(problem), Some(Outcome::ExitStatus(NOT_STARTED))) =
            (attempt.not_begun(), &ended.outcome)
        {
            let reason = format!("{}: {problem}", attempt.entry.node);
            ended.outcome = Some(Outcome::PrologueFailed(reason));
        }
    }

    /// Whether the container of a job began is forgotten when the agent is killed. One that never had any did not begin, so
    /// nothing ran and another try does no harm. To be called before what is left of its containers is removed.
    pub(super) async fn recall_beginning(&self, attempt: &LiveAttempt, ended: &AttemptEnded) {
        let is_told = ended.outcome == Some(Outcome::ExitStatus(NOT_STARTED));
        if !is_told || attempt.entry.spec.image.is_empty() || attempt.knows_beginning() {
            return;
        }
        let all = self.containers.attempts_with_containers().await;
        if all.is_ok_and(|all| !all.contains(&attempt.entry.attempt())) {
            attempt.note_beginning(Some(FORGOTTEN.to_owned()));
        }
    }

    /// The footer of output that is about to leave the node.
    pub(super) async fn say_farewell(&self, attempt: &LiveAttempt, farewell: Farewell) -> Answer {
        let mut ended = farewell.ended(attempt.entry.spec.attempt);
        self.complete(attempt, &mut ended);
        ended.images = self.containers.images_of(attempt.entry.attempt());
        self.add_footer(attempt, &ended).await;
        Ok(())
    }

    pub(super) async fn add_footer(&self, attempt: &LiveAttempt, ended: &AttemptEnded) {
        let sisters = figures::of_sisters(&attempt.entry, &self.tasks).await;
        outputs::add_footer(attempt, ended, sisters).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_an_end_survives_the_line() {
        let mut farewell = Farewell {
            exit_status: -11,
            cput_secs: 1,
            vmem_kb: 2,
            mem_kb: 3,
            walltime_secs: 4,
            cause: "rank 1 on gpu02 failed first".to_owned(),
        };
        let read = |told: &Farewell| Farewell::parse(told.line().trim_end_matches('\n'));
        assert_eq!(read(&farewell).as_ref(), Some(&farewell));
        farewell.cause.clear();
        assert_eq!(read(&farewell).as_ref(), Some(&farewell));
        farewell.cause = format!("a\nb{}", "x".repeat(9999));
        let told = read(&farewell).unwrap().cause;
        assert!(told.starts_with("a bxx") && told.len() <= CAUSE_BYTES_MAX);
        assert_eq!(farewell.line().matches('\n').count(), 1);
        for bad in ["farewell", "farewell x 1 2 3 4 ", "started 1 2 3 4"] {
            assert_eq!(Farewell::parse(bad), None, "{bad}");
        }
        let ended = farewell.ended(7);
        assert_eq!(ended.outcome, Some(Outcome::ExitStatus(-11)));
        assert_eq!(ended.usage.unwrap().mem_kb, 3);
    }
}
