//! A `libnvidia-ml.so.1` of our own, for tests and the labelled demo: it exports what nvml-wrapper loads and answers
//! from a TOML file (`scenario`) that may change while it runs. No product crate depends on it.
//! It always calls itself simulated (driver version, `simulated …`), so that nobody takes its cards for real ones.

mod code;
mod exports;
mod scenario;
mod source;

use std::path::PathBuf;

/// The built cdylib, for tests that name this crate as a dev-dependency: cargo leaves it beside the test binary,
/// or one folder up. None when this crate was linked by something other than a cargo test.
#[must_use]
pub fn built_library() -> Option<PathBuf> {
    let beside = std::env::current_exe().ok()?.parent()?.to_owned();
    let folders = [
        beside.clone(),
        beside.join("deps"),
        beside.parent()?.to_owned(),
    ];
    folders
        .into_iter()
        .map(|folder| folder.join("libfake_nvml.so"))
        .find(|library| library.is_file())
}
