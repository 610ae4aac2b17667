//! What is printed of an examination: sentences for people, the attributes that would be submitted, or all of it as JSON.

use std::collections::BTreeMap;

use capstan_proto::wire::examine_reply::Outlook;
use capstan_proto::wire::start::Part;
use capstan_proto::wire::{ExamineReply, Start, Wait};
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use crate::command::Failure;
use crate::output::attributes::{Style, block, date};
use crate::output::json;

use super::finding::{Finding, Severity, Spot, Where, column, render, tame};
use super::options::words_of;
use super::{Asked, Kind};

/// What an examination found.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// What the script is called.
    pub(super) name: String,
    /// Its lines.
    pub(super) lines: Vec<String>,
    /// The command line.
    pub(super) command_line: String,
    pub(super) findings: Vec<Finding>,
    /// Why qsub would not submit it, as it would say it.
    pub(super) failure: Option<Failure>,
    /// What the server says of it.
    pub(super) reply: Option<ExamineReply>,
}

/// What the command line is called.
const COMMAND_LINE: &str = "command line";

impl Report {
    pub(super) fn add(&mut self, findings: impl IntoIterator<Item = Finding>) {
        self.findings.extend(findings);
    }

    /// The job would be refused like this; of several refusals the first counts, as in qsub.
    pub(super) fn refuse(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
    }

    pub(super) fn has_errors(&self) -> bool {
        let is_error = |one: &Finding| one.severity == Severity::Error;
        self.findings.iter().any(is_error)
    }

    /// How qsub would end.
    pub(super) fn status(&self) -> u8 {
        match &self.failure {
            Some(failure) => failure.status,
            // What qsub sends and this server takes all the same: nothing of that kind is known.
            None => u8::from(self.reply.is_none()),
        }
    }

    /// Puts findings in the order of the text, the script before the command line, those without a place last.
    fn sort(&mut self) {
        let place = |one: &Finding| one.spot.map_or((1, None), |(spot, _)| (0, Some(spot)));
        self.findings.sort_by_key(place);
        self.findings.dedup();
    }

    /// All of it.
    pub(super) fn print(mut self, out: &mut Vec<u8>, asked: Asked) -> u8 {
        self.sort();
        let status = self.status();
        match (asked.is_json, asked.kind) {
            (true, _) => self.json(out),
            (false, Kind::Explain) => {
                let answer = self.answer();
                let findings = self.told();
                let gap = if findings.is_empty() { "" } else { "\n" };
                out.extend_from_slice(format!("{answer}{gap}{findings}").as_bytes());
            }
            (false, Kind::DryRun) => {
                let findings = self.told();
                let gap = if findings.is_empty() { "" } else { "\n" };
                out.extend_from_slice(format!("{findings}{gap}").as_bytes());
                self.attributes(out);
                out.extend_from_slice(self.answer().as_bytes());
            }
        }
        status
    }

    fn text_of(&self, spot: &Spot) -> (&str, &[String]) {
        match spot.within {
            Where::Script => (&self.name, &self.lines),
            Where::CommandLine => (COMMAND_LINE, std::slice::from_ref(&self.command_line)),
        }
    }

    /// The findings, with their lines.
    fn told(&self) -> String {
        let mut out = String::new();
        for finding in &self.findings {
            let (name, lines) = match &finding.spot {
                Some((spot, _)) => self.text_of(spot),
                None => (self.name.as_str(), &[][..]),
            };
            render(&mut out, finding, &tame(name), lines);
        }
        out
    }

    fn attributes(&self, out: &mut Vec<u8>) {
        let job = self.reply.as_ref().and_then(|reply| reply.job.as_ref());
        if let Some(job) = job {
            let style = Style {
                on_one_line: false,
                zone: Some(TimeZone::system()),
            };
            let head = format!("Job Id: {} (nothing was submitted)", tame(&job.id));
            block(out, &style, &head, &job.attributes);
        }
    }

