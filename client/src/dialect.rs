//! Which tongue is spoken where Torque and PBS Pro contradict each other. Everything that only one of them knows is
//! understood always; these are the contradictions in what users of `qsub` type ([`Dialect`] lists those that the server
//! settles):
//!
//! | typed | `torque` | `pbspro` |
//! | --- | --- | --- |
//! | `qsub -P NAME` | submit for the user NAME (managers) | charge the project NAME (kept as `Account_Name`, unless `-A` is given) |
//! | `qsub -J X-Y[:Z]` | with `-P`: the id of a job; without: an array | an array |
//! | `qsub -f` | kept and shown as `fault_tolerant`, without effect | do not go into the background, which `qsub` never does |
//! | `qsub -v 'A="x,y"'` | the value ends at the comma, quotes stay | quotes keep commas together and are dropped |
//! | `qsub -W umask=33` | a number that does not begin with 0 is decimal | always octal |
//! | `PBS_DPREFIX` | is not looked at | begins directives when `-C` is not given |
//!
//! `CAPSTAN_DIALECT` (`torque` or `pbspro`) decides, else the server's attribute `dialect`, which is asked for only when
//! one of these was typed, else it is Torque's.

use capstan_proto::wire::{Attribute, StatServerRequest};

pub(crate) use capstan_types::Dialect;

use crate::command::Environment;
use crate::door::Server;

const VARIABLE: &str = "CAPSTAN_DIALECT";
/// The server's attribute.
const ATTRIBUTE: &str = "dialect";

/// What the environment says, if it says anything that can be understood.
pub(crate) fn from_environment(env: &Environment) -> Option<Dialect> {
    env.get(VARIABLE)
        .and_then(|said| Dialect::parse(said.trim()))
}

/// What the server says; Torque's when it says nothing or cannot be asked.
pub(crate) async fn of_server(server: &mut Server) -> Dialect {
    match server.stat_server(StatServerRequest {}).await {
        Ok(reply) => among(&reply.into_inner().attributes),
        Err(_) => Dialect::default(),
    }
}

fn among(attributes: &[Attribute]) -> Dialect {
    let found = attributes.iter().find(|found| found.name == ATTRIBUTE);
    let spoken = found.and_then(|found| Dialect::parse(&found.value));
    spoken.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_decides_when_it_can_be_understood() {
        let env = |value: &str| Environment(vec![(VARIABLE.into(), value.into())]);
        let said = |value: &str| from_environment(&env(value));
        assert_eq!(said(" pbspro"), Some(Dialect::Pro));
        assert_eq!(said("Torque"), Some(Dialect::Torque));
        assert_eq!(said("slurm"), None);
        assert_eq!(from_environment(&Environment::default()), None);
    }

    #[test]
    fn the_server_decides_by_an_attribute() {
        let said = |name: &str, value: &str| {
            among(&[Attribute {
                name: name.into(),
                resource: String::new(),
                value: value.into(),
            }])
        };
        assert_eq!(said("dialect", "pbspro"), Dialect::Pro);
        assert_eq!(said("dialect", "?"), Dialect::Torque);
        assert_eq!(said("comment", "pbspro"), Dialect::Torque);
    }
}
