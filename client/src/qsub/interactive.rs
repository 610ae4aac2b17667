//! `qsub -I`: waits for the job, and connects the terminal with it.

use std::io::{BufRead, Write};

use capstan_proto::wire::open_terminal::Wish;
use capstan_proto::wire::{AttachSession, DeleteJobRequest, OpenTerminal};
use capstan_types::Pbse;

use crate::command::{Call, Failure, exit_status, refusal};
use crate::door::Server;
use crate::output::screen::Screen;
use crate::terminal::{End, Talk, tty};

const QUESTION: &str = "Do you wish to terminate the job and exit (y|[n])? ";

/// Sits at the terminal of the job until it ends, or is left.
///
/// # Errors
/// The job is deleted before it starts, or its session is lost.
pub(super) async fn sit<W: Write>(
    call: &Call,
    screen: &mut Screen<W>,
    server: Server,
    id: &str,
) -> Result<u8, Failure> {
    writeln!(screen.out(), "qsub: waiting for job {id} to start")?;
    screen.flush()?;
    loop {
        let mut talk = Talk::new(call, opening(call, id))?;
        talk.greeting = format!("qsub: job {id} ready\r\n\r\n");
        let end = talk.run(server.clone()).await;
        if end != End::Interrupted {
            return tell(screen, id, end);
        }
        if is_confirmed(screen)? {
            delete(server.clone(), id).await?;
            writeln!(screen.out(), "Job {id} is being deleted")?;
            return Ok(0);
        }
    }
}

fn opening(call: &Call, id: &str) -> OpenTerminal {
    let attach = AttachSession {
        wait: true,
        ..AttachSession::default()
    };
    OpenTerminal {
        job_id: id.to_owned(),
        window: tty::size(),
        term: call.env.get("TERM").unwrap_or_default().to_owned(),
        wish: Some(Wish::Attach(attach)),
        version: 0,
        message: String::new(),
    }
}

/// Anything but a yes is a no.
fn is_confirmed<W: Write>(screen: &mut Screen<W>) -> Result<bool, Failure> {
    screen.out().extend_from_slice(QUESTION.as_bytes());
    screen.flush()?;
    let mut answer = String::new();
    // Who has gone did not say yes.
    let read = std::io::stdin().lock().read_line(&mut answer).unwrap_or(0);
    Ok(read > 0 && answer.trim_start().starts_with(['y', 'Y']))
}

async fn delete(mut server: Server, id: &str) -> Result<(), Failure> {
    let request = DeleteJobRequest {
        job_id: id.to_owned(),
        ..DeleteJobRequest::default()
    };
    match server.delete_job(request).await {
        Ok(_) => Ok(()),
        Err(status) => {
            let refusal = refusal(&status);
            let text = format!("qsub: job {id} is not deleted: {}", refusal.text());
            Err(Failure::new(exit_status(refusal.error), text))
        }
    }
}

fn tell<W: Write>(screen: &mut Screen<W>, id: &str, end: End) -> Result<u8, Failure> {
    if let End::Refused(refusal) = &end
        && matches!(refusal.error, Pbse::Unkjobid | Pbse::Badstate)
    {
        let text = format!("qsub: job {id} apparently deleted");
        return Err(Failure::new(1, text));
    }
    crate::qattach::tell(screen, "qsub", id, end)
}
