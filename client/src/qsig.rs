//! `qsig`: sends a signal to running jobs.

use std::io::Write;

use capstan_proto::wire::SignalJobRequest;

use crate::command::{Call, Failure, refusal};
use crate::door::{self, Doors};
use crate::getopt::{Opt, Parsed};
use crate::operand::{self, Unknown};
use crate::output::screen::Screen;

/// The options of `qsig`.
pub(crate) const OPTIONS: &[Opt] = &[
    Opt::flag('a', "Do not wait until the job has got it"),
    Opt::value(
        's',
        "SIGNAL",
        "A name with or without SIG, a number, suspend or resume; SIGTERM when not given",
    ),
];

const USAGE: &str = "usage: qsig [-a] [-s signal] job_identifier...";
const DEFAULT: &str = "SIGTERM";
/// Torque's client keeps so many letters.
const SIGNAL_CHARS_MAX: usize = 32;

/// Signals the jobs one by one; the exit status is that of the last one.
///
/// # Errors
/// Misuse; refusals are complained about and end in the exit status.
pub(crate) async fn run<W: Write>(call: &Call, screen: &mut Screen<W>) -> Result<u8, Failure> {
    let parsed = call.parse(OPTIONS);
    let wish = wish(&parsed)?;
    let mut doors = Doors::new(call, door::patience(None, &call.env));
    let mut exit = 0;
    for typed in &parsed.operands {
        exit = 0;
        if let Err(failure) = signal(&mut doors, &wish, typed).await {
            screen.complain_of(&failure);
            exit = failure.status;
        }
    }
    Ok(exit)
}

fn wish(parsed: &Parsed) -> Result<SignalJobRequest, Failure> {
    let mut text: Vec<&str> = parsed.problems().collect();
    if !text.is_empty() || parsed.operands.is_empty() {
        text.push(USAGE);
        return Err(Failure::new(2, text.join("\n")));
    }
    let signal = parsed.value('s').unwrap_or(DEFAULT);
    Ok(SignalJobRequest {
        job_id: String::new(),
        signal: signal.chars().take(SIGNAL_CHARS_MAX).collect(),
        asynchronous: parsed.has('a'),
    })
}

async fn signal(
    doors: &mut Doors<'_>,
    wish: &SignalJobRequest,
    typed: &str,
) -> Result<(), Failure> {
    let operand = operand::read("qsig", typed, None)?;
    let mut server = doors.to(&operand.host).await?;
    let request = SignalJobRequest {
        job_id: typed.to_owned(),
        ..wish.clone()
    };
    let Err(status) = server.signal_job(request).await else {
        return Ok(());
    };
    let refusal = refusal(&status);
    Err(operand::failure(&mut server, "qsig", &refusal, &operand, Unknown::Told).await)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::getopt;

    #[test]
    fn the_signal_is_term_when_none_is_named() {
        let check = |args: &[&str], expected: Result<(&str, bool), &str>| {
            let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
            let seen = wish(&getopt::parse("qsig", OPTIONS, &args));
            let seen = seen.map(|wish| (wish.signal, wish.asynchronous));
            let expected = expected.map(|(signal, is_async)| (signal.to_owned(), is_async));
            let expected = expected.map_err(|text| Failure::new(2, text));
            assert_eq!(seen, expected, "{args:?}");
        };
        check(&["1"], Ok(("SIGTERM", false)));
        check(&["-a", "-s", "USR1", "1"], Ok(("USR1", true)));
        check(&["-s", "0", "1"], Ok(("0", false)));
        check(&["-s", "KILL"], Err(USAGE));
        check(&[], Err(USAGE));
        let unknown = format!("qsig: invalid option -- 'Z'\n{USAGE}");
        check(&["-Z", "1"], Err(&unknown));
    }
}
