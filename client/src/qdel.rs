//! `qdel`: deletes jobs.

use std::collections::VecDeque;
use std::io::Write;

use capstan_proto::Refusal;
use capstan_proto::wire::stat_jobs_request::Detail;
use capstan_proto::wire::{DeleteJobRequest, StatJobsRequest};
use capstan_types::{JobPart, JobReference, Pbse};

use crate::command::{Call, Failure, exit_status, refusal};
use crate::door::{self, Doors, Server};
use crate::getopt::{Opt, Parsed};
use crate::operand::{self, Operand, Unknown, Verdict};
use crate::output::screen::Screen;

use tokio::task::{JoinHandle, JoinSet};

/// The options of `qdel`.
pub(crate) const OPTIONS: &[Opt] = &[
    Opt::flag('a', "Do not wait until the node has heard of it"),
    Opt::value(
        'b',
        "SECONDS",
        "Keep trying to reach the server for so long",
    ),
    Opt::flag('c', "Clean up completed jobs"),
    Opt::value('m', "MESSAGE", "Tell the owner why (operators)"),
    Opt::flag(
        'p',
        "Forget the job without waiting for its node (managers)",
    ),
    Opt::value('t', "INDICES", "Delete these members of an array"),
    Opt::value(
        'W',
        "SECONDS|force",
        "Time between SIGTERM and SIGKILL; force: do not wait for the node (PBS Pro)",
    ),
    Opt::flag('x', "Forget jobs that have ended as well (PBS Pro)"),
];

const USAGE: &str = "\
usage: qdel [{ -a | -c | -p | -t | -W delay | -m message}] [-b retry_seconds] [<JOBID>[<JOBID>]|'all'|'ALL']...
       -a -c, -m, -p, -t, and -W are mutually exclusive";

/// Of `-W`, in PBS Pro's words.
const FORCE: &str = "force";
/// Deletions under way at once: the server stores those that wait together with one sync of its disk.
const AT_ONCE: usize = 64;

/// Deletes the jobs in the order in which they are named.
///
/// # Errors
/// Misuse, and a server that is not there; refusals are complained about and end in the exit status.
pub(crate) async fn run<W: Write>(call: &Call, screen: &mut Screen<W>) -> Result<u8, Failure> {
    let parsed = call.parse(OPTIONS);
    let wish = Wish {
        request: wish(&parsed)?,
        is_forced: parsed.value('W') == Some(FORCE),
        has_history: parsed.has('x'),
    };
    let is_cleaning = parsed.has('c');
    if parsed.operands.is_empty() && !is_cleaning {
        return Err(Failure::new(2, USAGE));
    }
    let mut doors = Doors::new(call, door::patience(parsed.value('b'), &call.env));
    // Torque's -c removes completed jobs whose end a scheduler has not been told; there are none here.
    if is_cleaning {
        doors.to("").await?;
        return Ok(0);
    }
    let indices = parsed.value('t');
    let mut line = Line::default();
    for operand in &parsed.operands {
        if is_all(operand) {
            line.finish(0, screen).await;
            line.note(delete_all(&mut doors, &wish).await, screen);
            continue;
        }
        if let Some(failure) = misnamed(operand, indices) {
            line.finish(0, screen).await;
            screen.complain_of(&failure);
            return Ok(failure.status);
        }
        let operand = operand::read("qdel", operand, indices)?;
        let server = doors.to(&operand.host).await?;
        line.under_way
            .push_back(tokio::spawn(delete(server, wish.clone(), operand)));
        line.finish(AT_ONCE - 1, screen).await;
    }
    line.finish(0, screen).await;
    Ok(if line.last == 0 {
        line.first
    } else {
        line.last
    })
}

/// What is asked for of every job.
#[derive(Clone)]
struct Wish {
    request: DeleteJobRequest,
    /// PBS Pro's `-W force`: a manager's jobs are forgotten at once, others get no time between the two signals.
    is_forced: bool,
    /// PBS Pro's `-x`: jobs that have ended are forgotten.
    has_history: bool,
}

