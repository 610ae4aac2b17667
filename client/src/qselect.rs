//! `qselect`: prints the ids of jobs that meet all criteria, one a line. Reads the criteria as Torque does; which jobs
//! meet them, the server decides.

use std::io::Write;

use capstan_proto::wire::criterion::Comparison;
use capstan_proto::wire::{Criterion, SelectJobsReply, SelectJobsRequest};

use crate::command::{Call, Failure, exit_status, refusal};
use crate::door;
use crate::getopt::{Item, Opt, Parsed};
use crate::output::json;
use crate::output::screen::Screen;
use crate::qsub::date::execution_time;

/// The options of `qselect`.
pub(crate) const OPTIONS: &[Opt] = &[
    Opt::value('a', "[.OP.]TIME", "Jobs that wait for this time"),
    Opt::value('A', "ACCOUNT", "Jobs of this account"),
    Opt::value('c', "[.OP.]INTERVAL", "Jobs with this checkpoint interval"),
    Opt::flag('e', "Jobs in execution queues only"),
    Opt::value('h', "[.OP.]HOLDS", "Jobs with these holds"),
    Opt::value(
        'l',
        "NAME.OP.VALUE[,...]",
        "Jobs that asked for such resources",
    ),
    Opt::value('N', "NAME", "Jobs of this name"),
    Opt::value('p', "[.OP.]PRIORITY", "Jobs of this priority"),
    Opt::value('q', "QUEUE[@SERVER]", "Jobs in this queue"),
    Opt::value('r', "y|n", "Jobs that may be run again, or may not"),
    Opt::value('s', "[.OP.]STATES", "Jobs in these states (CEHQRTW)"),
    Opt::value('u', "USER[@HOST][,...]", "Jobs of these users"),
    Opt::value('-', "json|version", "As JSON; say which version this is"),
];

/// With Torque's own line breaks and blanks.
const USAGE: &str = "usage: qselect                           \
[-a [op]date_time] [-A account_string] [-e] [-c [op]interval] 
                          [-h hold_list] [-l resource_list] [-N name] [-p [op]priority] 
                          [-q destination] [-r y|n] [-s states] [-u user_name]";

/// Letters of states that `-s` takes.
const STATES: &str = "CEHQRTWS";
/// The longest argument, in bytes; Torque cuts at 256.
const ARGUMENT_BYTES_MAX: usize = 4096;

/// Selects jobs.
///
/// # Errors
/// Misuse (2), a server that is not there, criteria that the server refuses.
pub(crate) async fn run<W: Write>(call: &Call, screen: &mut Screen<W>) -> Result<u8, Failure> {
    let parsed = call.parse(OPTIONS);
    let wish = Wish::read(&parsed, call.env.get("PBS_QSTAT_EXECONLY").is_some())?;
    let mut server = door::open(call, door::patience(None, &call.env)).await?;
    if let Some(host) = &wish.host {
        let name = door::server_name(&mut server).await;
        let name = name.map_err(|status| refused(&status))?;
        if !door::is_name_of(host, &name) {
            let (what, connection) = (door::unresolved(host), door::unresolved_connection(host));
            return Err(Failure::new(162, format!("{what}\nqselect: {connection}")));
        }
    }
    let is_json = wish.is_json;
    let batches = server.select_jobs(wish.request).await;
    let mut batches = batches.map_err(|status| refused(&status))?.into_inner();
    let mut document = json::Document::default();
    while let Some(batch) = batches.message().await.map_err(|status| refused(&status))? {
        let SelectJobsReply { job_ids } = batch;
        for id in &job_ids {
            let out = screen.out();
            if is_json {
                document.element(out, "jobs");
                json::string(out, id);
            } else {
                out.extend_from_slice(id.as_bytes());
                out.push(b'\n');
            }
            screen.pass_on()?;
        }
    }
    if is_json {
        document.end(screen.out(), "jobs");
    }
    Ok(0)
}

fn refused(status: &tonic::Status) -> Failure {
    let refusal = refusal(status);
    Failure::new(
        exit_status(refusal.error),
        format!("qselect: {}", refusal.text()),
    )
}

/// What the command line asks for.
#[derive(Debug)]
struct Wish {
    request: SelectJobsRequest,
    /// Behind the `@` of `-q`.
    host: Option<String>,
    is_json: bool,
}

impl Wish {
    fn read(parsed: &Parsed, exec_only: bool) -> Result<Self, Failure> {
        let mut wish = Self {
            request: SelectJobsRequest {
                exec_only: exec_only || parsed.has('e'),
                ..SelectJobsRequest::default()
            },
            host: None,
            is_json: false,
        };
        let mut lines = Vec::new();
        let mut is_wrong = !parsed.operands.is_empty();
        for item in &parsed.items {
            match item {
                Item::Problem(text) => lines.push(text.clone()),
                Item::Flag(_) => {}
                Item::Value('-', word) if word == "json" => wish.is_json = true,
                Item::Value('-', _) => is_wrong = true,
                Item::Value(letter, value) => {
                    if let Err(text) = wish.take(*letter, value) {
                        lines.push(text);
                    }
                }
            }
        }
        is_wrong |= !lines.is_empty();
        if is_wrong {
            lines.push(USAGE.to_owned());
            return Err(Failure::new(2, lines.join("\n")));
        }
        wish.check_destination()?;
        Ok(wish)
    }

