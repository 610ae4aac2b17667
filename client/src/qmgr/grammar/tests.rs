//! What the language of `qmgr` takes and refuses.

use super::*;
use proptest::prelude::*;

/// An order, written in full; an error as it is printed; `help TOPIC`, `quit`, nothing.
fn check(text: &str, expected: &str) {
    let seen = match parse(text) {
        Ok(Request::Order(order)) => order.to_string(),
        Ok(Request::Help(topic)) => format!("help {topic}"),
        Ok(Request::Quit) => "quit".to_owned(),
        Ok(Request::Nothing) => String::new(),
        Err(error) => error.shown(text),
    };
    assert_eq!(seen, expected, "{text:?}");
}

#[test]
fn words_may_be_abbreviated() {
    check("p s", "print server");
    check("l q batch", "list queue batch");
    check(
        "c q x queue_type=e,enabled=t",
        "create queue x queue_type = e, enabled = t",
    );
    check("  d\tn gpu01 ", "delete node gpu01");
    check("a q a,b", "active queue a,b");
    check("u s max_running", "unset server max_running");
    check("q", "quit");
    check("exi", "quit");
    check("?", "help ");
    check("help set", "help set");
    check("h queuepublic x", "help queuepublic");
}

#[test]
fn the_third_word_is_a_name_unless_it_is_an_attribute() {
    check("set server scheduling=True", "set server scheduling = True");
    check("set queue max_running = 3", "set queue max_running = 3");
    check(
        "set queue resources_max.mem=1gb",
        "set queue resources_max.mem = 1gb",
    );
    check(
        "set server hn1 scheduling = True",
        "set server hn1 scheduling = True",
    );
    check("list queue started", "list queue started");
    check(
        "list queue enabled,started",
        "list queue enabled@active,started@active",
    );
}

#[test]
fn names_may_name_their_server() {
    let at = |text: &str| match parse(text) {
        Ok(Request::Order(order)) => order.names,
        other => panic!("{text:?} is {other:?}"),
    };
    let name = |object: &str, at| Name {
        object: object.into(),
        at,
    };
    assert_eq!(at("p q @default"), [name("", At::Default)]);
    assert_eq!(at("p q @d"), [name("", At::Default)]);
    assert_eq!(at("p q @active"), [name("", At::Active)]);
    assert_eq!(
        at("p q a@x,b"),
        [name("a", At::Named("x".into())), name("b", At::Active)]
    );
    assert_eq!(at("p s default"), [name("", At::Default)]);
    assert_eq!(at("p s x"), [name("x", At::Named("x".into()))]);
    assert_eq!(at("l n :gpu"), [name(":gpu", At::Active)]);
}

#[test]
fn values_may_be_quoted_and_lists_have_three_operators() {
    check(
        "s s managers += \"a@b,c@d\"",
        "set server managers += \"a@b,c@d\"",
    );
    check(
        "s q x acl_users='a', acl_users += b",
        "set queue x acl_users = a, acl_users += b",
    );
    check("s q x acl_users-=b", "set queue x acl_users -= b");
    check("set server comment = \"\"", "set server comment = \"\"");
    check(
        "s s comment = 'say \"no\"'",
        "set server comment = 'say \"no\"'",
    );
}

#[test]
fn prose_may_have_blanks_without_quotes() {
    check(
        "set server comment = down for repair ",
        "set server comment = \"down for repair\"",
    );
    check(
        "set node a note = fan is loud, np = 3",
        "set node a note = \"fan is loud\", np = 3",
    );
    check(
        "set server mail_from = two words",
        "qmgr: Syntax error - cannot locate attribute\nset server mail_from = two words\n                           ^",
    );
}

#[test]
fn refusals_are_those_of_torque() {
    check(
        "frobnicate x",
        "qmgr: Illegal operation: frobnicate\nTry 'help' if you are having trouble.",
    );
    check(
        "Set server x",
        "qmgr: Illegal operation: Set\nTry 'help' if you are having trouble.",
    );
    check("create widget x", "qmgr: Illegal object type: widget.");
    check("create", "qmgr: No object type given");
    check(" ", "qmgr: No object type given");
    check("", "");
}

#[test]
fn a_caret_stands_where_torque_puts_it() {
    let located = "qmgr: Syntax error - cannot locate attribute";
    check(
        "set server nosuch = 1",
        &format!("{located}\nset server nosuch = 1\n                  ^"),
    );
    check(
        "set server nosuch=1",
        &format!("{located}\nset server nosuch=1\n                  ^"),
    );
    check(
        "set queue a enabled",
        &format!("{located}\nset queue a enabled\n                   ^"),
    );
    check(
        "set queue a enabled =",
        &format!("{located}\nset queue a enabled =\n                     ^"),
    );
    check(
        "set queue a enabled True",
        &format!("{located}\nset queue a enabled True\n                    ^"),
    );
    check(
        "unset queue a enabled = x",
        &format!("{located}\nunset queue a enabled = x\n                       ^"),
    );
    check(
        "set queue a resources_max. = 1",
        &format!("{located}\nset queue a resources_max. = 1\n                          ^"),
    );
    check(
        "set queue a Priority = 'x",
        &format!("{located}\nset queue a Priority = 'x\n                        ^"),
    );
    check(
        "set queue a Priority = 1,",
        &format!("{located}\nset queue a Priority = 1,\n                         ^"),
    );
    let wanted = "qmgr: Syntax error - attribute required for operation";
    check(
        "set queue a",
        &format!("{wanted}\nset queue a\n           ^"),
    );
    let none = "qmgr: Syntax error - operation does not allow attribute";
    check(
        "active queue a enabled",
        &format!("{none}\nactive queue a enabled\n              ^"),
    );
    check(
        "list queue 1a",
        "qmgr: syntax error - checklist failed\nlist queue 1a\n           ^",
    );
    check(
        "list queue a@",
        "qmgr: syntax error - checklist failed\nlist queue a@\n            ^",
    );
    check(
        "list queue a,",
        "qmgr: syntax error - checklist failed\nlist queue a,\n            ^",
    );
}

