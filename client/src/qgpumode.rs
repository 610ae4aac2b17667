//! `qgpumode`: sets the compute mode of a card.

use std::io::Write;
use std::time::Duration;

use capstan_proto::wire::ask_node_request::Question;
use capstan_proto::wire::{AskNodeRequest, SetCardMode};

use crate::command::{Call, Failure, refusal};
use crate::door::Doors;
use crate::getopt::{Item, Opt, Parsed};
use crate::output::screen::Screen;

/// The options of `qgpumode`.
pub(crate) const OPTIONS: &[Opt] = &[
    Opt::value('H', "HOST", "The node"),
    Opt::value('g', "CARD", "The card: its index, UUID or PCI address"),
    Opt::value(
        'm',
        "MODE",
        "0 default, 1 exclusive thread, 2 prohibited, 3 exclusive process",
    ),
];

const USAGE: &str = "usage: qgpumode -H host -g gpuid -m mode";
const MODE_MAX: i64 = 3;
/// The exit status of every failure.
const FAILED: u8 = 2;

/// Has the mode set.
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
        question: Some(Question::SetCardMode(question)),
    };
    match server.ask_node(request).await {
        Ok(_) => Ok(0),
        Err(status) => {
            let text = format!("qgpumode: {} ", refusal(&status).text());
            Err(Failure::new(FAILED, text))
        }
    }
}

fn wish(parsed: &Parsed) -> Result<(String, SetCardMode), Failure> {
    let mut wrong = Vec::new();
    for item in &parsed.items {
        match item {
            Item::Problem(text) => wrong.push(text.clone()),
            Item::Value('m', mode) if !(0..=MODE_MAX).contains(&leading_number(mode)) => {
                wrong.push("qgpumode: illegal -m value".to_owned());
            }
            Item::Value(letter, value) if value.is_empty() && *letter != 'm' => {
                wrong.push(format!("qgpumode: illegal -{letter} value"));
            }
            Item::Value(..) | Item::Flag(_) => {}
        }
    }
    let values = (parsed.value('H'), parsed.value('g'), parsed.value('m'));
    let (Some(node), Some(card), Some(mode), true) =
        (values.0, values.1, values.2, wrong.is_empty())
    else {
        wrong.push(USAGE.to_owned());
        return Err(Failure::new(FAILED, wrong.join("\n")));
    };
    let set = SetCardMode {
        card: card.to_owned(),
        mode: leading_number(mode).unsigned_abs() as u32,
    };
    Ok((node.to_owned(), set))
}

/// As C reads a number: what begins the text, 0 when nothing does.
fn leading_number(text: &str) -> i64 {
    let text = text.trim_start();
    let digits = text.trim_start_matches(['-', '+']);
    let length = digits.bytes().take_while(u8::is_ascii_digit).count();
    let number: i64 = digits[..length].parse().unwrap_or(match length {
        0 => 0,
        _ => i64::MAX,
    });
    if text.starts_with('-') {
        -number
    } else {
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::getopt;

    #[test]
    fn a_mode_is_one_of_four() {
        let check = |args: &[&str], expected: Result<u32, &str>| {
            let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
            let seen = wish(&getopt::parse("qgpumode", OPTIONS, &args)).map(|(_, set)| set.mode);
            let expected = expected.map_err(|line| {
                let line = if line.is_empty() {
                    String::new()
                } else {
                    format!("{line}\n")
                };
                Failure::new(2, format!("{line}{USAGE}"))
            });
            assert_eq!(seen, expected, "{args:?}");
        };
        check(&["-H", "n", "-g", "0", "-m", "3"], Ok(3));
        check(&["-H", "n", "-g", "0", "-m", "x"], Ok(0));
        check(
            &["-H", "n", "-g", "0", "-m", "4"],
            Err("qgpumode: illegal -m value"),
        );
        check(
            &["-H", "n", "-g", "0", "-m", "-1"],
            Err("qgpumode: illegal -m value"),
        );
        check(
            &["-H", "", "-g", "0", "-m", "0"],
            Err("qgpumode: illegal -H value"),
        );
        check(&["-H", "n", "-g", "0"], Err(""));
        check(&[], Err(""));
    }
}
