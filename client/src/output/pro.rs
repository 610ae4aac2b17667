//! What Torque's attributes are called, and how they are spelled, in PBS Pro: for `-F json`, `-F dsv` and the `-f` of that
//! dialect. What PBS Pro does not know is left out.

use capstan_proto::wire::{Attribute, JobAttributes, NodeRow};

/// Attributes of jobs by both names.
const RENAMED: &[(&str, &str)] = &[
    ("exit_status", "Exit_status"),
    ("submit_args", "Submit_arguments"),
    ("start_time", "stime"),
    ("comp_time", "obittime"),
    ("start_count", "run_count"),
    ("submit_host", "Submit_Host"),
    ("job_array_id", "array_index"),
    ("job_array_request", "array_indices_submitted"),
    ("User_List", "User_List"),
];
/// Torque's own.
const UNKNOWN: &[&str] = &[
    "Walltime",
    "total_runtime",
    "fault_tolerant",
    "job_radix",
    "request_version",
    "queue_type",
    "init_work_dir",
    "exec_gpus",
    "gpu_flags",
    "idle_slot_limit",
    "req_information",
    "L_Request",
    "energy_used",
];

/// The state's letter: `B` an array that has begun, `X` a member that is over, `F` any other job that is.
pub(crate) fn state<'a>(id: &str, letter: &'a str) -> &'a str {
    let is_array = id.contains("[]");
    let is_member = !is_array && id.contains('[');
    match letter {
        "R" if is_array => "B",
        "C" if is_member => "X",
        "C" => "F",
        letter => letter,
    }
}

/// A job's attributes as PBS Pro has them.
pub(crate) fn job(job: &JobAttributes) -> Vec<Attribute> {
    let value = |name: &str| {
        let found = job.attributes.iter().find(|a| a.name == name);
        found.map_or("", |a| a.value.as_str())
    };
    let mut list = Vec::with_capacity(job.attributes.len() + 8);
    let mut resources = false;
    for attribute in &job.attributes {
        let Attribute {
            name,
            resource,
            value: said,
        } = attribute;
        if resources && name != "Resource_List" {
            resources = false;
            complete_request(&mut list);
        }
        resources |= name == "Resource_List";
        match name.as_str() {
            name if UNKNOWN.contains(&name) || UNKNOWN.contains(&resource.as_str()) => {}
            "job_state" => list.push(attribute_of("job_state", "", state(&job.id, said))),
            "exec_host" => {
                let cards = value("exec_gpus");
                places(&mut list, said, cards, value("exec_vnode"));
            }
            // Told beside the host.
            "exec_vnode" => {}
            "job_array_request" => {
                list.push(attribute_of("array", "", "True"));
                let indices = said.split('%').next().unwrap_or(said);
                list.push(attribute_of("array_indices_submitted", "", indices));
            }
            "job_array_id" => {
                list.push(attribute_of("array_id", "", &array_of(&job.id)));
                list.push(attribute_of("array_index", "", said));
            }
            "estimated_start" => list.push(attribute_of("estimated", "start_time", said)),
            name => {
                let renamed = RENAMED.iter().find(|(torque, _)| *torque == name);
                let name = renamed.map_or(name, |(_, pro)| pro);
                list.push(attribute_of(name, resource, said));
            }
        }
    }
    if resources || !list.iter().any(|a| a.name == "Resource_List") {
        complete_request(&mut list);
    }
    list.push(attribute_of("project", "", "_pbs_project_default"));
    list
}

fn attribute_of(name: &str, resource: &str, value: &str) -> Attribute {
    Attribute {
        name: name.to_owned(),
        resource: resource.to_owned(),
        value: value.to_owned(),
    }
}

/// `352[].hn1` of `352[4].hn1`.
fn array_of(id: &str) -> String {
    match (id.split_once('['), id.split_once(']')) {
        (Some((seq, _)), Some((_, rest))) => format!("{seq}[]{rest}"),
        _ => id.to_owned(),
    }
}

/// A part of `exec_host`: a host and how many slots of it.
fn hosts(exec_host: &str) -> impl Iterator<Item = (&str, usize)> {
    exec_host.split('+').filter_map(|part| {
        let (host, slots) = part.split_once('/')?;
        Some((host, slot_count(slots)))
    })
}

