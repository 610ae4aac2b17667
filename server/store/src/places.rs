//! Where the parts of a store on disk are, whether they fit together, and where a broken index goes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::index::{Fault, Mark};
use crate::medium::Folder;
use crate::snapshot::{self, Kind};
use crate::{RebuildReason, StoreError, journal};

/// Broken indexes kept for a look at them.
const DAMAGED_KEPT: usize = 2;

/// Where everything is.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    pub(crate) dir: PathBuf,
    pub(crate) journal: Arc<dyn Folder>,
    pub(crate) snapshots: Arc<dyn Folder>,
}

impl Places {
    pub(crate) fn index(&self) -> PathBuf {
        self.dir.join("index")
    }

    /// Checks that what an index of this mark refers to, and lacks, is still there.
    pub(crate) fn check(&self, mark: Mark) -> Result<(), Fault> {
        let refused = |error: StoreError| Fault::Refused(error.to_string().into());
        let segments = journal::segments(&*self.journal).map_err(refused)?;
        let oldest = segments.first().map_or(1, |segment| segment.header.first);
        if mark.last + 1 < oldest {
            let (index, journal) = (mark.last, oldest);
            return Err(Fault::Broken(RebuildReason::OlderThanJournal {
                index,
                journal,
            }));
        }
        let snapshots = snapshot::list(&*self.snapshots, Kind::Snapshot).map_err(refused)?;
        let has_base = mark.base == 0 || snapshots.contains(&mark.base);
        match has_base && oldest <= mark.base + 1 {
            true => Ok(()),
            false => Err(Fault::Broken(RebuildReason::Dangling {
                snapshot: mark.base,
            })),
        }
    }
}

/// Moves a broken index out of the way, where an administrator can look at it; the oldest of too many is removed, and
/// at once one that is not to blame.
pub(crate) fn move_aside(index: &Path, reason: &RebuildReason) -> std::io::Result<Option<PathBuf>> {
    let parent = index.parent().unwrap_or(Path::new("."));
    if !index.try_exists()? {
        return Ok(None);
    }
    let mut numbers = Vec::new();
    for entry in fs::read_dir(parent)? {
        let name = entry?.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_prefix("index.damaged-"));
        numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    let place = |number: u64| parent.join(format!("index.damaged-{number}"));
    let new = place(numbers.last().map_or(1, |last| last + 1));
    fs::rename(index, &new)?;
    if *reason == RebuildReason::Held {
        fs::remove_dir_all(new)?;
        return Ok(None);
    }
    let surplus = (numbers.len() + 1).saturating_sub(DAMAGED_KEPT);
    for number in numbers.iter().take(surplus) {
        fs::remove_dir_all(place(*number))?;
    }
    Ok(Some(new))
}
