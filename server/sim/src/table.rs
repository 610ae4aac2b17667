//! The figures as people read them.

use std::fmt::Write;

use crate::{Comparison, Party, Shift, Summary};

/// Users and groups that are listed; all of them are in the JSON.
const PARTIES_MAX: usize = 20;

/// Widest name that is not cut.
const NAME_COLUMNS: usize = 20;

/// The figures of one simulation.
#[must_use]
pub fn summary_text(summary: &Summary) -> String {
    let mut text = String::new();
    put(
        &mut text,
        format_args!(
            "{} on {} nodes, {} cards; policy {}\n\n",
            printable(&summary.trace),
            summary.nodes,
            summary.cards,
            printable(&summary.policy)
        ),
    );
    let rows = [
        ("jobs", summary.jobs.to_string()),
        ("wait, mean", span(summary.mean_wait_s)),
        ("wait, median", span(summary.median_wait_s)),
        ("wait, 95 of 100", span(summary.p95_wait_s)),
        ("wait, 99 of 100", span(summary.p99_wait_s)),
        ("wait, longest", span(summary.max_wait_s)),
        (
            "bounded slowdown",
            format!("{:.2}", summary.bounded_slowdown),
        ),
        ("utilisation", percent(summary.utilisation)),
        ("first submission to last end", span(summary.makespan_s)),
        (
            "wait of large jobs, mean",
            format!(
                "{} ({} jobs of {} cards or more)",
                span(summary.large_job_wait_s),
                summary.large_jobs,
                summary.large_from_cards
            ),
        ),
        (
            "head fits by cards, not by node",
            percent(summary.head_blocked_by_nodes),
        ),
        (
            "called 80 % likely by a time",
            format!(
                "{} jobs, {} started by it; told {:.2} of the wait in the middle",
                summary.called_likely,
                percent(summary.started_in_time),
                summary.told_over_wait
            ),
        ),
        (
            "plans",
            format!(
                "{}, {:.3} ms each, {:.1} ms the longest",
                summary.plans, summary.plan_mean_ms, summary.plan_max_ms
            ),
        ),
        (
            "events",
            format!("{}, {:.1} us each", summary.events, summary.event_mean_us),
        ),
        ("processor time", format!("{:.2} s", summary.cpu_s)),
    ];
    for (name, value) in rows {
        put(&mut text, format_args!("  {name:<32} {value}\n"));
    }
    left_out(&mut text, summary);
    parties(&mut text, "user", &summary.users);
    parties(&mut text, "group", &summary.groups);
    text
}

/// What is not in the figures.
fn left_out(text: &mut String, summary: &Summary) {
    let rows = [
        ("left out: never ran", summary.left_out as u64),
        (
            "left out: larger than the cluster",
            summary.too_large as u64,
        ),
        ("refused by the server", summary.refused as u64),
        ("never started", summary.unstarted as u64),
        ("attempts put back", summary.requeues),
    ];
    for (name, value) in rows.iter().filter(|(_, value)| *value > 0) {
        put(text, format_args!("  {name:<32} {value}\n"));
    }
}

fn parties(text: &mut String, kind: &str, parties: &[Party]) {
    // One of a kind is all of them, which the figures above are about.
    if parties.len() < 2 {
        return;
    }
    put(
        text,
        format_args!(
            "\n{kind:<NAME_COLUMNS$} {:>8} {:>12} {:>12} {:>12} {:>10} {:>12}\n",
            "jobs", "wait, mean", "95 of 100", "longest", "slowdown", "card-hours"
        ),
    );
    for party in parties.iter().take(PARTIES_MAX) {
        put(
            text,
            format_args!(
                "{:<NAME_COLUMNS$} {:>8} {:>12} {:>12} {:>12} {:>10.2} {:>12.0}\n",
                name(&party.name),
                party.jobs,
                span(party.mean_wait_s),
                span(party.p95_wait_s),
                span(party.max_wait_s),
                party.bounded_slowdown,
                party.card_hours
            ),
        );
    }
    if let Some(more) = parties
        .len()
        .checked_sub(PARTIES_MAX)
        .filter(|more| *more > 0)
    {
        put(text, format_args!("and {more} more (--json lists all)\n"));
    }
}

