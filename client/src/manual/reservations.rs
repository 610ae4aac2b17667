//! The pages of reservations.

use super::pages::{Page, Part};

const EXIT: &str = "0 when all was done, 2 when the command was misused, else the error number of PBS modulo 256: 159 not \
    allowed, 166 its nodes are not free in that time.";

pub(super) const PAGES: &[Page] = &[
    Page::admin(
        "pbs_rsub",
        "[HOST...]",
        &[
            "Sets nodes or cards aside for a time, and prints the id of the reservation. What -l asks for is chosen at once, as \
             for a job, of what is free in all of that time by the walltimes of running jobs and by other reservations; when \
             that is too little the refusal says when it would fit.",
            "Jobs of a reservation are those in its queue, which has its name: qsub -q R12. Who made it and those of -U and \
             -G may submit there. They start when it begins, on its nodes, and must end by their walltime before it ends; \
             what still runs then is stopped. No other job starts on its nodes that would run into it.",
            "With --maintenance whole nodes are kept free of jobs, with --dedicated of all jobs but those of some queues: the \
             nodes that are named as operands, by name or as :PROPERTY, or all. When jobs run there that may not be over \
             then, the command says which; with --force the reservation is made all the same and begins on each node when \
             its jobs end.",
            "For operators and managers; where the server has reservations_by_users = True, users reserve for their own jobs.",
        ],
        &["pbs_rstat", "pbs_rdel", "qsub", "pbsnodes"],
    )
    .with(&[
        Part {
            title: "TIMES",
            text: &[
                "Times are those of the clock where the command runs. With -r a reservation comes again by the part of RFC 5545 \
                 that has FREQ=DAILY or WEEKLY, INTERVAL, BYDAY, and COUNT or UNTIL, at most 500 times; --every says the same \
                 in plain words. It then begins at the same time of the server's clock, in summer and in winter.",
            ],
            terms: &[],
        },
        Part {
            title: "EXAMPLES",
            text: &[],
            terms: &[
                (
                    "pbs_rsub -N course -l nodes=2:gpus=4 --every='Mon,Wed 14:00-16:00 until 2027-01-31' -G students",
                    "Eight cards for a course, twice a week.",
                ),
                (
                    "pbs_rsub -R 1400 -D 2:00:00 -l select=1:ncpus=8:ngpus=2",
                    "Two cards of one node for two hours.",
                ),
                (
                    "pbs_rsub --maintenance -N cooling -R 12240800 -D 8:00:00 :hall2",
                    "The nodes with the property hall2 are empty on the morning of 24 December.",
                ),
            ],
        },
    ])
    .ends(EXIT),
    Page::admin(
        "pbs_rstat",
        "[RESERVATION...]",
        &[
            "Lists reservations: id, queue, owner, state, and the time that is or comes next. CO is confirmed, RN runs, DG has \
             a node that is down or offline.",
        ],
        &["pbs_rsub", "pbs_rdel"],
    )
    .ends(EXIT),
    Page::admin(
        "pbs_rdel",
        "RESERVATION...",
        &[
            "Takes reservations back, with all times to come. Jobs in their queues are deleted, and the queues with them. For \
             operators, and for who made them.",
        ],
        &["pbs_rsub", "pbs_rstat"],
    )
    .ends(EXIT),
];
