//! What always holds of the parsers: any text gives a value or an error that points into it, and what prints parses back.

use std::collections::BTreeSet;

use capstan_types::{
    ArrayRequest, Dependency, Holds, IndexSet, JobId, JobReference, JoinPath, MailPoints, NodeSpec,
    OutputStream, ParseError, PathVariables, Place, ResourceList, Seconds, Select, Size,
    StagedFile, check_job_name, check_models, default_job_name, default_output_name, directives,
    expand_path, is_model, split_arguments, split_resources,
};
use proptest::prelude::*;

/// Any text at all, and texts of the characters that the grammars are made of, which get further.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[0-9a-z:+=#,%.@_>|\\[\\] \"'\\\\$-]{0,40}",
        "(on|after|afterok|afterokarray|beforeany)(:[0-9\\[\\].]{0,6}){0,3}[,]?",
        "[0-9]{0,22}[kmgtpeKMGTPE]?[bwBW]{0,3}",
        "([0-9]{0,12}:){0,5}[0-9]{0,12}(\\.[0-9]{0,3})?",
        "([0-9]{1,11}|[a-z]{1,3})(:(ppn|gpus|mics|foo)=[0-9]{0,11}){0,3}(\\+[0-9]{0,11})?(#[a-z]{0,3})?",
        "[0-9]{0,11}(-[0-9]{0,11})?(, ?[0-9]{0,11})?(%[0-9x]{0,11})?",
        "[0-9]{1,4}-[0-9]{1,9}(:[0-9]{0,3})?(%[0-9]{0,3})?",
        "[12]:gpus=[0-9](:(3090|a40|rtx4090|shared|default|gpumem=|gpumem>=|cuda>=|cc>=|cude>)[0-9]{0,2}[|.a-z]{0,3}){0,3}",
        "([0-9]{1,7}:)?(ncpus|ngpus|mem|mpiprocs|host|fast)=[0-9a-zA-Z]{0,4}(:(ncpus|ngpus|mem|vnode)=[0-9a-z]{0,7}){0,3}(\\+[0-9]{0,7})?",
        "(pack|scatter|free|vscatter|excl|exclhost|shared|group=[a-z]{0,3})(:(pack|scatter|excl|shared|group=[a-z ]{0,3})){0,2}",
        "[a-z./]{0,3}@[a-z.]{0,3}:[a-z/]{0,3}(, ?[a-z]{0,2}@[a-z]{0,2}:[a-z]{0,2}){0,2}",
    ]
}

/// A refusal points into the text and can be shown.
fn sound<T>(result: Result<T, ParseError>) {
    if let Err(error) = result {
        assert!(error.at <= error.text.len(), "{error:?}");
        let shown = format!("{error}\n{}", error.with_caret());
        assert!(shown.lines().count() == 3, "{shown:?}");
    }
}

/// A value and the value read back from what it prints.
fn stable<T: ToString + PartialEq + std::fmt::Debug>(
    text: &str,
    parse: impl Fn(&str) -> Result<T, ParseError>,
) {
    let first = parse(text);
    if let Ok(value) = &first {
        let printed = value.to_string();
        let second = parse(&printed);
        assert_eq!(
            second.map(|value| value.to_string()),
            Ok(printed),
            "{text:?}"
        );
    }
    sound(first);
}

struct Job<'a>(&'a str);

impl PathVariables for Job<'_> {
    fn value(&self, name: &str) -> Option<String> {
        (name.len() < 3).then(|| self.0.to_owned())
    }
}

