//! What `qstat` gets to print, against what was recorded on Torque.

use std::sync::Arc;

use capstan_core::{ArrayState, Holds, Job, JobSpec, JobState};
use capstan_proto::wire::{self, StatJobsRequest};
use capstan_types::{ArrayRequest, Env, JobId, Pbse, Reason};

use super::selection::{Viewer, job_id, select};
use super::*;
use crate::snapshot::Snapshot;
use crate::testing::{ended, job, run, seconds, state};

fn snapshot(jobs: impl IntoIterator<Item = Job>) -> Snapshot {
    Snapshot {
        state: state(jobs),
        ..Snapshot::default()
    }
}

/// Attributes as `name[.resource] = value`, without the times.
fn shown(job: Job, variables: Option<&Env>, now: u64) -> Vec<String> {
    let snapshot = snapshot([job.clone()]);
    let telemetry = Telemetry::default();
    let scene = Scene {
        snapshot: &snapshot,
        telemetry: &telemetry,
        now: seconds(now),
    };
    let list = attributes::attributes(scene, &job, variables).attributes;
    let list = list.into_iter().map(|attribute| {
        let wire::Attribute {
            name,
            resource,
            value,
        } = attribute;
        match resource.as_str() {
            "" => format!("{name} = {value}"),
            resource => format!("{name}.{resource} = {value}"),
        }
    });
    list.collect()
}

fn with_spec(mut job: Job, change: impl FnOnce(&mut JobSpec)) -> Job {
    change(Arc::make_mut(&mut job.spec));
    job
}

/// Session D01: every line of `qstat -f 259.hn1`, in its order.
#[test]
fn attributes_are_in_the_order_of_qstat_f() {
    let asked = [("nodes", "1"), ("walltime", "01:00:00"), ("nodect", "1")];
    let job = job(JobId::whole(259), "envjob", &asked);
    let job = with_spec(job, |spec| {
        spec.join = capstan_types::JoinPath::IntoStdout;
        spec.shown = vec![("submit_args".into(), "-N envjob -v FOO=bar env.sh".into())];
    });
    let job = ended(job, run(&[("gpu01", &[0], &[])], 0, 18703), 0, 0);
    let variables = [("FOO", "b,r"), ("PBS_O_WORKDIR", "/home/alice")];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let seen = shown(job, Some(&variables.into_iter().collect()), 10);
    let at = crate::testing::BEGIN;
    let started = words::started_on(seconds(0));
    let expected = [
        "Job_Name = envjob".to_owned(),
        "Job_Owner = alice@hn1".to_owned(),
        "resources_used.cput = 00:00:00".to_owned(),
        "resources_used.vmem = 0kb".to_owned(),
        "resources_used.walltime = 00:00:00".to_owned(),
        "resources_used.mem = 0kb".to_owned(),
        "resources_used.energy_used = 0".to_owned(),
        "job_state = C".to_owned(),
        "queue = batch".to_owned(),
        "server = hn1".to_owned(),
        "Checkpoint = u".to_owned(),
        format!("ctime = {at}"),
        "Error_Path = hn1:/home/alice/envjob.e259".to_owned(),
        "exec_host = gpu01/0".to_owned(),
        "Hold_Types = n".to_owned(),
        "Join_Path = oe".to_owned(),
        "Keep_Files = n".to_owned(),
        "Mail_Points = a".to_owned(),
        format!("mtime = {at}"),
        "Output_Path = hn1:/home/alice/envjob.o259".to_owned(),
        "Priority = 0".to_owned(),
        format!("qtime = {at}"),
        "Rerunable = True".to_owned(),
        "Resource_List.nodes = 1".to_owned(),
        "Resource_List.walltime = 01:00:00".to_owned(),
        "Resource_List.nodect = 1".to_owned(),
        "session_id = 18703".to_owned(),
        "Variable_List = PBS_O_QUEUE=batch,FOO=b\\,r,PBS_O_WORKDIR=/home/alice,PBS_O_SERVER=hn1"
            .to_owned(),
        "euser = alice".to_owned(),
        "egroup = alice".to_owned(),
        "queue_type = E".to_owned(),
        format!("comment = {started}"),
        format!("etime = {at}"),
        "exit_status = 0".to_owned(),
        "submit_args = -N envjob -v FOO=bar env.sh".to_owned(),
        format!("start_time = {at}"),
        "start_count = 1".to_owned(),
        "fault_tolerant = False".to_owned(),
        format!("comp_time = {at}"),
        "job_radix = 0".to_owned(),
        "total_runtime = 0.000000".to_owned(),
        "submit_host = hn1".to_owned(),
        "init_work_dir = /home/alice".to_owned(),
        "request_version = 1".to_owned(),
    ];
    assert_eq!(seen, expected);
}

