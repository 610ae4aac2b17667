//! What `select=` and `place=` are read as.

use super::*;

fn refuse(text: &str, at: usize) {
    let error = Select::parse(text).unwrap_err();
    assert_eq!(error.at, at, "{text}: {error}");
}

#[test]
fn chunks_are_read_and_summed() {
    let check = |text: &str, nodes: &str, expected: (u32, u64, Option<u64>, Option<u64>)| {
        let select = Select::parse(text).unwrap();
        let totals = select.totals();
        let seen = (
            totals.chunks,
            totals.ncpus,
            totals.ngpus,
            totals.memory_bytes,
        );
        assert_eq!(seen, expected, "{text}");
        assert_eq!(select.as_nodes().to_string(), nodes, "{text}");
        assert_eq!(select.to_string(), text);
    };
    let gb = 1 << 30;
    check("1", "1:ppn=1", (1, 1, None, None));
    check("ncpus=4", "1:ppn=4", (1, 4, None, None));
    check(
        "2:ncpus=8:ngpus=4:mem=32gb",
        "2:ppn=8:gpus=4",
        (2, 16, Some(8), Some(64 * gb)),
    );
    check(
        "1:ncpus=1:mem=1gb+3:ncpus=2:fast=True:mpiprocs=2",
        "1:ppn=1+3:ppn=2:fast",
        (4, 7, None, Some(gb)),
    );
    check(
        "2:host=gpu01:ncpus=1",
        "gpu01:ppn=1+gpu01:ppn=1",
        (2, 2, None, None),
    );
    check("1:ncpus=0:mem=1mb", "1:ppn=1", (1, 0, None, Some(1 << 20)));
}

#[test]
fn cards_of_a_kind_are_asked_for_in_words_of_pbs_pro() {
    let check = |text: &str, nodes: &str| {
        let select = Select::parse(text).unwrap();
        assert_eq!(select.as_nodes().to_string(), nodes, "{text}");
    };
    check("1:ngpus=1:gpumem>=24gb", "1:ppn=1:gpus=1:gpumem>=24gb");
    check(
        "2:ncpus=4:naccelerators=2:accelerator_model=a100-80gb|h100",
        "2:ppn=4:gpus=2:a100-80gb|h100",
    );
    check(
        "1:ngpus=1:gpu_mem=8gb:gpu_shared=True:cuda>=12.1:cc=8.6",
        "1:ppn=1:gpus=1:shared:gpumem=8gb:cuda>=12.1:cc>=8.6",
    );
    let slip = |text: &str, at: usize, expected: &str| {
        refuse(text, at);
        assert_eq!(
            Select::parse(text).unwrap_err().expected,
            expected,
            "{text}"
        );
    };
    slip("1:ngpu=1x", 2, "ngpus");
    slip("1:ngpus=1:gpumen>=1gb", 10, "gpumem>=");
    slip("1:gpu_model=a100|", 17, "a kind of card, like rtx4090");
    slip("1:gpu_model=a*", 13, "letters, digits or `|`");
    slip("1:cuda>=new", 8, "a version like 12.1");
    slip("1:gpumem=1gb:gpu_mem=2gb", 13, "each resource once");
}

#[test]
fn what_is_no_chunk_is_refused_where_it_stands() {
    refuse("", 0);
    refuse("0", 0);
    refuse("2x", 0);
    refuse("1:", 2);
    refuse("1+", 2);
    refuse("1:ncpus", 2);
    refuse("1:ncpus=x", 8);
    refuse("1:ncpus=1:ncpus=2", 10);
    refuse("1:mem=4zb", 7);
    refuse("1:colour=red", 2);
    refuse("1:host=a/b", 7);
    refuse("1000001", 0);
    refuse("999999+2", 7);
    refuse("9999:host=a", 0);
}

#[test]
fn places_print_in_one_order() {
    let check = |text: &str, expected: Option<&str>| {
        let seen = Place::parse(text).ok().map(|place| place.to_string());
        assert_eq!(seen.as_deref(), expected, "{text}");
    };
    check("pack", Some("pack"));
    check("excl", Some("free:excl"));
    check(
        "group=rack:exclhost:scatter",
        Some("scatter:exclhost:group=rack"),
    );
    check("vscatter:shared", Some("vscatter:shared"));
    for bad in [
        "",
        "spread",
        "pack:free",
        "excl:shared",
        "group=",
        "group=a b",
        "pack:",
    ] {
        check(bad, None);
    }
}
