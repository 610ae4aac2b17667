//! Measures a real cluster, release build, and prints each figure with its conditions. `scripts/bench` runs it as
//! root; what users do runs as an ordinary user. Nothing here asserts a time: figures are for reading.

mod attempts;
mod commands;
mod containers;
mod idle;
mod load;
mod planning;
mod report;
mod simulation;

use anyhow::{Context, Result, bail};
use capstan_tests::{Cluster, User};

use report::Report;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["load", rest @ ..] => load::main(rest),
        ["plan"] => {
            planning::measure(&mut Report::start());
            Ok(())
        }
        ["sim", slices @ ..] => simulation::measure(&mut Report::start(), slices),
        ["sequences", slices @ ..] => simulation::sequences(&mut Report::start(), slices),
        ["kill"] => attempts::kill(&User::alice(), &mut Report::start()),
        ["free"] => attempts::free(&User::alice(), &mut Report::start()),
        ["sampling"] => attempts::sampling(&User::alice(), &mut Report::start()),
        ["containers"] => {
            let mut report = Report::start();
            containers::measure(&User::alice(), &mut report)?;
            containers::short_jobs(&User::alice(), &mut report)
        }
        [] => measure_all(),
        other => bail!(
            "unknown arguments {other:?}: call scripts/bench without any, or with kill, free, sampling, containers or plan, with sim [FILE[:FIRST:COUNT]...], \
             or with sequences FILE..."
        ),
    }
}

fn measure_all() -> Result<()> {
    let mut report = Report::start();
    let bencher = User::alice();
    {
        let cluster = Cluster::up(&["--nodes", "1", "--cores", "64", "--release"]);
        idle::measure(&cluster, &mut report).context("idle cluster")?;
        commands::first_line(&cluster, &bencher, &mut report)?;
        commands::submissions(&cluster, &bencher, &mut report)?;
        load::group_commit(&cluster, &bencher, &mut report)?;
        commands::large_array(&cluster, &bencher, &mut report)?;
    }
    {
        let cluster = Cluster::up(&["--nodes", "1", "--cores", "64", "--release"]);
        load::drain(&cluster, &bencher, &mut report)?;
    }
    {
        let mut cluster = Cluster::up(&["--nodes", "1", "--cores", "64", "--release"]);
        load::fill(&cluster, &bencher, 10_000)?;
        commands::list(&cluster, &bencher, &mut report)?;
        idle::memory_with_jobs(&cluster, &mut report)?;
        commands::restart(&mut cluster, &mut report);
    }
    attempts::kill(&bencher, &mut report)?;
    attempts::free(&bencher, &mut report)?;
    attempts::sampling(&bencher, &mut report)?;
    containers::measure(&bencher, &mut report)?;
    containers::short_jobs(&bencher, &mut report)?;
    // Last: a process that has grown forks slowly, and the figures above begin with a fork of this one.
    planning::measure(&mut report);
    simulation::measure(&mut report, &[])
}
