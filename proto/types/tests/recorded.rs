//! What a running Torque 6.1.3 answered in recorded sessions (their names behind each test), as far as words decide it.
//! Requests that Torque refused because no node could serve them are good words, and so are taken here.

use capstan_types::{
    ArrayRequest, Dependency, NodeSpec, ResourceList, directives, resource, split_resources,
};

/// What `qsub -l ARGUMENT` comes to: the values in the order asked, or the exit status.
fn asked(argument: &str) -> Result<Vec<String>, u8> {
    let mut list = ResourceList::default();
    for (name, value) in split_resources(argument).map_err(|_| 1)? {
        let status = |error: capstan_types::ParseError| error.class.pbse().exit_status();
        resource(name).ok_or(189)?;
        list.set(name, value).map_err(status)?;
    }
    Ok(list.iter().map(|(_, value)| value.to_owned()).collect())
}

#[test]
fn bad_resources_are_refused_with_the_exit_status_of_torque_b05() {
    let refuse =
        |argument: &str, status: u8| assert_eq!(asked(argument), Err(status), "{argument}");
    refuse("nosuchres=1", 189);
    for bad in [
        "walltime=abc",
        "walltime=1:2:3:4:5",
        "walltime=-5",
        "cput=1:xx",
    ] {
        refuse(bad, 168);
    }
    for bad in [
        "mem=4zb",
        "mem=abc",
        "ncpus=abc",
        "procs=abc",
        "nice=abc",
        "file=x",
    ] {
        refuse(bad, 168);
    }
    for bad in ["", "2x", "1 :ppn=2", "1+", ":ppn=1"] {
        refuse(&format!("nodes={bad}"), 168);
    }
    for bad in ["0", "1:ppn=0", "1:ppn=x", "1:ppn=", "1:gpus=x", "1:foo=bar"] {
        refuse(&format!("nodes={bad}"), 27);
    }
    refuse("nodes=1:gpus=1:prohibited", 68);
    refuse("walltime", 1);
}

#[test]
fn good_words_are_taken_whatever_the_nodes_b05() {
    for good in [
        "abc",
        "99",
        "1:ppn=99",
        "1:nosuchprop",
        "gpu01:ppn=2+nosuchhost",
        "1:gpus=9",
    ] {
        assert_eq!(asked(&format!("nodes={good}")), Ok(vec![good.to_owned()]));
    }
    assert_eq!(
        asked("nodes=1:ppn=2:ppn=3"),
        Ok(vec!["1:ppn=2:ppn=3".to_owned()])
    );
    assert_eq!(asked("procs=999"), Ok(vec!["999".to_owned()]));
    assert_eq!(asked("walltime="), Ok(Vec::new()));
    assert_eq!(asked("mem=1gbb"), Ok(vec!["1gb".to_owned()]));
}

#[test]
fn sizes_keep_their_unit_b07() {
    let check = |typed: &str, shown: &str| {
        assert_eq!(asked(&format!("mem={typed}")), Ok(vec![shown.to_owned()]));
    };
    for same in [
        "1gb",
        "1024mb",
        "1048576kb",
        "1073741824b",
        "1000mw",
        "1500kb",
        "2tb",
    ] {
        check(same, same);
    }
    check("1073741824", "1073741824b");
    check("1GB", "1gb");
    check("1g", "1gb");
    check("10m", "10mb");
    check("0", "0b");
}

