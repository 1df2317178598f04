//! A usage row as it lies in RAM: nearly every row has amounts, times and a count that fit half the width of the stored
//! form. Those that do not fit are kept whole.

use std::num::NonZeroU32;

use pulso_domain::position::{Position, Rank};
use pulso_domain::quantity::{Quantity, QuantitySum};
use pulso_domain::time::Instant;
use pulso_domain::usage::UsageRow;

/// A row in RAM; it is the same row whichever way it is kept.
#[derive(Clone, Debug)]
pub(super) enum RowCell {
    Narrow(NarrowRow),
    Wide(Box<UsageRow>),
}

/// A row whose every field fits.
#[derive(Clone, Copy, Debug)]
pub(super) struct NarrowRow {
    /// An `i128` in halves, so that it needs no more alignment than the rest.
    sum: [u64; 2],
    min: i64,
    max: i64,
    last: i64,
    last_rank: u64,
    hwm: u64,
    last_seconds: u32,
    last_nanos: u32,
    last_index: u32,
    /// Never 0, which leaves 0 to tell the other way of keeping a row.
    count: NonZeroU32,
}

impl RowCell {
    /// The row.
    pub(super) fn row(&self) -> UsageRow {
        match self {
            Self::Narrow(row) => row.widen(),
            Self::Wide(row) => **row,
        }
    }

    /// Adds the pulses of one record, as [`UsageRow::merge`] does.
    #[inline]
    pub(super) fn merge(&mut self, pulses: &Self) {
        if let (Self::Narrow(row), Self::Narrow(pulses)) = (&mut *self, pulses)
            && row.merge(pulses)
        {
            return;
        }
        let mut row = self.row();
        row.merge(&pulses.row());
        *self = row.into();
    }
}

impl From<UsageRow> for RowCell {
    fn from(row: UsageRow) -> Self {
        NarrowRow::of(&row).map_or_else(|| Self::Wide(Box::new(row)), Self::Narrow)
    }
}

impl NarrowRow {
    fn of(row: &UsageRow) -> Option<Self> {
        let steps = row.sum.steps().as_i128();
        // Beyond 128 bits the sum would come back as another.
        if sum_of(halves(steps)) != row.sum {
            return None;
        }
        let narrow = |amount: Quantity| i64::try_from(amount.steps()).ok();
        Some(Self {
            sum: halves(steps),
            min: narrow(row.min)?,
            max: narrow(row.max)?,
            last: narrow(row.last)?,
            last_rank: row.last_position.rank.as_u64(),
            hwm: row.hwm.as_u64(),
            last_seconds: u32::try_from(row.last_at.seconds()).ok()?,
            last_nanos: row.last_at.nanos(),
            last_index: row.last_position.index,
            count: NonZeroU32::new(u32::try_from(row.count).ok()?)?,
        })
    }

    fn widen(&self) -> UsageRow {
        let wide = |amount: i64| Quantity::from_steps(amount.into());
        UsageRow {
            sum: sum_of(self.sum),
            count: self.count.get().into(),
            min: wide(self.min),
            max: wide(self.max),
            last: wide(self.last),
            last_at: instant(self.last_seconds, self.last_nanos),
            last_position: Position::new(Rank::from_u64(self.last_rank), self.last_index),
            hwm: Rank::from_u64(self.hwm),
        }
    }

    /// Adds the pulses of one record; false when they do not fit, and then nothing was changed.
    #[inline]
    fn merge(&mut self, pulses: &Self) -> bool {
        let Self { sum, min, max, last, last_rank, hwm, last_seconds, last_nanos, last_index, count } =
            *pulses;
        let Some(count) = self.count.checked_add(count.get()) else { return false };
        let Some(sum) = whole(self.sum).checked_add(whole(sum)) else { return false };
        (self.count, self.sum) = (count, halves(sum));
        (self.min, self.max) = (self.min.min(min), self.max.max(max));
        let own = (self.last_seconds, self.last_nanos, self.last_rank, self.last_index);
        let new = (last_seconds, last_nanos, last_rank, last_index);
        if new > own {
            self.last = last;
            (self.last_seconds, self.last_nanos, self.last_rank, self.last_index) = new;
        }
        self.hwm = self.hwm.max(hwm);
        true
    }
}

const fn halves(number: i128) -> [u64; 2] {
    let number = number.cast_unsigned();
    [number as u64, (number >> 64) as u64]
}

const fn whole([low, high]: [u64; 2]) -> i128 {
    (low as u128 | (high as u128) << 64).cast_signed()
}

fn sum_of(sum: [u64; 2]) -> QuantitySum {
    Quantity::from_steps(whole(sum)).into()
}

fn instant(seconds: u32, nanos: u32) -> Instant {
    let nanos = i32::try_from(nanos).expect("an instant's nanos are below 10^9");
    Instant::new(seconds.into(), nanos).expect("it was an instant, and its seconds are above 0")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn pulse()(
            steps in prop_oneof![5 => -1000_i128..1000, 1 => any::<i128>(), 1 => any::<i64>().prop_map(i128::from)],
            seconds in prop_oneof![9 => 0_i64..1000, 1 => -1000_i64..0, 1 => 4_294_967_290_i64..4_294_967_300],
            nanos in 0_i32..3,
            index in 0_u32..3,
        ) -> (Quantity, Instant, u32) {
            (Quantity::from_steps(steps), Instant::new(seconds, nanos).expect("in range"), index)
        }
    }

    proptest! {
        #[test]
        fn a_row_in_ram_is_the_row_after_every_record(
            records in prop::collection::vec(prop::collection::vec(pulse(), 1..4), 1..20),
        ) {
            let mut rows: Option<(UsageRow, RowCell)> = None;
            for (offset, pulses) in (0..).zip(records) {
                let place = |index| Position::new(Rank::new(1, offset).expect("small"), index);
                let mut record: Option<UsageRow> = None;
                for (amount, at, index) in pulses {
                    match &mut record {
                        None => record = Some(UsageRow::first(amount, at, place(index))),
                        Some(record) => record.add(amount, at, place(index)),
                    }
                }
                let record = record.expect("at least one pulse");
                match &mut rows {
                    None => rows = Some((record, record.into())),
                    Some((row, cell)) => {
                        row.merge(&record);
                        cell.merge(&record.into());
                    }
                }
                let (row, cell) = rows.as_ref().expect("just set");
                prop_assert_eq!(&cell.row(), row);
            }
        }
    }

    #[test]
    fn a_usual_row_is_narrow() {
        let at = Instant::new(1_800_000_000, 5).expect("good");
        let row = UsageRow::first(Quantity::parse(b"9000.5").expect("good"), at, Position::default());
        assert!(matches!(RowCell::from(row), RowCell::Narrow(_)));
        assert_eq!(size_of::<RowCell>(), 72);
    }
}
