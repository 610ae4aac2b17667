//! End to end: the real server, agents, commands, container engine and ordinary users. Needs root.

#![expect(
    clippy::unwrap_used,
    reason = "a failed unwrap in a test's own helper is a failed test"
)]

mod bad_input;
mod cards;
mod chaos;
mod contained;
mod containers;
mod disk;
mod doctor;
mod engine_away;
mod escapes;
mod eviction;
mod faq;
mod faults;
mod fence;
mod foresight;
mod full_node;
mod gang;
mod habits;
mod hooks;
mod images;
mod interactive;
mod jobs;
mod lasting;
mod life;
mod networks;
mod output;
mod preempting;
mod preparing;
mod pushed_keys;
mod ranks;
mod renumbered;
mod reports;
mod reserving;
mod sessions;
mod store_faults;
mod terminals;
mod typing;
mod upgrade;

/// Says aloud why a test does nothing here.
fn skipped(why: &str) {
    let line = format!("skipped: {why}\n");
    std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).ok();
}

/// Whether ordinary users can be made and become: only as root.
fn is_root() -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        skipped("needs root to make ordinary users");
    }
    is_root
}
