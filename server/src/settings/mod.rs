//! The settings in force: made once, at start, from the file and the host's name; nothing optional, immutable.
//! [`resolve`] is pure and refuses by key and value.

mod file;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use capstan_types::{NodeName, QueueName, ResourceList, Seconds, ServerName, resource_kind};

pub use file::{NodeFile, QueueFile, SettingsFile, Value};

/// The settings in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// What decisions depend on; part of the stored state.
    pub core: Arc<capstan_core::Settings>,
    /// Journal, state and accounting log.
    pub state_dir: PathBuf,
    /// The socket and `agents.addr`.
    pub run_dir: PathBuf,
    /// Where agents dial.
    pub agents_listen: SocketAddr,
    /// How often an agent says that it lives.
    pub heartbeat: Duration,
    /// Whether root may submit jobs.
    pub root_may_submit: bool,
    /// The host that the server runs on, as callers on it are known (`alice@host`).
    pub host: String,
}

/// A setting that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("setting {key} = {value:?}: {problem}")]
pub struct SettingError {
    /// The key, with its table.
    pub key: String,
    /// What was written.
    pub value: String,
    /// What is wrong with it.
    pub problem: String,
}

/// The queue that always exists.
const BATCH: &str = "batch";
/// Walltime of a job that says nothing in a queue that says nothing: one week.
const DEFAULT_WALLTIME: &str = "168:00:00";
/// Longest name of a queue, as in PBS.
const QUEUE_NAME_MAX: usize = 15;
/// Longest name of a server, node or property.
const NAME_MAX: usize = 255;
/// Largest script that a site may allow, bytes: with its variables it must fit into one message to an agent, and gRPC
/// takes 4 MiB.
const SCRIPT_BYTES_MAX: u64 = 2 << 20;
/// Most slots of a node.
const SLOTS_MAX: u16 = 4096;

/// Reads the file at `path` and resolves it.
///
/// # Errors
/// A file that cannot be read, is no TOML, has unknown keys, or values that cannot be.
pub fn load(path: &Path, host: &str) -> anyhow::Result<Settings> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("reading settings {}", path.display()))?;
    let file =
        toml::from_str(&text).with_context(|| format!("reading settings {}", path.display()))?;
    resolve(&file, host).with_context(|| format!("in settings {}", path.display()))
}

/// The settings in force for `file` on the machine called `host`.
///
/// # Errors
/// A value that cannot be.
pub fn resolve(file: &SettingsFile, host: &str) -> Result<Settings, SettingError> {
    let listen = file.agents_listen.as_deref().unwrap_or("127.0.0.1:15003");
    let agents_listen = listen.parse().map_err(|_| {
        refuse(
            "agents_listen",
            listen,
            "not an address and port such as 127.0.0.1:15003",
        )
    })?;
    let heartbeat_secs = file.heartbeat_secs.unwrap_or(5);
    if heartbeat_secs == 0 {
        return Err(refuse("heartbeat_secs", "0", "at least 1"));
    }
    Ok(Settings {
        core: Arc::new(core_settings(file, host)?),
        state_dir: path(
            "state_dir",
            file.state_dir.as_deref(),
            "/var/lib/capstan/server",
        )?,
        run_dir: path("run_dir", file.run_dir.as_deref(), "/run/capstan")?,
        agents_listen,
        heartbeat: Duration::from_secs(heartbeat_secs.into()),
        root_may_submit: file.root_may_submit.unwrap_or(false),
        host: host.to_owned(),
    })
}

