//! Why an image could not be got, each cause a sentence of its own and what to do about it.
//!
//! The engine and registries say it in words only; the words are those of dockerd and of the distribution specification
//! (<https://github.com/opencontainers/distribution-spec>: error codes).

/// Why an image could not be got.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PullProblem {
    /// The registry does not have it, or does not show it to strangers.
    #[error("image {image} is neither on this node nor in its registry {registry}")]
    NotFound {
        /// As resolved.
        image: String,
        /// Its registry.
        registry: String,
    },
    /// The registry wants to know who asks, or does not let them.
    #[error("registry {registry} does not let {who} have image {image}")]
    Denied {
        /// As resolved.
        image: String,
        /// Its registry.
        registry: String,
        /// `anybody without an account`, or the account.
        who: String,
    },
    /// Nobody answers there.
    #[error("registry {registry} of image {image} does not answer: {said}")]
    Unreachable {
        /// As resolved.
        image: String,
        /// Its registry.
        registry: String,
        /// The cause, in the engine's words.
        said: String,
    },
    /// There is no room for it on this node.
    #[error("the disk for images of this node is too full for image {image}")]
    DiskFull {
        /// As resolved.
        image: String,
    },
    /// It is made for other processors.
    #[error("image {image} is not made for the processors of this node")]
    WrongPlatform {
        /// As resolved.
        image: String,
    },
    /// The registry has had enough of us.
    #[error("registry {registry} lets nobody here have more images for now")]
    TooOften {
        /// Its registry.
        registry: String,
    },
    /// The engine takes it for no name.
    #[error("'{image}' is no image name")]
    BadName {
        /// As resolved.
        image: String,
    },
    /// The engine itself does not answer.
    #[error("the container engine of this node does not answer")]
    EngineAway,
    /// Anything else.
    #[error("image {image} could not be got: {said}")]
    Other {
        /// As resolved.
        image: String,
        /// The engine's words.
        said: String,
    },
}

impl PullProblem {
    /// Whether it is no use to wait: only the user or the registry's owner can mend it.
    #[must_use]
    pub const fn is_lasting(&self) -> bool {
        match self {
            Self::NotFound { .. }
            | Self::Denied { .. }
            | Self::WrongPlatform { .. }
            | Self::BadName { .. } => true,
            Self::Unreachable { .. }
            | Self::DiskFull { .. }
            | Self::TooOften { .. }
            | Self::EngineAway
            | Self::Other { .. } => false,
        }
    }

    /// What to do about it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::NotFound { .. } | Self::BadName { .. } => {
                "check the name and its tag; `qimages` lists what the site offers"
            }
            Self::Denied { .. } => {
                "run `docker login REGISTRY` on a host that shares your home folder: nodes read ~/.docker/config.json (a credential helper is no use to them)"
            }
            Self::Unreachable { .. } => {
                "check the registry's name and port; the node must be able to reach it, and dockerd must trust it (insecure-registries, or its certificate)"
            }
            Self::DiskFull { .. } => {
                "tell the administrators: images that nobody uses must go from this node"
            }
            Self::WrongPlatform { .. } => {
                "ask for an image that has a variant for these processors"
            }
            Self::TooOften { .. } => {
                "wait, or run `docker login`: registries count accounts more generously"
            }
            Self::EngineAway => "tell the administrators that dockerd is down on this node",
            Self::Other { .. } => "",
        }
    }
}

/// The cause in what the engine said. `who` is who asked, for a refusal: empty for anybody.
#[must_use]
pub fn problem_of(image: &str, who: &str, said: &str) -> PullProblem {
    let image = image.to_owned();
    let registry = super::registry_of(&image);
    let lower = said.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if has(&["no space left", "disk quota exceeded"]) {
        return PullProblem::DiskFull { image };
    }
    if has(&["toomanyrequests", "too many requests", "rate limit"]) {
        return PullProblem::TooOften { registry };
    }
    if has(&[
        "no matching manifest for",
        "does not match the specified platform",
    ]) {
        return PullProblem::WrongPlatform { image };
    }
    if has(&[
        "invalid reference format",
        "invalid repository name",
        "must be lowercase",
    ]) {
        return PullProblem::BadName { image };
    }
    // Before the refusals: a registry that is not there is often reported by what was asked of it.
    if has(UNREACHABLE) {
        let said = cause(said);
        return PullProblem::Unreachable {
            image,
            registry,
            said,
        };
    }
    // Some registries deny what they do not have; with an account it is the account that is told of.
    if has(&[
        "unauthorized",
        "no basic auth",
        "authentication required",
        "access denied",
        "access to the resource is denied",
        "incorrect username or password",
        "403 forbidden",
        "401",
    ]) {
        let who = match who {
            "" => "anybody without an account".to_owned(),
            who => who.to_owned(),
        };
        return PullProblem::Denied {
            image,
            registry,
            who,
        };
    }
    if has(&[
        "not found",
        "manifest unknown",
        "name unknown",
        "does not exist",
    ]) {
        return PullProblem::NotFound { image, registry };
    }
    let said = cause(said);
    PullProblem::Other { image, said }
}

