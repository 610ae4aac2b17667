//! The judge of the chaos run finds what it is there to find: each rule is shown a breach of it, and the same without one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use capstan_tests::wait_until;

use super::done::{Dirty, Done, Sent};
use super::judge::{Case, Run, lent_dirty, overlaps, runs, told};
use super::left;
use super::past::{Holders, Records};
use super::work::Kind;

/// A file of one run, as a job writes it.
fn ran(folder: &Path, job: &str, first: &str, lines: &str) {
    let text = format!("{first} {lines}");
    fs::create_dir_all(folder.join("runs")).unwrap();
    fs::write(folder.join(format!("runs/{job}+{first}+77")), text).unwrap();
}

fn read(folder: &Path) -> Vec<Run> {
    runs(&folder.join("runs"))
}

fn listing(job: &str, name: &str, status: &str) -> String {
    format!(
        "Job Id: {job}\n    Job_Name = {name}\n    job_state = C\n    exit_status = {status}\n\n"
    )
}

/// One job that ran once to its end with status 0, in which everything agrees.
struct World {
    folder: tempfile::TempDir,
    listing: String,
    accounts: BTreeMap<String, Records>,
    done: Done,
}

impl World {
    fn of(kind: Kind) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut done = Done::default();
        let sent = Sent::of(kind, 0, &done);
        let name = sent.name.clone();
        done.sent(sent, Some("1.srv".to_owned()));
        let world = Self {
            folder,
            listing: listing("1.srv", &name, "0"),
            accounts: BTreeMap::new(),
            done,
        };
        world
            .account(1, &[0])
            .ran("start node01-gpu0\n1.20 beat\n1.40 end 0\n")
    }

    fn ran(self, lines: &str) -> Self {
        ran(self.folder.path(), "1.srv", "1.00", lines);
        let me = "runs/1.srv+1.00+77";
        let output = format!("{me} began\n{me} tick 0\n{me} done 0\n");
        let name = &self.done.sent[0].name;
        fs::write(self.folder.path().join(format!("{name}.o1")), output).unwrap();
        self
    }

    fn account(mut self, starts: usize, ends: &[i32]) -> Self {
        let ends = ends.iter().copied().map(Some).collect();
        self.accounts
            .insert("1.srv".to_owned(), Records { starts, ends });
        self
    }

    fn breaches(&self) -> [usize; 6] {
        let (told, runs) = (told(&self.listing), read(self.folder.path()));
        let lent = BTreeSet::from(["node01-gpu0".to_owned()]);
        let case = Case {
            told: &told,
            runs: &runs,
            accounts: &self.accounts,
            lent: &BTreeMap::from([("1.srv", vec![&lent])]),
            done: &self.done,
            shimless: &BTreeSet::new(),
            homes: &[self.folder.path()],
        };
        [
            case.untrue().len(),
            case.unaccounted().len(),
            case.run_again().len(),
            case.silent().len(),
            case.miscounted().len(),
            case.unlent().len(),
        ]
    }
}

#[test]
fn a_card_in_two_runs_at_once_and_a_job_that_runs_twice_are_found() {
    let folder = tempfile::tempdir().unwrap();
    ran(
        folder.path(),
        "1.srv",
        "1.00",
        "start node01-gpu0\n9.00 end 0\n",
    );
    ran(
        folder.path(),
        "2.srv",
        "9.10",
        "start node01-gpu0\n9.90 end 0\n",
    );
    assert!(overlaps(&read(folder.path())).is_empty());
    ran(
        folder.path(),
        "3.srv",
        "8.00",
        "start node01-gpu0\n9.05 end 0\n",
    );
    assert_eq!(overlaps(&read(folder.path())).len(), 1);
    ran(folder.path(), "1.srv", "2.00", "start\n3.00 end 0\n");
    assert_eq!(overlaps(&read(folder.path())).len(), 2);
}

