//! Ingest with a durable ack against a bare tonic and prost server that stores nothing: CPU time of the server process.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use anyhow::ensure;

use super::Session;
use super::figure::{Bounds, Figure};
use super::turns::Turns;
use crate::child::{Ready, Running, Under};
use crate::load::{self, Batch, Shape};
use crate::mix::{Mix, Pulses, Totals};
use crate::records::{self, BATCH};

/// The core of the server; the load maker takes the other.
const SERVER_CORE: u32 = 0;

/// Batches of 1,000.
pub(super) fn batches(session: &Session, show: &mut dyn FnMut(Figure)) -> anyhow::Result<()> {
    let load = Load {
        pulses: session.pick(300_000, 20_000),
        batch: BATCH,
        shape: Shape { connections: 4, in_flight: 2 },
    };
    for (place, (name, mix)) in session.mixes.iter().enumerate() {
        let turns = compare(session, *mix, &load)?;
        let ((ours, other), (value, worst)) = (turns.costs(), turns.times_cheaper());
        show(Figure {
            what: format!("ingest, batches of 1,000, durable ack, against a bare echo: {name}"),
            value,
            unit: "x",
            detail: format!("{ours:.0} ns CPU a pulse against {other:.0}; worst round {worst:.2} x"),
            bounds: if place == 0 { Bounds::AtLeast { floor: 0.8, goal: 1.5 } } else { Bounds::Beside },
        });
    }
    Ok(())
}

/// Single pulses, many at a time.
pub(super) fn unary(session: &Session, show: &mut dyn FnMut(Figure)) -> anyhow::Result<()> {
    let load = Load {
        pulses: session.pick(20_000, 2_000),
        batch: 1,
        shape: Shape { connections: 8, in_flight: 32 },
    };
    let turns = compare(session, Mix::COUNTED, &load)?;
    let ((ours, other), (value, worst)) = (turns.costs(), turns.times_as_much());
    show(Figure {
        what: "unary ingest, durable ack, CPU against bare tonic unary".to_owned(),
        value,
        unit: "x",
        detail: format!("{ours:.0} ns CPU a pulse against {other:.0}; worst round {worst:.2} x"),
        bounds: Bounds::AtMost { floor: 1.5, goal: 1.15 },
    });
    Ok(())
}

struct Load {
    pulses: u64,
    batch: usize,
    shape: Shape,
}

/// A server of a role, and what it was sent.
struct Server {
    running: Running,
    address: String,
    sent: u64,
}

impl Server {
    fn start(role: &[OsString]) -> anyhow::Result<Self> {
        let mut running = Running::start(role, &Under::Core(SERVER_CORE))?;
        let address = running.hear::<Ready>()?.address;
        Ok(Self { running, address, sent: 0 })
    }

    /// CPU nanoseconds of the server for each pulse of one run.
    fn cost(&mut self, batches: &Arc<Vec<Batch>>, shape: Shape) -> anyhow::Result<f64> {
        let before = self.running.cpu()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let sent = runtime.block_on(load::send(&self.address, Arc::clone(batches), shape))?;
        let used = self.running.cpu()? - before;
        self.sent += 1;
        Ok(used.as_nanos() as f64 / sent.pulses as f64)
    }
}

pub(super) fn ingest_role(log: &Path) -> Vec<OsString> {
    vec!["ingest".into(), "--log".into(), log.into()]
}

fn compare(session: &Session, mix: Mix, load: &Load) -> anyhow::Result<Turns> {
    let scratch = session.scratch()?;
    let log = scratch.path().join("log");
    let mut pulses = Pulses::new(mix, load.pulses, records::base_seconds(), 1);
    let batches = Arc::new(load::encode(&mut pulses, load.batch));
    let mut ours = Server::start(&ingest_role(&log))?;
    let mut echo = Server::start(&["echo".into()])?;
    let turns = Turns::take(
        session.rounds(),
        || ours.cost(&batches, load.shape),
        || echo.cost(&batches, load.shape),
    )?;
    let sent = ours.sent;
    ours.running.end()?;
    echo.running.end()?;
    verify(&log, pulses.totals(), sent)?;
    Ok(turns)
}

/// The log holds all that was acknowledged, and nothing else.
pub(super) fn verify(log: &Path, once: Totals, times: u64) -> anyhow::Result<()> {
    let wanted = Totals { pulses: once.pulses * times, steps: once.steps * i128::from(times) };
    let found = records::read_totals(log)?;
    ensure!(found == wanted, "the log holds {found:?}, not {wanted:?}");
    Ok(())
}
