//! Cards whose numbers change, as they may when a machine boots or one of them has fallen off the bus: a card is known by its
//! UUID, so its job keeps it, and nobody else is lent it.

use std::fs;
use std::path::{Path, PathBuf};

use capstan_tests::{Cluster, User, wait_until};

use crate::is_root;

/// The simulated cards of `node01`, in the order of their numbers.
struct Cards {
    file: PathBuf,
    head: String,
    /// The table of each, with a place on the bus and a device file of its own, which do not change.
    tables: Vec<String>,
}

impl Cards {
    fn of(cluster: &Cluster) -> Self {
        let file = cluster.path().join("nodes/node01/nvml/fake-nvml.toml");
        let text = fs::read_to_string(&file).unwrap();
        let mut parts = text.split("[[cards]]").map(str::to_owned);
        let head = parts.next().unwrap();
        let tables = parts.enumerate().map(|(number, table)| {
            format!(
                "{table}\nminor = {number}\npci_address = \"00000000:{:02X}:00.0\"\n",
                number + 1
            )
        });
        let tables = tables.collect();
        Self { file, head, tables }
    }

    /// Numbers them by this list of where they were at first; `more` is told of the card that was first.
    fn order(&self, order: &[usize], more: &str) {
        let mut whole = self.head.clone();
        for place in order {
            let table = &self.tables[*place];
            let more = if *place == 0 { more } else { "" };
            whole.push_str(&format!("[[cards]]{table}{more}\n"));
        }
        let new = self.file.with_extension("next");
        fs::write(&new, whole).unwrap();
        fs::rename(new, &self.file).unwrap();
    }
}

/// Per number, the last digit of the card's UUID and whether it is lent, as `pbsnodes` shows them: `0+ 1- …`.
fn shown(cluster: &Cluster) -> String {
    let text = cluster.root("pbsnodes node01").stdout;
    let status = text.lines().find(|line| line.contains("gpu_status = "));
    let cards = status.unwrap_or_default().split(",gpu[").map(|card| {
        let field = |name: &str| {
            let found = card.split([';', ',']).find_map(|it| it.strip_prefix(name));
            found.unwrap_or_default().to_owned()
        };
        let uuid = field("gpu_uuid=");
        let sign = match field("gpu_state=").as_str() {
            "Exclusive" => '+',
            "Unallocated" => '-',
            _ => '?',
        };
        format!("{}{sign}", uuid.chars().last().unwrap_or('?'))
    });
    cards.collect::<Vec<_>>().join(" ")
}

fn wait_shown(cluster: &Cluster, expected: &str) {
    wait_until(&format!("cards are shown as {expected}"), || {
        let seen = shown(cluster);
        match seen == expected {
            true => Ok(()),
            false => Err(seen),
        }
    });
}

/// A job with so many cards that writes their numbers to a file and waits; gives its id and the numbers, in order.
fn holder(
    cluster: &Cluster,
    user: &User,
    folder: &Path,
    name: &str,
    cards: u32,
) -> (String, String) {
    let options = format!("-l nodes=1:gpus={cards},walltime=600 -d . -o /dev/null -e /dev/null");
    let script = format!(
        "sed 's/.*-gpu//' $PBS_GPUFILE | sort >{name}.new; mv {name}.new {name}.cards; until [ -e {name}.go ]; do sleep 0.1; done"
    );
    let job = cluster.submit(user, folder, &options, &script);
    let file = folder.join(format!("{name}.cards"));
    let numbers = wait_until("the job has begun", || {
        fs::read_to_string(&file).map_err(|_| ())
    });
    (
        job,
        numbers.split_whitespace().collect::<Vec<_>>().join(" "),
    )
}

fn end(cluster: &Cluster, folder: &Path, name: &str, job: &str) {
    fs::write(folder.join(format!("{name}.go")), "").unwrap();
    cluster.wait_state(job, "C");
}

/// Goal: while a job has a card all cards are numbered the other way round, under the agent and while it is away; the card stays
/// the job's, its load is told as the job's, others get the others, and it is lent by its new number when it is free.
#[test]
fn a_job_keeps_its_card_by_uuid_when_cards_are_numbered_anew() {
    if !is_root() {
        return;
    }
    for is_agent_away in [false, true] {
        let mut cluster = Cluster::up(&["--nodes", "1", "--cores", "8", "--cards", "4", "--debug"]);
        let cards = Cards::of(&cluster);
        cards.order(&[0, 1, 2, 3], "");
        let alice = User::alice();
        let folder = alice.folder(&format!("renumbered-{is_agent_away}"));
        let (first, numbers) = holder(&cluster, &alice, &folder, "first", 1);
        assert_eq!(numbers, "0");
        wait_shown(&cluster, "0+ 1- 2- 3-");
        if is_agent_away {
            cluster.kill("node01");
        }
        cards.order(&[3, 2, 1, 0], "utilization_percent = 70");
        if is_agent_away {
            cluster.start("node01");
            cluster.wait_nodes();
        }
        wait_shown(&cluster, "3- 2- 1- 0+");
        assert_eq!(cluster.attribute(&first, "job_state").as_deref(), Some("R"));
        wait_until("the load of its card is the job's", || {
            let load = cluster.attribute(&first, "resources_used.gpu_util_last");
            match load.as_deref() {
                Some("70") => Ok(()),
                _ => Err(load),
            }
        });
        let (others, numbers) = holder(&cluster, &alice, &folder, "others", 3);
        assert_eq!(numbers, "0 1 2", "all that are free, by their new numbers");
        wait_shown(&cluster, "3+ 2+ 1+ 0+");
        let options = "-l nodes=1:gpus=1 -o /dev/null -e /dev/null";
        let more = cluster.submit(&alice, &folder, options, "true");
        cluster.wait_state(&more, "Q");
        cluster.sh(&alice, &format!("qdel {more}")).ok();
        end(&cluster, &folder, "first", &first);
        wait_shown(&cluster, "3+ 2+ 1+ 0-");
        let (last, numbers) = holder(&cluster, &alice, &folder, "last", 1);
        assert_eq!(numbers, "3");
        wait_shown(&cluster, "3+ 2+ 1+ 0+");
        end(&cluster, &folder, "last", &last);
        end(&cluster, &folder, "others", &others);
        wait_shown(&cluster, "3- 2- 1- 0-");
    }
}
