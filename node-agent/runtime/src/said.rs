//! What the engine said, in the port's words.

use std::path::Path;

use bollard::errors::Error;
use capstan_supervisor::containers::EngineError;

use crate::attach::NoStream;

/// An error of a call that is not about one container or image.
pub(crate) fn error(socket: &Path, error: Error) -> EngineError {
    if let Error::DockerResponseServerError {
        status_code,
        message,
    } = error
    {
        return EngineError::Refused {
            status: status_code,
            said: message,
        };
    }
    if let Error::DockerStreamError { error } = error {
        return EngineError::Refused {
            status: 500,
            said: error,
        };
    }
    // All others are of the transport or of what it carried: the engine stopped in mid-sentence.
    let source = match matches!(error, Error::RequestTimeoutError) {
        true => "it hangs: no answer in time".into(),
        false => error.into(),
    };
    EngineError::Unreachable {
        socket: socket.to_owned(),
        source,
    }
}

/// An error of our own streams.
pub(crate) fn no_stream(socket: &Path, error: NoStream) -> EngineError {
    match error {
        NoStream::Io(source) => EngineError::Unreachable {
            socket: socket.to_owned(),
            source: source.into(),
        },
        NoStream::Status(status, said) => EngineError::Refused { status, said },
    }
}

/// HTTP status of a refusal.
pub(crate) fn status(error: &Error) -> Option<u16> {
    let Error::DockerResponseServerError { status_code, .. } = error else {
        return None;
    };
    Some(*status_code)
}

/// A refused start, told apart as docker's own client does: by the words, there is nothing better.
pub(crate) fn start_error(error: EngineError) -> EngineError {
    let EngineError::Refused { status, said } = error else {
        return error;
    };
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if has(&[
        "could not select device driver",
        "nvidia-container-cli",
        "CDI device",
        "unresolvable CDI",
        "unknown or invalid runtime name: nvidia",
    ]) {
        return EngineError::CardsUnavailable { said };
    }
    // Errors of mounts name files as well; the program's own begin with `exec`.
    let is_program = has(&["exec: ", "executable file not found"]);
    if is_program && has(&["executable file not found", "no such file or directory"]) {
        return EngineError::ProgramNotFound { said };
    }
    if is_program && has(&["permission denied", "is a directory", "exec format error"]) {
        return EngineError::ProgramNotExecutable { said };
    }
    EngineError::Refused { status, said }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(said: &str, expected: fn(&EngineError) -> bool) {
        let error = start_error(EngineError::Refused {
            status: 400,
            said: said.to_owned(),
        });
        assert!(expected(&error), "{said}: {error:?}");
    }

    #[test]
    fn refused_starts_are_told_apart() {
        check(
            "OCI runtime create failed: runc create failed: unable to start container process: exec: \"x\": executable file not found in $PATH: unknown",
            |error| matches!(error, EngineError::ProgramNotFound { .. }),
        );
        check(
            "OCI runtime create failed: unable to start container process: exec: \"/x\": stat /x: no such file or directory: unknown",
            |error| matches!(error, EngineError::ProgramNotFound { .. }),
        );
        check(
            "OCI runtime create failed: unable to start container process: exec: \"/etc\": permission denied: unknown",
            |error| matches!(error, EngineError::ProgramNotExecutable { .. }),
        );
        check(
            "could not select device driver \"nvidia\" with capabilities: [[gpu]]",
            |error| matches!(error, EngineError::CardsUnavailable { .. }),
        );
        check(
            "error mounting /a to /b: no such file or directory",
            |error| matches!(error, EngineError::Refused { .. }),
        );
    }
}
