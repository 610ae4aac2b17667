//! Who tells the world what happened to jobs: the accounting log, the server log, and mail. All of it is done by other
//! threads; the engine only says what happened.

use std::sync::Arc;

use capstan_core::{Account, Job, Settings};
use capstan_types::{ServerName, Timestamp};

use crate::mail::{Mail, Sending};
use crate::records::Records;

/// The way to logs and mail.
pub(crate) struct Clerk {
    records: Records,
    mail: Mail,
    /// What the settings say of it, and the settings that it was read from.
    rules: Option<(Arc<Settings>, Rules)>,
}

/// What settings say of logs and mail.
#[derive(Clone, Default)]
struct Rules {
    log_events: u32,
    sending: Arc<Sending>,
}

impl Clerk {
    /// A clerk whose logs lie in folders of `folder`.
    ///
    /// # Errors
    /// When a folder cannot be made, or there is no thread to be had.
    pub(crate) fn start(folder: &std::path::Path, server: ServerName) -> anyhow::Result<Self> {
        Ok(Self {
            records: Records::start(folder, server.clone())?,
            mail: Mail::start(server)?,
            rules: None,
        })
    }

    /// Writes down and tells what happened to `job`.
    pub(crate) fn tell(
        &mut self,
        at: Timestamp,
        job: Arc<Job>,
        record: Account,
        settings: Option<&Arc<Settings>>,
    ) {
        let Rules {
            log_events,
            sending,
        } = self.rules(settings);
        self.mail.tell(job.clone(), record.clone(), sending);
        self.records.write(at, job, record, log_events);
    }

    fn rules(&mut self, settings: Option<&Arc<Settings>>) -> Rules {
        let Some(settings) = settings else {
            return Rules::default();
        };
        match &self.rules {
            Some((of, rules)) if Arc::ptr_eq(of, settings) => rules.clone(),
            Some(_) | None => {
                let rules = Rules::of(settings);
                self.rules = Some((settings.clone(), rules.clone()));
                rules
            }
        }
    }
}

impl Rules {
    fn of(_settings: &Settings) -> Self {
        Self {
            log_events: 2047,
            sending: Arc::default(),
        }
    }
}
