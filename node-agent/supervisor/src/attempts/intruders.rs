//! Whoever computes on a card without an attempt that has it. Cards' records say so to the administrators in any case;
//! where the site wants it, such processes are ended as well: they take from a job what was lent to it alone.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use nix::sys::signal::Signal;

use super::{aimed, proc};
use crate::cards::Tenants;
use crate::kernel_file;
use crate::ports::GpuUse;

/// Intruders of the last look, by process id; the time of their start tells a later process of that id from them.
#[derive(Debug, Default)]
pub struct Intruders(Mutex<BTreeMap<u32, u64>>);

/// What is known of a process on a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Suspect {
    start_ticks: u64,
    uid: u32,
    /// In a container of an engine: only root and agents start those.
    is_contained: bool,
}

impl Intruders {
    /// Ends those that were there at the last look as well: a program that is just being taken into its attempt's group
    /// is none. Root's processes stay, and containers: they are the site's own.
    pub fn end(&self, uses: &[GpuUse], tenants: &impl Tenants) {
        for (pid, start_ticks) in self.due(uses, tenants, suspect) {
            let cards = uses
                .iter()
                .filter(|seen| seen.processes.iter().any(|process| process.pid == pid));
            let cards: Vec<String> = cards.map(|seen| seen.uuid.to_string()).collect();
            tracing::warn!(
                pid,
                uid = proc::real_uid(pid),
                cards = cards.join(","),
                "a process on a card that belongs to no job there is ended"
            );
            let is_it = || suspect(pid).is_some_and(|now| now.start_ticks == start_ticks);
            // It may have ended since.
            let _killed = aimed::send_one(pid, Signal::SIGKILL, is_it);
        }
    }

    fn due(
        &self,
        uses: &[GpuUse],
        tenants: &impl Tenants,
        about: impl Fn(u32) -> Option<Suspect>,
    ) -> Vec<(u32, u64)> {
        let mut now = BTreeMap::new();
        for seen in uses {
            for process in &seen.processes {
                if tenants.is_tenant(&seen.uuid, process.pid) {
                    continue;
                }
                let suspect =
                    about(process.pid).filter(|suspect| suspect.uid != 0 && !suspect.is_contained);
                if let Some(suspect) = suspect {
                    now.insert(process.pid, suspect.start_ticks);
                }
            }
        }
        let mut before = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = now
            .iter()
            .filter(|(pid, ticks)| before.get(pid) == Some(ticks));
        let due = due.map(|(pid, ticks)| (*pid, *ticks)).collect();
        *before = now;
        due
    }
}

fn suspect(pid: u32) -> Option<Suspect> {
    let groups = kernel_file::text(format!("/proc/{pid}/cgroup")).ok()?;
    Some(Suspect {
        start_ticks: proc::stat(pid)?.start_ticks,
        uid: proc::real_uid(pid)?,
        is_contained: groups.lines().any(is_of_engine),
    })
}

/// Whether a line of `/proc/PID/cgroup` is that of an engine's container: the engine's word, and the container's id. Users
/// name groups as they like below their own slice, where root's engines have none.
fn is_of_engine(line: &str) -> bool {
    const ENGINES: [&str; 4] = ["docker", "containerd", "libpod", "kubepods"];
    const ID_CHARS: usize = 64;
    let is_id = |part: &str| {
        let part = part.strip_suffix(".scope").unwrap_or(part);
        let id = part.rsplit('-').next().unwrap_or(part);
        id.len() == ID_CHARS && id.bytes().all(|b| b.is_ascii_hexdigit())
    };
    let is_engines = ENGINES.iter().any(|engine| line.contains(engine));
    let mut parts = line.split('/').skip(1);
    is_engines && !parts.clone().any(|part| part == "user.slice") && parts.any(is_id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::{CardProcess, GpuDetail, GpuHealth};
    use capstan_types::CardId;

    struct Tenant(u32);

    impl Tenants for Tenant {
        fn is_lent(&self, _: &CardId) -> bool {
            true
        }

        fn is_tenant(&self, _: &CardId, pid: u32) -> bool {
            pid == self.0
        }
    }

    fn check(looks: &[&[u32]], about: impl Fn(u32) -> Option<Suspect>, expected: &[u32]) {
        let intruders = Intruders::default();
        let due = looks.iter().map(|pids| {
            let processes = pids.iter().map(|&pid| CardProcess {
                pid,
                memory_bytes: 1,
            });
            let card = GpuUse {
                uuid: CardId::from("GPU-a"),
                processes: processes.collect(),
                utilization_percent: 0,
                memory_used_bytes: 0,
                temperature_celsius: 0,
                power_milliwatts: 0,
                detail: GpuDetail::default(),
                health: GpuHealth::default(),
            };
            intruders.due(&[card], &Tenant(1), &about)
        });
        let due = due
            .last()
            .map(|due| due.into_iter().map(|(pid, _)| pid).collect());
        assert_eq!(due, Some(expected.to_vec()));
    }

    #[test]
    fn a_group_that_a_user_named_like_an_engine_is_no_container() {
        let id = "0123456789abcdef".repeat(4);
        for (line, expected) in [
            (format!("12:devices:/docker/{id}"), true),
            (format!("0::/system.slice/docker-{id}.scope"), true),
            (
                format!("0::/machine.slice/libpod-{id}.scope/container"),
                true,
            ),
            (
                format!("0::/kubepods.slice/kubepods-pod7.slice/cri-containerd-{id}.scope"),
                true,
            ),
            (
                format!("0::/user.slice/user-1000.slice/user@1000.service/docker-{id}.scope"),
                false,
            ),
            (
                "0::/user.slice/user-1000.slice/user@1000.service/docker-x.scope".to_owned(),
                false,
            ),
            ("0::/system.slice/docker.service".to_owned(), false),
            ("0::/system.slice/docker-x.scope".to_owned(), false),
            // A job's own container.
            (format!("12:devices:/capstan/ab/att-5/{id}"), false),
        ] {
            assert_eq!(is_of_engine(&line), expected, "{line}");
        }
    }

    #[test]
    fn only_who_stays_without_a_job_is_ended() {
        let user = |uid, is_contained| {
            move |_| {
                Some(Suspect {
                    start_ticks: 5,
                    uid,
                    is_contained,
                })
            }
        };
        check(&[&[1, 2], &[1, 2]], user(1000, false), &[2]);
        check(&[&[2]], user(1000, false), &[]);
        check(&[&[2], &[], &[2]], user(1000, false), &[]);
        check(&[&[2], &[2]], user(0, false), &[]);
        check(&[&[2], &[2]], user(1000, true), &[]);
        check(&[&[2], &[2]], |_| None, &[]);
        let count = std::cell::Cell::new(0);
        let other_each_time = |_| {
            count.set(count.get() + 1);
            Some(Suspect {
                start_ticks: count.get(),
                uid: 1000,
                is_contained: false,
            })
        };
        check(&[&[2], &[2]], other_each_time, &[]);
    }
}
