//! Mail to the owners of jobs, through sendmail's interface. Letters are handed over by a thread of their own: nothing
//! waits for a mail system, and one that is broken costs letters, not jobs.

mod letter;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use anyhow::Context;
use capstan_core::{Account, Job};
use capstan_types::ServerName;

use crate::bounded::{Entrance, Exit, queue};

pub(crate) use letter::MailRules;
use letter::{Letter, letter};

/// Most letters that wait for sendmail. Over it, letters are lost, which is said in the log.
const QUEUE_MAX: usize = 16_384;
/// A sendmail that takes longer is killed.
const SENDMAIL_WITHIN: Duration = Duration::from_secs(60);
/// How often it is looked at while it works.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Letters to one address that are gathered into one; the rest goes in the next.
const BATCH_MAX: usize = 1000;

/// What happened to a job, and how a letter about it is sent.
#[derive(Debug)]
struct Order {
    job: Arc<Job>,
    record: Account,
    sending: Arc<Sending>,
}

/// How letters are made and sent, at the moment of what they tell of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sending {
    pub(crate) rules: MailRules,
    /// `sendmail_path`.
    pub(crate) program: PathBuf,
    /// `email_batch_seconds`: letters to one address within so long go as one; zero for none.
    pub(crate) batch: Duration,
}

/// The way to the mail system. Dropping it ends the thread once all is handed over.
#[derive(Debug)]
pub(crate) struct Mail {
    entrance: Option<Entrance<Order>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Mail {
    /// Starts the thread for the letters of this server.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(crate) fn start(server: ServerName) -> anyhow::Result<Self> {
        let (entrance, exit) = queue(QUEUE_MAX);
        let thread = std::thread::Builder::new().name("mail".to_owned());
        let thread = thread.spawn(move || send_all(&exit, &server));
        Ok(Self {
            entrance: Some(entrance),
            thread: Some(thread.context("starting the thread for mail")?),
        })
    }

    /// Has those told who want to be told of `record` of `job`.
    pub(crate) fn tell(&self, job: Arc<Job>, record: Account, sending: Arc<Sending>) {
        let Some(entrance) = &self.entrance else {
            return;
        };
        let order = Order {
            job,
            record,
            sending,
        };
        if entrance.put(order).is_err() {
            tracing::error!("a letter is lost: {QUEUE_MAX} wait for sendmail");
        }
    }
}

impl Drop for Mail {
    fn drop(&mut self) {
        self.entrance.take();
        let ended = self.thread.take().map(std::thread::JoinHandle::join);
        if let Some(Err(_)) = ended {
            tracing::error!("the thread for mail panicked");
        }
    }
}

/// Letters to one address that wait to go as one.
struct Batch {
    since: Instant,
    sending: Arc<Sending>,
    letters: Vec<Letter>,
}

impl Batch {
    fn is_due(&self, now: Instant) -> bool {
        now.duration_since(self.since) >= self.sending.batch || self.letters.len() >= BATCH_MAX
    }
}

