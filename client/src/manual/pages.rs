//! What the manual says beside the options, which it takes from the tables that the commands themselves read.

/// The words of one command's page.
pub(crate) struct Page {
    /// The command.
    pub(crate) name: &'static str,
    /// 1 for what users run, 8 for what administrators run.
    pub(crate) section: u8,
    /// What stands behind the options.
    pub(crate) operands: &'static str,
    /// What it does, paragraph by paragraph.
    pub(crate) text: &'static [&'static str],
    /// Related commands.
    pub(crate) see_also: &'static [&'static str],
}

impl Page {
    const fn user(
        name: &'static str,
        operands: &'static str,
        text: &'static [&'static str],
        see_also: &'static [&'static str],
    ) -> Self {
        Self {
            name,
            section: 1,
            operands,
            text,
            see_also,
        }
    }

    const fn admin(
        name: &'static str,
        operands: &'static str,
        text: &'static [&'static str],
        see_also: &'static [&'static str],
    ) -> Self {
        Self {
            name,
            section: 8,
            operands,
            text,
            see_also,
        }
    }
}

/// Every page.
pub(crate) const PAGES: &[Page] = &[
    Page::user(
        "qsub",
        "[SCRIPT | -- COMMAND [ARGUMENT...]]",
        &[
            "Submits a script as a job and prints the job's id. Without a script, or with -, the script is read from \
             standard input. Lines of the script that begin with #PBS, up to the first line that is executed, hold \
             options as well; options on the command line win.",
            "Cards are asked for with -l nodes=1:gpus=2 (or -l gpus=2); slots with -l nodes=1:ppn=8; time with \
             -l walltime=04:00:00. A request that the cluster can never satisfy is refused at once. The script runs in \
             a login shell in the home folder; its output is written to NAME.oN and NAME.eN in the folder of submission.",
            "In the dialect of PBS Pro, -l select=2:ncpus=8:ngpus=4:mem=32gb with -l place=scatter, and arrays by \
             -J 0-99:2, are understood as well.",
        ],
        &["qstat", "qdel", "qalter", "startdocker"],
    ),
    Page::user(
        "qstat",
        "[JOB... | QUEUE... | @SERVER...]",
        &[
            "Lists jobs, queues (-Q, -q) or the server (-B). Without operands it lists all jobs. Jobs that have ended \
             are listed in state C for some minutes. When there is nothing to list, nothing is printed.",
            "States: Q waits, H is held, W waits for its time, R runs, S is suspended, E is ending, C has ended.",
            "-x lists as XML, --json and -F json as JSON; both are written as they come, however many jobs there are.",
        ],
        &["qsub", "qselect", "pbsnodes"],
    ),
    Page::user(
        "qdel",
        "JOB... | all",
        &[
            "Deletes jobs. A job that runs is sent SIGTERM and, after a time (-W, else the queue's or the server's \
             kill_delay), SIGKILL; its exit status is 271. A job that waits ends at once.",
        ],
        &["qsub", "qstat", "qsig"],
    ),
    Page::user(
        "qhold",
        "JOB...",
        &[
            "Holds jobs so that they do not start. A hold on a job that runs counts when it is run again. Users set \
             and release user holds (u), operators also o, managers also s.",
        ],
        &["qrls", "qalter"],
    ),
    Page::user(
        "qrls",
        "JOB...",
        &["Releases holds of jobs. A job without holds waits in its queue."],
        &["qhold"],
    ),
    Page::user(
        "qalter",
        "JOB...",
        &[
            "Changes jobs. Of a job that runs the owner may change its name, its mail, its holds, its output paths and \
             may lower its limits; managers may raise them.",
            "-v replaces the whole list of variables.",
        ],
        &["qsub", "qhold", "qmove"],
    ),
    Page::user(
        "qmove",
        "QUEUE JOB...",
        &["Moves jobs that do not run to another queue, whose defaults and limits then hold."],
        &["qalter", "qorder"],
    ),
    Page::user(
        "qsig",
        "JOB...",
        &[
            "Sends a signal to the processes and containers of running jobs: a name with or without SIG, a number, or \
             (operators) suspend and resume. The default is SIGTERM.",
        ],
        &["qdel", "qrerun"],
    ),
    Page::user(
        "qrerun",
        "JOB... | all",
        &[
            "Ends the attempts of running jobs and puts the jobs back into their queues. For operators.",
        ],
        &["qdel", "qrun"],
    ),
    Page::admin(
        "qrun",
        "JOB...",
        &[
            "Starts jobs now, on nodes of the scheduler's choice or on those of -H, held or not. -H replaces the job's \
             own request for nodes. For operators.",
        ],
        &["qrerun", "qstart"],
    ),
    Page::user(
        "qselect",
        "",
        &[
            "Prints the ids of the jobs that meet all criteria, one a line; members of arrays one by one. A value may \
             follow an operator: .eq. .ne. .ge. .gt. .le. .lt.",
        ],
        &["qstat", "qdel"],
    ),
    Page::user(
        "qorder",
        "JOB JOB",
        &["Exchanges the places of two jobs that do not run."],
        &["qmove", "qalter"],
    ),
    Page::user(
        "qmsg",
        "TEXT JOB...",
        &["Appends a line to the output of running jobs."],
        &["qsig", "qpeek"],
    ),
    Page::user(
        "qchkpt",
        "JOB...",
        &["Asks for a checkpoint of jobs. Jobs cannot be checkpointed here, so it always refuses."],
        &["qhold"],
    ),
    Page::user(
        "qpeek",
        "JOB",
        &["Shows what a running job has written so far."],
        &["qstat", "qmsg"],
    ),
    Page::user(
        "pbsdsh",
        "PROGRAM [ARGUMENT...]",
        &[
            "Runs a program on the slots of a job, on all its nodes, and waits for it. Works only inside a job. What \
             the program writes is what pbsdsh writes.",
        ],
        &["qsub", "pbs_track"],
    ),
    Page::user(
        "pbs_track",
        "[-- PROGRAM [ARGUMENT...]]",
        &[
            "Makes a process part of a job of the same user on this node, so that it ends with the job.",
        ],
        &["pbsdsh"],
    ),
    Page::user(
        "startdocker",
        "IMAGE [COMMAND...]",
        &[
            "Runs a program in a container of the job, with the job's cards and the user's home, data and public \
             folders. Works only inside a job. Nobody needs to be in a docker group.",
        ],
        &["qsub"],
    ),
    Page::admin(
        "pbsnodes",
        "[NODE... | :PROPERTY]",
        &[
            "Lists nodes, takes them out of service (-o) and puts them back (-c, -r), and keeps notes on them (-N, -A). \
             Listing is for everybody, the rest for operators.",
            "-l lists the nodes that are down or offline, or those in the state that follows.",
        ],
        &["qmgr", "qstat", "momctl"],
    ),
    Page::admin(
        "migrate",
        "",
        &[
            "Called as capstan migrate --from-torque DIR. Reads the home folder of a Torque (nodes, server, queues, access \
             lists, or a dump of qmgr) and prints the orders of qmgr that set this server up alike. What is taken over, \
             what has no effect here and what is left out is told on standard error, each with file, line and reason.",
            "Everything is read and checked before anything is printed or applied: a damaged file ends the command. With \
             --apply the orders are carried out one by one; the first refusal ends it and says how far it came. Queues \
             and nodes that are there already get the attributes; running it again does no harm.",
        ],
        &["qmgr", "pbsnodes"],
    ),
    Page::admin(
        "qmgr",
        "[SERVER...]",
        &[
            "Manages the server, its queues and its nodes: create, delete, set (=, += and -=), unset, list and print. \
             Commands come from -c, from standard input, or from a prompt. What print server prints makes the same \
             server when it is fed back.",
            "Listing is for everybody; setting is for operators or managers, as the attribute wants.",
        ],
        &["qenable", "qstart", "pbsnodes", "qterm"],
    ),
    Page::admin(
        "qenable",
        "QUEUE...",
        &["Lets queues take jobs. For operators."],
        &["qdisable", "qstart", "qmgr"],
    ),
    Page::admin(
        "qdisable",
        "QUEUE...",
        &["Makes queues refuse new jobs; those that are in them go on. For operators."],
        &["qenable", "qstop", "qmgr"],
    ),
    Page::admin(
        "qstart",
        "QUEUE...",
        &["Lets jobs of queues start. For operators."],
        &["qstop", "qenable", "qmgr"],
    ),
    Page::admin(
        "qstop",
        "QUEUE...",
        &["Lets no more jobs of queues start; those that run go on. For operators."],
        &["qstart", "qdisable", "qmgr"],
    ),
    Page::admin(
        "qterm",
        "[SERVER...]",
        &[
            "Ends the server. Running jobs go on, and are there when it starts again. For operators.",
        ],
        &["qmgr"],
    ),
    Page::admin(
        "qgpumode",
        "",
        &[
            "Sets the compute mode of a card: 0 default, 1 exclusive thread, 2 prohibited, 3 exclusive process.",
        ],
        &["qgpureset", "pbsnodes"],
    ),
    Page::admin(
        "qgpureset",
        "",
        &["Resets the permanent or the volatile ECC error counts of a card."],
        &["qgpumode", "pbsnodes"],
    ),
    Page::admin(
        "tracejob",
        "JOB...",
        &[
            "Shows what the accounting log (A) and the server log (S) of the last days say about a job, in the order of \
             time. It reads the files, which are root's.",
        ],
        &["qstat"],
    ),
    Page::admin(
        "momctl",
        "",
        &["Asks the agent of a node how it is."],
        &["pbsnodes"],
    ),
];

/// The page of this command.
pub(crate) fn page(name: &str) -> Option<&'static Page> {
    PAGES.iter().find(|page| page.name == name)
}
