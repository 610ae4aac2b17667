//! `qrerun`: puts running jobs back in their queue.

use std::io::{BufRead, Write};

use capstan_proto::Refusal;
use capstan_proto::wire::stat_jobs_request::Detail;
use capstan_proto::wire::{RerunJobRequest, StatJobsRequest};
use capstan_types::Pbse;

use crate::command::{Call, Failure, exit_status, refusal};
use crate::door::{self, Doors, Server};
use crate::getopt::{Item, Opt, Parsed};
use crate::operand::{self, Unknown};
use crate::output::screen::Screen;

/// The options of `qrerun`.
pub(crate) const OPTIONS: &[Opt] = &[
    Opt::flag('f', "Do it also when the job's node does not answer"),
    Opt::value('m', "MESSAGE", "Say why, in the server's log"),
];

const USAGE: &str = "usage: qrerun [-f] <JOBID>[ <JOBID>]...";
/// Longest answer to a question, bytes.
const ANSWER_BYTES_MAX: u64 = 4096;

/// Reruns the jobs one by one; the exit status is that of the last one.
///
/// # Errors
/// Misuse; refusals are complained about and end in the exit status.
pub(crate) async fn run<W: Write>(call: &Call, screen: &mut Screen<W>) -> Result<u8, Failure> {
    let parsed = call.parse(OPTIONS);
    // As in Torque an option that it does not know is complained about and passed over.
    parsed
        .problems()
        .for_each(|problem| screen.complain(problem));
    let wish = wish(&parsed)?;
    let mut doors = Doors::new(call, door::patience(None, &call.env));
    let mut exit = 0;
    for operand in &parsed.operands {
        exit = 0;
        let rerun = match operand.eq_ignore_ascii_case("all") {
            true if !confirms(screen)? => continue,
            true => rerun_all(&mut doors, &wish).await,
            false => rerun(&mut doors, &wish, operand).await,
        };
        if let Err(failure) = rerun {
            screen.complain_of(&failure);
            exit = failure.status;
        }
    }
    Ok(exit)
}

/// What the options ask for; they exclude each other.
fn wish(parsed: &Parsed) -> Result<RerunJobRequest, Failure> {
    let options = parsed.items.iter().filter(|item| match item {
        Item::Flag(_) | Item::Value(..) => true,
        Item::Problem(_) => false,
    });
    let message = parsed.value('m').unwrap_or_default();
    if options.count() > 1 || message.contains('=') || parsed.operands.is_empty() {
        return Err(Failure::new(2, USAGE));
    }
    Ok(RerunJobRequest {
        job_id: String::new(),
        force: parsed.has('f'),
        message: message.to_owned(),
    })
}

async fn rerun(doors: &mut Doors<'_>, wish: &RerunJobRequest, typed: &str) -> Result<(), Failure> {
    let operand = operand::read("qrerun", typed, None)?;
    let mut server = doors.to(&operand.host).await?;
    let request = RerunJobRequest {
        job_id: typed.to_owned(),
        ..wish.clone()
    };
    let Err(status) = server.rerun_job(request).await else {
        return Ok(());
    };
    let refusal = refusal(&status);
    Err(operand::failure(&mut server, "qrerun", &refusal, &operand, Unknown::Told).await)
}

/// Asks as Torque asks before it touches every job.
fn confirms<W: Write>(screen: &mut Screen<W>) -> Result<bool, Failure> {
    let question = "This will requeue all jobs without contact moms. Continue? (y/n)";
    writeln!(screen.out(), "{question}")?;
    screen.flush()?;
    let mut answer = String::new();
    let mut stdin = std::io::Read::take(std::io::stdin().lock(), ANSWER_BYTES_MAX);
    stdin.read_line(&mut answer)?;
    let is_yes = answer.trim_start().starts_with(['y', 'Y']);
    let said = match is_yes {
        true => "Operation confirmed, continuing.",
        false => "Operation cancelled.",
    };
    writeln!(screen.out(), "{said}")?;
    Ok(is_yes)
}

/// Every job that runs, whether its node answers or not. The first that may not be is complained about for all.
async fn rerun_all(doors: &mut Doors<'_>, wish: &RerunJobRequest) -> Result<(), Failure> {
    let mut server = doors.to("").await?;
    let told = |refusal: Refusal| {
        let text = format!("qrerun: {} all", refusal.text());
        Failure::new(exit_status(refusal.error), text)
    };
    for job_id in running(&mut server).await.map_err(told)? {
        let request = RerunJobRequest {
            job_id,
            force: true,
            ..wish.clone()
        };
        let Err(status) = server.rerun_job(request).await else {
            continue;
        };
        let refusal = refusal(&status);
        // One that ended since it was listed, or must not run twice, stays as it is.
        if ![Pbse::Unkjobid, Pbse::Badstate, Pbse::Norerun].contains(&refusal.error) {
            return Err(told(refusal));
        }
    }
    Ok(())
}

async fn running(server: &mut Server) -> Result<Vec<String>, Refusal> {
    let request = StatJobsRequest {
        detail: Detail::Row.into(),
        hide_completed: true,
        expand_arrays: true,
        ..StatJobsRequest::default()
    };
    let refused = |status| refusal(&status);
    let batches = server.stat_jobs(request).await.map_err(refused)?;
    let mut batches = batches.into_inner();
    let mut ids = Vec::new();
    while let Some(batch) = batches.message().await.map_err(refused)? {
        let rows = batch.rows.into_iter();
        let running = rows.filter(|row| ["R", "S"].contains(&row.state.as_str()));
        ids.extend(running.map(|row| row.id));
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::getopt;

    #[test]
    fn options_exclude_each_other() {
        let check = |args: &[&str], expected: Option<(bool, &str)>| {
            let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
            let seen = wish(&getopt::parse("qrerun", OPTIONS, &args));
            let seen = seen.map(|wish| (wish.force, wish.message));
            let expected = expected.map(|(force, message)| (force, message.to_owned()));
            assert_eq!(seen, expected.ok_or(Failure::new(2, USAGE)), "{args:?}");
        };
        check(&["1"], Some((false, "")));
        check(&["-f", "1"], Some((true, "")));
        check(&["-m", "why", "1"], Some((false, "why")));
        check(&["-f", "-m", "why", "1"], None);
        check(&["-m", "a=b", "1"], None);
        check(&["-f"], None);
        check(&["-Z", "1"], Some((false, "")));
    }
}
