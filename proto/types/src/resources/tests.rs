//! The rules of a resource list.

use super::*;

fn set(argument: &str) -> Result<String, (u8, String)> {
    let mut list = ResourceList::default();
    for (name, value) in split_resources(argument).map_err(|error| (1, error.to_string()))? {
        let failed = |error: ParseError| (error.class.pbse().exit_status(), name.to_owned());
        list.set(name, value).map_err(failed)?;
    }
    Ok(shown(&list))
}

fn shown(list: &ResourceList) -> String {
    let pairs: Vec<_> = list
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join(" ")
}

fn check(argument: &str, expected: &str) {
    assert_eq!(set(argument).as_deref(), Ok(expected), "{argument}");
}

fn refuse(argument: &str, exit_status: u8) {
    let seen = set(argument).map_err(|(status, _)| status);
    assert_eq!(seen, Err(exit_status), "{argument}");
}

#[test]
fn values_print_in_normal_form() {
    check("walltime=300", "walltime=00:05:00");
    check(
        "walltime=100:00:00,cput=1.5",
        "walltime=100:00:00 cput=00:00:02",
    );
    check("mem=1073741824", "mem=1073741824b");
    check("mem=1GB,vmem=1g", "mem=1gb vmem=1gb");
    check("ncpus=007", "ncpus=7");
    check("nice=-5", "nice=-5");
    check("srfs_assist=y", "srfs_assist=True");
    check("gres=a:1+b:2", "gres=a:1+b:2");
    check("nodes=1:ppn=2#excl", "nodes=1:ppn=2#excl");
}

#[test]
fn each_kind_refuses_what_it_is_not() {
    for bad in [
        "walltime=x",
        "mem=x",
        "ncpus=-1",
        "ncpus=4294967296",
        "nice=1.5",
        "srfs_assist=2",
    ] {
        refuse(bad, 168);
    }
    refuse("nodes=4294967295:ppn=4294967295", 190);
    refuse(
        &format!("gres={}", "x".repeat(ResourceList::TEXT_BYTES_MAX + 1)),
        190,
    );
    refuse("walltime", 1);
    check("walltime=,mem=,ncpus=,gres=", "");
}

#[test]
fn elements_split_at_commas_outside_quotes() {
    let check = |argument: &str, expected: &[(&str, &str)]| {
        assert_eq!(
            split_resources(argument).as_deref(),
            Ok(expected),
            "{argument}"
        );
    };
    check("a=1", &[("a", "1")]);
    check(
        "a=1,b=2:x=3+4,c=",
        &[("a", "1"), ("b", "2:x=3+4"), ("c", "")],
    );
    check(" a = 1 , b=2", &[("a", "1"), ("b", "2")]);
    check("a=\"1,2\",b='3,4'", &[("a", "1,2"), ("b", "3,4")]);
    check("a='1,b=2", &[("a", "'1"), ("b", "2")]);
    check("a='", &[("a", "'")]);
    for (bad, element) in [
        ("", ""),
        ("a", "a"),
        ("a=1,b", "b"),
        ("a=1,", ""),
        ("=1", "=1"),
    ] {
        let error = split_resources(bad).unwrap_err();
        assert_eq!(error.element, element, "{bad}");
    }
    assert_eq!(
        split_resources("x=1,walltime").unwrap_err().to_string(),
        "Cannot find an attr=value pair in comma separated value 'walltime'"
    );
}

#[test]
fn the_later_of_two_wins_in_the_earlier_place() {
    check("mem=1gb,ncpus=1,mem=2gb", "mem=2gb ncpus=1");
    check("mem=1gb,ncpus=1,mem=", "ncpus=1");
}

#[test]
fn defaults_fill_what_is_missing() {
    let list = |argument: &str| {
        let mut list = ResourceList::default();
        for (name, value) in split_resources(argument).unwrap() {
            list.set(name, value).unwrap();
        }
        list
    };
    let defaults = list("nodes=1,walltime=1:00:00");
    let check = |argument: &str, expected: &str| {
        let mut asked = list(argument);
        asked.merge_defaults(&defaults);
        assert_eq!(shown(&asked), expected);
    };
    check("mem=1gb", "mem=1gb nodes=1 walltime=01:00:00");
    check("ncpus=2", "ncpus=2 walltime=01:00:00");
    check("nodes=2,walltime=5", "nodes=2 walltime=00:00:05");
}
