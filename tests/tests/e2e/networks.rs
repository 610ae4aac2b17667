//! Nodes that are hosts of a network, each with an address of its own: what the programs of a gang are told of each other is
//! where they meet, and a cable that is pulled costs no job.

use std::fs;
use std::path::Path;

use capstan_tests::networks::INTERFACE;
use capstan_tests::{Cluster, Networks, User, wait_until};

use crate::is_root;

/// A cluster whose nodes are hosts of their own. Named in this order in a pattern, it goes before its network.
struct Apart {
    network: Networks,
    cluster: Cluster,
}

/// Two nodes with a card each; a node without its agent for two seconds is shown as down.
fn up() -> Option<Apart> {
    if !is_root() {
        return None;
    }
    let nodes = ["node01", "node02"];
    let mut cluster = Cluster::up(&["--nodes", "2", "--cores", "2", "--cards", "1", "--debug"]);
    let network = Networks::connect(cluster.path(), &nodes);
    for name in ["node01", "node02", "server"] {
        cluster.kill(name);
    }
    let told = cluster.path().join("run/agents.addr");
    let before = fs::read_to_string(&told).unwrap();
    let before = before.trim();
    let replace = |file: &Path, from: &str, to: &str| {
        let text = fs::read_to_string(file).unwrap();
        assert!(text.contains(from), "{from}: {text}");
        fs::write(file, text.replace(from, to)).unwrap();
    };
    let settings = cluster.path().join("server.toml");
    let listen = |address: &str| format!("agents_listen = '{address}'");
    let new = format!(
        "heartbeat_secs = 1\nnode_down_after_secs = 2\n{}",
        listen(&format!("{}:0", network.server()))
    );
    replace(&settings, &listen(before), &new);
    fs::remove_file(&told).unwrap();
    cluster.start("server");
    cluster.wait_server();
    let address = wait_until("the server says where it listens", || {
        fs::read_to_string(&told).map_err(|error| error.to_string())
    });
    for node in nodes {
        let settings = cluster.path().join(format!("nodes/{node}/agent.toml"));
        replace(&settings, before, address.trim());
        cluster.start_behind(node, &network.entering(node));
    }
    cluster.wait_nodes();
    Some(Apart { network, cluster })
}

/// What a file holds, without the agent's footer; empty when there is none.
fn text_of(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Goal: the second rank reaches a listener of the first by nothing but what both are told, over the interface that they are
/// told; both are where their addresses say.
#[test]
fn ranks_on_hosts_of_their_own_meet_where_they_are_told() {
    let Some(Apart { network, cluster }) = up() else {
        return;
    };
    let alice = User::alice();
    let folder = alice.folder("networks-meet");
    // The first answers with what it hears; the second asks again until it is heard, as every library does.
    let rank = "ip -4 -o addr show dev $NCCL_SOCKET_IFNAME | sed 's/.* inet //; s:/.*::' >at.$RANK
case $RANK in
0) echo welcome $WORLD_SIZE | busybox nc -l -p $MASTER_PORT >heard ;;
1) until busybox nc $MASTER_ADDR $MASTER_PORT </etc/hostname >told 2>/dev/null && [ -s told ]; do sleep 0.2; done ;;
esac
echo rank $RANK uses $NCCL_SOCKET_IFNAME $GLOO_SOCKET_IFNAME meets $MASTER_ADDR:$MASTER_PORT";
    fs::write(folder.join("rank.sh"), rank).unwrap();
    alice.own(&folder.join("rank.sh"));
    let options = "-l nodes=2:gpus=1,walltime=120 -d . -j oe -o out";
    let script = "pbsdsh -c 1 /bin/true; pbsdsh /bin/sh $PBS_O_WORKDIR/rank.sh";
    let job = cluster.submit(&alice, &folder, options, script);
    cluster.wait_state(&job, "C");
    let out = text_of(&folder.join("out"));
    let all = cluster.root(&format!("qstat -f {job}")).stdout;
    assert_eq!(
        cluster.attribute(&job, "exit_status").as_deref(),
        Some("0"),
        "{out} {all}"
    );
    let mut lines: Vec<&str> = out.lines().collect();
    lines.sort_unstable();
    let [first, second] = lines[..] else {
        panic!("{out}");
    };
    let words = format!("uses {INTERFACE} {INTERFACE} meets node01:");
    for (rank, line) in [first, second].into_iter().enumerate() {
        assert!(line.starts_with(&format!("rank {rank} {words}")), "{out}");
    }
    assert_eq!(text_of(&folder.join("told")), "welcome 2\n", "{out}");
    for (rank, node) in ["node01", "node02"].into_iter().enumerate() {
        let at = text_of(&folder.join(format!("at.{rank}")));
        assert_eq!(at.trim(), network.address(node), "{out}");
    }
}

