//! `-F json` and `-F dsv` of PBS Pro, written as the objects come.

use capstan_proto::wire::Attribute;
use jiff::tz::TimeZone;

use super::attributes::{TIMES, date, harmless};
use super::json::string;

/// Values that look like numbers are numbers, but for these, which are names or texts that happen to.
const TEXTS: &[&str] = &[
    "Job_Name",
    "Job_Owner",
    "Account_Name",
    "Submit_arguments",
    "comment",
    "project",
    "queue",
    "server",
    "euser",
    "egroup",
    "group_list",
    "User_List",
    "Mail_Users",
    "array_indices_submitted",
    "pbs_version",
    "Mom",
    "host",
    "vnode",
    "select",
    "place",
    "nodes",
    "properties",
];

/// A document under way: `{"timestamp":…, "Jobs":{…}}`.
#[derive(Debug)]
pub(crate) struct Document {
    /// In which dates are written.
    zone: TimeZone,
    has_object: bool,
}

impl Document {
    /// Begins a document of `list` (`Jobs`, `Queue`, `Server` or `nodes`): who says it, and when.
    pub(crate) fn begin(
        out: &mut Vec<u8>,
        list: &str,
        (server, version): (&str, &str),
        zone: TimeZone,
    ) -> Self {
        let now = jiff::Timestamp::now().as_second();
        out.extend_from_slice(format!("{{\n    \"timestamp\":{now},\n").as_bytes());
        for (name, value) in [("pbs_version", version), ("pbs_server", server)] {
            out.extend_from_slice(b"    ");
            string(out, name);
            out.push(b':');
            string(out, value);
            out.extend_from_slice(b",\n");
        }
        out.extend_from_slice(b"    ");
        string(out, list);
        out.extend_from_slice(b":{");
        Self {
            zone,
            has_object: false,
        }
    }

    /// Appends one object.
    pub(crate) fn object(&mut self, out: &mut Vec<u8>, name: &str, attributes: &[Attribute]) {
        if self.has_object {
            out.push(b',');
        }
        self.has_object = true;
        out.extend_from_slice(b"\n        ");
        string(out, name);
        out.extend_from_slice(b":{");
        self.attributes(out, attributes);
        out.extend_from_slice(b"\n        }");
    }

    /// Ends the document.
    pub(crate) fn end(self, out: &mut Vec<u8>) {
        let before: &[u8] = if self.has_object {
            b"\n    }\n}\n"
        } else {
            b"}\n}\n"
        };
        out.extend_from_slice(before);
    }

    /// Resources of one name go into one object, wherever they stand: JSON has no second key of a name.
    fn attributes(&self, out: &mut Vec<u8>, attributes: &[Attribute]) {
        let mut is_first = true;
        for (at, attribute) in attributes.iter().enumerate() {
            let is_resource = !attribute.resource.is_empty();
            let is_told = |earlier: &Attribute| {
                earlier.name == attribute.name && !earlier.resource.is_empty()
            };
            if is_resource && attributes[..at].iter().any(is_told) {
                continue;
            }
            comma(out, &mut is_first, 12);
            string(out, &attribute.name);
            out.push(b':');
            match attribute.name.as_str() {
                _ if is_resource => {
                    out.push(b'{');
                    let mut is_first = true;
                    let list = attributes[at..].iter().filter(|a| a.name == attribute.name);
                    for part in list {
                        comma(out, &mut is_first, 16);
                        string(out, &part.resource);
                        out.push(b':');
                        self.value(out, &part.resource, &part.value);
                    }
                    out.extend_from_slice(b"\n            }");
                }
                "Variable_List" => variables(out, &attribute.value),
                "jobs" => job_list(out, &attribute.value),
                name => self.value(out, name, &attribute.value),
            }
        }
    }

    fn value(&self, out: &mut Vec<u8>, name: &str, value: &str) {
        if let Some(date) = self.date(name, value) {
            return string(out, &date);
        }
        match !TEXTS.contains(&name) && is_number(value) {
            true => out.extend_from_slice(value.as_bytes()),
            false => string(out, value),
        }
    }

    fn date(&self, name: &str, value: &str) -> Option<String> {
        TIMES.contains(&name).then(|| date(value, &self.zone))?
    }
}

fn comma(out: &mut Vec<u8>, is_first: &mut bool, indent: usize) {
    if !std::mem::take(is_first) {
        out.push(b',');
    }
    out.push(b'\n');
    super::pad::blanks(out, indent);
}

/// A number as JSON writes it: no sign but a minus, no zero in front.
fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
    let is_digits = |text: &str| {
        !text.is_empty() && text.len() <= 18 && text.bytes().all(|b| b.is_ascii_digit())
    };
    is_digits(whole) && is_digits(part) && (whole == "0" || !whole.starts_with('0'))
}

