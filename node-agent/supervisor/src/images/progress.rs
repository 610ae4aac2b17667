//! How far a pull is: sums over the layers of an image, as the engine tells of them one by one.

use std::collections::BTreeMap;
use std::fmt;

/// How far a pull is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Layers that are here.
    pub layers_done: u32,
    /// Layers that are known of; more may come.
    pub layers: u32,
    /// Bytes that came over the network.
    pub bytes: u64,
    /// Bytes that will have come, as far as is known.
    pub bytes_total: u64,
}

impl Progress {
    /// Parts of a hundred. Never 100: what came still has to be unpacked.
    #[must_use]
    pub fn percent(self) -> u32 {
        let part = self.bytes.saturating_mul(100).checked_div(self.bytes_total);
        u32::try_from(part.unwrap_or(0)).unwrap_or(99).min(99)
    }
}

/// `45 % (1.2 of 2.7 GiB, 3 of 12 layers)`.
impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            layers_done,
            layers,
            bytes,
            bytes_total,
        } = *self;
        if bytes_total == 0 {
            return write!(f, "{layers_done} of {layers} layers");
        }
        let (unit, name) = match bytes_total {
            0..0x100_000 => (0x400, "KiB"),
            0x100_000..0x4000_0000 => (0x10_0000, "MiB"),
            0x4000_0000.. => (0x4000_0000, "GiB"),
        };
        let tenths = |bytes: u64| {
            let tenths = bytes.saturating_mul(10) / unit;
            format!("{}.{}", tenths / 10, tenths % 10)
        };
        let (percent, done, total) = (self.percent(), tenths(bytes), tenths(bytes_total));
        write!(
            f,
            "{percent} % ({done} of {total} {name}, {layers_done} of {layers} layers)"
        )
    }
}

/// The layers of one pull.
#[derive(Debug, Default)]
pub struct Layers(BTreeMap<String, Layer>);

#[derive(Debug, Default)]
struct Layer {
    bytes: u64,
    total: u64,
    done: bool,
}

impl Layers {
    /// Layers that are counted; no image may have more (dockerd: 127).
    const COUNT_MAX: usize = 1000;

    /// Hears what the engine says of one layer, and answers with the sums when it was of one.
    pub fn hear(&mut self, id: &str, status: &str, now: u64, total: u64) -> Option<Progress> {
        let is_known = self.0.contains_key(id);
        // The first and the last lines are about the whole image.
        let is_layer = is_known || status == "Pulling fs layer" || status == "Already exists";
        if !is_layer || (!is_known && self.0.len() == Self::COUNT_MAX) {
            return None;
        }
        let layer = self.0.entry(id.to_owned()).or_default();
        match status {
            "Downloading" => {
                layer.total = layer.total.max(total);
                layer.bytes = now.min(layer.total);
            }
            "Verifying Checksum" | "Download complete" | "Extracting" => layer.bytes = layer.total,
            "Pull complete" | "Already exists" => {
                layer.bytes = layer.total;
                layer.done = true;
            }
            // Waiting, retrying: nothing new.
            _ => {}
        }
        Some(self.sum())
    }

    fn sum(&self) -> Progress {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Progress {
            layers_done: count(self.0.values().filter(|layer| layer.done).count()),
            layers: count(self.0.len()),
            bytes: self.0.values().map(|layer| layer.bytes).sum(),
            bytes_total: self.0.values().map(|layer| layer.total).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_summed_up() {
        let mut layers = Layers::default();
        assert_eq!(
            layers.hear("1.36", "Pulling from library/busybox", 0, 0),
            None
        );
        layers.hear("aa", "Pulling fs layer", 0, 0);
        layers.hear("bb", "Already exists", 0, 0);
        layers.hear("cc", "Pulling fs layer", 0, 0);
        layers.hear("aa", "Downloading", 10, 100);
        let half = layers.hear("cc", "Downloading", 140, 300).unwrap();
        assert_eq!(half.to_string(), "37 % (0.1 of 0.3 KiB, 1 of 3 layers)");
        layers.hear("aa", "Download complete", 0, 0);
        layers.hear("aa", "Pull complete", 0, 0);
        layers.hear("cc", "Extracting", 5, 300);
        let late = layers.hear("cc", "Retrying in 5 seconds", 0, 0).unwrap();
        assert_eq!((late.bytes, late.layers_done, late.percent()), (400, 2, 99));
    }

    #[test]
    fn sizes_are_in_the_unit_of_the_whole() {
        let progress = Progress {
            layers_done: 3,
            layers: 12,
            bytes: 1_288_490_189,
            bytes_total: 2_899_102_925,
        };
        let text = progress.to_string();
        assert_eq!(text, "44 % (1.2 of 2.7 GiB, 3 of 12 layers)");
        let unknown = Progress {
            layers: 4,
            ..Progress::default()
        };
        assert_eq!(unknown.to_string(), "0 of 4 layers");
    }

    #[test]
    fn a_registry_that_lies_about_sizes_breaks_nothing() {
        let mut layers = Layers::default();
        layers.hear("aa", "Pulling fs layer", 0, 0);
        let lied = layers.hear("aa", "Downloading", u64::MAX, 10).unwrap();
        assert_eq!((lied.bytes, lied.percent()), (10, 99));
    }
}
