//! What the door alone decides about a pulse that is good in itself: the acceptance window, the right to send negative
//! amounts, and whether the SKU knows the unit. The fold never asks these again, since it has no clock and no catalog.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use pulso_domain::pulse::Rejection;
use pulso_domain::quantity::Quantity;
use pulso_domain::reason::Reason;
use pulso_domain::time::{Instant, SECONDS_MAX, SECONDS_MIN};
use pulso_proto::plain::PlainPulse;

/// What the sender of a call may do. An authenticating layer puts it into the request's extensions; without one nobody
/// has any right beyond sending.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Caller {
    /// May send negative amounts (the scope `correct`).
    pub may_correct: bool,
}

/// What the catalog says about units, as of one moment. Bytes, as they stand on the wire.
pub trait Units: Send + Sync {
    /// Whether it knows no SKU, so that there is nothing to check.
    fn is_empty(&self) -> bool;

    /// Whether the unit can be converted to the SKU's own; `None` for a SKU that it does not know.
    fn accepts(&self, product_sku: &[u8], use_unit: &[u8]) -> Option<bool>;
}

/// For each SKU that the catalog knows, the units that can be converted to its own.
type UnitTable = HashMap<Vec<u8>, Vec<Vec<u8>>>;

impl Units for UnitTable {
    fn is_empty(&self) -> bool {
        HashMap::is_empty(self)
    }

    fn accepts(&self, product_sku: &[u8], use_unit: &[u8]) -> Option<bool> {
        Some(self.get(product_sku)?.iter().any(|unit| unit == use_unit))
    }
}

/// Gives what holds now; asked once per batch.
type UnitSource = dyn Fn() -> Arc<dyn Units> + Send + Sync;

/// What the door looks at of a pulse that is good in itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured<'a> {
    pub(crate) tenant_id: &'a [u8],
    pub(crate) product_sku: &'a [u8],
    pub(crate) use_unit: &'a [u8],
    pub(crate) used_amount: Quantity,
    pub(crate) occurred_at: Instant,
}

impl<'a> From<PlainPulse<'a>> for Measured<'a> {
    #[inline]
    fn from(pulse: PlainPulse<'a>) -> Self {
        let PlainPulse { tenant_id, product_sku, use_unit, used_amount, occurred_at, .. } = pulse;
        Self { tenant_id, product_sku, use_unit, used_amount, occurred_at }
    }
}

/// The ingestor's view of the catalog's units. Empty at first: a SKU that is not in it is accepted with any unit.
/// Cheap to clone; all clones see the same.
#[derive(Clone)]
pub struct UnitBook {
    source: Arc<RwLock<Arc<UnitSource>>>,
}

impl Default for UnitBook {
    fn default() -> Self {
        let none: Arc<dyn Units> = Arc::new(UnitTable::new());
        Self::following(move || Arc::clone(&none))
    }
}

impl std::fmt::Debug for UnitBook {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("UnitBook").finish_non_exhaustive()
    }
}

impl UnitBook {
    /// Asks `source` what holds, once per batch: a call that begins after a catalog was applied sees the new one.
    #[must_use]
    pub fn following(source: impl Fn() -> Arc<dyn Units> + Send + Sync + 'static) -> Self {
        Self { source: Arc::new(RwLock::new(Arc::new(source))) }
    }

    /// Replaces what holds by a table, for each SKU its units: calls that begin after this see the new one.
    pub fn replace(&self, table: HashMap<String, Vec<String>>) {
        let bytes = |units: Vec<String>| units.into_iter().map(String::into_bytes).collect();
        let table: UnitTable =
            table.into_iter().map(|(sku, units)| (sku.into_bytes(), bytes(units))).collect();
        let table: Arc<dyn Units> = Arc::new(table);
        *self.source.write() = Arc::new(move || Arc::clone(&table));
    }

    fn now(&self) -> Arc<dyn Units> {
        let source = Arc::clone(&self.source.read());
        source()
    }
}

/// The second before which pulses cannot be deduplicated any more: the fold would not count them, so the door takes none.
/// It only rises. Cheap to clone; all clones are the same.
#[derive(Clone, Debug)]
pub struct Floor(Arc<AtomicI64>);

impl Default for Floor {
    /// No floor.
    fn default() -> Self {
        Self(Arc::new(AtomicI64::new(i64::MIN)))
    }
}

impl Floor {
    /// Raises it to this second since the Unix epoch; a lower one changes nothing.
    pub fn raise(&self, seconds: i64) {
        self.0.fetch_max(seconds, Ordering::Relaxed);
    }

    fn seconds(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is asked once per batch: what the catalog says of units, and where the floor is.
#[derive(Clone, Copy)]
pub(crate) struct Known<'a> {
    pub(crate) units: &'a UnitBook,
    pub(crate) floor: &'a Floor,
}

/// Judges the pulses of one batch.
pub(crate) struct Door {
    /// The time of the batch: it stands in the log records.
    pub(crate) received_at: Instant,
    oldest: Instant,
    newest: Instant,
    caller: Caller,
    units: Arc<dyn Units>,
    knows_units: bool,
}

impl Door {
    /// A door for a batch that is received `now`.
    pub(crate) fn new(now: Instant, accept: (Duration, Duration), caller: Caller, known: Known<'_>) -> Self {
        let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        let (past, future) = (seconds(accept.0), seconds(accept.1));
        let at = |second: i64| Instant::new(second, now.nanos().cast_signed()).unwrap_or(now);
        let oldest = at(now.seconds().saturating_sub(past).max(SECONDS_MIN));
        let units = known.units.now();
        let floor = Instant::new(known.floor.seconds().clamp(SECONDS_MIN, SECONDS_MAX), 0).unwrap_or(oldest);
        Self {
            received_at: now,
            oldest: oldest.max(floor),
            newest: at(now.seconds().saturating_add(future).min(SECONDS_MAX)),
            caller,
            knows_units: !units.is_empty(),
            units,
        }
    }