/// Session C02, job 248, and the cards of D04.
#[test]
fn a_running_job_shows_its_places_and_what_remains() {
    let asked = [("nodes", "2:ppn=2:gpus=2"), ("walltime", "00:20:00")];
    let mut job = job(JobId::whole(248), "run1", &asked);
    let places: [(&str, &[u16], &[u32]); 2] =
        [("gpu02", &[0, 1], &[0, 1]), ("gpu01", &[0, 1, 3], &[0, 1])];
    job.state = JobState::Running(run(&places, 0, 7));
    let seen = shown(job, None, 7);
    let line = |name: &str| {
        seen.iter()
            .find(|line| line.starts_with(name))
            .unwrap()
            .as_str()
    };
    assert_eq!(line("exec_host"), "exec_host = gpu02/0-1+gpu01/0-1,3");
    let cards = "exec_gpus = gpu01-gpu/1+gpu01-gpu/0+gpu02-gpu/1+gpu02-gpu/0";
    assert_eq!(line("exec_gpus"), cards);
    assert_eq!(line("Walltime"), "Walltime.Remaining = 1193");
    assert!(
        !seen.iter().any(|line| line.starts_with("Variable_List")),
        "not the caller's job"
    );
    assert!(
        !seen.iter().any(|line| line.starts_with("resources_used")),
        "nothing known yet"
    );
}

#[test]
fn a_waiting_job_says_why_but_holds_speak_for_themselves() {
    let waiting = job(JobId::whole(1), "a", &[]);
    let held = Job {
        holds: Holds::USER,
        ..job(JobId::whole(2), "b", &[])
    };
    let mut snapshot = snapshot([waiting.clone(), held.clone()]);
    let reasons = [
        (JobId::whole(1), Reason::QueueStopped("mcc".into())),
        (JobId::whole(2), Reason::Held(capstan_types::Holds::USER)),
    ];
    snapshot.plan = std::sync::Arc::new(capstan_core::Plan {
        reasons: reasons.into_iter().collect(),
        ..capstan_core::Plan::default()
    });
    let telemetry = Telemetry::default();
    let scene = Scene {
        snapshot: &snapshot,
        telemetry: &telemetry,
        now: seconds(1),
    };
    let whole = "Not Running: Queue not started. (queue mcc is stopped)";
    assert_eq!(scene.explanation(&waiting).as_deref(), Some(whole));
    assert_eq!(scene.comment(&waiting).as_deref(), Some(whole));
    assert_eq!(scene.comment(&held), None);
    let mut snapshot = snapshot.clone();
    let mut settings = capstan_core::Settings::clone(snapshot.settings());
    settings.scheduler = capstan_core::Scheduler::Fifo;
    let settings = capstan_core::Change::PutSettings(std::sync::Arc::new(settings));
    snapshot.state.absorb(&settings);
    let scene = Scene {
        snapshot: &snapshot,
        ..scene
    };
    let comment = scene.comment(&waiting);
    assert_eq!(comment.as_deref(), Some("Not Running: Queue not started."));
}

fn array() -> [Job; 2] {
    let array = job(JobId::array(352), "arr", &[("nodes", "1")]);
    let mut array = with_spec(array, |spec| {
        spec.array = Some(ArrayRequest::parse("1-3").unwrap());
    });
    array.array = Some(ArrayState {
        waiting: ArrayRequest::parse("1-3").unwrap().indices,
        ..ArrayState::default()
    });
    let member = job(JobId::member(352, 2), "arr", &[("nodes", "1")]);
    array.array.as_mut().unwrap().waiting.remove(2);
    [array, member]
}

fn check(operand: &str, expand: bool, expected: Result<&[&str], Pbse>) {
    let jobs = array().into_iter().chain([job(JobId::whole(7), "x", &[])]);
    let snapshot = snapshot(jobs);
    let request = StatJobsRequest {
        operand: operand.to_owned(),
        expand_arrays: expand,
        ..StatJobsRequest::default()
    };
    let viewer = Viewer {
        user: "alice",
        sees_all: false,
    };
    let found = select(&snapshot, viewer, &request);
    let found = found.map(|items| -> Vec<String> {
        items.iter().map(|item| item.job().id.to_string()).collect()
    });
    let found = found.map_err(|refusal| refusal.error);
    let expected = expected.map(|ids| ids.iter().map(|id| (*id).to_owned()).collect());
    assert_eq!(found, expected, "{operand} {expand}");
}

