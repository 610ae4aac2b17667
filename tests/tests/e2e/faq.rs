//! What the seed cluster's users asked again and again (rows S2-92 to S2-105 of its guides), answered: each line works
//! without any flag, in every kind of image that people bring; and the lines that real users ran, word for word.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use capstan_tests::images::{self, Image};
use capstan_tests::{Cluster, User, wait_until};

use crate::is_root;

/// A cluster of one node with volumes of its own and a user in them.
struct Site {
    cluster: Cluster,
    volumes: tempfile::TempDir,
    alice: User,
    images: &'static [Image],
}

impl Site {
    fn up() -> Option<Self> {
        if !is_root() {
            return None;
        }
        let images = images::matrix()?;
        let volumes = tempfile::Builder::new().prefix("capstan-faq-").tempdir();
        let volumes = volumes.unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(volumes.path(), open).unwrap();
        let alice = User::alice();
        for volume in ["ghome", "gdata"] {
            let folder = volumes.path().join(volume).join(alice.name);
            fs::create_dir_all(&folder).unwrap();
            alice.own(&folder);
        }
        for set in ["ImageNet-Caffe", "leftImg8bit_sequence"] {
            fs::create_dir_all(volumes.path().join("gpub").join(set)).unwrap();
        }
        let root = volumes.path().to_string_lossy().into_owned();
        let cluster = Cluster::up(&[
            "--nodes",
            "1",
            "--cores",
            "4",
            "--cards",
            "2",
            "--debug",
            "--volumes",
            &root,
        ]);
        Some(Self {
            cluster,
            volumes,
            alice,
            images,
        })
    }

    fn volume(&self, name: &str) -> PathBuf {
        self.volumes.path().join(name).join(self.alice.name)
    }

    /// Writes a file of alice's.
    fn write(&self, path: &Path, text: &str, mode: u32) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        self.alice.own(path.parent().unwrap());
        self.alice.own(path);
    }

    /// Runs a script as a job; what it printed.
    fn job(&self, options: &str, script: &str) -> String {
        // Tests run side by side as one user.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let nth = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = self.alice.folder(&format!("faq-{nth}"));
        let options = format!("-d . -j oe -o {}/out {options}", folder.display());
        let job = self.cluster.submit(&self.alice, &folder, &options, script);
        self.cluster.wait_state(&job, "C");
        wait_until("the output is there", || {
            fs::read_to_string(folder.join("out"))
        })
    }

    /// Runs one line in every image, and checks what it prints; `line` begins with a tool.
    fn check_all(&self, row: &str, options: &str, line: &str, expected: &str) {
        let mut script = String::new();
        for image in self.images {
            script += &format!(
                "echo '== {0}'; startdocker -c '{1}{line}' {0} 2>&1\n",
                image.name, image.tool
            );
        }
        let output = self.job(options, &script);
        for image in self.images {
            let start = format!("== {}\n", image.name);
            let (_, rest) = output
                .split_once(&start)
                .unwrap_or_else(|| panic!("{row}: {output}"));
            let part = rest.split("== ").next().unwrap_or(rest);
            assert!(
                part.lines().any(|seen| seen == expected),
                "{row} in {}: {part}",
                image.name
            );
        }
    }
}

#[test]
fn a_host_without_cards_says_how_to_run_the_line_as_a_job_s2_92() {
    let Some(site) = Site::up() else { return };
    let line = format!("startdocker -c id {}", images::SMALL.name);
    let ran = site.cluster.sh(&site.alice, &line);
    assert_eq!(ran.status, 125, "{ran:?}");
    assert!(ran.stderr.contains("| qsub"), "{ran:?}");
}

#[test]
fn work_goes_on_when_its_client_or_agent_loses_touch_s2_93() {
    let Some(mut site) = Site::up() else { return };
    let folder = site.alice.folder("faq-lost");
    let script = format!(
        "startdocker -c 'touch begun; while [ ! -e go ]; do sleep 1; done; echo finished' {}",
        images::SMALL.name
    );
    let options = format!("-d . -j oe -o {}/out", folder.display());
    let job = site.cluster.submit(&site.alice, &folder, &options, &script);
    wait_until("the container runs", || {
        match folder.join("begun").exists() {
            true => Ok(()),
            false => Err(site.cluster.attribute(&job, "job_state")),
        }
    });
    site.cluster.kill("node01");
    site.cluster.start("node01");
    fs::write(folder.join("go"), "").unwrap();
    site.cluster.wait_state(&job, "C");
    let output = wait_until("the output is there", || {
        fs::read_to_string(folder.join("out"))
    });
    assert!(output.contains("finished"), "{output}");
    assert_eq!(
        site.cluster.attribute(&job, "exit_status").as_deref(),
        Some("0"),
        "{output}"
    );
}

