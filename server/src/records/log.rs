//! One line of the server log: `MM/DD/YYYY HH:MM:SS.mmm;EV;Daemon.tid;Class;name;text`, as Torque writes it.

use std::fmt::Write;

use capstan_core::{Account, Job, JobState};
use capstan_types::{ServerName, Timestamp};

use super::Line;
use super::accounting::used;
use crate::view::words::local;

/// What kind of thing happened; `log_events` is a sum of their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogEvent {
    /// 4: something that an administrator did.
    Admin,
    /// 8: something that was asked of a job.
    Job,
    /// 16: what a job used.
    Usage,
    /// 256: less important than that.
    Debug2,
}

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogClass {
    /// The server.
    Server,
    /// A queue.
    Queue,
    /// A job.
    Job,
    /// A node.
    Node,
}

impl LogEvent {
    const fn number(self) -> u32 {
        match self {
            Self::Admin => 4,
            Self::Job => 8,
            Self::Usage => 16,
            Self::Debug2 => 256,
        }
    }

    /// Whether `log_events` has it.
    pub(crate) const fn is_in(self, log_events: u32) -> bool {
        log_events & self.number() != 0
    }
}

impl LogClass {
    const fn word(self) -> &'static str {
        match self {
            Self::Server => "Svr",
            Self::Queue => "Que",
            Self::Job => "Job",
            Self::Node => "node",
        }
    }
}

/// Appends the line, with its end. Lines are lines: what would break one is shown as a blank.
pub(super) fn append(text: &mut String, line: &Line) {
    let millis = line.at.0 % 1000;
    let head = local(line.at).strftime("%m/%d/%Y %H:%M:%S");
    let (event, class) = (line.event.number(), line.class.word());
    let said = line.text.replace(char::is_control, " ");
    let daemon = std::process::id();
    let written = writeln!(
        text,
        "{head}.{millis:03};{event:02};PBS_Server.{daemon};{class};{};{said}",
        line.object
    );
    written.expect("a String takes everything");
}

/// What the server log says of a record of a job; `None` for what it does not tell.
pub(super) fn of_job(
    job: &Job,
    record: &Account,
    at: Timestamp,
    server: &ServerName,
) -> Option<Line> {
    let (event, text) = match record {
        Account::Queued => {
            let text = format!("enqueuing into {}, state 1 hop 1", job.queue);
            (LogEvent::Debug2, text)
        }
        Account::Started => {
            let text = format!("Job Run at request of Scheduler@{server}");
            (LogEvent::Job, text)
        }
        Account::Deleted(by) => (LogEvent::Job, format!("Job deleted at request of {by}")),
        Account::Rerun => (LogEvent::Job, "Job Rerun".to_owned()),
        Account::StageInFailed(reason) => (LogEvent::Job, format!("Stage In failed: {reason}")),
        Account::NotDelivered(told) => {
            let first = told.lines().next().unwrap_or_default();
            let text = format!("Post job file processing error; {first}");
            (LogEvent::Job, text)
        }
        Account::Aborted => {
            let text = job.comment.as_deref().unwrap_or("Job aborted");
            (LogEvent::Job, text.to_owned())
        }
        Account::Ended => {
            let JobState::Ended(ended) = &job.state else {
                return None;
            };
            let usage = ended.run.as_ref().map(|run| run.usage).unwrap_or_default();
            let status = ended.exit_status.unwrap_or(0);
            let text = format!("Exit_status={status} {}", used(&usage));
            (LogEvent::Usage, text)
        }
    };
    Some(Line {
        at,
        event,
        class: LogClass::Job,
        object: job.id.on(server),
        text,
    })
}

#[cfg(test)]
mod tests {
    use capstan_core::Usage;
    use capstan_types::JobId;

    use super::*;
    use crate::testing::{ended, job, run, seconds};

    /// The line behind its local time, without the process id.
    fn line(job: &Job, record: &Account) -> String {
        let server = ServerName::from("hn1");
        let mut text = String::new();
        let line = of_job(job, record, Timestamp(seconds(0).0 + 657), &server).unwrap();
        append(&mut text, &line);
        let (head, rest) = text.split_once(';').unwrap();
        assert!(head.ends_with(".657"), "{head}");
        rest.replace(&format!(".{};", std::process::id()), ".PID;")
    }

    /// reference_logs.txt.
    #[test]
    fn lines_are_those_of_torque() {
        let asked = job(JobId::whole(260), "env.sh", &[("nodes", "1")]);
        assert_eq!(
            line(&asked, &Account::Queued),
            "256;PBS_Server.PID;Job;260.hn1;enqueuing into batch, state 1 hop 1\n"
        );
        assert_eq!(
            line(&asked, &Account::Deleted("root@hn1".into())),
            "08;PBS_Server.PID;Job;260.hn1;Job deleted at request of root@hn1\n"
        );
        let mut last = run(&[("gpu01", &[0], &[])], 0, 1);
        last.usage = Usage::default();
        let over = ended(asked, last, 0, 0);
        assert_eq!(
            line(&over, &Account::Ended),
            "16;PBS_Server.PID;Job;260.hn1;Exit_status=0 resources_used.cput=0 resources_used.vmem=0kb \
             resources_used.walltime=00:00:00 resources_used.mem=0kb resources_used.energy_used=0\n"
        );
    }

    #[test]
    fn log_events_choose() {
        assert!(LogEvent::Usage.is_in(511));
        assert!(!LogEvent::Usage.is_in(256 + 8));
    }

    #[test]
    fn a_name_cannot_break_a_line() {
        let mut asked = job(JobId::whole(1), "a", &[]);
        asked.comment = Some("two\nlines".into());
        let text = line(&asked, &Account::Aborted);
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}
