//! From a topic of packed records to totals, against librdkafka's polls of one record a pulse; and two workers against one.

use anyhow::ensure;

use super::super::role::{Consumed, MIX, Workers, produce};
use super::{Allocator, Session};
use crate::child::{Running, Under};
use crate::mix::{Mix, Totals};
use crate::records::fill;
use crate::table::figure::{Bounds, Figure};
use crate::table::turns::{Turns, median};

pub(super) fn measure(session: &Session, show: &mut dyn FnMut(Figure)) -> anyhow::Result<()> {
    let pulses = session.pick(4_000_000, 100_000);
    let singles = session.pick(1_000_000, 30_000);
    session.place.make_tables()?;
    let (packed, single) = (session.place.make_topic("packed")?, session.place.make_topic("single")?);
    let totals = fill(&*session.place.log(&packed)?, MIX, pulses, 1)?;
    produce(&session.place, &single, singles)?;
    let poll = session.role("poll", &["--topic", &single]);
    for (to, more, allocator, bounds) in [
        ("totals in RAM", None, Allocator::OfLibc, Bounds::AtLeast { floor: 3.0, goal: 5.0 }),
        ("totals in RAM", None, Allocator::Ours, Bounds::Beside),
        ("totals in Cassandra, with ids and archive", Some("--to-nodes"), Allocator::OfLibc, Bounds::Beside),
    ] {
        let flags: Vec<&str> = ["--topic", packed.as_str()].into_iter().chain(more).collect();
        let consume = session.role("consume", &flags);
        // Not bound to a core: the client of both sides reads ahead on threads of its own.
        let mut folds = Running::start(&consume, &Under::Nothing)?;
        let mut polls = session.start_librdkafka(allocator, &poll)?;
        let turns = Turns::take(
            session.rounds(),
            || cost(&mut folds, (pulses, Some(totals))),
            || cost(&mut polls, (singles, None)),
        )?;
        folds.end()?;
        polls.end()?;
        let ((ours, other), (value, worst)) = (turns.costs(), turns.times_cheaper());
        show(Figure {
            what: format!(
                "from Kafka to {to}, against librdkafka{} polling one record a pulse",
                allocator.said()
            ),
            value,
            unit: "x",
            detail: format!("{ours:.0} ns CPU a pulse against {other:.0}; worst round {worst:.2} x"),
            bounds,
        });
    }
    Ok(())
}

/// CPU nanoseconds a pulse of reading a topic once.
fn cost(reading: &mut Running, (pulses, totals): (u64, Option<Totals>)) -> anyhow::Result<f64> {
    let consumed: Consumed = reading.ask("work")?;
    ensure!(
        consumed.pulses == pulses && consumed.totals == totals,
        "{consumed:?}, not {pulses} and {totals:?}"
    );
    Ok(consumed.cpu_nanos as f64 / pulses as f64)
}

/// Tenants enough that both workers have about as many pulses: partitions are given by tenant.
const SPREAD: Mix = Mix { pulses_per_key: 10, ..Mix::COUNTED };

pub(super) fn workers(session: &Session, show: &mut dyn FnMut(Figure)) -> anyhow::Result<()> {
    let pulses = session.pick(2_000_000, 100_000);
    let topic = session.place.make_topic("spread")?;
    let totals = fill(&*session.place.log(&topic)?, SPREAD, pulses, 1)?;
    let start = |workers: &str| {
        let role = session.role("workers", &["--topic", &topic, "--workers", workers]);
        Running::start(&role, &Under::Nothing)
    };
    let (mut two, mut one) = (start("2")?, start("1")?);
    let mut cores = Vec::new();
    let mut fold = |running: &mut Running, workers: usize| {
        let folded: Workers = running.ask("work")?;
        ensure!(folded.totals == totals, "{:?}, not {totals:?}", folded.totals);
        cores.push((workers, folded.cpu_nanos as f64 / folded.wall_nanos as f64));
        Ok(folded.wall_nanos as f64)
    };
    // Both sides count into the same list, so that they take turns by hand.
    let fold = std::cell::RefCell::new(&mut fold);
    let turns = Turns::take(
        session.rounds(),
        || (fold.borrow_mut())(&mut two, 2),
        || (fold.borrow_mut())(&mut one, 1),
    )?;
    two.end()?;
    one.end()?;
    let busy =
        |of: usize| median(cores.iter().filter(|(workers, _)| *workers == of).map(|(_, cores)| *cores));
    let ((ours, other), (value, worst)) = (turns.costs(), turns.times_cheaper());
    show(Figure {
        what: "two fold workers on two cores against one, records in RAM, by the clock".to_owned(),
        value,
        unit: "x",
        detail: format!(
            "{:.0} ms against {:.0}; {:.2} cores busy against {:.2}; worst round {worst:.2} x",
            ours / 1e6,
            other / 1e6,
            busy(2),
            busy(1)
        ),
        bounds: Bounds::AtLeast { floor: 1.7, goal: 1.8 },
    });
    Ok(())
}