/// Who wins and who loses.
#[must_use]
pub fn comparison_text(before: &Summary, after: &Summary, changes: &Comparison) -> String {
    let mut text = String::new();
    put(
        &mut text,
        format_args!(
            "{} on {} nodes, {} cards\nbefore: policy {}\nafter:  policy {}\n\n{:<32} {:>14} {:>14} {:>9}\n",
            printable(&before.trace),
            before.nodes,
            before.cards,
            printable(&before.policy),
            printable(&after.policy),
            "",
            "before",
            "after",
            "ratio"
        ),
    );
    let figures = |of: &Summary| {
        [
            ("wait, mean", of.mean_wait_s, true),
            ("wait, median", of.median_wait_s, true),
            ("wait, 95 of 100", of.p95_wait_s, true),
            ("wait, 99 of 100", of.p99_wait_s, true),
            ("wait, longest", of.max_wait_s, true),
            ("wait of large jobs, mean", of.large_job_wait_s, true),
            ("first submission to last end", of.makespan_s, true),
            ("bounded slowdown", of.bounded_slowdown, false),
            ("utilisation", of.utilisation, false),
        ]
    };
    for ((name, before, is_span), (_, after, _)) in figures(before).into_iter().zip(figures(after))
    {
        let shown = |value: f64| {
            if is_span {
                span(value)
            } else {
                format!("{value:.3}")
            }
        };
        let ratio = if before > 0.0 {
            format!("{:.2}", after / before)
        } else {
            "-".to_owned()
        };
        put(
            &mut text,
            format_args!(
                "{name:<32} {:>14} {:>14} {ratio:>9}\n",
                shown(before),
                shown(after)
            ),
        );
    }
    let Comparison {
        all,
        users,
        sizes,
        lengths,
    } = changes;
    shifts(&mut text, "", std::slice::from_ref(all));
    shifts(&mut text, "by size", sizes);
    shifts(&mut text, "by run time", lengths);
    shifts(&mut text, "by user", users);
    text
}

fn shifts(text: &mut String, title: &str, shifts: &[Shift]) {
    put(
        text,
        format_args!(
            "\n{title:<NAME_COLUMNS$} {:>8} {:>8} {:>8} {:>12} {:>12} {:>13}\n",
            "jobs", "sooner", "later", "wait before", "after", "change"
        ),
    );
    for shift in shifts.iter().take(PARTIES_MAX) {
        let sign = if shift.change_s < 0.0 { '-' } else { '+' };
        put(
            text,
            format_args!(
                "{:<NAME_COLUMNS$} {:>8} {:>8} {:>8} {:>12} {:>12} {:>13}\n",
                name(&shift.name),
                shift.jobs,
                shift.winners,
                shift.losers,
                span(shift.before_s),
                span(shift.after_s),
                format!("{sign}{}", span(shift.change_s.abs()))
            ),
        );
    }
    if let Some(more) = shifts
        .len()
        .checked_sub(PARTIES_MAX)
        .filter(|more| *more > 0)
    {
        put(text, format_args!("and {more} more (--json lists all)\n"));
    }
}

/// `1d 02:03:04`.
fn span(secs: f64) -> String {
    let secs = secs.round().max(0.0) as u64;
    let (days, hours, minutes, secs) = (secs / 86_400, secs / 3600 % 24, secs / 60 % 60, secs % 60);
    match days {
        0 => format!("{hours:02}:{minutes:02}:{secs:02}"),
        days => format!("{days}d {hours:02}:{minutes:02}:{secs:02}"),
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// Names come from files of others: nothing of them is an order to the terminal.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

fn name(text: &str) -> String {
    let text = printable(text);
    match text.chars().count() > NAME_COLUMNS {
        true => text.chars().take(NAME_COLUMNS - 1).chain(['~']).collect(),
        false => text,
    }
}

fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what).expect("a String takes everything");
}