    /// Takes one option in; `Err` is what is said of a value that is none.
    fn take(&mut self, letter: char, value: &str) -> Result<(), String> {
        let illegal = || format!("qselect: illegal -{letter} value");
        if value.len() > ARGUMENT_BYTES_MAX {
            return Err(illegal());
        }
        let (comparison, operand) = comparison(value);
        let trimmed = operand.trim_start();
        let is_fit = match letter {
            'a' => {
                let at = execution_time(operand, &jiff::Zoned::now());
                let secs = at.ok_or_else(illegal)?;
                self.put("Execution_Time", comparison, &secs.to_string());
                return Ok(());
            }
            'c' => is_checkpoint(comparison, trimmed),
            'h' => is_hold_list(trimmed),
            'l' => return self.resources(value),
            's' => !value.is_empty() && trimmed.chars().all(|state| STATES.contains(state)),
            'u' => is_user_list(value),
            'r' => {
                let answer = value.trim_start();
                if !matches!(answer, "y" | "n") {
                    // Torque's own slip of the tongue.
                    return Err("qsub: illegal -r value".to_owned());
                }
                self.put("Rerunable", Comparison::Eq, answer);
                return Ok(());
            }
            _ => true,
        };
        if !is_fit {
            return Err(illegal());
        }
        match letter {
            'c' => self.put("Checkpoint", comparison, trimmed),
            'h' => self.put("Hold_Types", comparison, trimmed),
            's' => self.put("job_state", comparison, trimmed),
            'p' => self.put("Priority", comparison, operand),
            'q' if comparison == Comparison::Eq => self.request.destination = operand.to_owned(),
            'q' => self.put("queue", comparison, operand),
            'u' => self.put("User_List", Comparison::Eq, value),
            'A' => self.put("Account_Name", Comparison::Eq, value),
            'N' => self.put("Job_Name", Comparison::Eq, value),
            _ => {}
        }
        Ok(())
    }

    fn put(&mut self, name: &str, comparison: Comparison, value: &str) {
        self.put_resource((name, ""), comparison, value);
    }

    fn put_resource(&mut self, (name, resource): (&str, &str), by: Comparison, value: &str) {
        self.request.criteria.push(Criterion {
            name: name.to_owned(),
            resource: resource.to_owned(),
            comparison: by.into(),
            value: value.to_owned(),
        });
    }

    /// `mem.ge.100mb,walltime.lt.1:00:00`.
    fn resources(&mut self, list: &str) -> Result<(), String> {
        let mut rest = list;
        while !rest.is_empty() {
            let illegal = || format!("qselect: illegal -l value\nresource_list: {rest}");
            let (element, next) = rest.split_once(',').unwrap_or((rest, ""));
            let is_cut = rest.ends_with(',') && next.is_empty();
            let (name, behind) = element.split_once('.').ok_or_else(illegal)?;
            let word = behind.get(..2).and_then(comparison_named);
            // Torque does not look at the letter behind the operator.
            let value = behind.char_indices().nth(3).map(|(at, _)| &behind[at..]);
            let (Some(by), Some(value), false) = (word, value, is_cut || name.is_empty()) else {
                return Err(illegal());
            };
            self.put_resource(("Resource_List", name), by, value);
            rest = next;
        }
        Ok(())
    }

    fn check_destination(&mut self) -> Result<(), Failure> {
        let destination = &self.request.destination;
        let is_wrong = destination.chars().any(char::is_whitespace)
            || destination.matches('@').count() > 1
            || destination.ends_with('@');
        if is_wrong {
            let text = format!("qselect: illegally formed destination: {destination}");
            return Err(Failure::new(2, text));
        }
        if let Some((_, host)) = destination.split_once('@') {
            self.host = Some(host.to_owned());
        }
        Ok(())
    }
}

/// `.gt.5`: the comparison and what stands behind it. Without one, or with one that is unknown, it is equality.
fn comparison(argument: &str) -> (Comparison, &str) {
    let Some(rest) = argument.strip_prefix('.') else {
        return (Comparison::Eq, argument);
    };
    let word = rest.get(..2).and_then(comparison_named);
    let behind = rest.char_indices().nth(3).map_or("", |(at, _)| &rest[at..]);
    (word.unwrap_or(Comparison::Eq), behind)
}

