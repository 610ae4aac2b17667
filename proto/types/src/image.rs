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

#[cfg(test)]
mod tests {
    use super::image_name;

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
