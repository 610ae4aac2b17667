//! `qhold` and `qrls`: add and remove holds. One file, because they differ in one call.

use std::io::Write;

use capstan_proto::wire::HoldJobRequest;
use capstan_types::Pbse;

use crate::command::{Call, Failure, exit_status, refusal};
use crate::door::{self, Server};
use crate::getopt::{Opt, Parsed};
use crate::operand;
use crate::output::screen::Screen;

/// The options of `qhold` and `qrls`.
pub(crate) const OPTIONS: &[Opt] = &[
    Opt::value('h', "u|o|s", "Kinds of hold; u when not given"),
    Opt::value('t', "INDICES", "Only these members of an array"),
];

/// Holds or releases the jobs one by one.
///
/// # Errors
/// Misuse, and a server that is not there; refusals are complained about and end in the exit status.
pub(crate) async fn run<W: Write>(call: &Call, screen: &mut Screen<W>) -> Result<u8, Failure> {
    let program = call.program;
    let parsed = call.parse(OPTIONS);
    let kinds = kinds(program, &parsed)?;
    let mut server = door::open(call, door::patience(None, &call.env)).await?;
    let mut exit = 0;
    for operand in &parsed.operands {
        exit = match operand::jobs(program, operand, parsed.value('t')) {
            Ok(ids) => change(&mut server, program, &kinds, ids, screen).await,
            Err(failure) => {
                screen.complain(&failure.text);
                failure.status
            }
        };
    }
    Ok(exit)
}

/// Holds or releases what one operand named; the exit status of the last one.
async fn change<W: Write>(
    server: &mut Server,
    program: &str,
    kinds: &str,
    ids: Vec<String>,
    screen: &mut Screen<W>,
) -> u8 {
    let mut exit = 0;
    for job_id in ids {
        let request = HoldJobRequest {
            job_id: job_id.clone(),
            kinds: kinds.to_owned(),
        };
        let answer = match program {
            "qhold" => server.hold_job(request).await,
            _ => server.release_job(request).await,
        };
        let Err(status) = answer else {
            exit = 0;
            continue;
        };
        let refusal = refusal(&status);
        exit = exit_status(refusal.error);
        // Torque says nothing about an unknown id; the exit status alone tells.
        if refusal.error != Pbse::Unkjobid {
            let id = door::full_id(server, &job_id).await;
            screen.complain(&format!("{program}: {} {id}", refusal.text()));
        }
    }
    exit
}

/// The letters of `-h`.
fn kinds(program: &str, parsed: &Parsed) -> Result<String, Failure> {
    let usage = format!("usage: {program} [-h hold_list] [-t array_range] job_identifier...");
    let problems: Vec<&str> = parsed.problems().collect();
    if !problems.is_empty() {
        return Err(Failure::new(2, format!("{}\n{usage}", problems.join("\n"))));
    }
    let kinds = parsed.value('h').unwrap_or("u").trim_start();
    if kinds.is_empty() || !kinds.bytes().all(|kind| b"uos".contains(&kind)) {
        return Err(Failure::new(
            2,
            format!("{program}: illegal -h value\n{usage}"),
        ));
    }
    match parsed.operands.is_empty() {
        true => Err(Failure::new(2, usage)),
        false => Ok(kinds.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::getopt;

    #[test]
    fn kinds_are_user_operator_and_system_only() {
        let usage = "usage: qhold [-h hold_list] [-t array_range] job_identifier...";
        let check = |args: &[&str], expected: Result<&str, String>| {
            let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
            let seen = kinds("qhold", &getopt::parse("qhold", OPTIONS, &args))
                .map_err(|failure| failure.text);
            assert_eq!(seen, expected.map(str::to_owned), "{args:?}");
        };
        check(&["300.hn1"], Ok("u"));
        check(&["-h", "os", "300.hn1"], Ok("os"));
        check(
            &["-h", "x", "300.hn1"],
            Err(format!("qhold: illegal -h value\n{usage}")),
        );
        check(
            &["-h", "n", "300.hn1"],
            Err(format!("qhold: illegal -h value\n{usage}")),
        );
        check(&[], Err(usage.to_owned()));
    }
}
