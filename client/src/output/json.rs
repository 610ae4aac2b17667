//! Listings as JSON (`--json`): every attribute under its PBS name, resources nested in their list, values as text.
//! Written as they come, object by object, so that a long listing needs no large memory.

use capstan_proto::wire::{Attribute, JobAttributes, NodeRow};

/// A document with one list, under way: `{"jobs":[…]}`.
#[derive(Debug, Default)]
pub(crate) struct Document {
    has_begun: bool,
    has_element: bool,
}

impl Document {
    /// Begins the document, if that is not done yet, and makes room for the next element of `list`.
    pub(crate) fn element(&mut self, out: &mut Vec<u8>, list: &str) {
        self.begin(out, list);
        if self.has_element {
            out.push(b',');
        }
        self.has_element = true;
    }

    /// Ends the document; one without elements has an empty list.
    pub(crate) fn end(&mut self, out: &mut Vec<u8>, list: &str) {
        self.begin(out, list);
        out.extend_from_slice(b"]}\n");
    }

    fn begin(&mut self, out: &mut Vec<u8>, list: &str) {
        if !self.has_begun {
            self.has_begun = true;
            out.push(b'{');
            string(out, list);
            out.extend_from_slice(b":[");
        }
    }
}

/// Appends one job.
pub(crate) fn job(out: &mut Vec<u8>, job: &JobAttributes) {
    open(out, "id", &job.id, &job.attributes);
    if !job.reason.is_empty() {
        member(out, "reason", &job.reason);
    }
    out.push(b'}');
}

/// Appends a queue or the server.
pub(crate) fn named(out: &mut Vec<u8>, name: &str, attributes: &[Attribute]) {
    open(out, "name", name, attributes);
    out.push(b'}');
}

/// Appends one node. `simulated` tells the cards of tests and of the demo from real ones.
pub(crate) fn node(out: &mut Vec<u8>, node: &NodeRow) {
    open(out, "name", &node.name, &node.attributes);
    for fact in &node.facts {
        member(out, &fact.name, &fact.value);
    }
    let simulated: &[u8] = if node.simulated { b"true" } else { b"false" };
    out.extend_from_slice(b",\"simulated\":");
    out.extend_from_slice(simulated);
    out.push(b'}');
}

fn open(out: &mut Vec<u8>, key: &str, name: &str, attributes: &[Attribute]) {
    out.push(b'{');
    string(out, key);
    out.push(b':');
    string(out, name);
    out.extend_from_slice(b",\"attributes\":{");
    let mut list = "";
    for (at, attribute) in attributes.iter().enumerate() {
        let nested = match attribute.resource.as_str() {
            "" => "",
            _ => attribute.name.as_str(),
        };
        let is_inside = !nested.is_empty() && nested == list;
        if !is_inside && !list.is_empty() {
            out.push(b'}');
        }
        if at > 0 {
            out.push(b',');
        }
        if !is_inside && !nested.is_empty() {
            string(out, nested);
            out.extend_from_slice(b":{");
        }
        list = nested;
        string(
            out,
            if nested.is_empty() {
                &attribute.name
            } else {
                &attribute.resource
            },
        );
        out.push(b':');
        string(out, &attribute.value);
    }
    if !list.is_empty() {
        out.push(b'}');
    }
    out.push(b'}');
}

fn member(out: &mut Vec<u8>, name: &str, value: &str) {
    out.push(b',');
    string(out, name);
    out.push(b':');
    string(out, value);
}

/// Appends a string in quotes, escaped.
pub(crate) fn string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a Vec takes everything, and a string is always JSON");
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn attribute(name: &str, value: &str) -> Attribute {
        let (name, resource) = name.split_once('.').unwrap_or((name, ""));
        Attribute {
            name: name.into(),
            resource: resource.into(),
            value: value.into(),
        }
    }

    #[test]
    fn resources_nest_and_the_list_may_be_empty() {
        let job_of = |id: &str| JobAttributes {
            id: id.into(),
            attributes: vec![
                attribute("Job_Name", "a\"b\n"),
                attribute("Resource_List.nodes", "1"),
                attribute("Resource_List.mem", "1gb"),
                attribute("Walltime.Remaining", "9"),
                attribute("queue", "batch"),
            ],
            reason: "wants more".into(),
        };
        let mut out = Vec::new();
        let mut document = Document::default();
        for id in ["1.hn1", "2.hn1"] {
            document.element(&mut out, "jobs");
            job(&mut out, &job_of(id));
        }
        document.end(&mut out, "jobs");
        let seen: Value = serde_json::from_slice(&out).unwrap();
        let attributes = json!({
            "Job_Name": "a\"b\n",
            "Resource_List": {"nodes": "1", "mem": "1gb"},
            "Walltime": {"Remaining": "9"},
            "queue": "batch",
        });
        let object = |id| json!({"id": id, "attributes": attributes, "reason": "wants more"});
        assert_eq!(seen, json!({"jobs": [object("1.hn1"), object("2.hn1")]}));
        let mut out = Vec::new();
        Document::default().end(&mut out, "jobs");
        assert_eq!(out, b"{\"jobs\":[]}\n");
    }
}
