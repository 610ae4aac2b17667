//! What `qstat` says to a command line that it does not understand.

use crate::command::Failure;

/// Torque's usage text.
const TORQUE: &str = "\
usage: 
                          qstat [-f [-1]] [-W site_specific] [-x] [ job_identifier... | destination... ]
                          qstat [-a|-i|-r|-e] [-u user] [-n [-1]] [-s] [-t] [-G|-M] [-R] [job_id... | destination...]
                          qstat -Q [-f [-1]] [-W site_specific] [ destination... ]
                          qstat -q [-G|-M] [ destination... ]
                          qstat -B [-f [-1]] [-W site_specific] [ server_name... ]
                          qstat -t";

/// PBS Pro's.
const PRO: &str = "\
usage: 
qstat [-f] [-J] [-p] [-t] [-x] [-E] [-F format] [-D delim] [ job_identifier... | destination... ]
qstat [-a|-i|-r|-H|-T] [-J] [-t] [-u user] [-n] [-s] [-G|-M] [-1] [-w]
\t[ job_identifier... | destination... ]
qstat -Q [-f] [-F format] [-D delim] [ destination... ]
qstat -q [-G|-M] [ destination... ]
qstat -B [-f] [-F format] [-D delim] [ server_name... ]
qstat --version";

/// The complaints, then the usage; exit status 2.
pub(super) fn misuse(lines: &[String], is_pro: bool) -> Failure {
    let usage = if is_pro { PRO } else { TORQUE };
    let lines = lines.iter().map(String::as_str).chain([usage]);
    Failure::new(2, lines.collect::<Vec<_>>().join("\n"))
}

/// What getopt says of a letter that is no option.
pub(super) fn unknown(letter: char) -> String {
    format!("qstat: invalid option -- '{letter}'")
}
