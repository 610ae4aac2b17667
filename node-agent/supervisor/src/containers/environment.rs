//! The variables of a container: who the user is, what the job is, which cards it has; and what the user asked for,
//! except where that would change one of those.

use std::collections::BTreeMap;

use capstan_types::{CardId, Env, is_gang_variable};

/// Libraries that read `…_NUM_THREADS`: OpenMP (and through it PyTorch), MKL, OpenBLAS, NumExpr.
const THREADED: [&str; 4] = ["OMP", "MKL", "OPENBLAS", "NUMEXPR"];

/// What the variables are made of.
pub(super) struct Sources<'a> {
    /// The attempt's own environment.
    pub(super) attempt: &'a Env,
    /// Name, home folder and shell of the user.
    pub(super) person: (&'a str, &'a str, &'a str),
    /// The granted cards, in the order in which they are numbered inside.
    pub(super) cards: &'a [CardId],
    /// `-e`, with the caller's values already filled in.
    pub(super) asked: &'a [(String, Option<String>)],
    /// The caller's environment, for `-e NAME` and for the caller's place in a distributed program.
    pub(super) caller: &'a BTreeMap<String, String>,
    /// The job's cores on this node.
    pub(super) cores: u32,
    /// The job's own script runs, which gets what the user submitted it with.
    pub(super) is_job: bool,
}

/// `NAME=value` lines, and what the person should know.
#[must_use]
pub(super) fn of(sources: &Sources<'_>) -> (Vec<String>, Vec<String>) {
    let (name, home, shell) = sources.person;
    let mut variables = BTreeMap::new();
    let mut set = |name: &str, value: &str| {
        variables.insert(name.to_owned(), value.to_owned());
    };
    // Libraries would begin a thread per core of the host, and stand in each other's way.
    for library in THREADED {
        set(
            &format!("{library}_NUM_THREADS"),
            &sources.cores.max(1).to_string(),
        );
    }
    for (name, value) in sources
        .attempt
        .iter()
        .filter(|(name, _)| is_of_job(name) || sources.is_job && !is_of_host(name))
    {
        set(name, value);
    }
    for (name, value) in sources
        .caller
        .iter()
        .filter(|(name, _)| is_gang_variable(name))
    {
        set(name, value);
    }
    for (variable, value) in [
        ("HOME", home),
        ("USER", name),
        ("LOGNAME", name),
        ("SHELL", shell),
    ] {
        set(variable, value);
    }
    let mut notices = Vec::new();
    for (name, value) in sources.asked {
        let Some(value) = value.as_ref().or_else(|| sources.caller.get(name)) else {
            continue;
        };
        if chooses_cards(name) {
            notices.push(format!(
                "-e {name} is left out: the container gets the job's own cards"
            ));
        } else {
            set(name, value);
        }
    }
    // Last, and always: an image may say NVIDIA_VISIBLE_DEVICES=all by itself.
    let uuids: Vec<_> = sources.cards.iter().map(CardId::to_string).collect();
    let indices: Vec<_> = (0..sources.cards.len())
        .map(|index| index.to_string())
        .collect();
    set(
        "NVIDIA_VISIBLE_DEVICES",
        &if uuids.is_empty() {
            "void".to_owned()
        } else {
            uuids.join(",")
        },
    );
    set("CUDA_VISIBLE_DEVICES", &indices.join(","));
    let lines = variables
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"));
    (lines.collect(), notices)
}

fn is_of_job(name: &str) -> bool {
    name.starts_with("PBS_") || matches!(name, "TZ" | "OMP_NUM_THREADS") || is_gang_variable(name)
}

/// Whether a variable says where things are on the host, and would hide where they are in the image; or would have
/// its programs load what lies on the host.
fn is_of_host(name: &str) -> bool {
    const OF_HOST: &[&str] = &[
        "PATH",
        "MANPATH",
        "INFOPATH",
        "LIBPATH",
        "SHELL",
        "HOSTNAME",
        "BASH_ENV",
        "ENV",
        "TMPDIR",
        "XDG_RUNTIME_DIR",
        "DBUS_SESSION_BUS_ADDRESS",
        "SSH_AUTH_SOCK",
        "PWD",
        "OLDPWD",
        "SHLVL",
        "_",
        "DOCKER_HOST",
    ];
    OF_HOST.contains(&name)
        || name.starts_with("LD_")
        || name.starts_with("BASH_FUNC_")
        || chooses_cards(name)
}

