//! Instructions of one pulse, counted by callgrind in user mode: a run of N and one of 2N pulses, subtracted, so that
//! starting up drops out.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, ensure};

use super::Session;
use super::figure::{Bounds, Figure};
use super::ingest::{ingest_role, verify};
use crate::child::{Ready, Running, Under};
use crate::load::{self, Shape};
use crate::mix::{Mix, Pulses, Totals};
use crate::records::{self, BATCH};
use crate::role::fold::FOLD_STAGES;

pub(super) fn measure(session: &Session, show: &mut dyn FnMut(Figure)) -> anyhow::Result<()> {
    for (place, (name, mix)) in session.mixes.iter().enumerate() {
        let small = session.pick(100_000, 20_000);
        let ingest = slope(small, |pulses| ingest(session, *mix, pulses))?;
        let bounds = |floor, goal| if place == 0 { Bounds::AtMost { floor, goal } } else { Bounds::Beside };
        let figure = |what: &str, value, bounds| Figure {
            what: format!("{what}: {name}"),
            value,
            unit: "instructions a pulse",
            detail: "callgrind, N and 2N subtracted".to_owned(),
            bounds,
        };
        show(figure("ingest, batches of 1,000, with transport and log", ingest, bounds(1500.0, 700.0)));
        // So many that each partition completes whole ranges of 128 records.
        let small = session.pick(1_024_000, 128_000);
        let stages = slope(small, |pulses| fold(session, *mix, pulses, Fold::Stages))?;
        show(figure("consume: read, split, decode, dedup, add", stages, bounds(1500.0, 600.0)));
        let opened = slope(small, |pulses| fold(session, *mix, pulses, Fold::Open))?;
        let whole = slope(small, |pulses| fold(session, *mix, pulses, Fold::Stored))? - opened;
        show(figure("consume with every flush into the embedded store", whole, Bounds::Beside));
        let unstored = slope(small, |pulses| fold(session, *mix, pulses, Fold::Unstored))? - opened;
        show(figure("consume with every flush into memory", unstored, Bounds::Beside));
    }
    Ok(())
}

fn slope(small: u64, run: impl Fn(u64) -> anyhow::Result<u64>) -> anyhow::Result<f64> {
    let (one, two) = (run(small)?, run(2 * small)?);
    Ok((two.saturating_sub(one)) as f64 / small as f64)
}

fn ingest(session: &Session, mix: Mix, pulses: u64) -> anyhow::Result<u64> {
    let scratch = session.scratch()?;
    let (log, counts) = (scratch.path().join("log"), scratch.path().join("counts"));
    let mut made = Pulses::new(mix, pulses, records::base_seconds(), 1);
    let batches = Arc::new(load::encode(&mut made, BATCH));
    let mut server = Running::start(&ingest_role(&log), &Under::Callgrind(counts.clone()))?;
    let address = server.hear::<Ready>()?.address;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(load::send(&address, batches, Shape { connections: 2, in_flight: 2 }))?;
    server.end()?;
    verify(&log, made.totals(), 1)?;
    read_count(&counts)
}

/// What is counted of a fold.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fold {
    /// Opening the log, which grows with it.
    Open,
    /// All, with the embedded store.
    Stored,
    /// All, with a store in memory.
    Unstored,
    /// Of a fold with the embedded store what every pulse goes through: the stages of the instruction budget.
    Stages,
}

fn fold(session: &Session, mix: Mix, pulses: u64, what: Fold) -> anyhow::Result<u64> {
    let scratch = session.scratch()?;
    let (log_folder, counts) = (scratch.path().join("log"), scratch.path().join("counts"));
    let log = records::open(&log_folder)?;
    let wanted = records::fill(&*log, mix, pulses, 1)?;
    log.close();
    drop(log);
    let mut role: Vec<OsString> = vec!["fold".into(), "--log".into(), log_folder.into()];
    match what {
        Fold::Open => role.push("--open".into()),
        Fold::Stored | Fold::Stages => role.extend(["--store".into(), scratch.path().join("store").into()]),
        Fold::Unstored => {}
    }
    let under = match what {
        Fold::Stages => Under::CallgrindWithin(counts.clone(), &FOLD_STAGES),
        Fold::Open | Fold::Stored | Fold::Unstored => Under::Callgrind(counts.clone()),
    };
    let mut running = Running::start(&role, &under)?;
    let found: Totals = running.hear()?;
    running.end()?;
    ensure!(what == Fold::Open || found == wanted, "the fold gave {found:?}, not {wanted:?}");
    read_count(&counts)
}

fn read_count(file: &Path) -> anyhow::Result<u64> {
    let text = std::fs::read_to_string(file)?;
    let line = text.lines().find_map(|line| line.strip_prefix("totals:").or(line.strip_prefix("summary:")));
    line.and_then(|line| line.trim().parse().ok()).context("callgrind's file has a total")
}
