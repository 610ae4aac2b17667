//! A refusal by the server, as it travels: the text in the status message, the PBS error number in the metadata.

use capstan_types::Pbse;
use tonic::metadata::{BinaryMetadataValue, MetadataValue};
use tonic::{Code, Status};

const PBS_ERROR: &str = "pbs-error";
/// Not ASCII, so it travels as bytes.
const HINT: &str = "hint-bin";

/// The longest detail that travels, in bytes. Percent-encoded it grows at most threefold, and so stays under the 16 KiB
/// that HTTP/2 peers take as headers; over that the client would see a broken stream instead of the reason.
const DETAIL_BYTES_MAX: usize = 4 << 10;

/// Why the server refused: the PBS error and what PBS prints after ` MSG=`, if anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The PBS error; its number modulo 256 is the exit status of the command.
    pub error: Pbse,
    /// The detail, without `MSG=`; empty when there is none. Of an error about an attribute, the attribute's name.
    pub detail: String,
    /// What a person is told below PBS's own words, which programs compare whole; empty when there is nothing to add.
    pub hint: String,
}

impl Refusal {
    /// A refusal with a detail; pass an empty one for none.
    pub fn new(error: Pbse, detail: impl Into<String>) -> Self {
        Self {
            error,
            detail: detail.into(),
            hint: String::new(),
        }
    }

    /// The refusal with a hint for people.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: hint.into(),
            ..self
        }
    }

    /// The text that commands print after their own name: the error's own text, then ` MSG=` and the detail; or the
    /// attribute alone, where the error is about one, as in Torque.
    #[must_use]
    pub fn text(&self) -> String {
        const OF_ATTRIBUTES: [Pbse; 7] = [
            Pbse::Badatval,
            Pbse::Unkresc,
            Pbse::Attrro,
            Pbse::Modatrrun,
            Pbse::Duplist,
            Pbse::Badndatval,
            Pbse::Mutualex,
        ];
        let names_attribute = OF_ATTRIBUTES.contains(&self.error);
        match self.detail.as_str() {
            "" => self.error.text().to_owned(),
            detail if names_attribute => format!("{} {detail}", self.error.text()),
            // The whole text, or its end, is made for the case.
            detail if self.error == Pbse::Attrtype => detail.to_owned(),
            detail if self.error == Pbse::Gmoderr => format!("{}{detail}", self.error.text()),
            detail => format!("{} MSG={detail}", self.error.text()),
        }
    }

    /// As a gRPC status; of a very long detail, its beginning.
    #[must_use]
    pub fn into_status(self, code: Code) -> Status {
        let number = self.error.number();
        let mut status = Status::new(code, beginning(self.detail));
        let metadata = status.metadata_mut();
        metadata.insert(PBS_ERROR, MetadataValue::from(number));
        if !self.hint.is_empty() {
            let hint = beginning(self.hint);
            metadata.insert_bin(HINT, BinaryMetadataValue::from_bytes(hint.as_bytes()));
        }
        status
    }

    /// Reads a refusal back; `None` when the status is a failure of the transport and not the server's word.
    #[must_use]
    pub fn from_status(status: &Status) -> Option<Self> {
        let number = status.metadata().get(PBS_ERROR)?.to_str().ok()?;
        let error = Pbse::from_number(number.parse().ok()?)?;
        let hint = status.metadata().get_bin(HINT);
        let hint = hint.and_then(|hint| hint.to_bytes().ok());
        let hint = hint.map(|hint| String::from_utf8_lossy(&hint).into_owned());
        Some(Self::new(error, status.message()).with_hint(hint.unwrap_or_default()))
    }
}

/// The beginning of `text`, as much of it as travels.
fn beginning(mut text: String) -> String {
    if text.len() > DETAIL_BYTES_MAX {
        let mut end = DETAIL_BYTES_MAX;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends a refusal through the headers of an HTTP response and back.
    fn travelled(refusal: Refusal) -> Option<Refusal> {
        let response = refusal
            .into_status(Code::FailedPrecondition)
            .into_http::<()>();
        Refusal::from_status(&Status::from_header_map(response.headers())?)
    }

    #[test]
    fn a_refusal_arrives_as_it_was_sent() {
        for error in Pbse::ALL {
            let refusal = Refusal::new(*error, "");
            assert_eq!(travelled(refusal.clone()), Some(refusal));
        }
        let refusal = Refusal::new(Pbse::Unkque, "cannot locate queue 100 % \n été");
        let refusal = refusal.with_hint("l'été \n 100 %");
        assert_eq!(travelled(refusal.clone()), Some(refusal));
    }

    #[test]
    fn an_endless_detail_is_cut() {
        let refusal = travelled(Refusal::new(Pbse::System, "é".repeat(100_000))).unwrap();
        assert_eq!(refusal.detail, "é".repeat(DETAIL_BYTES_MAX / 2));
    }

    #[test]
    fn a_failure_of_the_transport_is_no_refusal() {
        assert_eq!(Refusal::from_status(&Status::unavailable("gone")), None);
        let mut status = Status::internal("odd");
        status
            .metadata_mut()
            .insert(PBS_ERROR, MetadataValue::from_static("1"));
        assert_eq!(Refusal::from_status(&status), None);
    }

    #[test]
    fn the_text_is_that_of_torque() {
        let check =
            |error, detail, text: &str| assert_eq!(Refusal::new(error, detail).text(), text);
        check(Pbse::Unkjobid, "", "Unknown Job Id Error");
        check(
            Pbse::InvalidSyntax,
            "Invalid Syntax",
            "Command syntax invalid MSG=Invalid Syntax",
        );
        check(Pbse::Perm, "x", "Unauthorized Request  MSG=x");
        check(
            Pbse::Unkresc,
            "Resource_List.nosuchres",
            "Unknown resource type  Resource_List.nosuchres",
        );
        check(
            Pbse::Badatval,
            "Resource_List.mem",
            "Illegal attribute or resource value for Resource_List.mem",
        );
    }
}
