//! Whether somebody is to be told of what happened to a job, and the letter's text, both as Torque has them.

use std::fmt::Write;

use capstan_core::{Account, Ended, Job, JobState, Usage};
use capstan_types::{MailPoints, Seconds, ServerName};

use crate::view::last_run;
use crate::view::paths::{stderr_path, stdout_path};
use crate::view::words::{exec_host, job_name};

/// Exit statuses of attempts that were ended for a limit (torque-surface: exit_status).
const OVER_MEMORY: i32 = -10;
const OVER_WALLTIME: i32 = -11;
const OVER_CPUT: i32 = -12;

/// What a site has decided about mail: the server attributes of the same names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MailRules {
    /// `mail_from`.
    pub(crate) from: String,
    /// `mail_domain`: behind the @ of owners, instead of the host they submitted on.
    pub(crate) domain: Option<String>,
    /// `no_mail_force`: `-m n` means no mail at all.
    pub(crate) no_force: bool,
    /// `mail_subject_fmt`.
    pub(crate) subject_format: Option<String>,
    /// `mail_body_fmt`.
    pub(crate) body_format: Option<String>,
}

/// A letter about one job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Letter {
    /// Addresses, each of them fit for a command line and a header.
    pub(crate) to: Vec<String>,
    /// One line.
    pub(crate) subject: String,
    /// Lines.
    pub(crate) body: String,
}

/// What happened, as far as mail is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Point {
    Begun,
    Ended {
        has_failed: bool,
    },
    Aborted,
    /// Its files could not be copied: told whatever was asked for.
    StageInFailed,
    /// Nor what it wrote: as above.
    NotDelivered,
    /// Somebody else deleted it: told whatever was asked for.
    Deleted,
}

/// What a letter is about.
struct News {
    point: Point,
    /// Torque's line for it.
    event: &'static str,
    details: String,
}

/// The letter that `record` of `job` calls for, if any.
pub(crate) fn letter(
    job: &Job,
    record: &Account,
    rules: &MailRules,
    server: &ServerName,
) -> Option<Letter> {
    if rules.domain.as_deref() == Some("never") {
        return None;
    }
    let news = news(job, record, server)?;
    let points = MailPoints::parse(shown(job, "Mail_Points").unwrap_or("a")).ok()?;
    if !is_wanted(points, news.point, rules.no_force) {
        return None;
    }
    let to = recipients(job, rules);
    if to.is_empty() {
        return None;
    }
    let page = Page {
        job,
        server,
        news: &news,
    };
    let subject = match &rules.subject_format {
        Some(format) => page.filled_in(format).replace(char::is_control, " "),
        None => format!("PBS JOB {}", job.id.on(server)),
    };
    let body = match &rules.body_format {
        Some(format) => page.filled_in(&format.replace("\\n", "\n")),
        None => page.body(),
    };
    Some(Letter { to, subject, body })
}

fn is_wanted(points: MailPoints, point: Point, no_force: bool) -> bool {
    let has = |wanted| points.contains(wanted);
    match point {
        _ if has(MailPoints::NEVER) => false,
        Point::Begun => has(MailPoints::BEGIN),
        Point::Ended { has_failed } => has(MailPoints::END) || has_failed && has(MailPoints::FAIL),
        Point::Aborted => has(MailPoints::ABORT) || has(MailPoints::FAIL),
        Point::Deleted | Point::StageInFailed | Point::NotDelivered => {
            !(no_force && points == MailPoints::NONE)
        }
    }
}

fn news(job: &Job, record: &Account, server: &ServerName) -> Option<News> {
    let (point, event, details) = match record {
        Account::Queued | Account::Rerun => return None,
        Account::Started => (Point::Begun, "Begun execution", String::new()),
        Account::Deleted(deletion) => {
            let user = deletion.by.split('@').next().unwrap_or_default();
            if *user == *job.spec.owner.user {
                return None;
            }
            let mut details = format!("Job deleted at request of {deletion}\n");
            if !deletion.message.is_empty() {
                details.extend([&*deletion.message, "\n"]);
            }
            (Point::Deleted, "job deleted", details)
        }
        Account::StageInFailed(reason) => {
            let details = format!(
                "Job will be retried later, please investigate and correct problem.\n\n\n{reason}\n"
            );
            let event = "File stage in failed, see below.";
            (Point::StageInFailed, event, details)
        }
        Account::NotDelivered(told) => {
            let id = job.id.on(server);
            let host = last_run(job).map_or_else(String::new, |run| exec_host(&run.shares));
            let details =
                format!("Post job file processing error; job {id} on host {host}\n\n{told}");
            let event = "An error has occurred processing your job, see below.";
            (Point::NotDelivered, event, details)
        }
        Account::Aborted => {
            let reason = job.comment.as_deref().unwrap_or("Job cannot be executed");
            (
                Point::Aborted,
                "Aborted by PBS Server ",
                format!("{reason}\n"),
            )
        }
        Account::Ended => return ended(job),
    };
    Some(News {
        point,
        event,
        details,
    })
}

