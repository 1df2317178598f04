//! `pulso-simulator run`: many seeds, and one line that reproduces the first wrong one.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use pulso_platform::service::clock::Clock;
use pulso_simulator::mutant::Mutant;
use pulso_simulator::run::{Outcome, Run, run};
use pulso_simulator::world::Way;

/// Seeded simulation of the fold: crashes, zombies, late writes, lost quorums, evictions, rewinds.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Lives many seeds and compares each with the oracle; exit 1 at the first that is wrong.
    Run(RunArgs),
    /// Lives many seeds under each mutant, and prints how many of them come out wrong.
    Mutants(RunArgs),
}

#[derive(Clone, Debug, clap::Args)]
struct RunArgs {
    /// How many seeds.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// The shortcut to take.
    #[arg(long)]
    mutant: Option<Mutant>,
    /// How many threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// No faults at all.
    #[arg(long)]
    calm: bool,
    /// Say each action of each seed on stderr.
    #[arg(long)]
    trace: bool,
}

impl RunArgs {
    fn run(&self, mutant: Option<Mutant>, stops_at_wrong: bool) -> Run {
        let way = Way { mutant, calm: self.calm, trace: self.trace, ..Way::default() };
        Run { first: self.first, seeds: self.seeds, way, threads: self.threads, stops_at_wrong }
    }

    fn reproduce(&self, seed: u64) -> String {
        let mutant = self.mutant.map_or_else(String::new, |mutant| format!(" --mutant {}", mutant.name()));
        let calm = if self.calm { " --calm" } else { "" };
        format!("reproduce: cargo run -p pulso-simulator -- run --first {seed} --seeds 1{mutant}{calm}")
    }
}

fn main() -> io::Result<ExitCode> {
    let mut out = io::stdout().lock();
    match Args::parse().command {
        Command::Run(args) => run_all(&args, &mut out),
        Command::Mutants(args) => run_mutants(&args, &mut out),
    }
}

fn timed(run_this: &Run) -> (Outcome, f64) {
    // The clock measures speed only; no choice depends on it.
    let before = Clock::System.now_nanos();
    let outcome = run(run_this);
    (outcome, (Clock::System.now_nanos() - before) as f64 / 1e9)
}

fn run_all(args: &RunArgs, out: &mut impl Write) -> io::Result<ExitCode> {
    let (outcome, seconds) = timed(&args.run(args.mutant, true));
    let speed = outcome.tally.seeds as f64 / seconds.max(0.001);
    writeln!(out, "{}, seeds/s {speed:.0}, wrong {}", outcome.tally, outcome.wrong.len())?;
    if let Some(wrong) = outcome.wrong.first() {
        writeln!(out, "seed {}: {}", wrong.seed, wrong.difference)?;
        writeln!(out, "{}", args.reproduce(wrong.seed))?;
        return Ok(ExitCode::FAILURE);
    }
    let too_few = outcome.tally.too_few();
    if args.seeds >= 100 && !args.calm && !too_few.is_empty() {
        writeln!(out, "fewer than one in 10 seeds: {}", too_few.join(", "))?;
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn run_mutants(args: &RunArgs, out: &mut impl Write) -> io::Result<ExitCode> {
    let mut missed = false;
    for mutant in Mutant::ALL {
        let (outcome, _) = timed(&args.run(Some(mutant), false));
        let (wrong, broken) = outcome.wrong_and_broken();
        let percent = |count: usize| 100.0 * count as f64 / outcome.tally.seeds.max(1) as f64;
        let (wrong_percent, broken_percent) = (percent(wrong), percent(broken));
        let name = mutant.name();
        writeln!(
            out,
            "{name:30} wrong {wrong_percent:6.2} %, else two values at one version {broken_percent:6.2} %"
        )?;
        missed |= outcome.wrong.is_empty();
    }
    Ok(if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