fn core_settings(file: &SettingsFile, host: &str) -> Result<capstan_core::Settings, SettingError> {
    let server = file.server_name.as_deref().unwrap_or(host);
    word("server_name", server, NAME_MAX)?;
    let down = file.node_down_after_secs.unwrap_or(15);
    let lost = file.node_lost_after_secs.unwrap_or(300);
    if lost < down {
        let problem = format!("at least node_down_after_secs ({down})");
        return Err(refuse("node_lost_after_secs", lost, problem));
    }
    let script_bytes_max = file.script_bytes_max.unwrap_or(1 << 20);
    if !(1..=SCRIPT_BYTES_MAX).contains(&script_bytes_max) {
        let problem = format!("from 1 to {SCRIPT_BYTES_MAX}");
        return Err(refuse("script_bytes_max", script_bytes_max, problem));
    }
    let queues = queues(file)?;
    let default_queue = file.default_queue.as_deref().unwrap_or(BATCH);
    if !queues.contains_key(default_queue) {
        let problem = format!("no such queue; add a table [queues.{default_queue}]");
        return Err(refuse("default_queue", default_queue, problem));
    }
    let mut node_properties = BTreeMap::new();
    let mut node_slots = BTreeMap::new();
    for (name, node) in &file.nodes {
        let key = format!("nodes.{name}");
        word(&key, name, NAME_MAX)?;
        for property in &node.properties {
            word(&format!("{key}.properties"), property, NAME_MAX)?;
        }
        let properties = node.properties.iter().map(|word| word.as_str().into());
        node_properties.insert(NodeName::from(name.as_str()), properties.collect());
        if let Some(np) = node.np {
            if !(1..=SLOTS_MAX).contains(&np) {
                return Err(refuse(
                    format!("{key}.np"),
                    np,
                    format!("from 1 to {SLOTS_MAX}"),
                ));
            }
            node_slots.insert(NodeName::from(name.as_str()), np);
        }
    }
    Ok(capstan_core::Settings {
        server: ServerName::from(server),
        default_queue: QueueName::from(default_queue),
        queues,
        node_properties,
        node_slots,
        managers: users("managers", file.managers.as_deref())?,
        operators: users("operators", file.operators.as_deref())?,
        keep_completed_secs: file.keep_completed_secs.unwrap_or(300),
        kill_delay_secs: file.kill_delay_secs.unwrap_or(2),
        node_down_after_secs: down,
        node_lost_after_secs: lost,
        script_bytes_max,
        array_members_max: file.array_members_max.unwrap_or(100_000),
        live_jobs_max: file.live_jobs_max.unwrap_or(1_000_000),
    })
}

/// A week, or the queue's limit when that is shorter.
fn default_walltime(limits: &ResourceList) -> &str {
    let week = Seconds::parse(DEFAULT_WALLTIME).unwrap_or_default();
    match limits.seconds("walltime") {
        Some(limit) if limit < week => limits.get("walltime").unwrap_or(DEFAULT_WALLTIME),
        _ => DEFAULT_WALLTIME,
    }
}

fn queues(file: &SettingsFile) -> Result<BTreeMap<QueueName, capstan_core::Queue>, SettingError> {
    let batch = [(BATCH.to_owned(), QueueFile::default())];
    let written: BTreeMap<String, QueueFile> =
        batch.into_iter().chain(file.queues.clone()).collect();
    let made = written.iter().map(|(name, queue)| {
        let key = format!("queues.{name}");
        word(&key, name, QUEUE_NAME_MAX)?;
        let mut defaults = resources(
            &format!("{key}.resources_default"),
            &queue.resources_default,
        )?;
        let limits = resources(&format!("{key}.resources_max"), &queue.resources_max)?;
        if defaults.get("walltime").is_none() {
            // A queue of shorter jobs would otherwise refuse every job that does not name a walltime.
            let set = defaults.set("walltime", default_walltime(&limits));
            set.expect("the built-in walltime is well formed");
        }
        let made = capstan_core::Queue {
            name: QueueName::from(name.as_str()),
            is_enabled: queue.enabled.unwrap_or(true),
            is_started: queue.started.unwrap_or(true),
            priority: queue.priority.unwrap_or(0),
            resources_default: defaults,
            resources_max: limits,
        };
        Ok((made.name.clone(), made))
    });
    made.collect()
}

fn resources(key: &str, written: &BTreeMap<String, Value>) -> Result<ResourceList, SettingError> {
    let mut list = ResourceList::default();
    for (name, value) in written {
        let key = format!("{key}.{name}");
        if resource_kind(name).is_none() {
            return Err(refuse(key, value, "no such resource"));
        }
        let set = list.set(name, &value.to_string());
        set.map_err(|error| refuse(key, value, error))?;
    }
    Ok(list)
}

fn users(key: &str, written: Option<&[String]>) -> Result<Vec<Box<str>>, SettingError> {
    let written = written.unwrap_or_default().iter();
    let checked = written.map(|user| word(key, user, NAME_MAX).map(|()| user.as_str().into()));
    checked.collect()
}

fn path(key: &str, written: Option<&Path>, default: &str) -> Result<PathBuf, SettingError> {
    let path = written.unwrap_or(Path::new(default));
    match path.is_absolute() {
        true => Ok(path.to_owned()),
        false => Err(refuse(key, path.display(), "not an absolute path")),
    }
}

/// Names appear in ids, files and comma lists, so they are plain words.
fn word(key: &str, name: &str, longest: usize) -> Result<(), SettingError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_plain) {
        return Err(refuse(key, name, "letters, digits, '-', '.' and '_' only"));
    }
    if name.len() > longest {
        return Err(refuse(key, name, format!("at most {longest} characters")));
    }
    Ok(())
}

fn refuse(key: impl Into<String>, value: impl ToString, problem: impl ToString) -> SettingError {
    SettingError {
        key: key.into(),
        value: value.to_string(),
        problem: problem.to_string(),
    }
}
