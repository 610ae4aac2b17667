//! `qenable`, `qdisable`, `qstart` and `qstop`: whether queues take jobs and whether their jobs start. One file, because
//! they differ in one attribute and its value.

use std::io::Write;
use std::time::Duration;

use capstan_proto::wire::ManageRequest;
use capstan_proto::wire::manage_request::{self, directive};

use crate::command::{Call, Failure, refusal};
use crate::door::Doors;
use crate::output::screen::Screen;

/// The exit status of misuse.
const MISUSED: u8 = 1;
/// The exit status when a queue was not changed.
const NOT_DONE: u8 = 2;

/// Changes the queues one by one.
///
/// # Errors
/// Misuse; all else is complained about and ends in the exit status.
pub(crate) async fn run<W: Write>(call: &Call, screen: &mut Screen<W>) -> Result<u8, Failure> {
    let program = call.program;
    if call.args.first().is_none_or(|first| first.starts_with('-')) {
        return Err(Failure::new(
            MISUSED,
            format!("Usage: {program} [queue][@server] ..."),
        ));
    }
    let mut doors = Doors::new(call, Duration::ZERO);
    let mut status = 0;
    for operand in &call.args {
        let Some((queue, server)) = destination(operand) else {
            screen.complain(&format!(
                "{program}: illegally formed destination: {operand}"
            ));
            status = MISUSED;
            continue;
        };
        if let Err(text) = change(&mut doors, program, queue, server).await {
            screen.complain(&text);
            status = NOT_DONE;
        }
    }
    Ok(status)
}

/// Asks the server for the change. The error is what to say.
async fn change(
    doors: &mut Doors<'_>,
    program: &str,
    queue: &str,
    server: &str,
) -> Result<(), String> {
    let mut door = doors.to(server).await.map_err(|failure| failure.text)?;
    let (attribute, value) = match program {
        "qenable" => ("enabled", "TRUE"),
        "qdisable" => ("enabled", "FALSE"),
        "qstart" => ("started", "TRUE"),
        _ => ("started", "FALSE"),
    };
    let directive = manage_request::Directive {
        name: attribute.to_owned(),
        resource: String::new(),
        operator: directive::Operator::Assign.into(),
        value: value.to_owned(),
    };
    let request = ManageRequest {
        command: manage_request::Command::Set.into(),
        object: manage_request::Object::Queue.into(),
        name: queue.to_owned(),
        directives: vec![directive],
    };
    let answer = door.manage(request).await;
    let Err(status) = answer else { return Ok(()) };
    let at = if server.is_empty() { "" } else { "@" };
    Err(format!(
        "{program}: {} {queue}{at}{server}",
        refusal(&status).text()
    ))
}

/// The parts of `queue`, `@server` or `queue@server`; without a queue all of a server are meant.
fn destination(operand: &str) -> Option<(&str, &str)> {
    let operand = operand.trim_start();
    let (queue, server) = match operand.split_once('@') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (operand, ""),
    };
    let has_blank = |part: &str| part.contains(|c: char| c.is_ascii_whitespace());
    (!has_blank(queue) && !has_blank(server)).then_some((queue, server))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_destination_is_a_queue_or_a_server_or_both() {
        let check =
            |operand: &str, expected| assert_eq!(destination(operand), expected, "{operand}");
        check("batch", Some(("batch", "")));
        check("batch@hn1", Some(("batch", "hn1")));
        check("@hn1", Some(("", "hn1")));
        check("batch@", None);
        check("@", None);
        check("two words", None);
    }

    proptest! {
        #[test]
        fn any_operand_is_read(operand in "\\PC{0,20}") {
            if let Some((queue, server)) = destination(&operand) {
                prop_assert!(operand.contains(queue) && operand.contains(server));
            }
        }
    }
}
