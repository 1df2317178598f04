//! From log bytes to durable totals, against DuckDB on one thread: dedup and sum of the same pulses, which it holds in
//! memory as columns already.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::Deserialize;

use super::Session;
use super::figure::{Bounds, Figure};
use super::turns::Turns;
use crate::child::{Running, Under};
use crate::mix::{Mix, Pulses, Totals};
use crate::records;
use crate::role::consume::Consumed;

/// The other side, with `duckdb` from PyPI.
const DUCKDB: &str = include_str!("../../duckdb_totals.py");

pub(super) fn measure(session: &Session, show: &mut dyn FnMut(Figure)) -> anyhow::Result<()> {
    for (place, (name, mix)) in session.mixes.iter().enumerate() {
        let turns = compare(session, *mix)?;
        let ((ours, other), (value, worst)) = (turns.costs(), turns.times_cheaper());
        show(Figure {
            what: format!("log bytes to durable totals, CPU against DuckDB on one thread: {name}"),
            value,
            unit: "x",
            detail: format!("{ours:.0} ns CPU a pulse against {other:.0}; worst round {worst:.2} x"),
            bounds: if place == 0 { Bounds::AtLeast { floor: 0.8, goal: 2.0 } } else { Bounds::Beside },
        });
    }
    Ok(())
}

fn compare(session: &Session, mix: Mix) -> anyhow::Result<Turns> {
    let scratch = session.scratch()?;
    let pulses = session.pick(2_000_000, 200_000);
    let log = scratch.path().join("log");
    let wanted = {
        let log = records::open(&log)?;
        let wanted = records::fill(&*log, mix, pulses, 1)?;
        log.close();
        wanted
    };
    let columns = scratch.path().join("pulses.csv");
    write_columns(&columns, mix, pulses)?;
    let mut duckdb = DuckDb::start(scratch.path(), &columns)?;
    let mut run = 0;
    let turns = Turns::take(
        session.rounds(),
        || {
            run += 1;
            let consumed = consume(&log, &scratch.path().join(format!("store-{run}")))?;
            ensure!(consumed.totals == wanted, "the fold gave {:?}, not {wanted:?}", consumed.totals);
            Ok(consumed.cpu_nanos as f64 / pulses as f64)
        },
        || Ok(duckdb.run(wanted)?.as_nanos() as f64 / pulses as f64),
    )?;
    duckdb.running.end()?;
    Ok(turns)
}

fn consume(log: &Path, store: &Path) -> anyhow::Result<Consumed> {
    let role = ["consume".into(), "--log".into(), log.into(), "--store".into(), store.into()];
    let mut running = Running::start(&role, &Under::Nothing)?;
    let consumed = running.hear()?;
    running.end()?;
    std::fs::remove_dir_all(store)?;
    Ok(consumed)
}

/// The pulses as DuckDB reads them: what it costs to read them is not counted.
fn write_columns(path: &Path, mix: Mix, pulses: u64) -> anyhow::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    writeln!(file, "tenant_id,id,product_sku,use_unit,region,occurred_at,used_amount")?;
    for pulse in Pulses::new(mix, pulses, records::base_seconds(), 1) {
        let seconds = pulse.occurred_at.unwrap_or_default().seconds;
        writeln!(
            file,
            "{},{},{},{},{},{seconds},{}",
            pulse.tenant_id, pulse.id, pulse.product_sku, pulse.use_unit, pulse.region, pulse.used_amount
        )?;
    }
    Ok(file.flush()?)
}

struct DuckDb {
    running: Running,
}

#[derive(Deserialize)]
struct Summed {
    cpu_nanos: u64,
    pulses: u64,
    steps: i128,
}

impl DuckDb {
    fn start(folder: &Path, columns: &Path) -> anyhow::Result<Self> {
        let script = folder.join("duckdb_totals.py");
        std::fs::write(&script, DUCKDB)?;
        let mut command = Command::new("python3");
        let mut running = Running::spawn(command.arg(script).arg(columns), &Under::Nothing)?;
        let _loaded: serde_json::Value = running
            .hear()
            .context("DuckDB is needed for this row: `pip install duckdb`, then run it again")?;
        Ok(Self { running })
    }

    fn run(&mut self, wanted: Totals) -> anyhow::Result<Duration> {
        let Summed { cpu_nanos, pulses, steps } = self.running.ask("run")?;
        let totals = Totals { pulses, steps };
        ensure!(totals == wanted, "DuckDB gave {totals:?}, not {wanted:?}");
        Ok(Duration::from_nanos(cpu_nanos))
    }
}
