//! The values of the options of `-u`: each is read into what it means, or refused with what is wrong with it. Says
//! nothing about what the user may have of it: `bounds` does.

use super::engine::{Tmpfs, Ulimit};
use super::options::{AskedBind, Options, Problem};

/// Longest name of a container, host or label.
const NAME_BYTES_MAX: usize = 63;
/// Longest value of a label.
const LABEL_BYTES_MAX: usize = 1024;
/// Labels that are ours, or the engine's own.
const TAKEN_LABELS: [&str; 4] = ["capstan", "com.docker", "io.docker", "org.dockerproject"];
/// The limits that the kernel knows, as docker names them.
const LIMITS: [&str; 15] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "sigpending",
    "stack",
];

/// Whether this value of an option that needs an exception of the site asks for no more than everybody has.
#[must_use]
pub(super) fn needs_no_grant(option: &str, value: &str) -> bool {
    match option {
        // Its `host` is answered otherwise.
        "ipc" => true,
        "pid" | "uts" => value.is_empty(),
        "cgroupns" => value == "private",
        "security-opt" => matches!(value, "no-new-privileges" | "no-new-privileges:true"),
        _ => false,
    }
}

pub(super) fn volume(options: &mut Options, value: &str) -> Result<(), Problem> {
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

pub(super) fn workdir(options: &mut Options, value: &str) -> Result<(), Problem> {
    if !value.starts_with('/') {
        return Err("it must be an absolute path");
    }
    options.workdir = Some(value.to_owned());
    Ok(())
}

pub(super) fn variable(options: &mut Options, value: &str) -> Result<(), Problem> {
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

pub(super) fn shm_size(options: &mut Options, value: &str) -> Result<(), Problem> {
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

pub(super) fn ipc(options: &mut Options, value: &str) -> Result<(), Problem> {
    match value {
        "host" => options.ipc_host = true,
        "private" | "" => {}
        _ => return Err("only private, and host with a changed meaning, are accepted"),
    }
    Ok(())
}

/// `type=bind,source=A,target=B[,readonly]`.
pub(super) fn mount(options: &mut Options, value: &str) -> Result<(), Problem> {
    let (mut source, mut target, mut read_only, mut kind) = (None, None, false, "volume");
    for part in value.split(',') {
        match part.split_once('=').unwrap_or((part, "true")) {
            ("type", it) => kind = it,
            ("source" | "src", it) => source = Some(it),
            ("target" | "dst" | "destination", it) => target = Some(it),
            ("readonly" | "ro", it) => read_only = matches!(it, "true" | "1"),
            _ => return Err("of its parts only type, source, target and readonly are accepted"),
        }
    }
    if kind != "bind" {
        return Err("only type=bind is accepted");
    }
    let (Some(source), Some(target)) = (source, target) else {
        return Err("it needs source= and target=");
    };
    if !source.starts_with('/') || !target.starts_with('/') {
        return Err("source and target must be absolute paths");
    }
    options.binds.push(AskedBind {
        source: source.to_owned(),
        target: target.to_owned(),
        read_only,
    });
    Ok(())
}

pub(super) fn environment_file(options: &mut Options, value: &str) -> Result<(), Problem> {
    if value.is_empty() {
        return Err("it must be a file");
    }
    options.environment_files.push(value.to_owned());
    Ok(())
}

/// `/path[:size=1g,mode=1777,noexec]`.
pub(super) fn tmpfs(options: &mut Options, value: &str) -> Result<(), Problem> {
    let (target, settings) = value.split_once(':').unwrap_or((value, ""));
    if !target.starts_with('/') {
        return Err("it must be an absolute path");
    }
    // The engine's own defaults, unless they are asked away.
    let mut kept = vec!["nosuid".to_owned(), "nodev".to_owned()];
    for setting in settings.split(',').filter(|setting| !setting.is_empty()) {
        match setting.split_once('=') {
            None if matches!(setting, "rw" | "ro" | "noexec" | "exec") => {
                kept.push(setting.to_owned())
            }
            None if matches!(setting, "nosuid" | "nodev") => {}
            Some(("size", bytes)) => {
                let bytes = size(bytes).ok_or("its size must be such as 8g or 512m")?;
                kept.push(format!("size={bytes}"));
            }
            Some(("mode", mode)) if is_mode(mode) => kept.push(format!("mode={mode}")),
            None | Some(_) => {
                return Err(
                    "of its settings only size, mode, ro, rw, exec and noexec are accepted",
                );
            }
        }
    }
    options.wishes.tmpfs.push(Tmpfs {
        target: target.to_owned(),
        settings: kept.join(","),
    });
    Ok(())
}

fn is_mode(mode: &str) -> bool {
    // Set-uid and set-gid are no modes of a folder that everybody shares.
    u32::from_str_radix(mode, 8).is_ok_and(|mode| mode <= 0o1777)
}

/// `nofile=1024[:2048]`; −1 is no limit.
pub(super) fn ulimit(options: &mut Options, value: &str) -> Result<(), Problem> {
    const FORM: Problem =
        "it must be NAME=SOFT[:HARD], with a NAME such as nofile, memlock or stack";
    let (name, limits) = value.split_once('=').ok_or(FORM)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let number = |text: &str| match text {
        "-1" | "unlimited" => Some(None),
        text => text
            .parse::<u32>()
            .ok()
            .map(u64::from)
            .map(Some)
            .or_else(|| {
                let large = text.parse::<u64>().ok()?;
                (large <= i64::MAX as u64).then_some(Some(large))
            }),
    };
    let (Some(soft), Some(hard)) = (number(soft), number(hard)) else {
        return Err(FORM);
    };
    if !LIMITS.contains(&name) {
        return Err(FORM);
    }
    if hard.is_some_and(|hard| soft.is_none_or(|soft| soft > hard)) {
        return Err("the soft limit is above the hard one");
    }
    options.wishes.ulimits.push(Ulimit {
        name: name.to_owned(),
        soft,
        hard,
    });
    Ok(())
}

fn is_name(text: &str, extra: &str) -> bool {
    text.len() <= NAME_BYTES_MAX
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || extra.contains(c))
}

pub(super) fn name(options: &mut Options, value: &str) -> Result<(), Problem> {
    if !is_name(value, "_.-") {
        return Err("it must be letters, digits, '_', '.' and '-', at most 63");
    }
    options.name = Some(value.to_owned());
    Ok(())
}

pub(super) fn hostname(options: &mut Options, value: &str) -> Result<(), Problem> {
    if !is_name(value, ".-") {
        return Err("it must be letters, digits, '.' and '-', at most 63");
    }
    options.wishes.hostname = Some(value.to_owned());
    Ok(())
}

/// An empty one takes the image's own away.
pub(super) fn entrypoint(options: &mut Options, value: &str) -> Result<(), Problem> {
    options.wishes.entrypoint = Some(vec![value.to_owned()]);
    Ok(())
}

/// `NAME:ADDRESS`.
pub(super) fn add_host(options: &mut Options, value: &str) -> Result<(), Problem> {
    const FORM: Problem = "it must be NAME:ADDRESS";
    let (host, address) = value.split_once([':', '=']).ok_or(FORM)?;
    let bare = address.trim_start_matches('[').trim_end_matches(']');
    if !is_name(host, "_.-") || bare.parse::<std::net::IpAddr>().is_err() {
        return Err(FORM);
    }
    options.wishes.hosts.push(format!("{host}:{bare}"));
    Ok(())
}

pub(super) fn dns(options: &mut Options, value: &str) -> Result<(), Problem> {
    let address: std::net::IpAddr = value.parse().map_err(|_| "it must be an address")?;
    options.wishes.dns.push(address.to_string());
    Ok(())
}

pub(super) fn memory(options: &mut Options, value: &str) -> Result<(), Problem> {
    options.memory_bytes = Some(size(value).ok_or("it must be a size such as 8g or 512m")?);
    Ok(())
}

pub(super) fn cpus(options: &mut Options, value: &str) -> Result<(), Problem> {
    let cores: f64 = value
        .parse()
        .map_err(|_| "it must be a number of cores such as 1.5")?;
    if !(0.01..=100_000.0).contains(&cores) {
        return Err("it must be a number of cores such as 1.5");
    }
    options.nano_cpus = Some((cores * 1e9) as u64);
    Ok(())
}

pub(super) fn network(options: &mut Options, value: &str) -> Result<(), Problem> {
    // `container:ID` would join a stranger's.
    if !is_name(value, "_.-") {
        return Err("it must be the name of a network that the site allows");
    }
    options.network = Some(value.to_owned());
    Ok(())
}

pub(super) fn stop_signal(options: &mut Options, value: &str) -> Result<(), Problem> {
    if !is_name(value, "+-") {
        return Err("it must be the name or the number of a signal");
    }
    options.wishes.stop_signal = Some(value.to_owned());
    Ok(())
}

pub(super) fn label(options: &mut Options, value: &str) -> Result<(), Problem> {
    let (name, text) = value.split_once('=').unwrap_or((value, ""));
    let folded = name.to_ascii_lowercase();
    if !is_name(name, "_.-/") || text.len() > LABEL_BYTES_MAX {
        return Err("it must be NAME=TEXT, a NAME of letters, digits, '_', '.', '-' and '/'");
    }
    if TAKEN_LABELS.iter().any(|taken| folded.starts_with(taken)) {
        return Err("such labels are Capstan's and the engine's own");
    }
    options
        .wishes
        .labels
        .push((name.to_owned(), text.to_owned()));
    Ok(())
}

pub(super) fn group(options: &mut Options, value: &str) -> Result<(), Problem> {
    if value.is_empty() {
        return Err("it must be a group");
    }
    options.groups.push(value.to_owned());
    Ok(())
}

pub(super) fn user(options: &mut Options, value: &str) -> Result<(), Problem> {
    if value.is_empty() {
        return Err("it must be your own user");
    }
    options.user = Some(value.to_owned());
    Ok(())
}

pub(super) fn gpus(options: &mut Options, _: &str) -> Result<(), Problem> {
    options.gpus = true;
    Ok(())
}

// What follows is reached only by who has an exception of the site for it.

pub(super) fn capability(options: &mut Options, value: &str) -> Result<(), Problem> {
    if !is_name(value, "_") {
        return Err("it must be the name of a capability");
    }
    options.grants.capabilities.push(value.to_owned());
    Ok(())
}

/// `/dev/fuse[:/dev/fuse[:rwm]]`.
pub(super) fn device(options: &mut Options, value: &str) -> Result<(), Problem> {
    let mut parts = value.split(':');
    let path = parts.next().unwrap_or_default();
    let inside = parts.next().unwrap_or(path);
    let rights = parts.next().unwrap_or("rwm");
    let is_device = |path: &str| path.starts_with("/dev/") && !path.contains("..");
    let rights_are_good = !rights.is_empty() && rights.chars().all(|c| "rwm".contains(c));
    if !is_device(path) || !is_device(inside) || !rights_are_good || parts.next().is_some() {
        return Err("it must be /dev/NAME[:/dev/NAME[:rwm]]");
    }
    let [path, inside, rights] = [path, inside, rights].map(str::to_owned);
    options.grants.devices.push((path, inside, rights));
    Ok(())
}

fn host_or_private(value: &str, is_host: &mut bool) -> Result<(), Problem> {
    match value {
        "host" => *is_host = true,
        "" | "private" => *is_host = false,
        _ => return Err("it must be host or private"),
    }
    Ok(())
}

pub(super) fn pid(options: &mut Options, value: &str) -> Result<(), Problem> {
    host_or_private(value, &mut options.grants.pid_host)
}

pub(super) fn uts(options: &mut Options, value: &str) -> Result<(), Problem> {
    host_or_private(value, &mut options.grants.uts_host)
}

pub(super) fn userns(options: &mut Options, value: &str) -> Result<(), Problem> {
    host_or_private(value, &mut options.grants.userns_host)
}

pub(super) fn cgroupns(options: &mut Options, value: &str) -> Result<(), Problem> {
    host_or_private(value, &mut options.grants.cgroupns_host)
}

pub(super) fn security(options: &mut Options, value: &str) -> Result<(), Problem> {
    if !needs_no_grant("security-opt", value) {
        options.grants.security.push(value.to_owned());
    }
    Ok(())
}

pub(super) fn runtime(options: &mut Options, value: &str) -> Result<(), Problem> {
    if !is_name(value, "_.-") {
        return Err("it must be the name of a runtime");
    }
    options.grants.runtime = Some(value.to_owned());
    Ok(())
}

pub(super) fn sysctl(options: &mut Options, value: &str) -> Result<(), Problem> {
    let (name, text) = value.split_once('=').ok_or("it must be NAME=VALUE")?;
    options
        .grants
        .sysctls
        .push((name.to_owned(), text.to_owned()));
    Ok(())
}
