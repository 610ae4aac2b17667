//! What the manual says about `qsub`: what can be asked for, in which forms, and by which files and variables.

use super::pages::{DIALECT, Part, Term};

pub(super) const TEXT: &[&str] = &[
    "Submits a script as a job and prints the job's id. Without a script, or with -, the script is read from standard \
     input; behind -- stands a command that is run instead. The script is copied: it may be changed at once.",
    "A request that the cluster can never satisfy is refused at once. The script runs in a login shell in the home \
     folder (-d names another); its output is written, while it runs, to NAME.oN and NAME.eN in the folder of submission. \
     Paths of -o and -e may name $PBS_JOBID and the like; a folder asks for the default names in it.",
];

pub(super) const EXIT: &str = "0 when the job was accepted. 1 to 4 when qsub itself refused: a script or filter that is \
     no good, a value that is none, a folder that is not there, requests that exclude each other. When the server refused, the \
     error number of PBS modulo 256. With -W block=true that of the job, 128 and the signal when one ended it.";

pub(super) const ENVIRONMENT: &[Term] = &[
    DIALECT,
    (
        "CAPSTAN_TORQUE_CFG",
        "Another torque.cfg. It must belong to root or to the owner of the program, as every torque.cfg.",
    ),
    (
        "PBS_DPREFIX",
        "In the dialect pbspro: what directives begin with, unless -C says so.",
    ),
    (
        "PBS_O_HOME, PBS_O_PATH, PBS_O_WORKDIR and others",
        "What the job sees of the place of submission.",
    ),
];

