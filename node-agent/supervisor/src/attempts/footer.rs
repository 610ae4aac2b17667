//! What became of a job, as the last lines of its output: when and where it ran, with which cards, how busy they were, how
//! it ended and why. Written by the agent when all of the attempt is gone, with the rights of its user.

use std::fmt::Write;

use capstan_proto::wire::{
    AttemptEnded, Card, LaunchSpec, Measures, Series, Usage, attempt_ended::Outcome,
};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::figures::{NODES_MAX, Sister};

/// Cards that are named; the rest is counted.
const CARDS_MAX: usize = 8;

/// What the footer is made of beside the order and the end.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    pub(super) node: String,
    /// By the node's clock; 0 when the script never ran.
    pub(super) started_ms: u64,
    /// Images of its containers with their digests, as far as known.
    pub(super) images: Vec<String>,
    /// The attempt's other nodes.
    pub(super) sisters: Vec<Sister>,
}

/// The first line: it names the attempt, so that a footer is known again and not written twice.
pub(super) fn head(spec: &LaunchSpec) -> String {
    format!("---- job {} attempt {} ----", spec.job_id, spec.attempt)
}

/// The lines, with a line feed behind each; `None` for an attempt whose script did not run.
pub(super) fn text(spec: &LaunchSpec, ended: &AttemptEnded, facts: &Facts) -> Option<String> {
    let Some(Outcome::ExitStatus(status)) = ended.outcome else {
        return None;
    };
    let mut text = format!("{}\n", head(spec));
    let usage = ended.usage.unwrap_or_default();
    let span = clock(usage.walltime_secs);
    let over = local(ended.at_ms);
    let time = match facts.started_ms {
        0 => format!("ended {over}; the script did not run"),
        started => format!("{} to {over}, {span}", local(started)),
    };
    line(&mut text, "time", &time);
    has(&mut text, &facts.node, spec.cores, &spec.cards);
    for image in &facts.images {
        line(&mut text, "image", &plain(image));
    }
    used(&mut text, &usage, !spec.cards.is_empty());
    for sister in &facts.sisters {
        on_sister(&mut text, sister);
    }
    if facts.sisters.len() == NODES_MAX {
        line(&mut text, "node", "and those behind it");
    }
    let exit = format!("{status}: {}", cause(status, &ended.cause));
    line(&mut text, "exit", &exit);
    Some(text)
}

fn line(text: &mut String, name: &str, value: &str) {
    // Writing to a string cannot fail.
    let _done = writeln!(text, "{name:<8} {value}");
}

/// A node and what the job had there.
fn has(text: &mut String, node: &str, cores: u32, cards: &[Card]) {
    line(text, "node", &format!("{}, {cores} slots", plain(node)));
    for card in cards.iter().take(CARDS_MAX) {
        let Card {
            index, model, uuid, ..
        } = card;
        let card = format!("{index} {} {}", plain(model), plain(uuid));
        line(text, "card", &card);
    }
    let more = cards.len().saturating_sub(CARDS_MAX);
    if more > 0 {
        line(text, "card", &format!("and {more} more"));
    }
}

/// What it used there.
fn used(text: &mut String, usage: &Usage, has_cards: bool) {
    line(text, "memory", &format!("peak {}", size(usage.mem_kb)));
    let cpu = cpu(usage.cput_secs, usage.measures.as_ref());
    line(text, "cpu", &cpu);
    if let Some(measures) = usage.measures.filter(|_| has_cards) {
        line(text, "gpu", &gpu(&measures));
    }
}

/// A node where the script did not run.
fn on_sister(text: &mut String, sister: &Sister) {
    let Some(figures) = &sister.figures else {
        let unknown = format!("{}: what was used there is not known", plain(&sister.node));
        return line(text, "node", &unknown);
    };
    has(text, &sister.node, figures.cores, &figures.cards);
    match &figures.usage {
        Some(usage) => used(text, usage, !figures.cards.is_empty()),
        None => line(text, "use", "no program of the job was seen there"),
    }
}

fn cpu(cput_secs: u64, measures: Option<&Measures>) -> String {
    let used = clock(cput_secs);
    match measures.and_then(|measures| measures.cpu_percent) {
        Some(Series { mean, peak, .. }) => {
            format!("{used} of processor time; mean {mean} %, peak {peak} % of a core")
        }
        None => format!("{used} of processor time"),
    }
}