    /// Checks a good pulse against what the door knows.
    #[inline]
    pub(crate) fn check(&self, pulse: &Measured<'_>) -> Result<(), Rejection> {
        if pulse.used_amount.is_negative() && !self.caller.may_correct {
            return Err(NEGATIVE_AMOUNT);
        }
        if pulse.occurred_at < self.oldest {
            return Err(TOO_OLD);
        }
        if pulse.occurred_at > self.newest {
            return Err(TOO_NEW);
        }
        Ok(())
    }

    /// Whether the catalog has any units to check.
    #[inline]
    pub(crate) const fn knows_units(&self) -> bool {
        self.knows_units
    }

    /// Checks the unit against the catalog; a SKU that it does not know takes any.
    pub(crate) fn check_unit(&self, product_sku: &[u8], use_unit: &[u8]) -> Result<(), Rejection> {
        match self.units.accepts(product_sku, use_unit) {
            Some(false) => Err(UNIT_MISMATCH),
            _ => Ok(()),
        }
    }
}

const NEGATIVE_AMOUNT: Rejection = Rejection {
    reason: Reason::NegativeAmount,
    field: "used_amount",
    message: "send an amount of 0 or more; corrections need the scope `correct`",
};
const TOO_OLD: Rejection = Rejection {
    reason: Reason::TooOld,
    field: "occurred_at",
    message: "it lies before the acceptance limit; a backfill opens it with --accept-past",
};
const TOO_NEW: Rejection = Rejection {
    reason: Reason::TooNew,
    field: "occurred_at",
    message: "it lies too far ahead; set the sender's clock right",
};
const UNIT_MISMATCH: Rejection = Rejection {
    reason: Reason::UnitMismatch,
    field: "use_unit",
    message: "use a unit that converts to the one the catalog has for this SKU",
};

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000;

    fn pulse(amount: &str, seconds: i64, nanos: i32) -> Measured<'static> {
        Measured {
            tenant_id: b"t",
            product_sku: b"vm",
            use_unit: b"Hours",
            used_amount: Quantity::parse(amount.as_bytes()).expect("good"),
            occurred_at: Instant::new(seconds, nanos).expect("good"),
        }
    }

    fn door(accept: (u64, u64), caller: Caller, units: &UnitBook) -> Door {
        let now = Instant::new(NOW, 500).expect("good");
        let accept = (Duration::from_secs(accept.0), Duration::from_secs(accept.1));
        Door::new(now, accept, caller, Known { units, floor: &Floor::default() })
    }

    #[test]
    fn nothing_is_taken_below_the_floor_which_never_falls() {
        let (units, floor) = (UnitBook::default(), Floor::default());
        let now = Instant::new(NOW, 500).expect("good");
        let accept = (Duration::from_secs(1000), Duration::from_secs(10));
        let door = || Door::new(now, accept, Caller::default(), Known { units: &units, floor: &floor });
        floor.raise(NOW - 2000);
        assert_eq!(door().check(&pulse("1", NOW - 1000, 500)), Ok(()));
        floor.raise(NOW - 10);
        floor.raise(NOW - 100);
        assert_eq!(door().check(&pulse("1", NOW - 10, 0)), Ok(()));
        assert_eq!(door().check(&pulse("1", NOW - 11, 999)), Err(TOO_OLD));
    }

    #[test]
    fn the_acceptance_window_is_closed_at_both_ends() {
        let door = door((100, 10), Caller::default(), &UnitBook::default());
        assert_eq!(door.check(&pulse("1", NOW - 100, 500)), Ok(()));
        assert_eq!(door.check(&pulse("1", NOW - 100, 499)), Err(TOO_OLD));
        assert_eq!(door.check(&pulse("1", NOW + 10, 500)), Ok(()));
        assert_eq!(door.check(&pulse("1", NOW + 10, 501)), Err(TOO_NEW));
    }

    #[test]
    fn a_window_wider_than_time_itself_accepts_every_instant() {
        let door = door((u64::MAX, u64::MAX), Caller::default(), &UnitBook::default());
        assert_eq!(door.check(&pulse("1", SECONDS_MIN + 1, 0)), Ok(()));
        assert_eq!(door.check(&pulse("1", SECONDS_MAX, 0)), Ok(()));
    }

    #[test]
    fn only_a_caller_who_may_correct_sends_negative_amounts() {
        let units = UnitBook::default();
        assert_eq!(door((9, 9), Caller::default(), &units).check(&pulse("-1", NOW, 0)), Err(NEGATIVE_AMOUNT));
        assert_eq!(door((9, 9), Caller::default(), &units).check(&pulse("-0", NOW, 0)), Ok(()));
        assert_eq!(door((9, 9), Caller { may_correct: true }, &units).check(&pulse("-1", NOW, 0)), Ok(()));
    }

    #[test]
    fn a_unit_is_refused_only_for_a_sku_that_the_catalog_knows() {
        let units = UnitBook::default();
        units.replace([("vm".to_owned(), vec!["Seconds".to_owned()])].into());
        let check = || door((9, 9), Caller::default(), &units).check_unit(b"vm", b"Hours");
        assert_eq!(check(), Err(UNIT_MISMATCH));
        units.replace([("disk".to_owned(), vec!["GiB".to_owned()])].into());
        assert_eq!(check(), Ok(()));
        units.replace([("vm".to_owned(), vec!["Seconds".to_owned(), "Hours".to_owned()])].into());
        assert_eq!(check(), Ok(()));
    }
}
