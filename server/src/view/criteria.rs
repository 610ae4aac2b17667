//! Criteria of `qselect`: read once, then judged against each job. As in Torque an attribute that a job does not have
//! fails every comparison but `.ne.`, and a resource that it does not have fails them all.

use std::cmp::Ordering;

use capstan_core::Job;
use capstan_proto::wire::criterion::Comparison;
use capstan_proto::{Refusal, wire};
use capstan_types::{Holds, Pbse, ResourceKind, Seconds, Size, Timestamp, resource_kind};

use super::words;

/// Most criteria of one request.
const CRITERIA_MAX: usize = 256;
/// Longest value of one, bytes.
const VALUE_BYTES_MAX: usize = 4096;

/// All of these must be met.
#[derive(Debug, Default)]
pub(crate) struct Criteria(Vec<Criterion>);

#[derive(Debug)]
struct Criterion {
    comparison: Comparison,
    value: Value,
}

/// What is compared, and with what.
#[derive(Debug)]
enum Value {
    /// Letters of states.
    States(String),
    /// Users, with hosts or without.
    Owners(Vec<(String, Option<String>)>),
    Holds(Holds),
    Priority(i64),
    Rerunable(bool),
    ExecutionTime(Timestamp),
    Checkpoint(String),
    Queue(String),
    Name(String),
    /// An attribute that is only kept and shown.
    Shown(String, String),
    Resource(String, Amount),
}

/// A resource's value in a form that can be ordered.
#[derive(Debug, PartialEq, PartialOrd)]
enum Amount {
    Number(i64),
    Bytes(u64),
    Text(String),
}

impl Criteria {
    /// Reads what a request asks for.
    ///
    /// # Errors
    /// Unknown attributes and resources, values that are none of theirs, too many or too long ones.
    pub(crate) fn read(criteria: Vec<wire::Criterion>) -> Result<Self, Refusal> {
        if criteria.len() > CRITERIA_MAX {
            return Err(Refusal::new(Pbse::Ivalreq, "too many criteria"));
        }
        let read = criteria.into_iter().map(Criterion::read);
        Ok(Self(read.collect::<Result<_, _>>()?))
    }

    /// Whether `job`, an array's member or a plain job, meets all of them.
    pub(crate) fn are_met_by(&self, job: &Job, now: Timestamp) -> bool {
        self.0.iter().all(|criterion| criterion.is_met_by(job, now))
    }
}

impl Criterion {
    fn read(criterion: wire::Criterion) -> Result<Self, Refusal> {
        let comparison = criterion.comparison();
        let wire::Criterion {
            name,
            resource,
            comparison: _,
            value,
        } = criterion;
        if value.len() > VALUE_BYTES_MAX {
            return Err(bad(&name));
        }
        let value = match name.as_str() {
            "job_state" => Value::States(value),
            "User_List" | "Job_Owner" => Value::Owners(value.split(',').map(owner).collect()),
            "Hold_Types" => {
                let letters = value.trim();
                Value::Holds(Holds::parse(letters).map_err(|_| bad(&name))?)
            }
            "Priority" => Value::Priority(value.trim().parse().map_err(|_| bad(&name))?),
            "Rerunable" => match value.trim() {
                "y" | "True" | "true" => Value::Rerunable(true),
                "n" | "False" | "false" => Value::Rerunable(false),
                _ => return Err(bad(&name)),
            },
            "Execution_Time" => {
                let secs = value.trim().parse().map_err(|_| bad(&name))?;
                Value::ExecutionTime(Timestamp::default().plus_secs(secs))
            }
            "Checkpoint" => Value::Checkpoint(value.trim().to_owned()),
            "queue" => Value::Queue(value.split('@').next().unwrap_or_default().to_owned()),
            "Job_Name" => Value::Name(value),
            "Account_Name" => Value::Shown(name, value),
            "Resource_List" => {
                let full = format!("Resource_List.{resource}");
                let kind = resource_kind(&resource);
                let kind = kind.ok_or_else(|| Refusal::new(Pbse::Unkresc, full.as_str()))?;
                let amount = Amount::read(kind, &value).ok_or_else(|| bad(&full))?;
                Value::Resource(resource, amount)
            }
            _ => return Err(Refusal::new(Pbse::Noattr, "")),
        };
        Ok(Self { comparison, value })
    }

    fn is_met_by(&self, job: &Job, now: Timestamp) -> bool {
        let compared = match &self.value {
            Value::States(letters) => return self.listed(letters.contains(job.letter(now))),
            Value::Owners(owners) => return self.listed(owners.iter().any(|o| owns(o, job))),
            Value::Rerunable(wanted) => job.spec.is_rerunnable.cmp(wanted),
            Value::Holds(wanted) => {
                return self.listed(job.effective_holds() == *wanted);
            }
            Value::Priority(wanted) => i64::from(job.priority).cmp(wanted),
            Value::ExecutionTime(wanted) => match job.not_before {
                Some(time) => time.cmp(wanted),
                None => return self.comparison == Comparison::Ne,
            },
            Value::Checkpoint(wanted) => {
                let own = shown(job, "Checkpoint").unwrap_or("u");
                checkpoint_rank(own).cmp(&checkpoint_rank(wanted))
            }
            Value::Queue(wanted) => job.queue.as_str().cmp(wanted),
            Value::Name(wanted) => words::job_name(job).as_ref().cmp(wanted),
            Value::Shown(name, wanted) => match shown(job, name) {
                Some(own) => own.cmp(wanted),
                None => return self.comparison == Comparison::Ne,
            },
            Value::Resource(name, wanted) => {
                let own = job.spec.resources.get(name);
                let own = own.and_then(|own| Amount::read(resource_kind(name)?, own));
                match own.and_then(|own| own.partial_cmp(wanted)) {
                    Some(compared) => compared,
                    None => return false,
                }
            }
        };
        self.comparison_holds(compared)
    }

