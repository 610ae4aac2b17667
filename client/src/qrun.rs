//! `qrun`: starts waiting jobs now, on nodes of one's choice.

use std::io::Write;

use capstan_proto::wire::RunJobRequest;
use capstan_types::Pbse;

use crate::command::{Call, Failure, refusal};
use crate::door::{self, Doors};
use crate::getopt::{Opt, Parsed};
use crate::operand::{self, Unknown};
use crate::output::screen::Screen;

/// The options of `qrun`.
pub(crate) const OPTIONS: &[Opt] = &[
    Opt::flag('a', "Do not wait for the start"),
    Opt::value(
        'H',
        "HOST[+HOST]",
        "Run on these nodes instead of those the job asks for",
    ),
];

const USAGE: &str = "Usage: qrun [-a] [-H host] job_id ...";
/// How it ends when the server refuses.
const REFUSED: u8 = 2;
/// So much of the hosts is repeated.
const HOSTS_SHOWN: usize = 16;

/// Starts the jobs one by one. Whatever is refused ends in 2; the last failure counts.
///
/// # Errors
/// Misuse; refusals are complained about and end in the exit status.
pub(crate) async fn run<W: Write>(call: &Call, screen: &mut Screen<W>) -> Result<u8, Failure> {
    let parsed = call.parse(OPTIONS);
    let wish = wish(&parsed)?;
    let mut doors = Doors::new(call, door::patience(None, &call.env));
    let mut exit = 0;
    for operand in &parsed.operands {
        if let Err(failure) = start(&mut doors, &wish, operand).await {
            screen.complain_of(&failure);
            exit = failure.status;
        }
    }
    Ok(exit)
}

fn wish(parsed: &Parsed) -> Result<RunJobRequest, Failure> {
    let mut wrong: Vec<String> = parsed.problems().map(ToOwned::to_owned).collect();
    let hosts = parsed.value('H');
    if hosts == Some("") {
        wrong.push("qrun: illegal -H value".to_owned());
    }
    if !wrong.is_empty() || parsed.operands.is_empty() {
        wrong.push(USAGE.to_owned());
        return Err(Failure::new(1, wrong.join("\n")));
    }
    Ok(RunJobRequest {
        job_id: String::new(),
        hosts: hosts.unwrap_or_default().to_owned(),
        asynchronous: parsed.has('a'),
    })
}

async fn start(doors: &mut Doors<'_>, wish: &RunJobRequest, typed: &str) -> Result<(), Failure> {
    let operand = operand::read("qrun", typed, None)?;
    let server = doors.to(&operand.host).await;
    let mut server = server.map_err(|failure| Failure::new(REFUSED, failure.text))?;
    let request = RunJobRequest {
        job_id: typed.to_owned(),
        ..wish.clone()
    };
    let Err(status) = server.run_job(request).await else {
        return Ok(());
    };
    let refusal = refusal(&status);
    if refusal.error == Pbse::Unknode {
        let id = door::full_id(&mut server, typed).await;
        let hosts: String = wish.hosts.chars().take(HOSTS_SHOWN).collect();
        let text = format!("qrun: Unknown node in hostlist '{hosts}...' for job {id}");
        return Err(Failure::new(REFUSED, text));
    }
    let told = operand::failure(&mut server, "qrun", &refusal, &operand, Unknown::Told).await;
    Err(Failure::new(REFUSED, told.text))
}