/// Session G01.
#[test]
fn ids_queues_and_arrays_select_their_jobs() {
    check("", false, Ok(&["7", "352[]"]));
    check("", true, Ok(&["7", "352[1]", "352[2]", "352[3]"]));
    check("7", false, Ok(&["7"]));
    check("7.hn1", false, Ok(&["7"]));
    check("7.other", false, Err(Pbse::Unkjobid));
    check("8", false, Err(Pbse::Unkjobid));
    check("352", false, Err(Pbse::Unkjobid));
    check("352[]", false, Ok(&["352[]"]));
    check("352[]", true, Ok(&["352[1]", "352[2]", "352[3]"]));
    check("352[3].hn1", false, Ok(&["352[3]"]));
    check("352[9]", false, Err(Pbse::Unkjobid));
    check("1x", false, Err(Pbse::Ivalreq));
    check("batch", false, Ok(&["7", "352[]"]));
    check("nosuchq", false, Err(Pbse::Unkque));
}

#[test]
fn an_id_of_another_server_is_unknown() {
    let snapshot = snapshot([]);
    assert_eq!(
        job_id(&snapshot, "12[3].hn1").unwrap(),
        JobId::member(12, 3)
    );
    assert_eq!(
        job_id(&snapshot, "1.2.3").unwrap_err().error,
        Pbse::Unkjobid
    );
}

#[test]
fn members_of_arrays_count_one_by_one() {
    let snapshot = snapshot(array());
    let telemetry = Telemetry::default();
    let scene = Scene {
        snapshot: &snapshot,
        telemetry: &telemetry,
        now: seconds(1),
    };
    let counts = counts::all(scene).state_count();
    let expected = "Transit:0 Queued:3 Held:0 Waiting:0 Running:0 Exiting:0 Complete:0 ";
    assert_eq!(counts, expected);
}

fn names(lines: &[String]) -> Vec<&str> {
    let names = lines
        .iter()
        .map(|line| line.split(" = ").next().unwrap_or_default());
    names.collect()
}

/// Session C02, job 251: what a held job of somebody else shows, in its order.
#[test]
fn a_held_job_has_neither_variables_nor_an_eligible_time() {
    let asked = [
        ("ncpus", "2"),
        ("cput", "00:30:00"),
        ("walltime", "01:00:00"),
    ];
    let job = Job {
        holds: Holds::USER,
        eligible: None,
        ..job(JobId::whole(251), "heldjob", &asked)
    };
    let job = with_spec(job, |spec| {
        spec.shown = vec![
            ("submit_args".into(), "-h".into()),
            ("Account_Name".into(), "acct".into()),
        ];
    });
    let expected = "Job_Name Job_Owner job_state queue server Account_Name Checkpoint ctime Error_Path \
        Hold_Types Join_Path Keep_Files Mail_Points mtime Output_Path Priority qtime Rerunable \
        Resource_List.ncpus Resource_List.cput Resource_List.walltime euser egroup queue_type submit_args \
        fault_tolerant job_radix submit_host init_work_dir request_version";
    let expected: Vec<&str> = expected.split_whitespace().collect();
    assert_eq!(names(&shown(job, None, 1)), expected);
}

/// Sessions C02 and G01: an array has no qtime, a member that is not held no Hold_Types, and its index.
#[test]
fn arrays_and_members_show_what_they_have() {
    let [array, member] = array();
    let seen = shown(array, None, 1);
    assert!(
        seen.contains(&"job_array_request = 1-3".to_owned()),
        "{seen:?}"
    );
    assert!(seen.contains(&"Hold_Types = n".to_owned()), "{seen:?}");
    assert!(!names(&seen).contains(&"qtime"), "{seen:?}");
    let seen = shown(member, None, 1);
    assert!(seen.contains(&"job_array_id = 2".to_owned()), "{seen:?}");
    assert!(seen.contains(&"Job_Name = arr-2".to_owned()), "{seen:?}");
    assert!(!names(&seen).contains(&"Hold_Types"), "{seen:?}");
    assert!(names(&seen).contains(&"qtime"), "{seen:?}");
}

