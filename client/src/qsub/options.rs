//! The options of `qsub` and its usage text, both as Torque 6.1.3 has them.

use crate::command::Failure;
use crate::getopt::Opt;

/// Every option letter. Directives in scripts are read by the same table.
pub(crate) const OPTIONS: &[Opt] = &[
    Opt::value(
        'a',
        "[[[[CC]YY]MM]DD]hhmm[.SS]",
        "Do not start the job before this time",
    ),
    Opt::value('A', "ACCOUNT", "Charge this account"),
    Opt::value(
        'b',
        "SECONDS",
        "Keep trying to reach the server for so long",
    ),
    Opt::value(
        'c',
        "WORDS",
        "Checkpoint words; kept and shown, without effect",
    ),
    Opt::value(
        'C',
        "PREFIX",
        "Read directives that begin with this, not with #PBS",
    ),
    Opt::value(
        'd',
        "FOLDER",
        "Start the job in this folder, not in the home folder",
    ),
    Opt::value('D', "FOLDER", "Tell the job this folder in PBS_O_ROOTDIR"),
    Opt::value('e', "[HOST:]PATH", "Write stderr of the job there"),
    Opt::flag('E', "Use whole nodes alone"),
    Opt::flag('f', "Ask for fault tolerance; kept, without effect"),
    Opt::value('F', "ARGUMENTS", "Arguments for the script, in one string"),
    Opt::flag('h', "Hold the job until it is released"),
    Opt::value(
        'i',
        "NUMBER",
        "Let so many members of an array wait in the queue",
    ),
    Opt::flag(
        'I',
        "Run the job interactively: this terminal becomes the job's",
    ),
    Opt::value('j', "oe|eo|n", "Join stdout and stderr in one file"),
    Opt::value(
        'J',
        "X-Y[:Z]",
        "Submit an array of jobs; with -P an id for the job",
    ),
    Opt::value(
        'k',
        "o|e|oe|n[d]",
        "Keep output in the home folder, default names",
    ),
    Opt::value('K', "SECONDS", "Time between SIGTERM and SIGKILL"),
    Opt::value('l', "NAME=VALUE[,...]", "Ask for resources"),
    Opt::value(
        'L',
        "REQUEST",
        "Ask for resources per task; refused, not there yet",
    ),
    Opt::value(
        'm',
        "n|p|[abef]",
        "Send mail when it aborts, begins, ends or fails",
    ),
    Opt::value('M', "USER[@HOST][,...]", "Send mail to these"),
    Opt::flag('n', "Use whole nodes alone"),
    Opt::value('N', "NAME", "Name of the job"),
    Opt::value('o', "[HOST:]PATH", "Write stdout of the job there"),
    Opt::value('p', "-1024..1023", "Priority among the jobs of the queue"),
    Opt::value('P', "USER[:GROUP]", "Submit for another user"),
    Opt::value('q', "[QUEUE][@SERVER]", "Submit to this queue"),
    Opt::value('r', "y|n", "Whether the job may be run again"),
    Opt::value(
        'R',
        "o|e|oe",
        "Remove these output files when the job has ended",
    ),
    Opt::value('S', "PATH[@HOST][,...]", "Shell that reads the script"),
    Opt::value('t', "INDICES[%SLOTS]", "Submit an array of jobs"),
    Opt::value(
        'T',
        "NAME",
        "Kind of job: the node's prologue.NAME and epilogue.NAME run around it",
    ),
    Opt::value('u', "USER[@HOST][,...]", "Run as this user"),
    Opt::value('v', "NAME[=VALUE][,...]", "Give the job these variables"),
    Opt::flag('V', "Give the job all variables"),
    Opt::value('w', "FOLDER", "Folder for output and PBS_O_WORKDIR"),
    Opt::value(
        'W',
        "NAME=VALUE[,...]",
        "Set more: depend, group_list, umask, stagein, x",
    ),
    Opt::flag('X', "Forward X11; checked, without effect"),
    Opt::flag('x', "Run the script inside the interactive job"),
    Opt::flag('z', "Do not print the id"),
    Opt::value(
        '-',
        "image NAME",
        "Run the script in a container of this image, as -W image=NAME does",
    ),
    Opt::value(
        '-',
        "explain",
        "Submit nothing; say what is wrong with the script, and whether and where it would start",
    ),
    Opt::value(
        '-',
        "dry-run",
        "Submit nothing; print the job that would be submitted, and the same",
    ),
    Opt::value(
        '-',
        "json",
        "Print what --explain and --dry-run say as JSON",
    ),
    Opt::value('-', "version|about", "Say which version this is"),
];

const USAGE: &str = "\
usage: qsub [-a date_time] [-A account_string] [-b secs]
    [-c [ none | { enabled | periodic | shutdown |
    depth=<int> | dir=<path> | interval=<minutes>}... ]
    [-C directive_prefix] [-d path] [-D path]
    [-e path] [-h] [-I] [-j oe|eo|n] [-k {oe}] [-K <kill delay seconds>] 
    [-l resource_list] [-m n|{abe}] [-M user_list] [-N jobname] [-o path] 
    [-p priority] [-P proxy_user [-J <jobid]] [-q queue] [-r y|n] 
    [-S path] [-t number_to_submit] [-T type]  [-u user_list] [-w] path
    [-W additional_attributes] [-v variable_list] [-V ] [-x] [-X] [-z] [script]
";

/// A mistake on the command line or in a directive: the reason in brackets, then the usage; exit status 2.
pub(crate) fn misuse(reason: &str) -> Failure {
    Failure::new(2, format!("[{reason}]\n\n{USAGE}"))
}

/// An option whose value is refused.
pub(crate) fn illegal(option: char) -> Failure {
    misuse(&format!("qsub: illegal -{option} value"))
}
