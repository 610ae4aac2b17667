//! What must be true after the chaos: of cards, of statuses, of what is left on the host. Each rule gives its breaches.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::Done;

/// One run of a job, as the job itself told it. Times in hundredths of a second since the host's start.
#[derive(Debug)]
pub(super) struct Run {
    job: String,
    first: u64,
    last: u64,
    cards: Vec<String>,
    end: Option<i32>,
}

/// A job as the server tells it.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) job: String,
    kind: String,
    pub(super) state: String,
    status: Option<i32>,
}

fn hundredths(text: &str) -> Option<u64> {
    text.replace('.', "").parse().ok()
}

pub(super) fn runs(folder: &Path) -> Vec<Run> {
    let entries = fs::read_dir(folder).unwrap().flatten();
    entries.filter_map(|entry| run(&entry.path())).collect()
}

fn run(path: &Path) -> Option<Run> {
    let name = path.file_name()?.to_str()?;
    let job = name.split('+').next()?.to_owned();
    let text = fs::read_to_string(path).ok()?;
    let mut run = Run {
        job,
        first: u64::MAX,
        last: 0,
        cards: Vec::new(),
        end: None,
    };
    for line in text.lines() {
        let mut words = line.split(' ');
        let now = words.next().and_then(hundredths)?;
        run.first = run.first.min(now);
        run.last = run.last.max(now);
        match words.next() {
            Some("start") => run
                .cards
                .extend(words.filter(|word| !word.is_empty()).map(str::to_owned)),
            Some("end") => run.end = words.next().and_then(|word| word.parse().ok()),
            Some(_) | None => {}
        }
    }
    Some(run)
}

/// The jobs of `qstat -f -t`, without the arrays themselves.
pub(super) fn told(listing: &str) -> Vec<Told> {
    let whole = listing.replace("\n\t", "");
    let blocks = whole.split("Job Id: ").skip(1);
    let jobs = blocks.map(|block| {
        let value = |name: &str| {
            let start = format!("    {name} = ");
            block
                .lines()
                .find_map(|line| line.strip_prefix(&start))
                .map(str::to_owned)
        };
        Told {
            job: block.lines().next().unwrap_or_default().to_owned(),
            kind: value("Job_Name").unwrap_or_default(),
            state: value("job_state").unwrap_or_default(),
            status: value("exit_status").and_then(|text| text.parse().ok()),
        }
    });
    jobs.filter(|told| !told.job.contains("[]")).collect()
}

/// Whether a run came to its own end with this status.
pub(super) fn some_ended(runs: &[Run], status: i32) -> bool {
    runs.iter().any(|run| run.end == Some(status))
}

/// No card was in two runs at once, and no job ran twice at once.
pub(super) fn overlaps(runs: &[Run]) -> Vec<String> {
    let mut held: BTreeMap<&str, Vec<&Run>> = BTreeMap::new();
    for run in runs {
        held.entry(&run.job).or_default().push(run);
        let cards: BTreeSet<&String> = run.cards.iter().collect();
        for card in cards {
            held.entry(card).or_default().push(run);
        }
    }
    let mut found = Vec::new();
    for (what, mut runs) in held {
        runs.sort_by_key(|run| run.first);
        for pair in runs.windows(2) {
            if let [before, after] = pair
                && after.first < before.last
            {
                found.push(format!("{what} had two runs at once: {before:?} {after:?}"));
            }
        }
    }
    found
}

/// The last of the job's runs, and what it says of its end, against what the server says.
pub(super) fn untrue(told: &[Told], runs: &[Run], done: &Done) -> Vec<String> {
    let breach = |told: &Told| {
        let own = runs.iter().filter(|run| run.job == told.job);
        let last = own.max_by_key(|run| run.first);
        let is_meddled = done.is_meddled(&told.job);
        let wrote = last.and_then(|run| run.end);
        // What may end a job without its script's word: its shim, its script, its engine were killed, or a person did it.
        let is_touched = is_meddled || done.kills > 0;
        let is_true = match (told.status, wrote) {
            // Of a client that was killed: it writes nothing of itself.
            _ if told.kind == "cut" => true,
            (Some(status), Some(wrote)) if status == wrote => true,
            (Some(0), _) => false,
            (Some(1..=255), None) => {
                matches!(told.kind.as_str(), "inside" | "container") && is_touched
            }
            // A signal's or the node's: never what a script could have written.
            (Some(_), None) => is_touched || told.kind == "warned",
            (Some(status), Some(_)) => is_touched && !(1..=255).contains(&status),
            (None, _) => is_meddled,
        };
        (!is_true).then(|| format!("{told:?} is not what its last run was: {last:?}"))
    };
    told.iter().filter_map(breach).collect()
}

/// Processes, cgroups and mounts of the cluster that are still there.
pub(super) fn left(cluster: &Path, agents: &[String], expected: &BTreeSet<u32>) -> Vec<String> {
    let mut found = Vec::new();
    let marker = format!("{}/", cluster.display());
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        let environ = fs::read(entry.path().join("environ")).unwrap_or_default();
        let text = String::from_utf8_lossy(&environ).into_owned();
        let is_job = text
            .split('\0')
            .any(|pair| pair.starts_with("PBS_NODEFILE=") && pair.contains(&marker));
        if is_job && !expected.contains(&pid) {
            let line = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
            found.push(format!("process {pid}: {}", line.replace('\0', " ")));
        }
    }
    for agent in agents {
        for root in [
            "/sys/fs/cgroup",
            "/sys/fs/cgroup/freezer",
            "/sys/fs/cgroup/memory",
            "/sys/fs/cgroup/pids",
            "/sys/fs/cgroup/devices",
        ] {
            let groups = fs::read_dir(format!("{root}/capstan/{agent}"))
                .into_iter()
                .flatten();
            let names = groups
                .flatten()
                .filter(|group| group.file_name().to_string_lossy().starts_with("att-"));
            found.extend(names.map(|group| format!("cgroup {}", group.path().display())));
        }
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let ours = mounts.lines().filter(|line| line.contains(&marker));
    found.extend(ours.map(|line| format!("mount {line}")));
    found
}