/// Whether the NVIDIA runtime or CUDA reads from this variable which devices there are.
fn chooses_cards(name: &str) -> bool {
    const HARMLESS: &[&str] = &[
        "NVIDIA_DRIVER_CAPABILITIES",
        "NVIDIA_DISABLE_REQUIRE",
        "NVIDIA_TF32_OVERRIDE",
    ];
    match name {
        "CUDA_VISIBLE_DEVICES" => true,
        name => {
            name.starts_with("NVIDIA_")
                && !name.starts_with("NVIDIA_REQUIRE_")
                && !HARMLESS.contains(&name)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(cards: &[&str], asked: &[(&str, Option<&str>)], expected: &[&str], notices: usize) {
        let attempt: Env = [
            ("PBS_JOBID", "1.s"),
            ("SECRET", "x"),
            ("CUDA_VISIBLE_DEVICES", "5"),
            ("MASTER_ADDR", "gpu01"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into_iter()
        .collect();
        let cards: Vec<_> = cards.iter().map(|&card| CardId::from(card)).collect();
        let asked: Vec<_> = asked
            .iter()
            .map(|(n, v)| ((*n).to_owned(), v.map(str::to_owned)))
            .collect();
        let (lines, said) = of(&Sources {
            attempt: &attempt,
            person: ("ann", "/ghome/ann", "/bin/bash"),
            cards: &cards,
            asked: &asked,
            caller: &BTreeMap::from([
                ("FROM_CALLER".to_owned(), "yes".to_owned()),
                ("RANK".to_owned(), "3".to_owned()),
            ]),
            cores: 3,
            is_job: false,
        });
        for line in expected {
            assert!(
                lines.iter().any(|seen| seen == line),
                "{line} not in {lines:?}"
            );
        }
        assert!(!lines.iter().any(|line| line.starts_with("SECRET")));
        let are_asked = |name: &str| asked.iter().any(|(asked, _)| asked == name);
        if !are_asked("FROM_CALLER") {
            assert!(!lines.iter().any(|line| line.starts_with("FROM_CALLER")));
        }
        assert_eq!(said.len(), notices, "{said:?}");
    }

    #[test]
    fn the_container_knows_user_job_and_cards() {
        check(
            &["GPU-a", "GPU-b"],
            &[],
            &[
                "PBS_JOBID=1.s",
                "USER=ann",
                "LOGNAME=ann",
                "HOME=/ghome/ann",
                "SHELL=/bin/bash",
                "OMP_NUM_THREADS=3",
                "MASTER_ADDR=gpu01",
                "RANK=3",
                "NVIDIA_VISIBLE_DEVICES=GPU-a,GPU-b",
                "CUDA_VISIBLE_DEVICES=0,1",
            ],
            0,
        );
    }

    #[test]
    fn a_job_without_cards_sees_none() {
        check(
            &[],
            &[],
            &["NVIDIA_VISIBLE_DEVICES=void", "CUDA_VISIBLE_DEVICES="],
            0,
        );
    }

    #[test]
    fn nobody_asks_for_other_cards_by_variable() {
        for name in [
            "NVIDIA_VISIBLE_DEVICES",
            "CUDA_VISIBLE_DEVICES",
            "NVIDIA_MIG_CONFIG_DEVICES",
        ] {
            check(
                &["GPU-a"],
                &[(name, Some("all"))],
                &["NVIDIA_VISIBLE_DEVICES=GPU-a", "CUDA_VISIBLE_DEVICES=0"],
                1,
            );
        }
        check(
            &["GPU-a"],
            &[("NVIDIA_DRIVER_CAPABILITIES", Some("all"))],
            &["NVIDIA_DRIVER_CAPABILITIES=all"],
            0,
        );
    }

    #[test]
    fn asked_variables_win_over_ours_and_may_come_from_the_caller() {
        check(
            &[],
            &[("HOME", Some("/x")), ("FROM_CALLER", None), ("UNSET", None)],
            &["HOME=/x", "FROM_CALLER=yes"],
            0,
        );
    }
}
