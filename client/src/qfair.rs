//! `qfair`: who has used how much of what is his share, and whose turn it is.

use std::io::Write;

use capstan_proto::wire::{ShareRow, StatSharesReply, StatSharesRequest};
use capstan_types::Seconds;

use crate::command::{Call, Failure, exit_status, refusal};
use crate::door::{self, Doors};
use crate::getopt::Opt;
use crate::output::json;
use crate::output::pad;
use crate::output::screen::Screen;

/// The options of `qfair`.
pub(crate) const OPTIONS: &[Opt] = &[
    Opt::value('u', "USER", "This user only"),
    Opt::value('-', "json", "As JSON"),
];

/// Thousandths of card-seconds that are a card-hour.
const USED_OF_HOUR: f64 = 3_600_000.0;
const NAME_COLUMNS: usize = 20;
const USAGE: &str = "usage: qfair [-u user] [--json]";
const HEAD: &str = "\
Group / User          Shares    Part  Card-hours    Part   Ratio  Factor  Standing
-------------------- -------- ------- ----------- ------- ------- -------  --------
";

/// Lists groups and their users.
///
/// # Errors
/// Misuse, a server that is not there.
pub(crate) async fn run<W: Write>(call: &Call, screen: &mut Screen<W>) -> Result<u8, Failure> {
    let parsed = call.parse(OPTIONS);
    let long = parsed.value('-');
    if parsed.problems().next().is_some()
        || !parsed.operands.is_empty()
        || long.is_some_and(|word| word != "json")
    {
        return Err(Failure::new(2, USAGE));
    }
    let request = StatSharesRequest {
        user: parsed.value('u').unwrap_or_default().to_owned(),
    };
    let mut doors = Doors::new(call, door::patience(None, &call.env));
    let reply = match doors.to("").await?.stat_shares(request).await {
        Ok(reply) => reply.into_inner(),
        Err(status) => {
            let refusal = refusal(&status);
            let text = format!("qfair: {}", refusal.text());
            return Err(Failure::new(exit_status(refusal.error), text));
        }
    };
    match long {
        Some(_) => as_json(screen.out(), &reply),
        None => as_table(screen.out(), &reply),
    }
    Ok(0)
}

/// The users of each group, in the order in which they came.
fn groups(rows: &[ShareRow]) -> impl Iterator<Item = &[ShareRow]> {
    rows.chunk_by(|one, other| one.group == other.group)
}

fn as_table(out: &mut Vec<u8>, reply: &StatSharesReply) {
    let half_life = match reply.half_life_secs {
        0 => "no use is ever forgotten".to_owned(),
        secs => format!("half of all use is forgotten in {}", Seconds(secs)),
    };
    let weight = match reply.weight {
        0 => "the order of jobs does not look at it (weight_fairshare = 0)".to_owned(),
        weight => format!("weight_fairshare = {weight}"),
    };
    let server = &reply.server;
    put(
        out,
        &format!("Fair share on {server}: {half_life}; {weight}\n\n"),
    );
    if reply.rows.is_empty() {
        put(out, "Nobody has used anything, and nobody waits.\n");
        return;
    }
    put(out, HEAD);
    for users in groups(&reply.rows) {
        let head = &users[0];
        let group = Figures {
            share: head.group_share,
            share_part: head.group_share_part,
            used: head.group_used,
            used_part: head.group_used_part,
            ratio: head.group_ratio,
        };
        line(out, &head.group, group);
        out.push(b'\n');
        for user in users {
            let own = Figures {
                share: user.user_share,
                share_part: user.user_share_part,
                used: user.user_used,
                used_part: user.user_used_part,
                ratio: user.user_ratio,
            };
            line(out, &format!("  {}", user.user), own);
            let factor = factor(user);
            put(out, &format!(" {factor:>7}  {}\n", standing(user)));
        }
    }
}

/// What a line says of a group or a user.
struct Figures {
    share: u64,
    share_part: f64,
    used: u64,
    used_part: f64,
    ratio: f64,
}

fn line(out: &mut Vec<u8>, name: &str, figures: Figures) {
    let Figures {
        share,
        share_part,
        used,
        used_part,
        ratio,
    } = figures;
    pad::left(out, name, NAME_COLUMNS, NAME_COLUMNS);
    let share = decimal(share);
    let percent = |part: f64| format!("{:.1}%", part * 100.0);
    let (share_part, used_part) = (percent(share_part), percent(used_part));
    let hours = used as f64 / USED_OF_HOUR;
    put(
        out,
        &format!(" {share:>8} {share_part:>7} {hours:>11.1} {used_part:>7} {ratio:>7.2}"),
    );
}