#[test]
fn a_run_that_begins_with_a_dirty_card_is_found() {
    let folder = tempfile::tempdir().unwrap();
    ran(
        folder.path(),
        "1.srv",
        "50.00",
        "start node01-gpu0\n51.00 end 0\n",
    );
    let dirty = |card: &str, from, to| Dirty {
        card: card.to_owned(),
        from,
        to,
    };
    let mut begun = BTreeMap::new();
    let found = |dirty, begun: &_| lent_dirty(&read(folder.path()), &[dirty], begun).len();
    assert_eq!(found(dirty("node01-gpu0", 1000, 6000), &begun), 1);
    assert_eq!(found(dirty("node01-gpu1", 1000, 6000), &begun), 0);
    assert_eq!(found(dirty("node01-gpu0", 1000, 2000), &begun), 0);
    // The cards were looked at when the attempt began, whenever its script did.
    begun.insert("1.srv".to_owned(), BTreeSet::from([500, 1200]));
    assert_eq!(found(dirty("node01-gpu0", 1000, 6000), &begun), 0);
    assert_eq!(found(dirty("node01-gpu0", 800, 6000), &begun), 1);
    begun.insert("1.srv".to_owned(), BTreeSet::from([500, 9000]));
    assert_eq!(found(dirty("node01-gpu0", 100, 600), &begun), 1);
}

#[test]
fn what_agrees_is_no_breach() {
    for kind in [Kind::Plain, Kind::Once, Kind::Gang, Kind::Inside] {
        assert_eq!(World::of(kind).breaches(), [0; 6], "{kind:?}");
    }
}

#[test]
fn a_status_that_no_run_had_is_found() {
    let mut world = World::of(Kind::Plain).account(1, &[7]);
    world.listing = listing("1.srv", "plain-0", "7");
    assert_eq!(
        world.breaches(),
        [1, 0, 0, 0, 0, 0],
        "another than it wrote"
    );
    let mut world = World::of(Kind::Plain).account(1, &[-11]);
    world.listing = listing("1.srv", "plain-0", "-11");
    assert_eq!(
        world.breaches(),
        [1, 0, 0, 0, 0, 0],
        "nobody did anything to it"
    );
    let world = World::of(Kind::Plain).ran("start node01-gpu0\n1.20 beat\n");
    assert_eq!(
        world.breaches(),
        [1, 0, 0, 0, 0, 0],
        "it never came to its end"
    );
    let mut world = World::of(Kind::Inside).account(0, &[125]);
    world.listing = listing("1.srv", "inside-0", "125");
    fs::remove_dir_all(world.folder.path().join("runs")).unwrap();
    fs::create_dir(world.folder.path().join("runs")).unwrap();
    assert_eq!(world.breaches()[0], 1, "its node could not start it");
}

#[test]
fn cards_that_were_not_lent_are_found() {
    for (cards, told, found) in [
        ("node01-gpu0", "0 0", 0),
        ("node01-gpu1", "0 1", 1),
        ("node02-gpu0", "0 0", 1),
        ("node01-gpu0 node01-gpu1", "0 0,1", 1),
        ("", "0", 1),
        ("node01-gpu0", "0 0,1", 1),
        ("node01-gpu0", "0", 1),
        ("node01-gpu0", "1 0", 1),
    ] {
        let lines = format!("start {cards}\n1.00 cuda {told}\n1.20 beat\n1.40 end 0\n");
        let world = World::of(Kind::Plain).ran(&lines);
        assert_eq!(world.breaches()[5], found, "{cards}, told {told}");
    }
}

#[test]
fn what_two_attempts_hold_at_one_moment_is_found() {
    let mut holders = Holders::default();
    let mut take = |thing: &str, attempt| holders.take(thing.to_owned(), attempt).is_some();
    assert!(!take("card 1", 7));
    assert!(!take("card 2", 8));
    assert!(!take("card 1", 7), "its own");
    assert!(take("card 1", 8));
}

