//! `tracejob`: everything that the logs of the last days say about a job, in the order of time. Reads files only; who
//! may not read them is told so.

mod lines;

use std::io::Write;
use std::path::{Path, PathBuf};

use jiff::civil::Date;
use jiff::{ToSpan, Zoned};

use crate::command::{Call, Failure};
use crate::getopt::{Item, Opt, Parsed};
use crate::output::screen::Screen;

use lines::{Kind, Line};

/// The options of `tracejob`.
pub(crate) const OPTIONS: &[Opt] = &[
    Opt::flag('a', "Leave the accounting log out"),
    Opt::flag('s', "Leave the server log out"),
    Opt::flag('l', "Leave the scheduler log out"),
    Opt::flag('m', "Leave the node daemons' log out"),
    Opt::flag('q', "Say nothing about files that cannot be read"),
    Opt::flag('v', "Say more about files that cannot be read"),
    Opt::flag('z', "Show messages however often they are repeated"),
    Opt::value(
        'c',
        "COUNT",
        "How many repetitions of a message are too many (15)",
    ),
    Opt::value('w', "COLUMNS", "Fold lines for a terminal of this width"),
    Opt::value('p', "PATH", "Home folder of the server whose logs are read"),
    Opt::value('n', "DAYS", "Look so many days back (1: today)"),
    Opt::value(
        'f',
        "TYPE",
        "Leave entries of this type out; may be repeated",
    ),
];

const USAGE: &str = "\
USAGE: tracejob [-a|s|l|m|q|v|z] [-c count] [-w size] [-p path] [-n days] [-f filter_type] <JOBID>...

   -p : path to PBS_SERVER_HOME
   -w : number of columns of your terminal
   -n : number of days in the past to look for job(s) [default 1]
   -f : filter out types of log entries, multiple -f's can be specified
        error, system, admin, job, job_usage, security, sched, debug,
        debug2, or absolute numeric hex equivalent
   -z : toggle filtering excessive messages
   -c : what message count is considered excessive
   -a : don't use accounting log files
   -s : don't use server log files
   -l : don't use scheduler log files
   -m : don't use MOM log files
   -q : quiet mode - hide all error messages
   -v : verbose mode - show more error messages
";

/// Where an installation has its server's files, from the folder of its programs, and where the host has them.
const HOME_BESIDE: &str = "../server";
const HOME_DEFAULT: &str = "/var/lib/capstan/server";
/// Repetitions of a message that are too many, unless `-c` says otherwise.
const EXCESSIVE: usize = 15;
/// Most days that are looked at.
const DAYS_MAX: u32 = 3660;

/// What is looked for, and where.
struct Search {
    home: PathBuf,
    kinds: Vec<Kind>,
    days: Vec<Date>,
    /// Sum of the event numbers that are left out.
    left_out: u32,
    repetitions_max: Option<usize>,
    columns: Option<usize>,
    tells_of_missing: bool,
}

/// Prints what the logs say about each job.
///
/// # Errors
/// Misuse.
pub(crate) fn run<W: Write>(call: &Call, screen: &mut Screen<W>) -> Result<u8, Failure> {
    let parsed = call.parse(OPTIONS);
    let problems: Vec<&str> = parsed.problems().collect();
    if !problems.is_empty() || parsed.operands.is_empty() {
        let said = problems.iter().map(|line| format!("{line}\n"));
        let said: String = said.collect();
        return Err(Failure::new(1, format!("{said}{USAGE}")));
    }
    let search =
        search(&parsed).map_err(|problem| Failure::new(1, format!("{problem}\n{USAGE}")))?;
    let mut status = 0;
    for id in &parsed.operands {
        let found = search.lines_of(id, screen);
        if found.is_empty() {
            let home = search.home.display();
            screen.complain(&format!(
                "tracejob: nothing about job {id} in the logs of {home}"
            ));
            status = 1;
            continue;
        }
        print(id, &found, &search, screen)?;
    }
    Ok(status)
}

fn search(parsed: &Parsed) -> Result<Search, String> {
    let number = |letter: char, default: u32| match parsed.value(letter) {
        None => Ok(default),
        Some(text) => text
            .parse()
            .ok()
            .filter(|number| *number > 0)
            .ok_or_else(|| format!("tracejob: -{letter} '{text}' is no number above 0")),
    };
    let days = number('n', 1)?.min(DAYS_MAX);
    let today = Zoned::now().date();
    let days = (0..days)
        .rev()
        .filter_map(|back| today.checked_sub(i64::from(back).days()).ok());
    let kinds = Kind::ALL
        .into_iter()
        .filter(|kind| !parsed.has(kind.option()));
    let mut left_out = 0;
    let types = parsed.items.iter().filter_map(|item| match item {
        Item::Value('f', value) => Some(value),
        Item::Value(..) | Item::Flag(_) | Item::Problem(_) => None,
    });
    for value in types {
        left_out |=
            lines::event(value).ok_or_else(|| format!("tracejob: unknown -f type '{value}'"))?;
    }
    Ok(Search {
        home: parsed.value('p').map_or_else(home, PathBuf::from),
        kinds: kinds.collect(),
        days: days.collect(),
        left_out,
        repetitions_max: (!parsed.has('z')).then_some(number('c', EXCESSIVE as u32)? as usize),
        columns: parsed
            .value('w')
            .map(|_| number('w', 80))
            .transpose()?
            .map(|columns| columns as usize),
        tells_of_missing: !parsed.has('q'),
    })
}