#[test]
fn the_user_has_a_name_in_every_image_s2_94_s2_104_s2_105() {
    let Some(site) = Site::up() else { return };
    let name = site.alice.name;
    // Nobody is in a group of the engine's.
    let groups = site.cluster.sh(&site.alice, "id -Gn").ok();
    assert!(!groups.contains("docker"), "{groups}");
    site.check_all("S2-94", "", "whoami", name);
    site.check_all("S2-94", "", "id -u", &site.alice.uid.to_string());
    for (variable, value) in [
        ("USER", name.to_owned()),
        ("LOGNAME", name.to_owned()),
        ("HOME", site.alice.home.display().to_string()),
        ("SHELL", "/bin/bash".to_owned()),
    ] {
        let line = format!("env | grep ^{variable}=");
        for image in site.images.iter().filter(|image| image.has_shell) {
            let output = site.job("", &format!("startdocker -c '{line}' {} 2>&1", image.name));
            assert!(
                output.contains(&format!("{variable}={value}\n")),
                "S2-105 in {}: {output}",
                image.name
            );
        }
    }
    if site.images.contains(&images::DEBIAN) {
        let script = format!(
            "startdocker -c 'python -c \"import getpass; print(getpass.getuser())\"' {0} 2>&1\n\
             startdocker -c 'PS1=\"\\u\"; echo \"prompt=${{PS1@P}}\"' {0} 2>&1\n",
            images::DEBIAN.name
        );
        let output = site.job("", &script);
        assert!(output.contains(&format!("{name}\n")), "S2-105: {output}");
        assert!(
            output.contains(&format!("prompt={name}")),
            "S2-94: {output}"
        );
    }
}

#[test]
fn a_script_runs_without_an_interpreter_line_or_an_execute_bit_s2_95_s2_96() {
    let Some(site) = Site::up() else { return };
    let home = site.volume("ghome");
    for (row, text, mode, said) in [
        (
            "S2-95",
            "echo ran as `whoami`\n",
            0o755,
            "has no interpreter line",
        ),
        (
            "S2-96",
            "#!/bin/sh\necho ran as `whoami`\n",
            0o644,
            "has no execute bit",
        ),
        (
            "both",
            "echo ran as `whoami`\r\n",
            0o644,
            "has CRLF line ends",
        ),
    ] {
        let script = home.join("run.sh");
        site.write(&script, text, mode);
        for image in site.images.iter().filter(|image| image.has_shell) {
            let output = site.job(
                "",
                &format!("startdocker -s {} {} 2>&1", script.display(), image.name),
            );
            assert!(
                output.contains(&format!("ran as {}", site.alice.name)),
                "{row} in {}: {output}",
                image.name
            );
            assert_eq!(
                output.matches(said).count(),
                1,
                "{row} in {}: {output}",
                image.name
            );
        }
    }
    if site.images.contains(&images::DEBIAN) {
        let script = home.join("mytest.py");
        site.write(
            &script,
            "import sys; print('python', sys.version_info[0])\n",
            0o644,
        );
        let output = site.job(
            "",
            &format!(
                "startdocker -s {} {} 2>&1",
                script.display(),
                images::DEBIAN.name
            ),
        );
        assert!(output.contains("python 3"), "S2-06: {output}");
    }
}

#[test]
fn shared_memory_is_a_share_of_the_jobs_without_a_flag_s2_97() {
    let Some(site) = Site::up() else { return };
    for image in site.images {
        let line = format!(
            "{}dd if=/dev/zero of=/dev/shm/x bs=1048576 count=200",
            image.tool
        );
        let output = site.job(
            "-l mem=1gb",
            &format!("startdocker -c '{line}' {} 2>&1; echo code=$?", image.name),
        );
        assert!(
            output.contains("code=0"),
            "S2-97 in {}: {output}",
            image.name
        );
    }
    if site.images.contains(&images::DEBIAN) {
        let line = "from multiprocessing import shared_memory as s; m = s.SharedMemory(create=True, size=2**27); print(len(m.buf)); m.unlink()";
        let script = site.volume("ghome").join("shm.py");
        site.write(&script, line, 0o644);
        let output = site.job(
            "-l mem=1gb",
            &format!(
                "startdocker -s {} {} 2>&1",
                script.display(),
                images::DEBIAN.name
            ),
        );
        assert!(output.contains("134217728"), "S2-97: {output}");
    }
}

