//! Who tells the world what happened to jobs: the accounting log, the server log, and mail. All of it is done by other
//! threads; the engine only says what happened.

use std::sync::Arc;
use std::time::Duration;

use capstan_core::{Account, Caller, Event, Job, ManageCommand, ManageOrder, Settings};
use capstan_types::{AttributeObject, CardId, JobId, ServerName, SetOperator, Timestamp};

use crate::mail::{Mail, MailRules, Sending};
use crate::records::{Line, LogClass, LogEvent, LogRules, Records};

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
    log: LogRules,
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
        let Rules { log, sending } = self.rules(settings);
        self.mail.tell(job.clone(), record.clone(), sending);
        self.records.write(at, job, record, log);
    }

    /// Writes into the server log what people did to jobs and settings.
    pub(crate) fn note(&mut self, at: Timestamp, event: &Event, settings: Option<&Arc<Settings>>) {
        let Some(settings) = settings else { return };
        let Rules { log, .. } = self.rules(Some(settings));
        for (class, object, text) in said(event, settings) {
            let event = match class {
                LogClass::Job => LogEvent::Job,
                LogClass::Server | LogClass::Queue | LogClass::Node => LogEvent::Admin,
            };
            let line = Line {
                at,
                event,
                class,
                object,
                text,
            };
            self.records.say(line, log);
        }
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

/// What the server log says of `event`, in Torque's words.
fn said(event: &Event, settings: &Settings) -> Vec<(LogClass, String, String)> {
    let of_job = |job: JobId, what: String, by: &Caller| {
        let text = format!("{what} at request of {}@{}", by.user, by.host);
        vec![(LogClass::Job, job.on(&settings.server), text)]
    };
    if let Event::Manage(order) = event {
        return managed(order);
    }
    if let Event::CardsFailed { node, cards } = event {
        let line = |(card, what): &(CardId, Box<str>)| {
            let text =
                format!("card {card} failed: {what}; jobs on it that may be rerun are put back");
            (LogClass::Node, node.to_string(), text)
        };
        return cards.iter().map(line).collect();
    }
    if let Event::Alter(order) = event {
        return of_job(order.job, "Job Modified".to_owned(), &order.by);
    }
    let (order, done) = if let Event::Hold(order) = event {
        (order, "set")
    } else if let Event::Release(order) = event {
        (order, "released")
    } else {
        return Vec::new();
    };
    of_job(
        order.job,
        format!("Holds {} {done}", order.holds),
        &order.by,
    )
}

const fn sign(operator: SetOperator) -> &'static str {
    match operator {
        SetOperator::Assign => "=",
        SetOperator::Add => "+=",
        SetOperator::Remove => "-=",
    }
}

fn managed(order: &ManageOrder) -> Vec<(LogClass, String, String)> {
    let by = format!("at request of {}@{}", order.by.user, order.by.host);
    let class = match order.object {
        AttributeObject::Queue => LogClass::Queue,
        AttributeObject::Node => LogClass::Node,
        AttributeObject::Server | AttributeObject::Job => LogClass::Server,
    };
    let object = match &*order.name {
        "" => "PBS_Server".to_owned(),
        name => name.to_owned(),
    };
    let word = order.object.word();
    let head = match order.command {
        ManageCommand::Create => format!("{word} created {by}"),
        ManageCommand::Delete => format!("{word} deleted {by}"),
        ManageCommand::Set => format!("attributes set:  {by}"),
        ManageCommand::Unset => format!("attributes unset:  {by}"),
    };
    let done = match order.command {
        ManageCommand::Unset => "unset",
        ManageCommand::Create | ManageCommand::Delete | ManageCommand::Set => "set",
    };
    let each = order.directives.iter().map(|directive| {
        let dot = if directive.resource.is_empty() {
            ""
        } else {
            "."
        };
        let (name, resource, value) = (&directive.name, &directive.resource, &directive.value);
        let operator = sign(directive.operator);
        match order.command {
            ManageCommand::Unset => format!("attributes {done}: {name}{dot}{resource}"),
            ManageCommand::Create | ManageCommand::Delete | ManageCommand::Set => {
                format!("attributes {done}: {name}{dot}{resource} {operator} {value}")
            }
        }
    });
    std::iter::once(head)
        .chain(each)
        .map(|text| (class, object.clone(), text))
        .collect()
}

/// Where sendmail is, unless `sendmail_path` says otherwise.
const SENDMAIL: &str = "/usr/lib/sendmail";
/// Sender of letters, unless `mail_from` says otherwise.
const MAIL_FROM: &str = "adm";

impl Rules {
    fn of(settings: &Settings) -> Self {
        let attributes = &settings.attributes;
        let text = |name: &str| attributes.text(name).map(str::to_owned);
        let number = |name: &str| attributes.limit(name).unwrap_or(0);
        let days = |name: &str| u32::try_from(number(name)).unwrap_or(u32::MAX);
        let rules = MailRules {
            from: text("mail_from").unwrap_or_else(|| MAIL_FROM.to_owned()),
            domain: text("mail_domain"),
            no_force: settings.is("no_mail_force"),
            subject_format: text("mail_subject_fmt"),
            body_format: text("mail_body_fmt"),
        };
        Self {
            log: LogRules {
                events: u32::try_from(number("log_events")).unwrap_or(u32::MAX),
                keep_days: [days("accounting_keep_days"), days("log_keep_days")],
            },
            sending: Arc::new(Sending {
                rules,
                program: text("sendmail_path")
                    .unwrap_or_else(|| SENDMAIL.to_owned())
                    .into(),
                batch: Duration::from_secs(number("email_batch_seconds")),
            }),
        }
    }
}
