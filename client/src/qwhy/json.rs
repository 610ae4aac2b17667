//! What `qwhy --json` prints: `{"jobs":[…],"now":…}`. Times are seconds since 1970; what is not known is left out.

use capstan_proto::wire::job_why::{Amount, Blocker, ExpectedStart, Factor, Lack};
use capstan_proto::wire::{JobWhy, WhyReply};
use serde_json::{Map, Value, json};

/// A document under way.
#[derive(Debug, Default)]
pub(super) struct Document {
    has_job: bool,
    now: u64,
    left_out: u64,
}

impl Document {
    /// Adds the jobs of an answer.
    pub(super) fn add(&mut self, out: &mut Vec<u8>, reply: &WhyReply) {
        self.now = reply.now_secs;
        self.left_out += reply.left_out;
        for job in &reply.jobs {
            out.extend_from_slice(match self.has_job {
                true => b",",
                false => b"{\"jobs\":[",
            });
            self.has_job = true;
            out.extend_from_slice(object(job).to_string().as_bytes());
        }
    }

    /// Ends it.
    pub(super) fn end(self, out: &mut Vec<u8>) {
        if !self.has_job {
            out.extend_from_slice(b"{\"jobs\":[");
        }
        let (now, left_out) = (self.now, self.left_out);
        out.extend_from_slice(format!("],\"left_out\":{left_out},\"now\":{now}}}\n").as_bytes());
    }
}

fn object(job: &JobWhy) -> Value {
    let JobWhy {
        id,
        name,
        owner,
        queue,
        state,
        reason,
        blockers,
        lack,
        before,
        in_line,
        factors,
        start,
        changes,
        waited,
        started_secs,
        sooner,
    } = job;
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| {
        object.insert(name.to_owned(), value);
    };
    put("id", json!(id));
    put("name", json!(name));
    put("owner", json!(owner));
    put("queue", json!(queue));
    put("state", json!(state));
    if !reason.is_empty() {
        put("reason", json!(reason));
    }
    put("blockers", blockers.iter().map(blocker_of).collect());
    if let Some(lack) = lack {
        put("lack", lack_of(lack));
    }
    if let Some(before) = before {
        put("line", line_of(*before, *in_line, factors));
    }
    if let Some(start) = start {
        put("estimated_start", start_of(start));
    }
    let changes = changes
        .iter()
        .map(|change| json!({"change": change.text, "command": change.command}));
    put("changes", changes.collect());
    let sooner = sooner.iter().map(|sooner| {
        let change = sooner.change.clone().unwrap_or_default();
        json!({
            "change": change.text,
            "command": change.command,
            "at": sooner.at_secs,
            "confidence": sooner.confidence,
        })
    });
    put("sooner", sooner.collect());
    if let Some(started) = started_secs {
        put("started", json!(started));
        let waited = waited
            .iter()
            .map(|wait| json!({"for": wait.what, "seconds": wait.secs}));
        put("waited", waited.collect());
    }
    Value::Object(object)
}

fn blocker_of(blocker: &Blocker) -> Value {
    let mut object = json!({"kind": blocker.kind, "text": blocker.text});
    if !blocker.remedy.is_empty() {
        object["remedy"] = json!(blocker.remedy);
    }
    object
}

fn line_of(before: u64, in_line: u64, factors: &[Factor]) -> Value {
    let points = factors.iter().map(|factor| {
        let points = factor.milli_points as f64 / 1000.0;
        (factor.name.clone(), json!(points))
    });
    let points: Map<String, Value> = points.collect();
    json!({"before": before, "in_line": in_line, "points": points})
}

fn start_of(start: &ExpectedStart) -> Value {
    json!({
        "at": start.at_secs,
        "confidence": start.confidence,
        "likely_by": start.likely_by_secs,
        "overdue": start.overdue,
    })
}

fn lack_of(lack: &Lack) -> Value {
    let nearest = lack.nearest.iter().map(
        |near| json!({"node": near.node, "free": amount(near.free), "unclean_cards": near.unclean}),
    );
    let holders = lack.holders.iter().map(|holder| {
        let mut object = json!({"node": holder.node, "held": amount(holder.held)});
        if !holder.job_id.is_empty() {
            object["job"] = json!(holder.job_id);
            object["user"] = json!(holder.user);
        }
        if let Some(until) = holder.until_secs {
            object["until"] = json!(until);
        }
        object
    });
    json!({
        "wanted": amount(lack.wanted),
        "nodes": lack.nodes,
        "nodes_ready": lack.ready,
        "nearest": nearest.collect::<Value>(),
        "holders": holders.collect::<Value>(),
    })
}

fn amount(amount: Option<Amount>) -> Value {
    let amount = amount.unwrap_or_default();
    json!({"cards": amount.cards, "slots": amount.slots, "memory_bytes": amount.memory_bytes})
}
