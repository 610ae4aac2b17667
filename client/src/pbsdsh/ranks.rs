//! What a task is told of its place among those of the call, in the variables that launchers of distributed programs read:
//! `RANK`, `WORLD_SIZE`, `LOCAL_RANK` and `LOCAL_WORLD_SIZE` as torchrun has them
//! (<https://docs.pytorch.org/docs/stable/elastic/run.html>), and Paddle's two.

use std::collections::BTreeMap;

use capstan_proto::wire::Variable;

/// The variables of the task of this rank; `hosts` are those of all ranks, in order. A task that is not among them gets
/// none.
pub(super) fn variables(hosts: &[String], rank: u32) -> Vec<Variable> {
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
    ]);
    let variable = |(name, number): (&str, usize)| Variable {
        name: name.to_owned(),
        value: number.to_string(),
    };
    numbers.into_iter().map(variable).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rank: u32, expected: &str) {
        let hosts = ["gpu01", "gpu01", "gpu02"].map(str::to_owned);
        let told = variables(&hosts, rank);
        let told = told.iter().map(|it| format!("{}={}", it.name, it.value));
        assert_eq!(told.collect::<Vec<_>>().join(" "), expected, "rank {rank}");
    }

    #[test]
    fn ranks_count_over_the_call_and_local_ranks_over_the_host() {
        check(
            1,
            "LOCAL_RANK=1 LOCAL_WORLD_SIZE=2 PADDLE_TRAINERS_NUM=3 PADDLE_TRAINER_ID=1 RANK=1 WORLD_SIZE=3",
        );
        check(
            2,
            "LOCAL_RANK=0 LOCAL_WORLD_SIZE=1 PADDLE_TRAINERS_NUM=3 PADDLE_TRAINER_ID=2 RANK=2 WORLD_SIZE=3",
        );
        check(3, "");
    }
}
