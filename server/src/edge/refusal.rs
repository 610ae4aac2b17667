//! The one place that turns the engine's refusals into PBS's words and gRPC's codes. No `_` arm: a new refusal does
//! not compile until somebody chooses its words.

use capstan_core::{Caller, Rejection};
use capstan_proto::Refusal;
use capstan_types::Pbse;
use tonic::{Code, Status};

use crate::engine::Refused;

/// The words of Torque for a request that no cluster state could ever satisfy.
const INFEASIBLE: &str = "cannot locate feasible nodes (nodes file is empty, all systems are busy, \
                          or no nodes have the requested feature)";

/// The status that tells `caller` of a refusal.
pub(crate) fn status(refused: &Refused, caller: &Caller) -> Status {
    let (code, error, detail) = match refused {
        Refused::Rejected(rejection) => {
            let (code, error, detail) = rejected(rejection, caller);
            let refusal = Refusal::new(error, detail).with_hint(hint(rejection));
            return refusal.into_status(code);
        }
        Refused::NotStored(error) => {
            let detail = match std::error::Error::source(error) {
                Some(cause) => format!("nothing was stored: {error}: {cause}"),
                None => format!("nothing was stored: {error}"),
            };
            (Code::ResourceExhausted, Pbse::CanNotWriteFile, detail)
        }
        Refused::Busy => (Code::Unavailable, Pbse::ServerBusy, String::new()),
        Refused::Stopping => (Code::Unavailable, Pbse::Svrdown, String::new()),
    };
    Refusal::new(error, detail).into_status(code)
}

/// Which gRPC code fits a refusal that the edge itself makes.
pub(crate) fn edge_status(refusal: Refusal) -> Status {
    use Pbse as P;
    let codes: [(Code, &[Pbse]); 3] = [
        (
            Code::NotFound,
            &[P::Unkjobid, P::Unkque, P::Unknode, P::Nonodes],
        ),
        (
            Code::PermissionDenied,
            &[P::Perm, P::Baduser, P::Badgrp, P::Attrro],
        ),
        (Code::Unimplemented, &[P::NotImplemented]),
    ];
    let found = codes
        .iter()
        .find(|(_, errors)| errors.contains(&refusal.error));
    let code = found.map_or(Code::InvalidArgument, |(code, _)| *code);
    refusal.into_status(code)
}

/// What is worth knowing and has no place in PBS's words.
fn hint(rejection: &Rejection) -> String {
    if let Rejection::NeverFits(reason) = rejection {
        return reason.to_string();
    }
    if let Rejection::QueueRefuses { .. }
    | Rejection::ArrayTooLarge { .. }
    | Rejection::BadDependency(..)
    | Rejection::DeadDependency { .. }
    | Rejection::DependencyLoop(_) = rejection
    {
        return rejection.to_string();
    }
    String::new()
}

