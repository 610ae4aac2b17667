//! `qwhy`: why jobs wait. One job is explained in full, on a thread for that and in turn with other questions that cost
//! something; all jobs of the caller in short, from what the last plan said.

use std::sync::Arc;

use capstan_proto::wire;
use tonic::Status;

use super::Door;
use super::identity::Person;
use super::listing::viewer;
use super::refusal::edge_status;
use crate::clock;
use crate::view::Scene;
use crate::view::selection::select;
use crate::view::why;

/// Why the job that is named waits, or the caller's waiting jobs.
///
/// # Errors
/// No such job, one that the caller may not see, and too many questions at once.
pub(super) async fn explain(
    door: &Door,
    person: Arc<Person>,
    request: wire::WhyRequest,
) -> Result<wire::WhyReply, Status> {
    let wire::WhyRequest { job_id } = request;
    let counted = door.examinations.count(person.uid).map_err(edge_status)?;
    let snapshot = door.latest.get();
    let telemetry = door.telemetry.clone();
    let answer = move || {
        let viewer = viewer(&snapshot, &person);
        let scene = Scene {
            snapshot: &snapshot,
            telemetry: &telemetry,
            now: clock::wall(),
        };
        if job_id.is_empty() {
            return Ok(why::in_short(scene, viewer));
        }
        let request = wire::StatJobsRequest {
            operand: job_id,
            include_finished: true,
            ..wire::StatJobsRequest::default()
        };
        let items = select(&snapshot, viewer, &request)?;
        let jobs = items
            .iter()
            .take(1)
            .map(|item| why::in_full(scene, viewer, &item.job()));
        Ok(wire::WhyReply {
            jobs: jobs.collect(),
            left_out: 0,
            now_secs: scene.now.secs(),
        })
    };
    let answered = door.examinations.in_turn(counted, answer).await?;
    answered.map_err(edge_status)
}
