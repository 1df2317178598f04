//! kill -9 in the middle of the work, and the time until everything is open again.

use std::time::Instant;

use anyhow::ensure;

use super::Session;
use super::figure::{Bounds, Figure};
use crate::child::{Running, Under};
use crate::mix::{Mix, Totals};
use crate::role::restart::Started;

pub(super) fn measure(session: &Session, show: &mut dyn FnMut(Figure)) -> anyhow::Result<()> {
    let scratch = session.scratch()?;
    let (before, pulses) = session.pick((10_240_000_u64, 5_000_000_u64), (512_000, 256_000));
    let folder = scratch.path().as_os_str();
    let mut role = vec!["run".into(), "--folder".into(), folder.to_owned()];
    role.extend(["--before".into(), before.to_string().into(), "--pulses".into(), pulses.to_string().into()]);
    role.extend(Mix::COUNTED.flags().into_iter().map(Into::into));
    let mut running = Running::start(&role, &Under::Nothing)?;
    let wanted: Totals = running.hear()?;
    running.kill()?;
    let begun = Instant::now();
    let mut running =
        Running::start(&["start".into(), "--folder".into(), folder.to_owned()], &Under::Nothing)?;
    let started: Started = running.hear()?;
    let seconds = begun.elapsed().as_secs_f64();
    let found: Totals = running.hear()?;
    running.end()?;
    ensure!(found == wanted, "after the restart totals are {found:?}, not {wanted:?}");
    show(Figure {
        what: format!("kill -9 after {:.1} M pulses, start to ready", pulses as f64 / 1e6),
        value: seconds,
        unit: "s",
        detail: format!(
            "{:.1} M ids in closed runs, {} records behind; totals hold after it",
            started.closed_ids as f64 / 1e6,
            started.behind
        ),
        bounds: Bounds::AtMost { floor: 30.0, goal: 3.0 },
    });
    Ok(())
}