/// `NAME=VALUE,…` with `\,` for a comma inside, as an object of texts.
fn variables(out: &mut Vec<u8>, list: &str) {
    out.push(b'{');
    let mut is_first = true;
    let mut seen: Vec<String> = Vec::new();
    for item in split_escaped(list) {
        let (name, value) = item.split_once('=').unwrap_or((&item, ""));
        if seen.iter().any(|known| known == name) {
            continue;
        }
        comma(out, &mut is_first, 16);
        string(out, name);
        out.push(b':');
        string(out, value);
        seen.push(name.to_owned());
    }
    out.extend_from_slice(b"\n            }");
}

fn split_escaped(list: &str) -> Vec<String> {
    let mut items = vec![String::new()];
    let mut letters = list.chars().peekable();
    while let Some(letter) = letters.next() {
        let last = items.last_mut().expect("it begins with one");
        match letter {
            '\\' if letters.peek() == Some(&',') => {
                last.push(',');
                letters.next();
            }
            ',' => items.push(String::new()),
            letter => last.push(letter),
        }
    }
    items.retain(|item| !item.is_empty());
    items
}

fn job_list(out: &mut Vec<u8>, jobs: &str) {
    out.push(b'[');
    let mut is_first = true;
    for job in jobs.split(", ").filter(|job| !job.is_empty()) {
        comma(out, &mut is_first, 16);
        string(out, job);
    }
    out.extend_from_slice(b"\n            ]");
}

/// Appends a line of `name=value`, `delimiter` between them: `Job Id: 1.hn1|Job_Name=…`. A delimiter inside of a value is
/// escaped.
pub(crate) fn dsv(
    out: &mut Vec<u8>,
    head: &str,
    attributes: &[Attribute],
    (delimiter, zone): (&str, &TimeZone),
) {
    out.extend_from_slice(head.as_bytes());
    for attribute in attributes {
        out.extend_from_slice(delimiter.as_bytes());
        out.extend_from_slice(attribute.name.as_bytes());
        if !attribute.resource.is_empty() {
            out.push(b'.');
            out.extend_from_slice(attribute.resource.as_bytes());
        }
        out.push(b'=');
        let is_time = TIMES.contains(&attribute.name.as_str());
        let date = is_time.then(|| date(&attribute.value, zone)).flatten();
        let value = date.as_deref().unwrap_or(&attribute.value);
        let value = match delimiter {
            "" => value.to_owned(),
            delimiter => value.replace(delimiter, &format!("\\{delimiter}")),
        };
        out.extend_from_slice(harmless(&value).as_bytes());
    }
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn attributes() -> Vec<Attribute> {
        let lines = [
            ("Job_Name", "", "123"),
            ("ctime", "", "1795319750"),
            ("Priority", "", "-7"),
            ("Resource_List", "ncpus", "4"),
            ("Resource_List", "mem", "1gb"),
            ("Resource_List", "walltime", "00:20:00"),
            ("Variable_List", "", "PBS_O_HOME=/home/alice,A=1\\,2,B="),
            ("Rerunable", "", "True"),
            ("umask", "", "077"),
            ("Resource_List", "place", "pack"),
        ];
        let of = |(name, resource, value): (&str, &str, &str)| Attribute {
            name: name.into(),
            resource: resource.into(),
            value: value.into(),
        };
        lines.map(of).to_vec()
    }

    #[test]
    fn json_is_that_of_pbs_pro() {
        let mut out = Vec::new();
        let mut document = Document::begin(&mut out, "Jobs", ("hn1", "6.1.3.h5"), TimeZone::UTC);
        document.object(&mut out, "1.hn1", &attributes());
        document.object(&mut out, "2.hn1", &[]);
        document.end(&mut out);
        let mut seen: Value = serde_json::from_slice(&out).unwrap();
        assert!(seen["timestamp"].take().is_number());
        let expected = json!({
            "timestamp": null, "pbs_version": "6.1.3.h5", "pbs_server": "hn1",
            "Jobs": {
                "1.hn1": {
                    "Job_Name": "123", "ctime": "Sun Nov 22 03:55:50 2026", "Priority": -7,
                    "Resource_List": {"ncpus": 4, "mem": "1gb", "walltime": "00:20:00", "place": "pack"},
                    "Variable_List": {"PBS_O_HOME": "/home/alice", "A": "1,2", "B": ""},
                    "Rerunable": "True", "umask": "077",
                },
                "2.hn1": {},
            },
        });
        assert_eq!(seen, expected);
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains(
            "\n    \"Jobs\":{\n        \"1.hn1\":{\n            \"Job_Name\":\"123\",\n"
        ));
    }

    #[test]
    fn an_empty_document_is_one() {
        let mut out = Vec::new();
        Document::begin(&mut out, "Jobs", ("hn1", "1"), TimeZone::UTC).end(&mut out);
        let seen: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(seen["Jobs"], json!({}));
    }

    #[test]
    fn dsv_escapes_its_delimiter() {
        let mut out = Vec::new();
        let list = [Attribute {
            name: "comment".into(),
            resource: String::new(),
            value: "a|b\n\u{1b}[2J".into(),
        }];
        dsv(&mut out, "Job Id: 1.hn1", &list, ("|", &TimeZone::UTC));
        assert_eq!(out, b"Job Id: 1.hn1|comment=a\\|b ?[2J\n");
    }
}