proptest! {
    #[test]
    fn any_text_is_a_value_or_an_error_that_points_into_it(text in text()) {
        stable(&text, NodeSpec::parse);
        stable(&text, Size::parse);
        stable(&text, Seconds::parse);
        stable(&text, ArrayRequest::parse);
        stable(&text, ArrayRequest::parse_stepped);
        stable(&text, Select::parse);
        stable(&text, Place::parse);
        sound(StagedFile::parse_list(&text));
        stable(&text, Holds::parse);
        stable(&text, MailPoints::parse);
        stable(&text, str::parse::<JobReference>);
        sound(ArrayRequest::parse_list(&text));
        sound(Dependency::parse_list(&text));
        sound(JoinPath::parse(&text));
        sound(check_job_name(&text));
        sound(split_arguments(&text));
        prop_assert!(check_job_name(&default_job_name(Some(&text))).is_ok());
    }

    #[test]
    fn any_value_of_any_resource_is_taken_or_refused(text in text()) {
        for name in ["walltime", "mem", "ncpus", "nice", "srfs_assist", "nodes", "gres", "odd"] {
            let mut list = ResourceList::default();
            let first = list.set(name, &text);
            if first.is_ok() && let Some(normal) = list.get(name) {
                let mut again = ResourceList::default();
                prop_assert_eq!(again.set(name, normal), Ok(()));
                prop_assert_eq!(&again, &list);
            }
            sound(first);
        }
        if let Ok(pairs) = split_resources(&text) {
            prop_assert!(pairs.iter().all(|(name, _)| !name.is_empty()));
        }
    }

    #[test]
    fn numbers_of_a_request_stay_within_bounds(text in text()) {
        if let Ok(spec) = NodeSpec::parse(&text) {
            prop_assert!((1..=NodeSpec::COUNT_MAX).contains(&spec.node_count()));
            prop_assert!(spec.chunks.iter().all(|chunk| chunk.ppn >= 1));
            prop_assert!(spec.slot_count() >= u64::from(spec.node_count()));
        }
        if let Ok(request) = ArrayRequest::parse(&text) {
            prop_assert!(!request.indices.is_empty());
            prop_assert_ne!(request.slot_limit, Some(0));
        }
        if let Ok(size) = Size::parse(&text) {
            prop_assert!(size.bytes() > 0 || size.to_string().starts_with('0'));
        }
    }

    #[test]
    fn the_parts_of_a_request_print_to_a_request_for_the_same(text in text()) {
        let requests = [
            NodeSpec::parse(&text).ok(),
            Select::parse(&text).ok().map(|select| select.as_nodes()),
        ];
        for request in requests.into_iter().flatten() {
            let printed = NodeSpec::of(request.chunks.clone()).to_string();
            // A chunk of one host may have a name, or a model of cards, which this grammar has no place for.
            if let Ok(read) = NodeSpec::parse(&printed) {
                let cards = |request: &NodeSpec| {
                    request.chunks.iter().map(|chunk| chunk.cards).collect::<Vec<_>>()
                };
                prop_assert_eq!(cards(&read), cards(&request), "{}", printed);
            }
        }
    }

    #[test]
    fn any_word_for_cards_is_compared_with_any_name(model in any::<String>(), word in any::<String>()) {
        let found = is_model(&model, &word);
        prop_assert!(!found || check_models(&word).is_ok() || word.contains(|c: char| !c.is_ascii_alphanumeric()));
        if check_models(&word).is_ok() && !word.contains(['-', '_', '.', '|']) && word.len() > 2 {
            let named = format!("NVIDIA {word}");
            prop_assert!(is_model(&named, &word));
        }
    }

    #[test]
    fn dependencies_print_as_they_are_read(text in text()) {
        for dependency in Dependency::parse_list(&text).unwrap_or_default() {
            let printed = dependency.to_string();
            prop_assert_eq!(Dependency::parse_list(&printed), Ok(vec![dependency]));
        }
    }

    #[test]
    fn paths_of_any_text_expand_within_bounds(path in text(), value in any::<String>()) {
        let expanded = expand_path(&path, &Job(&value));
        prop_assert!(expanded.len() <= path.len() + 4096);
        if !path.contains('$') {
            prop_assert_eq!(expanded, path);
        }
    }

    #[test]
    fn default_file_names_fit_the_file_system(name in any::<String>(), seq: u64, index: u32) {
        for id in [JobId::whole(seq), JobId::member(seq, index)] {
            let file = default_output_name(&name, id, OutputStream::Stderr);
            prop_assert!(file.len() <= 255 && !file.contains('/'), "{file}");
        }
    }

    #[test]
    fn an_index_set_is_a_set(
        changes in prop::collection::vec((any::<bool>(), 0..24_u32), 0..80),
        ranges in prop::collection::vec((0..24_u32, 0..24_u32), 0..6),
    ) {
        let mut set: IndexSet = ranges.iter().copied().collect();
        let mut model: BTreeSet<u32> = ranges.iter().flat_map(|&(from, to)| from..=to).collect();
        for (is_insert, index) in changes {
            if is_insert {
                prop_assert_eq!(set.insert(index), model.insert(index));
            } else {
                prop_assert_eq!(set.remove(index), model.remove(&index));
            }
            prop_assert_eq!(set.contains(index), is_insert);
        }
        prop_assert!(set.iter().eq(model.iter().copied()));
        prop_assert_eq!(set.len(), model.len() as u64);
        prop_assert_eq!((set.first(), set.last()), (model.first().copied(), model.last().copied()));
        prop_assert!(set.ranges().windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
        if !set.is_empty() {
            prop_assert_eq!(ArrayRequest::parse_list(&set.to_string()), Ok(set));
        }
    }

    #[test]
    fn quoted_arguments_come_back(arguments in prop::collection::vec(any::<String>(), 0..6)) {
        let quoted: Vec<_> = arguments.iter().map(|argument| quote(argument)).collect();
        prop_assert_eq!(split_arguments(&quoted.join(" \t")), Ok(arguments));
    }

    #[test]
    fn scripts_of_any_bytes_are_scanned(
        script in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'\n'), Just(b'#')], 0..200),
        prefix in "#?[PBS]{0,3}",
    ) {
        if let Err(error) = directives(&script, &prefix) {
            sound(Err::<(), _>(error.error));
        }
    }

    #[test]
    fn planted_directives_are_found(script in script()) {
        let Script { text, planted } = script;
        let found = directives(&text, "#PBS").unwrap();
        let seen: Vec<_> = found.into_iter().map(|found| (found.line, found.arguments)).collect();
        prop_assert_eq!(seen, planted, "{:?}", text);
    }
}

