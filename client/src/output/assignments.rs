//! Jobs with their cards, one line each: what users of the clusters look at all day. From the same attributes that `qstat -f`
//! prints.

use capstan_proto::wire::{Attribute, JobAttributes};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::pad;

/// What stands in a column without a value.
const NONE: &str = "--";

/// The line above the first job.
pub(crate) const HEADER: &str = "\
Job ID             User            Name             Request                Queued      S Run time  Cards
";

/// Appends the line of one job.
pub(crate) fn line(out: &mut Vec<u8>, job: &JobAttributes, zone: &TimeZone) {
    let value = |name: &str| value(job, name, "");
    let owner = value("Job_Owner");
    let user = match value("euser") {
        "" => owner.split('@').next().unwrap_or_default(),
        user => user,
    };
    let columns = [
        (job.id.as_str(), 18),
        (user, 15),
        (value("Job_Name"), 16),
        (request(job), 22),
        (&queued(value("qtime"), zone), 11),
        (value("job_state"), 1),
        (self::value(job, "resources_used", "walltime"), 9),
    ];
    for (text, width) in columns {
        let text = if text.is_empty() { NONE } else { text };
        // A long name loses its end; an id does not, for it is typed again.
        let longest = if width == 18 { usize::MAX } else { width };
        pad::left(out, text, width, longest);
        out.push(b' ');
    }
    let cards = cards(value("exec_gpus"), value("exec_host"));
    out.extend_from_slice(cards.as_bytes());
    while out.last() == Some(&b' ') {
        out.pop();
    }
    out.push(b'\n');
}

/// As it was typed, as far as it names nodes.
fn request(job: &JobAttributes) -> &str {
    let of = |name: &str| Some(value(job, "Resource_List", name)).filter(|text| !text.is_empty());
    let names = ["nodes", "select", "procs", "ncpus"];
    names.into_iter().find_map(of).unwrap_or_default()
}

/// `11-23 05:14`.
fn queued(epoch: &str, zone: &TimeZone) -> String {
    let at = epoch
        .parse()
        .ok()
        .and_then(|secs| Timestamp::from_second(secs).ok());
    at.map_or_else(String::new, |at| {
        let at = at.to_zoned(zone.clone());
        at.strftime("%m-%d %H:%M").to_string()
    })
}

/// `gpu02-gpu/3/1 gpu01-gpu/0`; the nodes alone of a job without cards.
fn cards(exec_gpus: &str, exec_host: &str) -> String {
    let is_of_cards = !exec_gpus.is_empty();
    let parts = if is_of_cards { exec_gpus } else { exec_host };
    let mut text = String::new();
    let mut before = "";
    for part in parts.split('+').filter(|part| !part.is_empty()) {
        let (host, index) = part.split_once('/').unwrap_or((part, ""));
        if host != before {
            let blank = if text.is_empty() { "" } else { " " };
            text.extend([blank, host]);
            before = host;
        }
        if is_of_cards {
            text.extend(["/", index]);
        }
    }
    text
}

fn value<'a>(job: &'a JobAttributes, name: &str, resource: &str) -> &'a str {
    let is_it = |known: &&Attribute| known.name == name && known.resource == resource;
    let found = job.attributes.iter().find(is_it);
    found.map_or("", |known| &known.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(attributes: &[(&str, &str, &str)]) -> String {
        let attributes = attributes.iter().map(|(name, resource, value)| Attribute {
            name: (*name).into(),
            resource: (*resource).into(),
            value: (*value).into(),
        });
        let job = JobAttributes {
            id: "3.hn1".into(),
            attributes: attributes.collect(),
            ..JobAttributes::default()
        };
        let mut out = Vec::new();
        line(&mut out, &job, &TimeZone::UTC);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_job_is_one_line_with_its_cards_by_node() {
        let text = shown(&[
            ("Job_Name", "", "training-of-a-large-model"),
            ("Job_Owner", "", "alice@hn1"),
            ("euser", "", "alice"),
            ("job_state", "", "R"),
            ("qtime", "", "1795319750"),
            ("exec_host", "", "gpu02/0+gpu01/0"),
            ("exec_gpus", "", "gpu02-gpu/3+gpu02-gpu/1+gpu01-gpu/0"),
            ("Resource_List", "nodes", "2:gpus=2:S"),
            ("Resource_List", "walltime", "01:00:00"),
            ("resources_used", "walltime", "00:10:00"),
        ]);
        let expected = "3.hn1              alice           training-of-a-la 2:gpus=2:S             11-22 03:55 R \
                        00:10:00  gpu02-gpu/3/1 gpu01-gpu/0\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_job_that_waits_has_no_cards_and_one_without_cards_its_nodes() {
        let text = shown(&[
            ("Job_Owner", "", "bob@hn1"),
            ("job_state", "", "Q"),
            ("Resource_List", "ncpus", "4"),
        ]);
        let words: Vec<&str> = text.split_whitespace().collect();
        assert_eq!(words, ["3.hn1", "bob", "--", "4", "--", "Q", "--"]);
        assert!(shown(&[("exec_host", "", "n1/0-3+n2/0")]).ends_with(" n1 n2\n"));
    }
}
