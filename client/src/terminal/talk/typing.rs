//! What is typed, and what becomes of it: keys for the job, which wait here while they cannot be said, and orders to the command
//! itself.

use std::time::Duration;

use capstan_proto::wire::terminal_input::Input;
use capstan_proto::wire::{DeleteJobRequest, Done, TerminalInput};
use nix::sys::signal::{Signal, raise};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::super::escapes::Typed;
use super::super::tty::{self, Raw};
use super::super::writer;
use super::{End, Talk, send};
use crate::command::refusal;
use crate::door::Server;

const HELP: &str = "keys at the beginning of a line: ~d leaves the session, which goes on; ~. ends it; ~^Z stops this \
                    command for now; ~~ is a ~";
/// What is said to who wants to end a job meanwhile.
const AWAY: &str = "the job can be ended when it is back; ~d leaves the session, which goes on";

impl Talk<'_> {
    /// Whether more is read. Before a job has its terminal the keys are for ourselves, and for the kernel.
    pub(super) const fn may_type(&self) -> bool {
        self.received.is_some() && self.is_stdin_open && self.backlog.has_room()
    }

    /// Takes in what was typed; without a server while the connection is away.
    pub(super) async fn typed(
        &mut self,
        piece: Option<Vec<u8>>,
        server: Option<&mut Server>,
    ) -> Result<(), End> {
        let Some(bytes) = piece else {
            self.is_stdin_open = false;
            self.backlog.push(Input::KeysClosed(Done {}));
            return Ok(());
        };
        let mut server = server;
        let typed = match &mut self.escapes {
            Some(escapes) => escapes.read(&bytes),
            None => vec![Typed::Keys(bytes)],
        };
        for typed in typed {
            match typed {
                Typed::Keys(keys) => {
                    // A piece falls apart where an order stands in it, which is typed by hand.
                    self.backlog.push(Input::Keys(keys));
                }
                Typed::Detach if self.is_session() => return Err(End::Detached),
                Typed::Detach => return Err(End::HungUp),
                Typed::End if !self.is_session() => return Err(End::HungUp),
                Typed::End => self.delete(server.as_deref_mut()).await,
                Typed::Suspend => self.suspend(),
                Typed::Help => writer::line(&format!("{}: {HELP}", self.call.program)),
            }
        }
        Ok(())
    }

    /// The session ends with the job, and says so itself.
    async fn delete(&self, server: Option<&mut Server>) {
        let name = self.call.program;
        let Some(server) = server else {
            return writer::line(&format!("{name}: the connection is away: {AWAY}"));
        };
        let request = DeleteJobRequest {
            job_id: self.open.job_id.clone(),
            ..DeleteJobRequest::default()
        };
        if let Err(status) = server.delete_job(request).await {
            let text = refusal(&status).text();
            writer::line(&format!("{name}: the job is not ended: {text}"));
        }
    }

    /// As Ctrl-Z would do to any other command.
    fn suspend(&mut self) {
        let had_raw = self.raw.take().is_some();
        // It stops here, and goes on when the shell says so.
        let _stopped = raise(Signal::SIGTSTP);
        if had_raw {
            self.raw = Raw::enter();
        }
        self.has_new_size = true;
    }

    pub(super) fn tell_size(&mut self, say: &mpsc::Sender<TerminalInput>, is_ready: bool) {
        if !is_ready || !self.has_new_size || self.pieces.left() == 0 || self.open.window.is_none()
        {
            return;
        }
        self.has_new_size = false;
        if let Some(size) = tty::size() {
            self.say_piece(Input::Window(size), say);
        }
    }

    /// A piece of input.
    fn say_piece(&mut self, piece: Input, say: &mpsc::Sender<TerminalInput>) {
        self.pieces.say(&piece);
        send(say, piece);
    }

    /// Says what was typed, as far as it may be on its way. One place stays free for sizes.
    pub(super) fn say_typed(&mut self, say: &mpsc::Sender<TerminalInput>, is_ready: bool) {
        while is_ready
            && self.pieces.left() > 1
            && let Some(piece) = self.backlog.next()
        {
            self.say_piece(piece, say);
        }
    }

    /// Waits for so long while the connection is away. Keys are taken in meanwhile, and said when it is back.
    pub(super) async fn pause(&mut self, span: Duration) -> Result<(), End> {
        let until = Instant::now() + span;
        loop {
            let may_type = self.may_type();
            tokio::select! {
                () = sleep_until(until) => return Ok(()),
                piece = self.stdin.next(), if may_type => self.typed(piece, None).await?,
                number = self.signals.next() => match number {
                    libc::SIGWINCH => self.has_new_size = true,
                    libc::SIGINT => return Err(End::Interrupted),
                    _ => return Err(End::HungUp),
                },
            }
        }
    }
}
