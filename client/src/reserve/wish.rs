//! What the options of `pbs_rsub` ask for. Times of the clock are those of the caller's time zone; what comes again does so
//! by the server's.

use capstan_proto::wire::reserve_request::Kind;
use capstan_proto::wire::{Attribute, ReserveRequest};
use capstan_types::{ParseError, Recurrence, Seconds, WallTime, Weekdays, split_resources};
use jiff::Zoned;

use crate::getopt::{Item, Parsed};
use crate::qsub::date::execution_time;

const USAGE: &str = "\
usage: pbs_rsub [-N name] [-R start] [-E end | -D duration] -l resources [-U users] [-G groups]
                [-r rule | --every='Mon,Wed 14:00-16:00 until 2027-01-31']
       pbs_rsub --maintenance [-N name] [-R start] [-E end | -D duration] [-r rule] [--force] [--hosts] [host...]
       pbs_rsub --dedicated=queue[,...] [-N name] [-R start] [-E end | -D duration] [-r rule] [--force] [--hosts] [host...]";

/// Reads the options.
///
/// # Errors
/// What is wrong, for people.
pub(super) fn read(parsed: &Parsed, now: &Zoned) -> Result<ReserveRequest, String> {
    if let Some(problem) = parsed.problems().next() {
        return Err(format!("{problem}\n{USAGE}"));
    }
    let mut request = ReserveRequest {
        name: parsed.value('N').unwrap_or_default().to_owned(),
        users: list(parsed.value('U')),
        groups: list(parsed.value('G')),
        hosts: parsed
            .operands
            .iter()
            .flat_map(|host| list(Some(host)))
            .collect(),
        ..ReserveRequest::default()
    };
    let mut every = None;
    for item in &parsed.items {
        match item {
            Item::Value('-', word) => match word.split_once('=').unwrap_or((word, "")) {
                ("maintenance", "") => request.set_kind(Kind::Maintenance),
                ("dedicated", queues) if !queues.is_empty() => {
                    request.set_kind(Kind::Dedicated);
                    request.queues = list(Some(queues));
                }
                ("hosts", hosts) => request.hosts.extend(list(Some(hosts))),
                ("force", "") => request.force = true,
                ("every", text) if !text.is_empty() => every = Some(text),
                _ => return Err(format!("pbs_rsub: unknown option --{word}\n{USAGE}")),
            },
            Item::Value('l', resources) => request.resources.extend(resources_of(resources)?),
            Item::Value(..) | Item::Flag(_) | Item::Problem(_) => {}
        }
    }
    check_kind(&request)?;
    match every {
        Some(text) => weekly(&mut request, text, parsed, now)?,
        None => once(&mut request, parsed, now)?,
    }
    Ok(request)
}

fn check_kind(request: &ReserveRequest) -> Result<(), String> {
    let is_for_jobs = request.kind() == Kind::Jobs;
    let problem = match (is_for_jobs, request.resources.is_empty()) {
        (true, true) => "nothing to set aside: say what with -l",
        (true, false) if !request.hosts.is_empty() => {
            "hosts go with --maintenance and --dedicated; for jobs name them in -l"
        }
        (false, false) => "-l goes with reservations for jobs; whole nodes are named as operands",
        (true, false) | (false, true) => return Ok(()),
    };
    Err(format!("pbs_rsub: {problem}\n{USAGE}"))
}

/// `select=2:ncpus=4,place=scatter`; `walltime=` is the duration and no resource.
fn resources_of(text: &str) -> Result<Vec<Attribute>, String> {
    let pairs = split_resources(text);
    let pairs = pairs.map_err(|error| format!("pbs_rsub: illegal -l value {}", error.element))?;
    let pairs = pairs.into_iter().filter(|(name, _)| *name != "walltime");
    let attribute = |(name, value): (&str, &str)| Attribute {
        name: "Resource_List".to_owned(),
        resource: name.to_owned(),
        value: value.to_owned(),
    };
    Ok(pairs.map(attribute).collect())
}

