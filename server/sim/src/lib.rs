//! The simulator: what the scheduler would have done with the jobs of a trace. It decides nothing about scheduling:
//! it hands the jobs to [`capstan_core::apply`] and [`capstan_core::plan()`] on a clock of its own and writes down what
//! they decide. What it measures is said in [`Summary`].

mod accounting;
mod cluster;
mod compare;
mod error;
mod input;
mod lending;
mod lines;
mod metrics;
mod plot;
mod rate;
mod replay;
mod site;
mod summary;
mod swf;
mod table;
mod trace;

pub use capstan_core::{Directive, ManageCommand, PolicyName};
pub use cluster::{CardsOfOneModel, Cluster, NodeDescription};
pub use compare::{Comparison, Shift, compare};
pub use error::SimError;
pub use input::{Slice, load};
pub use plot::plot;
pub use replay::{JobRun, Progress, Run, Sample, replay};
pub use site::{Order, Site};
pub use summary::{Party, Summary, summarise};
pub use table::{comparison_text, summary_text};
pub use trace::{Ask, Trace, TraceJob};