#[test]
fn node_requests_show_as_typed_and_count_their_nodes_b08() {
    let check = |typed: &str, nodect: u32| {
        let spec = NodeSpec::parse(typed).unwrap();
        assert_eq!(
            (spec.to_string().as_str(), spec.node_count()),
            (typed, nodect)
        );
    };
    for one in [
        "1",
        "gpu01",
        "fast",
        "1:gpus=1",
        "1:ppn=2:gpus=2:exclusive_process",
        "1:gpu:fast",
    ] {
        check(one, 1);
    }
    for mode in [
        "shared",
        "default",
        "exclusive",
        "exclusive_thread",
        "reseterr",
    ] {
        check(&format!("1:gpus=1:{mode}"), 1);
        let spec = NodeSpec::parse(&format!("1:gpus=1:{mode}")).unwrap();
        assert!(
            spec.chunks[0].properties.is_empty(),
            "{mode} is no property"
        );
    }
    check("2:ppn=2", 2);
    check("gpu01:ppn=2+gpu02:ppn=1", 2);
    check("1:bigmem+2:gpu:ppn=2", 3);
    check("3", 3);
    check("2:ppn=4:gpus=2", 2);
    check("gpu01+gpu01", 2);
    for suffix in ["shared", "excl"] {
        let spec = NodeSpec::parse(&format!("1:ppn=2#{suffix}")).unwrap();
        assert_eq!(spec.chunks[0].properties, [suffix.into()], "no node has it");
    }
    assert_eq!(asked("nodes=cpu01/0"), Err(168));
}

/// The scripts of the sessions as the answers show them to be.
#[test]
fn directives_are_found_as_torque_found_them_b15_b16() {
    let check = |script: &str, prefix: &str, expected: &str| {
        let found = directives(script, prefix).unwrap();
        let arguments: Vec<_> = found
            .into_iter()
            .flat_map(|found| found.arguments)
            .collect();
        assert_eq!(arguments.join(" "), expected, "{script:?}");
    };
    let two = "#!/bin/sh\n#PBS -N pbsname\n#XX -N xxname\nsleep 1\n";
    check(two, "#PBS", "-N pbsname");
    check(two, "#XX", "-N xxname");
    check(two, "", "");
    check(
        "#PBS -N cont \\\n-p 11 \\\n-h\ntrue\n",
        "#PBS",
        "-N cont -p 11 -h",
    );
    let lower = "#pbs -N lower\n# PBS -N spaced\n#PBS\t-N\ttabbed\n#PBS-p 5\ntrue\n";
    check(lower, "#PBS", "-N tabbed -p 5");
    check("#PBS -Z\ntrue\n", "#PBS", "-Z");
}

#[test]
fn dependency_words_are_taken_f03() {
    for good in [
        "afterok:332.hn1",
        "afterany:332.hn1",
        "afternotok:332.hn1",
        "afterok:123456",
        "beforeok:338.hn1",
        "afterok:342.hn1:343.hn1,afterany:342.hn1",
        "synccount:1",
        "syncwith:345.hn1",
    ] {
        assert!(Dependency::parse_list(good).is_ok(), "{good}");
    }
    let status = |text| {
        Dependency::parse_list(text)
            .unwrap_err()
            .class
            .pbse()
            .exit_status()
    };
    assert_eq!((status("afterok"), status("afterok:")), (208, 208));
    assert!(Dependency::parse_list("").is_err());
}

#[test]
fn index_lists_make_the_recorded_members_g03() {
    let check = |typed: &str, members: &[u32]| {
        let request = ArrayRequest::parse(typed).unwrap();
        assert!(
            request.indices.iter().eq(members.iter().copied()),
            "{typed}"
        );
        assert_eq!(request.to_string(), typed);
    };
    check("0", &[0]);
    check("5", &[5]);
    check("1-3", &[1, 2, 3]);
    check("1,3,5", &[1, 3, 5]);
    check("1-3,7,9-10", &[1, 2, 3, 7, 9, 10]);
    check("0-3%2", &[0, 1, 2, 3]);
    check("1-3%0", &[1, 2, 3]);
    check("1-3%x", &[1, 2, 3]);
    check("01-03", &[1, 2, 3]);
    check("1, 2", &[1, 2]);
    check("0-2,1-3", &[0, 1, 2, 3]);
    for bad in ["3-1", "1-3:2", "a", "1-"] {
        assert!(ArrayRequest::parse(bad).is_err(), "{bad}");
    }
}