fn comparison_named(word: &str) -> Option<Comparison> {
    match word {
        "eq" => Some(Comparison::Eq),
        "ne" => Some(Comparison::Ne),
        "ge" => Some(Comparison::Ge),
        "gt" => Some(Comparison::Gt),
        "le" => Some(Comparison::Le),
        "lt" => Some(Comparison::Lt),
        _ => None,
    }
}

/// `n`, `s`, `c`, `c=MINUTES`; `u` has no order.
fn is_checkpoint(by: Comparison, text: &str) -> bool {
    match text {
        "n" | "s" | "c" => true,
        "u" => matches!(by, Comparison::Eq | Comparison::Ne),
        other => other.strip_prefix("c=").is_some_and(|minutes| {
            !minutes.is_empty() && minutes.bytes().all(|b| b.is_ascii_digit())
        }),
    }
}

/// Letters of u, o and s, or n alone.
fn is_hold_list(text: &str) -> bool {
    let has = |letter| text.contains(letter);
    !text.is_empty()
        && text.chars().all(|letter| "uosn".contains(letter))
        && !(has('n') && (has('u') || has('o') || has('s')))
}

/// `user[@host],…` without empty elements.
fn is_user_list(list: &str) -> bool {
    list.split(',').all(|user| {
        let user = user.trim();
        let name = user.split('@').next().unwrap_or_default();
        !name.is_empty() && user.matches('@').count() <= 1 && !user.ends_with('@')
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::getopt;
    use proptest::prelude::*;

    fn read(args: &[&str]) -> Result<Wish, Failure> {
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        Wish::read(&getopt::parse("qselect", OPTIONS, &args), false)
    }

    fn check(args: &[&str], expected: &[&str]) {
        let wish = read(args).unwrap();
        let shown = wish.request.criteria.iter().map(|criterion| {
            let by = criterion.comparison();
            let resource = match criterion.resource.as_str() {
                "" => String::new(),
                resource => format!(".{resource}"),
            };
            format!("{}{resource} {by:?} {}", criterion.name, criterion.value)
        });
        assert_eq!(shown.collect::<Vec<_>>(), expected, "{args:?}");
    }

    #[test]
    fn criteria_are_read_with_their_operators() {
        check(&["-u", "alice"], &["User_List Eq alice"]);
        check(&["-p", ".gt.0"], &["Priority Gt 0"]);
        check(&["-p", "5"], &["Priority Eq 5"]);
        check(
            &["-l", "mem.ge.100mb,walltime.lt.1:00:00"],
            &[
                "Resource_List.mem Ge 100mb",
                "Resource_List.walltime Lt 1:00:00",
            ],
        );
        check(&["-s", "QR"], &["job_state Eq QR"]);
        check(
            &["-h", "u", "-r", "n"],
            &["Hold_Types Eq u", "Rerunable Eq n"],
        );
        check(&["-c", ".ge.c=5"], &["Checkpoint Ge c=5"]);
        check(&["-q", "batch"], &[]);
        assert_eq!(read(&["-q", "batch"]).unwrap().request.destination, "batch");
        assert_eq!(
            read(&["-q", "batch@hn1"]).unwrap().host.as_deref(),
            Some("hn1")
        );
    }

    #[test]
    fn values_that_are_none_are_told_as_torque_tells_them() {
        let said = |args: &[&str]| {
            let failure = read(args).expect_err("it is misuse");
            let first = failure.text.lines().next().unwrap_or_default().to_owned();
            (failure.status, first)
        };
        assert_eq!(said(&["-s", "QX"]), (2, "qselect: illegal -s value".into()));
        assert_eq!(said(&["-h", "nu"]), (2, "qselect: illegal -h value".into()));
        assert_eq!(said(&["-r", "x"]), (2, "qsub: illegal -r value".into()));
        assert_eq!(
            said(&["-c", ".gt.u"]),
            (2, "qselect: illegal -c value".into())
        );
        assert_eq!(
            said(&["-l", "mem"]),
            (2, "qselect: illegal -l value".into())
        );
        assert_eq!(
            said(&["-a", "abc"]),
            (2, "qselect: illegal -a value".into())
        );
        assert_eq!(said(&["-Z"]), (2, "qselect: invalid option -- 'Z'".into()));
        let usage = "usage: qselect                           [-a [op]date_time]";
        assert!(said(&["operand"]).1.starts_with(usage));
        let destination = "qselect: illegally formed destination: @";
        assert_eq!(said(&["-q", "@"]), (2, destination.into()));
    }

    proptest! {
        #[test]
        fn any_command_line_is_understood_or_refused_with_2(
            args in proptest::collection::vec("-[aAcehlNpqrsu-]{1,3}|[ -~]{0,10}|\\.[a-z]{2}\\.\\PC{0,4}", 0..6),
        ) {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            prop_assert!(read(&args).map_or_else(|failure| failure.status == 2, |_| true));
        }
    }
}
