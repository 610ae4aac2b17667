//! What of the accepted options is bounded: by the job's allocation, by the user's own rights and limits, and by what
//! networks the site allows. Limits above the user's own are lowered, and said so; all else is refused.

use std::collections::BTreeMap;

use super::engine::{Ulimit, Wishes};
use super::options::Options;
use super::refusal::Refused;

/// What the job and its user have.
#[derive(Clone, Debug, Default)]
pub(super) struct Bounds {
    /// Login name.
    pub(super) user: String,
    /// User id.
    pub(super) uid: u32,
    /// Primary group.
    pub(super) gid: u32,
    /// All groups.
    pub(super) groups: Vec<u32>,
    /// The job's cores on this node.
    pub(super) cores: u32,
    /// The job's memory on this node, when it is bounded.
    pub(super) memory_bytes: Option<u64>,
    /// Networks that the site allows.
    pub(super) networks: Vec<String>,
    /// Hard limits of the calling process by docker's names; none is no limit.
    pub(super) limits: BTreeMap<String, Option<u64>>,
}

/// What is left of the options within the bounds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bounded {
    /// For the engine.
    pub(super) wishes: Wishes,
    /// A limit below the job's own.
    pub(super) memory_bytes: Option<u64>,
    /// The primary group.
    pub(super) gid: u32,
    /// For the person.
    pub(super) notices: Vec<String>,
}

/// Holds `options` against the bounds.
///
/// # Errors
/// The first option that goes beyond them.
pub(super) fn bound(options: &Options, bounds: &Bounds) -> Result<Bounded, Refused> {
    let mut wishes = options.wishes.clone();
    let mut notices = Vec::new();
    let beyond = |option, value: String, problem| Refused::OptionValue {
        option,
        value,
        problem,
    };
    if let (Some(asked), Some(own)) = (options.memory_bytes, bounds.memory_bytes)
        && asked > own
    {
        return Err(beyond(
            "memory",
            format!("{asked} bytes"),
            "it is more than the job was given",
        ));
    }
    if let Some(nano) = options.nano_cpus {
        if bounds.cores > 0 && nano > u64::from(bounds.cores) * 1_000_000_000 {
            let asked = format!("{} cores", nano as f64 / 1e9);
            return Err(beyond("cpus", asked, "it is more than the job was given"));
        }
        wishes.nano_cpus = Some(nano);
    }
    if let Some(network) = &options.network {
        let is_usual = matches!(network.as_str(), "default");
        if !is_usual && !bounds.networks.contains(network) {
            return Err(beyond(
                "network",
                network.clone(),
                "the site does not allow this network",
            ));
        }
        wishes.network = Some(network.clone()).filter(|_| !is_usual);
    }
    for limit in &mut wishes.ulimits {
        if lower(limit, bounds) {
            notices.push(format!(
                "--ulimit {} is lowered to your own limit",
                limit.name
            ));
        }
    }
    for group in &options.groups {
        if !bounds.has_group(group) {
            return Err(beyond(
                "group-add",
                group.clone(),
                "you are not in this group",
            ));
        }
    }
    let gid = match &options.user {
        None => bounds.gid,
        Some(user) => bounds
            .own(user)
            .ok_or_else(|| beyond("user", user.clone(), "it is not you"))?,
    };
    if options.gpus {
        notices.push("--gpus is answered by the job's own cards, whatever is asked".to_owned());
    }
    let memory_bytes = options.memory_bytes;
    Ok(Bounded {
        wishes,
        memory_bytes,
        gid,
        notices,
    })
}

/// Whether it had to be lowered.
fn lower(limit: &mut Ulimit, bounds: &Bounds) -> bool {
    // A limit that the kernel did not tell is not lifted.
    let Some(&own) = bounds.limits.get(&limit.name) else {
        return false;
    };
    let Some(own) = own else { return false };
    let least = |asked: Option<u64>| Some(asked.map_or(own, |asked| asked.min(own)));
    let lowered = (least(limit.soft), least(limit.hard));
    let is_lower = lowered != (limit.soft, limit.hard);
    (limit.soft, limit.hard) = lowered;
    is_lower
}

impl Bounds {
    fn has_group(&self, group: &str) -> bool {
        let id = group.parse().ok().or_else(|| {
            let known = nix::unistd::Group::from_name(group).ok().flatten()?;
            Some(known.gid.as_raw())
        });
        id.is_some_and(|id| id == self.gid || self.groups.contains(&id))
    }