    /// Whether it would be taken, and what would become of it.
    fn answer(&self) -> String {
        if let Some(failure) = &self.failure {
            let errors = self.findings.iter();
            let errors = errors.filter(|one| one.severity == Severity::Error).count();
            let why = match errors {
                0 => format!(": {}", tame(&words_of(failure))),
                1 => ": see the error".to_owned(),
                errors => format!(": see the {errors} errors"),
            };
            let status = failure.status;
            return format!("It would be refused{why} (exit status {status}).\n");
        }
        let Some(reply) = &self.reply else {
            return String::new();
        };
        let mut text = match &reply.outlook {
            Some(Outlook::Starts(start)) => starts(start),
            Some(Outlook::Waits(wait)) => waits(wait),
            None => "It would be taken.\n".to_owned(),
        };
        for default in &reply.defaults {
            let (name, value, of) = (&default.name, &default.value, &default.of);
            let line = format!("It asks for no {name} and gets {value}, the default of {of}.");
            text.push_str(&tame(&line));
            text.push('\n');
        }
        text
    }

    fn json(&self, out: &mut Vec<u8>) {
        let findings: Vec<Value> = self.findings.iter().map(|one| self.finding(one)).collect();
        let job = self.reply.as_ref().and_then(|reply| reply.job.as_ref());
        let job = job.map(|job| {
            let mut text = Vec::new();
            json::job(&mut text, job);
            serde_json::from_slice::<Value>(&text).unwrap_or(Value::Null)
        });
        let refusal = self.failure.as_ref().map(words_of);
        let outlook = self.reply.as_ref().and_then(|reply| reply.outlook.as_ref());
        let defaults = self.reply.iter().flat_map(|reply| &reply.defaults);
        let defaults = defaults
            .map(|default| json!({"name": default.name, "value": default.value, "of": default.of}));
        let whole = json!({
            "accepted": self.failure.is_none() && self.reply.is_some(),
            "exit_status": self.status(),
            "refusal": refusal,
            "findings": findings,
            "job": job,
            "defaults": defaults.collect::<Vec<Value>>(),
            "outlook": outlook.map(outlook_json),
        });
        out.extend_from_slice(whole.to_string().as_bytes());
        out.push(b'\n');
    }

    fn finding(&self, finding: &Finding) -> Value {
        let place = finding.spot.as_ref().map(|(spot, bytes)| {
            let (name, lines) = self.text_of(spot);
            let line = lines.get(spot.line).map_or("", String::as_str);
            json!({
                "in": name,
                "line": spot.line + 1,
                "column": column(line, spot.at),
                "bytes": bytes,
                "text": line,
            })
        });
        json!({
            "severity": finding.severity.word(),
            "message": finding.message,
            "advice": finding.advice,
            "place": place,
        })
    }
}

fn outlook_json(outlook: &Outlook) -> Value {
    match outlook {
        Outlook::Starts(Start {
            parts,
            jobs,
            jobs_in_all,
        }) => {
            let parts = parts.iter().map(|part| {
                let Part {
                    job_id,
                    node,
                    slots,
                    cards,
                    memory_bytes,
                } = part;
                json!({"job": job_id, "node": node, "slots": slots, "cards": cards, "memory_bytes": memory_bytes})
            });
            json!({"starts_now": true, "jobs": jobs, "jobs_in_all": jobs_in_all, "parts": parts.collect::<Vec<Value>>()})
        }
        Outlook::Waits(Wait {
            reason,
            place_in_line,
            expected_start_secs,
            confidence,
            changes,
            sooner,
        }) => json!({
            "starts_now": false,
            "reason": reason,
            "place_in_line": place_in_line,
            "expected_start_secs": expected_start_secs,
            "confidence": confidence,
            "changes": changes,
            "sooner": sooner.iter().map(|sooner| json!({
                "change": sooner.change,
                "start_secs": sooner.at_secs,
                "confidence": sooner.confidence,
            })).collect::<Vec<Value>>(),
        }),
    }
}

/// `It would start now on node03 with 2 cards.`
fn starts(start: &Start) -> String {
    let first = start.parts.first().map(|part| part.job_id.as_str());
    let own = start
        .parts
        .iter()
        .filter(|part| Some(part.job_id.as_str()) == first);
    let own: Vec<&Part> = own.collect();
    let place = tame(&places(&own));
    match (start.jobs, start.jobs_in_all) {
        (_, 0 | 1) => format!("It would start now on {place}.\n"),
        (jobs, all) if jobs == all => {
            format!("All {all} members would start now, the first on {place}.\n")
        }
        (jobs, all) => {
            format!("{jobs} of {all} members would start now, the first on {place}.\n")
        }
    }
}

