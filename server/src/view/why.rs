//! Why a job waits, as people and programs are told: the core's explanation in sentences and numbers. Who holds what is
//! told by name only to who may see that job.

use std::collections::BTreeMap;

use capstan_core::{
    Amount, Awaited, Blocker, Confidence, ExpectedStart, Explanation, Holder, Job, JobState, Lack,
    Suggestion, WaitedFor, explain, waited,
};
use capstan_proto::wire::{self, JobWhy, job_why};
use capstan_types::{Condition, Holds, JobId, Reason};

use super::selection::Viewer;
use super::{Scene, last_run, words};

/// Most jobs that are told in short.
const JOBS_MAX: usize = 1000;

/// One job in full. Costs milliseconds.
pub(crate) fn in_full(scene: Scene<'_>, viewer: Viewer<'_>, job: &Job) -> JobWhy {
    let snapshot = scene.snapshot;
    let found = explain(&snapshot.state, &snapshot.plan, job.id, scene.now);
    let Explanation {
        reason,
        blockers,
        lack,
        place,
        start,
        suggestions,
        sooner,
    } = found.unwrap_or_default();
    let factors = place.iter().flat_map(|place| &place.factors);
    JobWhy {
        reason: sentence(scene, job, reason.as_ref()),
        blockers: blockers
            .iter()
            .map(|blocker| told_blocker(scene, blocker))
            .collect(),
        lack: lack.map(|lack| told_lack(scene, viewer, &lack)),
        before: place.as_ref().map(|place| place.before),
        in_line: place.as_ref().map_or(0, |place| place.in_line),
        factors: factors
            .map(|factor| job_why::Factor {
                name: factor.name.to_string(),
                milli_points: factor.milli_points,
            })
            .collect(),
        start: start.as_ref().map(told_start),
        changes: suggestions
            .iter()
            .map(|suggestion| told_change(job, suggestion))
            .collect(),
        sooner: sooner
            .iter()
            .map(|sooner| job_why::SoonerWith {
                change: Some(told_change(job, &sooner.suggestion)),
                at_secs: sooner.at.secs(),
                confidence: confidence_word(sooner.confidence).to_owned(),
            })
            .collect(),
        waited: waited(job)
            .iter()
            .map(|wait| job_why::WaitedFor {
                what: wait.what.word().to_owned(),
                secs: wait.secs,
            })
            .collect(),
        started_secs: last_run(job).map(|run| run.placed.secs()),
        ..head(scene, job)
    }
}

/// All waiting jobs of the viewer, from what is known without asking anew.
pub(crate) fn in_short(scene: Scene<'_>, viewer: Viewer<'_>) -> wire::WhyReply {
    let plan = &scene.snapshot.plan;
    let pending = scene.snapshot.state.pending();
    let is_own = |job: &&std::sync::Arc<Job>| *job.spec.owner.user == *viewer.user;
    let mut own: Vec<_> = pending.filter(is_own).collect();
    let left_out = own.len().saturating_sub(JOBS_MAX);
    own.truncate(JOBS_MAX);
    let mut places: BTreeMap<JobId, Option<usize>> = own.iter().map(|job| (job.id, None)).collect();
    for (place, id) in plan.line.iter().enumerate() {
        if let Some(known) = places.get_mut(id) {
            *known = Some(place);
        }
    }
    let jobs = own.into_iter().map(|job| {
        let place = places.get(&job.id).copied().flatten();
        let start = super::attributes::expected_start(scene, job);
        let start = start.filter(|_| place.is_some());
        JobWhy {
            reason: sentence(scene, job, scene.snapshot.reason(job.id)),
            before: place.map(|place| place as u64),
            in_line: plan.line.len() as u64,
            start: start.map(|(at, confidence)| job_why::ExpectedStart {
                at_secs: at.secs(),
                confidence: confidence_word(confidence).to_owned(),
                likely_by_secs: at.secs(),
                overdue: false,
            }),
            ..head(scene, job)
        }
    });
    wire::WhyReply {
        jobs: jobs.collect(),
        left_out: left_out as u64,
        now_secs: scene.now.secs(),
    }
}

fn head(scene: Scene<'_>, job: &Job) -> JobWhy {
    JobWhy {
        id: job.id.on(scene.server()),
        name: words::job_name(job).into_owned(),
        owner: job.spec.owner.user.to_string(),
        queue: job.queue.to_string(),
        state: job.letter(scene.now).to_string(),
        ..JobWhy::default()
    }
}

/// Why it waits, in one sentence.
fn sentence(scene: Scene<'_>, job: &Job, reason: Option<&Reason>) -> String {
    if !matches!(job.state, JobState::Pending) {
        return String::new();
    }
    match reason {
        Some(reason) => detail(reason),
        None if !scene.snapshot.settings().is_scheduling() => {
            "the scheduler is switched off (server attribute scheduling)".to_owned()
        }
        None => String::new(),
    }
}

