//! What the manual says of `capstan sim` beside its options.

/// What it does.
pub(crate) const TEXT: &[&str] = &[
    "Lets the scheduler of the server decide about the jobs of the past, on a clock of its own: which order, which \
     settings, which nodes would have made whom wait for how long. It is the very code that the server runs. No server is needed.",
    "Each operand is a file in the Standard Workload Format (SWF), packed with gzip or not, or accounting logs of this \
     server or of Torque: several files or a folder of them. FILE:FIRST:COUNT means COUNT jobs from number FIRST on, counted from 0 \
     over the jobs that ran; the simulation begins with an empty cluster when the first of them comes.",
    "Of SWF, column 8 is the number of cards, each with a core: up to the cards of a node on one node, more evenly on as few \
     nodes as hold them. A run is cut at the walltime (column 9); a job without one gets what it took. User, group, \
     executable and queue N are u, g, e and q with N behind; a job goes to the queue of its name where there is one \
     (--qmgr), else to the default queue. The nodes are those of the header lines X-Nodes and \
     X-SlotsPerNode unless --nodes and --slots or --cluster say otherwise.",
];

/// The file of --cluster.
pub(crate) const CLUSTER_WORDS: &[(&str, &str)] = &[
    (
        "gpu[01-48] cores=64 mem=512gb cards=8:RTX4090:24gb properties=S,nvlink",
        "Forty-eight nodes that are alike: cores, memory, cards (count, model, memory; several for several models), \
         properties. Only the name must be there.",
    ),
    ("# a comment", "Is left out."),
];

/// What --json prints.
pub(crate) const JSON_WORDS: &[(&str, &str)] = &[
    (
        "jobs, mean_wait_s, median_wait_s, p95_wait_s, p99_wait_s, max_wait_s",
        "Jobs that ran to their end, and their waits.",
    ),
    (
        "bounded_slowdown",
        "Mean of max(1, (wait + run) / max(run, 10 s)).",
    ),
    (
        "utilisation",
        "Card-seconds in use between the first and the last submission, over those there were.",
    ),
    ("makespan_s", "First submission to last end."),
    (
        "large_job_wait_s",
        "Mean wait of jobs of at least the 95th percentile of sizes and at least 2 cards.",
    ),
    (
        "head_blocked_by_nodes",
        "Share of that time in which the first in line waited although the free cards of all nodes together would have done.",
    ),
    ("cpu_s", "Processor time of the simulation."),
    ("users, groups", "Waits, slowdown and card-hours of each."),
    (
        "after, changes",
        "With --change or --against: the figures of the second run, and who waits less or more.",
    ),
];