pub(super) const PARTS: &[Part] = &[
    Part {
        title: "INTERACTIVE JOBS",
        text: &[
            "With -I this terminal becomes the job's when it starts: a login shell on the job's node, inside its container with \
             -W image=. Of a script the directives count, and it is not run; -x runs a program in place of the shell. Ctrl-C \
             before the job starts asks whether it is to be deleted. X11 is not forwarded (-X).",
            "The session goes on when the terminal is lost, for half an hour or as long as the site says; qattach returns to \
             it. Such a job is never run again. The exit status of qsub is 0 when the session has ended or was left.",
        ],
        terms: &[
            (
                "~d",
                "At the beginning of a line: leave the session, which goes on.",
            ),
            ("~.", "End the job."),
            ("~^Z", "Stop qsub for now."),
            ("~~, ~?", "A ~; which keys there are."),
        ],
    },
    Part {
        title: "DIRECTIVES",
        text: &[
            "Lines of the script that begin with #PBS (-C names another beginning) hold options as well, up to the first line \
             that a shell would run. Options on the command line win; of -l each resource by itself.",
        ],
        terms: &[],
    },
    Part {
        title: "RESOURCES",
        text: &["-l may be given more than once; commas separate its parts."],
        terms: &[
            (
                "nodes=N[:ppn=SLOTS][:gpus=CARDS][:PROPERTY...][+...]",
                "So many nodes, each with so many slots, cards and all these properties. Instead of N stands the name of a \
                 node or a property. + adds nodes of another kind.",
            ),
            ("gpus=N", "So many cards on one node."),
            (
                "ncpus=N, procs=N",
                "Slots on one node; slots wherever they are.",
            ),
            (
                "mem=SIZE, pmem, vmem, pvmem",
                "Memory: a number with b, kb, mb, gb or tb.",
            ),
            (
                "walltime=TIME, cput=TIME",
                "Seconds, MM:SS, HH:MM:SS or DD:HH:MM:SS.",
            ),
            (
                "select=[N:]ncpus=C[:ngpus=G][:mem=SIZE][:mpiprocs=P][:host=NAME][+...]",
                "PBS Pro's request: N chunks, each a part of one host. NAME=True asks for a property.",
            ),
            (
                "place=pack|scatter|free|vscatter[:excl][:group=...]",
                "Where chunks go: on one host, each on another, or anywhere; excl takes whole nodes.",
            ),
        ],
    },
    Part {
        title: "ARRAYS",
        text: &[
            "-t 0-9,20%5 submits eleven members, of which at most five run at once; their id is 7[], a member's 7[3]. \
             Commands take both. Each member finds its number in PBS_ARRAYID. -i bounds how many wait in the queue at once.",
            "-J 0-99:2 is PBS Pro's form, with a step.",
        ],
        terms: &[],
    },
    Part {
        title: "ATTRIBUTES OF -W",
        text: &["NAME=VALUE[,NAME=VALUE...]; any attribute of a job may be named."],
        terms: &[
            (
                "depend=TYPE:JOB[:JOB...][,...]",
                "after: they have started; afterok: ended well; afternotok: ended badly; afterany: ended. before, beforeok, \
                 beforenotok, beforeany: those jobs wait for this one. afterstartarray, afterokarray, afternotokarray, \
                 afteranyarray: the same of an array, 7[], or of so many members, 7[][3]. on:N: until N jobs that name it \
                 in a before have let it go. synccount:N and syncwith:JOB: start together.",
            ),
            (
                "stagein=LOCAL@HOST:REMOTE[,...], stageout=...",
                "Files that are copied to the node before the job and from it behind it, as the user: by cp where HOST is the \
                 node itself, by scp elsewhere.",
            ),
            (
                "image=NAME",
                "Run the script in a container of this image, as --image NAME does: with the cards and mounts that \
                 startdocker gives. The image is pulled before the job holds anything; when it cannot be had the job is \
                 held in the end, and its comment says why. qalter -W image= names another.",
            ),
            (
                "signal=NAME@SECONDS",
                "A signal so many seconds before the walltime ends, for whatever of the job catches it: the script, its \
                 programs, the main processes of its containers. Never in the first half of the walltime.",
            ),
            (
                "gang=end|keep",
                "End the job with the first of its tasks under pbsdsh that fails, or go on, which is what happens when nothing \
                 is said. The first that failed is in exit_cause of qstat -f.",
            ),
            (
                "umask=MASK",
                "Mask of files that the job makes; a number that begins with 0 is octal, another decimal.",
            ),
            (
                "group_list=GROUP",
                "Run the job with this group of the user's.",
            ),
            (
                "block=true",
                "Wait for the end of the job, and end as it did.",
            ),
            ("x=TEXT", "Kept and shown."),
        ],
    },
    Part {
        title: "EXAMINING A SCRIPT",
        text: &[
            "--explain and --dry-run submit nothing. Each option of the script and of the command line is looked at by \
             itself, so that all errors are told, with file, line, column and a caret under the spot; what has no effect \
             (given twice, behind the first command, nearly a directive) and what is probably a mistake is told as a \
             warning. Then the server is asked: by the code that would take the job and start it, on a copy of what it \
             knows.",
            "--explain says first whether the job would start now, on which nodes, or why it would wait; --dry-run prints \
             the job as qstat -f would show it, with all defaults. Both end with the status that qsub would end with; \
             warnings change nothing. With --json all of it is one object.",
        ],
        terms: &[],
    },
    Part {
        title: "SUBMIT FILTER",
        text: &[
            "A site may have a program that every script goes through (SUBMITFILTER of torque.cfg, else \
             /usr/local/sbin/torque_submitfilter if it is there). It runs as the user, gets the arguments of qsub and the script \
             on standard input, and what it prints is the script that is submitted. Status 255 refuses the job, any other than \
             0 is an error.",
        ],
        terms: &[],
    },
    Part {
        title: "FILES",
        text: &[
            "torque.cfg beside the programs (../etc/torque.cfg), else /etc/capstan/torque.cfg: KEY VALUE, a line each. It counts \
             only when it belongs to root or to the owner of the program, and nobody else may write it.",
        ],
        terms: &[
            ("SUBMITFILTER PATH", "The submit filter."),
            (
                "CLIENTRETRY SECONDS",
                "How long commands try to reach the server.",
            ),
            (
                "VALIDATEPATH false",
                "Do not look whether the folder of -d exists here.",
            ),
            (
                "RERUNNABLEBYDEFAULT false",
                "Jobs that do not say are not run again.",
            ),
            (
                "FAULTTOLERANTBYDEFAULT true",
                "As -f of jobs that do not say.",
            ),
            ("DEFAULTCKPT WORDS", "As -c of jobs that do not say."),
            (
                "QSUBHOST NAME",
                "The submitting host in PBS_O_HOST and in paths of -o and -e, instead of its own name.",
            ),
            ("HOST_NAME_SUFFIX TEXT", "Goes behind it."),
            (
                "QSUBSENDUID true",
                "Jobs find the number of their user in PBS_O_UID.",
            ),
            (
                "QSUBSENDGROUPLIST true",
                "The user's login group is sent as group_list.",
            ),
            ("XAUTHPATH PATH", "Where xauth is, for -X."),
        ],
    },
];