#[test]
fn limits_on_nodes_are_plain_numbers() {
    check(
        "set queue a resources_max.nodes = 2:ppn=2",
        "qmgr: Syntax error - attribute value for resources_max.nodes must be a number\nset queue a resources_max.nodes = 2:ppn=2\n                                 ^",
    );
    check(
        "set queue a resources_max.nodect = 2",
        "set queue a resources_max.nodect = 2",
    );
    check(
        "set queue a resources_default.nodes = 2:ppn=2",
        "set queue a resources_default.nodes = 2:ppn=2",
    );
}

#[test]
fn a_text_with_both_kinds_of_quotes_is_written_in_pieces() {
    check(
        "s s comment = \"it's\"' \"so\"'",
        "set server comment = \"it's \"'\"so\"'",
    );
}

/// A word that can name an object and is no attribute.
fn object_name() -> impl Strategy<Value = String> {
    "[a-zA-Z][a-zA-Z0-9_.-]{0,8}".prop_filter("an attribute", |word| {
        [Object::Server, Object::Queue, Object::Node]
            .iter()
            .all(|&object| !tables::is_attribute(object, word))
            && !"default".starts_with(word.as_str())
    })
}

fn any_name(object: Object) -> impl Strategy<Value = Name> {
    let at = prop_oneof![
        Just(At::Active),
        Just(At::Default),
        "[b-ce-z][a-z0-9]{0,5}".prop_map(At::Named),
    ];
    (object_name(), at).prop_map(move |(own, at)| match (object, at) {
        (Object::Server, At::Default) => Name {
            object: String::new(),
            at: At::Default,
        },
        (Object::Server, At::Active) => Name {
            object: own.clone(),
            at: At::Named(own),
        },
        (_, at) => Name { object: own, at },
    })
}

fn any_directive() -> impl Strategy<Value = Directive> {
    let operator = prop_oneof![
        Just(Operator::Assign),
        Just(Operator::Add),
        Just(Operator::Remove)
    ];
    let value = prop_oneof!["[!-~&&[^\"]]{0,12}", "[ -~&&[^']]{0,12}", "\\PC{0,6}"];
    (
        "[a-zA-Z_][a-zA-Z0-9_]{0,9}",
        "([a-z][a-z0-9]{0,5})?",
        operator,
        value,
    )
        .prop_map(|(name, resource, operator, value)| Directive {
            name,
            resource,
            operator,
            value,
        })
}

fn any_order() -> impl Strategy<Value = Order> {
    let verb = prop_oneof![
        Just(Verb::Create),
        Just(Verb::Set),
        Just(Verb::List),
        Just(Verb::Unset)
    ];
    let object = prop_oneof![
        Just(Object::Server),
        Just(Object::Queue),
        Just(Object::Node)
    ];
    (verb, object).prop_flat_map(|(verb, object)| {
        let names = prop::collection::vec(any_name(object), 1..4);
        let directives = prop::collection::vec(any_directive(), 1..4);
        (names, directives).prop_map(move |(names, directives)| Order {
            verb,
            object,
            names,
            directives,
        })
    })
}

proptest! {
    #[test]
    fn an_order_that_is_written_reads_back(order in any_order()) {
        let mut expected = order.clone();
        if !matches!(order.verb, Verb::Create | Verb::Set) {
            for directive in &mut expected.directives {
                (directive.operator, directive.value) = (Operator::Assign, String::new());
            }
        }
        let text = order.to_string();
        prop_assert_eq!(parse(&text), Ok(Request::Order(expected)), "{}", text);
    }

    #[test]
    fn any_text_is_an_order_or_an_error(
        text in "(set|list|create|[a-z])? ?(server|queue|node)? ?([a-z@,:]{0,6}) ?([a-z.]{0,5}(=|\\+=|-=| )[\"'a-z, ]{0,6}|\\PC){0,8}"
    ) {
        if let Err(error) = parse(&text) {
            prop_assert!(error.shown(&text).starts_with("qmgr: "));
        }
    }

    #[test]
    fn any_characters_are_an_order_or_an_error(text in "\\PC{0,60}") {
        let request = parse(&text);
        let error = request.err().map(|error| error.shown(&text));
        prop_assert!(error.is_none_or(|shown| shown.starts_with("qmgr: ")));
    }
}
