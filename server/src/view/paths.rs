//! Where a job's output goes when nobody said, for agents and for `qstat -f`.

use std::borrow::Cow;

use capstan_core::Job;
use capstan_types::{OutputStream, default_output_name};

/// `-o`, or the default name in the folder of submission.
pub(crate) fn stdout_path(job: &Job) -> Cow<'_, str> {
    path(job, &job.spec.stdout_path, OutputStream::Stdout)
}

/// `-e`, or the default name in the folder of submission.
pub(crate) fn stderr_path(job: &Job) -> Cow<'_, str> {
    path(job, &job.spec.stderr_path, OutputStream::Stderr)
}

fn path<'a>(job: &'a Job, asked: &'a str, stream: OutputStream) -> Cow<'a, str> {
    if !asked.is_empty() {
        return Cow::Borrowed(asked);
    }
    let folder = job.spec.work_folder.trim_end_matches('/');
    let name = default_output_name(&job.spec.name, job.id, stream);
    Cow::Owned(format!("{folder}/{name}"))
}
