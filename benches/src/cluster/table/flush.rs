//! A flush of usage rows through the store, against the driver alone that writes the same rows one by one.

use std::sync::Arc;

use pulso_platform::store::Store;

use super::super::rows::{TENANT_ROWS, verify};
use super::{CORE, Session};
use crate::child::{Running, Under, Used};
use crate::table::figure::{Bounds, Figure};
use crate::table::turns::Turns;

pub(super) fn measure(session: &Session, show: &mut dyn FnMut(Figure)) -> anyhow::Result<()> {
    let tenants = session.pick(50, 5);
    session.place.make_tables()?;
    let count = tenants.to_string();
    let start = |role: &str| Running::start(&session.role(role, &["--tenants", &count]), &Under::Core(CORE));
    let (mut store, mut driver) = (start("flush")?, start("write")?);
    let (mut flushed, mut written) = (0, 0);
    let cost = |running: &mut Running, turns: &mut u64| -> anyhow::Result<f64> {
        *turns += 1;
        Ok(running.ask::<Used>("work")?.cpu_nanos as f64 / (tenants * TENANT_ROWS) as f64)
    };
    let turns =
        Turns::take(session.rounds(), || cost(&mut store, &mut flushed), || cost(&mut driver, &mut written))?;
    store.end()?;
    driver.end()?;
    let read = session.place.store()? as Arc<dyn Store>;
    verify(&read, "store", tenants, flushed)?;
    verify(&read, "driver", tenants, written)?;
    let ((ours, other), (value, worst)) = (turns.costs(), turns.times_cheaper());
    show(Figure {
        what: "usage rows flushed to Cassandra, against the driver alone with one statement a row".to_owned(),
        value,
        unit: "x",
        detail: format!("{ours:.0} ns CPU a row against {other:.0}; worst round {worst:.2} x"),
        bounds: Bounds::AtLeast { floor: 0.7, goal: 0.8 },
    });
    Ok(())
}