/// From two of beginning, end and duration; it begins now when nothing else says when.
fn once(request: &mut ReserveRequest, parsed: &Parsed, now: &Zoned) -> Result<(), String> {
    let start = parsed.value('R').map(|text| time('R', text, now));
    let start = start.transpose()?;
    let walltime = || parsed.value('l').and_then(walltime);
    let duration = parsed.value('D').or_else(walltime);
    let duration = duration.map(|text| {
        let span = Seconds::parse(text).ok().filter(|span| span.0 > 0);
        span.ok_or_else(|| format!("pbs_rsub: illegal -D value {text}"))
    });
    let duration = duration
        .transpose()?
        .map(|span| i64::try_from(span.0).unwrap_or(i64::MAX / 4));
    // Of an end without a date the next one behind the beginning is meant.
    let from = start
        .and_then(|secs| zoned(secs, now))
        .unwrap_or_else(|| now.clone());
    let end = parsed.value('E').map(|text| time('E', text, &from));
    let end = end.transpose()?;
    let now = now.timestamp().as_second();
    let (start, end) = match (start, end, duration) {
        (Some(start), Some(end), None) => (start, end),
        (None, Some(end), None) => (now, end),
        (Some(start), None, Some(span)) => (start, start.saturating_add(span)),
        (None, Some(end), Some(span)) => (end.saturating_sub(span), end),
        (None, None, Some(span)) => (now, now.saturating_add(span)),
        (Some(_), Some(_), Some(_)) => {
            return Err(format!(
                "pbs_rsub: -R, -E and -D at once are one too many\n{USAGE}"
            ));
        }
        (_, None, None) => {
            return Err(format!(
                "pbs_rsub: no end: say when with -E, or how long with -D\n{USAGE}"
            ));
        }
    };
    request.start_secs = u64::try_from(start).unwrap_or(0);
    request.end_secs = u64::try_from(end).unwrap_or(0);
    if let Some(rule) = parsed.value('r') {
        let read = Recurrence::parse(rule).map_err(|error| pointed("-r", &error))?;
        request.rule = read.to_string();
    }
    Ok(())
}

fn walltime(resources: &str) -> Option<&str> {
    let pairs = split_resources(resources).ok()?;
    let found = pairs.into_iter().find(|(name, _)| *name == "walltime");
    found.map(|(_, value)| value)
}

/// `Mon,Wed 14:00-16:00 until 2027-01-31`.
fn weekly(
    request: &mut ReserveRequest,
    text: &str,
    parsed: &Parsed,
    now: &Zoned,
) -> Result<(), String> {
    if ['R', 'E', 'D', 'r']
        .iter()
        .any(|letter| parsed.value(*letter).is_some())
    {
        return Err(format!(
            "pbs_rsub: --every says when: -R, -E, -D and -r do not go with it\n{USAGE}"
        ));
    }
    let wrong = || {
        format!(
            "pbs_rsub: illegal --every value '{text}': 'Mon,Wed 14:00-16:00 until 2027-01-31' would be one"
        )
    };
    let words: Vec<&str> = text.split_whitespace().collect();
    let [days, span, until, date] = words[..] else {
        return Err(wrong());
    };
    let (from, to) = span.split_once('-').ok_or_else(wrong)?;
    let days = Weekdays::parse(days).ok_or_else(wrong)?;
    let clock = |text: &str| {
        let (hour, minute) = text.split_once(':')?;
        let digits = format!("{hour:0>2}{minute}");
        (digits.len() == 4).then_some(digits)
    };
    let (from, to) = (clock(from).ok_or_else(wrong)?, clock(to).ok_or_else(wrong)?);
    let start = execution_time(&from, now).ok_or_else(wrong)?;
    let begun = zoned(start, now).ok_or_else(wrong)?;
    let end = execution_time(&to, &begun).ok_or_else(wrong)?;
    let mut parts = date.split('-').map(str::parse::<i64>);
    let mut part = || parts.next().and_then(Result::ok);
    let last = (until == "until")
        .then_some(())
        .and_then(|()| WallTime::midnight(part()?, part()?, part()?));
    let rule = Recurrence::weekly(days, last.ok_or_else(wrong)?);
    request.start_secs = u64::try_from(start).unwrap_or(0);
    request.end_secs = u64::try_from(end).unwrap_or(0);
    request.rule = rule.to_string();
    Ok(())
}

fn time(letter: char, text: &str, now: &Zoned) -> Result<i64, String> {
    execution_time(text, now)
        .ok_or_else(|| format!("pbs_rsub: illegal -{letter} time value {text}\n{USAGE}"))
}

fn zoned(secs: i64, like: &Zoned) -> Option<Zoned> {
    let at = jiff::Timestamp::from_second(secs).ok()?;
    Some(at.to_zoned(like.time_zone().clone()))
}

