//! The pages of what users run.

use super::pages::{DIALECT, Page, Part, Reach};
use super::qsub;

pub(super) const PAGES: &[Page] = &[
    Page::user(
        "qsub",
        "[SCRIPT | -- COMMAND [ARGUMENT...]]",
        qsub::TEXT,
        &[
            "qstat", "qdel", "qalter", "qhold", "qselect", "pbsdsh", "startdocker",
        ],
    )
    .with(qsub::PARTS)
    .ends(qsub::EXIT)
    .heeds(qsub::ENVIRONMENT),
    Page::user(
        "qstat",
        "[JOB... | QUEUE... | @SERVER...]",
        &[
            "Lists jobs, queues (-Q, -q) or the server (-B). Without operands it lists all jobs. Jobs that have ended \
             are listed in state C for some minutes. When there is nothing to list, nothing is printed. An array is one \
             line; -t lists its members.",
            "-x lists as XML, --json and -F json as JSON; both are written as they come, however many jobs there are. \
             -F json and -F dsv speak as PBS Pro does.",
        ],
        &["qsub", "qselect", "pbsnodes"],
    )
    .with(&[Part {
        title: "STATES",
        text: &[],
        terms: &[
            ("Q", "Waits."),
            ("H", "Is held: by qhold, by a condition on another job, or by the limit of its array."),
            ("W", "Waits for its time (qsub -a)."),
            ("R", "Runs."),
            ("S", "Is suspended: it keeps what it has, and its processes stand still."),
            ("E", "Is ending."),
            ("C", "Has ended. In the dialect of PBS Pro F, and X for a member of an array."),
        ],
    }])
    .heeds(&[
        DIALECT,
        (
            "PBS_QSTAT_EXECONLY",
            "When set, only jobs in execution queues are listed, as with -e.",
        ),
    ]),
    Page::user(
        "qwhy",
        "[JOB...]",
        &[
            "Says why a job waits: all that keeps it from starting, what it lacks and on which nodes, which jobs hold that and \
             until when, its place in line and what the place was made of, when it will start, and what to change so that it \
             starts now. Each change that is told has been tried on a copy of the cluster's state.",
            "A start is firm when nodes are reserved from then on: only a job with a higher score that comes later may put it \
             off. Else it is reckoned from the jobs before it in line and how long such jobs have run. 80 % likely by a time \
             means that four of five jobs that were told such a time have started by it, as the server counts.",
            "Without an operand it lists your waiting jobs, a line for each. Of a job that has started it says what it waited \
             for, and how long.",
        ],
        &["qstat", "qalter", "qmove"],
    )
    .ends(
        "0 when all jobs were told of, 1 for an operand that is no job id, 2 when the command was misused. When the server \
         refused, the error number of PBS modulo 256: 153 unknown job, 159 not allowed.",
    ),
    Page::user(
        "qdel",
        "JOB... | all",
        &[
            "Deletes jobs. A job that runs is sent SIGTERM and, after a time (-W, else qsub -K, else the queue's or the \
             server's kill_delay), SIGKILL; its exit status is 271. A job that waits ends at once. 7[] is a whole array, \
             7[3] one member; -t 2-4 names some members of 7[].",
            "Users delete their own jobs, operators everybody's. An owner whose job somebody else deletes is told by mail.",
        ],
        &["qsub", "qstat", "qsig"],
    )
    .ends(
        "0 when all was done, 1 for an operand that is no job id, 2 when the command was misused. When the server refused, \
         the error number of PBS modulo 256: 153 unknown job, 159 not allowed, 170 wrong state.",
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
            "Changes jobs that wait or run. An option replaces what the job was submitted with; -l NAME= and -l NAME alone \
             take a limit away.",
            "Of a job that waits nearly everything may be changed. Of one that runs: its name, priority, holds, start time, \
             output paths, mail, variables, shell, whether it may be run again, and limits such as walltime, cput and mem, \
             which its owner may lower and operators may raise.",
            "-v replaces the whole list of variables; it is for whole jobs and whole arrays. Of an array -t 3-5 names the \
             members that change, and -t %2 sets how many may run at once.",
            "-W takes depend, stagein, stageout, group_list and other attributes by name; depend replaces all conditions.",
        ],
        &["qsub", "qhold", "qmove"],
    )
    .heeds(&[(
        "CAPSTAN_DIALECT",
        "With pbspro quotes in -v keep commas together, with torque they do not.",
    )]),
    Page::user(
        "qmove",
        "QUEUE[@SERVER] JOB...",
        &[
            "Moves jobs that do not run to the end of another queue. What the old queue gave them by default goes, and the \
             defaults and limits of the new one hold.",
        ],
        &["qalter", "qorder"],
    ),
    Page::user(
        "qsig",
        "JOB...",
        &[
            "Sends a signal to the processes and containers of running jobs: a name with or without SIG, a number, or \
             (operators) suspend and resume. The default is SIGTERM.",
            "A suspended job keeps its nodes, slots and cards, and is listed in state S.",
        ],
        &["qdel", "qrerun"],
    ),
    Page::user(
        "qrerun",
        "JOB... | all",
        &[
            "Ends the attempts of running jobs and puts the jobs back into their queues. For operators. all asks first, and \
             goes past nodes that do not answer.",
        ],
        &["qdel", "qrun"],
    ),
    Page::user(
        "qselect",
        "",
        &[
            "Prints the ids of the jobs that meet all criteria, one a line; members of arrays one by one. A value may \
             follow an operator: .eq. .ne. .ge. .gt. .le. .lt.",
        ],
        &["qstat", "qdel"],
    )
    .with(&[Part {
        title: "EXAMPLES",
        text: &[],
        terms: &[
            ("qdel $(qselect -u $USER -s Q)", "Deletes all own jobs that wait."),
            (
                "qselect -l walltime.gt.24:00:00 -q batch",
                "Jobs in batch that asked for more than a day.",
            ),
        ],
    }])
    .ends("0, also when no job meets the criteria; 2 when the command was misused; else the error number of PBS modulo 256.")
    .heeds(&[(
        "PBS_QSTAT_EXECONLY",
        "When set, only jobs in execution queues are looked at, as with -e.",
    )]),
    Page::user(
        "qimages",
        "[PART]",
        &[
            "Lists the images that nodes hold, with the short names that the site offers for them and the nodes that have \
             them; with PART only those that have it in their name. A short name that ends with / stands for the beginning \
             of names: @site/torch is torch in the site's registry.",
            "The image of a job (qsub -W image=) is pulled while the job waits and holds nothing; comment and image_state of \
             qstat -f say how far that is. One that startdocker names is pulled then; the job's stderr says so. Registries that ask for an account are answered with that of your own \
             ~/.docker/config.json (docker login), else with the site's.",
            "Nodes tell of 200 images each at most, and once a minute at most. What came by users' own accounts is listed for \
             those users, managers and operators only.",
        ],
        &["startdocker", "qsub", "pbsnodes"],
    )
    .ends("0; 2 when the command was misused; else the error number of PBS modulo 256."),
    Page::user(
        "qfair",
        "",
        &[
            "Shows the fair share: what each group and each user has used of late, what is theirs, and whose turn it is. \
             Use is counted in card-hours, each card weighted by its type (fairshare_card_weights); a job without cards \
             counts by its cores (fairshare_core_weight). Use is forgotten half by half (fairshare_half_life). Running jobs \
             count by what they have used so far.",
            "Shares are set with qmgr (fairshare_shares), of groups among each other and of users within their group; who \
             has none set has 1. Where the manager lets users see their own jobs only, they see their own line only.",
        ],
        &["qstat", "qmgr"],
    )
    .with(&[Part {
        title: "COLUMNS",
        text: &[],
        terms: &[
            ("Shares, Part", "The share, and which part of all shares it is: of a user, of those in his group."),
            ("Card-hours, Part", "What was used and is not forgotten, and which part of all use it is."),
            ("Ratio", "Part of the use over part of the shares, among those who have waiting jobs. 1 is exactly the share."),
            ("Factor", "What the order of jobs looks at: 1 is owed most, 0.5 is exactly the share, 0 is far ahead of it."),
            ("Standing", "owed, even or ahead; idle without jobs that wait."),
        ],
    }]),
    Page::user(
        "chk_gpu",
        "[NODE]",
        &[
            "Lists all jobs, those that run first, a line each with the request and the cards that each has (qstat --cards shows \
             the same), and draws all cards, by model and node: [ ] is free, [x] is lent to a job, [!] is out of use or on a \
             node that is down. Behind a model stand the words by which jobs ask for its nodes (nodes=1:gpus=2:WORD). Only \
             what pbsnodes and qstat show to everybody is looked at.",
        ],
        &["chk_gpuused", "chk_res", "pbsnodes", "qstat"],
    ),
    Page::user(
        "qgpu",
        "[NODE]",
        &["Draws which cards are free: chk_gpu by another name."],
        &["chk_gpu"],
    ),
    Page::user(
        "qreport",
        "",
        &["Shows what was used in a month: get_report by another name."],
        &["get_report"],
    ),
    Page::user(
        "getallreposimages",
        "[PART]",
        &["Lists images and which nodes have them: qimages by the name that home-made clusters have."],
        &["qimages"],
    ),
    Page::user(
        "chk_gpuused",
        "[NODE]",
        &[
            "Lists every card with its load, memory and temperature by the last heartbeat of its node, and the job that has \
             it. Below the cards of a node stands what an administrator should know of it, such as why a card is out of use.",
        ],
        &["chk_gpu", "chk_res", "pbsnodes"],
    ),
    Page::user(
        "chk_res",
        "NODE [USER]",
        &[
            "Shows load and memory of a node, and of each job on it (of one user, if named) what it uses: processor time and \
             share of a core, memory, load and memory of its cards.",
        ],
        &["chk_gpuused", "qstat"],
    ),
    Page::user(
        "k_log",
        "[NODE...]",
        &[
            "Shows what the kernel of each node (of this host, when none is named) complained of in the last five minutes: \
             errors of cards (XID), processes that were killed for want of memory, errors of the kernel itself (SLUB, BUG, \
             stuck processors), of file servers, disks and memory, and programs that crashed. Behind each stands the job that \
             it names; where the kernel names nobody, the jobs that ran there at the time.",
            "Everybody sees what concerns the whole node and their own jobs. Of another's job only the kind is told; \
             operators see all. The node keeps the last 1000 complaints since its agent was started, and those from before \
             that the kernel still has.",
        ],
        &["chk_gpu", "chk_res", "pbsnodes"],
    )
    .ends("0; 2 when the command was misused; else the error number of PBS modulo 256."),
    Page::user(
        "get_report",
        "",
        &[
            "Lists by group and user what jobs used that ended in a month: jobs, those of them that failed, hours, core-hours \
             and card-hours (hours times the cores or cards that the job had). The sums are those of the accounting log, at most \
             a minute old; in those of this month stands also what jobs that still run have used so far, from their start.",
            "Where the manager lets users see their own jobs only, they see their own line only.",
        ],
        &["qfair", "qstat"],
    )
    .ends("0; 2 when the command was misused; else the error number of PBS modulo 256."),
    Page::user(
        "qorder",
        "JOB JOB",
        &[
            "Exchanges the places of two jobs that do not run; of jobs in different queues also the queues.",
        ],
        &["qmove", "qalter"],
    ),
    Page::user(
        "qmsg",
        "TEXT JOB...",
        &[
            "Appends a line to the stderr (-E, the default) or stdout (-O) of running jobs. The text is one argument, of \
             at most 256 bytes.",
        ],
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
        &[
            "Shows what a running job has written so far, without waiting for its end. -f goes on until the job ends.",
        ],
        &["qstat", "qmsg"],
    )
    .ends("0 when it was shown, 2 when the command was misused, 255 without a job id or for a job that does not run, else the error number of PBS modulo 256."),
    Page::user(
        "qlog",
        "JOB",
        &[
            "Shows all that a running job has written so far, wherever the user is logged in: the node is asked, and no file \
             system has to be shared. -f goes on until the job ends. Of a job that has ended the files of -o and -e have it.",
        ],
        &["qpeek", "dockerlog", "qstat"],
    )
    .ends("0 when it was shown, 2 when the command was misused, 255 for a job that does not run, else the error number of PBS modulo 256."),
    Page::user(
        "qattach",
        "JOB",
        &[
            "Returns to the terminal of an interactive job (qsub -I) whose connection was lost or left, from anywhere on the \
             cluster. The last of what was shown is shown again, and programs that fill the screen draw it anew. One \
             terminal at a time has the session: who had it before is told so.",
            "A session lives on for half an hour without a terminal, or as long as the site says (interactive_keep); it ends \
             with its shell, by qdel, and where the site limits that (interactive_idle) when no key was typed and no card \
             worked for a time, of which it is warned.",
            "Keys at the beginning of a line, as in qsub -I: ~d leaves the session, which goes on; ~. ends the job; ~^Z \
             stops the command for now; ~~ is a ~; ~? lists them.",
        ],
        &["qsub", "qexec", "qdel"],
    )
    .ends("0 when the session ended or was left, 1 when somebody else took it or it was lost, 2 when the command was misused, else the error number of PBS modulo 256."),
    Page::user(
        "qexec",
        "JOB [COMMAND [ARGUMENT...]]",
        &[
            "Runs a program in a running job of the caller's, without one a login shell: on the job's node, within its cores, \
             memory and cards, with its variables and in its folder; in its container when the job is one. On a terminal \
             the program has a terminal; else input, output and errors are three streams.",
            "What is started so ends with the job at the latest, and when qexec does; while agent or server are restarted it \
             goes on, and so does qexec. Keys at the beginning of a line on a terminal: ~. ends the program, ~^Z stops qexec \
             for now, ~~ is a ~, ~? lists them. Options stand in front of the job: \
             what is behind it is the program's.",
        ],
        &["qattach", "pbsdsh", "qsig"],
    )
    .ends("That of the program, 128 and the number of the signal that ended it; 255 when it did not run, 2 when the command was misused, else the error number of PBS modulo 256."),
    Page::user(
        "dockerlog",
        "JOB",
        &["Shows what a running job has written, and goes on until it ends: qlog -f by the name that home-made clusters have."],
        &["qlog", "qpeek"],
    )
    .ends("0 when it was shown, 2 when the command was misused, 255 for a job that does not run, else the error number of PBS modulo 256."),
    Page::user(
        "pbsdsh",
        "PROGRAM [ARGUMENT...]",
        &[
            "Runs a program on the places of a job, one for each slot, on all its nodes, and waits for it. Works only \
             inside a job. What the program writes goes to the files of the job; with -o to where pbsdsh itself writes.",
            "While an agent or the server is restarted the tasks go on, and pbsdsh waits: nothing that they write is lost.",
            "In a job with cards, or whose script exports MASTER_ADDR, each task finds its number in RANK and PADDLE_TRAINER_ID, how many the call counts in WORLD_SIZE and \
             PADDLE_TRAINERS_NUM, and the same for its host in LOCAL_RANK and LOCAL_WORLD_SIZE; a job with \
             cards has MASTER_ADDR and MASTER_PORT. What -e and -E name wins. With -n or -h a task keeps the \
             number that it has among all. With -k the first task that fails is named and ends the others; its exit \
             status is that of pbsdsh.",
        ],
        &["qsub", "pbs_track"],
    )
    .ends("0; with -k that of the first task that failed; 1 when pbsdsh was misused or does not run in a job.")
    .asks(Reach::Agent),
    Page::user(
        "pbs_track",
        "[-- PROGRAM [ARGUMENT...]]",
        &[
            "Makes a process part of a job of the same user on this node, so that it ends with the job.",
        ],
        &["pbsdsh"],
    )
    .ends("That of the program; 1 for a job id or a process id that is none, 2 when the command was misused, 255 when the agent refused.")
    .asks(Reach::Agent),
    Page::user(
        "startdocker",
        "[-u \"DOCKER OPTIONS\"] [-D DATA_DIR] [-P PROC_DIR] (-s SCRIPT | -c \"COMMAND LINE\") IMAGE",
        &[
            "Runs a program in a container of the job, with the job's cards and the user's home, data and public \
             folders. Works only inside a job. Nobody needs to be in a docker group.",
        ],
        &["qsub"],
    )
    .with(&[Part {
        title: "OPTIONS",
        text: &[],
        terms: &[
            ("-c \"COMMAND LINE\"", "Run this."),
            (
                "-s SCRIPT",
                "Run this file. A relative path is taken from -P, else from the home folder, else from here.",
            ),
            ("-P DIR, -D DIR", "Mount this folder of code, of data, at its own path."),
            (
                "-u \"DOCKER OPTIONS\"",
                "As of docker run, as far as the site allows; what is refused is refused with the reason. Accepted are -i -t \
                 --rm --init -v --mount type=bind -w -e --env-file --shm-size --tmpfs --ulimit --name -h --entrypoint \
                 --read-only --add-host --dns -m --cpus --network --stop-signal -l --group-add -u. --ipc=host and --gpus \
                 are answered by the job's own memory and cards.",
            ),
        ],
    }])
    .ends("That of the program; 125 when no container was started.")
    .asks(Reach::Agent),
];
