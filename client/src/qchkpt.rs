//! `qchkpt`: asks for a checkpoint of jobs, which no job of this server can give. Has no options.

use std::io::Write;

use capstan_proto::wire::CheckpointJobRequest;

use crate::command::{Call, Failure, refusal};
use crate::door::{self, Doors};
use crate::operand::{self, Unknown};
use crate::output::screen::Screen;

const USAGE: &str = "Usage: qchkpt job_id ...";

/// Asks for the jobs one by one; the exit status is that of the last one.
///
/// # Errors
/// Misuse; refusals are complained about and end in the exit status.
pub(crate) async fn run<W: Write>(call: &Call, screen: &mut Screen<W>) -> Result<u8, Failure> {
    if call.args.is_empty() {
        return Err(Failure::new(1, USAGE));
    }
    let mut doors = Doors::new(call, door::patience(None, &call.env));
    let mut exit = 0;
    for job in &call.args {
        exit = 0;
        if let Err(failure) = checkpoint(&mut doors, job).await {
            screen.complain_of(&failure);
            exit = failure.status;
        }
    }
    Ok(exit)
}

async fn checkpoint(doors: &mut Doors<'_>, typed: &str) -> Result<(), Failure> {
    let operand = operand::read("qchkpt", typed, None)?;
    let mut server = doors.to(&operand.host).await?;
    let request = CheckpointJobRequest {
        job_id: typed.to_owned(),
    };
    let Err(status) = server.checkpoint_job(request).await else {
        return Ok(());
    };
    let refusal = refusal(&status);
    Err(operand::failure(&mut server, "qchkpt", &refusal, &operand, Unknown::Told).await)
}
