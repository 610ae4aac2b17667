//! `qpeek`, `qlog`, `dockerlog`: show what a running job has written so far, and what it goes on to write.

use std::io::Write;

use capstan_proto::wire::PeekJobRequest;
use capstan_proto::wire::peek_job_request::File;
use capstan_types::Pbse;

use crate::command::{Call, Failure, exit_status, refusal};
use crate::door::{self, Doors};
use crate::getopt::{self, Item, Opt, Parsed};
use crate::operand;
use crate::output::screen::Screen;

/// The options of `qpeek`.
pub(crate) const OPTIONS: &[Opt] = &[
    Opt::flag('c', "Show all of the output; so when nothing else is given"),
    Opt::flag('h', "Show only the first lines"),
    Opt::flag('t', "Show only the last lines"),
    Opt::flag('f', "Show the last lines and go on until the job ends"),
    Opt::flag('#', "So many lines (-20), 10 when not given"),
    Opt::flag('e', "Show the job's stderr"),
    Opt::flag('o', "Show the job's stdout; so when neither is given"),
];

/// The options of `qlog` and `dockerlog`.
pub(crate) const LOG_OPTIONS: &[Opt] = &[
    Opt::flag('f', "Go on until the job ends"),
    Opt::flag('e', "Show the job's stderr"),
    Opt::flag('o', "Show the job's stdout; so when neither is given"),
];

const USAGE: &str = "\
Usage:  qpeek [options] JOBID