fn ended(job: &Job) -> Option<News> {
    let JobState::Ended(Ended {
        exit_status, run, ..
    }) = &job.state
    else {
        return None;
    };
    let status = exit_status.unwrap_or(0);
    let usage = run.as_ref().map(|run| run.usage).unwrap_or_default();
    let used = used(status, &usage);
    let limit = match status {
        OVER_MEMORY => "a memory resource limit (vmem, pvmem, etc.)",
        OVER_WALLTIME => "its walltime limit",
        OVER_CPUT => "its cpu time limit",
        _ => {
            let has_failed = status != 0;
            return Some(News {
                point: Point::Ended { has_failed },
                event: "Execution terminated",
                details: used,
            });
        }
    };
    let details =
        format!("Job exceeded {limit}. Job was aborted\nSee Administrator for help\n{used}");
    Some(News {
        point: Point::Aborted,
        event: "Aborted by PBS Server ",
        details,
    })
}

fn used(status: i32, usage: &Usage) -> String {
    format!(
        "Exit_status={status}\nresources_used.cput={}\nresources_used.vmem={}kb\n\
         resources_used.walltime={}\nresources_used.mem={}kb\nresources_used.energy_used=0\n",
        Seconds(usage.cput_secs),
        usage.vmem_kb,
        Seconds(usage.walltime_secs),
        usage.mem_kb
    )
}

/// What a letter is made from.
struct Page<'a> {
    job: &'a Job,
    server: &'a ServerName,
    news: &'a News,
}

impl Page<'_> {
    fn body(&self) -> String {
        let mut text = format!(
            "PBS Job Id: {}\nJob Name:   {}\n",
            self.job.id.on(self.server),
            job_name(self.job)
        );
        let host = self.exec_host();
        if !host.is_empty() {
            writeln!(text, "Exec host:  {host}").expect("a String takes everything");
        }
        let News { event, details, .. } = self.news;
        let [errors, output] = self.paths();
        write!(
            text,
            "{event}\n{details}Error_Path: {errors}\nOutput_Path: {output}\n"
        )
        .expect("a String takes everything");
        text
    }

    fn exec_host(&self) -> String {
        last_run(self.job).map_or_else(String::new, |run| exec_host(&run.shares))
    }

    /// Where stderr and stdout went, with the host they are seen from.
    fn paths(&self) -> [String; 2] {
        [stderr_path(self.job), stdout_path(self.job)]
    }

    /// The format with `%i` id, `%j` name, `%o` owner, `%d` details, `%h` host, `%m` event, `%r` reason, `%k` error
    /// path and `%l` output path; another letter stays as it is.
    fn filled_in(&self, format: &str) -> String {
        let owner = &self.job.spec.owner;
        let mut text = String::new();
        let mut letters = format.chars();
        while let Some(letter) = letters.next() {
            if letter != '%' {
                text.push(letter);
                continue;
            }
            let [errors, output] = self.paths();
            let part = match letters.next() {
                Some('i') => self.job.id.on(self.server),
                Some('j') => job_name(self.job).to_string(),
                Some('o') => format!("{}@{}", owner.user, owner.host),
                Some('d') => self.news.details.trim_end().to_owned(),
                Some('h') => self.exec_host(),
                Some('m') => self.news.event.to_owned(),
                Some('r') => self.job.comment.as_deref().unwrap_or("").to_owned(),
                Some('k') => errors,
                Some('l') => output,
                Some('%') | None => "%".to_owned(),
                Some(other) => format!("%{other}"),
            };
            text.push_str(&part);
        }
        text
    }
}

