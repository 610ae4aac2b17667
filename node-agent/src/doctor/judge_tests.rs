//! Each finding, from a host that is well but for one thing.

use std::path::PathBuf;

use capstan_supervisor::images::Disk;

use super::super::confinement::Confinement;
use super::super::facts::{Cgroups, Clock, Disks, Names};
use super::*;

/// A node without cards on which nothing is wrong.
fn well() -> Facts {
    let disk = |path: &str| {
        let disk = Disk {
            bytes: 500 << 30,
            used_bytes: 100 << 30,
        };
        Some((PathBuf::from(path), disk))
    };
    let engine = EngineFacts {
        version: "20.10.24+dfsg1".to_owned(),
        keeps_containers: true,
        shares_mounts: true,
        ..EngineFacts::default()
    };
    Facts {
        node: "gpu01".to_owned(),
        is_root: true,
        kernel: "6.1.0-18-amd64".to_owned(),
        cgroups: Cgroups {
            is_v2: true,
            is_mounted: true,
            controllers: ["cpu", "cpuset", "memory", "pids"]
                .map(str::to_owned)
                .into(),
        },
        engine: Engine {
            socket: "/var/run/docker.sock".into(),
            has_socket: true,
            has_program: true,
            facts: Ok(engine),
            cards: CardsInContainers::Auto,
        },
        nvidia: Nvidia::default(),
        confinement: Confinement {
            has_apparmor_parser: true,
            ..Confinement::default()
        },
        volumes: vec![volume(Folder::Mounted, true)],
        clock: Clock {
            is_kept: Some(true),
            server_ahead_ms: Some(3),
        },
        names: Names {
            server: "hn1:7000".to_owned(),
            own: Ok(vec![[10, 0, 0, 2].into()]),
            of_server: Ok(vec![[10, 0, 0, 1].into()]),
            port: Ok(()),
        },
        disks: Disks {
            images: disk("/var/lib/docker"),
            state: disk("/var/lib/capstan-agent"),
            images_on_root: true,
        },
    }
}

fn volume(state: Folder, in_fstab: bool) -> VolumeSeen {
    VolumeSeen {
        name: "home".to_owned(),
        path: "/ghome".into(),
        state,
        in_fstab,
    }
}

/// With cards of NVIDIA and all they need, but seen by no driver yet.
fn with_cards(facts: &mut Facts) {
    facts.nvidia = Nvidia {
        on_bus: 2,
        has_headers: true,
        has_toolkit: true,
        ..Nvidia::default()
    };
}

/// What is found when `spoil` is done to a host that is well: exactly this, in order, each with a line to type.
fn check(spoil: impl FnOnce(&mut Facts), expected: &[(&str, Weight)]) -> Vec<Finding> {
    let mut facts = well();
    spoil(&mut facts);
    let findings = judge(&facts);
    let found: Vec<_> = findings
        .iter()
        .map(|finding| (finding.check, finding.weight))
        .collect();
    assert_eq!(found, expected);
    for finding in &findings {
        assert!(!finding.what.is_empty() && !finding.why.is_empty() && !finding.mend.is_empty());
        assert!(!finding.mend.contains('\n'), "one line: {}", finding.mend);
    }
    findings
}

use Weight::{Broken, Warning};

fn engine_of(facts: &mut Facts) -> &mut EngineFacts {
    facts.engine.facts.as_mut().unwrap()
}

#[test]
fn a_host_that_is_well_has_no_findings() {
    check(|_| {}, &[]);
}

#[test]
fn without_root_little_can_be_done() {
    check(|facts| facts.is_root = false, &[("not-root", Warning)]);
}

#[test]
fn old_kernels_lack_calls() {
    let of = |release: &str| {
        let release = release.to_owned();
        move |facts: &mut Facts| facts.kernel = release
    };
    check(of("3.10.0-1160.el7.x86_64"), &[("kernel-old", Broken)]);
    check(of("5.4.0-100-generic"), &[("kernel-old", Broken)]);
    check(of("5.6.1"), &[("kernel-old", Warning)]);
    check(of("5.12.0"), &[]);
    check(of("strange"), &[]);
}