fn send_all(exit: &Exit<Order>, server: &ServerName) {
    let mut batches: BTreeMap<Vec<String>, Batch> = BTreeMap::new();
    let mut works = true;
    loop {
        let next_due = batches
            .values()
            .map(|batch| batch.since + batch.sending.batch)
            .min();
        let patience = next_due.map(|due| due.saturating_duration_since(Instant::now()));
        match exit.take(patience) {
            Ok(order) => take(order, server, &mut batches, &mut works),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        let now = Instant::now();
        batches.retain(|to, batch| {
            let is_due = batch.is_due(now);
            if is_due {
                send(&together(to, &batch.letters), &batch.sending, &mut works);
            }
            !is_due
        });
    }
    for (to, batch) in batches {
        send(&together(&to, &batch.letters), &batch.sending, &mut works);
    }
}

fn take(
    order: Order,
    server: &ServerName,
    batches: &mut BTreeMap<Vec<String>, Batch>,
    works: &mut bool,
) {
    let Order {
        job,
        record,
        sending,
    } = order;
    let Some(letter) = letter(&job, &record, &sending.rules, server) else {
        return;
    };
    if sending.batch.is_zero() {
        return send(&letter, &sending, works);
    }
    let batch = batches.entry(letter.to.clone()).or_insert_with(|| Batch {
        since: Instant::now(),
        sending,
        letters: Vec::new(),
    });
    batch.letters.push(letter);
}

/// Several letters as one, under Torque's subject for it.
fn together(to: &[String], letters: &[Letter]) -> Letter {
    if let [letter] = letters {
        return letter.clone();
    }
    let bodies: Vec<_> = letters.iter().map(|letter| letter.body.as_str()).collect();
    Letter {
        to: to.to_vec(),
        subject: format!("Summary Email for {} Torque Jobs", letters.len()),
        body: bodies.join("\n"),
    }
}

/// Sends a letter; `works` says whether the last one was sent.
fn send(letter: &Letter, sending: &Sending, works: &mut bool) {
    let sent = hand_over(letter, sending);
    let was_working = std::mem::replace(works, sent.is_ok());
    match sent {
        Ok(()) => {
            tracing::debug!(to = ?letter.to, subject = letter.subject, "letter sent");
            if !was_working {
                tracing::info!("letters are sent again");
            }
        }
        Err(error) => {
            let error = format!("{error:#}");
            tracing::debug!(to = ?letter.to, subject = letter.subject, error, "letter lost");
            // One line for a mail system that is broken, not one for each letter.
            if was_working {
                tracing::warn!(
                    error,
                    "letters are lost until sendmail works (server attribute sendmail_path)"
                );
            }
        }
    }
}

fn hand_over(letter: &Letter, sending: &Sending) -> anyhow::Result<()> {
    let program = sending.program.display();
    let mut child = Command::new(&sending.program)
        .args(["-f", &sending.rules.from])
        .args(&letter.to)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("starting {program}"))?;
    let text = format!(
        "To: {}\nSubject: {}\nPrecedence: bulk\n\n{}",
        letter.to.join(","),
        letter.subject,
        letter.body
    );
    let mut stdin = child.stdin.take().context("its stdin was asked for")?;
    let written = stdin.write_all(text.as_bytes());
    drop(stdin);
    let status = end(&mut child).with_context(|| format!("waiting for {program}"))?;
    written.with_context(|| format!("writing to {program}"))?;
    anyhow::ensure!(status.success(), "{program} ended with {status}");
    Ok(())
}

/// Waits for the end of `child`, and brings it about when it takes too long.
fn end(child: &mut Child) -> std::io::Result<std::process::ExitStatus> {
    let give_up = Instant::now() + SENDMAIL_WITHIN;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() >= give_up {
            child.kill()?;
            return child.wait();
        }
        std::thread::park_timeout(LOOK_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use capstan_types::JobId;

    use super::*;
    use crate::testing::job;

    /// A sendmail that appends what it is given to a file.
    fn stand_in(folder: &Path) -> PathBuf {
        let program = folder.join("sendmail");
        let kept = folder.join("kept");
        let script = format!(
            "#!/bin/sh\n{{ echo \"argv: $*\"; cat; echo '=== end'; }} >> {}\n",
            kept.display()
        );
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        program
    }

    fn tell_of(count: u64, batch: Duration) -> String {
        let folder = tempfile::tempdir().unwrap();
        let sending = Arc::new(Sending {
            rules: MailRules {
                from: "adm".to_owned(),
                ..MailRules::default()
            },
            program: stand_in(folder.path()),
            batch,
        });
        let mail = Mail::start("hn1".into()).unwrap();
        for seq in 1..=count {
            let job = Arc::new(job(JobId::whole(seq), "a", &[]));
            mail.tell(job, Account::Deleted("root@hn1".into()), sending.clone());
        }
        drop(mail);
        std::fs::read_to_string(folder.path().join("kept")).unwrap()
    }

    #[test]
    fn sendmail_gets_a_letter_as_torque_hands_it_over() {
        let kept = tell_of(1, Duration::ZERO);
        let head = "argv: -f adm alice@hn1\nTo: alice@hn1\nSubject: PBS JOB 1.hn1\n\
                    Precedence: bulk\n\nPBS Job Id: 1.hn1\n";
        assert!(kept.starts_with(head), "{kept}");
    }

    #[test]
    fn letters_to_one_address_can_go_as_one() {
        let kept = tell_of(3, Duration::from_secs(600));
        assert_eq!(kept.matches("=== end").count(), 1, "{kept}");
        assert!(kept.contains("Subject: Summary Email for 3 Torque Jobs\n"));
        assert_eq!(kept.matches("PBS Job Id: ").count(), 3, "{kept}");
    }

    #[test]
    fn a_missing_sendmail_costs_a_letter_and_nothing_else() {
        let letter = Letter {
            to: vec!["alice@hn1".to_owned()],
            subject: "s".to_owned(),
            body: "b\n".to_owned(),
        };
        let sending = Sending {
            program: "/nosuch/sendmail".into(),
            ..Sending::default()
        };
        let error = hand_over(&letter, &sending).unwrap_err();
        assert!(format!("{error:#}").contains("starting /nosuch/sendmail"));
    }
}
