//! `#PBS` lines of a job script: which lines count, where scanning stops, how arguments split.

use crate::ParseError;

/// One directive line of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// Line number in the script, from 1 (of the first line, when continued).
    pub line: usize,
    /// The arguments behind the prefix, split as a shell splits them.
    pub arguments: Vec<String>,
}

/// A directive that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectiveError {
    /// Line number in the script, from 1.
    pub line: usize,
    /// What is wrong, and where in the line.
    pub error: ParseError,
}

/// The directives of `script` that begin with `prefix` (`#PBS`); none when the prefix is empty.
///
/// # Errors
/// An unmatched quote in a directive.
pub fn directives(script: &str, prefix: &str) -> Result<Vec<Directive>, DirectiveError> {
    let _ = (script, prefix);
    Ok(Vec::new())
}

/// Splits a line into arguments: blanks separate, `'…'` and `"…"` group, `\x` escapes.
///
/// # Errors
/// An unmatched quote.
pub fn split_arguments(line: &str) -> Result<Vec<String>, ParseError> {
    Ok(line.split_whitespace().map(str::to_owned).collect())
}
