//! `qhold` and `qrls`: add and remove holds. One file, because they differ in one call.

use std::io::Write;

use capstan_proto::wire::HoldJobRequest;

use crate::command::{Call, Failure, refusal};
use crate::door::{self, Doors};
use crate::getopt::{Opt, Parsed};
use crate::operand::{self, Unknown, Verdict};
use crate::output::screen::Screen;

/// The options of `qhold` and `qrls`.
pub(crate) const OPTIONS: &[Opt] = &[
    Opt::value('h', "u|o|s", "Kinds of hold; u when not given"),
    Opt::value('t', "INDICES", "Only these members of an array"),
];

/// Holds or releases the jobs one by one; the exit status is that of the last one.
///
/// # Errors
/// Misuse; refusals are complained about and end in the exit status.
pub(crate) async fn run<W: Write>(call: &Call, screen: &mut Screen<W>) -> Result<u8, Failure> {
    let parsed = call.parse(OPTIONS);
    let kinds = kinds(call.program, &parsed)?;
    let mut doors = Doors::new(call, door::patience(None, &call.env));
    let mut exit = 0;
    for operand in &parsed.operands {
        exit = 0;
        let changed = change(&mut doors, call.program, &kinds, operand, parsed.value('t')).await;
        if let Err(failure) = changed {
            screen.complain_of(&failure);
            exit = failure.status;
        }
    }
    Ok(exit)
}

/// Holds or releases what one operand named.
async fn change(
    doors: &mut Doors<'_>,
    program: &str,
    kinds: &str,
    typed: &str,
    indices: Option<&str>,
) -> Result<(), Failure> {
    let operand = operand::read(program, typed, indices)?;
    let mut server = doors.to(&operand.host).await?;
    let mut verdict = Verdict::default();
    for job_id in &operand.ids {
        let request = HoldJobRequest {
            job_id: job_id.clone(),
            kinds: kinds.to_owned(),
        };
        let answer = match program {
            "qhold" => server.hold_job(request).await,
            _ => server.release_job(request).await,
        };
        let answer = answer.map(drop).map_err(|status| refusal(&status));
        verdict.note(&operand, answer);
    }
    match verdict.refusal() {
        Some(refusal) => {
            Err(operand::failure(&mut server, program, &refusal, &operand, Unknown::Silent).await)
        }
        None => Ok(()),
    }
}

fn usage(program: &str) -> String {
    let kinds = if program == "qrls" {
        "{uos}"
    } else {
        "hold_list"
    };
    format!("usage: {program} [-h {kinds}] [-t array_range] job_identifier...")
}

/// The letters of `-h`.
fn kinds(program: &str, parsed: &Parsed) -> Result<String, Failure> {
    let mut wrong: Vec<String> = parsed.problems().map(ToOwned::to_owned).collect();
    let kinds = parsed.value('h').unwrap_or("u").trim_start();
    if kinds.is_empty() || !kinds.bytes().all(|kind| b"uos".contains(&kind)) {
        wrong.push(format!("{program}: illegal -h value"));
    }
    if parsed.value('t') == Some("") {
        let what = "(array range cannot be zero length)";
        wrong.push(format!("{program}: illegal -t value {what}"));
    }
    if wrong.is_empty() && !parsed.operands.is_empty() {
        return Ok(kinds.to_owned());
    }
    wrong.push(usage(program));
    Err(Failure::new(2, wrong.join("\n")))
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
        for kinds in ["x", "n", ""] {
            check(
                &["-h", kinds, "300.hn1"],
                Err(format!("qhold: illegal -h value\n{usage}")),
            );
        }
        check(&[], Err(usage.to_owned()));
        let empty = "qhold: illegal -t value (array range cannot be zero length)";
        check(&["-t", "", "3[]"], Err(format!("{empty}\n{usage}")));
    }
}
