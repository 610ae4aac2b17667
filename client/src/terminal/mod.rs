//! Terminals, as the commands see them that connect one with a job: `qsub -I`, `qattach`, `qexec`, `startdocker`.

mod backlog;
mod escapes;
mod pieces;
mod signals;
mod stdin;
pub(crate) mod talk;
pub(crate) mod tty;
pub(crate) mod writer;

pub(crate) use talk::{End, Talk};
