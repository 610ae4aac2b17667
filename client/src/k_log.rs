//! `k_log`: what the kernel of a node complained of lately, and which jobs were there. Everybody sees what concerns the
//! whole node and their own jobs; operators see all.

use std::io::Write;

use capstan_proto::wire::ask_node_request::Question;
use capstan_proto::wire::{AskNodeRequest, ReadKernelLog};
use capstan_types::Pbse;

use crate::command::{Call, Failure, exit_status, refusal};
use crate::door::{self, Doors};
use crate::getopt::Opt;
use crate::output::screen::Screen;

/// The options of `k_log`.
pub(crate) const OPTIONS: &[Opt] = &[Opt::value(
    'm',
    "MINUTES",
    "Of so many minutes; 5 when not given",
)];

const USAGE: &str = "usage: k_log [-m MINUTES] [NODE...]";
/// As long as the sites' own command looks back.
const MINUTES: u64 = 5;
/// Ten years: longer than any node stays up.
const MINUTES_MAX: u64 = 5_256_000;

/// Shows the complaints of each node, or of this host.
///
/// # Errors
/// Misuse, a server or node that is not there.
pub(crate) async fn run<W: Write>(call: &Call, screen: &mut Screen<W>) -> Result<u8, Failure> {
    let parsed = call.parse(OPTIONS);
    if parsed.problems().next().is_some() {
        return Err(Failure::new(2, USAGE));
    }
    let minutes = minutes(parsed.value('m'))?;
    let mut nodes = parsed.operands;
    let is_here = nodes.is_empty();
    if is_here {
        nodes.push(door::known_host_name(&call.env));
    }
    let mut doors = Doors::new(call, door::patience(None, &call.env));
    let mut server = doors.to("").await?;
    let many = nodes.len() > 1;
    for node in nodes {
        let request = AskNodeRequest {
            node: node.clone(),
            question: Some(Question::ReadKernelLog(ReadKernelLog {
                secs: minutes * 60,
                ..ReadKernelLog::default()
            })),
        };
        let reply = match server.ask_node(request).await {
            Ok(reply) => reply.into_inner(),
            Err(status) => {
                let refusal = refusal(&status);
                let hint = match is_here && refusal.error == Pbse::Unknode {
                    true => format!("; {node} is no node: name one (k_log NODE)"),
                    false => String::new(),
                };
                let text = format!("{}: {} {node}{hint}", call.program, refusal.text());
                return Err(Failure::new(exit_status(refusal.error), text));
            }
        };
        if many {
            writeln!(screen.out(), "{node}:")?;
        }
        match reply.text.is_empty() {
            true => writeln!(
                screen.out(),
                "The kernel of {node} has not complained in the last {minutes} minutes."
            )?,
            false => screen.out().extend_from_slice(reply.text.as_bytes()),
        }
    }
    Ok(0)
}

fn minutes(given: Option<&str>) -> Result<u64, Failure> {
    let Some(given) = given else {
        return Ok(MINUTES);
    };
    let minutes = given.parse().ok();
    minutes
        .filter(|minutes| (1..=MINUTES_MAX).contains(minutes))
        .ok_or_else(|| {
            let text = format!("k_log: -m {given} is no number of minutes from 1 to {MINUTES_MAX}");
            Failure::new(2, text)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_is_none_is_refused_with_its_bounds() {
        assert_eq!(minutes(None).unwrap(), 5);
        assert_eq!(minutes(Some("90")).unwrap(), 90);
        for wrong in ["0", "-1", "x", "99999999999999999999"] {
            let failure = minutes(Some(wrong)).unwrap_err();
            assert!(failure.text.contains("from 1 to 5256000"), "{failure:?}");
        }
    }
}