/// `0-1,3`: three.
fn slot_count(slots: &str) -> usize {
    let ranges = slots.split(',').map(|range| match range.split_once('-') {
        Some((first, last)) => {
            let first: usize = first.parse().unwrap_or(0);
            let last: usize = last.parse().unwrap_or(first);
            last.saturating_sub(first) + 1
        }
        None => 1,
    });
    ranges.sum()
}

/// `exec_host = gpu02/0*2+gpu01/0*2` and `exec_vnode = (gpu02:ncpus=2:ngpus=1)+(gpu01:ncpus=2:ngpus=1)`; of a job that
/// asked for chunks the server says the latter, chunk by chunk.
fn places(list: &mut Vec<Attribute>, exec_host: &str, exec_gpus: &str, exec_vnode: &str) {
    let (mut exec, mut vnodes) = (String::new(), String::new());
    for (host, slots) in hosts(exec_host) {
        let plus = if exec.is_empty() { "" } else { "+" };
        let times = if slots == 1 {
            String::new()
        } else {
            format!("*{slots}")
        };
        exec.push_str(&format!("{plus}{host}/0{times}"));
        let is_here = |card: &&str| card.rsplit_once("-gpu/").is_some_and(|(on, _)| on == host);
        let cards = exec_gpus.split('+').filter(is_here).count();
        let gpus = if cards == 0 {
            String::new()
        } else {
            format!(":ngpus={cards}")
        };
        vnodes.push_str(&format!("{plus}({host}:ncpus={slots}{gpus})"));
    }
    list.push(attribute_of("exec_host", "", &exec));
    let vnodes = match exec_vnode {
        "" => &vnodes,
        said => said,
    };
    list.push(attribute_of("exec_vnode", "", vnodes));
}

/// What PBS Pro makes of `nodes=` and `ncpus=`: chunks, their sums and how they are placed.
fn complete_request(list: &mut Vec<Attribute>) {
    let asked = |name: &str| {
        let found = list
            .iter()
            .find(|a| a.name == "Resource_List" && a.resource == name);
        found.map(|a| a.value.clone())
    };
    let has_select = asked("select").is_some();
    let chunks = match (asked("nodes"), asked("ncpus")) {
        (Some(nodes), _) => nodes.split('+').map(Chunk::of_nodes).collect(),
        (None, Some(ncpus)) => vec![Chunk {
            count: 1,
            cpus: ncpus.parse().unwrap_or(1),
            ..Chunk::default()
        }],
        // Who asks for nothing gets a core, and PBS Pro shows that.
        (None, None) => vec![Chunk {
            count: 1,
            cpus: 1,
            ..Chunk::default()
        }],
    };
    if has_select {
        return;
    }
    let sum = |of: fn(&Chunk) -> u64| {
        chunks
            .iter()
            .map(|chunk| chunk.count * of(chunk))
            .sum::<u64>()
    };
    let (cpus, gpus, nodes) = (sum(|c| c.cpus), sum(|c| c.gpus), sum(|_| 1));
    let select: Vec<String> = chunks.iter().map(Chunk::select).collect();
    let place = if nodes > 1 { "scatter" } else { "pack" };
    let derived = [
        ("ncpus", cpus.to_string()),
        ("ngpus", gpus.to_string()),
        ("nodect", nodes.to_string()),
        ("place", place.to_owned()),
        ("select", select.join("+")),
    ];
    for (name, value) in derived {
        let is_known = list
            .iter()
            .any(|a| a.name == "Resource_List" && a.resource == name);
        let is_nothing = name == "ngpus" && gpus == 0;
        if !is_known && !is_nothing {
            list.push(attribute_of("Resource_List", name, &value));
        }
    }
}

/// A part of a node request.
#[derive(Debug, Default)]
struct Chunk {
    count: u64,
    cpus: u64,
    gpus: u64,
    /// Asked for as nodes, where each core is meant for a process.
    is_of_nodes: bool,
    host: Option<String>,
}

