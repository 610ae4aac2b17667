//! The doctor's report, for people and for programs.

use anyhow::Context;
use serde_json::json;

use super::facts::Facts;
use super::judge::{Finding, Weight};

fn word(weight: Weight) -> &'static str {
    match weight {
        Weight::Warning => "warning",
        Weight::Broken => "broken",
    }
}

/// One line for the host, one for what it has, and four for each finding.
pub(super) fn as_text(facts: &Facts, findings: &[Finding]) -> String {
    let mut text = String::new();
    let head = format!(
        "{}: {}\n  {}\n",
        facts.node,
        summary(findings),
        equipment(facts)
    );
    text.push_str(&head);
    for finding in findings {
        let Finding {
            check,
            weight,
            what,
            why,
            mend,
        } = finding;
        let word = word(*weight);
        text.push_str(&format!(
            "\n{word:<8} {check}\n  what  {what}\n  why   {why}\n  mend  {mend}\n"
        ));
    }
    text
}

fn summary(findings: &[Finding]) -> String {
    let broken = findings
        .iter()
        .filter(|finding| finding.weight == Weight::Broken)
        .count();
    match (broken, findings.len() - broken) {
        (0, 0) => "nothing is wrong".to_owned(),
        (0, warnings) => format!("{warnings} to look at, none keeps jobs away"),
        (broken, warnings) => format!("{broken} broken, {warnings} to look at"),
    }
}

fn equipment(facts: &Facts) -> String {
    let cgroups = match (facts.cgroups.is_mounted, facts.cgroups.is_v2) {
        (false, _) => "no cgroups",
        (true, true) => "cgroups v2",
        (true, false) => "cgroups v1",
    };
    let engine = match &facts.engine.facts {
        Ok(engine) => format!("Docker {}", engine.version),
        Err(_) => "no Docker".to_owned(),
    };
    let cards = facts.nvidia.cards;
    let driver = facts.nvidia.module.as_deref().unwrap_or("none");
    let mut parts = vec![
        format!("kernel {}", facts.kernel),
        cgroups.to_owned(),
        engine,
        format!("{cards} cards (driver {driver})"),
    ];
    if let Some((path, disk)) = &facts.disks.images {
        parts.push(format!(
            "images at {}, {} % full",
            path.display(),
            disk.percent()
        ));
    }
    parts.join(", ")
}

/// One object, with every finding.
pub(super) fn as_json(facts: &Facts, findings: &[Finding]) -> anyhow::Result<String> {
    let all: Vec<_> = findings
        .iter()
        .map(|finding| {
            json!({
                "check": finding.check,
                "weight": word(finding.weight),
                "what": finding.what,
                "why": finding.why,
                "mend": finding.mend,
            })
        })
        .collect();
    let report = json!({
        "node": facts.node,
        "kernel": facts.kernel,
        "docker": facts.engine.facts.as_ref().map(|engine| engine.version.clone()).ok(),
        "nvidia_driver": facts.nvidia.module,
        "cards": facts.nvidia.cards,
        "findings": all,
    });
    let mut text = serde_json::to_string_pretty(&report).context("writing the report")?;
    text.push('\n');
    Ok(text)
}
