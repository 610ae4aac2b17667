//! The rules of a node request.

use super::*;

fn check(text: &str, expected: &str) {
    let spec = NodeSpec::parse(text).unwrap();
    let shown = |chunk: &Chunk| {
        let target = match &chunk.target {
            ChunkTarget::Count(count) => count.to_string(),
            ChunkTarget::Named(name) => name.to_string(),
        };
        let Chunk {
            ppn,
            gpus,
            properties,
            ..
        } = chunk;
        format!("{target} ppn {ppn} gpus {gpus} {}", properties.join(","))
    };
    let seen: Vec<_> = spec.chunks.iter().map(shown).collect();
    assert_eq!(seen.join(" + ").trim_end(), expected, "{text}");
    assert_eq!(spec.to_string(), text);
}

fn refuse(text: &str, class: ErrorClass, at: usize) {
    let error = NodeSpec::parse(text).unwrap_err();
    assert_eq!((error.class, error.at), (class, at), "{text}: {error}");
}

#[test]
fn every_form_of_torque_is_read() {
    check("1", "1 ppn 1 gpus 0");
    check("2:ppn=4:gpus=2", "2 ppn 4 gpus 2");
    check("1:gpus=1:S", "1 ppn 1 gpus 1 S");
    check("1:ppn=2:gpus=2:exclusive_process", "1 ppn 2 gpus 2");
    check("1:gpus=1:ReSetErr", "1 ppn 1 gpus 1");
    check("1:shared:gpus=1", "1 ppn 1 gpus 1 shared");
    check("1:gpu:fast", "1 ppn 1 gpus 0 gpu,fast");
    check(
        "1:bigmem+2:gpu:ppn=2",
        "1 ppn 1 gpus 0 bigmem + 2 ppn 2 gpus 0 gpu",
    );
    check(
        "gpu-01.x_y:ppn=2+b",
        "gpu-01.x_y ppn 2 gpus 0  + b ppn 1 gpus 0",
    );
    check("1:ppn=2#shared", "1 ppn 2 gpus 0 shared");
    check("2+x#ppn=3:a#b", "2 ppn 3 gpus 0 a,b + x ppn 3 gpus 0 a,b");
    check("1:ppn=2:ppn=3", "1 ppn 3 gpus 0");
    check("ppn=4", "1 ppn 4 gpus 0");
    check("1:mics=0", "1 ppn 1 gpus 0");
    check("1:mics=2", "1 ppn 1 gpus 0 mics=2");
}

#[test]
fn cards_of_a_kind_are_read() {
    check("1:gpus=1:rtx4090", "1 ppn 1 gpus 1 rtx4090");
    check("1:gpus=1:3090|a40", "1 ppn 1 gpus 1 3090|a40");
    check("2:ppn=2:a|b", "2 ppn 2 gpus 0 a|b");
    check("2:gpus=1#3090", "2 ppn 1 gpus 1 3090");
    let cards = |text: &str, printed: &str| {
        let spec = NodeSpec::parse(text).unwrap();
        assert_eq!(spec.chunks[0].cards.to_string(), printed, "{text}");
        let again = NodeSpec::of(spec.chunks.clone());
        let read = NodeSpec::parse(&again.to_string()).unwrap();
        assert_eq!(read.chunks[0].cards, spec.chunks[0].cards, "{again}");
    };
    cards("1:gpus=1:gpumem>=24gb", ":gpumem>=24gb");
    cards("1:gpus=1:gpumem=24576mb", ":gpumem=24gb");
    cards("1:gpus=1:cuda>=12.1:cc>=8", ":cuda>=12.1:cc>=8.0");
    cards("1:gpus=1:shared:gpumem=8gb", ":shared:gpumem=8gb");
    cards("1:gpumem=8gb:gpus=1:Shared", ":shared:gpumem=8gb");
    cards("1:gpus=1:default", "");
    cards("1:gpus=1:shared:exclusive", "");
    cards("1:gpus=1#gpumem>=1536mb", ":gpumem>=1536mb");
}