#[test]
fn what_is_left_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let (state, groups) = (folder.path().join("state"), folder.path().join("cgroup"));
    fs::create_dir_all(state.join("containers/images")).unwrap();
    fs::create_dir_all(groups.join("cpu/capstan/0a1b/attempts")).unwrap();
    assert!(left::files(&state).is_empty());
    assert!(left::groups(&groups, "0a1b").is_empty());
    for kept in ["attempts/7", "spool/1.srv.OU", "containers/scripts/one"] {
        fs::create_dir_all(state.join(kept)).unwrap();
    }
    assert_eq!(left::files(&state).len(), 3);
    fs::create_dir(groups.join("cpu/capstan/0a1b/att-7")).unwrap();
    fs::create_dir_all(groups.join("cpu/capstan/another/att-7")).unwrap();
    assert_eq!(left::groups(&groups, "0a1b").len(), 1);
    assert!(left::processes(folder.path()).is_empty());
    let file = format!("{}/nodes", folder.path().display());
    let mut sleep = Command::new("sleep");
    let mut process = sleep.arg("600").env("PBS_NODEFILE", file).spawn().unwrap();
    wait_until(
        "the process of the job is seen",
        || match left::processes(folder.path()).len() {
            1 => Ok(()),
            seen => Err(seen),
        },
    );
    process.kill().unwrap();
    process.wait().unwrap();
}

#[test]
fn an_end_that_is_accounted_twice_or_never_or_otherwise_is_found() {
    for (starts, ends) in [(1, &[0, 0][..]), (1, &[]), (1, &[1]), (0, &[0])] {
        let world = World::of(Kind::Plain).account(starts, ends);
        assert_eq!(world.breaches(), [0, 1, 0, 0, 0, 0], "{starts} {ends:?}");
    }
}

#[test]
fn a_job_that_may_not_run_again_and_does_is_found() {
    let world = World::of(Kind::Once).account(2, &[0]);
    ran(
        world.folder.path(),
        "1.srv",
        "0.10",
        "start node01-gpu0\n0.20 beat\n",
    );
    assert_eq!(world.breaches(), [0, 0, 1, 0, 0, 0]);
}

#[test]
fn a_line_that_was_lost_is_found() {
    let world = World::of(Kind::Plain);
    let path = world.folder.path().join("plain-0.o1");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("runs/1.srv+1.00+77 tick 0\n", "")).unwrap();
    assert_eq!(world.breaches(), [0, 0, 0, 1, 0, 0]);
}

#[test]
fn a_line_of_a_container_may_be_lost_only_with_its_engine() {
    let lost = |killed: &[u64]| {
        let mut world = World::of(Kind::Container)
            .account(1, &[4])
            .ran("start node01-gpu0\n1.20 beat\n1.40 end 4\n");
        world.listing = listing("1.srv", "container-0", "4");
        world.done.engine = killed.to_vec();
        let output = "runs/1.srv+1.00+77 began\nruns/1.srv+1.00+77 done 4\n";
        fs::write(world.folder.path().join("container-0.o1"), output).unwrap();
        world.breaches()
    };
    assert_eq!(lost(&[110]), [0; 6]);
    for killed in [&[][..], &[2000]] {
        assert_eq!(lost(killed), [0, 0, 0, 1, 0, 0], "{killed:?}");
    }
}

#[test]
fn a_job_that_was_accepted_and_is_not_there_and_one_that_nobody_sent_are_found() {
    let mut world = World::of(Kind::Plain);
    world.listing.clear();
    assert_eq!(world.breaches()[4], 1, "accepted, and lost");
    let mut world = World::of(Kind::Cut);
    world.done.sent[0].answer = None;
    assert_eq!(
        world.breaches()[4],
        0,
        "whoever got no answer may have one job"
    );
    world.listing += &listing("2.srv", "cut-0", "0");
    assert_eq!(world.breaches()[4], 1, "and not two");
}
