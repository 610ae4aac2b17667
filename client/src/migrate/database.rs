//! The server's database and the queues' files of Torque 6 (`server_priv/serverdb`, `server_priv/queues/*`), and the access
//! lists that older releases keep in files of their own.

use super::finding::{Damage, Findings, Place};
use super::xml::{self, Element};
use crate::qmgr::{Directive, Object};

/// Reads the server's database.
///
/// # Errors
/// It is no XML, or not Torque's.
pub(super) fn read_server(file: &str, text: &str) -> Result<Findings, Damage> {
    let root = root(file, text, "server_db", DUMP_HINT)?;
    let mut findings = Findings::default();
    for element in &root.children {
        let place = Place::line(file, element.line);
        match element.name.as_str() {
            "nextjobid" => findings.set(
                &place,
                (Object::Server, ""),
                "next_job_number",
                &element.text,
            ),
            "attributes" => attributes(&mut findings, file, (Object::Server, ""), element)?,
            // Counts, and when the file was written.
            "numjobs" | "numque" | "savetime" => {}
            other => return Err(unknown_element(place, other)),
        }
    }
    Ok(findings)
}

/// Reads the file of a queue, which has its name.
///
/// # Errors
/// It is no XML, not Torque's, or of a queue of another name.
pub(super) fn read_queue(file: &str, queue: &str, text: &str) -> Result<Findings, Damage> {
    let root = root(file, text, "queue", DUMP_HINT)?;
    let mut findings = Findings::default();
    findings.exists(&Place::line(file, root.line), Object::Queue, queue);
    for element in &root.children {
        let place = Place::line(file, element.line);
        match element.name.as_str() {
            "name" if element.text != queue => {
                return Err(Damage::new(
                    place,
                    format!("is the file of queue '{}'", element.text.escape_debug()),
                ));
            }
            "attributes" => attributes(&mut findings, file, (Object::Queue, queue), element)?,
            "name" | "modified" | "type" | "create_time" | "modify_time" => {}
            other => return Err(unknown_element(place, other)),
        }
    }
    Ok(findings)
}

const DUMP_HINT: &str = "an older Torque writes another format: run `qmgr -c 'print server'` on it, keep what it prints in a file, and name that with --dump";

fn root(file: &str, text: &str, name: &str, hint: &str) -> Result<Element, Damage> {
    let root = xml::read(file, text).map_err(|mut damage| {
        if !text.trim_start().starts_with('<') {
            damage.what = format!("is no XML ({hint})");
        }
        damage
    })?;
    match root.name == name {
        true => Ok(root),
        false => {
            let what = format!(
                "has <{}> where Torque writes <{name}>",
                root.name.escape_debug()
            );
            Err(Damage::new(Place::line(file, root.line), what))
        }
    }
}

fn unknown_element(place: Place, name: &str) -> Damage {
    Damage::new(
        place,
        format!(
            "has <{}>, which Torque does not write there",
            name.escape_debug()
        ),
    )
}

fn attributes(
    findings: &mut Findings,
    file: &str,
    of: (Object, &str),
    element: &Element,
) -> Result<(), Damage> {
    for attribute in &element.children {
        let place = Place::line(file, attribute.line);
        if attribute.children.is_empty() {
            findings.set(&place, of, &attribute.name, &attribute.text);
            continue;
        }
        for resource in &attribute.children {
            let place = Place::line(file, resource.line);
            if !resource.children.is_empty() {
                return Err(unknown_element(place, &resource.children[0].name));
            }
            let directive = Directive {
                name: attribute.name.clone(),
                resource: resource.name.clone(),
                value: resource.text.clone(),
                ..Directive::default()
            };
            findings.attribute(&place, of, directive);
        }
    }
    Ok(())
}

/// Reads an access list: entries between commas or line ends.
pub(super) fn read_access_list(
    file: &str,
    of: (Object, &str),
    attribute: &str,
    text: &str,
) -> Findings {
    let entries: Vec<&str> = text
        .split([',', '\n'])
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .collect();
    let mut findings = Findings::default();
    if !entries.is_empty() {
        findings.set(&Place::file(file), of, attribute, &entries.join(","));
    }
    findings
}
