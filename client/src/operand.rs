//! Which jobs an operand of a command names, and what is said when the server refuses something of them: one line for
//! each operand, as Torque has it, however many members `-t` names.

use capstan_proto::Refusal;
use capstan_types::{ArrayRequest, JobId, JobPart, JobReference, Pbse};

use crate::command::{Failure, exit_status};
use crate::door::{self, Server};

/// Members of one array that one `-t` may name.
const MEMBERS_MAX: u64 = 100_000;

/// What an operand names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Operand {
    /// As it was typed.
    pub(crate) typed: String,
    /// The server to ask; empty for the default one.
    pub(crate) host: String,
    /// The ids, one by one.
    pub(crate) ids: Vec<String>,
    /// Whether they are members named by `-t`: those that are not there are passed over.
    pub(crate) is_range: bool,
}

/// What an operand names; with `-t` the members of an array. A job that is no array is taken as it is, whatever `-t`
/// says, as in Torque.
///
/// # Errors
/// What is no id, and an index list that cannot be read.
pub(crate) fn read(
    program: &str,
    operand: &str,
    indices: Option<&str>,
) -> Result<Operand, Failure> {
    let malformed = |_| {
        let text = format!("{program}: illegally formed job identifier: {operand}");
        Failure::new(1, text)
    };
    let reference: JobReference = operand.parse().map_err(malformed)?;
    let host = reference.at.as_ref().map(ToString::to_string);
    let (typed, host) = (operand.to_owned(), host.unwrap_or_default());
    let indices = indices.filter(|_| reference.id.part == JobPart::Array);
    let Some(indices) = indices else {
        return Ok(Operand {
            ids: vec![typed.clone()],
            typed,
            host,
            is_range: false,
        });
    };
    let refused = |detail: &str| {
        let refusal = Refusal::new(Pbse::Ivalreq, detail);
        let text = format!("{program}: {} {operand}", refusal.text());
        Failure::new(exit_status(refusal.error), text)
    };
    let range = ArrayRequest::parse_list(indices);
    let range = range.map_err(|_| refused("Error in specified array range"))?;
    if range.len() > MEMBERS_MAX {
        return Err(refused(&format!("more than {MEMBERS_MAX} members")));
    }
    let id = |index| {
        let id = JobId::member(reference.id.seq, index);
        match &reference.server {
            Some(server) => id.on(server),
            None => id.to_string(),
        }
    };
    Ok(Operand {
        ids: range.iter().map(id).collect(),
        typed,
        host,
        is_range: true,
    })
}

/// Whether a command says what it is told about an id that the server does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// The exit status alone tells, as in Torque.
    Silent,
    /// The server's words, as for any other refusal.
    Told,
}

/// What came of one operand.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    last: Option<Refusal>,
}

impl Verdict {
    /// Takes in how the server answered for one id.
    pub(crate) fn note(&mut self, operand: &Operand, answered: Result<(), Refusal>) {
        let refused = answered.err();
        let is_passed_over = |refusal: &Refusal| {
            operand.is_range && [Pbse::Unkjobid, Pbse::Badstate].contains(&refusal.error)
        };
        let refused = refused.filter(|refusal| !is_passed_over(refusal));
        self.last = refused.or(self.last.take());
    }

    /// The refusal, if there was one.
    pub(crate) fn refusal(self) -> Option<Refusal> {
        self.last
    }
}

/// The line that Torque prints for a refusal, and the exit status.
pub(crate) async fn failure(
    server: &mut Server,
    program: &str,
    refusal: &Refusal,
    operand: &Operand,
    unknown: Unknown,
) -> Failure {
    let status = exit_status(refusal.error);
    if refusal.error == Pbse::Unkjobid && unknown == Unknown::Silent {
        return Failure::new(status, "");
    }
    let id = door::full_id(server, &operand.typed).await;
    Failure::new(status, format!("{program}: {} {id}", refusal.text()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(operand: &str, indices: Option<&str>, expected: Result<&[&str], &str>) {
        let seen = read("qhold", operand, indices);
        let seen = seen
            .map(|operand| operand.ids)
            .map_err(|failure| failure.text);
        let expected = expected.map(|ids| ids.iter().map(|&id| id.to_owned()).collect());
        assert_eq!(
            seen,
            expected.map_err(str::to_owned),
            "{operand} {indices:?}"
        );
    }

    #[test]
    fn members_of_an_array_are_named_one_by_one() {
        check("12.hn1", None, Ok(&["12.hn1"]));
        check("12[]", None, Ok(&["12[]"]));
        check(
            "12[].hn1",
            Some("1-2,5"),
            Ok(&["12[1].hn1", "12[2].hn1", "12[5].hn1"]),
        );
        check("12[]", Some("3"), Ok(&["12[3]"]));
        check("352", Some("1-2"), Ok(&["352"]));
        let elsewhere = read("qhold", "12[].hn1@hn2", Some("0")).unwrap();
        assert_eq!(
            (&*elsewhere.host, &*elsewhere.ids),
            ("hn2", &["12[0].hn1".to_owned()][..])
        );
    }

    #[test]
    fn what_names_no_job_is_told_as_torque_tells_it() {
        check(
            "abc",
            None,
            Err("qhold: illegally formed job identifier: abc"),
        );
        let bad = "qhold: Invalid request MSG=Error in specified array range 7[]";
        check("7[]", Some("2-1"), Err(bad));
        check("7[]", Some("x"), Err(bad));
        let huge = read("qhold", "1[]", Some("0-4000000000")).expect_err("it is too much");
        assert!(
            huge.text.starts_with("qhold: Invalid request MSG="),
            "{}",
            huge.text
        );
    }

    #[test]
    fn of_a_range_those_that_are_gone_do_not_count() {
        let range = read("qdel", "7[]", Some("0-3")).unwrap();
        let one = read("qdel", "7", None).unwrap();
        let judged = |operand: &Operand, errors: &[Pbse]| {
            let mut verdict = Verdict::default();
            verdict.note(operand, Ok(()));
            for error in errors {
                verdict.note(operand, Err(Refusal::new(*error, "")));
            }
            verdict.note(operand, Ok(()));
            verdict.refusal().map(|refusal| refusal.error)
        };
        assert_eq!(judged(&range, &[Pbse::Unkjobid, Pbse::Badstate]), None);
        assert_eq!(
            judged(&range, &[Pbse::Perm, Pbse::Unkjobid]),
            Some(Pbse::Perm)
        );
        assert_eq!(judged(&one, &[Pbse::Unkjobid]), Some(Pbse::Unkjobid));
    }
}
