//! `qalter`: changes the attributes of jobs.

mod changes;
mod options;

use std::io::Write;

use capstan_proto::wire::AlterJobRequest;

use crate::command::{Call, Failure, refusal};
use crate::door::{self, Doors};
use crate::operand::{self, Unknown};
use crate::output::screen::Screen;
use crate::qsub::here;

use changes::Changes;
pub(crate) use options::OPTIONS;

/// Changes the jobs one by one.
///
/// # Errors
/// Misuse; refusals are complained about and end in the exit status, which is that of the last job.
pub(crate) async fn run<W: Write>(call: &Call, screen: &mut Screen<W>) -> Result<u8, Failure> {
    let parsed = call.parse(OPTIONS);
    let place = here(&call.env);
    let mut changes = Changes::default();
    let wrong = changes.apply(&parsed.items, &place, &call.env);
    if !wrong.is_empty() || parsed.operands.is_empty() {
        let mut said = wrong;
        said.push(options::USAGE.to_owned());
        return Err(Failure::new(2, said.join("\n")));
    }
    let mut doors = Doors::new(call, door::patience(None, &call.env));
    let mut exit = 0;
    for typed in &parsed.operands {
        exit = 0;
        if let Err(failure) = alter(&mut doors, &changes, typed).await {
            screen.complain_of(&failure);
            exit = failure.status;
        }
    }
    Ok(exit)
}

/// Changes what one operand names. A range of members (`-t`) is the server's to read: it may hold a limit of slots.
async fn alter(doors: &mut Doors<'_>, changes: &Changes, typed: &str) -> Result<(), Failure> {
    let operand = operand::read("qalter", typed, None)?;
    let mut server = doors.to(&operand.host).await?;
    for job_id in &operand.ids {
        let request = AlterJobRequest {
            job_id: job_id.clone(),
            attributes: changes.attributes.clone(),
            replace_variables: changes.variables.is_some(),
            variables: changes.variables.clone().unwrap_or_default(),
            array_range: changes.range.clone().unwrap_or_default(),
        };
        if let Err(status) = server.alter_job(request).await {
            let refusal = refusal(&status);
            let unknown = Unknown::Silent;
            return Err(operand::failure(&mut server, "qalter", &refusal, &operand, unknown).await);
        }
    }
    Ok(())
}
