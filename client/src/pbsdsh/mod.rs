//! `pbsdsh`: runs a program on the places of the job it is called in. What tasks write goes where the job writes; which
//! places there are, and how tasks start, is the agent's affair.

mod call;
mod options;
mod output;
mod ranks;
mod tasks;

use std::process::ExitCode;

use capstan_proto::connect_unix;
use capstan_proto::wire::ListPlacesRequest;
use capstan_proto::wire::node_door_client::NodeDoorClient;

pub(crate) use self::options::OPTIONS;
use self::options::{Options, Where};
use self::output::Output;
pub(crate) use self::output::say;
use self::tasks::Tasks;
use crate::command::Environment;
use crate::node_door;

/// How Torque's program calls itself.
const NAME: &str = "pbsdsh()";
/// Torque's number for a daemon that cannot be talked to.
const TM_ESYSTEM: u32 = 17000;

/// Runs `pbsdsh` with the words behind its name, to its end.
pub(crate) fn run(words: &[String], env: &Environment) -> ExitCode {
    let options = match options::parse(words) {
        Ok(options) => options,
        Err(usage) => return fail(1, &usage),
    };
    if env.get("PBS_ENVIRONMENT").is_none() {
        return fail(1, &format!("{NAME}: not executing under PBS"));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => {
            let code = runtime.block_on(start(options, env));
            // What reads from the job's files in the meantime need not wait for connections to close.
            std::mem::forget(runtime);
            code
        }
        Err(error) => fail(1, &format!("{NAME}: cannot start: {error}")),
    }
}

async fn start(options: Options, env: &Environment) -> ExitCode {
    let socket = node_door::socket(|name| std::env::var_os(name));
    let nodes = match connect_unix(&socket).await {
        Ok(channel) => {
            let mut door = NodeDoorClient::new(channel);
            let listed = door.list_places(ListPlacesRequest {}).await;
            listed.map_err(|status| status.message().to_owned())
        }
        Err(error) => Err(format!("{error}: {}", error.source)),
    };
    let nodes = match nodes {
        Ok(listed) => listed.into_inner().nodes,
        Err(problem) => {
            let text = format!(
                "{NAME}: tm_init failed, rc = TM_ESYSTEM ({TM_ESYSTEM})\n{NAME}: {problem}"
            );
            return fail(1, &text);
        }
    };
    let (places, hosts) = match places(&options.wanted, &nodes) {
        Ok(chosen) => chosen,
        Err(problem) => return fail(1, &format!("{NAME}: {problem}")),
    };
    let output = Output::open(options.captures);
    let environment = options.variables(env);
    let tasks = Tasks {
        socket,
        options,
        environment,
        hosts,
        // Jobs without cards have what Torque gives them and no more, unless they say where to meet.
        meeting_port: std::env::var_os("MASTER_ADDR")
            .map(|_| std::env::var("MASTER_PORT").unwrap_or_default()),
        output,
        is_away: false,
    };
    tasks.run(places).await
}

/// A place, and the number under which messages speak of the task there.
type Place = (u32, u32);

/// Where to run, of the slots that the job has, and the hosts of all numbers: one place keeps the number that it has
/// among all.
fn places(wanted: &Where, nodes: &[String]) -> Result<(Vec<Place>, Vec<String>), String> {
    let mut slots: Vec<u32> = (0..).zip(nodes).map(|(slot, _)| slot).collect();
    let mut only = None;
    match wanted {
        Where::Everywhere | Where::First(_) => {}
        Where::One(place) => only = Some(*place),
        Where::EachNode => slots.dedup_by_key(|slot| &nodes[*slot as usize]),
        Where::Node(name, nth) => {
            let on_it = slots
                .iter()
                .filter(|slot| is_node(&nodes[**slot as usize], name));
            let found = on_it.copied().nth(*nth as usize);
            only = Some(found.ok_or_else(|| format!("{name} not found"))?);
        }
    }
    let available = slots.len();
    let copies = match wanted {
        Where::First(copies) => *copies as usize,
        Where::Everywhere | Where::One(_) | Where::EachNode | Where::Node(..) => available,
    };
    if only.is_some_and(|place| place as usize >= available) || copies > available {
        return Err(format!("only {available} nodes available"));
    }
    let host = |slot: &u32| nodes[*slot as usize].clone();
    let hosts = slots.iter().take(copies).map(host).collect();
    let numbered = (0..).zip(slots).map(|(number, slot)| (slot, number));
    let chosen = numbered.filter(|(_, number)| only.is_none_or(|only| only == *number));
    Ok((chosen.take(copies).collect(), hosts))
}

fn is_node(node: &str, name: &str) -> bool {
    node == name || node.split('.').next() == Some(name)
}

fn fail(status: u8, text: &str) -> ExitCode {
    say(text);
    ExitCode::from(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(wanted: &Where, expected: Result<&[Place], &str>) {
        let nodes = ["gpu01", "gpu01", "cpu01.x"].map(str::to_owned);
        let expected = expected.map(<[Place]>::to_vec).map_err(str::to_owned);
        let chosen = places(wanted, &nodes).map(|(chosen, _)| chosen);
        assert_eq!(chosen, expected, "{wanted:?}");
    }

    #[test]
    fn places_are_the_slots_of_the_job() {
        check(&Where::Everywhere, Ok(&[(0, 0), (1, 1), (2, 2)]));
        check(&Where::First(2), Ok(&[(0, 0), (1, 1)]));
        check(&Where::First(4), Err("only 3 nodes available"));
        check(&Where::One(1), Ok(&[(1, 1)]));
        check(&Where::One(3), Err("only 3 nodes available"));
        check(&Where::EachNode, Ok(&[(0, 0), (2, 1)]));
        check(&Where::Node("gpu01".into(), 1), Ok(&[(1, 1)]));
        check(&Where::Node("cpu01".into(), 0), Ok(&[(2, 2)]));
        check(&Where::Node("gpu01".into(), 2), Err("gpu01 not found"));
        check(&Where::Node("gpu02".into(), 0), Err("gpu02 not found"));
    }
}
