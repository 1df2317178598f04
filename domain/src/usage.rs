//! The usage row: what one tenant used of one SKU, unit and region in one window, as an absolute truth with its own rank.

use crate::ids::TenantId;
use crate::position::{Position, Rank};
use crate::quantity::{Quantity, QuantitySum};
use crate::time::Instant;
use crate::window::{Level, Window};

/// Names a usage row.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RowKey<'a> {
    /// Whose use.
    pub tenant_id: &'a str,
    /// The bucket.
    pub window: Window,
    /// Of what.
    pub product_sku: &'a str,
    /// The pulses' own unit; conversion happens in rating.
    pub use_unit: &'a str,
    /// Where; empty when not given.
    pub region: &'a str,
}

impl<'a> RowKey<'a> {
    /// The key of the store's partition that holds the row: the tenant's month. Ordered by tenant, then month.
    #[must_use]
    pub fn partition_key(&self) -> Vec<u8> {
        usage_partition_key(self.tenant_id, self.window.widen(Level::Month))
    }

    /// The key within that partition: level, window, then SKU, unit and region, each ended by a byte 0, which none can
    /// hold. Ordered by level, window, SKU, unit, region.
    #[must_use]
    pub fn clustering_key(&self) -> Vec<u8> {
        let texts = [self.product_sku, self.use_unit, self.region];
        let mut key = Vec::with_capacity(8 + texts.iter().map(|text| text.len()).sum::<usize>());
        key.extend_from_slice(&usage_clustering_prefix(self.window));
        for text in texts {
            key.extend_from_slice(text.as_bytes());
            key.push(0);
        }
        key
    }

    /// Reads both keys back; `None` when they are no keys of a row.
    #[must_use]
    pub fn decode(partition_key: &'a [u8], clustering_key: &'a [u8]) -> Option<Self> {
        let (tenant, _month) = partition_key.split_at_checked(partition_key.len().checked_sub(5)?)?;
        let (prefix, texts) = clustering_key.split_at_checked(5)?;
        let level = Level::from_byte(prefix[0])?;
        let index = (u32::from_be_bytes(prefix[1..].try_into().ok()?) ^ SIGN).cast_signed();
        let mut texts = texts.split(|byte| *byte == 0).map(std::str::from_utf8);
        let mut next = || texts.next()?.ok();
        Some(Self {
            tenant_id: std::str::from_utf8(tenant).ok()?,
            window: Window::from_index(level, index),
            product_sku: next()?,
            use_unit: next()?,
            region: next()?,
        })
    }
}

/// Makes a signed index sort as bytes.
const SIGN: u32 = 1 << 31;

/// The store's partition of a tenant's month.
#[must_use]
pub fn usage_partition_key(tenant_id: &str, month: Window) -> Vec<u8> {
    debug_assert_eq!(month.level(), Level::Month);
    let mut key = Vec::with_capacity(tenant_id.len() + 5);
    key.extend_from_slice(tenant_id.as_bytes());
    key.push(0);
    key.extend_from_slice(&(month.index().cast_unsigned() ^ SIGN).to_be_bytes());
    key
}

/// The prefix of all rows of one window.
#[must_use]
pub fn usage_clustering_prefix(window: Window) -> [u8; 5] {
    let index = (window.index().cast_unsigned() ^ SIGN).to_be_bytes();
    [window.level() as u8, index[0], index[1], index[2], index[3]]
}

/// The content of a usage row. Absolute: it says what all pulses up to `hwm` add up to, so writing it twice, or an
/// older one late, changes nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UsageRow {
    /// The sum of the amounts.
    pub sum: QuantitySum,
    /// How many pulses.
    pub count: u64,
    /// The smallest amount.
    pub min: Quantity,
    /// The largest amount.
    pub max: Quantity,
    /// The amount with the greatest (`occurred_at`, position).
    pub last: Quantity,
    /// The time of `last`.
    pub last_at: Instant,
    /// The position of `last`.
    pub last_position: Position,
    /// The rank of the last record counted into it.
    pub hwm: Rank,
}

impl UsageRow {
    /// Bytes of the stored form.
    pub const BYTES: usize = 113;
    /// The version of the stored form.
    const FORMAT: u8 = 1;

    /// A row of one pulse.
    #[must_use]
    pub fn first(amount: Quantity, at: Instant, position: Position) -> Self {
        Self {
            sum: amount.into(),
            count: 1,
            min: amount,
            max: amount,
            last: amount,
            last_at: at,
            last_position: position,
            hwm: position.rank,
        }
    }

    /// Counts one more pulse, whose rank is not below the row's.
    #[inline]
    pub fn add(&mut self, amount: Quantity, at: Instant, position: Position) {
        self.sum.add(amount);
        self.count += 1;
        self.min = self.min.min(amount);
        self.max = self.max.max(amount);
        // Mostly in the order of time and of the log, so one comparison decides.
        if at >= self.last_at && (at > self.last_at || position > self.last_position) {
            (self.last, self.last_at, self.last_position) = (amount, at, position);
        }
        self.hwm = position.rank;
    }

    /// Adds a row of other pulses, as for a coarser grouping; `hwm` becomes the larger.
    pub fn merge(&mut self, other: &Self) {
        self.sum.add_sum(other.sum);
        self.count += other.count;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        if (other.last_at, other.last_position) > (self.last_at, self.last_position) {
            (self.last, self.last_at, self.last_position) = (other.last, other.last_at, other.last_position);
        }
        self.hwm = self.hwm.max(other.hwm);
    }

