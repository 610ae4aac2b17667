//! What commands print: the screen, and one module per shape of listing. Widths and texts are those that Torque's
//! commands were recorded with; programs cut columns out of them.

pub(crate) mod assignments;
pub(crate) mod attributes;
pub(crate) mod json;
pub(crate) mod nodes;
pub(crate) mod pad;
pub(crate) mod pro;
pub(crate) mod pro_formats;
pub(crate) mod pro_tables;
pub(crate) mod queues;
pub(crate) mod rows;
pub(crate) mod screen;
pub(crate) mod wide;
pub(crate) mod xml;