#[test]
fn cgroups_are_wanted_whole_and_of_version_2() {
    check(
        |facts| facts.cgroups = Cgroups::default(),
        &[("cgroups-missing", Broken)],
    );
    check(
        |facts| facts.cgroups.is_v2 = false,
        &[("cgroups-old", Warning)],
    );
    let found = check(
        |facts| facts.cgroups.controllers.retain(|name| name != "memory"),
        &[("cgroups-controllers", Warning)],
    );
    assert!(found[0].mend.contains("cgroup_enable=memory"));
}

#[test]
fn docker_must_be_there_answer_and_be_new_enough() {
    let found = check(
        |facts| {
            facts.engine.facts = Err("connection refused".to_owned());
        },
        &[("docker-silent", Broken)],
    );
    assert!(
        found[0]
            .what
            .contains("/var/run/docker.sock: connection refused")
    );
    check(
        |facts| {
            facts.engine.facts = Err("no such file".to_owned());
            (facts.engine.has_socket, facts.engine.has_program) = (false, false);
        },
        &[("docker-missing", Broken)],
    );
    check(
        |facts| engine_of(facts).version = "19.03.5".to_owned(),
        &[("docker-old", Broken)],
    );
}

#[test]
fn dockers_setting_matters() {
    check(
        |facts| engine_of(facts).cgroups = CgroupDriver::Systemd,
        &[("docker-cgroups", Warning)],
    );
    check(
        |facts| engine_of(facts).cgroups = CgroupDriver::Nobody,
        &[("docker-cgroups", Broken)],
    );
    check(
        |facts| engine_of(facts).shares_mounts = false,
        &[("docker-namespace", Broken)],
    );
    check(
        |facts| engine_of(facts).keeps_containers = false,
        &[("docker-live-restore", Warning)],
    );
}

#[test]
fn cards_without_a_driver_are_told_of_by_their_likeliest_cause() {
    let cards = |change: fn(&mut Nvidia)| {
        move |facts: &mut Facts| {
            with_cards(facts);
            change(&mut facts.nvidia);
        }
    };
    check(cards(|_| {}), &[("nvidia-missing", Broken)]);
    check(
        cards(|nvidia| nvidia.has_nouveau = true),
        &[("nvidia-nouveau", Broken)],
    );
    let found = check(
        cards(|nvidia| (nvidia.has_dkms, nvidia.has_headers) = (true, false)),
        &[("nvidia-headers", Broken)],
    );
    assert!(found[0].mend.contains("linux-headers-6.1.0-18-amd64"));
    check(
        cards(|nvidia| nvidia.has_driver_files = true),
        &[("nvidia-module", Broken)],
    );
    check(cards(|nvidia| nvidia.is_unwanted = true), &[]);
}

#[test]
fn a_driver_that_does_not_answer_or_misses_cards_is_told_of() {
    let spoil = |problem: Option<&'static str>| {
        move |facts: &mut Facts| {
            with_cards(facts);
            facts.nvidia.module = Some("550.54.15".to_owned());
            facts.nvidia.problem = problem.map(str::to_owned);
        }
    };
    let found = check(
        spoil(Some("Driver/library version mismatch")),
        &[("nvidia-driver", Broken)],
    );
    assert!(found[0].mend.starts_with("reboot"));
    let found = check(spoil(Some("GPU is lost")), &[("nvidia-driver", Broken)]);
    assert!(found[0].mend.contains("dmesg"));
    check(spoil(None), &[("nvidia-cards", Warning)]);
}

