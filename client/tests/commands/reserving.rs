//! `pbs_rsub`, `pbs_rstat` and `pbs_rdel`: what they ask the server, and what they show of it.

use std::os::unix::fs::symlink;

use capstan_proto::wire::{Attribute, ReservationRow};
use capstan_types::Pbse;

use crate::fake::no;
use crate::{Stage, outcome};

fn stage() -> Stage {
    let stage = Stage::new();
    for name in ["pbs_rsub", "pbs_rstat", "pbs_rdel"] {
        symlink("capstan", stage.folder.path().join(name)).unwrap();
    }
    stage
}

fn row() -> ReservationRow {
    let attribute = |name: &str, resource: &str, value: &str| Attribute {
        name: name.to_owned(),
        resource: resource.to_owned(),
        value: value.to_owned(),
    };
    ReservationRow {
        id: "R12.hn1".to_owned(),
        name: "course".to_owned(),
        queue: "R12".to_owned(),
        owner: "alice@hn1".to_owned(),
        state: "RESV_CONFIRMED".to_owned(),
        start_secs: 4_102_444_800,
        end_secs: 4_102_448_400,
        attributes: vec![
            attribute("Reserve_Name", "", "course"),
            attribute("reserve_start", "", "4102444800"),
            attribute("Resource_List", "nodes", "2:gpus=4"),
        ],
    }
}

#[test]
fn a_reservation_is_asked_for_and_its_id_is_printed() {
    let stage = stage();
    let line = "pbs_rsub -N course -l nodes=2:gpus=4 -R 209901010000 -D 3600 -U bob,carol@*";
    assert_eq!(stage.run(line), outcome("R12.hn1 CONFIRMED\n", "", 0));
    let world = stage.server.world();
    let [heard] = &world.heard[..] else {
        panic!("{:?}", world.heard);
    };
    for part in [
        "name: \"course\"",
        "resource: \"nodes\"",
        "value: \"2:gpus=4\"",
        "users: [\"bob\", \"carol@*\"]",
    ] {
        assert!(heard.contains(part), "{heard}");
    }
}

#[test]
fn what_is_missing_is_told_with_the_error_number_as_exit_status() {
    let stage = stage();
    let refusal = no(Pbse::Excqresc, "it wants 2 nodes");
    stage
        .server
        .world()
        .refusals
        .insert("reserve".into(), refusal);
    let seen = stage.run("pbs_rsub -l nodes=2 -D 60");
    assert!(
        seen.stderr
            .starts_with("pbs_rsub: Job exceeds queue resource limits"),
        "{seen:?}"
    );
    assert!(seen.stderr.ends_with("it wants 2 nodes\n"), "{seen:?}");
    assert_eq!(seen.status, Some(i32::from(Pbse::Excqresc.exit_status())));
    let seen = stage.run("pbs_rsub -l nodes=2");
    assert!(seen.stderr.starts_with("pbs_rsub: no end"), "{seen:?}");
    assert_eq!(seen.status, Some(2));
}

#[test]
fn reservations_are_listed_short_full_and_as_json() {
    let stage = stage();
    stage.server.world().reservations.push(row());
    let seen = stage.run("pbs_rstat");
    assert!(
        seen.stdout
            .contains("\nR12.hn1         R12       alice     CO     "),
        "{seen:?}"
    );
    assert!(seen.stdout.contains(" / 3600 / "), "{seen:?}");
    let seen = stage.run("pbs_rstat -f R12");
    assert!(
        seen.stdout
            .starts_with("Resv ID: R12.hn1\nReserve_Name = course\nreserve_start = "),
        "{seen:?}"
    );
    assert!(
        seen.stdout.ends_with("Resource_List.nodes = 2:gpus=4\n\n"),
        "{seen:?}"
    );
    let seen = stage.run("pbs_rstat -F json");
    assert!(
        seen.stdout
            .starts_with("{\"reservations\":[{\"name\":\"R12.hn1\""),
        "{seen:?}"
    );
    assert_eq!(
        stage.run("pbs_rstat -B"),
        outcome("Resv ID: R12.hn1\n", "", 0)
    );
    assert_eq!(stage.run("pbs_rstat -Z").status, Some(2));
}

#[test]
fn reservations_are_taken_back_one_by_one() {
    let stage = stage();
    let refusal = no(Pbse::Perm, "");
    stage.server.world().refusals.insert("R13".into(), refusal);
    let seen = stage.run("pbs_rdel R12.hn1 R13");
    assert_eq!(seen.stderr, "pbs_rdel: Unauthorized Request  R13\n");
    assert_eq!(seen.status, Some(i32::from(Pbse::Perm.exit_status())));
    assert_eq!(stage.server.world().heard, ["cancel R12.hn1", "cancel R13"]);
    assert_eq!(stage.run("pbs_rdel").status, Some(2));
}