#[test]
fn a_node_shows_what_it_has_without_sudo_s2_98() {
    let Some(site) = Site::up() else { return };
    let ran = site.cluster.sh(&site.alice, "pbsnodes node01");
    assert_eq!(ran.status, 0, "{ran:?}");
    for what in ["gpus = 2", "np = 4", "physmem", "loadave"] {
        assert!(ran.stdout.contains(what), "{what}: {ran:?}");
    }
    for line in ["chk_gpuused node01", "chk_res node01"] {
        let ran = site.cluster.sh(&site.alice, line);
        assert_eq!(ran.status, 0, "{line}: {ran:?}");
        assert!(!ran.stdout.is_empty(), "{line}: {ran:?}");
    }
}

#[test]
fn libraries_take_as_many_threads_as_the_job_has_cores_s2_99() {
    let Some(site) = Site::up() else { return };
    for image in site.images.iter().filter(|image| image.has_shell) {
        let script = format!(
            "startdocker -c 'env | grep NUM_THREADS' {0} 2>&1; startdocker -u '-e OMP_NUM_THREADS=9' -c 'env | grep OMP' {0}",
            image.name
        );
        let output = site.job("-l nodes=1:ppn=3", &script);
        for library in ["OMP", "MKL", "OPENBLAS", "NUMEXPR"] {
            assert!(
                output.contains(&format!("{library}_NUM_THREADS=3\n")),
                "S2-99 in {}: {output}",
                image.name
            );
        }
        assert!(
            output.contains("OMP_NUM_THREADS=9\n"),
            "one's own word counts: {output}"
        );
    }
}

#[test]
fn a_package_that_is_missing_in_the_image_is_mounted_s2_100() {
    let Some(site) = Site::up() else { return };
    if !site.images.contains(&images::DEBIAN) {
        return;
    }
    let data = site.volume("gdata");
    site.write(&data.join("pylib/mine.py"), "print('imported')\n", 0o644);
    let (data, image) = (data.display(), images::DEBIAN.name);
    let script = format!(
        "startdocker -u \"-e PYTHONPATH=/data/pylib -v {data}/pylib:/data/pylib\" -c \"python -c 'import mine'\" {image} 2>&1"
    );
    let output = site.job("", &script);
    assert!(output.contains("imported"), "S2-100: {output}");
}

#[test]
fn cards_with_enough_memory_can_be_asked_for_s2_101() {
    let Some(site) = Site::up() else { return };
    let output = site.job("-l nodes=1:gpus=1 -l gpumem=20gb", "echo placed");
    assert!(output.contains("placed"), "S2-101: {output}");
    let refused = site.cluster.sh(
        &site.alice,
        "echo true | qsub -l nodes=1:gpus=1 -l gpumem=999gb",
    );
    assert_ne!(refused.status, 0, "S2-101: {refused:?}");
}

#[test]
fn a_container_tells_the_time_of_its_host_s2_103() {
    let Some(site) = Site::up() else { return };
    let here = site.cluster.sh(&site.alice, "date +%z").ok();
    site.check_all("S2-103", "", "date +%z", &here);
}

