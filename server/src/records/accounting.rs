//! One line of the accounting log: `MM/DD/YYYY HH:MM:SS;X;jobid;key=value …`, keys in Torque's order. Times inside a
//! record are epoch seconds; the head is local time.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::{self, Write};

use capstan_core::{Account, Ended, Job, JobState, Run, Usage};
use capstan_types::{Seconds, ServerName, Timestamp};

use crate::view::samples::measured_words;
use crate::view::words::{exec_host, job_name, local};
use crate::view::{last_run, start_time};

/// Appends the line, with its end, when PBS keeps a record of it.
pub(super) fn append(
    text: &mut String,
    job: &Job,
    record: &Account,
    at: Timestamp,
    server: &ServerName,
) {
    let Some(letter) = letter(record) else {
        return;
    };
    let head = local(at).strftime("%m/%d/%Y %H:%M:%S");
    let id = job.id.on(server);
    put(text, format_args!("{head};{letter};{id};"));
    match record {
        Account::Queued => put(text, format_args!("queue={}", job.queue)),
        Account::Started => started(text, job),
        Account::Ended => ended(text, job),
        Account::Deleted(by) => put(text, format_args!("requestor={by}")),
        Account::Aborted
        | Account::Rerun
        | Account::StageInFailed(_)
        | Account::NotDelivered(_) => {}
    }
    text.push('\n');
}

/// The letter of the record; `None` for what PBS keeps no record of.
const fn letter(record: &Account) -> Option<char> {
    Some(match record {
        Account::Queued => 'Q',
        Account::Started => 'S',
        Account::Ended => 'E',
        Account::Deleted(_) => 'D',
        Account::Aborted => 'A',
        Account::Rerun => 'R',
        Account::StageInFailed(_) | Account::NotDelivered(_) => return None,
    })
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
        put(text, format_args!("account={} ", one_word(account)));
    }
    let name = job_name(job);
    let name = one_word(&name);
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
        put(
            text,
            format_args!("Resource_List.{name}={} ", one_word(value)),
        );
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
        cause: _, // Torque's records have no words for it.
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
    put(text, format_args!(" {}", used(&usage)));
    let images = run
        .as_ref()
        .map(|run| run.images.join(",").replace(' ', "@"));
    if let Some(images) = images.filter(|images| !images.is_empty()) {
        put(text, format_args!(" image_digests={images}"));
    }
    let has_cards = |run: &Run| run.shares.iter().any(|share| !share.cards.is_empty());
    if let Some(measured) = &usage.measured {
        for (name, value) in measured_words(measured, run.as_ref().is_some_and(has_cards)) {
            put(text, format_args!(" resources_used.{name}={value}"));
        }
    }
}

/// What an attempt used, as the logs have it; CPU time is a number of seconds there.
pub(super) fn used(usage: &Usage) -> String {
    format!(
        "resources_used.cput={} resources_used.vmem={}kb resources_used.walltime={} resources_used.mem={}kb \
         resources_used.energy_used=0",
        usage.cput_secs,
        usage.vmem_kb,
        Seconds(usage.walltime_secs),
        usage.mem_kb
    )
}

fn slots(run: &Run) -> usize {
    run.shares.iter().map(|share| share.slots.len()).sum()
}

fn nodes(run: &Run) -> usize {
    let names: BTreeSet<_> = run.shares.iter().map(|share| &share.node).collect();
    names.len()
}

/// What a user chose, as one word: blanks, ends of fields and controls as `%20`, so that nobody writes words of his own into
/// the record, or a whole one.
fn one_word(value: &str) -> Cow<'_, str> {
    let breaks = |letter: char| letter.is_whitespace() || letter.is_control() || letter == ';';
    if !value.contains(breaks) {
        return Cow::Borrowed(value);
    }
    let mut word = String::with_capacity(value.len() + 16);
    for letter in value.chars() {
        if breaks(letter) {
            let mut bytes = [0; 4];
            for byte in letter.encode_utf8(&mut bytes).bytes() {
                put(&mut word, format_args!("%{byte:02X}"));
            }
        } else {
            word.push(letter);
        }
    }
    Cow::Owned(word)
}

fn put(text: &mut String, what: fmt::Arguments<'_>) {
    text.write_fmt(what).expect("a String takes everything");
}

#[cfg(test)]
mod tests {
    use capstan_types::JobId;

