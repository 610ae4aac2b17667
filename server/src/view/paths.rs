//! Where a job's output goes, for agents and for `qstat -f`: `-o` and `-e`, or what holds when nobody said.

use std::borrow::Cow;

use capstan_core::Job;
use capstan_types::{OutputStream, default_output_name};

/// `HOST:PATH` of stdout: `-o`, or the default name in the folder of submission, on the host of submission unless another
/// was named.
pub(crate) fn stdout_path(job: &Job) -> String {
    path(job, &job.spec.stdout_path, OutputStream::Stdout)
}

/// As [`stdout_path`], with `-e`.
pub(crate) fn stderr_path(job: &Job) -> String {
    path(job, &job.spec.stderr_path, OutputStream::Stderr)
}

fn path(job: &Job, asked: &str, stream: OutputStream) -> String {
    let (host, path) = split_host(asked).unwrap_or((&job.spec.owner.host, asked));
    let path = match path {
        "" => {
            let folder = job.spec.work_folder.trim_end_matches('/');
            let name = default_output_name(&job.spec.name, job.id, stream);
            Cow::Owned(format!("{folder}/{name}"))
        }
        path => Cow::Borrowed(path),
    };
    format!("{host}:{path}")
}

/// The host and the path of `HOST:PATH`, of which the path may be empty; `None` for a path alone.
pub(crate) fn split_host(path: &str) -> Option<(&str, &str)> {
    let is_host = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    path.split_once(':').filter(|(host, _)| {
        // A name, and nothing that a program would take for an option.
        host.starts_with(|c: char| c.is_ascii_alphanumeric()) && host.chars().all(is_host)
    })
}
