//! What a task is told of its place among those of the call, in the variables that launchers of distributed programs read:
//! `RANK`, `WORLD_SIZE`, `LOCAL_RANK` and `LOCAL_WORLD_SIZE` as torchrun has them
//! (<https://docs.pytorch.org/docs/stable/elastic/run.html>), and Paddle's two.

use std::collections::BTreeMap;

use capstan_proto::wire::Variable;

/// The longest list of endpoints, bytes: all variables of a task have to fit into its order.
const LIST_BYTES_MAX: usize = 64 << 10;

/// The variables of the task of this rank; `meeting` is `MASTER_PORT`; `hosts` are those of all ranks, in order. A task that is not among them gets
/// none.
pub(super) fn variables(hosts: &[String], rank: u32, meeting: &str) -> Vec<Variable> {
    let Some(host) = hosts.get(rank as usize) else {
        return Vec::new();
    };
    let before = hosts.iter().take(rank as usize);
    let local = before.filter(|it| *it == host).count();
    let together = hosts.iter().filter(|it| *it == host).count();
    let (rank, world) = (rank as usize, hosts.len());
    let numbers = BTreeMap::from([
        ("RANK", rank),
        ("WORLD_SIZE", world),
        ("LOCAL_RANK", local),
        ("LOCAL_WORLD_SIZE", together),
        ("PADDLE_TRAINER_ID", rank),
        ("PADDLE_TRAINERS_NUM", world),
        ("PADDLE_RANK_IN_NODE", local),
    ]);
    let numbers = numbers.into_iter();
    let words = numbers.map(|(name, number)| (name, number.to_string()));
    let variables = words.chain(endpoints(hosts, rank, meeting));
    let variables = variables.map(|(name, value)| Variable {
        name: name.to_owned(),
        value,
    });
    variables.collect()
}

/// Where Paddle's trainers listen: each on its host, from the port behind the one where all meet, counted over the host.
/// None of it without such a port; no list that would not fit into a variable.
fn endpoints(hosts: &[String], rank: usize, meeting: &str) -> Vec<(&'static str, String)> {
    let Some(first) = meeting
        .parse::<u16>()
        .ok()
        .and_then(|port| port.checked_add(1))
    else {
        return Vec::new();
    };
    let mut used: BTreeMap<&str, u16> = BTreeMap::new();
    let all = hosts.iter().map(|host| {
        let port = used.entry(host).or_insert(first);
        let endpoint = format!("{host}:{port}");
        *port = port.saturating_add(1);
        endpoint
    });
    let all: Vec<String> = all.collect();
    let own = all.get(rank).cloned().unwrap_or_default();
    let list = all.join(",");
    let list =
        Some(("PADDLE_TRAINER_ENDPOINTS", list)).filter(|(_, list)| list.len() <= LIST_BYTES_MAX);
    [("PADDLE_CURRENT_ENDPOINT", own)]
        .into_iter()
        .chain(list)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rank: u32, expected: &str) {
        let hosts = ["gpu01", "gpu01", "gpu02"].map(str::to_owned);
        let told = variables(&hosts, rank, "");
        let told = told.iter().map(|it| format!("{}={}", it.name, it.value));
        assert_eq!(told.collect::<Vec<_>>().join(" "), expected, "rank {rank}");
    }

    #[test]
    fn ranks_count_over_the_call_and_local_ranks_over_the_host() {
        check(
            1,
            "LOCAL_RANK=1 LOCAL_WORLD_SIZE=2 PADDLE_RANK_IN_NODE=1 PADDLE_TRAINERS_NUM=3 PADDLE_TRAINER_ID=1 RANK=1 WORLD_SIZE=3",
        );
        check(
            2,
            "LOCAL_RANK=0 LOCAL_WORLD_SIZE=1 PADDLE_RANK_IN_NODE=0 PADDLE_TRAINERS_NUM=3 PADDLE_TRAINER_ID=2 RANK=2 WORLD_SIZE=3",
        );
        check(3, "");
    }

    #[test]
    fn paddles_trainers_listen_behind_the_port_where_all_meet() {
        let hosts = ["gpu01", "gpu01", "gpu02"].map(str::to_owned);
        let told = endpoints(&hosts, 1, "20007");
        let expected = [
            ("PADDLE_CURRENT_ENDPOINT", "gpu01:20009"),
            (
                "PADDLE_TRAINER_ENDPOINTS",
                "gpu01:20008,gpu01:20009,gpu02:20008",
            ),
        ];
        assert_eq!(told, expected.map(|(name, value)| (name, value.to_owned())));
        let many = vec!["a-host-with-a-name".to_owned(); 9000];
        assert_eq!(endpoints(&many, 0, "20007").len(), 1);
    }
}
