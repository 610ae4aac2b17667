//! `pbs_rstat`: lists reservations.

use std::io::Write;

use capstan_proto::wire::{Attribute, ReservationRow, StatReservationsRequest};
use jiff::Zoned;

use crate::command::{Call, Failure, exit_status, refusal};
use crate::door::{self, Doors};
use crate::getopt::Opt;
use crate::output::json;
use crate::output::screen::Screen;

/// The options of `pbs_rstat`.
pub(crate) const OPTIONS: &[Opt] = &[
    Opt::flag('B', "Print ids only"),
    Opt::flag('S', "List in a table; this is the default"),
    Opt::flag('f', "Show all attributes"),
    Opt::value('F', "json", "As JSON"),
    Opt::value('-', "json", "As JSON"),
];

const USAGE: &str = "usage: pbs_rstat [-B | -S | -f | -F json] [reservation...]";
const HEAD: &str = "\
Resv ID         Queue     User      State  Start / Duration / End
--------------------------------------------------------------------------------
";
/// Attributes that are points in time.
const TIMES: [&str; 3] = ["reserve_start", "reserve_end", "ctime"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum View {
    Ids,
    Table,
    Full,
    Json,
}

/// Lists the reservations that are named, or all.
///
/// # Errors
/// Misuse, a server that is not there; one that is not known is complained about.
pub(crate) async fn run<W: Write>(call: &Call, screen: &mut Screen<W>) -> Result<u8, Failure> {
    let parsed = call.parse(OPTIONS);
    let is_json = |letter| parsed.value(letter) == Some("json");
    let is_misused = parsed.problems().next().is_some()
        || ['F', '-']
            .iter()
            .any(|letter| parsed.value(*letter).is_some() && !is_json(*letter));
    if is_misused {
        return Err(Failure::new(2, USAGE));
    }
    let view = match (
        is_json('F') || is_json('-'),
        parsed.has('f'),
        parsed.has('B'),
    ) {
        (true, _, _) => View::Json,
        (false, true, _) => View::Full,
        (false, false, true) => View::Ids,
        (false, false, false) => View::Table,
    };
    let all = [String::new()];
    let wanted = match parsed.operands.is_empty() {
        true => &all[..],
        false => &parsed.operands,
    };
    let mut doors = Doors::new(call, door::patience(None, &call.env));
    let mut rows = Vec::new();
    let mut exit = 0;
    for reservation in wanted {
        let request = StatReservationsRequest {
            reservation: reservation.clone(),
        };
        match doors.to("").await?.stat_reservations(request).await {
            Ok(reply) => rows.extend(reply.into_inner().reservations),
            Err(status) => {
                let refusal = refusal(&status);
                screen.complain(&format!("pbs_rstat: {} {reservation}", refusal.text()));
                exit = exit_status(refusal.error);
            }
        }
    }
    show(screen, view, &rows, &Zoned::now())?;
    Ok(exit)
}

fn show<W: Write>(
    screen: &mut Screen<W>,
    view: View,
    rows: &[ReservationRow],
    now: &Zoned,
) -> Result<(), Failure> {
    let mut document = json::Document::default();
    if view == View::Table && !rows.is_empty() {
        screen.out().extend_from_slice(HEAD.as_bytes());
    }
    for row in rows {
        match view {
            View::Ids => writeln!(screen.out(), "Resv ID: {}", row.id)?,
            View::Table => screen.out().extend_from_slice(line(row, now).as_bytes()),
            View::Full => full(screen.out(), row, now)?,
            View::Json => {
                document.element(screen.out(), "reservations");
                json::named(screen.out(), &row.id, &row.attributes);
            }
        }
        screen.pass_on()?;
    }
    if view == View::Json {
        document.end(screen.out(), "reservations");
    }
    Ok(())
}

fn line(row: &ReservationRow, now: &Zoned) -> String {
    let cut = |text: &str, most: usize| text.chars().take(most).collect::<String>();
    let queue = match row.queue.as_str() {
        "" => "--",
        queue => queue,
    };
    let (user, _) = row.owner.split_once('@').unwrap_or((&row.owner, ""));
    let state = match row.state.as_str() {
        "RESV_RUNNING" => "RN",
        "RESV_DEGRADED" => "DG",
        _ => "CO",
    };
    format!(
        "{:<15} {:<9} {:<9} {state:<6} {} / {} / {}\n",
        cut(&row.id, 15),
        cut(queue, 9),
        cut(user, 9),
        clock(row.start_secs, now),
        row.end_secs.saturating_sub(row.start_secs),
        clock(row.end_secs, now),
    )
}

fn full(out: &mut Vec<u8>, row: &ReservationRow, now: &Zoned) -> Result<(), Failure> {
    writeln!(out, "Resv ID: {}", row.id)?;
    for Attribute {
        name,
        resource,
        value,
    } in &row.attributes
    {
        let dot = if resource.is_empty() { "" } else { "." };
        let time = TIMES.contains(&name.as_str()).then(|| value.parse().ok());
        let time = time.flatten().and_then(|secs| zoned(secs, now));
        let shown = time.map_or_else(
            || value.clone(),
            |time| time.strftime("%a %b %e %H:%M:%S %Y").to_string(),
        );
        writeln!(out, "{name}{dot}{resource} = {shown}")?;
    }
    writeln!(out)?;
    Ok(())
}

/// `Today 14:00`, `Mon Nov 30 14:00`, with the year of another year.
fn clock(secs: u64, now: &Zoned) -> String {
    let Some(time) = zoned(secs, now) else {
        return secs.to_string();
    };
    let form = match (time.date() == now.date(), time.year() == now.year()) {
        (true, _) => "Today %H:%M",
        (false, true) => "%a %b %e %H:%M",
        (false, false) => "%a %b %e %Y %H:%M",
    };
    time.strftime(form).to_string()
}

fn zoned(secs: u64, like: &Zoned) -> Option<Zoned> {
    let at = jiff::Timestamp::from_second(i64::try_from(secs).ok()?).ok()?;
    Some(at.to_zoned(like.time_zone().clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_when_for_people() {
        let now: Zoned = "2026-11-22T12:00:00[UTC]".parse().unwrap();
        let row = ReservationRow {
            id: "S12.hn1".into(),
            queue: "S12".into(),
            owner: "alice@hn1".into(),
            state: "RESV_RUNNING".into(),
            start_secs: 1_795_348_800,
            end_secs: 1_795_442_400,
            ..ReservationRow::default()
        };
        let expected =
            "S12.hn1         S12       alice     RN     Today 12:00 / 93600 / Mon Nov 23 14:00\n";
        assert_eq!(line(&row, &now), expected);
    }
}
