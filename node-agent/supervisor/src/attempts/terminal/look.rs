//! What the terminal of an interactive attempt has shown lately, for those who may look (`qpeek`, `qlog`), and lines for
//! whoever sits there (`qmsg`, the agent's own warnings). Neither disturbs the session. What a program told the terminal to
//! do is left out: whoever looks on has another one.

use std::sync::Arc;
use std::time::Duration;

use capstan_proto::wire::terminal_input::Input;
use capstan_proto::wire::terminal_output::Output;
use capstan_proto::wire::{OpenTerminal, ReadOutput, TerminalInput, TerminalOutput, TerminalReady};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::{VERSION, frames};
use crate::attempts::live::LiveAttempt;
use crate::attempts::signalling::NotReached;
use crate::attempts::tasks::guard::connect;

/// How long a shim may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Sends what the terminal shows to `chunks`: the last of it, and, following, what comes, until the session is over or
/// nobody listens. A terminal has no stderr of its own.
pub(in crate::attempts) async fn look_on(
    live: &Arc<LiveAttempt>,
    wish: &ReadOutput,
    chunks: &mpsc::Sender<Vec<u8>>,
) -> Result<(), NotReached> {
    if wish.stderr {
        return Ok(());
    }
    let (mut terminal, ready) = open(live, String::new()).await?;
    let mut shown = Plain::default();
    let mut text = Vec::new();
    let mut at = ready.from_byte;
    while at < ready.end_byte {
        let within = timeout(ANSWER_WITHIN, terminal.piece()).await;
        let Ok(Some(bytes)) = within else { break };
        at += bytes.len() as u64;
        shown.read(&bytes, &mut text);
    }
    let kept = excerpt(&text, wish);
    if !kept.is_empty() && chunks.send(kept.to_vec()).await.is_err() {
        return Ok(());
    }
    if !wish.follow || wish.first_lines.is_some() {
        return Ok(());
    }
    loop {
        let piece = tokio::select! {
            piece = terminal.piece() => piece,
            () = chunks.closed() => return Ok(()),
        };
        let Some(bytes) = piece else { return Ok(()) };
        let mut text = Vec::new();
        shown.read(&bytes, &mut text);
        if !text.is_empty() && chunks.send(text).await.is_err() {
            return Ok(());
        }
    }
}

/// Shows lines to whoever sits at the terminal, now or later.
pub(in crate::attempts) async fn tell(
    live: &Arc<LiveAttempt>,
    message: &str,
) -> Result<(), NotReached> {
    let mut plain = Vec::new();
    Plain::default().read(message.as_bytes(), &mut plain);
    let message = String::from_utf8_lossy(&plain).into_owned();
    match message.trim().is_empty() {
        true => Ok(()),
        false => open(live, message).await.map(drop),
    }
}

/// The connection of somebody who looks on.
struct Terminal {
    stream: UnixStream,
    arrived: Vec<u8>,
}

async fn open(
    live: &Arc<LiveAttempt>,
    message: String,
) -> Result<(Terminal, TerminalReady), NotReached> {
    let problem = |problem: String| NotReached::Terminal { problem };
    let marked = live.clone();
    let version = spawn_blocking(move || marked.terminal_version()).await;
    // Who does not know better would take us for the client, and put the client out.
    if version.is_err() || version.is_ok_and(|version| version == 0) {
        let why = "the session was begun by an older agent, whose terminals cannot be looked at";
        return Err(problem(why.to_owned()));
    }
    let stream = connect(&live.terminal()).await;
    let stream = stream.map_err(|error| problem(error.to_string()))?;
    let arrived = Vec::new();
    let mut terminal = Terminal { stream, arrived };
    let open = OpenTerminal {
        version: VERSION,
        message,
        ..OpenTerminal::default()
    };
    let greeted = async {
        terminal.say(Input::Open(open)).await?;
        terminal.word().await
    };
    match timeout(ANSWER_WITHIN, greeted).await {
        Ok(Some(Output::Ready(ready))) => Ok((terminal, ready)),
        Ok(_) | Err(_) => Err(problem("its process does not answer".to_owned())),
    }
}

impl Terminal {
    async fn say(&mut self, word: Input) -> Option<()> {
        let mut bytes = Vec::new();
        frames::put(&TerminalInput { input: Some(word) }, &mut bytes);
        self.stream.write_all(&bytes).await.ok()
    }

    /// The next word; none at the end.
    async fn word(&mut self) -> Option<Output> {
        loop {
            while let Some(word) = frames::take::<TerminalOutput>(&mut self.arrived).ok()? {
                if word.output.is_some() {
                    return word.output;
                }
            }
            if self.stream.read_buf(&mut self.arrived).await.ok()? == 0 {
                return None;
            }
        }
    }

    /// The next piece of what is shown; none at the end.
    async fn piece(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Output::Stdout(bytes) = self.word().await? {
                self.say(Input::Taken(1)).await?;
                return Some(bytes);
            }
        }
    }
}

