//! What people order of jobs: qalter, qmove, qrerun, qrun, qorder, qchkpt. Reads orders into the core's words and puts
//! its refusals into Torque's, which differ from those of a submission: most come without a detail.

use std::sync::Arc;

use capstan_core::{
    AlterOrder, Altered, Event, Job, MoveOrder, OrderProblem, Payload, Rejection, Reply,
    RerunOrder, RunOrder, SwapOrder,
};
use capstan_proto::{Refusal, wire};
use capstan_types::{ArrayRequest, IndexSet, JobId, NodeSpec, Pbse, ServerName};
use tonic::{Code, Response, Status};

use super::identity::{Person, membership};
use super::refusal::{edge_status, status};
use super::submission::{self, Alteration, Rules};
use super::{Door, is_manager, is_operator};
use crate::engine::{Refused, payload_id};
use crate::snapshot::Snapshot;
use crate::view::selection::job_id;

type Answer = Result<Response<wire::Done>, Status>;

/// What Torque says when some members of an array could not be altered, or all.
const SOME_UNCHANGED: &str =
    "At least one array element did not modify successfully. Use qstat -f to verify changes";

/// `qalter`.
pub(super) async fn alter_job(
    door: &Arc<Door>,
    person: &Arc<Person>,
    request: wire::AlterJobRequest,
) -> Answer {
    let wire::AlterJobRequest {
        job_id: typed,
        attributes,
        replace_variables,
        variables,
        array_range,
    } = request;
    let snapshot = door.latest.get();
    let job = reach(&snapshot, person, &typed)?;
    let range = Range::parse(&array_range).map_err(edge_status)?;
    let (owner, by) = (owner(&job), person.clone());
    let (reading, asked) = (snapshot.clone(), job.clone());
    // A group is looked up in a directory that may be on the network.
    let read = tokio::task::spawn_blocking(move || {
        let rules = Rules {
            server: &reading.settings().server,
            root_may_submit: true,
            is_operator: is_operator(&reading, &by),
            is_manager: is_manager(&reading, &by),
            dialect: reading.settings().dialect,
            membership: &membership,
            person: &|_| None,
        };
        submission::alteration(&attributes, &owner, &asked, &rules)
    });
    let read = read
        .await
        .map_err(|error| Status::internal(error.to_string()))?;
    let Alteration {
        mut altered,
        mut wish,
        comment,
    } = read.map_err(|refusal| edge_status(bare(refusal)))?;
    if replace_variables {
        altered.push(Altered::Variables);
        wish.payload = Arc::new(with_variables(door, job.id, variables).await?);
    }
    if range.changes_slots {
        altered.push(Altered::SlotLimit);
    }
    let order = AlterOrder {
        job: job.id,
        members: range.members,
        by: person.as_caller(),
        altered,
        wish: Box::new(wish),
        slot_limit: range.slot_limit,
        comment,
    };
    decide(door, person, Event::Alter(Box::new(order))).await
}

/// `qmove`.
pub(super) async fn move_job(
    door: &Arc<Door>,
    person: &Arc<Person>,
    request: wire::MoveJobRequest,
) -> Answer {
    let wire::MoveJobRequest {
        job_id: typed,
        destination,
    } = request;
    let snapshot = door.latest.get();
    let job = reach(&snapshot, person, &typed)?;
    let queue = submission::queue(&destination, &snapshot.settings().server);
    let order = MoveOrder {
        job: job.id,
        queue: queue.map_err(edge_status)?,
        by: person.as_caller(),
    };
    decide(door, person, Event::Move(order)).await
}

/// `qrerun`.
pub(super) async fn rerun_job(
    door: &Arc<Door>,
    person: &Arc<Person>,
    request: wire::RerunJobRequest,
) -> Answer {
    let wire::RerunJobRequest {
        job_id: typed,
        force,
        message,
    } = request;
    let job = id(&door.latest.get(), &typed)?;
    let order = RerunOrder {
        job,
        force,
        by: person.as_caller(),
    };
    let done = decide(door, person, Event::Rerun(order)).await?;
    if !message.is_empty() {
        // In quotes and bounded, and only of those who may: others would write the log's lines for it.
        let said = tidy(&message);
        tracing::info!(%job, user = &*person.user, ?said, "a rerun was ordered with a message");
    }
    Ok(done)
}