impl Wish {
    /// Deletes one job, by as many requests as that takes.
    async fn delete(&self, server: &mut Server, job_id: &str) -> Result<(), Refusal> {
        let request = DeleteJobRequest {
            job_id: job_id.to_owned(),
            ..self.request.clone()
        };
        let purge = DeleteJobRequest {
            purge: true,
            ..request.clone()
        };
        let mut ask = async |request| match server.delete_job(request).await {
            Ok(_) => Ok(()),
            Err(status) => Err(refusal(&status)),
        };
        if self.is_forced {
            match ask(purge.clone()).await {
                Err(refusal) if refusal.error == Pbse::Perm => {}
                answer => return answer,
            }
        }
        match ask(request).await {
            Err(refusal) if refusal.error == Pbse::Badstate && self.has_history => ask(purge).await,
            answer => answer,
        }
    }
}

/// Deletions in the order of their operands, several of them under way, and how those that are done ended.
#[derive(Default)]
struct Line {
    under_way: VecDeque<JoinHandle<Result<(), Failure>>>,
    /// Exit status of the first that failed.
    first: u8,
    /// Exit status of the last.
    last: u8,
}

impl Line {
    /// Waits until no more than `left` are under way, in order.
    async fn finish<W: Write>(&mut self, left: usize, screen: &mut Screen<W>) {
        while self.under_way.len() > left {
            let Some(deletion) = self.under_way.pop_front() else {
                return;
            };
            // A task of ours neither panics nor is it cancelled.
            if let Ok(deleted) = deletion.await {
                self.note(deleted, screen);
            }
        }
    }

    fn note<W: Write>(&mut self, deleted: Result<(), Failure>, screen: &mut Screen<W>) {
        self.last = 0;
        if let Err(failure) = deleted {
            screen.complain_of(&failure);
            self.last = failure.status;
        }
        self.first = if self.first == 0 {
            self.last
        } else {
            self.first
        };
    }
}

/// Of the first operand that is no id, or no array though `-t` is given, Torque says so and does nothing more.
fn misnamed(typed: &str, indices: Option<&str>) -> Option<Failure> {
    let reference: Result<JobReference, _> = typed.parse();
    let text = match reference {
        Err(_) => format!("qdel: illegally formed job identifier: {typed}"),
        Ok(reference) if indices.is_some() && reference.id.part != JobPart::Array => {
            let what = "isn't a job array but -t was specified.";
            format!("qdel: Error: job id '{typed}' {what}")
        }
        Ok(_) => return None,
    };
    Some(Failure::new(1, text))
}

