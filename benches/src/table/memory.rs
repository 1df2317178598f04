//! RAM of an active key and of an id in a closed run: resident memory, N and 2N subtracted.

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
        [("one hour", &one_hour, series / 2), ("24 hours of a day", &day, series / 48 * 24)]
    {
        show(Figure {
            what: format!("memory of a series-hour with its share of day and month, {what} a series"),
            value: per(held, hours),
            unit: "B",
            detail: detail(held),
            bounds: Bounds::Beside,
        });
    }
    let ids = hold_ids(session.pick(25_600_000, 2_560_000))?;
    show(Figure {
        what: "memory of an id in a closed run".to_owned(),
        value: per(&ids, ids.things),
        unit: "B",
        detail: detail(&ids),
        bounds: Bounds::AtMost { floor: 3.0, goal: 1.5 },
    });
    Ok(())
}

/// What the second half of so many series takes: half as many are held too, and subtracted, so that what a process
/// takes at any size drops out.
fn hold_keys(series: u64, hours: u64) -> anyhow::Result<Held> {
    let of =
        |series: u64| hold(&["hold-keys", "--series", &series.to_string(), "--hours", &hours.to_string()]);
    Ok(beyond(&of(series)?, &of(series / 2)?))
}

fn hold_ids(ids: u64) -> anyhow::Result<Held> {
    let of = |ids: u64| hold(&["hold-ids", "--ids", &ids.to_string()]);
    Ok(beyond(&of(ids)?, &of(ids / 2)?))
}

const fn beyond(all: &Held, half: &Held) -> Held {
    Held {
        things: all.things - half.things,
        resident_bytes: all.resident_bytes.saturating_sub(half.resident_bytes),
        counted_bytes: all.counted_bytes.saturating_sub(half.counted_bytes),
    }
}

fn hold(role: &[&str]) -> anyhow::Result<Held> {
    let role: Vec<_> = role.iter().map(Into::into).collect();
    let mut running = Running::start(&role, &Under::Nothing)?;
    let held = running.hear()?;
    running.end()?;
    Ok(held)
}