    /// `UID`, `NAME`, each with an own `:GROUP`: the primary group that results, if all of it is the user.
    fn own(&self, user: &str) -> Option<u32> {
        let (user, group) = match user.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (user, None),
        };
        if user != self.user && user.parse() != Ok(self.uid) {
            return None;
        }
        let Some(group) = group else {
            return Some(self.gid);
        };
        if !self.has_group(group) {
            return None;
        }
        group.parse().ok().or_else(|| {
            let known = nix::unistd::Group::from_name(group).ok().flatten()?;
            Some(known.gid.as_raw())
        })
    }
}

/// The hard limits in the text of `/proc/PID/limits`, by docker's names.
#[must_use]
pub(super) fn hard_limits(text: &str) -> BTreeMap<String, Option<u64>> {
    const NAMES: [(&str, &str); 15] = [
        ("Max address space", "as"),
        ("Max core file size", "core"),
        ("Max cpu time", "cpu"),
        ("Max data size", "data"),
        ("Max file size", "fsize"),
        ("Max file locks", "locks"),
        ("Max locked memory", "memlock"),
        ("Max msgqueue size", "msgqueue"),
        ("Max nice priority", "nice"),
        ("Max open files", "nofile"),
        ("Max processes", "nproc"),
        ("Max resident set", "rss"),
        ("Max realtime priority", "rtprio"),
        ("Max pending signals", "sigpending"),
        ("Max stack size", "stack"),
    ];
    let found = NAMES.iter().filter_map(|(name, short)| {
        let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
        let hard = rest.split_whitespace().nth(1)?;
        Some(((*short).to_owned(), hard.parse().ok()))
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::super::exceptions::Allowed;
    use super::super::options::parse;
    use super::*;

    fn ann() -> Bounds {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
            Max stack size            8388608              unlimited            bytes     \n\
            Max open files            1024                 4096                 files     \n";
        Bounds {
            user: "ann".into(),
            uid: 1001,
            gid: 100,
            groups: vec![100, 2000],
            cores: 2,
            memory_bytes: Some(1 << 30),
            networks: vec!["bridge".into(), "none".into()],
            limits: hard_limits(limits),
        }
    }

    fn check(options: &str) -> Result<Bounded, String> {
        let options = parse(options, &Allowed::default()).expect(options);
        bound(&options, &ann()).map_err(|refused| refused.to_string())
    }

    #[test]
    fn what_the_job_was_given_is_the_most() {
        assert_eq!(
            check("-m 512m --cpus 1.5").expect("less").wishes.nano_cpus,
            Some(1_500_000_000)
        );
        assert!(
            check("-m 2g")
                .expect_err("more")
                .contains("more than the job was given")
        );
        assert!(
            check("--cpus 3")
                .expect_err("more")
                .contains("more than the job was given")
        );
    }

    #[test]
    fn nobody_is_somebody_else() {
        for own in [
            "-u ann",
            "-u 1001",
            "-u 1001:100",
            "-u ann:2000",
            "--group-add 2000",
        ] {
            assert!(check(own).is_ok(), "{own}");
        }
        for other in [
            "-u 0",
            "-u root",
            "-u 0:0",
            "-u ann:0",
            "-u 1001:docker",
            "-u :0",
            "--group-add 0",
            "--group-add docker",
        ] {
            assert!(check(other).is_err(), "{other}");
        }
        assert_eq!(check("-u 1001:2000").expect("own").gid, 2000);
    }

    #[test]
    fn limits_are_lowered_to_the_users_own_and_networks_are_the_sites() {
        let bounded = check("--ulimit nofile=100000 --ulimit stack=-1").expect("lowered");
        assert_eq!(
            (bounded.wishes.ulimits[0].hard, bounded.notices.len()),
            (Some(4096), 1)
        );
        assert_eq!(bounded.wishes.ulimits[1].hard, None);
        assert_eq!(
            check("--network none")
                .expect("allowed")
                .wishes
                .network
                .as_deref(),
            Some("none")
        );
        assert_eq!(check("--net default").expect("usual").wishes.network, None);
        assert!(
            check("--net=host")
                .expect_err("host")
                .contains("does not allow")
        );
    }
}