/// What the options ask for, for a job yet to be named.
fn wish(parsed: &Parsed) -> Result<DeleteJobRequest, Failure> {
    let problems: Vec<&str> = parsed.problems().collect();
    if !problems.is_empty() {
        return Err(Failure::new(2, format!("{}\n{USAGE}", problems.join("\n"))));
    }
    let exclusive = ['a', 'c', 'p']
        .into_iter()
        .filter(|&letter| parsed.has(letter))
        .count()
        + ['m', 't', 'W']
            .into_iter()
            .filter(|&letter| parsed.value(letter).is_some())
            .count();
    if exclusive > 1 {
        return Err(Failure::new(2, USAGE));
    }
    if parsed.value('t') == Some("") {
        let what = "qdel: illegal -t value (array range cannot be zero length)";
        return Err(Failure::new(2, format!("{what}\n{USAGE}")));
    }
    let illegal = || Failure::new(2, format!("qdel: illegal -W value\n{USAGE}"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let grace = match parsed.value('W') {
        Some(FORCE) => Some(0),
        Some(text) if is_number(text) => Some(text.parse().map_err(|_| illegal())?),
        Some(_) => return Err(illegal()),
        None => None,
    };
    Ok(DeleteJobRequest {
        job_id: String::new(),
        grace_secs: grace,
        message: parsed.value('m').unwrap_or("").to_owned(),
        purge: parsed.has('p'),
    })
}

fn is_all(operand: &str) -> bool {
    operand == "all" || operand == "ALL"
}

/// Deletes what one operand named.
async fn delete(mut server: Server, wish: Wish, operand: Operand) -> Result<(), Failure> {
    let mut verdict = Verdict::default();
    for job_id in &operand.ids {
        let answer = wish.delete(&mut server, job_id).await;
        verdict.note(&operand, answer);
    }
    let Some(refusal) = verdict.refusal() else {
        return Ok(());
    };
    if refusal.error == Pbse::Unkjobid {
        let text = format!("qdel: nonexistent job id: {}", operand.typed);
        return Err(Failure::new(exit_status(refusal.error), text));
    }
    Err(operand::failure(&mut server, "qdel", &refusal, &operand, Unknown::Told).await)
}

/// Deletes every job that has not ended. Jobs that may not be deleted are complained about once, as in Torque.
async fn delete_all(doors: &mut Doors<'_>, wish: &Wish) -> Result<(), Failure> {
    let mut server = doors.to("").await?;
    let told = |refusal: Refusal| {
        let text = format!("qdel: {} all", refusal.text());
        Failure::new(exit_status(refusal.error), text)
    };
    let mut under_way = JoinSet::new();
    let mut last: Option<Refusal> = None;
    let mut note = |refused: Option<Refusal>| {
        // One that ended or went away since it was listed needs no deletion.
        let refused =
            refused.filter(|refusal| ![Pbse::Unkjobid, Pbse::Badstate].contains(&refusal.error));
        last = refused.or(last.take());
    };
    for job_id in every_job(&mut server).await.map_err(told)? {
        if under_way.len() >= AT_ONCE {
            note(under_way.join_next().await.and_then(Result::ok).flatten());
        }
        let (mut server, wish) = (server.clone(), wish.clone());
        under_way.spawn(async move { wish.delete(&mut server, &job_id).await.err() });
    }
    while let Some(deleted) = under_way.join_next().await {
        note(deleted.ok().flatten());
    }
    match last {
        Some(refusal) => Err(told(refusal)),
        None => Ok(()),
    }
}

async fn every_job(server: &mut Server) -> Result<Vec<String>, Refusal> {
    let request = StatJobsRequest {
        detail: Detail::Row.into(),
        hide_completed: true,
        ..StatJobsRequest::default()
    };
    let refused = |status| refusal(&status);
    let mut batches = server
        .stat_jobs(request)
        .await
        .map_err(refused)?
        .into_inner();
    let mut ids = Vec::new();
    while let Some(batch) = batches.message().await.map_err(refused)? {
        ids.extend(batch.rows.into_iter().map(|row| row.id));
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::getopt;

    fn check_wish(args: &[&str], expected: Result<(Option<u32>, bool), &str>) {
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        let seen =
            wish(&getopt::parse("qdel", OPTIONS, &args)).map(|wish| (wish.grace_secs, wish.purge));
        let expected = expected.map_err(|line| match line {
            "" => Failure::new(2, USAGE),
            line => Failure::new(2, format!("{line}\n{USAGE}")),
        });
        assert_eq!(seen, expected, "{args:?}");
    }

    #[test]
    fn options_exclude_each_other() {
        check_wish(&["-W", "2", "1"], Ok((Some(2), false)));
        check_wish(&["-p", "1"], Ok((None, true)));
        check_wish(&["-p", "-W", "2", "1"], Err(""));
        check_wish(&["-W", "x", "1"], Err("qdel: illegal -W value"));
        check_wish(&["-W", "force", "-x", "1"], Ok((Some(0), false)));
        check_wish(&["-Z", "1"], Err("qdel: invalid option -- 'Z'"));
        let empty = "qdel: illegal -t value (array range cannot be zero length)";
        check_wish(&["-t", "", "1"], Err(empty));
    }

    #[test]
    fn the_first_operand_that_names_no_job_stops_it() {
        let text = |typed, indices| misnamed(typed, indices).map(|failure| failure.text);
        assert_eq!(text("12[]", Some("1")), None);
        assert_eq!(text("12", None), None);
        let malformed = "qdel: illegally formed job identifier: abc".to_owned();
        assert_eq!(text("abc", None), Some(malformed));
        let whole = "qdel: Error: job id '352' isn't a job array but -t was specified.".to_owned();
        assert_eq!(text("352", Some("1-2")), Some(whole));
    }
}
