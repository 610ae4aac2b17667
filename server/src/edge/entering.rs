//! Why a queue does not take a job, in Torque's words.

use capstan_core::QueueRefusal;
use capstan_types::{Pbse, QueueName};
use tonic::Code;

/// The gRPC code, the PBS error, and what follows its text.
pub(super) fn words(queue: &QueueName, owner: &str, why: &QueueRefusal) -> (Code, Pbse, String) {
    use QueueRefusal as Q;
    let who = format!("user {owner}, queue {queue}");
    let not_allowed =
        |error: Pbse, what: &str| type_words(error, format!("{what} not allowed for queue: {who}"));
    let only = |error: Pbse, what: &str| {
        type_words(
            error,
            format!("only {what} jobs are allowed for queue: {who}"),
        )
    };
    match why {
        Q::Interactive => not_allowed(Pbse::Nointeractive, "interactive job is"),
        Q::Batch => not_allowed(Pbse::Nobatch, "batch job is"),
        Q::Rerunable => not_allowed(Pbse::Norerunable, "rerunable job is"),
        Q::NonRerunable => only(Pbse::Nononrerunable, "rerunable"),
        Q::FaultTolerant => not_allowed(Pbse::Nofaulttolerant, "fault_tolerant jobs are"),
        Q::FaultIntolerant => only(Pbse::Nofaultintolerant, "fault_tolerant"),
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
        Q::Disabled => type_words(Pbse::Qunoenb, format!("queue is disabled: {who}")),
        Q::RoutedOnly => {
            let detail = format!("queue accepts only routed jobs, no direct submission: {who}");
            (Code::PermissionDenied, Pbse::Qacess, detail)
        }
        Q::Full => full_words(format!(
            "total number of jobs in queue exceeds the queue limit: {who}"
        )),
        Q::UserFull => {
            let what = "total number of current user's jobs exceeds the queue limit";
            let detail = format!("{what}: {who}");
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
        Q::NoImage => type_words(
            Pbse::Badatval,
            format!("jobs of this queue are containers: name an image with -W image=NAME: {who}"),
        ),
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