/// Nodes that give alike are named together: `node01 and node02 with 4 cards each`.
fn places(parts: &[&Part]) -> String {
    let mut alike: BTreeMap<(usize, usize), Vec<&str>> = BTreeMap::new();
    for part in parts {
        let key = (part.cards.len(), part.slots.len());
        alike.entry(key).or_default().push(&part.node);
    }
    let groups = alike.iter().rev().map(|((cards, slots), nodes)| {
        let what = match (cards, slots) {
            (0, slots) => many(*slots, "slot"),
            (cards, _) => many(*cards, "card"),
        };
        match nodes.as_slice() {
            [node] => format!("{node} with {what}"),
            nodes => format!("{} with {what} each", listed(nodes)),
        }
    });
    groups.collect::<Vec<_>>().join(", ")
}

/// Nodes that are named one by one.
const NODES_NAMED: usize = 8;

fn listed(nodes: &[&str]) -> String {
    match nodes {
        [before @ .., last] if nodes.len() <= NODES_NAMED => {
            format!("{} and {last}", before.join(", "))
        }
        nodes => {
            let named = &nodes[..NODES_NAMED.min(nodes.len())];
            format!(
                "{} and {} more",
                named.join(", "),
                nodes.len() - named.len()
            )
        }
    }
}

fn waits(wait: &Wait) -> String {
    let mut text = match wait.reason.as_str() {
        "" => "It would wait until the scheduler comes to it.\n".to_owned(),
        reason => format!("It would wait: {}\n", sentence(&tame(reason))),
    };
    if let Some(place) = wait.place_in_line {
        text.push_str(&format!("It would be number {place} in line.\n"));
    }
    let start = wait
        .expected_start_secs
        .and_then(|secs| date(&secs.to_string(), &TimeZone::system()));
    if let Some(date) = start {
        let sure = match wait.confidence.as_str() {
            "" => String::new(),
            word => format!(" ({})", tame(word)),
        };
        text.push_str(&format!("Expected start: {date}{sure}.\n"));
    }
    for change in &wait.changes {
        text.push_str(&format!("It would start now with {}\n", tame(change)));
    }
    for sooner in &wait.sooner {
        let (change, sure) = (tame(&sooner.change), tame(&sooner.confidence));
        if let Some(at) = date(&sooner.at_secs.to_string(), &TimeZone::system()) {
            text.push_str(&format!("It would start {at} ({sure}) with {change}\n"));
        }
    }
    text
}

/// With one full stop.
fn sentence(text: &str) -> String {
    format!("{}.", text.trim_end_matches('.'))
}

fn many(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(job_id: &str, node: &str, cards: u32, slots: u32) -> Part {
        Part {
            job_id: job_id.to_owned(),
            node: node.to_owned(),
            slots: (0..slots).collect(),
            cards: (0..cards).collect(),
            memory_bytes: 0,
        }
    }

    #[test]
    fn a_start_is_told_in_one_sentence() {
        let check = |parts: &[Part], jobs: (u64, u64), expected: &str| {
            let start = Start {
                parts: parts.to_vec(),
                jobs: jobs.0,
                jobs_in_all: jobs.1,
            };
            assert_eq!(starts(&start), format!("{expected}\n"));
        };
        check(
            &[part("1", "node03", 2, 1)],
            (1, 1),
            "It would start now on node03 with 2 cards.",
        );
        check(
            &[part("1", "n1", 0, 4)],
            (1, 1),
            "It would start now on n1 with 4 slots.",
        );
        let both = [
            part("1", "n1", 4, 1),
            part("1", "n2", 4, 1),
            part("1", "n3", 1, 1),
        ];
        check(
            &both,
            (1, 1),
            "It would start now on n1 and n2 with 4 cards each, n3 with 1 card.",
        );
        let members = [part("1[0]", "n1", 1, 1), part("1[1]", "n1", 1, 1)];
        check(
            &members,
            (2, 9),
            "2 of 9 members would start now, the first on n1 with 1 card.",
        );
    }

    #[test]
    fn a_wait_is_told_with_its_reason_and_what_would_help() {
        let wait = Wait {
            reason: "Not Running: Queue not started. (queue x is stopped)".to_owned(),
            place_in_line: Some(3),
            changes: vec!["-l nodes=1:gpus=1".to_owned()],
            ..Wait::default()
        };
        let expected = "It would wait: Not Running: Queue not started. (queue x is stopped).\n\
            It would be number 3 in line.\nIt would start now with -l nodes=1:gpus=1\n";
        assert_eq!(waits(&wait), expected);
    }
}