/// `qrun`. The answer never waits for the start: the order is on the disk, and a node that is away gets it later.
pub(super) async fn run_job(
    door: &Arc<Door>,
    person: &Arc<Person>,
    request: wire::RunJobRequest,
) -> Answer {
    let wire::RunJobRequest {
        job_id: typed,
        hosts,
        asynchronous: _,
    } = request;
    let snapshot = door.latest.get();
    let job = id(&snapshot, &typed)?;
    let hosts = match hosts.as_str() {
        "" => None,
        hosts => {
            // Who may not run the job is told so before anything is said of the hosts.
            reach(&snapshot, person, &typed)?;
            let parsed = NodeSpec::parse(hosts);
            Some(parsed.map_err(|_| edge_status(Refusal::new(Pbse::Unknode, "")))?)
        }
    };
    let order = RunOrder {
        job,
        hosts,
        by: person.as_caller(),
    };
    decide(door, person, Event::Run(order)).await
}

/// `qorder`.
pub(super) async fn order_jobs(
    door: &Arc<Door>,
    person: &Arc<Person>,
    request: wire::OrderJobsRequest,
) -> Answer {
    let wire::OrderJobsRequest { first, second } = request;
    let snapshot = door.latest.get();
    let order = SwapOrder {
        first: id(&snapshot, &first)?,
        second: id(&snapshot, &second)?,
        by: person.as_caller(),
    };
    decide(door, person, Event::Swap(order)).await
}

/// `qchkpt`: as a Torque that was built without checkpointing, nothing can be checkpointed.
pub(super) async fn checkpoint_job(
    door: &Arc<Door>,
    person: &Arc<Person>,
    request: wire::CheckpointJobRequest,
) -> Answer {
    let wire::CheckpointJobRequest { job_id: typed } = request;
    reach(&door.latest.get(), person, &typed)?;
    let detail = "job is not checkpointable";
    Err(edge_status(Refusal::new(Pbse::Ivalreq, detail)))
}

/// `qalter -t`.
#[derive(Debug, Default, PartialEq)]
struct Range {
    members: Option<IndexSet>,
    changes_slots: bool,
    slot_limit: Option<u32>,
}

impl Range {
    /// `RANGE`, `RANGE%SLOTS`, `%SLOTS`; nothing for all members.
    fn parse(text: &str) -> Result<Self, Refusal> {
        let (list, slots) = match text.split_once('%') {
            Some((list, slots)) => (list, Some(slots)),
            None => (text, None),
        };
        let members = match list {
            "" => None,
            list => {
                let detail = "Error reading array range";
                let parsed = ArrayRequest::parse_list(list);
                Some(parsed.map_err(|_| Refusal::new(Pbse::Ivalreq, detail))?)
            }
        };
        // As at submission, what is no number, and 0, sets no limit.
        let slot_limit = slots.and_then(|slots| slots.parse().ok());
        Ok(Self {
            members,
            changes_slots: slots.is_some(),
            slot_limit: slot_limit.filter(|limit| *limit > 0),
        })
    }
}

/// Whose groups and paths an alteration is read by, whoever asks for it.
fn owner(job: &Job) -> Person {
    let owner = &job.spec.owner;
    Person {
        user: owner.user.clone(),
        uid: owner.uid,
        group: owner.group.clone(),
        host: owner.host.clone(),
    }
}

/// The job's script with other variables.
async fn with_variables(
    door: &Arc<Door>,
    job: JobId,
    variables: Vec<wire::Variable>,
) -> Result<Payload, Status> {
    let variables = submission::variables_of(variables).map_err(edge_status)?;
    let payloads = door.payloads.clone();
    let read = tokio::task::spawn_blocking(move || payloads.payload(payload_id(job)));
    let read = read
        .await
        .map_err(|error| Status::internal(error.to_string()))?;
    match read {
        Ok(Some(payload)) => Ok(Payload {
            script: payload.script.clone(),
            variables,
        }),
        // It has been deleted meanwhile.
        Ok(None) => Err(edge_status(unknown())),
        Err(error) => Err(edge_status(Refusal::new(
            Pbse::CanNotReadFile,
            format!("the script cannot be read from the server's store: {error}"),
        ))),
    }
}

/// Reads an id; the job may not be there.
fn id(snapshot: &Snapshot, typed: &str) -> Result<JobId, Status> {
    job_id(snapshot, typed).map_err(|refusal| {
        let is_unknown = refusal.error == Pbse::Unkjobid;
        edge_status(if is_unknown { unknown() } else { refusal })
    })
}

