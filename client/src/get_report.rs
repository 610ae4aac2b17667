//! `get_report`: what each user used in a month, in card-hours. As the sites' command of that name, and without rights.

use std::io::Write;

use capstan_proto::wire::{StatUseReply, StatUseRequest, UseRow};

use crate::command::{Call, Failure, exit_status, refusal};
use crate::door::{self, Doors};
use crate::getopt::Opt;
use crate::output::screen::Screen;

/// The options of `get_report`.
pub(crate) const OPTIONS: &[Opt] = &[
    Opt::value(
        'm',
        "YYYYMM",
        "Of this month; the present one when not given",
    ),
    Opt::value('u', "USER", "Of this user only"),
];

const USAGE: &str = "usage: get_report [-m YYYYMM] [-u USER]";
const SECS_OF_HOUR: u64 = 3600;

/// Lists what was used.
///
/// # Errors
/// Misuse, a server that is not there or refuses.
pub(crate) async fn run<W: Write>(call: &Call, screen: &mut Screen<W>) -> Result<u8, Failure> {
    let parsed = call.parse(OPTIONS);
    if parsed.problems().next().is_some() || !parsed.operands.is_empty() {
        return Err(Failure::new(2, USAGE));
    }
    let request = StatUseRequest {
        month: parsed.value('m').unwrap_or_default().to_owned(),
        user: parsed.value('u').unwrap_or_default().to_owned(),
    };
    let mut doors = Doors::new(call, door::patience(None, &call.env));
    match doors.to("").await?.stat_use(request).await {
        Ok(reply) => {
            let text = table(reply.into_inner());
            screen.out().extend_from_slice(text.as_bytes());
            Ok(0)
        }
        Err(status) => {
            let refusal = refusal(&status);
            let text = format!("{}: {}", call.program, refusal.text());
            Err(Failure::new(exit_status(refusal.error), text))
        }
    }
}

/// The most used first; whole hours and one digit.
fn table(reply: StatUseReply) -> String {
    let StatUseReply {
        month,
        mut rows,
        is_cut,
    } = reply;
    rows.sort_by(|one, other| {
        let used = |row: &UseRow| (row.card_secs, row.core_secs);
        used(other)
            .cmp(&used(one))
            .then_with(|| (&one.group, &one.user).cmp(&(&other.group, &other.user)))
    });
    let (year, number) = month.split_at_checked(4).unwrap_or((month.as_str(), ""));
    let run = rows.iter().any(|row| row.running > 0);
    let so_far = if run {
        ", and so far by jobs that run"
    } else {
        ""
    };
    let mut text = format!("Used by jobs that ended in {year}-{number}{so_far}\n");
    if is_cut {
        text.push_str("(only the first part of the month: the accounting log is too long)\n");
    }
    if rows.is_empty() {
        text.push_str("No job has ended.\n");
        return text;
    }
    let head = [
        "Group",
        "User",
        "Jobs",
        "Failed",
        "Running",
        "Wall-hours",
        "Core-hours",
        "Card-hours",
    ];
    let sum = rows.iter().fold(UseRow::default(), |sum, row| UseRow {
        group: "all".to_owned(),
        jobs: sum.jobs + row.jobs,
        failed: sum.failed + row.failed,
        wall_secs: sum.wall_secs + row.wall_secs,
        core_secs: sum.core_secs + row.core_secs,
        card_secs: sum.card_secs + row.card_secs,
        running: sum.running + row.running,
        ..sum
    });
    text.push_str(&line(head.map(str::to_owned)));
    let many = rows.len() > 1;
    for row in rows.into_iter().chain(many.then_some(sum)) {
        text.push_str(&line([
            row.group,
            row.user,
            row.jobs.to_string(),
            row.failed.to_string(),
            row.running.to_string(),
            hours(row.wall_secs),
            hours(row.core_secs),
            hours(row.card_secs),
        ]));
    }
    text
}

fn line([group, user, jobs, failed, running, wall, core, card]: [String; 8]) -> String {
    format!(
        "{group:<14} {user:<14} {jobs:>8} {failed:>8} {running:>8} {wall:>12} {core:>12} {card:>12}\n"
    )
}

fn hours(secs: u64) -> String {
    // Rounded down: what was not used is not told.
    let tenths = secs * 10 / SECS_OF_HOUR;
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_used_the_most_stands_first_and_the_sum_last() {
        let row = |user: &str, card_secs| UseRow {
            group: "g".into(),
            user: user.into(),
            jobs: 2,
            failed: 1,
            wall_secs: 1800,
            core_secs: 3600,
            card_secs,
            running: 0,
        };
        let reply = |rows| StatUseReply {
            month: "202611".into(),
            rows,
            is_cut: false,
        };
        let text = table(reply(vec![row("alice", 3600), row("bob", 36_359)]));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "Used by jobs that ended in 2026-11");
        assert!(
            lines[2].contains("bob") && lines[2].ends_with(" 10.0"),
            "{text}"
        );
        assert!(
            lines[3].contains("alice") && lines[3].ends_with(" 1.0"),
            "{text}"
        );
        assert!(
            lines[4].starts_with("all") && lines[4].ends_with(" 11.0"),
            "{text}"
        );
        assert_eq!(lines.len(), 5);
        assert!(table(reply(Vec::new())).ends_with("No job has ended.\n"));
        assert_eq!(table(reply(vec![row("a", 1)])).lines().count(), 3);
        let mut runs = row("a", 7200);
        runs.running = 3;
        let text = table(reply(vec![runs]));
        assert!(
            text.starts_with("Used by jobs that ended in 2026-11, and so far by jobs that run\n")
        );
        let words: Vec<&str> = text.lines().last().unwrap().split_whitespace().collect();
        assert_eq!(words[2..5], ["2", "1", "3"], "{text}");
    }
}
