//! `-u`: which options of `docker run` a user may give, as a table. An option that is not accepted is refused with
//! its reason; to widen the list, give its row another rule.

use super::refusal::Refused;
use super::words;

/// Longest `-u` text.
pub(super) const OPTIONS_BYTES_MAX: usize = 64 * 1024;
/// Mounts that one container may ask for.
pub(super) const BINDS_MAX: usize = 64;
/// Variables that one container may ask for.
pub(super) const VARIABLES_MAX: usize = 1024;

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
    /// `--shm-size`, in bytes.
    pub(super) shm_bytes: Option<u64>,
    /// `--ipc=host`: answered by a private, large `/dev/shm`.
    pub(super) ipc_host: bool,
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
    Value(fn(&mut Options, &str) -> Result<(), Problem>),
    /// Never, and why.
    Refuse(&'static str),
}

/// What is wrong with a value.
type Problem = &'static str;

struct Row {
    short: Option<char>,
    long: &'static str,
    rule: Rule,
}

const fn row(short: Option<char>, long: &'static str, rule: Rule) -> Row {
    Row { short, long, rule }
}

const fn refuse(long: &'static str, reason: &'static str) -> Row {
    row(None, long, Rule::Refuse(reason))
}

const ROOT: &str = "it would make you root on this node";
const OTHERS: &str = "it would reach what belongs to others on this node";
const LIMITS: &str = "it would lift the limits of your job";
const FOREGROUND: &str = "a container ends with its startdocker";
const NOT_YET: &str = "it is not offered yet";
const FIXED: &str = "Capstan decides it";

/// All options of `docker run` that we have met. What is not here is unknown, and refused as that.
const TABLE: &[Row] = &[
    row(
        Some('i'),
        "interactive",
        Rule::Switch(|o, on| o.interactive = on),
    ),
    row(Some('t'), "tty", Rule::Switch(|o, on| o.terminal = on)),
    // Every container is removed when it ends: asking for it is asking for nothing.
    row(None, "rm", Rule::Switch(|_, _| {})),
    row(Some('v'), "volume", Rule::Value(volume)),
    row(Some('w'), "workdir", Rule::Value(workdir)),
    row(Some('e'), "env", Rule::Value(variable)),
    row(None, "shm-size", Rule::Value(shm_size)),
    row(None, "ipc", Rule::Value(ipc)),
    refuse("privileged", ROOT),
    refuse("cap-add", ROOT),
    refuse("device", OTHERS),
    refuse("device-cgroup-rule", OTHERS),
    refuse("pid", OTHERS),
    refuse("uts", OTHERS),
    refuse("userns", ROOT),
    refuse("cgroupns", OTHERS),
    refuse("security-opt", ROOT),
    refuse("cgroup-parent", LIMITS),
    refuse("volumes-from", OTHERS),
    refuse("volume-driver", OTHERS),
    refuse("restart", FOREGROUND),
    refuse("runtime", ROOT),
    row(Some('d'), "detach", Rule::Refuse(FOREGROUND)),
    refuse("sysctl", OTHERS),
    row(Some('p'), "publish", Rule::Refuse(OTHERS)),
    row(Some('P'), "publish-all", Rule::Refuse(OTHERS)),
    refuse("oom-kill-disable", LIMITS),
    refuse("oom-score-adj", LIMITS),
    row(Some('u'), "user", Rule::Refuse(FIXED)),
    refuse("group-add", FIXED),
    refuse("gpus", FIXED),
    refuse("init", FIXED),
    row(Some('m'), "memory", Rule::Refuse(NOT_YET)),
    refuse("memory-swap", LIMITS),
    refuse("memory-reservation", NOT_YET),
    refuse("cpus", NOT_YET),
    row(Some('c'), "cpu-shares", Rule::Refuse(LIMITS)),
    refuse("cpuset-cpus", LIMITS),
    refuse("cpuset-mems", LIMITS),
    refuse("pids-limit", LIMITS),
    refuse("ulimit", NOT_YET),
    refuse("mount", NOT_YET),
    refuse("tmpfs", NOT_YET),
    refuse("env-file", NOT_YET),
    refuse("name", NOT_YET),
    row(Some('h'), "hostname", Rule::Refuse(NOT_YET)),
    refuse("entrypoint", NOT_YET),
    refuse("read-only", NOT_YET),
    refuse("add-host", NOT_YET),
    refuse("dns", NOT_YET),
    refuse("network", NOT_YET),
    refuse("net", NOT_YET),
    refuse("stop-signal", NOT_YET),
    row(Some('l'), "label", Rule::Refuse(NOT_YET)),
    row(Some('a'), "attach", Rule::Refuse(FIXED)),
    refuse("link", OTHERS),
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
pub(super) fn parse(text: &str) -> Result<Options, Refused> {
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
            apply(&mut options, row, value, &mut words)?;
        } else if let Some(letters) = word
            .strip_prefix('-')
            .filter(|rest| !rest.is_empty() && *rest != "-")
        {
            bundle(&mut options, letters, &mut words)?;
        } else {
            return Err(refused(word, "only options of docker run may stand in -u"));
        }
    }
    if options.binds.len() > BINDS_MAX || options.environment.len() > VARIABLES_MAX {
        return Err(Refused::Request {
            what: "-u has too many mounts or variables",
        });
    }
    Ok(options)
}