/// Goal: while its cable is out a node is shown as down and its programs go on; when it is back, so is the node, and no job has
/// lost a line of its output or was run again.
#[test]
fn a_pulled_cable_shows_its_node_as_down_and_costs_no_job() {
    let Some(Apart { network, cluster }) = up() else {
        return;
    };
    let alice = User::alice();
    let folder = alice.folder("networks-cut");
    let whole = folder.display();
    let counts =
        "n=0; until [ -e go ]; do n=$((n + 1)); echo line $n; echo $n >count; sleep 0.05; done";
    let alone = cluster.submit(
        &alice,
        &folder,
        "-l nodes=node02:ppn=1,walltime=300 -d . -j oe -o alone",
        &format!("echo run >>runs; {counts}; exit 3"),
    );
    let gang = cluster.submit(
        &alice,
        &folder,
        "-l nodes=node01:gpus=1+node02:gpus=1,walltime=300 -d . -j oe -o gang",
        &format!(
            "echo run >>runs; pbsdsh -n 1 /bin/sh -c 'cd {whole}; n=0; until [ -e go ]; do n=$((n + 1)); echo rank $n; echo $n >ranks; sleep 0.05; done; exit 4'"
        ),
    );
    let count = |name: &str| text_of(&folder.join(name)).trim().parse::<u32>().ok();
    let goes_on = |beyond: [u32; 2]| {
        wait_until("programs of node02 go on", || {
            match (count("count"), count("ranks")) {
                (Some(one), Some(other)) if one > beyond[0] && other > beyond[1] => {
                    Ok([one, other])
                }
                seen => Err(seen),
            }
        })
    };
    let before = goes_on([5, 5]);
    network.pull("node02");
    wait_until("the node is shown as down", || {
        let ran = cluster.root("pbsnodes -l");
        match ran.stdout.contains("node02") && ran.stdout.contains("down") {
            true => Ok(()),
            false => Err(ran),
        }
    });
    let during = goes_on(before.map(|count| count + 20));
    for job in [&alone, &gang] {
        assert_eq!(cluster.attribute(job, "job_state").as_deref(), Some("R"));
    }
    network.put_back("node02");
    cluster.wait_nodes();
    goes_on(during.map(|count| count + 20));
    fs::write(folder.join("go"), "").unwrap();
    // As Torque's, pbsdsh tells how its program ended and ends well itself.
    let told = "pbsdsh(): task 1 exit status 4\n";
    for (job, name, word, status) in [(&alone, "alone", "line", "3"), (&gang, "gang", "rank", "0")]
    {
        cluster.wait_state(job, "C");
        let out = text_of(&folder.join(name));
        let found = cluster.attribute(job, "exit_status");
        assert_eq!(found.as_deref(), Some(status), "{name}: {out}");
        let counted = match name {
            "gang" => out.strip_suffix(told).unwrap_or_else(|| panic!("{out}")),
            _ => &out,
        };
        let lines: Vec<&str> = counted.lines().collect();
        let expected: Vec<String> = (1..=lines.len())
            .map(|number| format!("{word} {number}"))
            .collect();
        assert_eq!(lines, expected, "{name}");
        assert!(lines.len() > 40, "{name}: {out}");
    }
    assert_eq!(text_of(&folder.join("runs")), "run\nrun\n");
}
