//! A process that becomes one of a job: `pbs_track`. It is then under the job's limits, counted with it, and ends with it.
//! Whose the process is, and whose the job, is the kernel's word.

use crate::attempts::cgroup::{Bounds, Cgroup};
use crate::attempts::proc;
use crate::attempts::table::Supervisor;
use crate::kernel_file;
use crate::ports::AdoptRefused;

/// Moves process `pid` of `uid` into the share of that user's job.
pub(super) fn adopt(
    supervisor: &Supervisor,
    uid: u32,
    job_id: &str,
    pid: u32,
) -> Result<(), AdoptRefused> {
    let mut all = supervisor.live.all().into_iter();
    let live = all.find(|live| {
        let identity = live.entry.identity.as_ref();
        // Root's processes hold up the host, and a job of root's there is none.
        let is_owner = uid != 0 && identity.is_some_and(|identity| identity.uid == uid);
        is_owner && is_same_job(job_id, &live.entry.spec.job_id)
    });
    let live = live.ok_or_else(|| AdoptRefused::NoJob {
        job: job_id
            .chars()
            .filter(|c| !c.is_control())
            .take(200)
            .collect(),
    })?;
    let not_yours = AdoptRefused::NotYours { pid };
    let started = proc::stat(pid).ok_or_else(|| not_yours.clone())?;
    if pid <= 1 || started.is_zombie || !is_wholly_of(uid, pid) {
        return Err(not_yours);
    }
    let cgroup = Cgroup::at(&live.entry.cgroups).ok_or(AdoptRefused::NoCgroups)?;
    match supervisor.live.attempt_of(pid, &supervisor.site.cgroups) {
        Some(owner) if owner.entry.attempt() == live.entry.attempt() => {}
        Some(_) => return Err(AdoptRefused::Belongs { pid }),
        None if supervisor.site.cgroups.attempt_of(pid).is_some() => {
            return Err(AdoptRefused::Belongs { pid });
        }
        None => {}
    }
    let refused = |problem: std::io::Error| AdoptRefused::Refused {
        pid,
        problem: problem.to_string(),
    };
    if !cgroup.is_whole() {
        cgroup.create(&Bounds::of(&live.entry)).map_err(refused)?;
    }
    cgroup.adopt(pid).map_err(refused)?;
    // The number may have passed to another process between the look and the move.
    let is_same = proc::stat(pid).is_none_or(|stat| stat.start_ticks == started.start_ticks);
    if !is_same || supervisor.live.get(live.entry.attempt()).is_none() {
        tracing::warn!(pid, uid, "adopted while it ended");
        return Err(not_yours);
    }
    tracing::info!(attempt = %live.entry.attempt(), pid, "process adopted");
    Ok(())
}

/// `123` and `123.hn1` are both `123.hn1`.
fn is_same_job(asked: &str, job_id: &str) -> bool {
    asked == job_id || job_id.split_once('.').is_some_and(|(seq, _)| seq == asked)
}

/// Real, effective, saved and file system user: a program with rights of another's is not the user's alone.
fn is_wholly_of(uid: u32, pid: u32) -> bool {
    let Ok(status) = kernel_file::text(format!("/proc/{pid}/status")) else {
        return false;
    };
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let mut ids = ids.unwrap_or_default().split_ascii_whitespace().peekable();
    ids.peek().is_some() && ids.all(|id| id.parse() == Ok(uid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_named_with_or_without_its_server() {
        for asked in ["12[3].hn1", "12[3]"] {
            assert!(is_same_job(asked, "12[3].hn1"), "{asked}");
        }
        for asked in ["12", "12[3].hn", "", "12[3].hn1.x"] {
            assert!(!is_same_job(asked, "12[3].hn1"), "{asked}");
        }
    }

    #[test]
    fn only_a_process_of_one_user_is_wholly_of_it() {
        let uid = nix::unistd::getuid().as_raw();
        assert!(is_wholly_of(uid, std::process::id()));
        assert!(!is_wholly_of(uid + 1, std::process::id()));
        assert!(!is_wholly_of(uid, u32::MAX));
    }
}
