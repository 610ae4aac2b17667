//! The server's refusal, pointed at: which option it is about, as far as its words tell.

use capstan_proto::Refusal;
use capstan_proto::wire::StatQueuesRequest;
use capstan_types::{Pbse, nearest_word};

use crate::door::Server;

use super::finding::{Finding, Severity, Spot};
use super::source::Placed;
use super::values;

/// Attributes of a job and the option that sets each.
const OPTION_OF: &[(&str, char)] = &[
    ("Account_Name", 'A'),
    ("Checkpoint", 'c'),
    ("Error_Path", 'e'),
    ("Execution_Time", 'a'),
    ("Hold_Types", 'h'),
    ("Job_Name", 'N'),
    ("Join_Path", 'j'),
    ("Keep_Files", 'k'),
    ("Mail_Points", 'm'),
    ("Mail_Users", 'M'),
    ("Output_Path", 'o'),
    ("Priority", 'p'),
    ("Rerunable", 'r'),
    ("Shell_Path_List", 'S'),
    ("User_List", 'u'),
    ("Variable_List", 'v'),
    ("idle_slot_limit", 'i'),
    ("init_work_dir", 'w'),
    ("job_array_request", 't'),
    ("job_arguments", 'F'),
    ("jobtype", 'T'),
    ("user_kill_delay", 'K'),
];
/// Resources by which a job says which nodes it wants.
const NODES: [&str; 6] = ["nodes", "select", "ncpus", "procs", "gpus", "ngpus"];

/// What is told of `no`, the server's answer to a job with these options for `queue`.
pub(super) async fn finding(
    no: &Refusal,
    options: &[Placed],
    queue: &str,
    server: &mut Server,
) -> Finding {
    let text = no.text();
    let finding = Finding::new(Severity::Error, text.clone()).advise(no.hint.clone());
    let about_queue = no.error == Pbse::Unkque;
    let finding = match about_queue {
        true => match known_queue(queue, server).await {
            Some(near) => finding.advise(format!("-q {near} is meant?")),
            None => finding,
        },
        false => finding,
    };
    let spot = match about_queue {
        true => of_letter(options, 'q'),
        false => about(&text, options),
    };
    match spot {
        Some((spot, bytes)) => finding.at(spot, bytes),
        None => finding,
    }
}

/// The queue that was probably meant.
async fn known_queue(typed: &str, server: &mut Server) -> Option<String> {
    let reply = server.stat_queues(StatQueuesRequest::default()).await;
    let queues = reply.ok()?.into_inner().queues;
    let names: Vec<&str> = queues.iter().map(|queue| queue.name.as_str()).collect();
    nearest_word(typed, &names).map(str::to_owned)
}

/// The last option of this letter.
fn of_letter(options: &[Placed], letter: char) -> Option<(Spot, usize)> {
    let mut found = options.iter().rev();
    found.find(|one| one.letter() == Some(letter))?.spot()
}

/// The last request for this resource.
fn of_resource(options: &[Placed], name: &str) -> Option<(Spot, usize)> {
    let requests = options.iter().rev().filter(|one| one.letter() == Some('l'));
    requests
        .filter_map(|one| one.value.as_ref())
        .find_map(|word| {
            let parts = values::resources(&word.text);
            let part = parts.iter().rev().find(|part| part.name == name)?;
            let bytes = part.value_at + part.value.len() - part.name_at;
            Some((word.spot(part.name_at)?, bytes))
        })
}

/// What of the options a refusal names: an attribute, a resource, or nodes that are nowhere.
fn about(text: &str, options: &[Placed]) -> Option<(Spot, usize)> {
    let mut words = text.split(|c: char| !(c.is_ascii_alphanumeric() || "_.".contains(c)));
    let named = words.find_map(|word| match word.strip_prefix("Resource_List.") {
        Some(resource) => of_resource(options, resource),
        None => {
            let option = OPTION_OF.iter().find(|(name, _)| *name == word);
            option
                .and_then(|(_, letter)| of_letter(options, *letter))
                .or_else(|| of_resource(options, word))
        }
    });
    let nodes = || NODES.iter().find_map(|name| of_resource(options, name));
    let is_about_nodes = text.contains("feasible nodes") || text.contains("node");
    named.or_else(|| nodes().filter(|_| is_about_nodes))
}

#[cfg(test)]
mod tests {
    use super::super::source::{command_line, placed};
    use super::*;
    use crate::qsub::options::OPTIONS;

    #[test]
    fn a_refusal_is_about_the_option_that_it_names() {
        let arguments = [
            "-l",
            "nodes=9:gpus=8,walltime=9:00:00",
            "-p",
            "9",
            "-m",
            "a",
        ];
        let arguments = arguments.map(str::to_owned);
        let (line, words) = command_line("qsub", &arguments);
        let options = placed("qsub", OPTIONS, &words);
        let check = |text: &str, expected: Option<&str>| {
            let seen = about(text, &options);
            let seen = seen.map(|(spot, bytes)| &line[spot.at..spot.at + bytes]);
            assert_eq!(seen, expected, "{text}");
        };
        check(
            "cannot satisfy queue max walltime requirement",
            Some("walltime=9:00:00"),
        );
        check("Illegal attribute or resource value Priority", Some("9"));
        check(
            "Unknown resource type  Resource_List.nodes",
            Some("nodes=9:gpus=8"),
        );
        check(
            "Job exceeds queue resource limits MSG=cannot locate feasible nodes (nodes file is empty, ...)",
            Some("nodes=9:gpus=8"),
        );
        check("Unauthorized Request", None);
    }
}