#[test]
fn a_slip_in_a_word_of_cards_is_pointed_at_with_the_word_meant() {
    use ErrorClass::{IllegalValue, InvalidSyntax};
    let slip = |text: &str, class, at, expected: &str| {
        refuse(text, class, at);
        assert_eq!(
            NodeSpec::parse(text).unwrap_err().expected,
            expected,
            "{text}"
        );
    };
    slip("1:gpus=1:gpumen>=24gb", IllegalValue, 15, "gpumem>=");
    slip("1:gpus=1:gpumen=24gb", InvalidSyntax, 9, "gpumem>=");
    slip("1:gpus=1:cude>=12", IllegalValue, 13, "cuda>=");
    slip("1:gpu=1", InvalidSyntax, 2, "gpus=");
    slip(
        "1:gpus=1:cuda>=new",
        InvalidSyntax,
        15,
        "a version like 12.1",
    );
    slip(
        "1:gpus=1:gpumem>=0",
        InvalidSyntax,
        17,
        "memory of a card, more than 0",
    );
    refuse("1:gpus=1:gpumem>=24zb", InvalidSyntax, 19);
    refuse("1:gpus=1:gpumem>24gb", IllegalValue, 15);
    refuse("1:gpus=1:a||b", IllegalValue, 11);
    refuse("1:gpus=1:a|", IllegalValue, 11);
    refuse("1:gpus=1|2", IllegalValue, 8);
    refuse("1:3090", IllegalValue, 2);
    refuse("1:gpus=1:2", IllegalValue, 9);
    refuse("a|b", IllegalValue, 1);
    refuse("1:gpus=1+1:3090", IllegalValue, 11);
}

#[test]
fn illegal_characters_and_invalid_syntax_are_two_errors() {
    use ErrorClass::{IllegalValue, InvalidSyntax, ProhibitedGpuMode, TooLarge};
    refuse("", IllegalValue, 0);
    refuse("2x", IllegalValue, 1);
    refuse("1 :ppn=2", IllegalValue, 1);
    refuse("1+", IllegalValue, 2);
    refuse(":ppn=1", IllegalValue, 0);
    refuse("cpu01/0", IllegalValue, 5);
    refuse("1:ppn=2:", IllegalValue, 8);
    refuse("1#", IllegalValue, 2);
    refuse("1#a+2", IllegalValue, 3);
    refuse("-1", IllegalValue, 0);
    refuse("1:ppn=0+2x", IllegalValue, 9);
    refuse("1:é", IllegalValue, 2);
    refuse("0", InvalidSyntax, 0);
    refuse("1:ppn=0", InvalidSyntax, 6);
    refuse("1:ppn=x", InvalidSyntax, 6);
    refuse("1:ppn=", InvalidSyntax, 6);
    refuse("a+1:gpus=x", InvalidSyntax, 9);
    refuse("1:foo=bar", InvalidSyntax, 2);
    refuse("1:ppn=1=1", InvalidSyntax, 6);
    refuse("1:gpus=1:prohibited", ProhibitedGpuMode, 9);
    refuse("1000001", TooLarge, 0);
    refuse("4294967295:ppn=4294967295", TooLarge, 0);
    refuse("1:ppn=99999999999999999999999", TooLarge, 6);
    refuse("999999+2", TooLarge, 7);
}

#[test]
fn gpu_words_are_remembered() {
    let flags = |text: &str| {
        let spec = NodeSpec::parse(text).unwrap();
        spec.gpu_flags(GpuMode::ExclusiveThread)
    };
    assert_eq!(flags("1:ppn=2"), None);
    assert_eq!(flags("1:gpus=1"), Some(1));
    assert_eq!(flags("1:gpus=1:shared"), Some(0));
    assert_eq!(flags("1:gpus=1:Exclusive_Process:reseterr"), Some(1003));
    assert_eq!(flags("1:gpus=1:default+1:gpus=1:exclusive"), Some(1));
}

#[test]
fn sums_do_not_overflow() {
    let spec = NodeSpec::parse("1000000:ppn=1000000:gpus=1000000").unwrap();
    assert_eq!(spec.node_count(), 1_000_000);
    assert_eq!(spec.slot_count(), 1_000_000_000_000);
    assert_eq!(spec.card_count(), 1_000_000_000_000);
    let long = "x+".repeat(NodeSpec::BYTES_MAX);
    assert_eq!(
        NodeSpec::parse(&long).unwrap_err().class,
        ErrorClass::TooLarge
    );
}
