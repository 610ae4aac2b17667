//! The tasks of one `pbsdsh`, under way: what they say is written as it comes. How they ended is told in their order, in
//! Torque's words.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use capstan_proto::connect_unix;
use capstan_proto::wire::task_output::Output as Said;
use capstan_proto::wire::{RunTaskRequest, Variable};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tonic::transport::Channel;

use super::call::{Call, Heard};
use super::options::Options;
use super::output::{Output, say};
use super::{NAME, Place, TM_ESYSTEM, ranks};
use crate::startdocker::long_key;

/// Tasks on one connection: an HTTP/2 connection carries a bounded number of calls.
const TASKS_PER_CONNECTION: usize = 64;
/// Words of tasks that wait to be written.
const WORDS_MAX: usize = 16;

/// What is to be run, and where its words go.
pub(super) struct Tasks {
    pub(super) socket: PathBuf,
    pub(super) options: Options,
    pub(super) environment: Vec<Variable>,
    /// `MASTER_PORT`, where tasks are told their ranks.
    pub(super) meeting_port: Option<String>,
    /// The host of each number, of all that the call counts.
    pub(super) hosts: Vec<String>,
    pub(super) output: Output,
    /// It was said that a task cannot be reached, and none was heard of since.
    pub(super) is_away: bool,
}

/// What is told of tasks, and the order in which it is.
#[derive(Default)]
struct Account {
    spawns: usize,
    obits: usize,
    /// By number: running, or how it ended, not yet told.
    open: BTreeMap<u32, Option<i32>>,
}

impl Tasks {
    /// Runs the program on every place, at once or one by one.
    pub(super) async fn run(mut self, places: Vec<Place>) -> ExitCode {
        let Ok(mut signals) = Signals::catch() else {
            say(&format!("{NAME}: cannot catch signals"));
            return ExitCode::FAILURE;
        };
        let each = if self.options.one_by_one {
            1
        } else {
            places.len().max(1)
        };
        for batch in places.chunks(each) {
            if let Err(status) = self.batch(batch, &mut signals).await {
                return ExitCode::from(status);
            }
        }
        ExitCode::SUCCESS
    }

    async fn batch(&mut self, places: &[Place], signals: &mut Signals) -> Result<(), u8> {
        let (hear, mut heard) = mpsc::channel(WORDS_MAX);
        let mut account = Account::default();
        let mut channel: Option<Channel> = None;
        for (at, &(place, number)) in places.iter().enumerate() {
            if at % TASKS_PER_CONNECTION == 0 {
                channel = connect_unix(&self.socket).await.ok();
            }
            let Some(channel) = channel.clone() else {
                say(&format!(
                    "{NAME}: spawn failed on node {number} err TM_ESYSTEM"
                ));
                continue;
            };
            if self.options.is_verbose {
                say(&format!("{NAME}: spawned task {number}"));
            }
            account.spawns += 1;
            account.open.insert(number, None);
            // What the caller names goes behind, and so counts.
            let mut environment = match &self.meeting_port {
                Some(port) => ranks::variables(&self.hosts, number, port),
                None => Vec::new(),
            };
            environment.extend(self.environment.iter().cloned());
            let request = RunTaskRequest {
                place,
                arguments: self.options.program.clone(),
                environment,
                rank: number,
                is_gang: self.options.is_gang,
                // Without chance it ends with the first connection that is lost.
                key: long_key().unwrap_or_default(),
                ..RunTaskRequest::default()
            };
            let call = Call::new(channel, request, number, hear.clone());
            tokio::spawn(call.listen());
        }
        drop(hear);
        loop {
            tokio::select! {
                heard = heard.recv() => match heard {
                    Some(heard) => {
                        let death = self.death(&heard);
                        self.heard(&mut account, heard);
                        if let Some((number, status)) = death {
                            self.end_gang(number);
                            return Err(status);
                        }
                    }
                    None => return Ok(()),
                },
                number = signals.next() => {
                    for task in account.open.keys() {
                        say(&format!("{NAME}: killing task {task} signal {number}"));
                    }
                    // The agent ends what nobody listens to.
                    return Err(1);
                }
            }
        }
    }

