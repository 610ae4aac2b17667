//! `doctor`: looks at a host, and says of each thing that is wrong what it is, why it matters and which line mends it. What
//! is looked at stands in [`facts`], what is made of it in [`judge`]; the agent does the same when it starts.

mod facts;
mod judge;
mod report;

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use capstan_gpu::NvmlGpus;
use capstan_runtime::DockerEngine;

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

/// Looks at this host beside the agent's start and tells the log.
pub(crate) async fn tell_log(settings: Settings, gpus: Arc<NvmlGpus>) {
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
    if findings.is_empty() {
        tracing::info!("this host is well: the doctor finds nothing");
    }
}
