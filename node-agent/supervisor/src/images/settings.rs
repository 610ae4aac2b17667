//! What a site decides about images on a host: as written in the agent's settings, and in force.

use std::collections::BTreeMap;
use std::path::PathBuf;

use capstan_types::{BadAlias, ImageAliases};
use serde::Deserialize;

use super::eviction::Watermarks;

/// `[images]` of the agent's settings.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImagesFile {
    /// Short names and beginnings of names.
    #[serde(default)]
    pub aliases: BTreeMap<String, String>,
    /// A `config.json` of docker with the site's own accounts; root's alone.
    pub credentials_file: Option<PathBuf>,
    /// Above this the longest unused images leave.
    pub disk_high_percent: Option<u32>,
    /// Until this.
    pub disk_low_percent: Option<u32>,
    /// Names that never leave; `*` at the end stands for any rest.
    #[serde(default)]
    pub pinned: Vec<String>,
}

/// In force.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImageSettings {
    /// Short names.
    pub aliases: ImageAliases,
    /// The site's own accounts.
    pub credentials_file: Option<PathBuf>,
    /// None: images never leave.
    pub watermarks: Option<Watermarks>,
    /// Never leave.
    pub pinned: Vec<String>,
}

/// Settings that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadImages {
    /// An alias.
    #[error(transparent)]
    Alias(#[from] BadAlias),
    /// A path that is not absolute.
    #[error("credentials_file must be an absolute path, not {}", path.display())]
    Path {
        /// As written.
        path: PathBuf,
    },
    /// Marks in the wrong order, or beyond a hundred.
    #[error(
        "disk_low_percent ({low}) must be below disk_high_percent ({high}), and that at most 100"
    )]
    Marks {
        /// As written, or by default.
        low: u32,
        /// As written.
        high: u32,
    },
    /// Only one mark.
    #[error("disk_low_percent means nothing without disk_high_percent")]
    OneMark,
}

/// How much below the high mark the low one is by default.
const STEP_PERCENT: u32 = 10;

impl ImagesFile {
    /// What is in force.
    ///
    /// # Errors
    /// The first thing that cannot be.
    pub fn resolve(self) -> Result<ImageSettings, BadImages> {
        let Self {
            aliases,
            credentials_file,
            disk_high_percent,
            disk_low_percent,
            pinned,
        } = self;
        if let Some(path) = credentials_file.clone().filter(|path| !path.is_absolute()) {
            return Err(BadImages::Path { path });
        }
        let watermarks = match (disk_high_percent, disk_low_percent) {
            (None, None) => None,
            (None, Some(_)) => return Err(BadImages::OneMark),
            (Some(high), low) => {
                let low = low.unwrap_or_else(|| high.saturating_sub(STEP_PERCENT));
                if low >= high || high > 100 {
                    return Err(BadImages::Marks { low, high });
                }
                Some(Watermarks {
                    high_percent: high,
                    low_percent: low,
                })
            }
        };
        Ok(ImageSettings {
            aliases: ImageAliases::new(&aliases)?,
            credentials_file,
            watermarks,
            pinned,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(text: &str) -> Result<ImageSettings, BadImages> {
        let file: ImagesFile = serde_json::from_str(text).unwrap();
        file.resolve()
    }

    #[test]
    fn nothing_written_is_nothing_done() {
        assert_eq!(resolve("{}"), Ok(ImageSettings::default()));
    }

    #[test]
    fn the_low_mark_is_below_the_high_one() {
        let settings = resolve(r#"{"disk_high_percent": 85}"#).unwrap();
        let expected = Watermarks {
            high_percent: 85,
            low_percent: 75,
        };
        assert_eq!(settings.watermarks, Some(expected));
        for wrong in [
            r#"{"disk_high_percent": 50, "disk_low_percent": 50}"#,
            r#"{"disk_high_percent": 101}"#,
            r#"{"disk_high_percent": 0}"#,
            r#"{"disk_low_percent": 10}"#,
            r#"{"credentials_file": "registry.json"}"#,
            r#"{"aliases": {"a": "b c"}}"#,
        ] {
            assert!(resolve(wrong).is_err(), "{wrong}");
        }
    }
}
