//! Documents that are made of the tables in the code are as the tables are. `UPDATE_DOCUMENTS=1` writes them anew.

#![expect(
    clippy::unwrap_used,
    reason = "a failed unwrap in a test's own helper is a failed test"
)]

use std::fmt::Write as _;
use std::path::PathBuf;

use capstan_tests::cluster::sources;
use capstan_types::{AttributeEffect, AttributeObject, AttributeSetter};

/// The document about every attribute that `qmgr` and `qalter` know.
fn attributes() -> String {
    let mut text = String::from(
        "# Attributes\n\n\
         Every attribute that Torque 6.1.3 knows, in the order in which listings print them. *Real* ones do what they do \
         in Torque.\nThe others are accepted, kept and shown, so that scripts and dumps load, and do nothing; why is said \
         beside them.\n\n\
         (This page is made of the tables in `proto/types/src/attribute`; a test compares them.)\n",
    );
    for (title, object) in [
        ("Server", AttributeObject::Server),
        ("Queues", AttributeObject::Queue),
        ("Nodes", AttributeObject::Node),
        ("Jobs", AttributeObject::Job),
    ] {
        write!(
            text,
            "\n## {title}\n\n| attribute | value | who may set it | effect |\n| --- | --- | --- | --- |\n"
        )
        .unwrap();
        for attribute in object.attributes() {
            let effect = match attribute.effect {
                _ if attribute.setter >= AttributeSetter::Nobody => "shown".to_owned(),
                AttributeEffect::Real => "real".to_owned(),
                AttributeEffect::Nothing(reason) => format!("none: {reason}"),
            };
            let running = match attribute.is_alterable_running {
                true => ", also while running",
                false => "",
            };
            let (name, kind, setter) = (
                attribute.name,
                attribute.kind.word(),
                attribute.setter.word(),
            );
            writeln!(text, "| `{name}` | {kind} | {setter}{running} | {effect} |").unwrap();
        }
    }
    text
}

#[test]
fn the_page_of_attributes_is_as_their_tables() {
    let file: PathBuf = sources().join("docs/attributes.md");
    let wanted = attributes();
    if std::env::var_os("UPDATE_DOCUMENTS").is_some() {
        std::fs::write(&file, &wanted).unwrap();
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        kept == wanted,
        "docs/attributes.md is out of date; UPDATE_DOCUMENTS=1 cargo test -p capstan-tests --test documents"
    );
}
