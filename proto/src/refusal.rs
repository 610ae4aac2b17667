//! A refusal by the server, as it travels: the text in the status message, the PBS error number in the metadata.

use capstan_types::Pbse;
use tonic::{Code, Status, metadata::MetadataValue};

const PBS_ERROR: &str = "pbs-error";

/// Why the server refused: the PBS error and what PBS prints after ` MSG=`, if anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The PBS error; its number modulo 256 is the exit status of the command.
    pub error: Pbse,
    /// The detail, without `MSG=`; empty when there is none.
    pub detail: String,
}

impl Refusal {
    /// A refusal with a detail; pass an empty one for none.
    pub fn new(error: Pbse, detail: impl Into<String>) -> Self {
        Self {
            error,
            detail: detail.into(),
        }
    }

    /// The text that commands print after their own name: the error's own text, then ` MSG=` and the detail.
    #[must_use]
    pub fn text(&self) -> String {
        match self.detail.as_str() {
            "" => self.error.text().to_owned(),
            detail => format!("{} MSG={detail}", self.error.text()),
        }
    }

    /// As a gRPC status.
    #[must_use]
    pub fn into_status(self, code: Code) -> Status {
        let number = self.error.number();
        let mut status = Status::new(code, self.detail);
        status
            .metadata_mut()
            .insert(PBS_ERROR, MetadataValue::from(number));
        status
    }

    /// Reads a refusal back; `None` when the status is a failure of the transport and not the server's word.
    #[must_use]
    pub fn from_status(status: &Status) -> Option<Self> {
        let number = status.metadata().get(PBS_ERROR)?.to_str().ok()?;
        let error = Pbse::from_number(number.parse().ok()?)?;
        Some(Self::new(error, status.message()))
    }
}
