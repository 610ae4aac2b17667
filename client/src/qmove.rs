//! `qmove`: moves jobs to another queue. Has no options: whatever stands first is the destination.

use std::io::Write;

use capstan_proto::wire::MoveJobRequest;

use crate::command::{Call, Failure, refusal};
use crate::door::{self, Doors};
use crate::operand::{self, Unknown};
use crate::output::screen::Screen;

const USAGE: &str = "usage: qmove destination job_identifier...";
/// The longest name of a queue (`PBS_MAXQUEUENAME`).
const QUEUE_BYTES_MAX: usize = 15;

/// Moves the jobs one by one; the exit status is that of the last one.
///
/// # Errors
/// Misuse; refusals are complained about and end in the exit status.
pub(crate) async fn run<W: Write>(call: &Call, screen: &mut Screen<W>) -> Result<u8, Failure> {
    let [destination, jobs @ ..] = &call.args[..] else {
        return Err(Failure::new(2, USAGE));
    };
    if jobs.is_empty() {
        return Err(Failure::new(2, USAGE));
    }
    if !is_destination(destination) {
        let text = format!("qmove: illegally formed destination: {destination}");
        return Err(Failure::new(2, text));
    }
    let destination = &door::without_own_name(&call.env, destination).await;
    let mut doors = Doors::new(call, door::patience(None, &call.env));
    let mut exit = 0;
    for job in jobs {
        exit = 0;
        if let Err(failure) = relocate(&mut doors, destination, job).await {
            screen.complain_of(&failure);
            exit = failure.status;
        }
    }
    Ok(exit)
}

async fn relocate(doors: &mut Doors<'_>, destination: &str, typed: &str) -> Result<(), Failure> {
    let operand = operand::read("qmove", typed, None)?;
    let mut server = doors.to(&operand.host).await?;
    let request = MoveJobRequest {
        job_id: typed.to_owned(),
        destination: destination.to_owned(),
    };
    let Err(status) = server.move_job(request).await else {
        return Ok(());
    };
    let refusal = refusal(&status);
    Err(operand::failure(&mut server, "qmove", &refusal, &operand, Unknown::Silent).await)
}

/// `queue`, `@server`, `queue@server`.
fn is_destination(text: &str) -> bool {
    let (queue, server) = match text.split_once('@') {
        Some((queue, server)) => (queue, Some(server)),
        None => (text, None),
    };
    let has_blank = text.contains(char::is_whitespace);
    queue.len() <= QUEUE_BYTES_MAX && server != Some("") && !has_blank
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_a_queue_a_server_or_both() {
        for good in ["batch", "@hn1", "batch@hn1", ""] {
            assert!(is_destination(good), "{good}");
        }
        for bad in ["batch@", "@", "a b", "a_name_that_is_too_long"] {
            assert!(!is_destination(bad), "{bad}");
        }
    }
}
