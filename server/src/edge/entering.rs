//! Why a queue does not take a job, in Torque's words.

use capstan_core::QueueRefusal;
use capstan_types::{Pbse, QueueName};
use tonic::Code;

/// The gRPC code, the PBS error, and what follows its text.
#[expect(
    clippy::too_many_lines,
    reason = "a table: each refusal with its words"
)]
pub(super) fn words(queue: &QueueName, owner: &str, why: &QueueRefusal) -> (Code, Pbse, String) {
    use QueueRefusal as Q;
    let who = format!("user {owner}, queue {queue}");
    match why {
        Q::Interactive => type_words(
            Pbse::Nointeractive,
            format!("interactive job is not allowed for queue: {who}"),
        ),
        Q::Batch => type_words(
            Pbse::Nobatch,
            format!("batch job is not allowed for queue: {who}"),
        ),
        Q::Rerunable => type_words(
            Pbse::Norerunable,
            format!("rerunable job is not allowed for queue: {who}"),
        ),
        Q::NonRerunable => type_words(
            Pbse::Nononrerunable,
            format!("only rerunable jobs are allowed for queue: {who}"),
        ),
        Q::FaultTolerant => type_words(
            Pbse::Nofaulttolerant,
            format!("fault_tolerant jobs are not allowed for queue: {who}"),
        ),
        Q::FaultIntolerant => type_words(
            Pbse::Nofaultintolerant,
            format!("only fault_tolerant jobs are allowed for queue: {who}"),
        ),
        Q::JobArray => type_words(
            Pbse::Nojobarrays,
            format!("job arrays are not allowed for queue: queue {queue}"),
        ),
        Q::GroupAcl => access_words(format!("group ACL is not satisfied: {who}")),
        Q::UserAcl => access_words(format!("user ACL rejected the submitting user: {who}")),
        Q::BothAcls => access_words(format!(
            "both user and group ACL rejected the submitting user: {who}"
        )),
        Q::HostAcl(host) => {
            let detail = format!("host ACL rejected the submitting host: {who}, host {host}");
            (Code::PermissionDenied, Pbse::Badhost, detail)
        }
        Q::Disabled => {
            let detail = format!("queue is disabled: {who}");
            (Code::FailedPrecondition, Pbse::Qunoenb, detail)
        }
        Q::RoutedOnly => {
            let detail = format!("queue accepts only routed jobs, no direct submission: {who}");
            (Code::PermissionDenied, Pbse::Qacess, detail)
        }
        Q::Full => {
            let detail = format!("total number of jobs in queue exceeds the queue limit: {who}");
            (Code::ResourceExhausted, Pbse::Maxqued, detail)
        }
        Q::UserFull => {
            let detail =
                format!("total number of current user's jobs exceeds the queue limit: {who}");
            (Code::ResourceExhausted, Pbse::Maxuserqued, detail)
        }
        Q::UserFullOnServer => (Code::ResourceExhausted, Pbse::Maxuserqued, String::new()),
        Q::UnderMinimum(resource) => {
            size_words(format!("Cannot satisfy queue min {resource} requirement"))
        }
        Q::OverMaximum {
            resource,
            by_server,
        } => {
            let whose = if *by_server { "server" } else { "queue" };
            size_words(format!("cannot satisfy {whose} max {resource} requirement"))
        }
        Q::OverNodes => size_words("job violates queue/server max resource limits".to_owned()),
        Q::GroupFull => full_words(format!(
            "total number of jobs of the user's group exceeds the queue limit: {who}"
        )),
        Q::GroupFullOnServer => full_words(format!(
            "total number of jobs of the user's group exceeds the server limit: user {owner}"
        )),
        Q::ServerFull => full_words(format!(
            "total number of jobs exceeds the server limit: user {owner}"
        )),
        Q::OverLimit(limit) => size_words(limit.refusal()),
    }
}

fn type_words(error: Pbse, detail: String) -> (Code, Pbse, String) {
    (Code::FailedPrecondition, error, detail)
}

fn full_words(detail: String) -> (Code, Pbse, String) {
    (Code::ResourceExhausted, Pbse::Maxqued, detail)
}

fn access_words(detail: String) -> (Code, Pbse, String) {
    (Code::PermissionDenied, Pbse::Perm, detail)
}

fn size_words(detail: String) -> (Code, Pbse, String) {
    (Code::InvalidArgument, Pbse::Excqresc, detail)
}