/// What a reason says behind the sentence of Torque.
fn detail(reason: &Reason) -> String {
    let text = reason.to_string();
    let inner = text.split_once(" (").map(|(_, inner)| inner);
    let inner = inner.and_then(|inner| inner.strip_suffix(')'));
    inner.map_or(text.clone(), str::to_owned)
}

fn told_blocker(scene: Scene<'_>, blocker: &Blocker) -> job_why::Blocker {
    match blocker {
        Blocker::Reason(reason) => job_why::Blocker {
            kind: WaitedFor::of(reason).word().to_owned(),
            text: detail(reason),
            remedy: remedy(reason),
        },
        Blocker::Awaited { condition, job, is } => {
            let id = job.on(scene.server());
            let wanted = match condition {
                Condition::After => "waits for the start of",
                Condition::AfterOk => "waits for the success of",
                Condition::AfterNotOk => "waits for the failure of",
                Condition::AfterAny => "waits for the end of",
            };
            let (is, remedy) = match is {
                Awaited::Waiting => (", which waits itself".to_owned(), format!("qwhy {id}")),
                Awaited::Running(until) => (
                    format!(", which runs until {until} at the latest"),
                    String::new(),
                ),
                Awaited::Never => (
                    ", which can never be: that job is over".to_owned(),
                    "qalter -W depend= takes the condition away, qdel the job".to_owned(),
                ),
            };
            job_why::Blocker {
                kind: WaitedFor::Dependency.word().to_owned(),
                text: format!("{wanted} {id}{is}"),
                remedy,
            }
        }
    }
}

/// Who can do something about it.
fn remedy(reason: &Reason) -> String {
    let Reason::Held(holds) = reason else {
        return String::new();
    };
    let who = [
        (Holds::USER, "its owner releases the hold u: qrls"),
        (Holds::OPERATOR, "an operator releases the hold o"),
        (Holds::SYSTEM, "a manager releases the hold s"),
        (
            Holds::SLOT,
            "the hold goes when other members of the array have ended",
        ),
    ];
    let who = who
        .iter()
        .filter(|(kind, _)| holds.without(*kind) != *holds);
    let who: Vec<&str> = who.map(|(_, text)| *text).collect();
    who.join("; ")
}

fn told_lack(scene: Scene<'_>, viewer: Viewer<'_>, lack: &Lack) -> job_why::Lack {
    job_why::Lack {
        wanted: Some(told_amount(lack.wanted)),
        nodes: lack.nodes,
        ready: lack.ready,
        nearest: lack
            .nearest
            .iter()
            .map(|near| job_why::NearNode {
                node: near.node.to_string(),
                free: Some(told_amount(near.free)),
                unclean: near.unclean,
            })
            .collect(),
        holders: lack
            .holders
            .iter()
            .map(|holder| told_holder(scene, viewer, holder))
            .collect(),
    }
}

fn told_holder(scene: Scene<'_>, viewer: Viewer<'_>, holder: &Holder) -> job_why::Holder {
    let is_shown = viewer.may_see_of(scene.snapshot, &holder.user);
    let shown = |text: String| if is_shown { text } else { String::new() };
    job_why::Holder {
        job_id: shown(holder.job.on(scene.server())),
        user: shown(holder.user.to_string()),
        node: holder.node.to_string(),
        held: Some(told_amount(holder.held)),
        until_secs: holder.until.map(|until| until.secs()),
    }
}

const fn told_amount(amount: Amount) -> job_why::Amount {
    job_why::Amount {
        cards: amount.cards,
        slots: amount.slots,
        memory_bytes: amount.memory_bytes,
    }
}

fn told_start(start: &ExpectedStart) -> job_why::ExpectedStart {
    job_why::ExpectedStart {
        at_secs: start.at.secs(),
        confidence: confidence_word(start.confidence).to_owned(),
        likely_by_secs: start.likely_by.secs(),
        overdue: start.is_overdue,
    }
}

/// The word for how sure it is.
pub(crate) const fn confidence_word(confidence: Confidence) -> &'static str {
    match confidence {
        Confidence::Firm => "firm",
        Confidence::Likely => "likely",
        Confidence::Guess => "guess",
    }
}

fn told_change(job: &Job, suggestion: &Suggestion) -> job_why::Change {
    let id = job.id;
    match suggestion {
        Suggestion::Resource {
            name,
            value,
            change,
        } => job_why::Change {
            text: change.to_string(),
            command: format!("qalter -l {name}={value} {id}"),
        },
        Suggestion::Queue(queue) => job_why::Change {
            text: format!("queue {queue}"),
            command: format!("qmove {queue} {id}"),
        },
    }
}
