//! Who somebody is at a registry: read from docker's own `config.json`, the user's or the site's, held in memory for one
//! pull, and printed nowhere.
//!
//! The form of the file: <https://docs.docker.com/reference/cli/docker/login/>. Credential helpers are programs of the
//! user's own computer, which an agent does not run; a file that has nothing else is told of in the refusal.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// Something that must not be seen. `Debug` says only that there is one, and there is no `Display`.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text`.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// For the request to the engine, and for nothing else.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Who somebody is at one registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The account; empty with a token.
    pub account: String,
    /// Its password.
    pub password: Secret,
    /// In place of both.
    pub token: Secret,
    /// `registry.lab:5000`.
    pub registry: String,
}

/// The entries of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keyring {
    entries: BTreeMap<String, Credentials>,
    /// It leaves some to a program.
    pub has_helper: bool,
}

/// A file that cannot be used. Says where, and never what stands there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCredentials {
    /// It is no JSON of this form.
    #[error("it is no config.json of docker: line {line}, column {column}")]
    Form {
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
    },
    /// An `auth` that is no base64 of `ACCOUNT:PASSWORD`.
    #[error("the entry for {registry} has no account and password in its auth")]
    Entry {
        /// Its key.
        registry: String,
    },
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default, rename = "credsStore")]
    store: Option<String>,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    auth: Secret,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: Secret,
    #[serde(default, rename = "identitytoken")]
    token: Secret,
}

impl Keyring {
    /// The longest file that is read, in bytes.
    pub const BYTES_MAX: u64 = 256 * 1024;

    /// Reads the text of a `config.json`.
    ///
    /// # Errors
    /// Where it is wrong; never what stands there.
    pub fn parse(text: &str) -> Result<Self, BadCredentials> {
        let file: File = serde_json::from_str(text).map_err(|error| BadCredentials::Form {
            line: error.line(),
            column: error.column(),
        })?;
        let File {
            auths,
            store,
            helpers,
        } = file;
        let mut keyring = Self {
            has_helper: store.is_some_and(|store| !store.is_empty()) || !helpers.is_empty(),
            ..Self::default()
        };
        for (key, entry) in auths {
            let registry = registry_key(&key);
            if let Some(credentials) = credentials(&registry, entry)? {
                keyring.entries.insert(registry, credentials);
            }
        }
        Ok(keyring)
    }

    /// Who somebody is at the registry of `image`.
    #[must_use]
    pub fn for_image(&self, image: &str) -> Option<&Credentials> {
        self.entries.get(&registry_of(image))
    }
}

fn credentials(registry: &str, entry: Entry) -> Result<Option<Credentials>, BadCredentials> {
    let Entry {
        auth,
        username,
        password,
        token,
    } = entry;
    let bad = || BadCredentials::Entry {
        registry: registry.to_owned(),
    };
    let (account, password) = match auth.is_empty() {
        true => (username, password),
        false => {
            let bytes = STANDARD.decode(auth.reveal().trim()).map_err(|_| bad())?;
            let text = String::from_utf8(bytes).map_err(|_| bad())?;
            let (account, password) = text.split_once(':').ok_or_else(bad)?;
            // docker pads what it writes with NULs.
            let password = password.trim_end_matches('\0').to_owned();
            (account.to_owned(), Secret::new(password))
        }
    };
    if token.is_empty() && (account.is_empty() || password.is_empty()) {
        // A helper keeps it elsewhere.
        return Ok(None);
    }
    Ok(Some(Credentials {
        account,
        password,
        token,
        registry: registry.to_owned(),
    }))
}

/// `https://index.docker.io/v1/` and `docker.io` are one; so are all ways to write a host.
fn registry_key(key: &str) -> String {
    let bare = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key);
    let host = bare.split('/').next().unwrap_or(bare).to_ascii_lowercase();
    match host.as_str() {
        "index.docker.io" | "registry-1.docker.io" => HUB.to_owned(),
        _ => host,
    }
}

/// Where names without a registry belong.
const HUB: &str = "docker.io";

/// The registry of an image: what stands before the first slash, when it can be a host.
#[must_use]
pub fn registry_of(image: &str) -> String {
    match image.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => {
            registry_key(first)
        }
        Some(_) | None => HUB.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `alice:wonder land`, and `bob:x` with docker's padding.
    const FILE: &str = r#"{"auths": {
        "registry.lab:5000": {"auth": "YWxpY2U6d29uZGVyIGxhbmQ="},
        "https://index.docker.io/v1/": {"username": "bob", "password": "hush"},
        "quay.io": {},
        "ghcr.io": {"identitytoken": "ey.token"}
    }, "credHelpers": {"quay.io": "secretservice"}}"#;

    #[test]
    fn the_entry_of_an_images_registry_is_found() {
        let keyring = Keyring::parse(FILE).unwrap();
        let found = keyring.for_image("registry.lab:5000/a/b:1").unwrap();
        assert_eq!(found.account, "alice");
        assert_eq!(found.password.reveal(), "wonder land");
        assert_eq!(keyring.for_image("busybox").unwrap().account, "bob");
        assert_eq!(keyring.for_image("library/busybox").unwrap().account, "bob");
        let token = keyring.for_image("ghcr.io/x/y").unwrap();
        assert_eq!(token.token.reveal(), "ey.token");
        assert_eq!(keyring.for_image("quay.io/x"), None, "left to a helper");
        assert!(keyring.has_helper);
        assert_eq!(
            keyring.for_image("registry.lab:5001/a"),
            None,
            "another port"
        );
    }

    #[test]
    fn no_secret_is_printed() {
        let keyring = Keyring::parse(FILE).unwrap();
        let printed = format!("{keyring:?} {keyring:#?}");
        for secret in ["wonder", "hush", "ey.token", "YWxp"] {
            assert!(!printed.contains(secret), "{printed}");
        }
        assert!(
            printed.contains("alice") && printed.contains("(secret)"),
            "{printed}"
        );
    }

    #[test]
    fn a_file_that_is_wrong_is_told_of_without_what_stands_in_it() {
        for text in [
            r#"{"auths": {"r:1": {"auth": "hush"}}}"#,
            r#"{"auths": {"r:1": {"auth": {"hush": 1}}}}"#,
            r#"{"auths": {"r:1": "hush"}}"#,
            r#"{"auths": "hush"#,
            "hush",
        ] {
            let problem = Keyring::parse(text).unwrap_err();
            let said = format!("{problem} {problem:?}");
            assert!(!said.contains("hush"), "{said}");
        }
    }

    #[test]
    fn registries_are_told_from_folders() {
        for (image, registry) in [
            ("busybox", "docker.io"),
            ("nvidia/cuda:12", "docker.io"),
            ("bit:5000/deepo", "bit:5000"),
            ("Registry.Lab/x", "registry.lab"),
            ("localhost/x", "localhost"),
        ] {
            assert_eq!(registry_of(image), registry, "{image}");
        }
    }
}
