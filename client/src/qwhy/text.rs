//! What `qwhy` prints for people: short sentences, in the order in which they are wanted. Why, what lacks and where, who
//! has it until when, the place in line, the expected start, what to change.

use capstan_proto::wire::job_why::{Amount, ExpectedStart, Holder, Lack, SoonerWith};
use capstan_proto::wire::{JobWhy, WhyReply};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::output::attributes::harmless;

/// Everything about one job.
pub(super) fn explain(out: &mut Vec<u8>, reply: &WhyReply, zone: &TimeZone) {
    let clock = Clock {
        now: reply.now_secs,
        zone,
    };
    for job in &reply.jobs {
        let lines = match (job.state.as_str(), job.started_secs) {
            ("Q" | "H" | "W" | "T", _) => waiting(job, clock),
            (_, Some(started)) => started_job(job, started, clock),
            (_, None) => over(job),
        };
        for line in lines {
            out.extend_from_slice(harmless(&line).as_bytes());
            out.push(b'\n');
        }
    }
}

/// One line for each job.
pub(super) fn list(out: &mut Vec<u8>, reply: &WhyReply, zone: &TimeZone) {
    let clock = Clock {
        now: reply.now_secs,
        zone,
    };
    let mut lines: Vec<String> = reply.jobs.iter().map(|job| in_short(job, clock)).collect();
    if lines.is_empty() {
        lines.push("None of your jobs waits.".to_owned());
    }
    if reply.left_out > 0 {
        lines.push(format!("… and {} more of yours.", reply.left_out));
    }
    for line in lines {
        out.extend_from_slice(harmless(&line).as_bytes());
        out.push(b'\n');
    }
}

/// Times as the reader has them.
#[derive(Clone, Copy)]
struct Clock<'a> {
    now: u64,
    zone: &'a TimeZone,
}

impl Clock<'_> {
    /// "14:30", or with the date when it is another day: "Tue 24 Nov 14:30".
    fn at(self, secs: u64) -> String {
        let zoned = |secs: u64| {
            let secs = i64::try_from(secs).unwrap_or(i64::MAX);
            Timestamp::from_second(secs).map(|at| at.to_zoned(self.zone.clone()))
        };
        let (Ok(then), Ok(now)) = (zoned(secs), zoned(self.now)) else {
            return "never".to_owned();
        };
        let form = match (then.date() == now.date(), then.year() == now.year()) {
            (true, _) => "%H:%M",
            (false, true) => "%a %-d %b %H:%M",
            (false, false) => "%a %-d %b %Y %H:%M",
        };
        then.strftime(form).to_string()
    }

    /// "14:30 (in 2 h 5 min)".
    fn at_and_in(self, secs: u64) -> String {
        let left = secs.saturating_sub(self.now);
        format!("{} (in {})", self.at(secs), span(left))
    }
}

/// "2 d 3 h", "2 h 5 min", "4 min", "30 s": the two largest units.
fn span(secs: u64) -> String {
    let (days, hours, minutes) = (secs / 86_400, secs / 3600 % 24, secs / 60 % 60);
    let both = |large: u64, unit: &str, small: u64, part: &str| match small {
        0 => format!("{large} {unit}"),
        small => format!("{large} {unit} {small} {part}"),
    };
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{secs} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => both(hours, "h", minutes, "min"),
        (days, hours, _) => both(days, "d", hours, "h"),
    }
}

fn waiting(job: &JobWhy, clock: Clock<'_>) -> Vec<String> {
    let (id, name) = (&job.id, &job.name);
    let mut lines = vec![match (job.reason.is_empty(), job.blockers.is_empty()) {
        (false, _) => format!("{id} ({name}) waits: {}.", job.reason),
        (true, true) => format!(
            "{id} ({name}) waits: nothing is in its way. It starts when the scheduler comes to it."
        ),
        (true, false) => format!("{id} ({name}) waits."),
    }];
    let others = job
        .blockers
        .iter()
        .filter(|blocker| blocker.text != job.reason);
    lines.extend(others.map(|blocker| format!("  Also: {}.", blocker.text)));
    let remedies = job.blockers.iter().map(|blocker| &blocker.remedy);
    let remedies = remedies.filter(|remedy| !remedy.is_empty());
    lines.extend(remedies.map(|remedy| format!("  What to do: {remedy}.")));
    if let Some(lack) = &job.lack {
        lack_of(&mut lines, lack, clock);
    }
    if let Some(before) = job.before {
        lines.push(match before {
            0 => format!("  Place: first of {} in line.", job.in_line),
            1 => format!("  Place: 1 job before it, {} in line.", job.in_line),
            many => format!("  Place: {many} jobs before it, {} in line.", job.in_line),
        });
        let points = job.factors.iter().map(|factor| {
            let points = factor.milli_points as f64 / 1000.0;
            format!("{} {points:.1}", factor.name)
        });
        let points: Vec<String> = points.collect();
        if !points.is_empty() {
            lines.push(format!("  Points: {}.", points.join(", ")));
        }
    }
    lines.extend(job.start.as_ref().map(|start| start_of(start, clock)));
    match job.changes.split_first() {
        None => {}
        Some((change, [])) => {
            lines.push(format!("  It would start now with {}:", change.text));
            lines.push(format!("    {}", change.command));
        }
        Some(_) => {
            lines.push("  It would start now with any one of these:".to_owned());
            let changes = job.changes.iter();
            lines.extend(
                changes.map(|change| format!("    {:<24} {}", change.text, change.command)),
            );
        }
    }
    lines.extend(
        job.sooner
            .iter()
            .flat_map(|sooner| sooner_with(sooner, clock)),
    );
    lines
}

