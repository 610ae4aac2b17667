//! Processes on a card in words, as evidence: who they are by the kernel's word.

use std::fs;

use nix::unistd::{Uid, User};

use crate::ports::CardProcess;

/// Processes that are named; the rest is counted.
const NAMED_MAX: usize = 3;

/// "process 4711 (python of alice) holds 1200 MiB; and 2 more"; empty for none. Blocks for a moment.
#[must_use]
pub fn strangers(processes: &[CardProcess]) -> String {
    let named = processes.iter().take(NAMED_MAX).map(one);
    let mut text = named.collect::<Vec<_>>().join("; ");
    let rest = processes.len().saturating_sub(NAMED_MAX);
    if rest > 0 {
        text.push_str(&format!("; and {rest} more"));
    }
    text
}

fn one(process: &CardProcess) -> String {
    let CardProcess { pid, memory_bytes } = process;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.split_ascii_whitespace().next()?.to_owned())
    };
    let who = field("Name:").zip(field("Uid:").and_then(|uid| uid.parse().ok()));
    let who = who.map_or_else(
        || "of another namespace, or gone".to_owned(),
        |(name, uid)| {
            // A name is the process's own choice.
            let plain = |letter: &char| letter.is_ascii_graphic();
            let name: String = name.chars().filter(plain).collect();
            format!("{name} of {}", user(uid))
        },
    );
    let holds = match memory_bytes >> 20 {
        0 => String::new(),
        mib => format!(" holds {mib} MiB"),
    };
    format!("process {pid} ({who}){holds}")
}

fn user(uid: u32) -> String {
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    user.map_or_else(|| format!("uid {uid}"), |user| user.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_named_and_the_rest_is_counted() {
        let own = CardProcess {
            pid: std::process::id(),
            memory_bytes: 5 << 20,
        };
        let gone = CardProcess {
            pid: u32::MAX,
            memory_bytes: 0,
        };
        assert_eq!(strangers(&[]), "");
        let text = strangers(&[own, gone, gone, gone, gone]);
        assert!(
            text.starts_with(&format!("process {} (", own.pid)),
            "{text}"
        );
        assert!(
            text.contains(") holds 5 MiB; process ") && text.ends_with("; and 2 more"),
            "{text}"
        );
    }
}