/// A job that `person` may order about and that is not over. Torque looks at this before it reads anything else of an
/// order; the engine will look again.
fn reach(snapshot: &Snapshot, person: &Person, typed: &str) -> Result<Arc<Job>, Status> {
    let id = id(snapshot, typed)?;
    let job = snapshot.state.resolve(id);
    let job = job.ok_or_else(|| edge_status(unknown()))?;
    let is_own = job.spec.owner.user == person.user;
    if !is_own && !is_operator(snapshot, person) {
        let refusal = Refusal::new(Pbse::Perm, "operation not permitted");
        return Err(edge_status(refusal));
    }
    if job.has_ended() {
        let refusal = Refusal::new(Pbse::Badstate, "invalid state for job - COMPLETE");
        return Err(edge_status(refusal));
    }
    Ok(job)
}

fn unknown() -> Refusal {
    Refusal::new(Pbse::Unkjobid, "cannot locate job")
}

async fn decide(door: &Arc<Door>, person: &Person, event: Event) -> Answer {
    match door.engine.ask(event).await {
        Ok(Reply::Done | Reply::Submitted(_) | Reply::Reserved(_)) => {
            Ok(Response::new(wire::Done {}))
        }
        Ok(Reply::SomeUnchanged) => Err(edge_status(Refusal::new(Pbse::Ivalreq, SOME_UNCHANGED))),
        Err(refused) => {
            let server = door.latest.get().settings().server.clone();
            Err(worded(&refused, person, &server))
        }
    }
}

/// Torque's words for the refusal of an order.
fn worded(refused: &Refused, person: &Person, server: &ServerName) -> Status {
    let plain = status(refused, &person.as_caller());
    let Refused::Rejected(rejection) = refused else {
        return plain;
    };
    if let Rejection::Order(problem) = rejection {
        let (code, error, detail) = words(problem, Some(server));
        return Refusal::new(error, detail).into_status(code);
    }
    if let Rejection::UnknownJob(_) = rejection {
        return edge_status(unknown());
    }
    if let Rejection::NotOwner(_) | Rejection::AlreadyEnded(_) = rejection {
        // These are told with their detail here as everywhere.
        return plain;
    }
    tracing::debug!(%rejection, "an order was refused");
    match Refusal::from_status(&plain) {
        Some(refusal) => Refusal::new(refusal.error, "").into_status(plain.code()),
        None => plain,
    }
}

/// Torque answers an alteration that it cannot read without saying what of it; we keep what is ours to say.
fn bare(refusal: Refusal) -> Refusal {
    let is_told = [Pbse::Unkresc, Pbse::NotImplemented, Pbse::Ivalreq].contains(&refusal.error);
    match is_told {
        true => refusal,
        false => Refusal::new(refusal.error, ""),
    }
}

/// PBS's words for why an order cannot be; ids with the server's name where it is known.
pub(super) fn words(problem: &OrderProblem, server: Option<&ServerName>) -> (Code, Pbse, String) {
    use OrderProblem as P;
    let state = Code::FailedPrecondition;
    let full = |id: &JobId| server.map_or_else(|| id.to_string(), |server| id.on(server));
    match problem {
        P::Exiting(_) => {
            let detail = "invalid state for job - EXITING".to_owned();
            (state, Pbse::Badstate, detail)
        }
        P::AlreadyRunning(_) => (state, Pbse::Badstate, "job already running".to_owned()),
        P::WrongState(_) => (state, Pbse::Badstate, String::new()),
        P::FixedWhileRunning(name) => (state, Pbse::Modatrrun, name.to_string()),
        P::MayNotRaise(_) => (Code::PermissionDenied, Pbse::Perm, String::new()),
        P::AlreadyInQueue(job, queue) => {
            let detail = format!("Job {} already in queue {queue}", full(job));
            (state, Pbse::JobAlreadyInQueue, detail)
        }
        P::MayNotRerun => {
            let detail = "additional permissions required (ATR_DFLAG_MGWR | ATR_DFLAG_OPWR)";
            (Code::PermissionDenied, Pbse::Perm, detail.to_owned())
        }
        P::NotRerunnable(job) => {
            let detail = format!("job {} not rerunnable", full(job));
            (state, Pbse::Norerun, detail)
        }
        P::NotRunning(job) => {
            let detail = format!("job {} is in a bad state", full(job));
            (state, Pbse::Badstate, detail)
        }
        P::QueueStopped(_) => {
            let detail = "attempt to start job in non-started queue".to_owned();
            (state, Pbse::Ivalreq, detail)
        }
        P::SlotLimit { limit, running } => {
            let detail = format!(
                "Cannot run job. Array slot limit is {limit} and there are already {running} jobs \
                 running"
            );
            (state, Pbse::Ivalreq, detail)
        }
        P::NoSuchHost(_) => (Code::NotFound, Pbse::Unknode, String::new()),
        P::NothingFree { wanted, free } => {
            let detail = format!(
                "job allocation request exceeds currently available cluster nodes, {wanted} \
                 requested, {free} available"
            );
            (Code::ResourceExhausted, Pbse::Rescunav, detail)
        }
        P::EngineAway { .. } | P::TooManyForced { .. } => (
            Code::FailedPrecondition,
            Pbse::Badstate,
            problem.to_string(),
        ),
        P::UnknownImage(_) => (Code::InvalidArgument, Pbse::Badatval, problem.to_string()),
        P::SharedVariables(_) => (Code::InvalidArgument, Pbse::Ivalreq, problem.to_string()),
        P::MembersUnchanged(_) => (state, Pbse::Ivalreq, SOME_UNCHANGED.to_owned()),
    }
}