    use super::*;
    use crate::testing::{ended as ended_job, job, run, seconds};

    /// The line behind its local time.
    fn line(job: &Job, record: &Account) -> String {
        let mut text = String::new();
        append(&mut text, job, record, seconds(0), &ServerName::from("hn1"));
        let (head, rest) = text.split_once(';').unwrap();
        assert_eq!(head.len(), "11/22/2026 03:45:58".len());
        rest.to_owned()
    }

    fn asked() -> Job {
        let asked = [("nodes", "1"), ("walltime", "01:00:00"), ("nodect", "1")];
        job(JobId::whole(1), "STDIN", &asked)
    }

    /// reference_accounting.txt, jobs 1 and 309.
    #[test]
    fn records_are_those_of_torque() {
        let queued = asked();
        assert_eq!(line(&queued, &Account::Queued), "Q;1.hn1;queue=batch\n");
        let by = Account::Deleted("root@hn1".into());
        assert_eq!(line(&queued, &by), "D;1.hn1;requestor=root@hn1\n");
        assert_eq!(line(&queued, &Account::Rerun), "R;1.hn1;\n");
        let mut started = asked();
        started.run_count = 1;
        started.state = JobState::Running(run(&[("gpu01", &[0], &[])], 0, 23458));
        let head = "user=alice group=alice jobname=STDIN queue=batch ctime=1795319158 \
                    qtime=1795319158 etime=1795319158 start_count=1 start=1795319158 \
                    owner=alice@hn1 exec_host=gpu01/0 Resource_List.nodes=1 \
                    Resource_List.walltime=01:00:00 Resource_List.nodect=1 \
                    Resource_List.neednodes=1 ";
        assert_eq!(
            line(&started, &Account::Started),
            format!("S;1.hn1;{head}\n")
        );
        let mut last = run(&[("gpu01", &[0], &[])], 0, 23458);
        last.usage = Usage {
            cput_secs: 0,
            mem_kb: 6932,
            vmem_kb: 11640,
            walltime_secs: 1,
            measured: None,
        };
        let over = ended_job(asked(), last, 2, 0);
        let tail = "session=23458 total_execution_slots=1 unique_node_count=1 end=1795319160 \
                    Exit_status=0 resources_used.cput=0 resources_used.vmem=11640kb \
                    resources_used.walltime=00:00:01 resources_used.mem=6932kb \
                    resources_used.energy_used=0";
        assert_eq!(
            line(&over, &Account::Ended),
            format!("E;1.hn1;{head}{tail}\n")
        );
    }

    #[test]
    fn nobody_writes_words_of_his_own_into_a_record() {
        let forged = "x;E;1;user=bob group=g Exit_status=0\n\u{85}";
        let asked = [("nodes", "1"), ("software", "a resources_used.walltime=0")];
        let mut job = job(JobId::whole(1), "STDIN", &asked);
        let mut spec = (*job.spec).clone();
        spec.shown = vec![("Account_Name".into(), forged.into())];
        job.spec = spec.into();
        job.state = JobState::Running(run(&[("gpu01", &[0], &[])], 0, 23458));
        let line = line(&job, &Account::Started);
        let word = "account=x%3BE%3B1%3Buser=bob%20group=g%20Exit_status=0%0A%C2%85 jobname=STDIN ";
        assert!(line.contains(word), "{line}");
        assert!(
            line.contains(" Resource_List.software=a%20resources_used.walltime=0 "),
            "{line}"
        );
        assert_eq!(line.matches(';').count(), 2, "{line}");
    }

    /// Jobs 220 and 263[3].
    #[test]
    fn accounts_nodes_and_members_are_told() {
        let mut job = asked();
        let spec = std::sync::Arc::make_mut(&mut job.spec);
        spec.shown.push(("Account_Name".into(), "acct1".into()));
        let places: [(&str, &[u16], &[u32]); 2] =
            [("gpu02", &[0, 1], &[]), ("gpu01", &[0, 1], &[])];
        let mut over = ended_job(job, run(&places, 0, 1), 4, 271);
        over.id = JobId::member(263, 3);
        let text = line(&over, &Account::Ended);
        for part in [
            "E;263[3].hn1;user=alice group=alice account=acct1 jobname=STDIN-3 queue=batch ",
            "exec_host=gpu02/0-1+gpu01/0-1 ",
            "total_execution_slots=4 unique_node_count=2 ",
            "Exit_status=271 ",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
