//! `qwhy`: says why jobs wait, who has what they lack and until when, when they will start, and what would help.

mod json;
mod text;

use std::io::Write;

use capstan_proto::wire::{WhyReply, WhyRequest};
use jiff::tz::TimeZone;

use crate::command::{Call, Failure, refusal};
use crate::door::{self, Doors};
use crate::getopt::Opt;
use crate::operand::{self, Unknown};
use crate::output::screen::Screen;

/// The options of `qwhy`.
pub(crate) const OPTIONS: &[Opt] = &[
    Opt::value('F', "json", "As JSON"),
    Opt::value('-', "json", "As JSON"),
];

const USAGE: &str = "usage: qwhy [--json] [job_identifier...]";

/// Explains the jobs that are named one by one, or lists the caller's waiting jobs; the exit status is that of the last
/// refusal.
///
/// # Errors
/// Misuse; refusals are complained about and end in the exit status.
pub(crate) async fn run<W: Write>(call: &Call, screen: &mut Screen<W>) -> Result<u8, Failure> {
    let parsed = call.parse(OPTIONS);
    let forms = ['F', '-'].map(|letter| parsed.value(letter));
    let mut forms = forms.into_iter().flatten();
    if parsed.problems().next().is_some() || forms.clone().any(|form| form != "json") {
        return Err(Failure::new(2, USAGE));
    }
    let is_json = forms.next().is_some();
    let zone = TimeZone::system();
    let mut doors = Doors::new(call, door::patience(None, &call.env));
    let mut document = json::Document::default();
    let mut exit = 0;
    let own = [String::new()];
    let wanted = match parsed.operands.is_empty() {
        true => &own[..],
        false => &parsed.operands,
    };
    for (at, typed) in wanted.iter().enumerate() {
        match ask(&mut doors, typed).await {
            Ok(reply) if is_json => document.add(screen.out(), &reply),
            Ok(reply) if typed.is_empty() => text::list(screen.out(), &reply, &zone),
            Ok(reply) => {
                if at > 0 {
                    screen.out().push(b'\n');
                }
                text::explain(screen.out(), &reply, &zone);
            }
            Err(failure) => {
                screen.complain_of(&failure);
                exit = failure.status;
            }
        }
        screen.pass_on()?;
    }
    if is_json {
        document.end(screen.out());
    }
    Ok(exit)
}

async fn ask(doors: &mut Doors<'_>, typed: &str) -> Result<WhyReply, Failure> {
    let operand = match typed.is_empty() {
        true => None,
        false => Some(operand::read("qwhy", typed, None)?),
    };
    let host = operand.as_ref().map_or("", |operand| &operand.host);
    let mut server = doors.to(host).await?;
    let request = WhyRequest {
        job_id: typed.to_owned(),
    };
    let status = match server.why(request).await {
        Ok(reply) => return Ok(reply.into_inner()),
        Err(status) => status,
    };
    let refusal = refusal(&status);
    Err(match operand {
        Some(operand) => {
            operand::failure(&mut server, "qwhy", &refusal, &operand, Unknown::Told).await
        }
        None => Failure::new(
            crate::command::exit_status(refusal.error),
            format!("qwhy: {}", refusal.text()),
        ),
    })
}
