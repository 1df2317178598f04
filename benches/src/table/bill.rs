//! The bill of a tenant's month, over ten times the pulses and the same keys: it is made of totals, so it costs the same.

use anyhow::ensure;

use super::Session;
use super::figure::{Bounds, Figure};
use crate::child::{Running, Under};
use crate::mix::Mix;
use crate::records;
use crate::role::bill::Billed;

pub(super) fn measure(session: &Session, show: &mut dyn FnMut(Figure)) -> anyhow::Result<()> {
    let pulses = session.pick(1_000_000, 100_000);
    let few = bill(session, Mix { pulses_per_key: 100, ..Mix::COUNTED }, pulses)?;
    let many = bill(session, Mix { pulses_per_key: 1000, ..Mix::COUNTED }, 10 * pulses)?;
    ensure!(few.charges == many.charges, "the two bills have other keys");
    show(Figure {
        what: "tenant-month bill (rows read and rated, without HTTP), p50 over 10 times the pulses"
            .to_owned(),
        value: many.p50_nanos as f64 / few.p50_nanos as f64,
        unit: "x",
        detail: format!(
            "{:.0} us at {} pulses against {:.0} us at {}; {} charges",
            many.p50_nanos as f64 / 1e3,
            many.totals.pulses,
            few.p50_nanos as f64 / 1e3,
            few.totals.pulses,
            few.charges
        ),
        bounds: Bounds::AtMost { floor: 1.3, goal: 1.1 },
    });
    Ok(())
}

fn bill(session: &Session, mix: Mix, pulses: u64) -> anyhow::Result<Billed> {
    let scratch = session.scratch()?;
    let (log_folder, store) = (scratch.path().join("log"), scratch.path().join("store"));
    let log = records::open(&log_folder)?;
    let wanted = records::fill(&*log, mix, pulses, 1)?;
    log.close();
    drop(log);
    let role = ["bill".into(), "--log".into(), log_folder.into(), "--store".into(), store.into()];
    let mut running = Running::start(&role, &Under::Nothing)?;
    let billed: Billed = running.hear()?;
    running.end()?;
    ensure!(billed.totals == wanted, "the fold gave {:?}, not {wanted:?}", billed.totals);
    Ok(billed)
}