/// Whom `Mail_Users` names, else the owner.
fn recipients(job: &Job, rules: &MailRules) -> Vec<String> {
    let owner = &job.spec.owner;
    let named = shown(job, "Mail_Users").unwrap_or_default();
    let named: Vec<&str> = named.split(',').filter(|word| !word.is_empty()).collect();
    let host = rules.domain.as_deref().unwrap_or(&owner.host);
    let own = format!("{}@{host}", owner.user);
    let all = match named.is_empty() {
        true => vec![own],
        false => named.into_iter().map(str::to_owned).collect(),
    };
    all.into_iter()
        .filter(|address| is_address(address))
        .collect()
}

/// What sendmail may be given: a user of the job's owner's choice stands on root's command line, where a word with a
/// dash is an option, one with a bar a program and one with a slash a file.
fn is_address(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._+=%@-".contains(&byte);
    text.len() <= 320
        && text.bytes().all(is_plain)
        && text.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_')
}

fn shown<'a>(job: &'a Job, name: &str) -> Option<&'a str> {
    let mut shown = job.spec.shown.iter();
    let found = shown.find(|(known, _)| **known == *name);
    found.map(|(_, value)| &**value)
}

#[cfg(test)]
mod tests {
    use capstan_types::JobId;

    use super::*;
    use crate::testing::{ended as ended_job, job as asked, run};

