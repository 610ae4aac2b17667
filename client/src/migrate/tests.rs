//! Whole homes of a Torque: what is made of them, and what is said of damaged ones.

use super::*;
use proptest::prelude::*;
use std::fs;
use std::path::Path;

/// A home with these files.
fn home(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

/// The orders and the report, or the damage.
fn migrated(folder: &Path, dump: Option<&Path>) -> Result<(String, String), String> {
    let findings = Home::new(folder, dump)
        .read()
        .map_err(|damage| format!("{} {}", damage.place, damage.what))?;
    let plan = Plan::new(findings);
    Ok((plan.orders(), plan.report()))
}

const SERVERDB: &str = "<server_db>
<numjobs>0</numjobs>
<numque>2</numque>
<nextjobid>4711</nextjobid>
<savetime>1400000000</savetime>
<attributes>
<scheduling>1</scheduling>
<total_jobs>0</total_jobs>
<acl_hosts>head.example.org,*.example.org</acl_hosts>
<managers>root@head.example.org,kim@head.example.org</managers>
<default_queue>batch</default_queue>
<log_events>511</log_events>
<comment>Bob &amp; Co: &lt;no jobs&gt; on Sunday</comment>
<tcp_timeout>300</tcp_timeout>
<resources_default>
\t\t<walltime>3600</walltime>
\t\t<nodes>1</nodes>
</resources_default>
<pbs_version>6.1.3</pbs_version>
<no_such_thing>1</no_such_thing>
</attributes>
</server_db>";

const QUEUE: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?>
<queue>
  <modified>1</modified>
  <type>1</type>
  <create_time>1400000000</create_time>
  <modify_time>1400000000</modify_time>
  <name>batch</name>
  <attributes>
    <queue_type>Execution</queue_type>
    <max_running>10</max_running>
    <acl_user_enable>1</acl_user_enable>
    <resources_max>
      <walltime>86400</walltime>
      <mem>64gb</mem>
    </resources_max>
    <mtime>1400000000</mtime>
    <enabled>1</enabled>
    <started>1</started>
  </attributes>
</queue>
";

const NODES: &str = "gpu01 np=8 gpus=4 fast A\ncpu01 np=2\n";

fn whole_home() -> tempfile::TempDir {
    home(&[
        ("server_priv/serverdb", SERVERDB),
        ("server_priv/queues/batch", QUEUE),
        ("server_priv/queues/batch.new", "half"),
        ("server_priv/acl_users/batch", "alice\nbob@*"),
        ("server_priv/acl_svr/acl_hosts", "old.example.org"),
        ("server_priv/acl_groups/gone", "physics"),
        ("server_priv/nodes", NODES),
        ("server_priv/node_status", "cpu01 1\n"),
        ("server_priv/node_note", "cpu01 fan is loud\n"),
        ("server_priv/jobs/12.head.JB", ""),
        (
            "mom_priv/config",
            "$pbsserver head\n$usecp *:/home /home\nhuge 1\n",
        ),
    ])
}

#[test]
fn a_home_of_torque_6_becomes_orders() {
    let folder = whole_home();
    let (orders, _) = migrated(folder.path(), None).unwrap();
    let expected = "#
# Create queues and set their attributes.
#
#
# Create and define queue batch
#
create queue batch
set queue batch queue_type = Execution
set queue batch max_running = 10
set queue batch acl_user_enable = True
set queue batch acl_users = alice
set queue batch acl_users += bob@*
set queue batch resources_max.walltime = 24:00:00
set queue batch resources_max.mem = 64gb
set queue batch enabled = True
set queue batch started = True
#
# Set server attributes.
#
set server scheduling = True
set server acl_hosts = head.example.org
set server acl_hosts += *.example.org
set server managers = kim@head.example.org
set server managers += root@head.example.org
set server default_queue = batch
set server log_events = 511
set server resources_default.walltime = 01:00:00
set server resources_default.nodes = 1
set server tcp_timeout = 300
set server comment = Bob & Co: <no jobs> on Sunday
set server next_job_number = 4711
#
# Create nodes and set their properties.
#
#
# Create and define node gpu01
#
create node gpu01
set node gpu01 np = 8
set node gpu01 properties = fast
set node gpu01 properties += A
set node gpu01 gpus = 4
#
# Create and define node cpu01
#
create node cpu01
set node cpu01 state = offline
set node cpu01 np = 2
set node cpu01 note = fan is loud
";
    assert_eq!(orders, expected);
}

#[test]
fn the_report_tells_every_line_with_its_reason() {
    let folder = whole_home();
    let (_, report) = migrated(folder.path(), None).unwrap();
    for line in [
        "server_priv/serverdb:20: no_such_thing = 1: there is no such attribute",
        "server_priv/serverdb:19: pbs_version = 6.1.3: the server finds it out itself",
        "server_priv/acl_svr/acl_hosts: acl_hosts: the database has it, too, and counts",
        "server_priv/acl_groups/gone: attributes of queue gone: no file says that there is such a queue",
        "server_priv/jobs: 1 files of jobs: jobs are not moved",
        "mom_priv/config:2: $usecp *:/home /home: write it to `usecp` in agent.toml",
        "mom_priv/config:3: huge 1: resources of a node are what its agent finds",
        "server_priv/nodes:1: node gpu01: gpus = 4: agents count the cards",
        "1 queues, 2 nodes",
    ] {
        assert!(report.contains(line), "{line}\n{report}");
    }
    assert!(!report.contains("batch.new"), "{report}");
}

#[test]
fn a_dump_takes_the_place_of_the_database() {
    let dump = "# made by hand\ncreate queue long\nset queue long queue_type = Execution\nset queue long \\\n enabled = True\nset server comment = closed for repair\nlist server\nset node x np = 3\n";
    let folder = home(&[
        ("qmgr.dump", dump),
        ("server_priv/serverdb", "\u{1}binary"),
        ("server_priv/nodes", NODES),
    ]);
    let (orders, report) = migrated(folder.path(), None).unwrap();
    assert!(orders.contains("create queue long\nset queue long queue_type = Execution\nset queue long enabled = True\n"), "{orders}");
    assert!(
        orders.contains("set server comment = closed for repair\n"),
        "{orders}"
    );
    assert!(
        orders.contains("create node gpu01\n") && !orders.contains("node x"),
        "{orders}"
    );
    for line in [
        "server_priv/serverdb: all of it: the dump takes its place",
        "qmgr.dump:7: list server: only create and set with names are taken over",
        "qmgr.dump:8: attributes of node x: no file says that there is such a node",
    ] {
        assert!(report.contains(line), "{line}\n{report}");
    }
}

#[test]
fn what_is_printed_migrates_to_the_same() {
    let folder = whole_home();
    let (orders, _) = migrated(folder.path(), None).unwrap();
    let again = home(&[("qmgr.dump", &orders)]);
    assert_eq!(migrated(again.path(), None).unwrap().0, orders);
}

#[test]
fn damage_is_named_with_file_and_line() {
    let check = |files: &[(&str, &str)], expected: &str| {
        let folder = home(files);
        let damage = migrated(folder.path(), None).unwrap_err();
        assert!(damage.starts_with(expected), "{damage}");
    };
    check(
        &[("server_priv/nodes", "a np=2\nb np=x\n")],
        "server_priv/nodes:2 np=x is no number",
    );
    check(
        &[("server_priv/serverdb", &SERVERDB[..300])],
        "server_priv/serverdb:",
    );
    check(
        &[("server_priv/serverdb", "\u{1}\u{2}")],
        "server_priv/serverdb:1 is no XML (an older Torque",
    );
    check(
        &[("server_priv/queues/other", QUEUE)],
        "server_priv/queues/other:7 is the file of queue 'batch'",
    );
    check(
        &[("server_priv/queues/a;b", QUEUE)],
        "server_priv/queues/a;b has no name",
    );
    check(
        &[("qmgr.dump", "create queue a\nfrobnicate\n")],
        "qmgr.dump:2 is no order of qmgr:\nqmgr: Illegal operation: frobnicate",
    );
    check(
        &[("qmgr.dump", "set server \\\n")],
        "qmgr.dump:1 ends in the middle",
    );
    check(
        &[
            ("server_priv/acl_users/batch", "x"),
            ("server_priv/serverdb", "<x/>"),
        ],
        "server_priv/serverdb:1 has <x>",
    );
    let empty = home(&[]);
    assert!(
        migrated(empty.path(), None)
            .unwrap_err()
            .contains("is it the folder that Torque calls PBS_HOME")
    );
    let missing = migrated(empty.path(), Some(Path::new("/nonexistent/dump")));
    assert_eq!(missing.unwrap_err(), "/nonexistent/dump is not there");
}

#[test]
fn a_value_that_no_server_takes_is_left_out_and_told() {
    let folder = home(&[(
        "qmgr.dump",
        "create queue a\nset queue a max_running = many\n",
    )]);
    let (orders, report) = migrated(folder.path(), None).unwrap();
    assert!(!orders.contains("many"), "{orders}");
    assert!(
        report.contains("not taken over (1):\n  qmgr.dump:2: queue a: max_running = many: "),
        "{report}"
    );
}

#[test]
fn options_say_from_where_and_what_to_do() {
    let read = |line: &str| arguments(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
    let seen = read("--from-torque /t --dump=/d --apply").unwrap();
    assert_eq!(
        seen,
        Arguments {
            home: "/t".into(),
            dump: Some("/d".into()),
            is_applied: true
        }
    );
    assert!(!read("--print --from-torque=/t").unwrap().is_applied);
    for wrong in [
        "--apply",
        "--from-torque",
        "--from-torque /t --apply --print",
        "--from-torque /t x",
    ] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_files_are_a_plan_or_named_damage(
        nodes in "([a-z]{1,3}( np=[0-9x]{1,2}| [a-z,\"]{1,2}){0,3}\n|\\PC{0,9}\n){0,4}",
        dump in "((create queue|set queue|set node|set server) [a-z]{0,2} ?[a-z_]{0,9} ?=? ?[a-z1-9,\"]{0,5}\n|\\PC{0,9}\n){0,4}",
        database in "(<server_db>|</server_db>|<attributes>|</attributes>|<scheduling>1</scheduling>|\\PC|\n){0,8}",
    ) {
        let folder = home(&[("server_priv/nodes", &nodes), ("server_priv/serverdb", &database)]);
        prop_assert!(migrated(folder.path(), None).err().is_none_or(|damage| !damage.is_empty()));
        let folder = home(&[("server_priv/nodes", &nodes), ("qmgr.dump", &dump)]);
        let made = migrated(folder.path(), None);
        prop_assert!(made.as_ref().err().is_none_or(|damage| !damage.is_empty()));
        if let Ok((orders, _)) = made {
            let again = home(&[("qmgr.dump", &orders)]);
            prop_assert_eq!(migrated(again.path(), None).map_or(orders.clone(), |(orders, _)| orders), orders);
        }
    }
}