/// The lines that are wished of what is there.
fn excerpt<'a>(text: &'a [u8], wish: &ReadOutput) -> &'a [u8] {
    let mut ends = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    if let Some(lines) = wish.first_lines {
        let last = (lines as usize).checked_sub(1);
        let end = last.map(|last| ends.nth(last).map_or(text.len(), |(at, _)| at + 1));
        return &text[..end.unwrap_or(0)];
    }
    let Some(lines) = wish.last_lines else {
        return text;
    };
    // The line feed at the very end ends the last line and begins none.
    let inner = text.strip_suffix(b"\n").unwrap_or(text);
    let begins = inner.iter().enumerate().rev();
    let mut begins = begins.filter(|(_, byte)| **byte == b'\n');
    match (lines as usize).checked_sub(1) {
        None => &[],
        Some(before) => &text[begins.nth(before).map_or(0, |(at, _)| at + 1)..],
    }
}

/// Takes text out of what a terminal is sent: without escape sequences (ECMA-48) and control characters, lines ended by a
/// line feed.
#[derive(Debug, Default)]
struct Plain(State);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    Escape,
    /// `ESC [`, until a final byte.
    Control,
    /// `ESC ]`, `ESC P` and the like, until BEL or `ESC \`.
    String,
    StringEscape,
}

impl Plain {
    fn read(&mut self, bytes: &[u8], text: &mut Vec<u8>) {
        for &byte in bytes {
            self.0 = match (self.0, byte) {
                (State::String, 0x07) | (State::StringEscape, b'\\') => State::Text,
                (State::String | State::StringEscape, 0x1b) => State::StringEscape,
                (State::String | State::StringEscape, _) => State::String,
                (_, 0x1b) => State::Escape,
                (State::Escape, b'[') => State::Control,
                (State::Escape, b']' | b'P' | b'X' | b'^' | b'_') => State::String,
                // Of several bytes: `ESC ( B`.
                (State::Escape, 0x20..=0x2f) => State::Escape,
                (State::Escape, _) | (State::Control, 0x40..=0x7e) => State::Text,
                (State::Control, _) => State::Control,
                (State::Text, byte) => {
                    if matches!(byte, b'\n' | b'\t') || (byte >= 0x20 && byte != 0x7f) {
                        text.push(byte);
                    }
                    State::Text
                }
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attempts::ledger::Ledger;
    use crate::attempts::record::{Entry, ShimRecord};

    /// It would take whoever looks on for the client, and put the client out.
    #[tokio::test]
    async fn a_shim_of_a_time_before_onlookers_is_left_alone() {
        let state = tempfile::tempdir().expect("a folder");
        let ledger = Ledger::open(state.path()).expect("a ledger");
        let mut entry = Entry::default();
        entry.spec.attempt = 1;
        let file = ledger.record(&entry).expect("written");
        let old = ShimRecord {
            pid: 1,
            ..ShimRecord::default()
        };
        let mut locked = file.lock().expect("read").expect("free");
        locked.mark(&old).expect("written");
        let listener = std::os::unix::net::UnixListener::bind(file.terminal()).expect("bound");
        listener.set_nonblocking(true).expect("set");
        let live = Arc::new(LiveAttempt::new(entry, file));
        let (chunks, _shown) = mpsc::channel(1);
        let seen = look_on(&live, &ReadOutput::default(), &chunks).await;
        assert!(matches!(seen, Err(NotReached::Terminal { .. })), "{seen:?}");
        let told = tell(&live, "hello").await;
        assert!(matches!(told, Err(NotReached::Terminal { .. })), "{told:?}");
        assert!(listener.accept().is_err(), "nobody has knocked");
    }

    #[test]
    fn what_a_terminal_is_told_to_do_is_left_out() {
        let check = |shown: &str, expected: &str| {
            for step in 1..=shown.len().max(1) {
                let (mut plain, mut text) = (Plain::default(), Vec::new());
                shown
                    .as_bytes()
                    .chunks(step)
                    .for_each(|part| plain.read(part, &mut text));
                assert_eq!(
                    String::from_utf8_lossy(&text),
                    expected,
                    "{shown:?} by {step}"
                );
            }
        };
        check("a\r\nb\tc", "a\nb\tc");
        check("\u{1b}[1;31mred\u{1b}[0m\u{1b}[2J", "red");
        check("\u{1b}]0;title\u{7}x\u{1b}]52;c;QQ==\u{1b}\\y", "xy");
        check("\u{1b}(B\u{1b}=\u{1b}Pq...\u{1b}\\z\u{7}\u{8}", "z");
        check("gr\u{fc}n", "gr\u{fc}n");
    }

    #[test]
    fn the_wished_lines_are_shown() {
        let check = |first_lines, last_lines, expected: &str| {
            let wish = ReadOutput {
                first_lines,
                last_lines,
                ..ReadOutput::default()
            };
            let seen = excerpt(b"a\nb\nc\n", &wish);
            assert_eq!(String::from_utf8_lossy(seen), expected);
        };
        check(None, None, "a\nb\nc\n");
        check(Some(1), None, "a\n");
        check(Some(9), None, "a\nb\nc\n");
        check(Some(0), None, "");
        check(None, Some(1), "c\n");
        check(None, Some(2), "b\nc\n");
        check(None, Some(9), "a\nb\nc\n");
        check(None, Some(0), "");
    }
}
