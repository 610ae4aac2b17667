//! What the core decides, as stories: text clusters for placement, single lives for everything else.

#![expect(
    clippy::unwrap_used,
    reason = "a helper of tests that cannot go on fails the test"
)]

#[path = "../harness/mod.rs"]
mod harness;

mod arrays;
mod cards;
mod chunks;
mod dependencies;
mod entering;
mod fair;
mod fifo;
mod images;
mod joint;
mod life;
mod limits;
mod managing;
mod nodes;
mod orders;
mod own_nodes;
mod placing;
mod preempting;
mod reaching;
mod reservations;
mod routing;
mod submitting;
mod text;
mod together;
mod why;
mod windows;
