//! The configuration of Torque's node daemon (`mom_priv/config`). Nothing of it is set by `qmgr`; each line is told with
//! what takes its place here.

use super::finding::{Findings, Place};

/// Settings with what there is instead, by the beginning of their names.
const INSTEAD: &[(&str, &str)] = &[
    (
        "$pbsserver",
        "the agent is told its server by `server` in agent.toml",
    ),
    (
        "$clienthost",
        "the agent is told its server by `server` in agent.toml",
    ),
    (
        "$usecp",
        "write it to `usecp` in agent.toml, a line for each; shared file systems are known without it",
    ),
    (
        "$rcpcmd",
        "write it without the `$` to agent.toml, as a text in quotes",
    ),
    (
        "$logevent",
        "the agent logs to its standard error, which the init system keeps",
    ),
    (
        "$loglevel",
        "the agent logs to its standard error, which the init system keeps",
    ),
    (
        "$log_",
        "the agent logs to its standard error, which the init system keeps",
    ),
    (
        "$spool_as_final_name",
        "output is always written where it stays",
    ),
    (
        "$nospool_dir_list",
        "output is always written where it stays",
    ),
    (
        "$cuda_visible_devices",
        "a job always sees its own cards only",
    ),
    ("$tmpdir", "folders of containers are volumes in agent.toml"),
    (
        "$node_check_script",
        "name the health script by `node_check_script` in agent.toml",
    ),
    (
        "$node_check_interval",
        "node_check_interval_secs in agent.toml has seconds, not intervals of 45; jobstart and jobend are \
         node_check_on_job_start and node_check_on_job_end",
    ),
    (
        "$node_check_on_job_",
        "write it without the `$` to agent.toml, as `true` or `false`",
    ),
    (
        "$prologalarm",
        "the time of prologues and epilogues is `prologue_timeout_secs` in agent.toml",
    ),
    (
        "$ideal_load",
        "nodes are full when their slots are taken, whatever their load",
    ),
    (
        "$max_load",
        "nodes are full when their slots are taken, whatever their load",
    ),
    ("$cputmult", "times are not scaled"),
    ("$wallmult", "times are not scaled"),
    ("$checkpoint", "jobs are not checkpointed"),
    ("$restart", "jobs are not checkpointed"),
    ("$remote_checkpoint", "jobs are not checkpointed"),
];

/// Tells each line of a configuration.
pub(super) fn read(file: &str, text: &str) -> Findings {
    let mut findings = Findings::default();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        let Some(word) = line
            .split_ascii_whitespace()
            .next()
            .filter(|word| !word.starts_with('#'))
        else {
            continue;
        };
        let known = INSTEAD.iter().find(|(name, _)| word.starts_with(name));
        let why = match known {
            Some((_, why)) => why,
            None if word.starts_with('$') => "the agent has no such setting",
            None => "resources of a node are what its agent finds",
        };
        findings.left(
            &Place::line(file, at + 1),
            line.escape_debug().to_string(),
            why,
        );
    }
    findings
}
