//! `qgpureset`: sets a card's counts of memory errors to zero.

use std::io::Write;
use std::time::Duration;

use capstan_proto::wire::ask_node_request::Question;
use capstan_proto::wire::{AskNodeRequest, ResetCardErrors};

use crate::command::{Call, Failure, refusal};
use crate::door::Doors;
use crate::getopt::{Item, Opt, Parsed};
use crate::output::screen::Screen;

/// The options of `qgpureset`.
pub(crate) const OPTIONS: &[Opt] = &[
    Opt::value('H', "HOST", "The node"),
    Opt::value('g', "CARD", "The card: its index, UUID or PCI address"),
    Opt::flag('p', "The counts of the card's whole life"),
    Opt::flag('v', "The counts since the node was started"),
];

const USAGE: &str = "\
usage:  qgpureset -H host -g gpuid -p -v
       -p and -v are mutually exclusive";
const NEITHER: &str = "-p or -v is required";
/// The exit status of every failure.
const FAILED: u8 = 2;

/// Has the counts reset.
///
/// # Errors
/// Misuse, and the server's or the node's refusal.
pub(crate) async fn run<W: Write>(call: &Call, _screen: &mut Screen<W>) -> Result<u8, Failure> {
    let (node, question) = wish(&call.parse(OPTIONS))?;
    let mut doors = Doors::new(call, Duration::ZERO);
    let server = doors.to("").await;
    let mut server = server.map_err(|failure| Failure::new(FAILED, failure.text))?;
    let request = AskNodeRequest {
        node,
        question: Some(Question::ResetCardErrors(question)),
    };
    match server.ask_node(request).await {
        Ok(_) => Ok(0),
        Err(status) => {
            // The blank in front is Torque's.
            let text = format!(" qgpureset: {} ", refusal(&status).text());
            Err(Failure::new(FAILED, text))
        }
    }
}

fn wish(parsed: &Parsed) -> Result<(String, ResetCardErrors), Failure> {
    let mut wrong = Vec::new();
    for item in &parsed.items {
        match item {
            Item::Problem(text) => wrong.push(text.clone()),
            Item::Value('H', value) if value.is_empty() => {
                wrong.push("qgpureset: illegal -H value".to_owned());
            }
            Item::Value('g', value) if value.is_empty() => {
                wrong.push(" qgpureset: illegal -g value".to_owned());
            }
            Item::Value(..) | Item::Flag(_) => {}
        }
    }
    let (permanent, volatile) = (parsed.has('p'), parsed.has('v'));
    let is_wrong = !wrong.is_empty() || (permanent && volatile);
    let named = parsed.value('H').zip(parsed.value('g'));
    let Some((node, card)) = named.filter(|_| !is_wrong) else {
        wrong.push(USAGE.to_owned());
        return Err(Failure::new(FAILED, wrong.join("\n")));
    };
    if !permanent && !volatile {
        return Err(Failure::new(FAILED, NEITHER));
    }
    let reset = ResetCardErrors {
        card: card.to_owned(),
        permanent,
        volatile,
    };
    Ok((node.to_owned(), reset))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::getopt;

    #[test]
    fn one_kind_of_counts_is_reset() {
        let check = |args: &[&str], expected: Result<bool, &str>| {
            let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
            let seen = wish(&getopt::parse("qgpureset", OPTIONS, &args));
            let seen = seen.map(|(_, reset)| reset.permanent);
            assert_eq!(
                seen,
                expected.map_err(|text| Failure::new(2, text)),
                "{args:?}"
            );
        };
        check(&["-H", "n", "-g", "0", "-p"], Ok(true));
        check(&["-H", "n", "-g", "0", "-v"], Ok(false));
        check(&["-H", "n", "-g", "0"], Err(NEITHER));
        check(&["-H", "n", "-g", "0", "-p", "-v"], Err(USAGE));
        check(&["-p"], Err(USAGE));
    }
}
