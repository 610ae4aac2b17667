//! `-W block=true`: waits until the job has ended, and ends as it did.

use std::time::Duration;

use capstan_proto::wire::stat_jobs_request::Detail;
use capstan_proto::wire::{JobAttributes, StatJobsRequest};
use capstan_types::Pbse;
use tonic::Status;

use crate::command::{Failure, refusal};
use crate::door::Server;

/// How often the server is asked. A job lives for seconds at least, and an answer is cheap.
const PAUSE: Duration = Duration::from_secs(1);
/// So often in a row a server may not answer: it is being restarted, and the job goes on meanwhile.
const SILENCES_MAX: u32 = 600;

/// Waits for the end of a job, or of all members of an array; its exit status, the greatest one of an array.
///
/// # Errors
/// The job is gone before its end was seen, or the server stays silent.
pub(super) async fn for_end(server: &mut Server, id: &str) -> Result<u8, Failure> {
    let mut silences = 0;
    loop {
        match look(server, id).await {
            Ok(jobs) if !jobs.is_empty() && jobs.iter().all(has_ended) => {
                return Ok(jobs.iter().map(exit).max().unwrap_or(0));
            }
            Ok(_) => silences = 0,
            Err(status) if refusal(&status).error == Pbse::Unkjobid => {
                let text = format!("qsub: job {id} is gone, and how it ended is not known");
                return Err(Failure::new(1, text));
            }
            Err(status) => {
                silences += 1;
                if silences > SILENCES_MAX {
                    let what = refusal(&status).text();
                    let text = format!("qsub: cannot wait for job {id}: {what}");
                    return Err(Failure::new(1, text));
                }
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn look(server: &mut Server, id: &str) -> Result<Vec<JobAttributes>, Status> {
    let request = StatJobsRequest {
        operand: id.to_owned(),
        detail: Detail::Full.into(),
        expand_arrays: true,
        ..StatJobsRequest::default()
    };
    let mut replies = server.stat_jobs(request).await?.into_inner();
    let mut jobs = Vec::new();
    while let Some(reply) = replies.message().await? {
        jobs.extend(reply.jobs);
    }
    // Of an array its members count.
    if jobs.len() > 1 {
        jobs.retain(|job| !job.id.contains("[]"));
    }
    Ok(jobs)
}

fn value<'a>(job: &'a JobAttributes, name: &str) -> Option<&'a str> {
    let found = job.attributes.iter().find(|found| found.name == name);
    found.map(|found| found.value.as_str())
}

fn has_ended(job: &JobAttributes) -> bool {
    value(job, "job_state") == Some("C")
}

/// As a shell would tell it: 128 and the signal when one ended the job, 1 for what PBS writes as a negative number and for
/// a job that never ran.
fn exit(job: &JobAttributes) -> u8 {
    let status: Option<i32> = value(job, "exit_status").and_then(|text| text.parse().ok());
    match status {
        Some(status @ 0..=255) => u8::try_from(status).unwrap_or(1),
        Some(status) if status > 256 => u8::try_from(status - 128).unwrap_or(255),
        Some(_) | None => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use capstan_proto::wire::Attribute;

    #[test]
    fn an_exit_status_is_told_as_a_shell_tells_it() {
        let check = |said: Option<&str>, expected: u8| {
            let attribute = |value: &str| Attribute {
                name: "exit_status".into(),
                resource: String::new(),
                value: value.into(),
            };
            let job = JobAttributes {
                id: "1.hn1".into(),
                attributes: said.map(attribute).into_iter().collect(),
                ..JobAttributes::default()
            };
            assert_eq!(exit(&job), expected, "{said:?}");
        };
        check(Some("0"), 0);
        check(Some("3"), 3);
        check(Some("137"), 137);
        check(Some("271"), 143);
        check(Some("-11"), 1);
        check(None, 1);
    }
}
