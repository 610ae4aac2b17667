//! `qstat`: lists jobs, queues and the server. Operands are asked for one by one; what cannot be shown is told on
//! stderr when the rest is out, and the first failure is the exit status.

mod jobs;
mod options;

use std::io::Write;

use capstan_proto::Refusal;
use capstan_proto::wire::{StatQueuesRequest, StatServerReply, StatServerRequest};
use capstan_types::Pbse;
use serde_json::{Value, json};

use crate::command::{Call, Failure, exit_status, refusal};
use crate::door::{self, Server};
use crate::output::attributes::{Style, block};
use crate::output::queues;
use crate::output::screen::Screen;

pub(crate) use options::OPTIONS;
use options::{View, Wish};

/// Lists what the command line asks for.
///
/// # Errors
/// Misuse, a server that is not there, an output that cannot be written.
pub(crate) async fn run<W: Write>(call: &Call, screen: &mut Screen<W>) -> Result<u8, Failure> {
    let wish = Wish::read(call)?;
    let server = door::open(call, door::patience(None, &call.env)).await?;
    let mut listing = Listing {
        server,
        screen,
        status: 0,
    };
    match wish.view {
        View::Queues { .. } | View::Limits => listing.queues(&wish).await?,
        View::Server { in_full } => listing.servers(&wish, in_full).await?,
        View::Rows | View::Wide | View::Full | View::Xml | View::Json => {
            jobs::list(&mut listing, &wish).await?
        }
    }
    Ok(listing.status)
}

/// A listing in the making.
struct Listing<'a, W: Write> {
    server: Server,
    screen: &'a mut Screen<W>,
    /// The first failure.
    status: u8,
}

impl<W: Write> Listing<'_, W> {
    /// Notes a failure: what is said about it in the end, and its exit status.
    fn fail(&mut self, status: u8, text: &str) {
        self.screen.complain(text);
        if self.status == 0 {
            self.status = status;
        }
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

    async fn queues(&mut self, wish: &Wish) -> Result<(), Failure> {
        let every = [String::new()];
        let names = if wish.operands.is_empty() {
            &every[..]
        } else {
            &wish.operands
        };
        let mut found = Vec::new();
        for name in names {
            let Some(queue) = self.here(name).await? else {
                continue;
            };
            match self.server.stat_queues(StatQueuesRequest { queue }).await {
                Ok(reply) => found.extend(reply.into_inner().queues),
                // The recorded text ends in a blank, where other errors have an id.
                Err(status) => self.refuse(&refusal(&status), ""),
            }
        }
        if found.is_empty() {
            return Ok(());
        }
        if wish.view == View::Limits {
            let server = self.server_status().await?.name;
            queues::limits(self.screen.out(), &server, &found, wish.layout.memory);
            return Ok(());
        }
        let in_full = wish.view == View::Queues { in_full: true };
        if !in_full {
            self.screen
                .out()
                .extend_from_slice(queues::HEADER.as_bytes());
        }
        for queue in &found {
            match in_full {
                true => block(
                    self.screen.out(),
                    &plain_style(wish),
                    &format!("Queue: {}", queue.name),
                    &queue.attributes,
                ),
                false => queues::row(self.screen.out(), queue),
            }
            self.screen.pass_on()?;
        }
        Ok(())
    }

    async fn servers(&mut self, wish: &Wish, in_full: bool) -> Result<(), Failure> {
        let status = self.server_status().await?;
        for name in &wish.operands {
            if !door::is_name_of(name, &status.name) {
                self.unresolved(name);
                return Ok(());
            }
        }
        let out = self.screen.out();
        match in_full {
            true => block(
                out,
                &plain_style(wish),
                &format!("Server: {}", status.name),
                &status.attributes,
            ),
            false => {
                out.extend_from_slice(queues::SERVER_HEADER.as_bytes());
                queues::server_row(out, &status.name, &status.attributes);
            }
        }
        Ok(())
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
        let text = format!(
            "{once}\n{once}\n{once}\nqstat: {}\nqstat: Error ({} - {}) ",
            door::unresolved_connection(host),
            error.number(),
            error.text()
        );
        self.fail(exit_status(error), &text);
    }
}

fn plain_style(wish: &Wish) -> Style {
    Style {
        on_one_line: wish.on_one_line,
        zone: None,
    }
}

/// JSON on one line.
fn write_json(out: &mut Vec<u8>, name: &str, list: &[Value]) -> Result<(), Failure> {
    Ok(writeln!(out, "{}", json!({ name: list }))?)
}