const UNREACHABLE: &[&str] = &[
    "connection refused",
    "no such host",
    "i/o timeout",
    "no route to host",
    "network is unreachable",
    "connection reset",
    "client.timeout exceeded",
    "context deadline exceeded",
    "tls handshake timeout",
    "server misbehaving",
    "temporary failure in name resolution",
    "server gave http response to https client",
    "certificate",
    "unexpected eof",
    ": eof",
    "502 bad gateway",
    "503 service unavailable",
];

/// The last words, which name the cause; on one line and not endless.
fn cause(said: &str) -> String {
    const CHARS_MAX: usize = 200;
    let line = said.lines().next().unwrap_or_default().trim();
    // `Get "https://bit:5000/v2/": dial tcp 10.0.0.1:5000: connect: connection refused`
    let line = match line.split_once("\": ") {
        Some((_, rest)) => rest,
        None => line
            .strip_prefix("Error response from daemon: ")
            .unwrap_or(line),
    };
    line.chars()
        .filter(|c| !c.is_control())
        .take(CHARS_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(who: &str, said: &str, expected: &str) {
        let problem = problem_of("bit:5000/deepo:1", who, said);
        assert_eq!(problem.to_string(), expected, "{said}");
        let text = problem.to_string();
        assert!(
            !text.contains('\n') && !text.ends_with('.'),
            "one sentence: {text}"
        );
    }

    #[test]
    fn each_cause_is_a_sentence() {
        check(
            "",
            "manifest for bit:5000/deepo:1 not found: manifest unknown: manifest unknown",
            "image bit:5000/deepo:1 is neither on this node nor in its registry bit:5000",
        );
        check(
            "",
            "Head \"http://bit:5000/v2/deepo/manifests/1\": no basic auth credentials",
            "registry bit:5000 does not let anybody without an account have image bit:5000/deepo:1",
        );
        check(
            "account alice",
            "unauthorized: authentication required",
            "registry bit:5000 does not let account alice have image bit:5000/deepo:1",
        );
        check(
            "",
            "Get \"http://bit:5000/v2/\": dial tcp 127.0.0.1:5000: connect: connection refused",
            "registry bit:5000 of image bit:5000/deepo:1 does not answer: dial tcp 127.0.0.1:5000: connect: connection refused",
        );
        check(
            "",
            "Get \"https://bit:5000/v2/\": http: server gave HTTP response to HTTPS client",
            "registry bit:5000 of image bit:5000/deepo:1 does not answer: http: server gave HTTP response to HTTPS client",
        );
        check(
            "",
            "failed to register layer: write /usr/lib/x.so: no space left on device",
            "the disk for images of this node is too full for image bit:5000/deepo:1",
        );
        check(
            "",
            "no matching manifest for linux/arm64/v8 in the manifest list entries",
            "image bit:5000/deepo:1 is not made for the processors of this node",
        );
        check(
            "",
            "toomanyrequests: You have reached your pull rate limit.",
            "registry bit:5000 lets nobody here have more images for now",
        );
        check(
            "",
            "invalid reference format",
            "'bit:5000/deepo:1' is no image name",
        );
    }

    #[test]
    fn what_nobody_foresaw_is_told_on_one_line_without_control_characters() {
        let said = format!("strange\u{1b}[31m {}\nsecond line", "x".repeat(500));
        let PullProblem::Other { said, .. } = problem_of("a", "", &said) else {
            panic!("it is nothing known");
        };
        assert!(
            said.starts_with("strange[31m x") && said.len() <= 200,
            "{said}"
        );
    }
}