/// A number of thousandths, without needless zeros.
fn decimal(number: u64) -> String {
    match (number / 1000, number % 1000) {
        (whole, 0) => whole.to_string(),
        (whole, rest) => format!("{whole}.{rest:03}")
            .trim_end_matches('0')
            .to_owned(),
    }
}

/// From 0 to 1, with three digits.
fn factor(row: &ShareRow) -> String {
    format!("{:.3}", f64::from(row.factor) / 1_000_000.0)
}

/// A word for where somebody stands.
const fn standing(row: &ShareRow) -> &'static str {
    match (row.is_waiting, row.factor) {
        (false, _) => "idle",
        (true, 500_001..) => "owed",
        (true, 500_000) => "even",
        (true, _) => "ahead",
    }
}

fn as_json(out: &mut Vec<u8>, reply: &StatSharesReply) {
    put(out, "{\"server\":");
    json::string(out, &reply.server);
    let (half_life, weight) = (reply.half_life_secs, reply.weight);
    put(
        out,
        &format!(",\"half_life_secs\":{half_life},\"weight_fairshare\":{weight},\"groups\":["),
    );
    for (at, users) in groups(&reply.rows).enumerate() {
        let head = &users[0];
        put(
            out,
            if at > 0 {
                ",{\"group\":"
            } else {
                "{\"group\":"
            },
        );
        json::string(out, &head.group);
        numbers(out, (head.group_share, head.group_used), head.group_ratio);
        put(out, ",\"users\":[");
        for (at, user) in users.iter().enumerate() {
            put(out, if at > 0 { ",{\"user\":" } else { "{\"user\":" });
            json::string(out, &user.user);
            numbers(out, (user.user_share, user.user_used), user.user_ratio);
            let (factor, waits, standing) = (factor(user), user.is_waiting, standing(user));
            put(
                out,
                &format!(",\"factor\":{factor},\"waiting\":{waits},\"standing\":\"{standing}\"}}"),
            );
        }
        put(out, "]}");
    }
    put(out, "]}\n");
}

fn numbers(out: &mut Vec<u8>, (share, used): (u64, u64), ratio: f64) {
    let (share, used) = (decimal(share), decimal(used));
    put(
        out,
        &format!(",\"share\":{share},\"used_card_seconds\":{used},\"ratio\":{ratio:.6}"),
    );
}

fn put(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply() -> StatSharesReply {
        let row = |group: &str, user: &str, used: u64, factor| ShareRow {
            group: group.to_owned(),
            user: user.to_owned(),
            is_waiting: factor != 0,
            group_share: 3000,
            group_used: 21_600_000,
            user_share: 1500,
            user_used: used,
            group_ratio: 0.5,
            user_ratio: 1.25,
            factor,
            group_share_part: 0.75,
            group_used_part: 0.375,
            user_share_part: 0.5,
            user_used_part: 0.25,
        };
        StatSharesReply {
            server: "hn1".to_owned(),
            half_life_secs: 604_800,
            weight: 400,
            rows: vec![
                row("vision", "alice", 5_400_000, 612_345),
                row("vision", "bob", 16_200_000, 0),
            ],
        }
    }

    #[test]
    fn groups_stand_above_their_users_and_numbers_add_up() {
        let mut out = Vec::new();
        as_table(&mut out, &reply());
        let text = String::from_utf8(out).unwrap();
        let expected = "\
Fair share on hn1: half of all use is forgotten in 168:00:00; weight_fairshare = 400

Group / User          Shares    Part  Card-hours    Part   Ratio  Factor  Standing
-------------------- -------- ------- ----------- ------- ------- -------  --------
vision                      3   75.0%         6.0   37.5%    0.50
  alice                   1.5   50.0%         1.5   25.0%    1.25   0.612  owed
  bob                     1.5   50.0%         4.5   25.0%    1.25   0.000  idle
";
        assert_eq!(text, expected);
    }

    #[test]
    fn json_has_the_same_numbers() {
        let mut out = Vec::new();
        as_json(&mut out, &reply());
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value["groups"][0]["used_card_seconds"], 21_600);
        assert_eq!(value["groups"][0]["users"][0]["used_card_seconds"], 5_400);
        assert_eq!(value["groups"][0]["users"][0]["share"], 1.5);
        assert_eq!(value["groups"][0]["users"][0]["standing"], "owed");
    }

    #[test]
    fn nothing_to_show_is_said() {
        let mut out = Vec::new();
        let nobody = StatSharesReply {
            rows: Vec::new(),
            ..reply()
        };
        as_table(&mut out, &nobody);
        assert!(String::from_utf8(out).unwrap().ends_with("nobody waits.\n"));
    }
}