/// Session H08: nothing is known of what a job uses in its first seconds.
#[test]
fn usage_of_a_job_that_has_just_started_is_kept_back() {
    let mut running = job(JobId::whole(1), "a", &[]);
    let mut attempt = run(&[("gpu01", &[0], &[])], 0, 7);
    attempt.usage.cput_secs = 5;
    running.state = JobState::Running(attempt);
    let snapshot = snapshot([running.clone()]);
    let telemetry = Telemetry::default();
    let usage = |now| {
        let scene = Scene {
            snapshot: &snapshot,
            telemetry: &telemetry,
            now: seconds(now),
        };
        scene.usage(&running).map(|usage| usage.cput_secs)
    };
    assert_eq!(usage(10), None);
    assert_eq!(usage(60), Some(5));
}

/// What others may see when `query_other_jobs` is off.
#[test]
fn only_ones_own_jobs_are_listed_when_the_server_says_so() {
    let mut snapshot = snapshot([job(JobId::whole(7), "x", &[])]);
    let settings = snapshot.settings().clone();
    let mut settings = capstan_core::Settings::clone(&settings);
    settings.set("query_other_jobs", "False");
    snapshot
        .state
        .absorb(&capstan_core::Change::PutSettings(Arc::new(settings)));
    let seen = |user, sees_all, operand: &str| {
        let request = StatJobsRequest {
            operand: operand.to_owned(),
            ..StatJobsRequest::default()
        };
        let viewer = Viewer { user, sees_all };
        select(&snapshot, viewer, &request)
            .map(|items| items.len())
            .map_err(|refusal| refusal.error)
    };
    assert_eq!(seen("alice", false, ""), Ok(1));
    assert_eq!(seen("bob", false, ""), Ok(0));
    assert_eq!(seen("bob", false, "7"), Err(Pbse::Perm));
    assert_eq!(seen("bob", true, "7"), Ok(1));
}

/// In PBS Pro's dialect what is over is history.
#[test]
fn finished_jobs_are_history_in_the_dialect_of_pbs_pro() {
    let over = job(JobId::whole(7), "x", &[]);
    let over = ended(over, run(&[("gpu01", &[0], &[])], 0, 1), 1, 0);
    let snapshot = snapshot([over]);
    let viewer = Viewer {
        user: "alice",
        sees_all: false,
    };
    let seen = |operand: &str, include_finished| {
        let request = StatJobsRequest {
            operand: operand.to_owned(),
            dialect: "pbspro".to_owned(),
            include_finished,
            ..StatJobsRequest::default()
        };
        let found = select(&snapshot, viewer, &request);
        found
            .map(|items| items.len())
            .map_err(|refusal| refusal.error)
    };
    assert_eq!(seen("", false), Ok(0));
    assert_eq!(seen("", true), Ok(1));
    assert_eq!(seen("7", false), Err(Pbse::Unkjobid));
    assert_eq!(seen("7", true), Ok(1));
}

/// Session C02: NDS, TSK, memory and time of the alternate format.
#[test]
fn wide_rows_count_nodes_and_tasks_as_torque_does() {
    let check = |asked: &[(&str, &str)], nodes, tasks, memory: &str, requested| {
        let job = job(JobId::whole(1), "a", asked);
        let snapshot = snapshot([job.clone()]);
        let telemetry = Telemetry::default();
        let scene = Scene {
            snapshot: &snapshot,
            telemetry: &telemetry,
            now: seconds(1),
        };
        let wide = rows::row(scene, &job, true).wide.unwrap();
        let seen = (
            wide.nodes,
            wide.tasks,
            wide.memory.as_str(),
            wide.requested_secs,
        );
        assert_eq!(seen, (nodes, tasks, memory, requested), "{asked:?}");
    };
    let two = [
        ("nodes", "2:ppn=2"),
        ("walltime", "00:20:00"),
        ("mem", "200mb"),
        ("nodect", "2"),
    ];
    check(&two, Some(2), Some(4), "200mb", Some(1200));
    check(
        &[("ncpus", "2"), ("walltime", "1800")],
        None,
        Some(2),
        "",
        Some(1800),
    );
    check(
        &[("cput", "60"), ("pmem", "1gb"), ("mem", "2gb")],
        None,
        None,
        "1gb",
        Some(60),
    );
    check(&[], None, None, "", None);
    // A later resource stands back behind an earlier one, or does not.
    check(&[("procs", "5"), ("ncpus", "2")], None, Some(5), "", None);
    check(
        &[("mppwidth", "8"), ("mppnppn", "3")],
        Some(3),
        Some(8),
        "",
        None,
    );
    check(&[("ncpus", "2"), ("size", "9")], None, Some(9), "", None);
}
