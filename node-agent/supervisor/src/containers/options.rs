//! `-u`: which options of `docker run` a user may give, as a table. An option that is not accepted is refused with
//! its reason; to widen the list, give its row another rule.

use super::engine::{Grants, Wishes};
use super::exceptions::Allowed;
use super::refusal::Refused;
use super::{values, words};

/// Longest `-u` text.
pub(super) const OPTIONS_BYTES_MAX: usize = 64 * 1024;
/// Mounts that one container may ask for.
pub(super) const BINDS_MAX: usize = 64;
/// Variables that one container may ask for.
pub(super) const VARIABLES_MAX: usize = 1024;
/// Of each other option that may be repeated.
const REPEATS_MAX: usize = 64;

/// What the user asked for, in accepted options only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// `-i`.
    pub(super) interactive: bool,
    /// `-t`.
    pub(super) terminal: bool,
    /// `-v`, in order.
    pub(super) binds: Vec<AskedBind>,
    /// `-w`.
    pub(super) workdir: Option<String>,
    /// `-e NAME=value`, or `-e NAME` for the caller's own value.
    pub(super) environment: Vec<(String, Option<String>)>,
    /// `--env-file`, absolute or relative to the caller's folder.
    pub(super) environment_files: Vec<String>,
    /// `--shm-size`, in bytes.
    pub(super) shm_bytes: Option<u64>,
    /// `--ipc=host`: answered by a private, large `/dev/shm`.
    pub(super) ipc_host: bool,
    /// `--gpus`: answered by the granted cards.
    pub(super) gpus: bool,
    /// `--name`.
    pub(super) name: Option<String>,
    /// `-m`, in bytes.
    pub(super) memory_bytes: Option<u64>,
    /// `--cpus`, in billionths of a core.
    pub(super) nano_cpus: Option<u64>,
    /// `--network`.
    pub(super) network: Option<String>,
    /// `-u`.
    pub(super) user: Option<String>,
    /// `--group-add`.
    pub(super) groups: Vec<String>,
    /// What goes to the engine as it is.
    pub(super) wishes: Wishes,
    /// What only an exception of the site allows.
    pub(super) grants: Grants,
}

/// A mount as asked, nothing checked but its form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AskedBind {
    /// Absolute.
    pub(super) source: String,
    /// Inside.
    pub(super) target: String,
    /// `:ro`.
    pub(super) read_only: bool,
}