Options:
  -c      Show all of the output file (\"cat\", default)
  -h      Show only the beginning of the output file (\"head\")
  -t      Show only the end of the output file (\"tail\")
  -f      Show only the end of the file and keep listening (\"tail -f\")
  -#      Show only # lines of the beginning or the end
  -e      Show the stderr file of the job
  -o      Show the stdout file of the job";

/// Lines of `-h`, `-t` and `-f` when no number is given, as head and tail have it.
const LINES: u32 = 10;
/// How the original, a Perl script, ends when it dies.
const DIED: u8 = 255;
/// Options of the original that name ways to the node and to its files. The agent needs none of them.
const WITHOUT_EFFECT: [&str; 2] = ["-ssh", "-rsh"];
const WITHOUT_EFFECT_VALUED: [&str; 3] = ["-spool=", "-spooldir=", "-host="];

/// What is to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wish {
    first_lines: Option<u32>,
    last_lines: Option<u32>,
    follow: bool,
    files: Vec<File>,
    job: String,
}

/// Shows the output of one job.
///
/// # Errors
/// Misuse, a job that may not be looked at or does not run, a reader that has gone.
pub(crate) async fn run<W: Write>(call: &Call, screen: &mut Screen<W>) -> Result<u8, Failure> {
    if call
        .args
        .iter()
        .any(|arg| ["-help", "-?"].contains(&arg.as_str()))
    {
        screen.complain(USAGE);
        return Ok(0);
    }
    show(call, screen, "qpeek", &wish(&call.args)?).await
}

/// `qlog`: all of the output of one job, and with `-f` what follows; `dockerlog` is `qlog -f`, as users of home-made
/// clusters know it.
///
/// # Errors
/// As [`run`].
pub(crate) async fn log<W: Write>(call: &Call, screen: &mut Screen<W>) -> Result<u8, Failure> {
    let wish = whole(call.program, &call.parse(LOG_OPTIONS))?;
    show(call, screen, call.program, &wish).await
}

fn whole(name: &str, parsed: &Parsed) -> Result<Wish, Failure> {
    let usage = format!("usage: {name} [-f] [-e] [-o] JOB");
    let problems: Vec<&str> = parsed.problems().collect();
    let ([job], []) = (&parsed.operands[..], &problems[..]) else {
        let lines = problems.into_iter().chain([&*usage]);
        return Err(Failure::new(2, lines.collect::<Vec<_>>().join("\n")));
    };
    Ok(Wish {
        first_lines: None,
        last_lines: None,
        follow: name == "dockerlog" || parsed.has('f'),
        files: files(parsed),
        job: job.clone(),
    })
}

/// Shows what is wished, one file behind the other.
async fn show<W: Write>(
    call: &Call,
    screen: &mut Screen<W>,
    name: &str,
    wish: &Wish,
) -> Result<u8, Failure> {
    let operand = operand::read(name, &wish.job, None)?;
    let mut doors = Doors::new(call, door::patience(None, &call.env));
    for file in &wish.files {
        let request = PeekJobRequest {
            job_id: wish.job.clone(),
            file: (*file).into(),
            last_lines: wish.last_lines,
            follow: wish.follow,
            first_lines: wish.first_lines,
        };
        let mut server = doors.to(&operand.host).await?;
        let told = |status| refusal(&status);
        let shown = match server.peek_job(request).await.map_err(told) {
            Err(refusal) => Err(refusal),
            Ok(output) => {
                let mut output = output.into_inner();
                loop {
                    match output.message().await.map_err(told) {
                        Err(refusal) => break Err(refusal),
                        Ok(None) => break Ok(()),
                        Ok(Some(chunk)) => {
                            screen.out().extend_from_slice(&chunk.data);
                            screen.flush()?;
                        }
                    }
                }
            }
        };
        let Err(refusal) = shown else { continue };
        if refusal.error == Pbse::Badstate {
            let id = wish.job.split('.').next().unwrap_or_default();
            return Err(Failure::new(DIED, format!("Job {id} is not running!")));
        }
        let id = door::full_id(&mut server, &wish.job).await;
        let text = format!("{name}: {} {id}", refusal.text());
        return Err(Failure::new(exit_status(refusal.error), text));
    }
    Ok(0)
}

fn wish(args: &[String]) -> Result<Wish, Failure> {
    let mut lines = None;
    let mut rest = Vec::new();
    for arg in args {
        let number = arg.strip_prefix('-').and_then(|number| number.parse().ok());
        let is_ignored = WITHOUT_EFFECT.contains(&arg.as_str())
            || WITHOUT_EFFECT_VALUED
                .iter()
                .any(|word| arg.starts_with(word));
        match number {
            Some(number) => lines = Some(number),
            None if is_ignored => {}
            None => rest.push(arg.clone()),
        }
    }
    let parsed = getopt::parse("qpeek", OPTIONS, &rest);
    let problems: Vec<&str> = parsed.problems().collect();
    if !problems.is_empty() {
        return Err(Failure::new(2, format!("{}\n{USAGE}", problems.join("\n"))));
    }
    let Some(job) = parsed.operands.first() else {
        return Err(Failure::new(DIED, "No job id given!"));
    };
    // A number alone means the end, as with the tail that it was made for.
    let default = if lines.is_some() { 't' } else { 'c' };
    let way = last_of(&parsed, &['c', 'h', 't', 'f']).unwrap_or(default);
    let lines = lines.unwrap_or(LINES);
    Ok(Wish {
        first_lines: (way == 'h').then_some(lines),
        last_lines: ['t', 'f'].contains(&way).then_some(lines),
        follow: way == 'f',
        files: files(&parsed),
        job: job.clone(),
    })
}

fn files(parsed: &Parsed) -> Vec<File> {
    let files = [('o', File::Stdout), ('e', File::Stderr)];
    let named = files
        .into_iter()
        .filter_map(|(letter, file)| parsed.has(letter).then_some(file));
    let mut files: Vec<File> = named.collect();
    if files.is_empty() {
        files.push(File::Stdout);
    }
    files
}

/// The last of these flags.
fn last_of(parsed: &Parsed, letters: &[char]) -> Option<char> {
    parsed.items.iter().rev().find_map(|item| match item {
        Item::Flag(letter) if letters.contains(letter) => Some(*letter),
        Item::Flag(_) | Item::Value(..) | Item::Problem(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(args: &[&str], first: Option<u32>, last: Option<u32>, follow: bool, files: &[File]) {
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        let expected = Wish {
            first_lines: first,
            last_lines: last,
            follow,
            files: files.to_vec(),
            job: "7.hn1".to_owned(),
        };
        assert_eq!(wish(&args), Ok(expected), "{args:?}");
    }

    #[test]
    fn the_last_way_of_looking_counts() {
        let stdout = &[File::Stdout][..];
        check(&["7.hn1"], None, None, false, stdout);
        check(&["-c", "7.hn1"], None, None, false, stdout);
        check(&["-t", "7.hn1"], None, Some(10), false, stdout);
        check(&["-h", "7.hn1"], Some(10), None, false, stdout);
        check(&["-h", "-3", "7.hn1"], Some(3), None, false, stdout);
        check(&["-20", "7.hn1"], None, Some(20), false, stdout);
        check(&["-f", "7.hn1"], None, Some(10), true, stdout);
        check(&["-tc", "7.hn1"], None, None, false, stdout);
        check(&["-ssh", "-spool=/x", "7.hn1"], None, None, false, stdout);
    }

    #[test]
    fn both_files_are_shown_one_behind_the_other() {
        check(&["-e", "7.hn1"], None, None, false, &[File::Stderr]);
        let both = [File::Stdout, File::Stderr];
        check(&["-e", "-o", "7.hn1"], None, None, false, &both);
    }

    #[test]
    fn a_log_is_shown_whole_and_dockerlog_goes_on() {
        let read = |name: &str, args: &[&str]| {
            let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
            let wish = whole(name, &getopt::parse(name, LOG_OPTIONS, &args));
            wish.map(|wish| (wish.last_lines, wish.follow, wish.files))
        };
        let stdout = || vec![File::Stdout];
        assert_eq!(read("qlog", &["7"]), Ok((None, false, stdout())));
        assert_eq!(read("qlog", &["-f", "7"]), Ok((None, true, stdout())));
        assert_eq!(read("dockerlog", &["7"]), Ok((None, true, stdout())));
        let stderr = vec![File::Stderr];
        assert_eq!(read("qlog", &["-e", "7"]), Ok((None, false, stderr)));
        assert_eq!(read("qlog", &[]).unwrap_err().status, 2);
        assert_eq!(read("qlog", &["7", "8"]).unwrap_err().status, 2);
    }

    #[test]
    fn without_a_job_there_is_nothing_to_show() {
        let died = Failure::new(DIED, "No job id given!");
        assert_eq!(wish(&["-t".to_owned()]), Err(died));
        assert_eq!(wish(&["-Z".to_owned()]).unwrap_err().status, 2);
    }
}
