//! What `momctl` tells of this node: a report as Torque's daemon gives it, as far as there is such a thing here, and
//! single values by name.

use std::fmt::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use capstan_proto::wire::{DiagnoseNode, KnownAttempt, known_attempt::Phase, server_message};
use capstan_supervisor::attempts::Supervisor;
use tokio::sync::Notify;

use crate::host;
use crate::inventory::load_average;

/// As Torque answers a name that it does not know.
const UNKNOWN: &str = "? 15201";

/// The release of Torque as whose daemon we are known.
const TORQUE_VERSION: &str = "6.1.3.h5";

/// Facts of this agent.
pub(crate) struct Diagnosis {
    pub(crate) node: String,
    /// The server's address.
    pub(crate) server: String,
    pub(crate) state_folder: PathBuf,
    pub(crate) uname: String,
    began: Instant,
    /// When the server last said something, and what it was.
    heard: Mutex<Option<(Instant, &'static str)>>,
    /// Asks for a heartbeat now.
    pub(crate) beat: Notify,
    /// Seconds between heartbeats.
    heartbeat_secs: AtomicU64,
}

impl Diagnosis {
    /// Of an agent that begins now.
    pub(crate) fn new(node: String, server: String, state_folder: PathBuf, uname: String) -> Self {
        Self {
            node,
            server,
            state_folder,
            uname,
            began: Instant::now(),
            heard: Mutex::new(None),
            beat: Notify::new(),
            heartbeat_secs: AtomicU64::new(0),
        }
    }

    /// The server said something.
    pub(crate) fn note(&self, what: &'static str) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        *heard = Some((Instant::now(), what));
    }

    /// The server has taken us in, and wants to hear from us so often.
    pub(crate) fn welcomed(&self, heartbeat: Duration) {
        self.heartbeat_secs
            .store(heartbeat.as_secs(), Ordering::Relaxed);
        self.note("Welcome");
    }

    /// Answers a question. Reads `/proc`: blocks for a moment.
    pub(crate) fn answer(&self, wish: &DiagnoseNode, supervisor: &Supervisor) -> String {
        match wish.attribute.as_str() {
            "" => self.report(wish.level, &supervisor.alive()),
            name => self.value(name, &supervisor.alive()),
        }
    }

    /// As `momctl -d LEVEL` prints it.
    fn report(&self, level: u32, attempts: &[KnownAttempt]) -> String {
        let mut text = String::from("\n");
        let mut line = |line: String| {
            text.push_str(&line);
            text.push('\n');
        };
        line(format!(
            "Host: {node}/{node}   Version: {TORQUE_VERSION}   PID: {}",
            std::process::id(),
            node = self.node
        ));
        line(format!("Server[0]: {}", self.server));
        match *self.heard.lock().unwrap_or_else(PoisonError::into_inner) {
            Some((at, what)) => line(format!(
                "  Last Msg From Server:   {} seconds ({what})",
                at.elapsed().as_secs()
            )),
            None => line("  WARNING:  no messages received from server".to_owned()),
        }
        line(format!(
            "HomeDirectory:          {}",
            self.state_folder.display()
        ));
        line(format!(
            "MOM active:             {} seconds",
            self.began.elapsed().as_secs()
        ));
        if level >= 1 {
            let heartbeat = self.heartbeat_secs.load(Ordering::Relaxed);
            line(format!("Server Update Interval: {heartbeat} seconds"));
        }
        line("LogLevel:               0 (use CAPSTAN_LOG to adjust)".to_owned());
        if level >= 1 {
            line("Communication Model:    TCP".to_owned());
        }
        if level >= 2 {
            let spool = self.state_folder.join("spool");
            line(format!(
                "stdout/stderr spool directory: '{}'",
                spool.display()
            ));
            line(format!(
                "Agent version:          {}",
                env!("CARGO_PKG_VERSION")
            ));
        }
        let live = |known: &&KnownAttempt| !matches!(known.phase, Some(Phase::Ended(_)));
        let live: Vec<&KnownAttempt> = attempts.iter().filter(live).collect();
        if live.is_empty() {
            line("NOTE:  no local jobs detected".to_owned());
        }
        for known in live {
            line(job_line(known, level));
        }
        text.push_str("\ndiagnostics complete\n");
        text
    }

