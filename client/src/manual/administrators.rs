//! The pages of what administrators run.

use super::pages::{EXIT_QUEUES, Page, Part, Reach};

pub(super) const PAGES: &[Page] = &[
    Page::admin(
        "qrun",
        "JOB...",
        &[
            "Starts jobs now, on nodes of the scheduler's choice or on those of -H, held or not. -H replaces the job's \
             own request for nodes. For operators.",
            "A job inside an image that its nodes lack starts when they have got it, if there is room then; comment in \
             qstat -f says so. It holds nothing meanwhile, and a hold that is set after qrun ends the order.",
        ],
        &["qrerun", "qstart"],
    )
    .ends("0 when all was done, 1 when the command was misused, 2 when a job was not started."),
    Page::admin(
        "pbsnodes",
        "[NODE... | :PROPERTY]",
        &[
            "Lists nodes, takes them out of service (-o) and puts them back (-c, -r), and keeps notes on them (-N, -A). \
             Listing is for everybody, the rest for operators.",
            "-l lists the nodes that are down or offline, or those in the state that follows.",
        ],
        &["qmgr", "qstat", "momctl"],
    )
    .ends("0 when all was done, 1 when not."),
    Page::admin(
        "migrate",
        "",
        &[
            "Reads the home folder of a Torque (nodes, server, queues, access lists, or a dump of qmgr) and prints the orders \
             of qmgr that set this server up alike. What is taken over, what has no effect here and what is left out is told \
             on standard error, each with file, line and reason. Jobs are not moved.",
            "Everything is read and checked before anything is printed or applied: a damaged file ends the command. With \
             --apply the orders are carried out one by one; the first refusal ends it and says how far it came. Queues \
             and nodes that are there already get the attributes; running it again does no harm.",
        ],
        &["qmgr", "pbsnodes"],
    )
    .with(&[Part {
        title: "FILES",
        text: &["In the folder of --from-torque:"],
        terms: &[
            (
                "server_priv/serverdb, server_priv/queues/*",
                "The server and its queues, as Torque 4 and later write them.",
            ),
            (
                "server_priv/acl_svr/*, acl_users/*, acl_groups/*, acl_hosts/*",
                "Access lists, where the database does not have them.",
            ),
            (
                "server_priv/nodes, node_status, node_note",
                "Nodes with their slots and properties, those that are offline, notes.",
            ),
            ("qmgr.dump", "Output of qmgr -c 'print server'; takes the place of the database, as --dump does."),
            ("mom_priv/config", "Nothing of it is set; each line is told with what there is instead."),
        ],
    }])
    .ends("0 when all was done, 1 for a damaged file or a refusal of the server, 2 when the command was misused.")
    .asks(Reach::ServerOnce),
    Page::admin(
        "doctor",
        "",
        &[
            "Examines the node that it is called on, and prints for each finding what is wrong, why it matters and the line \
             that mends it. Nothing is changed. It looks at the kernel, the cgroups, Docker (version, cgroup driver, live \
             restore), the NVIDIA driver, its module and the container toolkit, the site's volumes, the clock, names and \
             addresses, the server's port, and how full the disks of images and of the agent's state are.",
            "The agent does the same when it starts and writes the findings into its log. Call it as root: what only root \
             may see is missing otherwise.",
            "--json prints an object with node and findings; each finding has check (a short name that stays), weight \
             (broken or warning), what, why and mend.",
        ],
        &["pbsnodes", "momctl"],
    )
    .ends("0 when nothing is wrong, 1 when there are warnings only, 2 when something keeps jobs from running here, or when \
           the host could not be examined.")
    .asks(Reach::Nobody),
    Page::admin(
        "replay",
        "",
        &[
            "Makes a scheduling cycle of the past again, of the state of that time and by the code that decides now, and              prints what it decides: which jobs start where, and why each other job waits. What was stored of the cycle is              compared with it, and a difference is said.",
            "--at shows the cycle that was in force at a time: the last one that placed something, if nothing happened              between it and then, else what the state of that time makes of that time. TIME is 2026-11-22T14:03:05Z,              '2026-11-22 14:03:05' in the zone of this host, or seconds since 1970; without a fraction the end of that              second is meant.",
            "Only files of the store are read: the server may run meanwhile, and no lock is taken. It must be called by root              or by the server's user. How far back it can look is set by history_days (7) and history_bytes_max (1 GB) in              server.toml; a disk that is full takes the history first.",
        ],
        &["sim", "qmgr"],
    )
    .ends("0 when all is as it was stored, 1 when a decision is not or the store has nothing of that time, 2 when the            command was misused.")
    .asks(Reach::Nobody),
    Page::admin("sim", "TRACE...", crate::sim::TEXT, &["qmgr", "migrate"])
        .with(&[
            Part {
                title: "DESCRIPTION OF NODES",
                text: &["The file of --cluster has a line for each node or range of nodes:"],
                terms: crate::sim::CLUSTER_WORDS,
            },
            Part {
                title: "JSON",
                text: &["The object of --json has among others:"],
                terms: crate::sim::JSON_WORDS,
            },
            Part {
                title: "EXAMPLES",
                text: &[],
                terms: &[
                    (
                        "capstan sim /var/spool/capstan/server_priv/accounting --cluster ours.txt --against fair",
                        "What fair shares would have done to the jobs of this server.",
                    ),
                    (
                        "capstan sim philly.swf.gz:12000:8000 --policy easy --change backfill_depth=8",
                        "More reservations for those who wait, on a part of a public trace.",
                    ),
                ],
            },
        ])
        .ends("0 when it ran, 1 for a file that cannot be read or settings that are refused, 2 when the command was misused.")
        .asks(Reach::Nobody),
    Page::admin(
        "qmgr",
        "[SERVER...]",
        &[
            "Manages the server, its queues and its nodes: create, delete, set (=, += and -=), unset, list and print. \
             Commands come from -c, from standard input, or from a prompt; help at the prompt explains them.",
            "What print server prints makes the same server when it is fed back; print node likewise.",
            "Listing is for everybody; setting is for operators or managers, as the attribute wants.",
        ],
        &["qenable", "qstart", "pbsnodes", "qterm"],
    )
    .with(&[Part {
        title: "EXAMPLES",
        text: &[],
        terms: &[
            (
                "qmgr -c 'create queue long queue_type=Execution,enabled=True,started=True'",
                "A queue that takes and starts jobs.",
            ),
            (
                "qmgr -c 'set queue long resources_max.walltime = 168:00:00'",
                "No job in it may ask for more than a week.",
            ),
            ("qmgr -c 'set node gpu01 properties += a100'", "One property more."),
            ("qmgr -c 'print server' > server.qmgr", "A copy, which qmgr < server.qmgr reads."),
        ],
    }])
    .ends("0 when all was done, 1 for a command or an option that cannot be read, 2 when the server refused, 3 when it cannot be reached.")
    .asks(Reach::ServerOnce),
    Page::admin(
        "qenable",
        "QUEUE...",
        &["Lets queues take jobs. For operators."],
        &["qdisable", "qstart", "qmgr"],
    )
    .ends(EXIT_QUEUES)
    .asks(Reach::ServerOnce),
    Page::admin(
        "qdisable",
        "QUEUE...",
        &["Makes queues refuse new jobs; those that are in them go on. For operators."],
        &["qenable", "qstop", "qmgr"],
    )
    .ends(EXIT_QUEUES)
    .asks(Reach::ServerOnce),
    Page::admin(
        "qstart",
        "QUEUE...",
        &["Lets jobs of queues start. For operators."],
        &["qstop", "qenable", "qmgr"],
    )
    .ends(EXIT_QUEUES)
    .asks(Reach::ServerOnce),
    Page::admin(
        "qstop",
        "QUEUE...",
        &["Lets no more jobs of queues start; those that run go on. For operators."],
        &["qstart", "qdisable", "qmgr"],
    )
    .ends(EXIT_QUEUES)
    .asks(Reach::ServerOnce),
    Page::admin(
        "qterm",
        "[SERVER...]",
        &[
            "Ends the server. Running jobs go on, and are there when it starts again. For operators.",
        ],
        &["qmgr"],
    )
    .ends("0 when it ended, 1 when the command was misused, 2 when it did not end.")
    .asks(Reach::ServerOnce),
    Page::admin(
        "qgpumode",
        "",
        &[
            "Sets the compute mode of a card: 0 default, 1 exclusive thread, 2 prohibited, 3 exclusive process. For operators.",
        ],
        &["qgpureset", "pbsnodes"],
    )
    .ends("0 when it was done, 2 when not.")
    .asks(Reach::ServerOnce),
    Page::admin(
        "qgpureset",
        "",
        &["Resets the permanent or the volatile ECC error counts of a card. For operators."],
        &["qgpumode", "pbsnodes"],
    )
    .ends("0 when it was done, 2 when not.")
    .asks(Reach::ServerOnce),
    Page::admin(
        "tracejob",
        "JOB...",
        &[
            "Shows what the accounting log (A) and the server log (S) of the last days say about a job, in the order of \
             time. It reads the files, which are root's.",
        ],
        &["qstat"],
    )
    .ends("0 when something was found, 1 when not or when the command was misused.")
    .asks(Reach::Nobody),
    Page::admin(
        "momctl",
        "",
        &[
            "Asks the agents of nodes how they are, by way of the server. For root. What an agent cannot do is told with \
             what to do instead.",
        ],
        &["pbsnodes"],
    )
    .ends("0, also when a node does not answer, which is told; 1 when the command was misused or is not root's.")
    .asks(Reach::ServerOnce),
];
