//! The tables of queues and of the server: `qstat -Q`, `qstat -q`, `qstat -B`.

use capstan_proto::wire::{Attribute, QueueRow};

use super::pad;
use super::wide::{MemoryUnit, in_unit};

/// The lines above `qstat -Q`.
pub(crate) const HEADER: &str = "\
Queue              Max    Tot   Ena   Str   Que   Run   Hld   Wat   Trn   Ext T   Cpt
----------------   ---   ----    --    --   ---   ---   ---   ---   ---   --- -   ---
";

/// The lines above `qstat -B`.
pub(crate) const SERVER_HEADER: &str = "\
Server             Max   Tot   Que   Run   Hld   Wat   Trn   Ext   Com Status    
----------------   ---   ---   ---   ---   ---   ---   ---   ---   --- ----------
";

const LIMITS_HEADER: &str = "\
Queue            Memory CPU Time Walltime Node  Run Que Lm  State
---------------- ------ -------- -------- ----  --- --- --  -----
";

fn jobs(queue: &QueueRow, letter: &str) -> u64 {
    queue.jobs.get(letter).copied().unwrap_or(0).into()
}

/// Appends the line of one queue under [`HEADER`].
pub(crate) fn row(out: &mut Vec<u8>, queue: &QueueRow) {
    let yes_no = |on| if on { "yes" } else { "no" };
    let total: u64 = queue.jobs.values().map(|&count| u64::from(count)).sum();
    pad::left(out, &queue.name, 16, usize::MAX);
    column(out, queue.max_running.into(), 5);
    column(out, total, 6);
    for word in [yes_no(queue.enabled), yes_no(queue.started)] {
        out.push(b' ');
        pad::right(out, word, 5);
    }
    for letter in ["Q", "R", "H", "W", "T", "E"] {
        column(out, jobs(queue, letter), 5);
    }
    out.extend_from_slice(if queue.routing { b" R" } else { b" E" });
    column(out, jobs(queue, "C"), 5);
    out.push(b'\n');
}

fn column(out: &mut Vec<u8>, value: u64, width: usize) {
    out.push(b' ');
    pad::number(out, value, width);
}

/// Appends the whole of `qstat -q`: limits and loads of all queues, and the sums.
pub(crate) fn limits(out: &mut Vec<u8>, server: &str, queues: &[QueueRow], memory: MemoryUnit) {
    out.extend_from_slice(format!("\nserver: {server}\n\n").as_bytes());
    out.extend_from_slice(LIMITS_HEADER.as_bytes());
    let (mut running_all, mut queued_all) = (0, 0);
    for queue in queues {
        let running = jobs(queue, "R");
        let queued = ["Q", "H", "W"]
            .into_iter()
            .map(|letter| jobs(queue, letter))
            .sum::<u64>();
        running_all += running;
        queued_all += queued;
        limits_row(out, queue, memory);
        column(out, running, 3);
        column(out, queued, 3);
        out.push(b' ');
        match queue.max_running {
            0 => out.extend_from_slice(b"--"),
            max => pad::right(out, &max.to_string(), 2),
        }
        out.extend_from_slice(if queue.enabled { b"   E" } else { b"   D" });
        out.extend_from_slice(if queue.started { b" R\n" } else { b" S\n" });
    }
    pad::blanks(out, 47);
    out.extend_from_slice(b"----- -----\n");
    pad::blanks(out, 47);
    pad::number(out, running_all, 5);
    column(out, queued_all, 5);
    out.push(b'\n');
}

fn limits_row(out: &mut Vec<u8>, queue: &QueueRow, memory: MemoryUnit) {
    let max = |resource: &str| {
        let is_it = |a: &&Attribute| a.name == "resources_max" && a.resource == resource;
        queue
            .attributes
            .iter()
            .find(is_it)
            .map(|a| a.value.as_str())
    };
    pad::left(out, &queue.name, 16, 16);
    out.push(b' ');
    pad::right(
        out,
        &max("mem").map_or_else(|| "--  ".to_owned(), |typed| in_unit(memory, typed)),
        6,
    );
    for resource in ["cput", "walltime"] {
        out.push(b' ');
        pad::right(out, max(resource).unwrap_or("--   "), 8);
    }
    out.push(b' ');
    pad::right(out, max("nodect").unwrap_or("-- "), 5);
}