fn rejected(rejection: &Rejection, caller: &Caller) -> (Code, Pbse, String) {
    use Rejection as R;
    let none = String::new;
    let asker = format!("user {}@{}", caller.user, caller.host);
    match rejection {
        R::UnknownJob(_) => (Code::NotFound, Pbse::Unkjobid, none()),
        R::UnknownQueue(_) => {
            let detail = "requested queue not found".to_owned();
            (Code::NotFound, Pbse::Unkque, detail)
        }
        R::NoDefaultQueue => {
            let detail = "requested queue not found".to_owned();
            (Code::FailedPrecondition, Pbse::Quenodflt, detail)
        }
        R::QueueRefuses { queue, owner, why } => super::entering::words(queue, owner, why),
        R::NoDestination(_) => (Code::FailedPrecondition, Pbse::Routerej, none()),
        R::Manage(problem) => super::managing::words(problem),
        // Programs compare the whole line, so that our own reason has no place on it.
        R::NeverFits(_) => (Code::InvalidArgument, Pbse::Excqresc, INFEASIBLE.to_owned()),
        R::ScriptTooLarge { .. } => (Code::InvalidArgument, Pbse::Exlimit, rejection.to_string()),
        R::ArrayTooLarge { max, .. } => {
            let detail = format!("Requested array size too large, limit is {max}");
            (Code::InvalidArgument, Pbse::BadArrayReq, detail)
        }
        R::SlotLimitTooHigh { max, .. } => {
            let detail = format!("Requested slot limit invalid, limit is {max}");
            (Code::InvalidArgument, Pbse::BadArrayReq, detail)
        }
        R::TooManyJobs(limit) => {
            let detail = format!("total number of jobs exceeds the server limit {limit}: {asker}");
            (Code::ResourceExhausted, Pbse::Maxqued, detail)
        }
        R::BadDependency(..) | R::DeadDependency { .. } | R::DependencyLoop(_) => {
            (Code::InvalidArgument, Pbse::Baddepend, none())
        }
        R::NotOwner(_) => {
            let detail = "operation not permitted".to_owned();
            (Code::PermissionDenied, Pbse::Perm, detail)
        }
        R::NotOperator | R::NotManager => (Code::PermissionDenied, Pbse::Perm, none()),
        R::AlreadyEnded(_) => {
            let detail = "invalid state for job - COMPLETE".to_owned();
            (Code::FailedPrecondition, Pbse::Badstate, detail)
        }
        R::UnknownNode(_) => {
            let detail = "cannot locate specified node".to_owned();
            (Code::NotFound, Pbse::Unknode, detail)
        }
        R::NodeNameTaken(_) => (Code::AlreadyExists, Pbse::Nodeexist, rejection.to_string()),
        R::StaleAttempt(_) => (Code::Aborted, Pbse::Badstate, rejection.to_string()),
        R::NotHeld(_) => (Code::FailedPrecondition, Pbse::StateSlotLimit, none()),
        R::Order(problem) => super::orders::words(problem, None),
        R::Reserve(problem) => super::reserving::words(problem),
        R::Illegal(_) => (Code::Internal, Pbse::Internal, rejection.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use capstan_store::StoreError;
    use capstan_types::JobId;

    use super::*;

    fn check(refused: Refused, number: u16, text: &str) {
        let caller = Caller {
            user: "alice".into(),
            uid: 1000,
            host: "hn1".into(),
        };
        let status = status(&refused, &caller);
        let refusal = Refusal::from_status(&status).unwrap();
        assert_eq!(
            (refusal.error.number(), &*refusal.text()),
            (number, text),
            "{refused:?}"
        );
    }

    /// Sessions B05, B10, E01, E02, F03, G03 and I03.
    #[test]
    fn refusals_are_in_the_words_of_torque() {
        let job = JobId::whole(7);
        let check =
            |rejection: Rejection, number, text: &str| check(rejection.into(), number, text);
        check(Rejection::UnknownJob(job), 15001, "Unknown Job Id Error");
        check(
            Rejection::UnknownQueue("nosuch".into()),
            15020,
            "Unknown queue MSG=requested queue not found",
        );
        check(
            Rejection::NeverFits("node01 has the most with 2 cards".into()),
            15038,
            "Job exceeds queue resource limits MSG=cannot locate feasible nodes (nodes file is \
             empty, all systems are busy, or no nodes have the requested feature)",
        );
        check(
            Rejection::ArrayTooLarge {
                members: 10,
                max: 5,
            },
            15083,
            "Bad Job Array Request MSG=Requested array size too large, limit is 5",
        );
        check(
            Rejection::SlotLimitTooHigh { limit: 5, max: 2 },
            15083,
            "Bad Job Array Request MSG=Requested slot limit invalid, limit is 2",
        );
        check(
            Rejection::NotOwner(job),
            15007,
            "Unauthorized Request  MSG=operation not permitted",
        );
        check(Rejection::NotOperator, 15007, "Unauthorized Request ");
        check(
            Rejection::AlreadyEnded(job),
            15018,
            "Request invalid for state of job MSG=invalid state for job - COMPLETE",
        );
        check(
            Rejection::NotHeld(job),
            15174,
            "The requested state or substate can't be set from the job's current state \
             (slot limit in effect).",
        );
        let condition = capstan_types::Condition::AfterOk;
        check(
            Rejection::BadDependency(condition, job),
            15056,
            "Invalid Job Dependency",
        );
    }

    #[test]
    fn a_full_disk_is_told_with_its_remedy() {
        let full = StoreError::Full {
            path: "/var/j.log".into(),
            source: std::io::Error::from(std::io::ErrorKind::StorageFull),
        };
        let text = "Error writing file MSG=nothing was stored: no room left to write /var/j.log: \
                    free space on this file system: no storage space";
        check(Refused::NotStored(Arc::new(full)), 15117, text);
    }
}
