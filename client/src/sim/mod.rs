//! `capstan sim`: what this scheduler would do with the jobs of a trace. Reads what is to be simulated, lets
//! `capstan-sim` run it, and prints the figures. Needs no server.

mod arguments;
mod orders;
mod words;

use std::io::{IsTerminal, Write};
use std::path::Path;

use capstan_sim::{
    Cluster, Comparison, JobRun, Order, PolicyName, Progress, Run, SimError, Site, Summary, Trace,
    compare, comparison_text, load, plot, replay, summarise, summary_text,
};

use crate::command::{Call, Failure};
use crate::getopt::Opt;
use crate::output::screen::Screen;
use arguments::{Arguments, Nodes};
pub(crate) use words::{CLUSTER_WORDS, JSON_WORDS, TEXT};

/// The options of `capstan sim`.
pub(crate) const OPTIONS: &[Opt] = arguments::OPTIONS;

/// Largest description of nodes or dump of settings, bytes.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Simulates, and prints the figures.
///
/// # Errors
/// Misuse (2); a file that cannot be read or means nothing, settings that the server would refuse (1).
pub(crate) fn run<W: Write>(call: &Call, screen: &mut Screen<W>) -> Result<u8, Failure> {
    let arguments = Arguments::read(&call.args).map_err(|what| {
        Failure::new(
            2,
            format!("capstan sim: {what}\nhint: 'capstan sim --help' lists the options"),
        )
    })?;
    simulate(&arguments, screen).map_err(|failure| match failure.text.as_str() {
        "" => failure,
        text => Failure::new(failure.status, format!("capstan sim: {text}")),
    })
}

fn simulate<W: Write>(arguments: &Arguments, screen: &mut Screen<W>) -> Result<u8, Failure> {
    let mut trace = load(&arguments.slices).map_err(failed)?;
    let cluster = cluster(arguments, &trace)?;
    let too_large = trace.drop_larger_than(&cluster);
    if too_large > 0 {
        screen.complain(&format!(
            "capstan sim: {too_large} jobs are larger than the cluster ({} nodes, {} cards) and were left out",
            cluster.nodes.len(),
            cluster.capacity()
        ));
    }
    if trace.jobs.is_empty() {
        let text = "no job of the trace fits the cluster: give more --nodes or --slots";
        return Err(Failure::new(1, text));
    }
    let site = site(arguments, cluster)?;
    let mut bench = Bench {
        trace: &trace,
        too_large,
        is_shown: std::io::stderr().is_terminal(),
    };
    let (mut summary, run) = bench.run(&site, "")?;
    summary.too_large = too_large;
    tell_problems(&run, &summary, screen);
    write_files(arguments, (&trace, &site.cluster), &run)?;
    let Some(other) = changed(arguments, &site) else {
        return print(arguments, &summary, screen);
    };
    let (after, other_run) = bench.run(&other, "after the change: ")?;
    tell_problems(&other_run, &after, screen);
    let changes = compare(&trace, &run, &other_run);
    print_both(arguments, (&summary, &after, &changes), screen)
}

fn failed(error: SimError) -> Failure {
    Failure::new(1, error.to_string())
}

fn cluster(arguments: &Arguments, trace: &Trace) -> Result<Cluster, Failure> {
    match &arguments.nodes {
        Nodes::Described(path) => Cluster::parse(path, &text_of(path)?).map_err(failed),
        Nodes::Alike { nodes, slots } => {
            let (own_nodes, own_slots) = (trace.nodes, trace.slots);
            let (nodes, slots) = nodes
                .or(own_nodes)
                .zip(slots.or(own_slots))
                .ok_or_else(|| failed(SimError::NoCluster))?;
            Cluster::uniform(nodes, slots).map_err(failed)
        }
    }
}

fn site(arguments: &Arguments, cluster: Cluster) -> Result<Site, Failure> {
    let mut site = Site {
        cluster,
        policy: arguments.policy,
        ..Site::default()
    };
    for path in &arguments.dumps {
        let text = text_of(path)?;
        let orders = orders::read(&text).map_err(|(line, what)| {
            Failure::new(1, format!("{}:{line}: {what}", path.display()))
        })?;
        site.dump.extend(orders);
    }
    if site.policy.is_none() && site.dump.is_empty() {
        site.policy = Some(PolicyName::Default);
    }
    site.orders.clone_from(&arguments.settings);
    Ok(site)
}

/// The site to compare with, if any.
fn changed(arguments: &Arguments, site: &Site) -> Option<Site> {
    let Arguments {
        against,
        changes,
        joined,
        ..
    } = arguments;
    if against.is_none() && changes.is_empty() && joined.is_empty() {
        return None;
    }
    let mut other = site.clone();
    other.cluster = site.cluster.joined(joined);
    other.policy = against.or(site.policy);
    other.orders.extend(changes.iter().map(Order::clone));
    Some(other)
}