fn sooner_with(sooner: &SoonerWith, clock: Clock<'_>) -> Vec<String> {
    let at = clock.at_and_in(sooner.at_secs);
    let change = sooner.change.clone().unwrap_or_default();
    let sure = match sooner.confidence.as_str() {
        "firm" => format!("{at} at the latest"),
        _ => format!("likely about {at}"),
    };
    vec![
        format!("  It would start {sure} with {}:", change.text),
        format!("    {}", change.command),
    ]
}

fn start_of(start: &ExpectedStart, clock: Clock<'_>) -> String {
    let at = clock.at_and_in(start.at_secs);
    let by = clock.at(start.likely_by_secs);
    let late = match start.overdue {
        true => " It waits longer already than it was told when it came.",
        false => "",
    };
    match start.confidence.as_str() {
        "firm" => format!("  Start: {at} at the latest: nodes are reserved for it.{late}"),
        "likely" => format!("  Start: likely about {at}; 80 % likely by {by}.{late}"),
        _ => format!("  Start: at a guess {at}; 80 % likely by {by}.{late}"),
    }
}

fn lack_of(lines: &mut Vec<String>, lack: &Lack, clock: Clock<'_>) {
    let wanted = lack.wanted.unwrap_or_default();
    let nodes = match lack.nodes {
        1 => "a node".to_owned(),
        many => format!("each of {many} nodes ({} ready)", lack.ready),
    };
    lines.push(format!("  It needs {} on {nodes}.", amount(wanted, wanted)));
    for near in &lack.nearest {
        let free = near.free.unwrap_or_default();
        let unclean = match near.unclean {
            0 => String::new(),
            cards => format!(", {cards} not clean yet"),
        };
        lines.push(format!(
            "    {} has {} free{unclean}",
            near.node,
            amount(free, wanted)
        ));
    }
    lines.extend(
        lack.holders
            .iter()
            .map(|holder| held_by(holder, wanted, clock)),
    );
}

fn held_by(holder: &Holder, wanted: Amount, clock: Clock<'_>) -> String {
    let held = amount(holder.held.unwrap_or_default(), wanted);
    let until = match holder.until_secs {
        Some(until) => format!("until {} at the latest", clock.at_and_in(until)),
        None => "for as long as it runs: it has no walltime".to_owned(),
    };
    let job = match holder.job_id.is_empty() {
        true => "another user's job".to_owned(),
        false => format!("{} of {}", holder.job_id, holder.user),
    };
    format!("    {job} holds {held} of {} {until}", holder.node)
}

/// What of it counts to who wants `wanted`: "2 cards, 4 cores".
fn amount(amount: Amount, wanted: Amount) -> String {
    let mut parts = Vec::new();
    if wanted.cards > 0 {
        parts.push(many(amount.cards, "card"));
    }
    if wanted.slots > 1 || wanted.cards == 0 {
        parts.push(many(amount.slots, "core"));
    }
    if wanted.memory_bytes > 0 {
        parts.push(format!("{} mb of memory", amount.memory_bytes >> 20));
    }
    parts.join(", ")
}

fn many(count: u32, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// Of a job that has started what it waited for.
fn started_job(job: &JobWhy, started: u64, clock: Clock<'_>) -> Vec<String> {
    let (id, name) = (&job.id, &job.name);
    let at = clock.at(started);
    let what = match job.state.as_str() {
        "C" => "is over; it started at",
        _ => "does not wait; it started at",
    };
    let mut lines = vec![format!("{id} ({name}) {what} {at}.")];
    let waited = job.waited.iter();
    let waited: Vec<String> = waited
        .map(|wait| format!("{} for {}", span(wait.secs), in_words(&wait.what)))
        .collect();
    if !waited.is_empty() {
        lines.push(format!("  Before that it waited {}.", waited.join(", ")));
    }
    lines
}

fn over(job: &JobWhy) -> Vec<String> {
    let (id, name) = (&job.id, &job.name);
    vec![match job.state.as_str() {
        "C" => format!("{id} ({name}) is over and never ran."),
        _ => format!("{id} ({name}) does not wait."),
    }]
}

/// What a kind of blocker means.
fn in_words(kind: &str) -> &str {
    match kind {
        "hold" => "a hold",
        "dependency" => "another job",
        "time" => "its time",
        "queue" => "its queue",
        "limit" => "a limit",
        "window" => "a reservation to pass",
        "nodes" => "nodes to come back",
        "resources" => "cards, cores or memory",
        "line" => "jobs before it in line",
        other => other,
    }
}

fn in_short(job: &JobWhy, clock: Clock<'_>) -> String {
    let mut line = format!("{} {} {}", job.id, job.state, job.name);
    if let Some(before) = job.before {
        line.push_str(&format!("  place {} of {}", before + 1, job.in_line));
    }
    if let Some(start) = &job.start {
        let at = clock.at(start.at_secs);
        line.push_str(&match start.confidence.as_str() {
            "firm" => format!("  starts by {at}"),
            _ => format!("  80 % likely by {at}"),
        });
    }
    if !job.reason.is_empty() {
        line.push_str(&format!("  {}", job.reason));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_two_units_at_most() {
        for (secs, expected) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (7200, "2 h"),
            (7500, "2 h 5 min"),
            (90_000, "1 d 1 h"),
            (172_800, "2 d"),
        ] {
            assert_eq!(span(secs), expected);
        }
    }

    #[test]
    fn a_time_of_another_day_has_its_date() {
        let clock = Clock {
            now: 1_795_390_200,
            zone: &TimeZone::UTC,
        };
        assert_eq!(clock.at(1_795_391_940), "23:59");
        assert_eq!(clock.at(1_795_392_060), "Mon 23 Nov 00:01");
        assert_eq!(clock.at(1_811_000_000), "Sat 22 May 2027 15:33");
    }
}