    fn job(seq: u64, name: &str, shown: &[(&str, &str)]) -> Job {
        let mut job = asked(JobId::whole(seq), name, &[]);
        let spec = std::sync::Arc::make_mut(&mut job.spec);
        let shown = shown
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()));
        spec.shown.extend(shown);
        job
    }

    fn sent(job: &Job, record: &Account, rules: &MailRules) -> Option<Letter> {
        letter(job, record, rules, &ServerName::from("hn1"))
    }

    fn rules() -> MailRules {
        MailRules {
            from: "adm".to_owned(),
            ..MailRules::default()
        }
    }

    /// reference_mail.txt, jobs 320, 289 and 297.
    #[test]
    fn letters_are_those_of_torque() {
        let mut mailed = job(
            320,
            "mailed",
            &[("Mail_Points", "abe"), ("Mail_Users", "root")],
        );
        mailed.state = JobState::Running(run(&[("gpu01", &[0], &[])], 0, 1));
        let begun = sent(&mailed, &Account::Started, &rules()).unwrap();
        assert_eq!(begun.to, ["root"]);
        assert_eq!(begun.subject, "PBS JOB 320.hn1");
        assert_eq!(
            begun.body,
            "PBS Job Id: 320.hn1\nJob Name:   mailed\nExec host:  gpu01/0\nBegun execution\n\
             Error_Path: hn1:/home/alice/mailed.e320\nOutput_Path: hn1:/home/alice/mailed.o320\n"
        );
        let late = ended_job(
            job(289, "wt", &[]),
            run(&[("gpu01", &[0], &[])], 0, 1),
            26,
            -11,
        );
        let aborted = sent(&late, &Account::Ended, &rules()).unwrap();
        assert_eq!(aborted.to, ["alice@hn1"]);
        let event = "Aborted by PBS Server \nJob exceeded its walltime limit. Job was aborted\n\
                     See Administrator for help\nExit_status=-11\nresources_used.cput=00:00:00\n";
        assert!(aborted.body.contains(event), "{}", aborted.body);
        let by = Account::Deleted("root@hn1".into());
        let deleted = sent(&job(297, "sleep.sh", &[]), &by, &rules()).unwrap();
        assert_eq!(
            deleted.body,
            "PBS Job Id: 297.hn1\nJob Name:   sleep.sh\njob deleted\n\
             Job deleted at request of root@hn1\nError_Path: hn1:/home/alice/sleep.sh.e297\n\
             Output_Path: hn1:/home/alice/sleep.sh.o297\n"
        );
    }

    /// reference_mail.txt, job 414.
    #[test]
    fn an_owner_hears_of_a_stage_in_that_failed() {
        let mut job = job(414, "stgbad", &[("Mail_Points", "n")]);
        job.state = JobState::Starting(run(&[("gpu01", &[0], &[])], 0, 1));
        let reason = "Unable to copy file /nosuch/file to x, error 1";
        let record = Account::StageInFailed(reason.into());
        let letter = sent(&job, &record, &rules()).unwrap();
        assert_eq!(
            letter.body,
            "PBS Job Id: 414.hn1\nJob Name:   stgbad\nExec host:  gpu01/0\n\
             File stage in failed, see below.\n\
             Job will be retried later, please investigate and correct problem.\n\n\n\
             Unable to copy file /nosuch/file to x, error 1\n\
             Error_Path: hn1:/home/alice/stgbad.e414\nOutput_Path: hn1:/home/alice/stgbad.o414\n"
        );
    }

    /// Whatever was asked for, unless nothing at all was; with another host's name where one was named.
    #[test]
    fn an_owner_hears_of_output_that_stayed_on_its_node() {
        let mut job = job(414, "far", &[("Mail_Points", "n")]);
        std::sync::Arc::make_mut(&mut job.spec).stdout_path = "login2:/data/".into();
        let job = ended_job(job, run(&[("gpu01", &[0], &[])], 0, 1), 26, 0);
        let told = "Unable to copy file a to login2:/data/, error 1\n";
        let record = Account::NotDelivered(told.into());
        let letter = sent(&job, &record, &rules()).unwrap();
        assert_eq!(
            letter.body,
            "PBS Job Id: 414.hn1\nJob Name:   far\nExec host:  gpu01/0\n\
             An error has occurred processing your job, see below.\n\
             Post job file processing error; job 414.hn1 on host gpu01/0\n\n\
             Unable to copy file a to login2:/data/, error 1\n\
             Error_Path: hn1:/home/alice/far.e414\nOutput_Path: login2:/data/\n"
        );
    }

    fn check(points: &str, record: &Account, status: i32, is_sent: bool) {
        let asked = job(1, "a", &[("Mail_Points", points)]);
        let over = ended_job(asked, run(&[("gpu01", &[0], &[])], 0, 1), 2, status);
        let seen = sent(&over, record, &rules()).is_some();
        assert_eq!(seen, is_sent, "-m {points} {record:?} {status}");
    }

    #[test]
    fn points_choose_what_is_told() {
        check("b", &Account::Started, 0, true);
        check("ae", &Account::Started, 0, false);
        check("e", &Account::Ended, 0, true);
        check("f", &Account::Ended, 0, false);
        check("f", &Account::Ended, 3, true);
        check("a", &Account::Ended, 3, false);
        check("a", &Account::Ended, -11, true);
        check("n", &Account::Ended, -11, false);
        check("n", &Account::Deleted("root@hn1".into()), 271, true);
        check("p", &Account::Deleted("root@hn1".into()), 271, false);
        check("abe", &Account::Deleted("alice@hn1".into()), 271, false);
        check("abe", &Account::Queued, 0, false);
    }

    #[test]
    fn a_site_can_forbid_forced_letters_and_all_letters() {
        let by = Account::Deleted("root@hn1".into());
        let quiet = job(1, "a", &[("Mail_Points", "n")]);
        let no_force = MailRules {
            no_force: true,
            ..rules()
        };
        assert_eq!(sent(&quiet, &by, &no_force), None);
        let never = MailRules {
            domain: Some("never".to_owned()),
            ..rules()
        };
        assert_eq!(sent(&job(1, "a", &[]), &by, &never), None);
        let domain = MailRules {
            domain: Some("uni.edu".to_owned()),
            ..rules()
        };
        let letter = sent(&job(1, "a", &[]), &by, &domain).unwrap();
        assert_eq!(letter.to, ["alice@uni.edu"]);
    }

    #[test]
    fn a_site_can_have_letters_of_its_own() {
        let own = MailRules {
            subject_format: Some("%j (%i) of %o: %m%%".to_owned()),
            body_format: Some("%d\\n%x %k".to_owned()),
            ..rules()
        };
        let by = Account::Deleted("root@hn1".into());
        let letter = sent(&job(1, "a", &[]), &by, &own).unwrap();
        assert_eq!(letter.subject, "a (1.hn1) of alice@hn1: job deleted%");
        let body = "Job deleted at request of root@hn1\n%x hn1:/home/alice/a.e1";
        assert_eq!(letter.body, body);
    }

    #[test]
    fn an_address_is_never_an_option_a_program_or_a_file() {
        let all = "bob@hn1,-oQ/tmp,|sh,/etc/passwd,a b,carol,x\ny,\"q\"@h,%s@h";
        let named = job(1, "a", &[("Mail_Users", all)]);
        let letter = sent(&named, &Account::Deleted("root@hn1".into()), &rules()).unwrap();
        assert_eq!(letter.to, ["bob@hn1", "carol"]);
    }
}