fn home() -> PathBuf {
    let program = std::env::current_exe().ok();
    let beside = program.and_then(|program| Some(program.parent()?.join(HOME_BESIDE)));
    let beside = beside.filter(|home| home.join("accounting").exists());
    beside.unwrap_or_else(|| PathBuf::from(HOME_DEFAULT))
}

impl Search {
    /// What is said about `id`, by time; what happened in one second stands by log.
    fn lines_of<W: Write>(&self, id: &str, screen: &mut Screen<W>) -> Vec<Line> {
        let mut found = Vec::new();
        for &day in &self.days {
            let name = day.strftime("%Y%m%d").to_string();
            for &kind in &self.kinds {
                let Some(path) = self.file(kind, &name) else {
                    continue;
                };
                match std::fs::read(&path) {
                    Ok(text) => {
                        let text = String::from_utf8_lossy(&text);
                        found.extend(text.lines().filter_map(|line| kind.read(line, id)));
                    }
                    Err(error) if self.tells_of_missing => {
                        screen.complain(&format!("{}: {}", path.display(), reason(&error)));
                    }
                    Err(_) => {}
                }
            }
        }
        found.retain(|line| line.event & self.left_out == 0);
        found.sort_by(|a, b| (&a.day, &a.second, a.kind).cmp(&(&b.day, &b.second, b.kind)));
        found
    }

    /// The log of the day; `None` when this home has no such log at all, as ours has none of a scheduler.
    fn file(&self, kind: Kind, name: &str) -> Option<PathBuf> {
        let folders = kind.folders().iter().map(|folder| self.home.join(folder));
        let mut folders = folders.filter(|folder| has(folder));
        Some(folders.next()?.join(name))
    }
}

/// Whether it is there, as far as we may see.
fn has(folder: &Path) -> bool {
    match folder.symlink_metadata() {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::PermissionDenied,
    }
}

/// The error without its number, as the C library says it.
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error")
        .next()
        .unwrap_or_default()
        .to_owned()
}

fn print<W: Write>(
    id: &str,
    found: &[Line],
    search: &Search,
    screen: &mut Screen<W>,
) -> Result<(), Failure> {
    let full = found.first().map_or(id, |line| line.job.as_str());
    writeln!(screen.out(), "\nJob: {full}\n")?;
    for (at, line) in found.iter().enumerate() {
        if let Some(max) = search.repetitions_max {
            let earlier = found[..at]
                .iter()
                .filter(|other| other.text == line.text)
                .count();
            if earlier >= max {
                continue;
            }
        }
        let head = format!("{} {}    ", line.when, line.kind.letter());
        let text = lines::folded(&line.text, search.columns, head.len());
        writeln!(screen.out(), "{head}{text}")?;
        screen.pass_on()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNTING: &str = "\
11/22/2026 04:16:39;Q;435.hn1;queue=batch
11/22/2026 04:16:39;Q;4350.hn1;queue=other
11/22/2026 04:16:40;E;435.hn1;user=alice Exit_status=0
";
    const SERVER: &str = "\
11/22/2026 04:16:39.216;256;PBS_Server.18643;Job;435.hn1;enqueuing into batch, state 1 hop 1
11/22/2026 04:16:39.452;08;PBS_Server.18643;Job;435.hn1;Job Run at request of root@hn1
11/22/2026 04:16:39.452;04;PBS_Server.18643;Svr;PBS_Server;attributes set: a = 435.hn1
";

    fn traced(arguments: &[&str]) -> (Result<u8, Failure>, String) {
        let home = tempfile::tempdir().unwrap();
        let name = Zoned::now().strftime("%Y%m%d").to_string();
        for (folder, text) in [
            ("server_priv/accounting", ACCOUNTING),
            ("server_logs", SERVER),
        ] {
            let folder = home.path().join(folder);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join(&name), text).unwrap();
        }
        let mut args = vec!["-p".to_owned(), home.path().display().to_string()];
        args.extend(arguments.iter().map(|&word| word.to_owned()));
        let call = Call {
            program: "tracejob",
            args,
            ..Call::default()
        };
        let mut screen = Screen::new(std::io::sink());
        let status = run(&call, &mut screen);
        (status, String::from_utf8(screen.out().clone()).unwrap())
    }

    /// reference_tracejob.txt.
    #[test]
    fn logs_are_merged_as_torque_merges_them() {
        let (status, text) = traced(&["435"]);
        assert_eq!(status, Ok(0));
        assert_eq!(
            text,
            "\nJob: 435.hn1\n\n\
             11/22/2026 04:16:39.216 S    enqueuing into batch, state 1 hop 1\n\
             11/22/2026 04:16:39.452 S    Job Run at request of root@hn1\n\
             11/22/2026 04:16:39  A    queue=batch\n\
             11/22/2026 04:16:40  A    user=alice Exit_status=0\n"
        );
    }

    #[test]
    fn logs_and_types_can_be_left_out() {
        let (_, text) = traced(&["-a", "-f", "debug2", "435.hn1"]);
        assert_eq!(text.lines().count(), 4, "{text}");
        assert!(text.contains("Job Run"), "{text}");
    }

    #[test]
    fn a_job_that_nobody_mentions_is_an_error() {
        assert_eq!(traced(&["99"]).0, Ok(1));
        let bad = traced(&["-n", "x", "1"]).0.unwrap_err();
        assert!(
            bad.text
                .starts_with("tracejob: -n 'x' is no number above 0\nUSAGE: tracejob ")
        );
        assert_eq!(traced(&[]).0.unwrap_err().status, 1);
    }
}