fn text_of(path: &Path) -> Result<String, Failure> {
    let failed = |error: &std::io::Error| {
        Failure::new(1, format!("cannot read {}: {error}", path.display()))
    };
    let bytes = path.metadata().map_err(|error| failed(&error))?.len();
    if bytes > FILE_BYTES_MAX {
        let text = format!(
            "{}: {bytes} bytes, at most {FILE_BYTES_MAX} are read",
            path.display()
        );
        return Err(Failure::new(1, text));
    }
    std::fs::read_to_string(path).map_err(|error| failed(&error))
}

struct Bench<'a> {
    trace: &'a Trace,
    too_large: usize,
    is_shown: bool,
}

impl Bench<'_> {
    fn run(&mut self, site: &Site, what: &str) -> Result<(Summary, Run), Failure> {
        let is_shown = self.is_shown;
        let mut tell = |progress: Progress| {
            if is_shown {
                show(what, progress);
            }
        };
        let run = replay(self.trace, site, &mut tell).map_err(failed)?;
        if is_shown {
            // The line of the progress is gone when the figures come.
            write!(std::io::stderr(), "\r\x1b[K").ok();
        }
        let mut summary = summarise(self.trace, &site.cluster, &run);
        summary.policy = site.label();
        summary.too_large = self.too_large;
        Ok((summary, run))
    }
}

/// One line that is written over and over.
fn show(what: &str, progress: Progress) {
    let Progress {
        ended,
        jobs,
        waiting,
    } = progress;
    let percent = ended * 100 / jobs.max(1);
    write!(
        std::io::stderr(),
        "\r\x1b[K{what}{percent} %: {ended} of {jobs} jobs ended, {waiting} wait"
    )
    .ok();
}

fn tell_problems<W: Write>(run: &Run, summary: &Summary, screen: &mut Screen<W>) {
    if let Some(first) = &run.first_refusal {
        let count = run.refused;
        screen.complain(&format!(
            "capstan sim: {count} jobs were refused; the first: {}",
            first.escape_debug()
        ));
    }
    if summary.unstarted > 0 {
        screen.complain(&format!(
            "capstan sim: {} jobs never started or never ended: the settings keep them waiting for ever",
            summary.unstarted
        ));
    }
}

fn write_files(arguments: &Arguments, of: (&Trace, &Cluster), run: &Run) -> Result<(), Failure> {
    let (trace, cluster) = of;
    let write = |path: &Path, text: String| {
        let written = std::fs::write(path, text);
        written
            .map_err(|error| Failure::new(1, format!("cannot write {}: {error}", path.display())))
    };
    if let Some(path) = &arguments.plot {
        write(path, plot(trace, cluster, run))?;
    }
    if let Some(path) = &arguments.trace_out {
        write(path, schedule(trace, run))?;
    }
    Ok(())
}

/// A line for each job: its number, when it came, started and ended (seconds since 1970), its cards, its nodes.
fn schedule(trace: &Trace, run: &Run) -> String {
    let mut text = String::from("# job submit start end cards nodes\n");
    for (
        job,
        JobRun {
            start,
            end,
            size,
            nodes,
            ..
        },
    ) in trace.jobs.iter().zip(&run.jobs)
    {
        let secs = |time: &Option<capstan_types::Timestamp>| {
            time.map_or_else(|| "-".to_owned(), |time| time.secs().to_string())
        };
        let names: Vec<&str> = nodes.iter().map(|node| node.as_str()).collect();
        let names = if names.is_empty() {
            "-".to_owned()
        } else {
            names.join(",")
        };
        let label: String = job
            .label
            .chars()
            .filter(|c| !c.is_whitespace() && !c.is_control())
            .collect();
        text.push_str(&format!(
            "{label} {} {} {} {size} {names}\n",
            job.submit_secs,
            secs(start),
            secs(end)
        ));
    }
    text
}

fn print<W: Write>(
    arguments: &Arguments,
    summary: &Summary,
    screen: &mut Screen<W>,
) -> Result<u8, Failure> {
    if !arguments.is_json {
        screen
            .out()
            .extend_from_slice(summary_text(summary).as_bytes());
        return Ok(0);
    }
    let value = serde_json::to_value(summary).map_err(unprintable)?;
    print_json(&value, screen)
}

fn print_both<W: Write>(
    arguments: &Arguments,
    (before, after, changes): (&Summary, &Summary, &Comparison),
    screen: &mut Screen<W>,
) -> Result<u8, Failure> {
    if !arguments.is_json {
        let text = comparison_text(before, after, changes);
        screen.out().extend_from_slice(text.as_bytes());
        return Ok(0);
    }
    let mut value = serde_json::to_value(before).map_err(unprintable)?;
    value["after"] = serde_json::to_value(after).map_err(unprintable)?;
    value["changes"] = serde_json::to_value(changes).map_err(unprintable)?;
    print_json(&value, screen)
}

fn print_json<W: Write>(value: &serde_json::Value, screen: &mut Screen<W>) -> Result<u8, Failure> {
    let text = serde_json::to_string_pretty(value).map_err(unprintable)?;
    screen.out().extend_from_slice(text.as_bytes());
    screen.out().push(b'\n');
    Ok(0)
}

fn unprintable(error: serde_json::Error) -> Failure {
    Failure::new(1, format!("cannot print the figures: {error}"))
}

#[cfg(test)]
mod tests;