    /// As `momctl -q NAME` prints the value.
    fn value(&self, name: &str, attempts: &[KnownAttempt]) -> String {
        let status = host::status(&self.server);
        let numbers = |numbers: &[u32]| {
            let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
            numbers.join(" ")
        };
        match name {
            "cycle" => {
                self.beat.notify_one();
                "cycle forced".to_owned()
            }
            "arch" | "opsys" => status.system,
            "uname" => self.uname.clone(),
            "version" => TORQUE_VERSION.to_owned(),
            "ncpus" => status.cpus.to_string(),
            "physmem" => format!("{}kb", status.physical_kb),
            "totmem" => format!("{}kb", status.total_kb),
            "availmem" => format!("{}kb", status.available_kb),
            "loadave" => format!("{:.2}", load_average()),
            "netload" => status.network_bytes.to_string(),
            "idletime" => status.idle_secs.to_string(),
            "sessions" => numbers(&status.sessions),
            "nsessions" => status.session_count.to_string(),
            "nusers" => status.user_count.to_string(),
            "macaddr" => status.mac_address,
            "uptime" => host::uptime_secs().to_string(),
            "jobs" => {
                let jobs: Vec<&str> = attempts.iter().map(|known| known.job_id.as_str()).collect();
                jobs.join(" ")
            }
            _ => UNKNOWN.to_owned(),
        }
    }
}

fn job_line(known: &KnownAttempt, level: u32) -> String {
    let (state, session) = match &known.phase {
        Some(Phase::Running(started)) => ("RUNNING", started.session.to_string()),
        Some(Phase::Ended(_)) => ("EXITED", String::new()),
        Some(Phase::Starting(_)) | None => ("PRERUN", String::new()),
    };
    let mut line = format!("job[{}]  state={state}  sidlist={session}", known.job_id);
    if level >= 3 {
        // Writing to a string cannot fail.
        let _done = write!(line, "  attempt={}", known.attempt);
    }
    line
}

/// What the server said, in a word.
pub(crate) const fn name(message: &server_message::Message) -> &'static str {
    use server_message::Message as M;
    match message {
        M::Welcome(_) => "Welcome",
        M::Start(_) => "StartAttempt",
        M::Stop(_) => "StopAttempt",
        M::Adjust(_) => "AdjustAttempt",
        M::Forget(_) => "ForgetAttempt",
        M::Ask(_) | M::AnswerTaken(_) | M::DropQuestion(_) => "Question",
        M::PrepareImage(_) | M::DropImage(_) => "Image",
        M::RunTask(_)
        | M::StopTask(_)
        | M::LeaveTask(_)
        | M::TaskReport(_)
        | M::TaskTaken(_)
        | M::TaskSeen(_) => "Task",
        M::OpenSession(_) | M::SessionInput(_) | M::CloseSession(_) => "Session",
    }
}

#[cfg(test)]
mod tests {
    use capstan_proto::wire::AttemptStarted;

    use super::*;

    fn diagnosis() -> Diagnosis {
        Diagnosis::new(
            "gpu01".into(),
            "hn1:7000".into(),
            "/var/lib/capstan-agent".into(),
            "Linux gpu01".into(),
        )
    }

    #[test]
    fn a_report_lists_what_lives_and_is_longer_at_higher_levels() {
        let running = KnownAttempt {
            attempt: 7,
            job_id: "3.hn1".into(),
            phase: Some(Phase::Running(AttemptStarted {
                attempt: 7,
                session: 4711,
                at_ms: 0,
            })),
        };
        let diagnosis = diagnosis();
        let idle = diagnosis.report(0, &[]);
        assert!(
            idle.starts_with("\nHost: gpu01/gpu01   Version: 6.1.3.h5   PID: "),
            "{idle}"
        );
        assert!(idle.contains("no messages received from server"), "{idle}");
        assert!(idle.contains("NOTE:  no local jobs detected\n"), "{idle}");
        assert!(idle.ends_with("\ndiagnostics complete\n"), "{idle}");
        diagnosis.note("StatusJob");
        let busy = diagnosis.report(3, &[running]);
        assert!(
            busy.contains("  Last Msg From Server:   0 seconds (StatusJob)\n"),
            "{busy}"
        );
        assert!(
            busy.contains("job[3.hn1]  state=RUNNING  sidlist=4711  attempt=7\n"),
            "{busy}"
        );
        assert!(busy.lines().count() > idle.lines().count());
    }

    #[test]
    fn values_have_torques_names_and_its_word_for_unknown_ones() {
        let diagnosis = diagnosis();
        assert_eq!(diagnosis.value("opsys", &[]), "linux");
        assert_eq!(diagnosis.value("uname", &[]), "Linux gpu01");
        assert!(diagnosis.value("physmem", &[]).ends_with("kb"));
        assert_eq!(diagnosis.value("frobnicate", &[]), "? 15201");
    }
}
