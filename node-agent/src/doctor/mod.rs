//! `doctor`: looks at a host, and says of each thing that is wrong what it is, why it matters and which line mends it. What
//! is looked at stands in [`facts`], what is made of it in [`judge`]; the agent does the same when it starts.

mod confinement;
mod facts;
mod judge;
mod report;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use capstan_gpu::NvmlGpus;
use capstan_runtime::DockerEngine;

use crate::notes::Notes;
use crate::settings::Settings;
use facts::Facts;
use judge::{Finding, Weight};

/// Looks at this host and prints what was found. The exit status is 0 when nothing was, 1 when there are warnings only,
/// 2 when something keeps jobs from running here.
pub(crate) async fn run(settings: &Settings, json: bool) -> anyhow::Result<ExitCode> {
    let engine = DockerEngine::at(&settings.docker_socket);
    let gpus = Arc::new(match settings.has_no_cards() {
        true => NvmlGpus::none(),
        false => NvmlGpus::open(settings.nvml_library.as_deref()),
    });
    let facts = Facts::gather(settings, &engine, gpus).await;
    let findings = judge::judge(&facts);
    let text = match json {
        true => report::as_json(&facts, &findings)?,
        false => report::as_text(&facts, &findings),
    };
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .context("writing the report")?;
    let worst = findings.iter().map(|finding| finding.weight).max();
    Ok(ExitCode::from(match worst {
        None => 0,
        Some(Weight::Warning) => 1,
        Some(Weight::Broken) => 2,
    }))
}

/// Notes for the doctor how far the server's clock is ahead of ours, and says so when it is far. `server_ms` is 0 from a
/// server that does not say. The time that the message took is in it, which does not matter here.
pub(crate) fn note_server_clock(run_folder: &Path, server_ms: u64, own_ms: u64) {
    if server_ms == 0 {
        return;
    }
    let ahead = (server_ms as i64).saturating_sub(own_ms as i64);
    if ahead.unsigned_abs() > judge::CLOCK_MS {
        tracing::warn!(
            server_ahead_ms = ahead,
            "the clocks of this host and of the server are apart"
        );
    }
    let file = run_folder.join(facts::CLOCK_FILE);
    if let Err(error) = std::fs::write(&file, format!("{ahead}\n")) {
        tracing::debug!(file = %file.display(), %error, "the doctor will not know the server's clock");
    }
}

/// Looks at this host beside the agent's start, tells the log, and notes for the administrators what keeps jobs away.
pub(crate) async fn tell(settings: Settings, gpus: Arc<NvmlGpus>, notes: Arc<Notes>) {
    let engine = DockerEngine::at(&settings.docker_socket);
    let facts = Facts::gather(&settings, &engine, gpus).await;
    let findings = judge::judge(&facts);
    for finding in &findings {
        let Finding {
            check,
            weight,
            what,
            why,
            mend,
        } = finding;
        match weight {
            Weight::Broken => tracing::error!(check, what, why, mend, "this host keeps jobs away"),
            Weight::Warning => tracing::warn!(check, what, why, mend, "this host could be better"),
        }
    }
    notes.put("doctor", &in_short(&findings), None);
    if findings.is_empty() {
        tracing::info!("this host is well: the doctor finds nothing");
    }
}

/// The first thing that keeps jobs away and the names of the others; empty where nothing does. What is told of by the
/// inventory as long as it lasts (engine, driver) is left to that.
fn in_short(findings: &[Finding]) -> String {
    let told_anyway = ["docker-missing", "docker-silent", "nvidia-driver"];
    let mut broken = findings.iter().filter(|finding| {
        finding.weight == Weight::Broken && !told_anyway.contains(&finding.check)
    });
    let Some(first) = broken.next() else {
        return String::new();
    };
    let others: Vec<&str> = broken.map(|finding| finding.check).collect();
    let others = match others.is_empty() {
        true => String::new(),
        false => format!("; also {}", others.join(" ")),
    };
    format!(
        "{} ({}){others}; see capstan doctor",
        first.what, first.check
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_keeps_jobs_away_and_is_told_nowhere_else_is_noted() {
        let finding = |check, weight| Finding {
            check,
            weight,
            what: format!("{check} is wrong"),
            why: "",
            mend: String::new(),
        };
        let check = |all: &[(&'static str, Weight)], expected: &str| {
            let all: Vec<Finding> = all
                .iter()
                .map(|(it, weight)| finding(it, *weight))
                .collect();
            assert_eq!(in_short(&all), expected);
        };
        check(&[("clock-apart", Weight::Warning)], "");
        check(&[("docker-silent", Weight::Broken)], "");
        check(
            &[
                ("state-full", Weight::Broken),
                ("kernel-old", Weight::Broken),
            ],
            "state-full is wrong (state-full); also kernel-old; see capstan doctor",
        );
    }
}