fn gpu(measures: &Measures) -> String {
    let memory = measures.card_memory_kb.unwrap_or_default();
    let Some(load) = measures.card_percent else {
        let peak = size(memory.peak);
        return format!("memory peak {peak}; how busy parts of a card are is not told");
    };
    let power = measures.power_milliwatts.unwrap_or_default();
    format!(
        "mean {} %, peak {} % busy; memory peak {}; mean {} W",
        load.mean,
        load.peak,
        size(memory.peak),
        power.mean / 1000
    )
}

/// The agent's own word, else what the number says by itself.
fn cause(status: i32, said: &str) -> String {
    if !said.is_empty() {
        return plain(said);
    }
    match status {
        0 => "ended well".to_owned(),
        -10 => "out of memory".to_owned(),
        -11 => "ran longer than its walltime".to_owned(),
        -12 => "used more processor time than it asked for".to_owned(),
        271 => "deleted or stopped (signal 15)".to_owned(),
        129..=192 => format!(
            "a program of the script was ended by signal {}",
            status - 128
        ),
        status if status > 256 => format!("ended by signal {}", status - 256),
        _ => "the script ended so by itself".to_owned(),
    }
}

fn local(at_ms: u64) -> String {
    let at = i64::try_from(at_ms)
        .ok()
        .and_then(|at| Timestamp::from_millisecond(at).ok());
    let shown = |at: Timestamp| {
        let at = at.to_zoned(TimeZone::system());
        at.strftime("%Y-%m-%d %H:%M:%S").to_string()
    };
    at.map_or_else(|| "?".to_owned(), shown)
}

fn clock(secs: u64) -> String {
    format!("{:02}:{:02}:{:02}", secs / 3600, secs / 60 % 60, secs % 60)
}

/// In the largest unit of which there is one, with one place behind the point.
fn size(kb: u64) -> String {
    let (unit, name) = match kb {
        0..1024 => return format!("{kb} KiB"),
        1024..1_048_576 => (1024, "MiB"),
        _ => (1_048_576, "GiB"),
    };
    format!("{}.{} {name}", kb / unit, kb % unit * 10 / unit)
}