    /// Of sets only membership can be asked.
    fn listed(&self, is_member: bool) -> bool {
        is_member != (self.comparison == Comparison::Ne)
    }

    fn comparison_holds(&self, compared: Ordering) -> bool {
        match self.comparison {
            Comparison::Eq => compared.is_eq(),
            Comparison::Ne => compared.is_ne(),
            Comparison::Ge => compared.is_ge(),
            Comparison::Gt => compared.is_gt(),
            Comparison::Le => compared.is_le(),
            Comparison::Lt => compared.is_lt(),
        }
    }
}

impl Amount {
    fn read(kind: ResourceKind, text: &str) -> Option<Self> {
        let text = text.trim();
        match kind {
            ResourceKind::Time => {
                let secs = Seconds::parse(text).ok()?.0;
                Some(Self::Number(i64::try_from(secs).unwrap_or(i64::MAX)))
            }
            ResourceKind::Size => Some(Self::Bytes(Size::parse(text).ok()?.bytes())),
            ResourceKind::Count | ResourceKind::Integer => Some(Self::Number(text.parse().ok()?)),
            ResourceKind::Boolean | ResourceKind::Nodes | ResourceKind::Text => {
                Some(Self::Text(text.to_owned()))
            }
        }
    }
}

fn bad(name: &str) -> Refusal {
    Refusal::new(Pbse::Badatval, name)
}

/// `user` or `user@host`.
fn owner(text: &str) -> (String, Option<String>) {
    match text.trim().split_once('@') {
        Some((user, host)) => (user.to_owned(), Some(host.to_owned())),
        None => (text.trim().to_owned(), None),
    }
}

fn owns((user, host): &(String, Option<String>), job: &Job) -> bool {
    let owner = &job.spec.owner;
    *owner.user == **user && host.as_ref().is_none_or(|host| *owner.host == **host)
}

fn shown<'a>(job: &'a Job, name: &str) -> Option<&'a str> {
    let found = job.spec.shown.iter().find(|(known, _)| **known == *name);
    found.map(|(_, value)| &**value)
}

/// POSIX orders intervals by how rarely they let a job be saved: `n` > `s` > `c=MINUTES` > `c`; `u` is apart.
fn checkpoint_rank(text: &str) -> (u8, u64) {
    match text {
        "n" => (4, 0),
        "s" => (3, 0),
        "c" => (1, 0),
        "u" => (0, 0),
        other => {
            let minutes = other.strip_prefix("c=").and_then(|text| text.parse().ok());
            minutes.map_or((0, 0), |minutes| (2, minutes))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{job, seconds};
    use capstan_types::JobId;

    fn criterion(name: &str, comparison: Comparison, value: &str) -> wire::Criterion {
        let (name, resource) = name.split_once('.').unwrap_or((name, ""));
        wire::Criterion {
            name: name.to_owned(),
            resource: resource.to_owned(),
            comparison: comparison.into(),
            value: value.to_owned(),
        }
    }

    fn check(name: &str, comparison: Comparison, value: &str, expected: Result<bool, Pbse>) {
        let asked = [
            ("nodes", "2:ppn=2"),
            ("walltime", "00:20:00"),
            ("mem", "200mb"),
        ];
        let mut job = job(JobId::member(7, 2), "arr", &asked);
        job.priority = 10;
        let seen = Criteria::read(vec![criterion(name, comparison, value)])
            .map(|criteria| criteria.are_met_by(&job, seconds(1)))
            .map_err(|refusal| refusal.error);
        assert_eq!(seen, expected, "{name} {comparison:?} {value}");
    }

    #[test]
    fn attributes_are_compared_as_what_they_are() {
        use Comparison::{Eq, Ge, Gt, Le, Lt, Ne};
        check("Priority", Gt, "9", Ok(true));
        check("Priority", Lt, "9", Ok(false));
        check("Priority", Eq, "x", Err(Pbse::Badatval));
        check("Resource_List.mem", Ge, "100mb", Ok(true));
        check("Resource_List.mem", Lt, "1gb", Ok(true));
        check("Resource_List.walltime", Le, "1200", Ok(true));
        check("Resource_List.walltime", Gt, "0:19:59", Ok(true));
        check("Resource_List.nodes", Eq, "2:ppn=2", Ok(true));
        check("Resource_List.cput", Ne, "1", Ok(false));
        check("Resource_List.nosuch", Eq, "1", Err(Pbse::Unkresc));
        check("job_state", Eq, "QR", Ok(true));
        check("job_state", Ne, "QR", Ok(false));
        check("User_List", Eq, "bob,alice@hn1", Ok(true));
        check("User_List", Eq, "alice@other", Ok(false));
        check("Job_Name", Eq, "arr-2", Ok(true));
        check("Job_Name", Eq, "arr", Ok(false));
        check("Hold_Types", Eq, "n", Ok(true));
        check("Hold_Types", Eq, "u", Ok(false));
        check("Rerunable", Eq, "y", Ok(true));
        check("queue", Eq, "batch", Ok(true));
        check("Account_Name", Eq, "x", Ok(false));
        check("Account_Name", Ne, "x", Ok(true));
        check("Execution_Time", Lt, "2000000000", Ok(false));
        check("Checkpoint", Eq, "u", Ok(true));
    }
}
