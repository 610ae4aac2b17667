//! The few programs that the engine in memory runs: what the contract suite and the door's tests ask of busybox.

use std::collections::BTreeMap;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use super::super::engine::{ContainerSpec, Output, TerminalSize};

/// A running program's view of its container.
pub(super) struct Running {
    pub(super) spec: ContainerSpec,
    pub(super) stdin: mpsc::Receiver<Bytes>,
    pub(super) output: watch::Sender<Vec<Output>>,
    pub(super) size: watch::Receiver<Option<TerminalSize>>,
}

/// What `exec` says about a program before it runs.
pub(super) enum Exec {
    Found,
    NotFound,
    NotExecutable,
}

pub(super) fn exec(command: &[String]) -> Exec {
    let program = command.first().map(String::as_str).unwrap_or_default();
    match program.strip_prefix("/bin/").unwrap_or(program) {
        "/etc/passwd" | "/etc" => Exec::NotExecutable,
        "sh" | "sleep" | "cat" | "echo" | "stty" | "env" => Exec::Found,
        _ => Exec::NotFound,
    }
}

impl Running {
    /// Runs the program to its end.
    pub(super) async fn run(mut self) -> i32 {
        let command = self.spec.command.clone();
        let words: Vec<_> = command.iter().map(String::as_str).collect();
        match words[..] {
            ["/bin/sh", "-c", line] => {
                for step in line.split(';') {
                    if let Some(code) = self.step(step.trim()).await {
                        return code;
                    }
                }
                0
            }
            _ => self.step(&words.join(" ")).await.unwrap_or(0),
        }
    }

    /// One simple command; some code when it is the last.
    async fn step(&mut self, step: &str) -> Option<i32> {
        let words: Vec<_> = step
            .trim_start_matches("/bin/")
            .split_whitespace()
            .collect();
        match words[..] {
            ["exit", code] => return code.parse().ok(),
            ["sleep", _] => std::future::pending::<()>().await,
            ["cat"] => {
                while let Some(bytes) = self.stdin.recv().await {
                    self.print(false, &bytes);
                }
            }
            ["stty", "size"] => {
                let size = self
                    .size
                    .wait_for(Option::is_some)
                    .await
                    .ok()
                    .and_then(|size| *size)?;
                self.print(
                    false,
                    format!("{} {}\r\n", size.rows, size.columns).as_bytes(),
                );
            }
            ["env"] => {
                let lines: BTreeMap<_, _> = self
                    .spec
                    .environment
                    .iter()
                    .filter_map(|line| line.split_once('='))
                    .collect();
                for (name, value) in lines {
                    self.print(false, format!("{name}={value}\n").as_bytes());
                }
            }
            ["pwd"] => self.print(
                false,
                format!("{}\n", self.spec.workdir.display()).as_bytes(),
            ),
            ["echo", ref text @ .., ">&2"] => {
                self.print(true, format!("{}\n", text.join(" ")).as_bytes())
            }
            ["echo", ref text @ ..] => {
                self.print(false, format!("{}\n", text.join(" ")).as_bytes())
            }
            _ => return Some(127),
        }
        None
    }

    fn print(&self, is_stderr: bool, bytes: &[u8]) {
        let bytes = Bytes::copy_from_slice(bytes);
        let piece = match is_stderr && self.spec.terminal.is_none() {
            true => Output::Stderr(bytes),
            false => Output::Stdout(bytes),
        };
        self.output.send_modify(|all| all.push(piece));
    }
}
