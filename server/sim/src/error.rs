//! What can be wrong with what a simulation is given: always which file and which line, what is wrong, what to do.

use std::path::PathBuf;

/// Why there is nothing to simulate.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line of a file means nothing.
    #[error("{}:{line}: {what}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong with it, and what to do.
        what: Box<str>,
    },
    /// `:FIRST:COUNT` means no job.
    #[error(
        "{}: there is no job number {first}: the file has {jobs} that ran, counted from 0",
        path.display()
    )]
    EmptySlice {
        /// The file.
        path: PathBuf,
        /// The first job wished for.
        first: usize,
        /// How many there are.
        jobs: usize,
    },
    /// No job of the files ever ran.
    #[error("{}: none of its {skipped} jobs ever ran: runtime (column 4) and processors (column 8) must be above 0", path.display())]
    NoJobs {
        /// The (first) file.
        path: PathBuf,
        /// Jobs that were left out.
        skipped: usize,
    },
    /// No accounting record is of a job that ended.
    #[error("{}: no job of these records ended ({skipped} came): give the logs of more days", path.display())]
    NoEnds {
        /// The (first) log.
        path: PathBuf,
        /// Jobs that were left out.
        skipped: usize,
    },
    /// Nobody says what the nodes are.
    #[error(
        "what are the nodes? The trace does not say (no header lines X-Nodes and X-SlotsPerNode): give --nodes and \
         --slots, or --cluster FILE"
    )]
    NoCluster,
    /// Too many nodes, or too large ones.
    #[error("{0}")]
    Cluster(Box<str>),
    /// The core refuses a setting.
    #[error("{order}: {why}")]
    Setting {
        /// The order, as it was written.
        order: Box<str>,
        /// Why not.
        why: Box<str>,
    },
}