/// The lines of `startdocker`'s own page, with this site's paths and image.
#[test]
fn the_lines_that_real_users_ran_run() {
    let Some(site) = Site::up() else { return };
    let (home, data) = (site.volume("ghome"), site.volume("gdata"));
    site.write(
        &home.join("run.sh"),
        "#!/bin/sh\necho \"ran in $PWD\"\n",
        0o755,
    );
    site.write(&home.join("mytest.py"), "#!/bin/sh\necho a test\n", 0o755);
    site.write(&home.join("run_in_docker.py"), "#!/bin/sh\npwd\n", 0o755);
    site.write(
        &home.join("VSS/scripts/train.sh"),
        "#!/bin/sh\nls -d /gpub/* || df /dev/shm\n",
        0o755,
    );
    site.write(
        &data.join("proc1/shell/my.sh"),
        "#!/bin/sh\necho my script\n",
        0o755,
    );
    site.write(&data.join("proj1/sample"), "x\n", 0o644);
    let lines = [
        (r#"startdocker -u "-it" -c /bin/sh IMAGE"#, ""),
        (
            r#"startdocker -u "-it -v /gdata/USER:/gdata/USER -v /gpub/ImageNet-Caffe:/gpub/ImageNet-Caffe" -c /bin/sh IMAGE"#,
            "",
        ),
        (
            r#"startdocker -u "-v /gdata/USER:/gdata/USER -v /gpub/ImageNet-Caffe:/gpub/ImageNet-Caffe" -s /ghome/USER/run.sh IMAGE"#,
            "ran in",
        ),
        (
            r#"startdocker -u "-v /gdata/USER:/gdata/USER -w ${PWD}" -s /ghome/USER/run.sh IMAGE"#,
            "ran in",
        ),
        (r#"startdocker -s /ghome/USER/mytest.py IMAGE"#, "a test"),
        (r#"startdocker -c "which cat" IMAGE"#, "/bin/cat"),
        (
            r#"startdocker -c "sh /ghome/USER/mytest.py"  IMAGE"#,
            "a test",
        ),
        (
            r#"startdocker -P /gdata/USER/proc1 -s shell/my.sh -D /gdata/USER/proj1 IMAGE"#,
            "my script",
        ),
        (
            r#"startdocker -u "-v /gdata/USER:/USER" -c "ls /USER" IMAGE"#,
            "proj1",
        ),
        (
            "startdocker -u \"--ipc=host -v /gpub/leftImg8bit_sequence:/gpub/leftImg8bit_sequence --shm-size 8G\" \\\n  -D \"/gdata/USER\" -s \"/ghome/USER/VSS/scripts/train.sh\" IMAGE",
            "",
        ),
        (
            r#"startdocker -u "-v /gdata/USER:/gdata/USER -w /ghome/USER" -s /ghome/USER/run_in_docker.py IMAGE"#,
            "/ghome/USER",
        ),
        (
            r#"startdocker -u "-e PYTHONPATH=/data/pylib -v /gdata/USER/proj1:/data/pylib" -c "ls /data/pylib" IMAGE"#,
            "sample",
        ),
    ];
    let root = site.volumes.path().display().to_string();
    let of_site = |text: &str| {
        let text = text
            .replace("IMAGE", images::SMALL.name)
            .replace("USER", site.alice.name);
        let own = [
            ("/gdata/", "gdata"),
            ("/ghome/", "ghome"),
            ("/gpub/", "gpub"),
        ];
        own.iter().fold(text, |text, (path, volume)| {
            text.replace(path, &format!("{root}/{volume}/"))
        })
    };
    let mut script = String::new();
    for (nth, (line, _)) in lines.iter().enumerate() {
        script += &format!(
            "echo '== {nth}.'; {} </dev/null 2>&1; echo \"code=$?\"\n",
            of_site(line)
        );
    }
    let output = site.job("-l nodes=1:gpus=1,mem=1gb", &script);
    for (nth, (line, expected)) in lines.iter().enumerate() {
        let start = format!("== {nth}.\n");
        let (_, rest) = output
            .split_once(&start)
            .unwrap_or_else(|| panic!("{line}: {output}"));
        let part = rest.split("== ").next().unwrap_or(rest);
        assert!(part.contains("code=0"), "{line}: {part}");
        assert!(part.contains(&of_site(expected)), "{line}: {part}");
    }
}

/// And those of `startdocker`'s page that end otherwise: the codes of a shell.
#[test]
fn exit_codes_are_those_of_a_shell_in_every_image() {
    let Some(site) = Site::up() else { return };
    for image in site.images {
        let (name, tool) = (image.name, image.tool);
        let script = format!(
            "startdocker -c /no/such {name} >/dev/null 2>&1; echo missing=$?\n\
             startdocker -c /proc {name} >/dev/null 2>&1; echo folder=$?\n\
             startdocker -c '{tool}false' {name} >/dev/null 2>&1; echo false=$?\n\
             startdocker -u --privileged -c id {name} >/dev/null 2>&1; echo refused=$?\n"
        );
        let output = site.job("", &script);
        for line in ["missing=127", "folder=126", "false=1", "refused=125"] {
            assert!(
                output.lines().any(|seen| seen == line),
                "{line} in {name}: {output}"
            );
        }
    }
}