    /// Which task of a gang died with this word, and the exit status that the call ends with.
    fn death(&self, heard: &Heard) -> Option<(u32, u8)> {
        let (number, status) = match heard {
            Heard::Said(
                _,
                Said::Started(_)
                | Said::Stdout(_)
                | Said::Stderr(_)
                | Said::ExitStatus(0)
                | Said::Away(_),
            )
            | Heard::Away(..) => return None,
            Heard::Said(number, Said::ExitStatus(status)) => (*number, *status),
            Heard::Said(number, Said::Failed(_)) | Heard::Lost(number, _) => (*number, 1),
        };
        let status = u8::try_from(status).ok().filter(|status| *status != 0);
        self.options.is_gang.then(|| (number, status.unwrap_or(1)))
    }

    /// Says who failed first. The agent ends what nobody listens to.
    fn end_gang(&self, number: u32) {
        let host = self.hosts.get(number as usize);
        let host = host.map_or("an unknown host", String::as_str);
        say(&format!(
            "{NAME}: rank {number} on {host} failed first; ending the others"
        ));
    }

    fn heard(&mut self, account: &mut Account, heard: Heard) {
        let is_verbose = self.options.is_verbose;
        let was_away = std::mem::replace(&mut self.is_away, matches!(heard, Heard::Away(..)));
        match heard {
            Heard::Away(number, problem) if !was_away => {
                say(&format!(
                    "{NAME}: task {number} cannot be reached, and goes on: {problem}"
                ));
            }
            Heard::Away(..) | Heard::Said(_, Said::Away(_)) => {}
            Heard::Said(number, Said::Started(_)) => account.started(number, is_verbose),
            Heard::Said(_, Said::Stdout(bytes)) => self.output.stdout(&bytes),
            Heard::Said(_, Said::Stderr(bytes)) => self.output.stderr(&bytes),
            Heard::Said(number, Said::ExitStatus(status)) => {
                account.open.insert(number, Some(status));
                account.tell(is_verbose);
            }
            Heard::Said(number, Said::Failed(problem)) | Heard::Lost(number, problem) => {
                account.failed(number, &problem);
                account.tell(is_verbose);
            }
        }
    }
}

impl Account {
    fn started(&mut self, number: u32, is_verbose: bool) {
        let (spawns, obits) = (self.spawns, self.obits);
        self.spawns = spawns.saturating_sub(1);
        self.obits += 1;
        if is_verbose {
            say(&format!(
                "{NAME}: spawn event returned: {number} ({spawns} spawns and {obits} obits outstanding)\n\
                 {NAME}: sending obit for task {number}"
            ));
        }
    }

    /// A task that is lost while it runs counts among those whose end was waited for.
    fn failed(&mut self, number: u32, problem: &str) {
        self.spawns = self.spawns.saturating_sub(1);
        self.open.remove(&number);
        say(&format!(
            "{NAME}: error {TM_ESYSTEM} on spawn\n{NAME}: {problem}"
        ));
    }

    /// Tells of those that have ended, as far as no task of a lower number runs: the order does not depend on chance then.
    fn tell(&mut self, is_verbose: bool) {
        while let Some(first) = self.open.first_entry() {
            let (number, Some(status)) = (*first.key(), *first.get()) else {
                return;
            };
            first.remove();
            let (spawns, obits) = (self.spawns, self.obits);
            self.obits = obits.saturating_sub(1);
            if is_verbose {
                say(&format!(
                    "{NAME}: obit event returned: {number} ({spawns} spawns and {obits} obits outstanding)"
                ));
            }
            if is_verbose || status != 0 {
                say(&format!("{NAME}: task {number} exit status {status}"));
            }
        }
    }
}

/// Signals that end us, and our tasks with us.
struct Signals([(i32, Signal); 3]);

impl Signals {
    fn catch() -> std::io::Result<Self> {
        let catch = |number: i32| signal(SignalKind::from_raw(number)).map(|it| (number, it));
        Ok(Self([
            catch(libc::SIGHUP)?,
            catch(libc::SIGINT)?,
            catch(libc::SIGTERM)?,
        ]))
    }

    async fn next(&mut self) -> i32 {
        std::future::poll_fn(|context| {
            for (number, signal) in &mut self.0 {
                if signal.poll_recv(context).is_ready() {
                    return std::task::Poll::Ready(*number);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}
