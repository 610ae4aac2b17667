//! Which jobs an operand of `qdel`, `qhold` and `qrls` names.

use capstan_types::{ArrayRequest, JobId, JobPart, JobReference};

use crate::command::Failure;

/// Members of one array that one `-t` may name.
const MEMBERS_MAX: u64 = 100_000;

/// The ids that an operand names; with `-t` the members of an array, one by one.
///
/// # Errors
/// What is no id, `-t` on what is no array, an index list that cannot be read.
pub(crate) fn jobs(
    program: &str,
    operand: &str,
    indices: Option<&str>,
) -> Result<Vec<String>, Failure> {
    let malformed = |_| {
        let text = format!("{program}: illegally formed job identifier: {operand}");
        Failure::new(1, text)
    };
    let reference: JobReference = operand.parse().map_err(malformed)?;
    let Some(indices) = indices else {
        return Ok(vec![operand.to_owned()]);
    };
    if reference.id.part != JobPart::Array {
        let what = "isn't a job array but -t was specified.";
        return Err(Failure::new(
            1,
            format!("{program}: Error: job id '{operand}' {what}"),
        ));
    }
    let illegal = |why: String| Failure::new(2, format!("{program}: illegal -t value: {why}"));
    let range = ArrayRequest::parse(indices).map_err(|error| illegal(error.to_string()))?;
    if range.indices.len() > MEMBERS_MAX {
        return Err(illegal(format!("more than {MEMBERS_MAX} members")));
    }
    let id = |index| {
        let id = JobId::member(reference.id.seq, index);
        match &reference.server {
            Some(server) => id.on(server),
            None => id.to_string(),
        }
    };
    Ok(range.indices.iter().map(id).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(operand: &str, indices: Option<&str>, expected: Result<&[&str], &str>) {
        let seen = jobs("qdel", operand, indices).map_err(|failure| failure.text);
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
    }

    #[test]
    fn what_names_no_job_is_told_as_torque_tells_it() {
        check(
            "abc",
            None,
            Err("qdel: illegally formed job identifier: abc"),
        );
        let text = "qdel: Error: job id '352' isn't a job array but -t was specified.";
        check("352", Some("1-2"), Err(text));
        let huge = jobs("qdel", "1[]", Some("0-4000000000")).expect_err("it is too much");
        assert!(
            huge.text.starts_with("qdel: illegal -t value: "),
            "{}",
            huge.text
        );
    }
}
