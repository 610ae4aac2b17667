//! What the core decides, as stories: text clusters for placement, single lives for everything else.

#[path = "../harness/mod.rs"]
mod harness;

mod arrays;
mod dependencies;
mod life;
mod nodes;
mod placing;
mod submitting;
mod text;