/// As a careful person types an argument: in single quotes, a single quote itself escaped.
fn quote(argument: &str) -> String {
    format!("'{}'", argument.replace('\'', r"'\''"))
}

#[derive(Clone, Debug)]
struct Script {
    text: String,
    planted: Vec<(usize, Vec<String>)>,
}

/// One line of a script before its commands, without the end of the line.
#[derive(Clone, Debug)]
enum Line {
    Other(String),
    Directive(String, Vec<String>),
}

fn line() -> impl Strategy<Value = Line> {
    let other = prop_oneof![
        "[ \t]{0,3}",
        "[ \t]{0,2}#( [a-zA-Z#' \"]{0,12})?",
        "#!/bin/sh",
        ":[a-z $'\"]{0,8}",
        "[ \t]{0,2}#pbs -N [a-z]{1,3}",
    ];
    let arguments = prop::collection::vec("[a-zA-Z0-9=:,./$é-]{1,8}", 0..4);
    let directive =
        ("[ \t]{0,3}", "[ \t]{1,3}", arguments).prop_map(|(indent, blank, arguments)| {
            let quoted: String = arguments
                .iter()
                .map(|argument| format!("{blank}{argument}"))
                .collect();
            Line::Directive(format!("{indent}#PBS{quoted}"), arguments)
        });
    prop_oneof![other.prop_map(Line::Other), directive]
}

/// Lines with LF or CRLF, a byte order mark or none, commands at the end or none, a last newline or none; long
/// directives are broken with a backslash behind their first argument.
fn script() -> impl Strategy<Value = Script> {
    let lines = prop::collection::vec((line(), any::<bool>()), 0..12);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (lines, flags).prop_map(
        |(lines, (is_crlf, has_mark, has_commands, has_last_newline))| {
            let newline = if is_crlf { "\r\n" } else { "\n" };
            let mut number = 1;
            let mut planted = Vec::new();
            let mut text = String::new();
            for (line, is_broken) in lines {
                match line {
                    Line::Other(line) => text.push_str(&line),
                    Line::Directive(line, arguments) => {
                        planted.push((number, arguments));
                        match line.rfind([' ', '\t']).filter(|at| is_broken && *at > 8) {
                            Some(at) => {
                                text.push_str(&format!(
                                    "{}\\{newline}{}",
                                    &line[..at],
                                    &line[at..]
                                ));
                                number += 1;
                            }
                            None => text.push_str(&line),
                        }
                    }
                }
                text.push_str(newline);
                number += 1;
            }
            if has_commands {
                text.push_str(&format!("echo{newline}#PBS -N late{newline}"));
            }
            if !has_last_newline {
                text.truncate(text.trim_end_matches(['\r', '\n']).len());
            }
            let mark = if has_mark { "\u{feff}" } else { "" };
            Script {
                text: format!("{mark}{text}"),
                planted,
            }
        },
    )
}