/// `-it`, `-itv A:B`, `-vA:B`, `-v=A:B`: as docker's own parser takes them.
fn bundle(
    options: &mut Options,
    letters: &str,
    words: &mut impl Iterator<Item = String>,
) -> Result<(), Refused> {
    let mut rest = letters;
    while let Some(letter) = rest.chars().next() {
        rest = &rest[letter.len_utf8()..];
        let row = TABLE.iter().find(|row| row.short == Some(letter));
        let row = row.ok_or_else(|| refused(format!("-{letter}"), UNKNOWN))?;
        let attached = match row.rule {
            Rule::Switch(_) => rest.strip_prefix('='),
            Rule::Value(_) | Rule::Refuse(_) => {
                (!rest.is_empty()).then(|| rest.strip_prefix('=').unwrap_or(rest))
            }
        };
        apply(options, row, attached.map(str::to_owned), words)?;
        if attached.is_some() {
            break;
        }
    }
    Ok(())
}

fn apply(
    options: &mut Options,
    row: &Row,
    value: Option<String>,
    words: &mut impl Iterator<Item = String>,
) -> Result<(), Refused> {
    match row.rule {
        Rule::Switch(set) => {
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
        Rule::Value(set) => {
            let value = value.or_else(|| words.next());
            let value = value.ok_or_else(|| bad_value(row, String::new(), "it needs a value"))?;
            if value.contains('\0') {
                return Err(bad_value(
                    row,
                    value.replace('\0', "\\0"),
                    "it contains a NUL",
                ));
            }
            set(options, &value).map_err(|problem| bad_value(row, value, problem))
        }
        Rule::Refuse(reason) => {
            let option = format!("--{}", row.long);
            Err(refused(
                value.map_or(option.clone(), |value| format!("{option}={value}")),
                reason,
            ))
        }
    }
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

fn volume(options: &mut Options, value: &str) -> Result<(), Problem> {
    let parts: Vec<_> = value.split(':').collect();
    let (source, target, modes) = match parts[..] {
        [source, target] => (source, target, ""),
        [source, target, modes] => (source, target, modes),
        [_] => return Err("it must be SOURCE:TARGET, both absolute paths"),
        _ => return Err("it has too many colons"),
    };
    if !source.starts_with('/') {
        return Err("the source must be an absolute path");
    }
    if !target.starts_with('/') {
        return Err("the target must be an absolute path");
    }
    let mut read_only = false;
    for mode in modes.split(',').filter(|mode| !mode.is_empty()) {
        match mode {
            "ro" | "readonly" => read_only = true,
            // These say nothing on Linux.
            "rw" | "cached" | "consistent" | "delegated" | "nocopy" => {}
            _ => return Err("of the modes only ro and rw are accepted"),
        }
    }
    options.binds.push(AskedBind {
        source: source.to_owned(),
        target: target.to_owned(),
        read_only,
    });
    Ok(())
}

fn workdir(options: &mut Options, value: &str) -> Result<(), Problem> {
    if !value.starts_with('/') {
        return Err("it must be an absolute path");
    }
    options.workdir = Some(value.to_owned());
    Ok(())
}

fn variable(options: &mut Options, value: &str) -> Result<(), Problem> {
    let (name, value) = match value.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (value, None),
    };
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err("it must be NAME=value or NAME");
    }
    options.environment.push((name.to_owned(), value));
    Ok(())
}

fn shm_size(options: &mut Options, value: &str) -> Result<(), Problem> {
    options.shm_bytes = Some(size(value).ok_or("it must be a size such as 8g or 512m")?);
    Ok(())
}

/// A size as docker reads it: `8g`, `8G`, `8gb`, `8GiB`, `1.5g`, `1024`; units are powers of 1024.
fn size(text: &str) -> Option<u64> {
    let digits = text
        .bytes()
        .take_while(|b| b.is_ascii_digit() || *b == b'.')
        .count();
    let number: f64 = text[..digits].parse().ok()?;
    let unit = text[digits..].trim_start().to_ascii_lowercase();
    let power = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let bytes = number * 1024f64.powi(power);
    (bytes >= 1.0 && bytes < i64::MAX as f64).then_some(bytes as u64)
}

fn ipc(options: &mut Options, value: &str) -> Result<(), Problem> {
    match value {
        "host" => options.ipc_host = true,
        "private" | "" => {}
        _ => return Err("only private, and host with a changed meaning, are accepted"),
    }
    Ok(())
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