    /// The stored form: a version byte, then the fields in their order, little endian.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let mut end = 0;
        let mut put = |part: &[u8]| {
            bytes[end..end + part.len()].copy_from_slice(part);
            end += part.len();
        };
        put(&[Self::FORMAT]);
        put(&self.sum.to_le_bytes());
        put(&self.count.to_le_bytes());
        put(&self.min.steps().to_le_bytes());
        put(&self.max.steps().to_le_bytes());
        put(&self.last.steps().to_le_bytes());
        put(&self.last_at.seconds().to_le_bytes());
        put(&self.last_at.nanos().to_le_bytes());
        put(&self.last_position.rank.as_u64().to_le_bytes());
        put(&self.last_position.index.to_le_bytes());
        put(&self.hwm.as_u64().to_le_bytes());
        bytes
    }

    /// Reads the stored form; `None` when it is none of this version.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::BYTES] = bytes.try_into().ok()?;
        let (format, mut rest) = bytes.split_first()?;
        if *format != Self::FORMAT {
            return None;
        }
        Some(Self {
            sum: QuantitySum::from_le_bytes(*take(&mut rest)?),
            count: u64::from_le_bytes(*take(&mut rest)?),
            min: Quantity::from_steps(i128::from_le_bytes(*take(&mut rest)?)),
            max: Quantity::from_steps(i128::from_le_bytes(*take(&mut rest)?)),
            last: Quantity::from_steps(i128::from_le_bytes(*take(&mut rest)?)),
            last_at: Instant::new(
                i64::from_le_bytes(*take(&mut rest)?),
                i32::try_from(u32::from_le_bytes(*take(&mut rest)?)).ok()?,
            )?,
            last_position: Position::new(
                Rank::from_u64(u64::from_le_bytes(*take(&mut rest)?)),
                u32::from_le_bytes(*take(&mut rest)?),
            ),
            hwm: Rank::from_u64(u64::from_le_bytes(*take(&mut rest)?)),
        })
    }
}

/// What one durable checkpoint of a partition changed: the consumer's word to pricing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UsageChanged {
    /// The partition of the log.
    pub partition: u32,
    /// The first rank that is not in the checkpoint; also moves when no usage changed, so that waiting for a duplicate
    /// ends.
    pub through: Rank,
    /// The tenant-months whose usage rows were written.
    pub months: Vec<(TenantId, Window)>,
    /// Where the change before it ended. One that says more than the receiver knows of tells it that changes were lost on
    /// the way; zero where none can be.
    pub from: Rank,
    /// The month rows that were written and how new they are, where the receiver reads them from a store it shares.
    pub rows: Vec<RowSeen>,
}

/// A month row that someone has seen in the store: whoever reads it later must find it at least as new.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RowSeen {
    /// Whose use.
    pub tenant_id: TenantId,
    /// When.
    pub month: Window,
    /// SKU, unit and region.
    pub row: (String, String, String),
    /// The rank of the last record counted into it.
    pub hwm: Rank,
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (part, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(part)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn position(offset: u64) -> Position {
        Position::new(Rank::new(1, offset).expect("small"), 0)
    }

    #[test]
    fn keys_are_read_back_and_sort_by_level_window_and_texts() {
        let month = Window::parse_month("2026-01").expect("good");
        let day = Window::containing(Level::Day, month.start());
        let key = |window, product_sku| RowKey {
            tenant_id: "acme",
            window,
            product_sku,
            use_unit: "Hours",
            region: "",
        };
        for row in [key(month, "vm"), key(day, "vm")] {
            let (partition, clustering) = (row.partition_key(), row.clustering_key());
            assert_eq!(RowKey::decode(&partition, &clustering), Some(row));
        }
        assert!(key(day, "vm").clustering_key() < key(day.next(), "a").clustering_key());
        assert!(key(day, "a").clustering_key() < key(day, "ab").clustering_key());
        assert_eq!(key(day, "a").partition_key(), key(month, "a").partition_key());
    }

    proptest! {
        #[test]
        fn a_row_is_the_same_for_any_split_of_its_pulses(
            pulses in prop::collection::vec((any::<i64>(), 0_i64..100), 1..40), split in 0_usize..40
        ) {
            let row_of = |part: &[(usize, (i64, i64))]| {
                let mut row: Option<UsageRow> = None;
                for (offset, (amount, at)) in part {
                    let amount = Quantity::from_steps(i128::from(*amount));
                    let at = Instant::new(*at, 0).expect("small");
                    let place = position(*offset as u64);
                    match &mut row {
                        None => row = Some(UsageRow::first(amount, at, place)),
                        Some(row) => row.add(amount, at, place),
                    }
                }
                row
            };
            let pulses: Vec<_> = pulses.into_iter().enumerate().collect();
            let whole = row_of(&pulses).expect("not empty");
            let (left, right) = pulses.split_at(split.min(pulses.len()));
            let merged = match (row_of(left), row_of(right)) {
                (Some(mut left), Some(right)) => { left.merge(&right); left }
                (left, right) => left.or(right).expect("one side"),
            };
            prop_assert_eq!(whole, merged);
            prop_assert_eq!(UsageRow::decode(&whole.encode()), Some(whole));
        }
    }
}
