//! `qalter`: changes the attributes of jobs.

mod changes;
mod options;

use std::io::Write;

use capstan_proto::wire::AlterJobRequest;
use capstan_types::{JobReference, Pbse};

use crate::command::{Call, Failure, exit_status, refusal};
use crate::door::{self, Doors};
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
    for operand in &parsed.operands {
        if let Err(Failure { status, text }) = alter(&mut doors, &changes, operand).await {
            if !text.is_empty() {
                screen.complain(&text);
            }
            exit = status;
        }
    }
    Ok(exit)
}

/// Changes what one operand names. Nothing is said of an unknown id: the exit status alone tells, as in Torque.
async fn alter(doors: &mut Doors<'_>, changes: &Changes, operand: &str) -> Result<(), Failure> {
    let malformed = |_| {
        let text = format!("qalter: illegally formed job identifier: {operand}");
        Failure::new(1, text)
    };
    let reference: JobReference = operand.parse().map_err(malformed)?;
    let host = reference.at.as_ref().map_or("", |at| at.as_str());
    let mut server = doors.to(host).await?;
    let request = AlterJobRequest {
        job_id: operand.to_owned(),
        attributes: changes.attributes.clone(),
        replace_variables: changes.variables.is_some(),
        variables: changes.variables.clone().unwrap_or_default(),
        array_range: changes.range.clone().unwrap_or_default(),
    };
    let Err(status) = server.alter_job(request).await else {
        return Ok(());
    };
    let refusal = refusal(&status);
    let status = exit_status(refusal.error);
    if refusal.error == Pbse::Unkjobid {
        return Err(Failure::new(status, ""));
    }
    let id = door::full_id(&mut server, operand).await;
    let text = format!("qalter: {} {id}", refusal.text());
    Err(Failure::new(status, text))
}