#[test]
fn cards_reach_containers_only_by_the_toolkit() {
    let spoil = |has_toolkit: bool, cards| {
        move |facts: &mut Facts| {
            with_cards(facts);
            facts.nvidia.module = Some("550.54.15".to_owned());
            facts.nvidia.has_toolkit = has_toolkit;
            facts.nvidia.on_bus = 0;
            facts.nvidia.cards = 1;
            facts.engine.cards = cards;
        }
    };
    check(spoil(true, CardsInContainers::Auto), &[]);
    check(
        spoil(false, CardsInContainers::Auto),
        &[("nvidia-toolkit", Broken)],
    );
    check(spoil(false, CardsInContainers::Environment), &[]);
}

#[test]
fn volumes_are_there_and_mounted_where_fstab_says_so() {
    let with =
        |state, in_fstab| move |facts: &mut Facts| facts.volumes = vec![volume(state, in_fstab)];
    check(with(Folder::Plain, false), &[]);
    let found = check(with(Folder::Plain, true), &[("volume-unmounted", Broken)]);
    assert_eq!(found[0].mend, "mount /ghome");
    check(with(Folder::Missing, false), &[("volume-missing", Warning)]);
    check(with(Folder::Other, false), &[("volume-missing", Broken)]);
    check(with(Folder::Silent, true), &[("volume-silent", Broken)]);
}

#[test]
fn clocks_are_kept_and_agree_with_the_servers() {
    check(
        |facts| facts.clock.is_kept = Some(false),
        &[("clock-unkept", Warning)],
    );
    check(|facts| facts.clock = Clock::default(), &[]);
    let found = check(
        |facts| facts.clock.server_ahead_ms = Some(-90_000),
        &[("clock-apart", Warning)],
    );
    assert_eq!(
        found[0].what,
        "the server's clock is 90 s behind this host's"
    );
    check(
        |facts| facts.clock.server_ahead_ms = Some(i64::MIN),
        &[("clock-apart", Warning)],
    );
}

#[test]
fn names_have_addresses_that_others_can_use() {
    check(
        |facts| facts.names.own = Err("not known".to_owned()),
        &[("name-unknown", Warning)],
    );
    let loopback = || vec![[127, 0, 1, 1].into()];
    check(
        |facts| facts.names.own = Ok(loopback()),
        &[("name-loopback", Warning)],
    );
    check(
        |facts| (facts.names.own, facts.names.of_server) = (Ok(loopback()), Ok(loopback())),
        &[],
    );
    check(
        |facts| facts.names.of_server = Err("not known".to_owned()),
        &[("server-unknown", Broken)],
    );
    check(
        |facts| facts.names.port = Err("nobody takes a connection there".to_owned()),
        &[("server-silent", Broken)],
    );
}

#[test]
fn disks_have_room() {
    let fill = |disk: &mut Option<(PathBuf, Disk)>, percent: u64| {
        if let Some((_, disk)) = disk {
            disk.used_bytes = disk.bytes / 100 * percent;
        }
    };
    check(
        |facts| fill(&mut facts.disks.images, 90),
        &[("images-full", Warning)],
    );
    check(
        |facts| fill(&mut facts.disks.images, 99),
        &[("images-full", Broken)],
    );
    check(|facts| fill(&mut facts.disks.state, 90), &[]);
    check(
        |facts| fill(&mut facts.disks.state, 99),
        &[("state-full", Broken)],
    );
    let small = |on_root: bool| {
        move |facts: &mut Facts| {
            let disk = Disk {
                bytes: 20 << 30,
                used_bytes: 1 << 30,
            };
            facts.disks.images = Some(("/var/lib/docker".into(), disk));
            facts.disks.images_on_root = on_root;
        }
    };
    check(small(true), &[("images-on-root", Warning)]);
    check(small(false), &[]);
}

#[test]
fn what_is_broken_stands_first() {
    check(
        |facts| {
            facts.is_root = false;
            facts.names.port = Err("nobody".to_owned());
        },
        &[("server-silent", Broken), ("not-root", Warning)],
    );
}
