//! Prints the cards of this host and what they do, as the agent sees them: `cargo run -p capstan-gpu --example cards
//! [LIBRARY]`. For looking at a driver that Capstan does not understand.
#![expect(clippy::print_stdout, reason = "its whole purpose")]

use std::path::PathBuf;
use std::time::Instant;

use capstan_gpu::NvmlGpus;
use capstan_supervisor::ports::Gpus;

fn main() {
    let library = std::env::args_os().nth(1).map(PathBuf::from);
    let gpus = NvmlGpus::open(library.as_deref());
    let began = Instant::now();
    println!("{:#?}", gpus.inventory());
    println!("inventory took {:?}", began.elapsed());
    let began = Instant::now();
    println!("{:#?}", gpus.usage());
    println!("usage took {:?}", began.elapsed());
}
