//! Ingest with the brokers' ack, reception by gRPC included, against librdkafka that produces one record per pulse.

use std::sync::Arc;

use anyhow::ensure;

use pulso_platform::log::kafka::KafkaCompression;

use super::super::place::{Place, packed_totals, single_totals};
use super::super::role::MIX;
use super::{Allocator, Session};
use crate::child::{Ready, Running, Under, Used};
use crate::load::{self, Shape};
use crate::mix::{Pulses, Totals};
use crate::records::{self, BATCH};
use crate::table::figure::{Bounds, Figure};
use crate::table::turns::Turns;

/// 64,000 pulses on their way: a loaded server is what librdkafka alone is compared with, which is handed all million at once.
const SHAPE: Shape = Shape { connections: 4, in_flight: 16 };

pub(super) fn measure(session: &Session, show: &mut dyn FnMut(Figure)) -> anyhow::Result<()> {
    use KafkaCompression::{Lz4, None};
    let floor = Bounds::AtLeast { floor: 2.5, goal: 4.0 };
    for (compression, allocator, bounds) in [
        (None, Allocator::OfLibc, floor),
        (None, Allocator::Ours, Bounds::Beside),
        (Lz4, Allocator::OfLibc, Bounds::Beside),
    ] {
        let place = Place { compression, ..session.place.clone() };
        show(compare(&Session { place, ..*session }, allocator, bounds)?);
    }
    Ok(())
}

/// Both sides, with the compression of the place. Neither is bound to a core: the client of both has threads of its own.
fn compare(session: &Session, allocator: Allocator, bounds: Bounds) -> anyhow::Result<Figure> {
    let pulses = session.pick(1_000_000, 20_000);
    let (packed, single) = (session.place.make_topic("packed")?, session.place.make_topic("single")?);
    let mut made = Pulses::new(MIX, pulses, records::base_seconds(), 1);
    let batches = Arc::new(load::encode(&mut made, BATCH));
    let mut ours = Running::start(&session.role("ingest", &["--topic", &packed]), &Under::Nothing)?;
    let address = ours.hear::<Ready>()?.address;
    let count = pulses.to_string();
    let raw = session.role("produce", &["--topic", &single, "--pulses", &count]);
    let mut raw = session.start_librdkafka(allocator, &raw)?;
    let (mut sent, mut produced) = (0, 0);
    let ingest = || {
        sent += 1;
        let before = ours.cpu()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(load::send(&address, Arc::clone(&batches), SHAPE))?;
        Ok((ours.cpu()? - before).as_nanos() as f64 / pulses as f64)
    };
    let produce = || {
        produced += 1;
        Ok(raw.ask::<Used>("work")?.cpu_nanos as f64 / pulses as f64)
    };
    let turns = Turns::take(session.rounds(), ingest, produce)?;
    ours.end()?;
    raw.end()?;
    let times = |once: Totals, times: u64| Totals {
        pulses: once.pulses * times,
        steps: once.steps * i128::from(times),
    };
    let (found, wanted) = (packed_totals(&*session.place.log(&packed)?)?, times(made.totals(), sent));
    ensure!(found == wanted, "the log holds {found:?}, not {wanted:?}");
    let (found, wanted) = (single_totals(&*session.place.log(&single)?)?, times(made.totals(), produced));
    ensure!(found == wanted, "the other topic holds {found:?}, not {wanted:?}");
    let ((ours, other), (value, worst)) = (turns.costs(), turns.times_cheaper());
    let compression = session.place.compression.name();
    Ok(Figure {
        what: format!(
            "ingest, batches of 1,000, to Kafka, against librdkafka{} with one record a pulse, compression {compression}",
            allocator.said()
        ),
        value,
        unit: "x",
        detail: format!("{ours:.0} ns CPU a pulse against {other:.0}; worst round {worst:.2} x"),
        bounds,
    })
}
