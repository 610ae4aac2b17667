//! The job listings of `qstat`: asks for each operand in the detail that the view needs, and prints batch by batch.

use std::io::Write;

use capstan_proto::Refusal;
use capstan_proto::wire::stat_jobs_request::Detail;
use capstan_proto::wire::{JobAttributes, JobRow, StatJobsReply, StatJobsRequest};
use capstan_types::{JobReference, Pbse};
use jiff::tz::TimeZone;
use serde_json::Value;

use crate::command::{Failure, refusal};
use crate::door;
use crate::output::attributes::{Style, block};
use crate::output::{json, rows, wide, xml};

use super::options::{View, Wish};
use super::{Listing, write_json};

/// Lists the jobs.
///
/// # Errors
/// An output that cannot be written.
pub(super) async fn list<W: Write>(
    listing: &mut Listing<'_, W>,
    wish: &Wish,
) -> Result<(), Failure> {
    let mut printer = Printer::new(wish);
    if wish.view == View::Wide {
        let server = listing.server_status().await?;
        printer.comment = server
            .attributes
            .iter()
            .find(|a| a.name == "comment")
            .map(|a| a.value.clone());
        printer.server = server.name;
    }
    let every = [String::new()];
    let operands = if wish.operands.is_empty() {
        &every[..]
    } else {
        &wish.operands
    };
    for operand in operands {
        if is_id(operand) && operand.parse::<JobReference>().is_err() {
            let text = format!(
                "qstat: illegally formed job identifier: {operand}\nqstat: Error (1 - Operation not permitted) "
            );
            listing.fail(1, &text);
            continue;
        }
        let Some(asked) = listing.here(operand).await? else {
            continue;
        };
        if let Err(refusal) = one(listing, &mut printer, asked).await? {
            complain(listing, &refusal, operand).await;
        }
    }
    printer.finish(listing.screen.out())
}

/// Whether an operand is meant as a job's id; anything else is a queue.
fn is_id(operand: &str) -> bool {
    operand.starts_with(|c: char| c.is_ascii_digit())
}

/// Asks for one operand and prints what comes.
async fn one<W: Write>(
    listing: &mut Listing<'_, W>,
    printer: &mut Printer<'_>,
    operand: String,
) -> Result<Result<(), Refusal>, Failure> {
    let wish = printer.wish;
    let detail = match wish.view {
        View::Wide => Detail::Wide,
        View::Full | View::Xml | View::Json => Detail::Full,
        View::Rows | View::Queues { .. } | View::Limits | View::Server { .. } => Detail::Row,
    };
    let request = StatJobsRequest {
        operand,
        detail: detail.into(),
        expand_arrays: wish.expand_arrays,
        users: wish.users.clone(),
        hide_completed: wish.hide_completed,
    };
    let mut batches = match listing.server.stat_jobs(request).await {
        Ok(reply) => reply.into_inner(),
        Err(status) => return Ok(Err(refusal(&status))),
    };
    loop {
        match batches.message().await {
            Ok(Some(batch)) => {
                printer.batch(listing.screen.out(), batch);
                listing.screen.pass_on()?;
            }
            Ok(None) => return Ok(Ok(())),
            Err(status) => return Ok(Err(refusal(&status))),
        }
    }
}

async fn complain<W: Write>(listing: &mut Listing<'_, W>, refusal: &Refusal, operand: &str) {
    if is_id(operand) {
        let id = door::full_id(&mut listing.server, operand).await;
        listing.refuse(refusal, &id);
    } else if refusal.error == Pbse::Unkque {
        let text = format!("qstat: Unknown queue destination {operand}");
        listing.fail(refusal.error.exit_status(), &text);
    } else {
        listing.refuse(refusal, operand);
    }
}

/// Turns batches into text. The header waits for the first job: nothing to show means no output at all.
struct Printer<'a> {
    wish: &'a Wish,
    style: Style,
    has_header: bool,
    server: String,
    comment: Option<String>,
    json: Vec<Value>,
}

impl<'a> Printer<'a> {
    fn new(wish: &'a Wish) -> Self {
        // Only -f shows dates; reading the zone costs a file.
        let zone = (wish.view == View::Full).then(TimeZone::system);
        Self {
            wish,
            style: Style {
                on_one_line: wish.on_one_line,
                zone,
            },
            has_header: false,
            server: String::new(),
            comment: None,
            json: Vec::new(),
        }
    }

    fn batch(&mut self, out: &mut Vec<u8>, batch: StatJobsReply) {
        let StatJobsReply { rows, jobs } = batch;
        let states = self.wish.states;
        let is_wanted = |state: &str| states.is_empty() || states.contains(state);
        for row in rows.iter().filter(|row| is_wanted(&row.state)) {
            self.row(out, row);
        }
        for job in jobs.iter().filter(|job| is_wanted(state(job))) {
            self.job(out, job);
        }
    }

    fn row(&mut self, out: &mut Vec<u8>, row: &JobRow) {
        let is_wide = self.wish.view == View::Wide;
        if !self.has_header {
            self.has_header = true;
            match is_wide {
                true => wide::header(
                    out,
                    self.wish.layout,
                    &self.server,
                    self.comment.as_deref().unwrap_or(""),
                ),
                false => out.extend_from_slice(rows::HEADER.as_bytes()),
            }
        }
        match is_wide {
            true => wide::row(out, self.wish.layout, row),
            false => rows::row(out, row),
        }
    }

    fn job(&mut self, out: &mut Vec<u8>, job: &JobAttributes) {
        match self.wish.view {
            View::Xml => {
                self.xml_header(out);
                xml::open(out, "Job");
                xml::element(out, "Job_Id", &job.id);
                xml::attributes(out, &job.attributes);
                xml::close(out, "Job");
            }
            View::Json => self.json.push(json::job(job)),
            View::Full
            | View::Rows
            | View::Wide
            | View::Queues { .. }
            | View::Limits
            | View::Server { .. } => {
                out.extend_from_slice(b"Job Id: ");
                block(out, &self.style, &job.id, &job.attributes);
            }
        }
    }

    fn xml_header(&mut self, out: &mut Vec<u8>) {
        if !self.has_header {
            self.has_header = true;
            out.extend_from_slice(xml::DECLARATION.as_bytes());
            xml::open(out, "Data");
        }
    }

    /// The end of a document; XML and JSON have one even when there are no jobs.
    fn finish(mut self, out: &mut Vec<u8>) -> Result<(), Failure> {
        match self.wish.view {
            View::Xml => {
                self.xml_header(out);
                xml::close(out, "Data");
                out.push(b'\n');
            }
            View::Json => write_json(out, "jobs", &self.json)?,
            View::Full
            | View::Rows
            | View::Wide
            | View::Queues { .. }
            | View::Limits
            | View::Server { .. } => {}
        }
        Ok(())
    }
}

fn state(job: &JobAttributes) -> &str {
    job.attributes
        .iter()
        .find(|a| a.name == "job_state")
        .map_or("", |a| a.value.as_str())
}
