//! The options of `qalter` and its usage text, both as Torque 6.1.3 has them.

use crate::getopt::Opt;

/// Every option letter.
pub(crate) const OPTIONS: &[Opt] = &[
    Opt::value(
        'a',
        "[[[[CC]YY]MM]DD]hhmm[.SS]",
        "Do not start the job before this time",
    ),
    Opt::value('A', "ACCOUNT", "Charge this account"),
    Opt::value(
        'c',
        "WORDS",
        "Checkpoint words; kept and shown, without effect",
    ),
    Opt::value('e', "[HOST:]PATH", "Write stderr of the job there"),
    Opt::value('h', "n|[uos]", "Hold the job in these ways, or in none"),
    Opt::value('j', "oe|eo|n", "Join stdout and stderr in one file"),
    Opt::value(
        'k',
        "o|e|oe|n",
        "Keep output in the home folder, default names",
    ),
    Opt::value('l', "NAME=VALUE[,...]", "Ask for other resources"),
    Opt::value('L', "REQUEST", "Refused: a request by tasks stays as it is"),
    Opt::value(
        'm',
        "n|p|[abef]",
        "Send mail when it aborts, begins, ends or fails",
    ),
    Opt::value('M', "USER[@HOST][,...]", "Send mail to these"),
    Opt::value('n', "y|n", "Whether whole nodes are used alone"),
    Opt::value('N', "NAME", "Name of the job; begins with a letter"),
    Opt::value('o', "[HOST:]PATH", "Write stdout of the job there"),
    Opt::value('p', "-1024..1023", "Priority among the jobs of the queue"),
    Opt::flag('q', "Do not wait until the node has heard of it"),
    Opt::value('r', "y|n", "Whether the job may be run again"),
    Opt::value('S', "PATH[@HOST][,...]", "Shell that reads the script"),
    Opt::value(
        't',
        "[INDICES][%SLOTS]",
        "Only these members of an array; how many at once",
    ),
    Opt::value('u', "USER[@HOST][,...]", "Run as this user"),
    Opt::value(
        'v',
        "NAME[=VALUE][,...]",
        "Give the job these variables and no others",
    ),
    Opt::value(
        'W',
        "NAME=VALUE[,...]",
        "Set more: depend, group_list, umask, stagein, x",
    ),
    Opt::value('x', "HOSTS", "Refused: qrun -H starts a job on such nodes"),
];

/// The recorded usage, blanks included.
pub(crate) const USAGE: &str = "\
usage: qalter                           [-a date_time] [-A account_string] [-c interval] [-e path] 
                          [-h hold_list] [-j y|n] [-k keep] [-l resource_list] [-m mail_options] 
                          [-M user_list] [-N jobname] [-o path] [-p priority] [-q] [-r y|n] [-S path] 
                          [-t [array_range[%slot_limit]] [-u user_list] [-v variable_list] 
                          [-W additional_attributes] [-x exec_host] job_identifier...";
