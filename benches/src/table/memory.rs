//! RAM of an active key and of an id in a closed run.

use super::Session;
use super::figure::{Bounds, Figure};
use crate::child::{Running, Under};
use crate::role::memory::Held;

pub(super) fn measure(session: &Session, show: &mut dyn FnMut(Figure)) -> anyhow::Result<()> {
    let series = session.pick(300_000_u64, 50_000);
    let one_hour = hold_keys(series, 1)?;
    let per = |held: &Held, things: u64| held.resident_bytes as f64 / things as f64;
    let detail = |held: &Held| {
        format!(
            "{} things, {:.0} MB resident; the structures say {:.1} B each",
            held.things,
            held.resident_bytes as f64 / 1e6,
            held.counted_bytes as f64 / held.things as f64
        )
    };
    show(Figure {
        what: "memory of an active key: a usage row, each series with one hour, its day and its month"
            .to_owned(),
        value: per(&one_hour, one_hour.things),
        unit: "B",
        detail: detail(&one_hour),
        bounds: Bounds::AtMost { floor: 160.0, goal: 64.0 },
    });
    let day = hold_keys(series / 24, 24)?;
    for (what, held, hours) in
        [("one hour", &one_hour, series), ("24 hours of a day", &day, series / 24 * 24)]
    {
        show(Figure {
            what: format!("memory of a series-hour with its share of day and month, {what} a series"),
            value: per(held, hours),
            unit: "B",
            detail: detail(held),
            bounds: Bounds::Beside,
        });
    }
    let ids = hold(&["hold-ids", "--ids", &session.pick(12_800_000, 1_280_000).to_string()])?;
    show(Figure {
        what: "memory of an id in a closed run".to_owned(),
        value: per(&ids, ids.things),
        unit: "B",
        detail: detail(&ids),
        bounds: Bounds::AtMost { floor: 3.0, goal: 1.5 },
    });
    Ok(())
}

fn hold_keys(series: u64, hours: u64) -> anyhow::Result<Held> {
    hold(&["hold-keys", "--series", &series.to_string(), "--hours", &hours.to_string()])
}

fn hold(role: &[&str]) -> anyhow::Result<Held> {
    let role: Vec<_> = role.iter().map(Into::into).collect();
    let mut running = Running::start(&role, &Under::Nothing)?;
    let held = running.hear()?;
    running.end()?;
    Ok(held)
}
