//! `qstat`: lists jobs, queues and the server. Operands are asked for one by one; what cannot be shown is told on
//! stderr when the rest is out, and the first failure is the exit status.

mod jobs;
mod options;
mod others;
mod usage;

use std::io::Write;

use capstan_proto::Refusal;
use capstan_proto::wire::{StatServerReply, StatServerRequest};
use capstan_types::Pbse;

use crate::command::{Call, Failure, exit_status, refusal};
use crate::dialect;
use crate::door::{self, Server};
use crate::output::screen::Screen;

pub(crate) use options::{Format, OPTIONS};
use options::{View, Wish};

/// Lists what the command line asks for.
///
/// # Errors
/// Misuse, a server that is not there, an output that cannot be written.
pub(crate) async fn run<W: Write>(call: &Call, screen: &mut Screen<W>) -> Result<u8, Failure> {
    let mut dialect = dialect::from_environment(&call.env);
    // Misuse is told without a server; only the rest of a disputed command line needs its word.
    let mut wish = Wish::read(call, dialect)?;
    let mut server = door::open(call, door::patience(None, &call.env)).await?;
    if dialect.is_none() && options::is_contested(call) {
        dialect = Some(dialect::of_server(&mut server).await);
        wish = Wish::read(call, dialect)?;
    }
    let mut listing = Listing {
        server,
        screen,
        status: 0,
        late: Vec::new(),
    };
    match wish.view {
        View::Queues { .. } | View::Limits => others::queues(&mut listing, &wish).await?,
        View::Server { in_full } => others::servers(&mut listing, &wish, in_full).await?,
        View::Rows | View::Wide | View::Full | View::Cards => {
            jobs::list(&mut listing, &wish).await?
        }
    }
    for text in std::mem::take(&mut listing.late) {
        listing.screen.complain(&text);
    }
    Ok(listing.status)
}

/// A listing in the making.
struct Listing<'a, W: Write> {
    server: Server,
    screen: &'a mut Screen<W>,
    /// The first failure.
    status: u8,
    /// What is said when all operands are done.
    late: Vec<String>,
}

impl<W: Write> Listing<'_, W> {
    /// Notes a failure: what is said about it in the end, and its exit status.
    fn fail(&mut self, status: u8, text: &str) {
        self.late.push(text.to_owned());
        if self.status == 0 {
            self.status = status;
        }
    }

    /// The same, with something that is said before the failures of other operands.
    fn fail_early(&mut self, status: u8, early: &str, late: &str) {
        self.screen.complain(early);
        self.fail(status, late);
    }

    /// Notes a refusal; `about` is the object, behind a blank.
    fn refuse(&mut self, refusal: &Refusal, about: &str) {
        self.fail(
            exit_status(refusal.error),
            &format!("qstat: {} {about}", refusal.text()),
        );
    }

    async fn server_status(&mut self) -> Result<StatServerReply, Failure> {
        let reply = self.server.stat_server(StatServerRequest {}).await;
        let failed = |refusal: Refusal| {
            Failure::new(
                exit_status(refusal.error),
                format!("qstat: {}", refusal.text()),
            )
        };
        Ok(reply
            .map_err(|status| failed(refusal(&status)))?
            .into_inner())
    }

    /// The server's name, and the version that it says it is.
    async fn identity(&mut self) -> Result<(String, String), Failure> {
        let status = self.server_status().await?;
        Ok(identity(&status))
    }

    /// The server's name and comment.
    async fn heading(&mut self) -> Result<(String, String), Failure> {
        let status = self.server_status().await?;
        let comment = status.attributes.iter().find(|a| a.name == "comment");
        let comment = comment.map_or_else(String::new, |a| a.value.clone());
        Ok((status.name, comment))
    }

    /// An operand without the server behind its `@`; `None`, and a complaint, when that is not the server we talk to.
    async fn here(&mut self, operand: &str) -> Result<Option<String>, Failure> {
        let Some((what, host)) = operand.split_once('@') else {
            return Ok(Some(operand.to_owned()));
        };
        let name = self.server_status().await?.name;
        if door::is_name_of(host, &name) {
            return Ok(Some(what.to_owned()));
        }
        self.unresolved(host);
        Ok(None)
    }

    /// Torque tries three times, and says so three times.
    fn unresolved(&mut self, host: &str) {
        let error = Pbse::Badhost;
        let once = door::unresolved(host);
        let early = format!(
            "{once}\n{once}\n{once}\nqstat: {}",
            door::unresolved_connection(host)
        );
        let late = format!("qstat: Error ({} - {}) ", error.number(), error.text());
        self.fail_early(exit_status(error), &early, &late);
    }
}

/// Name and version of the server.
fn identity(status: &StatServerReply) -> (String, String) {
    let version = status.attributes.iter().find(|a| a.name == "pbs_version");
    let version = version.map_or_else(|| status.version.clone(), |a| a.value.clone());
    (status.name.clone(), version)
}
