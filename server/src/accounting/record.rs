//! One line of the accounting log: `MM/DD/YYYY HH:MM:SS;X;jobid;key=value …`, keys in Torque's order. Times inside a
//! record are epoch seconds; the head is local time.

use std::collections::BTreeSet;
use std::fmt::{self, Write};

use capstan_core::{Account, Ended, Job, JobState, Run};
use capstan_types::{Seconds, ServerName, Timestamp};

use crate::view::words::{exec_host, job_name, local};
use crate::view::{last_run, start_time};

/// `20261122`: the file of the day of `at`.
pub(super) fn file_name(at: Timestamp) -> String {
    local(at).strftime("%Y%m%d").to_string()
}

/// Appends the line, with its end.
pub(super) fn append(
    text: &mut String,
    job: &Job,
    record: &Account,
    at: Timestamp,
    server: &ServerName,
) {
    let head = local(at).strftime("%m/%d/%Y %H:%M:%S");
    let id = job.id.on(server);
    put(text, format_args!("{head};{};{id};", letter(record)));
    match record {
        Account::Queued => put(text, format_args!("queue={}", job.queue)),
        Account::Started => started(text, job),
        Account::Ended => ended(text, job),
        Account::Deleted(by) => put(text, format_args!("requestor={by}")),
        Account::Aborted | Account::Rerun => {}
    }
    text.push('\n');
}

const fn letter(record: &Account) -> char {
    match record {
        Account::Queued => 'Q',
        Account::Started => 'S',
        Account::Ended => 'E',
        Account::Deleted(_) => 'D',
        Account::Aborted => 'A',
        Account::Rerun => 'R',
    }
}

/// What S and E records share; ends in a blank.
fn started(text: &mut String, job: &Job) {
    let owner = &job.spec.owner;
    put(
        text,
        format_args!("user={} group={} ", owner.user, owner.group),
    );
    let mut shown = job.spec.shown.iter();
    if let Some((_, account)) = shown.find(|(name, _)| **name == *"Account_Name") {
        put(text, format_args!("account={account} "));
    }
    let name = job_name(job);
    put(text, format_args!("jobname={name} queue={} ", job.queue));
    let [created, queued] = [job.created, job.queued].map(Timestamp::secs);
    let eligible = job.eligible.unwrap_or(job.queued).secs();
    put(
        text,
        format_args!("ctime={created} qtime={queued} etime={eligible} "),
    );
    let run = last_run(job);
    let start = run.map_or(0, |run| start_time(run).secs());
    put(
        text,
        format_args!("start_count={} start={start} ", job.run_count),
    );
    put(text, format_args!("owner={}@{} ", owner.user, owner.host));
    if let Some(run) = run {
        put(text, format_args!("exec_host={} ", exec_host(&run.shares)));
    }
    for (name, value) in job.spec.resources.iter() {
        put(text, format_args!("Resource_List.{name}={value} "));
        // What the scheduler asked the nodes for: here always what the job asked for.
        if let Some(nodes) = job.spec.resources.get("nodes").filter(|_| name == "nodect") {
            put(text, format_args!("Resource_List.neednodes={nodes} "));
        }
    }
}

fn ended(text: &mut String, job: &Job) {
    started(text, job);
    let JobState::Ended(Ended {
        at,
        exit_status,
        run,
    }) = &job.state
    else {
        return;
    };
    if let Some((_, session)) = run.as_ref().and_then(|run| run.started) {
        put(text, format_args!("session={session} "));
    }
    let slots = run.as_ref().map_or(0, slots);
    let nodes = run.as_ref().map_or(0, nodes);
    put(
        text,
        format_args!("total_execution_slots={slots} unique_node_count={nodes} "),
    );
    put(text, format_args!("end={}", at.secs()));
    if let Some(status) = exit_status {
        put(text, format_args!(" Exit_status={status}"));
    }
    let usage = run.as_ref().map(|run| run.usage).unwrap_or_default();
    let walltime = Seconds(usage.walltime_secs);
    put(
        text,
        format_args!(
            " resources_used.cput={} resources_used.vmem={}kb resources_used.walltime={walltime} \
             resources_used.mem={}kb resources_used.energy_used=0",
            usage.cput_secs, usage.vmem_kb, usage.mem_kb
        ),
    );
}

fn slots(run: &Run) -> usize {
    run.shares.iter().map(|share| share.slots.len()).sum()
}

fn nodes(run: &Run) -> usize {
    let names: BTreeSet<_> = run.shares.iter().map(|share| &share.node).collect();
    names.len()
}

fn put(text: &mut String, what: fmt::Arguments<'_>) {
    text.write_fmt(what).expect("a String takes everything");
}
