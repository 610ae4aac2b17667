//! `pbs_rdel`: takes reservations back. Jobs in their queues are deleted.

use std::io::Write;

use capstan_proto::wire::CancelReservationRequest;

use crate::command::{Call, Failure, exit_status, refusal};
use crate::door::{self, Doors};
use crate::output::screen::Screen;

const USAGE: &str = "usage: pbs_rdel reservation...";

/// Takes the reservations back one by one; the exit status is that of the last refusal.
///
/// # Errors
/// Misuse, and a server that is not there.
pub(crate) async fn run<W: Write>(call: &Call, screen: &mut Screen<W>) -> Result<u8, Failure> {
    let parsed = call.parse(&[]);
    if parsed.operands.is_empty() || parsed.problems().next().is_some() {
        return Err(Failure::new(2, USAGE));
    }
    let mut doors = Doors::new(call, door::patience(None, &call.env));
    let mut exit = 0;
    for reservation in &parsed.operands {
        let mut server = doors.to("").await?;
        let request = CancelReservationRequest {
            reservation: reservation.clone(),
        };
        if let Err(status) = server.cancel_reservation(request).await {
            let refusal = refusal(&status);
            screen.complain(&format!("pbs_rdel: {} {reservation}", refusal.text()));
            exit = exit_status(refusal.error);
        }
    }
    Ok(exit)
}