/// Appends the line of the server under [`SERVER_HEADER`].
pub(crate) fn server_row(out: &mut Vec<u8>, name: &str, attributes: &[Attribute]) {
    let value = |name: &str| {
        attributes
            .iter()
            .find(|a| a.name == name)
            .map_or("", |a| a.value.as_str())
    };
    let counts = value("state_count");
    // "Transit:0 Queued:1 Held:5 …"
    let count = |state: &str| {
        let found = counts
            .split_whitespace()
            .filter_map(|pair| pair.split_once(':'))
            .find(|(key, _)| *key == state);
        found.map_or("0", |(_, count)| count)
    };
    let max = Some(value("max_running"))
        .filter(|max| !max.is_empty())
        .unwrap_or("0");
    pad::left(out, name, 16, usize::MAX);
    let states = [
        "Queued", "Running", "Held", "Waiting", "Transit", "Exiting", "Complete",
    ];
    for word in [max, value("total_jobs")]
        .into_iter()
        .chain(states.into_iter().map(count))
    {
        out.push(b' ');
        pad::right(out, word, 5);
    }
    out.push(b' ');
    pad::left(out, value("server_state"), 10, usize::MAX);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(name: &str, resource: &str, value: &str) -> Attribute {
        Attribute {
            name: name.into(),
            resource: resource.into(),
            value: value.into(),
        }
    }

    fn queues() -> Vec<QueueRow> {
        let queue = |name: &str, max_running, jobs: &[(&str, u32)]| QueueRow {
            name: name.into(),
            max_running,
            enabled: true,
            started: true,
            jobs: jobs
                .iter()
                .map(|&(letter, count)| (letter.to_owned(), count))
                .collect(),
            ..QueueRow::default()
        };
        let mut limited = queue("limitq", 3, &[]);
        limited.attributes = vec![
            attribute("resources_max", "walltime", "02:00:00"),
            attribute("resources_max", "nodect", "1"),
            attribute("resources_max", "mem", "1gb"),
        ];
        let mut stopped = queue("stoppedq", 0, &[("Q", 1)]);
        stopped.started = false;
        let mut routing = queue("routeq", 0, &[]);
        routing.routing = true;
        vec![
            stopped,
            routing,
            limited,
            queue("batch", 0, &[("R", 2), ("H", 5), ("W", 1)]),
        ]
    }

    #[test]
    fn queues_are_listed_as_recorded() {
        let mut out = HEADER.as_bytes().to_vec();
        queues().iter().for_each(|queue| row(&mut out, queue));
        let expected = "\
Queue              Max    Tot   Ena   Str   Que   Run   Hld   Wat   Trn   Ext T   Cpt
----------------   ---   ----    --    --   ---   ---   ---   ---   ---   --- -   ---
stoppedq             0      1   yes    no     1     0     0     0     0     0 E     0
routeq               0      0   yes   yes     0     0     0     0     0     0 R     0
limitq               3      0   yes   yes     0     0     0     0     0     0 E     0
batch                0      8   yes   yes     0     2     5     1     0     0 E     0
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn limits_are_listed_as_recorded() {
        let mut out = Vec::new();
        limits(&mut out, "hn1", &queues(), MemoryUnit::Typed);
        let expected = "
server: hn1

Queue            Memory CPU Time Walltime Node  Run Que Lm  State
---------------- ------ -------- -------- ----  --- --- --  -----
stoppedq           --      --       --      --    0   1 --   E S
routeq             --      --       --      --    0   0 --   E R
limitq              1gb    --    02:00:00     1   0   0  3   E R
batch              --      --       --      --    2   6 --   E R
                                               ----- -----
                                                   2     7
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn the_server_is_listed_as_recorded() {
        let mut out = SERVER_HEADER.as_bytes().to_vec();
        let attributes = [
            attribute("server_state", "", "Active"),
            attribute("total_jobs", "", "9"),
            attribute(
                "state_count",
                "",
                "Transit:0 Queued:1 Held:5 Waiting:1 Running:2 Exiting:0 Complete:0 ",
            ),
        ];
        server_row(&mut out, "hn1", &attributes);
        let expected = "\
Server             Max   Tot   Que   Run   Hld   Wat   Trn   Ext   Com Status    
----------------   ---   ---   ---   ---   ---   ---   ---   ---   --- ----------
hn1                  0     9     1     2     5     1     0     0     0 Active    
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
