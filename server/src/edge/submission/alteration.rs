//! What `qalter` asks for, read attribute by attribute with the grammar of submissions.

use capstan_core::{Altered, Holds, Job, Submission};
use capstan_proto::{Refusal, wire};
use capstan_types::{Env, Pbse};

use super::resources::kept_as;
use super::{ATTRIBUTES_MAX, Draft, Rules};
use crate::edge::identity::Person;

/// Longest comment, bytes.
const COMMENT_BYTES_MAX: usize = 4096;
/// Said when a job is submitted, and then for good.
const AT_SUBMISSION: &[&str] = &[
    "interactive",
    "submit_args",
    "submit_host",
    "job_array_request",
    "init_work_dir",
    "proxy_user",
    "queue",
];

/// What is to be altered, and to what.
#[derive(Debug)]
pub(crate) struct Alteration {
    /// In the order given.
    pub(crate) altered: Vec<Altered>,
    /// The new values.
    pub(crate) wish: Submission,
    /// The new comment, when it is among them.
    pub(crate) comment: Box<str>,
}

/// Reads an alteration of `job`, whose owner is `owner`.
///
/// # Errors
/// The first thing in it that cannot be, in Torque's words.
pub(crate) fn alteration(
    attributes: &[wire::Attribute],
    owner: &Person,
    job: &Job,
    rules: &Rules<'_>,
) -> Result<Alteration, Refusal> {
    if attributes.len() > ATTRIBUTES_MAX {
        let detail = format!("more than {ATTRIBUTES_MAX} attributes");
        return Err(Refusal::new(Pbse::Ivalreq, detail));
    }
    let mut draft = Draft::new(owner, rules);
    draft.spec.work_folder = job.spec.work_folder.clone();
    // Paths are seen from where the job was submitted, whoever alters it.
    draft.spec.owner.host = job.spec.owner.host.clone();
    let mut altered = Vec::with_capacity(attributes.len());
    let mut comment = Box::default();
    for attribute in attributes {
        let item = item(attribute)?;
        if let Some(text) = draft.alter(&item, attribute)? {
            comment = text;
        }
        altered.retain(|known| *known != item);
        altered.push(item);
    }
    draft.finish(&Env::default());
    Ok(Alteration {
        altered,
        wish: draft.into_submission(),
        comment,
    })
}

impl Draft<'_> {
    /// Takes one value in; a comment is given back, for a submission has none.
    fn alter(
        &mut self,
        item: &Altered,
        attribute: &wire::Attribute,
    ) -> Result<Option<Box<str>>, Refusal> {
        let value = attribute.value.as_str();
        match item {
            Altered::Comment => {
                let is_fit = value.len() <= COMMENT_BYTES_MAX && !value.contains(char::is_control);
                if !self.rules.is_operator {
                    return Err(Refusal::new(Pbse::Attrro, "comment"));
                }
                match is_fit {
                    true => return Ok(Some(value.into())),
                    false => return Err(Refusal::new(Pbse::Badatval, "comment")),
                }
            }
            // Whether the caller may is judged by what of them changes.
            Altered::Holds => {
                let holds = Holds::parse(value);
                self.holds = holds.map_err(|_| Refusal::new(Pbse::Badatval, "Hold_Types"))?;
            }
            Altered::Depends if value.is_empty() => {
                self.depends.clear();
                self.ties.clear();
            }
            // Taken away.
            Altered::Shown(_) if value.is_empty() => {}
            Altered::Name
            | Altered::Priority
            | Altered::NotBefore
            | Altered::Depends
            | Altered::Resource(_)
            | Altered::Stdout
            | Altered::Stderr
            | Altered::Join
            | Altered::Keep
            | Altered::Rerunnable
            | Altered::Shell
            | Altered::Umask
            | Altered::Arguments
            | Altered::KillDelay
            | Altered::Group
            | Altered::Variables
            | Altered::SlotLimit
            | Altered::Shown(_) => self.apply(attribute)?,
        }
        Ok(None)
    }
}

/// What an attribute alters.
fn item(attribute: &wire::Attribute) -> Result<Altered, Refusal> {
    let name = attribute.name.as_str();
    Ok(match name {
        "Job_Name" => Altered::Name,
        "Priority" => Altered::Priority,
        "Hold_Types" => Altered::Holds,
        "Execution_Time" => Altered::NotBefore,
        "depend" => Altered::Depends,
        "Resource_List" => Altered::Resource(kept_as(&attribute.resource).into()),
        "Output_Path" => Altered::Stdout,
        "Error_Path" => Altered::Stderr,
        "Join_Path" => Altered::Join,
        "Keep_Files" => Altered::Keep,
        "Rerunable" => Altered::Rerunnable,
        "Shell_Path_List" => Altered::Shell,
        "umask" => Altered::Umask,
        "job_arguments" => Altered::Arguments,
        "user_kill_delay" => Altered::KillDelay,
        "group_list" => Altered::Group,
        "comment" => Altered::Comment,
        name if AT_SUBMISSION.contains(&name) => return Err(Refusal::new(Pbse::Attrro, name)),
        name => Altered::Shown(name.into()),
    })
}
