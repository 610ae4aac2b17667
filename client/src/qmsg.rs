//! `qmsg`: adds a line to what running jobs write.

use std::io::Write;

use capstan_proto::wire::MessageJobRequest;

use crate::command::{Call, Failure, refusal};
use crate::door::{self, Doors};
use crate::getopt::{Opt, Parsed};
use crate::operand::{self, Unknown};
use crate::output::screen::Screen;

/// The options of `qmsg`.
pub(crate) const OPTIONS: &[Opt] = &[
    Opt::flag('E', "To the job's stderr; so when neither is given"),
    Opt::flag('O', "To the job's stdout"),
];

const USAGE: &str = "usage: qmsg [-O] [-E] msg_string job_identifier...";
/// Torque's client keeps so many bytes.
const TEXT_BYTES_MAX: usize = 256;

/// Writes to the jobs one by one; the exit status is that of the last one.
///
/// # Errors
/// Misuse; refusals are complained about and end in the exit status.
pub(crate) async fn run<W: Write>(call: &Call, screen: &mut Screen<W>) -> Result<u8, Failure> {
    let parsed = call.parse(OPTIONS);
    let (wish, jobs) = wish(&parsed)?;
    let mut doors = Doors::new(call, door::patience(None, &call.env));
    let mut exit = 0;
    for typed in jobs {
        exit = 0;
        if let Err(failure) = write(&mut doors, &wish, typed).await {
            screen.complain_of(&failure);
            exit = failure.status;
        }
    }
    Ok(exit)
}

/// The message, and the jobs that get it.
fn wish(parsed: &Parsed) -> Result<(MessageJobRequest, &[String]), Failure> {
    let mut text: Vec<&str> = parsed.problems().collect();
    let operands = parsed.operands.split_first();
    let Some((message, jobs)) = operands.filter(|(_, jobs)| text.is_empty() && !jobs.is_empty())
    else {
        text.push(USAGE);
        return Err(Failure::new(2, text.join("\n")));
    };
    let wish = MessageJobRequest {
        job_id: String::new(),
        text: message[..message.floor_char_boundary(TEXT_BYTES_MAX)].to_owned(),
        to_stdout: parsed.has('O'),
        to_stderr: parsed.has('E') || !parsed.has('O'),
    };
    Ok((wish, jobs))
}

async fn write(
    doors: &mut Doors<'_>,
    wish: &MessageJobRequest,
    typed: &str,
) -> Result<(), Failure> {
    let operand = operand::read("qmsg", typed, None)?;
    let mut server = doors.to(&operand.host).await?;
    let request = MessageJobRequest {
        job_id: typed.to_owned(),
        ..wish.clone()
    };
    let Err(status) = server.message_job(request).await else {
        return Ok(());
    };
    let refusal = refusal(&status);
    Err(operand::failure(&mut server, "qmsg", &refusal, &operand, Unknown::Told).await)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::getopt;

    #[test]
    fn a_message_goes_to_stderr_unless_told_otherwise() {
        let check = |args: &[&str], expected: Option<(&str, bool, bool)>| {
            let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
            let parsed = getopt::parse("qmsg", OPTIONS, &args);
            let seen = wish(&parsed).map(|(wish, _)| (wish.text, wish.to_stdout, wish.to_stderr));
            let expected = expected.map(|(text, out, err)| (text.to_owned(), out, err));
            assert_eq!(seen, expected.ok_or(Failure::new(2, USAGE)), "{args:?}");
        };
        check(&["hi", "1"], Some(("hi", false, true)));
        check(&["-O", "hi", "1"], Some(("hi", true, false)));
        check(&["-OE", "hi", "1"], Some(("hi", true, true)));
        check(&["hi"], None);
        check(&[], None);
        let long = "ä".repeat(200);
        check(&[&long, "1"], Some((&"ä".repeat(128), false, true)));
    }
}