impl Chunk {
    /// `2:ppn=4:gpus=1` or `gpu01:ppn=4`; properties have no place in a chunk.
    fn of_nodes(part: &str) -> Self {
        let mut words = part.split(['#', ':']);
        let first = words.next().unwrap_or_default();
        let mut chunk = Self {
            count: first.parse().unwrap_or(1),
            cpus: 1,
            gpus: 0,
            is_of_nodes: true,
            host: first.parse::<u64>().is_err().then(|| first.to_owned()),
        };
        for word in words {
            match word.split_once('=') {
                Some(("ppn", count)) => chunk.cpus = count.parse().unwrap_or(1),
                Some(("gpus", count)) => chunk.gpus = count.parse().unwrap_or(0),
                _ => {}
            }
        }
        chunk
    }

    fn select(&self) -> String {
        let mut text = format!("{}:ncpus={}", self.count, self.cpus);
        if self.is_of_nodes {
            text.push_str(&format!(":mpiprocs={}", self.cpus));
        }
        if self.gpus > 0 {
            text.push_str(&format!(":ngpus={}", self.gpus));
        }
        if let Some(host) = &self.host {
            text.push_str(&format!(":host={host}"));
        }
        text
    }
}

/// A node's attributes as PBS Pro's `pbsnodes -av` has them.
pub(crate) fn node(node: &NodeRow) -> Vec<Attribute> {
    let value = |name: &str| {
        let found = node.attributes.iter().find(|a| a.name == name);
        found.map(|a| a.value.as_str())
    };
    let status = |name: &str| {
        let items = value("status").unwrap_or_default().split(',');
        let mut pairs = items.filter_map(|item| item.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    };
    let mut list = Vec::new();
    let mut put = |name: &str, resource: &str, value: &str| {
        list.push(attribute_of(name, resource, value));
    };
    put("Mom", "", &node.name);
    put("Port", "", value("mom_service_port").unwrap_or("15002"));
    put("pbs_version", "", status("version").unwrap_or_default());
    put("ntype", "", "PBS");
    put("state", "", &node_state(&node.state));
    let slots = value("np").unwrap_or("0");
    put("pcpus", "", slots);
    let jobs = value("jobs");
    if let Some(jobs) = jobs {
        put("jobs", "", &job_ids(jobs).join(", "));
    }
    put(
        "resources_available",
        "arch",
        status("opsys").unwrap_or("linux"),
    );
    put("resources_available", "host", &node.name);
    if let Some(memory) = status("physmem") {
        put("resources_available", "mem", memory);
    }
    put("resources_available", "ncpus", slots);
    if let Some(cards) = value("gpus") {
        put("resources_available", "ngpus", cards);
    }
    put("resources_available", "vnode", &node.name);
    if let Some(properties) = value("properties") {
        put("resources_available", "properties", properties);
    }
    let used: usize = jobs.map_or(0, |jobs| {
        places_of(jobs).map(|(slots, _)| slot_count(slots)).sum()
    });
    put("resources_assigned", "ncpus", &used.to_string());
    put("resv_enable", "", "True");
    put("sharing", "", "default_shared");
    if !node.note.is_empty() {
        put("comment", "", &node.note);
    }
    list
}

/// `free`, `job-busy`, `down`, `offline`, in a comma list.
fn node_state(state: &str) -> String {
    let words = state.split(',').map(|word| match word {
        "job-exclusive" | "job-sharing" | "busy" => "job-busy",
        "unknown" | "state-unknown" => "state-unknown",
        word => word,
    });
    words.collect::<Vec<_>>().join(",")
}

/// `0-1/374.hn1,2,5/375.hn1`: slots and jobs. A comma may stand inside of slots.
fn places_of(jobs: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = jobs;
    std::iter::from_fn(move || {
        let (slots, behind) = rest.split_once('/')?;
        // An id holds no comma.
        let (id, next) = behind.split_once(',').unwrap_or((behind, ""));
        rest = next;
        Some((slots, id))
    })
}

/// `374.hn1/0` for each slot, as PBS Pro lists them.
fn job_ids(jobs: &str) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    for (slots, id) in places_of(jobs) {
        for range in slots.split(',') {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let first: u32 = first.parse().unwrap_or(0);
            let last: u32 = last.parse().unwrap_or(first);
            ids.extend((first..=last).map(|slot| format!("{id}/{slot}")));
        }
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(line: &str) -> Attribute {
        let (name, value) = line.split_once('=').unwrap();
        let (name, resource) = name.split_once('.').unwrap_or((name, ""));
        attribute_of(name, resource, value)
    }

    fn shown(list: &[Attribute]) -> Vec<String> {
        let line = |a: &Attribute| match a.resource.as_str() {
            "" => format!("{}={}", a.name, a.value),
            resource => format!("{}.{resource}={}", a.name, a.value),
        };
        list.iter().map(line).collect()
    }

    #[test]
    fn a_job_has_the_names_of_pbs_pro() {
        let lines = [
            "Job_Name=run1",
            "job_state=C",
            "exec_host=gpu02/0-1+gpu01/0,3",
            "exec_gpus=gpu02-gpu/1+gpu01-gpu/0+gpu01-gpu/1",
            "Resource_List.nodes=2:ppn=2:gpus=1",
            "Resource_List.walltime=00:20:00",
            "exit_status=0",
            "submit_args=-N run1 sleep.sh",
            "start_time=1795319750",
            "Walltime.Remaining=5",
            "resources_used.energy_used=0",
            "fault_tolerant=False",
        ];
        let seen = job(&JobAttributes {
            id: "248.hn1".into(),
            attributes: lines.map(attribute).to_vec(),
            reason: String::new(),
        });
        let expected = [
            "Job_Name=run1",
            "job_state=F",
            "exec_host=gpu02/0*2+gpu01/0*2",
            "exec_vnode=(gpu02:ncpus=2:ngpus=1)+(gpu01:ncpus=2:ngpus=2)",
            "Resource_List.nodes=2:ppn=2:gpus=1",
            "Resource_List.walltime=00:20:00",
            "Resource_List.ncpus=4",
            "Resource_List.ngpus=2",
            "Resource_List.nodect=2",
            "Resource_List.place=scatter",
            "Resource_List.select=2:ncpus=2:mpiprocs=2:ngpus=1",
            "Exit_status=0",
            "Submit_arguments=-N run1 sleep.sh",
            "stime=1795319750",
            "project=_pbs_project_default",
        ];
        assert_eq!(shown(&seen), expected);
    }

    /// Programs made for PBS Pro read `ncpus` and `nodect` of every job, arrays that were submitted without any too.
    #[test]
    fn who_asks_for_nothing_is_shown_with_one_core() {
        for asked in [&["Resource_List.walltime=00:20:00"][..], &[]] {
            let seen = job(&JobAttributes {
                id: "70[].hn1".into(),
                attributes: asked.iter().map(|line| attribute(line)).collect(),
                reason: String::new(),
            });
            let added = [
                "Resource_List.ncpus=1",
                "Resource_List.nodect=1",
                "Resource_List.place=pack",
                "Resource_List.select=1:ncpus=1",
                "project=_pbs_project_default",
            ];
            assert_eq!(shown(&seen), [asked, &added].concat());
        }
    }

    #[test]
    fn states_are_those_of_pbs_pro() {
        assert_eq!(state("352[].hn1", "R"), "B");
        assert_eq!(state("352[4].hn1", "C"), "X");
        assert_eq!(state("352[].hn1", "C"), "F");
        assert_eq!(state("7.hn1", "C"), "F");
        assert_eq!(state("7.hn1", "R"), "R");
        assert_eq!(array_of("352[4].hn1"), "352[].hn1");
    }

    #[test]
    fn a_node_has_the_names_of_pbs_pro() {
        let lines = [
            "state=job-exclusive",
            "np=4",
            "jobs=0-1/374.hn1,2,3/375[0].hn1",
            "status=opsys=linux,physmem=100kb,version=6.1.3.h5",
            "gpus=2",
        ];
        let row = NodeRow {
            name: "gpu01".into(),
            state: "job-exclusive".into(),
            attributes: lines.map(attribute).to_vec(),
            ..NodeRow::default()
        };
        let seen = shown(&node(&row));
        let jobs = "jobs=374.hn1/0, 374.hn1/1, 375[0].hn1/2, 375[0].hn1/3";
        for expected in [
            "state=job-busy",
            jobs,
            "resources_available.ncpus=4",
            "resources_available.ngpus=2",
            "resources_available.mem=100kb",
            "resources_assigned.ncpus=4",
        ] {
            assert!(seen.contains(&expected.to_owned()), "{expected}: {seen:?}");
        }
    }
}
