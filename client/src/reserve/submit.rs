//! `pbs_rsub`: sets something of the nodes aside for a time.

use std::io::Write;

use jiff::Zoned;

use super::wish;
use crate::command::{Call, Failure, exit_status, refusal};
use crate::door;
use crate::getopt::Opt;
use crate::output::screen::Screen;

/// The options of `pbs_rsub`.
pub(crate) const OPTIONS: &[Opt] = &[
    Opt::value('N', "NAME", "Give it a name"),
    Opt::value(
        'R',
        "TIME",
        "Begin at [[[[CC]YY]MM]DD]hhmm[.SS]; now when not given",
    ),
    Opt::value('E', "TIME", "End then"),
    Opt::value('D', "SPAN", "Last so long: [[HH:]MM:]SS"),
    Opt::value(
        'l',
        "RESOURCES",
        "What to set aside: nodes=..., or select=... and place=...",
    ),
    Opt::value('U', "USER[,...]", "Let these users in as well (user@host)"),
    Opt::value('G', "GROUP[,...]", "Let these groups in"),
    Opt::value(
        'r',
        "RULE",
        "Come again: FREQ=DAILY|WEEKLY;BYDAY=MO,WE;COUNT=N|UNTIL=DATE",
    ),
    Opt::value('I', "SECONDS", "No effect: the answer is there at once"),
    Opt::value(
        '-',
        "every=TEXT|maintenance|dedicated=QUEUES|hosts|force",
        "Come every week ('Mon,Wed 14:00-16:00 until 2027-01-31'); keep all jobs off the nodes named as operands, or all but those of some queues; do so though jobs run there",
    ),
];

/// Makes one reservation and prints its id, as PBS Pro does: `R12.hn1 CONFIRMED`.
///
/// # Errors
/// Misuse, and the server's refusal, which says what is missing.
pub(crate) async fn run<W: Write>(call: &Call, screen: &mut Screen<W>) -> Result<u8, Failure> {
    let parsed = call.parse(OPTIONS);
    let request = wish::read(&parsed, &Zoned::now());
    let request = request.map_err(|text| Failure::new(2, text))?;
    let mut server = door::open(call, door::patience(None, &call.env)).await?;
    match server.reserve(request).await {
        Ok(reply) => {
            let id = reply.into_inner().reservation_id;
            writeln!(screen.out(), "{id} CONFIRMED")?;
            Ok(0)
        }
        Err(status) => {
            let refusal = refusal(&status);
            let text = format!("pbs_rsub: {}", refusal.text());
            Err(Failure::new(exit_status(refusal.error), text))
        }
    }
}
