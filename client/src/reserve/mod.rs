//! `pbs_rsub`, `pbs_rstat` and `pbs_rdel`, PBS Pro's commands for advance reservations. Torque has none of its own.

mod cancel;
mod list;
mod submit;
mod wish;

pub(crate) use cancel::run as cancel;
pub(crate) use list::{OPTIONS as LIST_OPTIONS, run as list};
pub(crate) use submit::{OPTIONS as SUBMIT_OPTIONS, run as submit};