/// A message of an operator to the owner of a job, as it may stand in a letter: lines of text, no more than
/// [`super::NOTE_BYTES_MAX`] characters.
pub(super) fn tidy(message: &str) -> Box<str> {
    let is_line = |c: char| c == '\n' || !c.is_control();
    let kept = message.chars().filter(|c| is_line(*c));
    kept.take(super::NOTE_BYTES_MAX).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(problem: OrderProblem) -> (u16, String) {
        let server = ServerName::from("hn1");
        let (_, error, detail) = words(&problem, Some(&server));
        (error.number(), Refusal::new(error, detail).text())
    }

    /// Sessions E03, E04, E06, E07 and G02.
    #[test]
    fn orders_are_refused_in_the_words_of_torque() {
        use OrderProblem as P;
        let job = JobId::whole(304);
        let check = |problem, number, expected: &str| {
            assert_eq!(text(problem), (number, expected.to_owned()));
        };
        check(
            P::FixedWhileRunning("Account_Name".into()),
            15017,
            "Cannot modify attribute while job running  Account_Name",
        );
        check(
            P::MayNotRaise("walltime".into()),
            15007,
            "Unauthorized Request ",
        );
        check(
            P::AlreadyInQueue(job, "batch".into()),
            15127,
            "Job is already in destination queue. MSG=Job 304.hn1 already in queue batch",
        );
        check(
            P::WrongState(job),
            15018,
            "Request invalid for state of job",
        );
        check(
            P::MayNotRerun,
            15007,
            "Unauthorized Request  MSG=additional permissions required (ATR_DFLAG_MGWR | \
             ATR_DFLAG_OPWR)",
        );
        check(
            P::NotRerunnable(job),
            15040,
            "job is not rerunnable MSG=job 304.hn1 not rerunnable",
        );
        check(
            P::NotRunning(job),
            15018,
            "Request invalid for state of job MSG=job 304.hn1 is in a bad state",
        );
        check(
            P::AlreadyRunning(job),
            15018,
            "Request invalid for state of job MSG=job already running",
        );
        check(
            P::QueueStopped("stoppedq".into()),
            15004,
            "Invalid request MSG=attempt to start job in non-started queue",
        );
        check(
            P::MembersUnchanged(JobId::array(7)),
            15004,
            "Invalid request MSG=At least one array element did not modify successfully. Use \
             qstat -f to verify changes",
        );
    }

    #[test]
    fn a_range_has_members_slots_or_both() {
        let check = |text: &str, members: Option<&str>, changes_slots, slot_limit| {
            let range = Range::parse(text).unwrap();
            let shown = range.members.map(|members| members.to_string());
            assert_eq!(shown.as_deref(), members, "{text}");
            assert_eq!(
                (range.changes_slots, range.slot_limit),
                (changes_slots, slot_limit)
            );
        };
        check("", None, false, None);
        check("0-2,5", Some("0-2,5"), false, None);
        check("%4", None, true, Some(4));
        check("0-2%4", Some("0-2"), true, Some(4));
        check("%0", None, true, None);
        check("%x", None, true, None);
        assert_eq!(Range::parse("2-0").unwrap_err().error, Pbse::Ivalreq);
    }
}
