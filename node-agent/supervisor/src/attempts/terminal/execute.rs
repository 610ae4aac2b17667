//! A program that somebody runs in an attempt beside its script: on its node, in its share, with its variables and rights.

use capstan_proto::wire::terminal_output::Output;
use capstan_proto::wire::{ExecuteProgram, OpenSession, OpenTerminal};
use capstan_types::AttemptId;
use tokio::net::UnixStream;

use super::Ends;
use super::hold::Seat;
use crate::attempts::table::Supervisor;

/// Runs the program, or goes on with it, to its end or to that of the session.
pub(super) async fn execute(
    supervisor: &Supervisor,
    order: OpenSession,
    open: OpenTerminal,
    wish: ExecuteProgram,
    ends: Ends,
) {
    let begun = async {
        let seat = Seat::of(supervisor, AttemptId(order.attempt), open, &wish)?;
        let stream = match seat.find().await? {
            Some(stream) => stream,
            None => begin(supervisor, order, wish, &seat).await?,
        };
        Ok::<_, Output>((seat, stream))
    };
    match begun.await {
        Ok((seat, stream)) => seat.sit(stream, ends).await,
        Err(problem) => drop(ends.output.send(problem).await),
    }
}

async fn begin(
    supervisor: &Supervisor,
    order: OpenSession,
    wish: ExecuteProgram,
    seat: &Seat,
) -> Result<UnixStream, Output> {
    let program = supervisor.admit_program(order, wish, false).await?;
    // Nothing is to be done when it is over that the process does not do which holds it.
    let (stream, _guarding) = supervisor.hold(program, seat, None).await?;
    Ok(stream)
}