fn pointed(option: &str, error: &ParseError) -> String {
    format!(
        "pbs_rsub: illegal {option} value\n{}\nexpected: {}",
        error.with_caret(),
        error.expected
    )
}

/// The entries of a comma list.
fn list(text: Option<&str>) -> Vec<String> {
    let entries = text.into_iter().flat_map(|text| text.split(','));
    let entries = entries.map(str::trim).filter(|entry| !entry.is_empty());
    entries.map(ToOwned::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::getopt;
    use crate::reserve::SUBMIT_OPTIONS;

    fn wish(args: &[&str]) -> Result<ReserveRequest, String> {
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        // A Sunday.
        let now: Zoned = "2026-11-22T12:00:00[UTC]".parse().unwrap();
        read(&getopt::parse("pbs_rsub", SUBMIT_OPTIONS, &args), &now)
    }

    fn times(args: &[&str]) -> String {
        let request = match wish(args) {
            Ok(request) => request,
            Err(text) => return text.lines().next().unwrap().to_owned(),
        };
        let show = |secs: u64| {
            let at = jiff::Timestamp::from_second(secs as i64)
                .unwrap()
                .to_string();
            at[5..16].to_owned()
        };
        format!(
            "{} {} {}",
            show(request.start_secs),
            show(request.end_secs),
            request.rule
        )
    }

    #[test]
    fn two_of_beginning_end_and_duration_are_enough() {
        let node = ["-l", "nodes=1"];
        let check = |args: &[&str], expected: &str| {
            assert_eq!(times(&[&node[..], args].concat()), expected, "{args:?}");
        };
        check(&["-R", "1400", "-E", "1600"], "11-22T14:00 11-22T16:00 ");
        check(&["-R", "2300", "-E", "0100"], "11-22T23:00 11-23T01:00 ");
        check(&["-R", "1400", "-D", "30:00"], "11-22T14:00 11-22T14:30 ");
        check(&["-E", "1400", "-D", "1:00:00"], "11-22T13:00 11-22T14:00 ");
        check(&["-D", "60"], "11-22T12:00 11-22T12:01 ");
        check(
            &["-l", "nodes=1,walltime=1:00:00"],
            "11-22T12:00 11-22T13:00 ",
        );
        check(
            &["-R", "1400", "-D", "60", "-r", "freq=daily;count=3"],
            "11-22T14:00 11-22T14:01 FREQ=DAILY;COUNT=3",
        );
        check(
            &["--every=Mon,Wed 14:00-16:00 until 2027-01-31"],
            "11-22T14:00 11-22T16:00 FREQ=WEEKLY;BYDAY=MO,WE;UNTIL=20270131T235959",
        );
    }

    #[test]
    fn what_cannot_be_is_said() {
        let check = |args: &[&str], expected: &str| {
            let seen = times(args);
            assert!(seen.contains(expected), "{args:?}: {seen}");
        };
        check(&["-D", "60"], "say what with -l");
        check(&["-l", "nodes=1"], "no end");
        check(&["-l", "nodes=1", "-D", "x"], "illegal -D value x");
        check(&["-l", "nodes=1", "-R", "25"], "illegal -R time value 25");
        check(
            &["-l", "nodes=1", "-D", "60", "gpu01"],
            "hosts go with --maintenance",
        );
        check(
            &["-l", "nodes=1", "-D", "60", "-r", "FREQ=YEARLY"],
            "illegal -r value",
        );
        check(&["--nosuch", "-D", "60"], "unknown option --nosuch");
        check(
            &["-l", "nodes=1", "--every=Mon 14:00 until 2027-01-01"],
            "illegal --every",
        );
        check(
            &["--maintenance", "-l", "nodes=1", "-D", "60"],
            "-l goes with",
        );
        check(&["-Z"], "invalid option -- 'Z'");
    }

    #[test]
    fn maintenance_names_its_nodes() {
        let request = wish(&[
            "--maintenance",
            "--force",
            "-D",
            "3600",
            "--hosts",
            "gpu01",
            "gpu02,:S",
        ]);
        let request = request.unwrap();
        assert_eq!(request.kind(), Kind::Maintenance);
        assert_eq!(request.hosts, ["gpu01", "gpu02", ":S"]);
        assert!(request.force);
        let request = wish(&["--dedicated=exam,final", "-D", "3600"]).unwrap();
        assert_eq!(request.kind(), Kind::Dedicated);
        assert_eq!(request.queues, ["exam", "final"]);
    }
}
