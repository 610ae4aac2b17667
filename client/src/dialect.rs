//! Which tongue is spoken where Torque and PBS Pro contradict each other. Everything that only one of them knows is
//! understood always; these are the contradictions in what users type, and the whole of them:
//!
//! | typed | `torque` | `pbspro` |
//! | --- | --- | --- |
//! | `qsub -P NAME` | submit for the user NAME (managers) | charge the project NAME (kept as `Account_Name`, unless `-A` is given) |
//! | `qsub -J X-Y[:Z]` | with `-P`: the id of a job; without: an array | an array |
//! | `qsub -f` | the job survives the loss of one of its nodes | do not go into the background, which `qsub` never does |
//! | `qsub -v 'A="x,y"'` | the value ends at the comma, quotes stay | quotes keep commas together and are dropped |
//! | `qsub -W umask=33` | a number that does not begin with 0 is decimal | always octal |
//! | `PBS_DPREFIX` | is not looked at | begins directives when `-C` is not given |
//!
//! `CAPSTAN_DIALECT` (`torque` or `pbspro`) decides, else the server's attribute `dialect`, which is asked for only when
//! one of these was typed, else it is Torque's.

use capstan_proto::wire::{Attribute, StatServerRequest};

use crate::command::Environment;
use crate::door::Server;

const VARIABLE: &str = "CAPSTAN_DIALECT";
/// The server's attribute.
const ATTRIBUTE: &str = "dialect";

/// A tongue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Torque 6.
    #[default]
    Torque,
    /// PBS Professional and OpenPBS.
    PbsPro,
}

impl Dialect {
    /// `torque`, `pbspro`; some spellings that people use besides. `None` for anything else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text.trim().to_ascii_lowercase().as_str() {
            "torque" => Some(Self::Torque),
            "pro" | "pbspro" | "pbs_pro" | "pbs-pro" | "openpbs" => Some(Self::PbsPro),
            _ => None,
        }
    }

    /// What the environment says, if it says anything that can be understood.
    pub(crate) fn from_environment(env: &Environment) -> Option<Self> {
        env.get(VARIABLE).and_then(Self::parse)
    }

    /// What the server says; Torque's when it says nothing or cannot be asked.
    pub(crate) async fn of_server(server: &mut Server) -> Self {
        match server.stat_server(StatServerRequest {}).await {
            Ok(reply) => {
                let reply = reply.into_inner();
                Self::among(&[reply.attributes, reply.statistics].concat())
            }
            Err(_) => Self::Torque,
        }
    }

    fn among(attributes: &[Attribute]) -> Self {
        let found = attributes.iter().find(|found| found.name == ATTRIBUTE);
        let spoken = found.and_then(|found| Self::parse(&found.value));
        spoken.unwrap_or_default()
    }
}

/// `X-Y` or `X-Y:STEP`, with `%SLOTS` behind: how PBS Pro writes an array (`-J`). As Torque's `-t` writes it; `None` when
/// it is no such range or names too many members one by one.
pub(crate) fn array_range(text: &str) -> Option<String> {
    const MEMBERS_MAX: u32 = 10_000;
    let (range, slots) = match text.split_once('%') {
        Some((range, slots)) => (range, Some(number(slots)?)),
        None => (text, None),
    };
    let (range, step) = match range.split_once(':') {
        Some((range, step)) => (range, number(step)?),
        None => (range, 1),
    };
    let (first, last) = range.split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    if first > last || step == 0 {
        return None;
    }
    let indices = match step {
        1 => format!("{first}-{last}"),
        step if (last - first) / step < MEMBERS_MAX => {
            let members = (0..=(last - first) / step).map(|at| (first + at * step).to_string());
            members.collect::<Vec<_>>().join(",")
        }
        _ => return None,
    };
    Some(match slots {
        Some(slots) => format!("{indices}%{slots}"),
        None => indices,
    })
}

fn number(text: &str) -> Option<u32> {
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_decides_when_it_can_be_understood() {
        let env = |value: &str| Environment(vec![(VARIABLE.into(), value.into())]);
        let said = |value: &str| Dialect::from_environment(&env(value));
        assert_eq!(said("pbspro"), Some(Dialect::PbsPro));
        assert_eq!(said("Torque"), Some(Dialect::Torque));
        assert_eq!(said("slurm"), None);
        assert_eq!(Dialect::from_environment(&Environment::default()), None);
    }

    #[test]
    fn the_server_decides_by_an_attribute() {
        let attribute = |name: &str, value: &str| Attribute {
            name: name.into(),
            resource: String::new(),
            value: value.into(),
        };
        let said = |name: &str, value: &str| Dialect::among(&[attribute(name, value)]);
        assert_eq!(said("dialect", "pbspro"), Dialect::PbsPro);
        assert_eq!(said("dialect", "?"), Dialect::Torque);
        assert_eq!(said("comment", "pbspro"), Dialect::Torque);
    }

    #[test]
    fn ranges_of_pbs_pro_become_those_of_torque() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(array_range(text).as_deref(), expected, "{text}");
        };
        check("0-99", Some("0-99"));
        check("0-9:2", Some("0,2,4,6,8"));
        check("1-10:3", Some("1,4,7,10"));
        check("1-10%4", Some("1-10%4"));
        check("1-3:2%1", Some("1,3%1"));
        for bad in [
            "5",
            "9-1",
            "1-",
            "-3",
            "1-3:0",
            "1-3:x",
            "a-b",
            "1-4000000000:2",
            "12.hn1",
            "",
        ] {
            check(bad, None);
        }
    }
}
