//! `qorder`: lets two waiting jobs change places. Has no options.

use std::io::Write;

use capstan_proto::wire::OrderJobsRequest;

use crate::command::{Call, Failure, exit_status, refusal};
use crate::door::{self, Doors};
use crate::operand;
use crate::output::screen::Screen;

const USAGE: &str = "usage: qorder job_identifier job_identifier";

/// Swaps two jobs.
///
/// # Errors
/// Misuse, and the server's refusal, which names no id, as in Torque.
pub(crate) async fn run<W: Write>(call: &Call, _screen: &mut Screen<W>) -> Result<u8, Failure> {
    let [first, second] = &call.args[..] else {
        return Err(Failure::new(2, USAGE));
    };
    let (one, other) = (
        operand::read("qorder", first, None)?,
        operand::read("qorder", second, None)?,
    );
    if one.host != other.host {
        let text = "qorder: both jobs ids must specify the same server";
        return Err(Failure::new(1, text));
    }
    let mut doors = Doors::new(call, door::patience(None, &call.env));
    let server = doors.to(&one.host).await;
    let mut server = server.map_err(|failure| Failure::new(1, failure.text))?;
    let request = OrderJobsRequest {
        first: first.clone(),
        second: second.clone(),
    };
    match server.order_jobs(request).await {
        Ok(_) => Ok(0),
        Err(status) => {
            let refusal = refusal(&status);
            let text = format!("qorder: {} ", refusal.text());
            Err(Failure::new(exit_status(refusal.error), text))
        }
    }
}
