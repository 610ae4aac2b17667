//! Names of container images, so that the one that a job asks for is known among those that a node holds.

/// The name by which a container engine lists an image: without what is understood (`docker.io/library/`), with the tag
/// that is meant by none (`latest`). Digests stay as they are.
#[must_use]
pub fn image_name(typed: &str) -> String {
    let bare = typed.strip_prefix("docker.io/").unwrap_or(typed);
    let bare = bare.strip_prefix("library/").unwrap_or(bare);
    let last = bare.rsplit('/').next().unwrap_or(bare);
    match last.contains([':', '@']) {
        true => bare.to_owned(),
        false => format!("{bare}:latest"),
    }
}

/// Whether `name` can be an image: `[HOST[:PORT]/]PATH[:TAG][@sha256:HEX]`. The name becomes part of a request to the
/// engine, so nothing else may pass.
#[must_use]
pub fn is_image_name(name: &str) -> bool {
    let plain = |text: &str, extra: &str| {
        !text.is_empty()
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || extra.contains(c))
            && !text.contains("..")
    };
    if name.len() > 255 {
        return false;
    }
    let (name, digest) = match name.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (name, None),
    };
    let digest_is_good = digest.is_none_or(|digest| {
        digest
            .strip_prefix("sha256:")
            .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
    });
    let last_slash = name.rfind('/').map_or(0, |at| at + 1);
    let (path, tag) = match name[last_slash..].find(':') {
        Some(colon) => (
            &name[..last_slash + colon],
            Some(&name[last_slash + colon + 1..]),
        ),
        None => (name, None),
    };
    let tag_is_good =
        tag.is_none_or(|tag| tag.len() <= 128 && plain(tag.trim_start_matches('_'), "_.-"));
    let mut parts = path.split('/');
    let first = parts.next().unwrap_or("");
    let (host, port) = first.split_once(':').unwrap_or((first, "0"));
    digest_is_good
        && tag_is_good
        && plain(host, "_.-")
        && port.bytes().all(|b| b.is_ascii_digit())
        && !port.is_empty()
        && (path.contains('/') || !first.contains(':'))
        && parts.all(|part| plain(part, "_.-"))
}

/// Whether a job may name this as its image: an image, or one behind the beginning of a site's own (`@site/tools:1`).
#[must_use]
pub fn is_image_wish(typed: &str) -> bool {
    let bare = match typed.strip_prefix('@') {
        Some(bare) if bare.contains('/') => bare,
        Some(_) | None => typed,
    };
    is_image_name(bare)
}

#[cfg(test)]
mod tests {
    use super::{image_name, is_image_name, is_image_wish};

    #[test]
    fn a_job_may_name_an_image_by_the_sites_own_beginnings() {
        for good in ["@site/tools:1", "tools", "bit:5000/a"] {
            assert!(is_image_wish(good), "{good}");
        }
        for bad in ["@", "@tools", "@@site/a", "@/a", "@site/", "@site/a b"] {
            assert!(!is_image_wish(bad), "{bad}");
        }
    }

    #[test]
    fn image_names_are_names_and_nothing_else() {
        let digest = format!("a@sha256:{}", "0".repeat(64));
        for good in [
            "deepo",
            "bit:5000/deepo",
            "bit:5000/deepo_9",
            "bit:5000/deepo:1.0-cuda11",
            "docker.io/library/busybox:latest",
            "a.b-c__d/e",
            "localhost/x",
            "capstan-demo:1",
            digest.as_str(),
            "a:_x",
            "192.168.9.99:5000/a/b/c:d",
        ] {
            assert!(is_image_name(good), "{good}");
        }
        let long = "a".repeat(256);
        for bad in [
            "",
            "-x",
            "--privileged",
            "../x",
            "a/../b",
            "a?b=c",
            "a b",
            "a#b",
            "a%2fb",
            "a\n",
            "a//b",
            "/a",
            "a/",
            ":x",
            "a:",
            "a@b",
            "a@sha256:0",
            "a:b:c",
            "bit:port/a",
            "a\0",
            "b\u{e4}r",
            "a:../../x",
            long.as_str(),
            "a/:5/b",
        ] {
            assert!(!is_image_name(bad), "{bad:?}");
        }
    }

    #[test]
    fn an_image_has_one_name_however_it_is_typed() {
        let check = |typed: &str, expected: &str| assert_eq!(image_name(typed), expected);
        check("python", "python:latest");
        check("python:3.12", "python:3.12");
        check("docker.io/library/python:3.12", "python:3.12");
        check("library/python", "python:latest");
        check("host:5000/a/b", "host:5000/a/b:latest");
        check("host:5000/a/b:1", "host:5000/a/b:1");
        check("a@sha256:00", "a@sha256:00");
    }
}