/// What a row does with its option.
#[derive(Clone, Copy)]
enum Rule {
    /// A switch: `-i`, `--rm=false`.
    Switch(fn(&mut Options, bool)),
    /// An option with a value.
    Value(Read),
    /// Refused, and why, unless the site excepts it for this user; then it is a switch.
    GrantSwitch(&'static str, fn(&mut Options, bool)),
    /// The same with a value.
    GrantValue(&'static str, Read),
    /// Never, and why.
    Refuse(&'static str),
}

type Read = fn(&mut Options, &str) -> Result<(), Problem>;

/// What is wrong with a value.
pub(super) type Problem = &'static str;

struct Row {
    short: Option<char>,
    long: &'static str,
    rule: Rule,
}

const fn row(short: Option<char>, long: &'static str, rule: Rule) -> Row {
    Row { short, long, rule }
}

const fn value(long: &'static str, read: Read) -> Row {
    row(None, long, Rule::Value(read))
}

const fn refuse(long: &'static str, reason: &'static str) -> Row {
    row(None, long, Rule::Refuse(reason))
}

const fn grant(long: &'static str, reason: &'static str, read: Read) -> Row {
    row(None, long, Rule::GrantValue(reason, read))
}

const ROOT: &str = "it would make you root on this node";
const OTHERS: &str = "it would reach what belongs to others on this node";
const LIMITS: &str = "it would lift the limits of your job";
const FOREGROUND: &str = "a container ends with its startdocker";
const NOT_OFFERED: &str = "it is not offered";
const FIXED: &str = "Capstan decides it";

/// All options of `docker run` that we have met. What is not here is unknown, and refused as that.
const TABLE: &[Row] = &[
    row(
        Some('i'),
        "interactive",
        Rule::Switch(|o, on| o.interactive = on),
    ),
    row(Some('t'), "tty", Rule::Switch(|o, on| o.terminal = on)),
    // Every container is removed when it ends, and has an init: asking for it is asking for nothing.
    row(None, "rm", Rule::Switch(|_, _| {})),
    row(None, "init", Rule::Switch(|_, _| {})),
    row(
        None,
        "read-only",
        Rule::Switch(|o, on| o.wishes.read_only = on),
    ),
    row(Some('v'), "volume", Rule::Value(values::volume)),
    value("mount", values::mount),
    row(Some('w'), "workdir", Rule::Value(values::workdir)),
    row(Some('e'), "env", Rule::Value(values::variable)),
    value("env-file", values::environment_file),
    value("shm-size", values::shm_size),
    value("tmpfs", values::tmpfs),
    value("ulimit", values::ulimit),
    value("name", values::name),
    row(Some('h'), "hostname", Rule::Value(values::hostname)),
    value("entrypoint", values::entrypoint),
    value("add-host", values::add_host),
    value("dns", values::dns),
    row(Some('m'), "memory", Rule::Value(values::memory)),
    value("cpus", values::cpus),
    value("network", values::network),
    value("net", values::network),
    value("stop-signal", values::stop_signal),
    row(Some('l'), "label", Rule::Value(values::label)),
    value("group-add", values::group),
    row(Some('u'), "user", Rule::Value(values::user)),
    value("gpus", values::gpus),
    grant("ipc", OTHERS, values::ipc),
    row(
        None,
        "privileged",
        Rule::GrantSwitch(ROOT, |o, on| o.grants.privileged = on),
    ),
    grant("cap-add", ROOT, values::capability),
    grant("device", OTHERS, values::device),
    grant("pid", OTHERS, values::pid),
    grant("uts", OTHERS, values::uts),
    grant("userns", ROOT, values::userns),
    grant("cgroupns", OTHERS, values::cgroupns),
    grant("security-opt", ROOT, values::security),
    grant("runtime", ROOT, values::runtime),
    grant("sysctl", OTHERS, values::sysctl),
    refuse("device-cgroup-rule", OTHERS),
    refuse("cgroup-parent", LIMITS),
    refuse("volumes-from", OTHERS),
    refuse("volume-driver", OTHERS),
    refuse("restart", FOREGROUND),
    row(Some('d'), "detach", Rule::Refuse(FOREGROUND)),
    row(Some('p'), "publish", Rule::Refuse(OTHERS)),
    row(Some('P'), "publish-all", Rule::Refuse(OTHERS)),
    refuse("oom-kill-disable", LIMITS),
    refuse("oom-score-adj", LIMITS),
    refuse("memory-swap", LIMITS),
    refuse("memory-reservation", NOT_OFFERED),
    row(Some('c'), "cpu-shares", Rule::Refuse(LIMITS)),
    refuse("cpu-quota", LIMITS),
    refuse("cpuset-cpus", LIMITS),
    refuse("cpuset-mems", LIMITS),
    refuse("blkio-weight", LIMITS),
    refuse("pids-limit", LIMITS),
    row(Some('a'), "attach", Rule::Refuse(FIXED)),
    refuse("link", OTHERS),
    refuse("network-alias", OTHERS),
    refuse("ip", OTHERS),
    refuse("mac-address", OTHERS),
    refuse("annotation", FIXED),
    refuse("label-file", NOT_OFFERED),
    refuse("storage-opt", FIXED),
    refuse("pull", FIXED),
    refuse("platform", FIXED),
    refuse("log-driver", FIXED),
    refuse("cidfile", FIXED),
];

const UNKNOWN: &str = "it is not on the list of accepted options";

/// Reads the text of `-u`.
///
/// # Errors
/// The first option that is not accepted, with the reason.
pub(super) fn parse(text: &str, allowed: &Allowed) -> Result<Options, Refused> {
    if text.len() > OPTIONS_BYTES_MAX {
        return Err(Refused::Request {
            what: "the options of -u are too long",
        });
    }
    let split = words::split(text).map_err(|source| Refused::OptionsQuote {
        options: text.to_owned(),
        source,
    })?;
    let mut options = Options::default();
    let mut words = split.words.into_iter();
    while let Some(word) = words.next() {
        if let Some(long) = word.strip_prefix("--").filter(|long| !long.is_empty()) {
            let (name, value) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            let row = TABLE.iter().find(|row| row.long == name);
            let row = row.ok_or_else(|| refused(format!("--{name}"), UNKNOWN))?;
            apply(&mut options, (row, allowed), value, &mut words)?;
        } else if let Some(letters) = word
            .strip_prefix('-')
            .filter(|rest| !rest.is_empty() && *rest != "-")
        {
            bundle(&mut options, (letters, allowed), &mut words)?;
        } else {
            return Err(refused(word, "only options of docker run may stand in -u"));
        }
    }
    if options.binds.len() > BINDS_MAX || options.environment.len() > VARIABLES_MAX {
        return Err(Refused::Request {
            what: "-u has too many mounts or variables",
        });
    }
    let Wishes {
        tmpfs,
        ulimits,
        hosts,
        dns,
        labels,
        ..
    } = &options.wishes;
    let counts = [
        tmpfs.len(),
        ulimits.len(),
        hosts.len(),
        dns.len(),
        labels.len(),
        options.environment_files.len(),
        options.groups.len(),
    ];
    if counts.into_iter().any(|count| count > REPEATS_MAX) {
        return Err(Refused::Request {
            what: "-u repeats an option too often",
        });
    }
    Ok(options)
}

/// `-it`, `-itv A:B`, `-vA:B`, `-v=A:B`: as docker's own parser takes them.
fn bundle(
    options: &mut Options,
    (letters, allowed): (&str, &Allowed),
    words: &mut impl Iterator<Item = String>,
) -> Result<(), Refused> {
    let mut rest = letters;
    while let Some(letter) = rest.chars().next() {
        rest = &rest[letter.len_utf8()..];
        let row = TABLE.iter().find(|row| row.short == Some(letter));
        let row = row.ok_or_else(|| refused(format!("-{letter}"), UNKNOWN))?;
        let attached = match row.rule {
            Rule::Switch(_) | Rule::GrantSwitch(..) => rest.strip_prefix('='),
            Rule::Value(_) | Rule::GrantValue(..) | Rule::Refuse(_) => {
                (!rest.is_empty()).then(|| rest.strip_prefix('=').unwrap_or(rest))
            }
        };
        apply(options, (row, allowed), attached.map(str::to_owned), words)?;
        if attached.is_some() {
            break;
        }
    }
    Ok(())
}

fn apply(
    options: &mut Options,
    (row, allowed): (&Row, &Allowed),
    value: Option<String>,
    words: &mut impl Iterator<Item = String>,
) -> Result<(), Refused> {
    let not_excepted = |value: Option<String>, reason| {
        let option = format!("--{}", row.long);
        let option = value.map_or(option.clone(), |value| format!("{option}={value}"));
        Err(refused(option, reason))
    };
    match row.rule {
        Rule::Switch(set) => switch(options, row, value, set),
        Rule::GrantSwitch(reason, _) if !allowed.has(row.long, None) => not_excepted(value, reason),
        Rule::GrantSwitch(_, set) => switch(options, row, value, set),
        Rule::Value(read) => {
            let value = needed(row, value, words)?;
            read(options, &value).map_err(|problem| bad_value(row, value, problem))
        }
        Rule::GrantValue(reason, read) => {
            let value = needed(row, value, words)?;
            if values::needs_no_grant(row.long, &value) || allowed.has(row.long, Some(&value)) {
                if row.long == "ipc" && value == "host" && allowed.has("ipc", Some("host")) {
                    options.grants.ipc_host = true;
                    return Ok(());
                }
                return read(options, &value).map_err(|problem| bad_value(row, value, problem));
            }
            not_excepted(Some(value), reason)
        }
        Rule::Refuse(reason) => not_excepted(value, reason),
    }
}

fn switch(
    options: &mut Options,
    row: &Row,
    value: Option<String>,
    set: fn(&mut Options, bool),
) -> Result<(), Refused> {
    let value = value.unwrap_or_else(|| "true".to_owned());
    // The spellings that Go's ParseBool knows, because docker's are Go's.
    let on = match value.as_str() {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
        "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
        _ => return Err(bad_value(row, value, "it is a switch: true or false")),
    };
    set(options, on);
    Ok(())
}

fn needed(
    row: &Row,
    value: Option<String>,
    words: &mut impl Iterator<Item = String>,
) -> Result<String, Refused> {
    let value = value.or_else(|| words.next());
    let value = value.ok_or_else(|| bad_value(row, String::new(), "it needs a value"))?;
    if value.contains('\0') {
        return Err(bad_value(row, value, "it contains a NUL"));
    }
    // A variable may hold several lines; nothing else has a use for one.
    if row.long != "env" && value.chars().any(char::is_control) {
        return Err(bad_value(
            row,
            value,
            "it contains a line break or another control character",
        ));
    }
    Ok(value)
}

/// `NAME=value` or `NAME`.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read_variable(text: &str) -> Result<(String, Option<String>), Problem> {
    let mut options = Options::default();
    values::variable(&mut options, text)?;
    options.environment.pop().ok_or("it says nothing")
}

fn refused(option: String, reason: &'static str) -> Refused {
    Refused::Option { option, reason }
}

fn bad_value(row: &Row, value: String, problem: Problem) -> Refused {
    Refused::OptionValue {
        option: row.long,
        value,
        problem,
    }
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