fn plain(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use capstan_proto::wire::NodeFigures;

    use super::*;

    fn spec(cards: usize) -> LaunchSpec {
        let card = |index: usize| Card {
            uuid: format!("GPU-{index}"),
            index: index as u32,
            model: "A100\n".to_owned(),
            ..Card::default()
        };
        LaunchSpec {
            attempt: 7,
            job_id: "3.hn1".to_owned(),
            cores: 4,
            cards: (0..cards).map(card).collect(),
            ..LaunchSpec::default()
        }
    }

    fn ended(outcome: Outcome, measures: Option<Measures>) -> AttemptEnded {
        AttemptEnded {
            attempt: 7,
            at_ms: 62_000,
            usage: Some(Usage {
                cput_secs: 3700,
                mem_kb: 1_600_000,
                vmem_kb: 0,
                walltime_secs: 61,
                measures,
            }),
            outcome: Some(outcome),
            ..AttemptEnded::default()
        }
    }

    fn lines(spec: &LaunchSpec, ended: &AttemptEnded) -> Vec<String> {
        let facts = Facts {
            node: "gpu01".to_owned(),
            started_ms: 1000,
            images: vec!["python:3 sha256:ab".to_owned()],
            sisters: Vec::new(),
        };
        let text = text(spec, ended, &facts).unwrap();
        assert!(text.ends_with('\n'));
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_job_with_cards_is_told_as_a_whole() {
        let series = |mean, peak| {
            Some(Series {
                mean,
                peak,
                last: 0,
            })
        };
        let measures = Measures {
            samples: 9,
            cpu_percent: series(150, 400),
            card_percent: series(87, 100),
            card_memory_kb: series(0, 39_845_888),
            power_milliwatts: series(312_900, 0),
            ..Measures::default()
        };
        let lines = lines(&spec(2), &ended(Outcome::ExitStatus(0), Some(measures)));
        assert_eq!(lines[0], "---- job 3.hn1 attempt 7 ----");
        assert!(
            lines[1].starts_with("time     19") && lines[1].ends_with(", 00:01:01"),
            "{lines:?}"
        );
        let expected = [
            "node     gpu01, 4 slots",
            "card     0 A100 GPU-0",
            "card     1 A100 GPU-1",
            "image    python:3 sha256:ab",
            "memory   peak 1.5 GiB",
            "cpu      01:01:40 of processor time; mean 150 %, peak 400 % of a core",
            "gpu      mean 87 %, peak 100 % busy; memory peak 38.0 GiB; mean 312 W",
            "exit     0: ended well",
        ];
        assert_eq!(lines[2..], expected);
    }

    #[test]
    fn a_gang_is_told_node_by_node() {
        let used = ended(Outcome::ExitStatus(9), None).usage;
        let cards = spec(1).cards;
        let sister = |node: &str, figures| Sister {
            node: node.to_owned(),
            figures,
        };
        let idle = NodeFigures {
            cores: 1,
            ..NodeFigures::default()
        };
        let busy = NodeFigures {
            cores: 2,
            cards,
            usage: used,
        };
        let facts = Facts {
            node: "gpu01".to_owned(),
            started_ms: 1000,
            images: Vec::new(),
            sisters: vec![
                sister("gpu02", Some(busy)),
                sister("gpu03", Some(idle)),
                sister("gpu04", None),
            ],
        };
        let ended = AttemptEnded {
            cause: "rank 1 on gpu02 failed first, with exit status 9".to_owned(),
            ..ended(Outcome::ExitStatus(9), None)
        };
        let text = text(&spec(0), &ended, &facts).unwrap();
        let lines: Vec<&str> = text.lines().skip(2).collect();
        let expected = [
            "node     gpu01, 4 slots",
            "memory   peak 1.5 GiB",
            "cpu      01:01:40 of processor time",
            "node     gpu02, 2 slots",
            "card     0 A100 GPU-0",
            "memory   peak 1.5 GiB",
            "cpu      01:01:40 of processor time",
            "node     gpu03, 1 slots",
            "use      no program of the job was seen there",
            "node     gpu04: what was used there is not known",
            "exit     9: rank 1 on gpu02 failed first, with exit status 9",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn of_parts_of_a_card_only_memory_is_told() {
        let measures = Measures {
            samples: 9,
            card_memory_kb: Some(Series {
                mean: 0,
                peak: 5 << 20,
                last: 0,
            }),
            ..Measures::default()
        };
        let lines = lines(&spec(1), &ended(Outcome::ExitStatus(0), Some(measures)));
        let expected = "gpu      memory peak 5.0 GiB; how busy parts of a card are is not told";
        assert!(lines.contains(&expected.to_owned()), "{lines:?}");
    }

    #[test]
    fn ends_are_told_in_words() {
        let check = |status, said: &str, expected: &str| {
            let ended = AttemptEnded {
                cause: said.to_owned(),
                ..ended(Outcome::ExitStatus(status), None)
            };
            let lines = lines(&spec(0), &ended);
            assert_eq!(*lines.last().unwrap(), format!("exit     {expected}"));
            assert!(!lines.iter().any(|line| line.starts_with("gpu")));
        };
        check(3, "", "3: the script ended so by itself");
        check(
            137,
            "",
            "137: a program of the script was ended by signal 9",
        );
        check(271, "", "271: deleted or stopped (signal 15)");
        check(265, "", "265: ended by signal 9");
        check(-11, "", "-11: ran longer than its walltime");
        check(-10, "python was\nkilled", "-10: python waskilled");
    }

    #[test]
    fn a_job_that_its_prologue_ended_has_no_time_of_start() {
        let ended = AttemptEnded {
            at_ms: 1_800_000_000_000,
            cause: "the prologue ended with 2".to_owned(),
            ..ended(Outcome::ExitStatus(-1), None)
        };
        let text = text(&spec(0), &ended, &Facts::default()).unwrap();
        assert!(!text.contains("1970"), "{text}");
        assert!(text.contains("the script did not run"), "{text}");
    }

    #[test]
    fn many_cards_are_counted_and_a_script_that_never_ran_has_no_footer() {
        let lines = lines(&spec(10), &ended(Outcome::ExitStatus(0), None));
        assert!(
            lines.contains(&"card     and 2 more".to_owned()),
            "{lines:?}"
        );
        let lost = ended(Outcome::Lost("x".to_owned()), None);
        assert_eq!(text(&spec(0), &lost, &Facts::default()), None);
    }
}
