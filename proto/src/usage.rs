//! Usage records between the domain and the wire, as protobuf and as JSON: what the consumer hands over and pricing takes.

use pulso_domain::usage::{RowKey, UsageRow};
use pulso_domain::window::{Level, Window};
use serde::{Deserialize, Serialize};

use crate::v1;

/// The version of a [`v1::UsageUpdate`] that this binary writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

/// A usage row as a record.
#[must_use]
pub fn record(key: &RowKey<'_>, row: &UsageRow) -> v1::UsageRecord {
    let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    v1::UsageRecord {
        tenant_id: key.tenant_id.to_owned(),
        product_sku: key.product_sku.to_owned(),
        use_unit: key.use_unit.to_owned(),
        region: key.region.to_owned(),
        level: wire_level(key.window.level()).into(),
        window_start: at(key.window.start_seconds()),
        window_end: at(key.window.end_seconds()),
        quantity: row.sum.to_string(),
        count: row.count,
        min: row.min.to_string(),
        max: row.max.to_string(),
        last: row.last.to_string(),
        hwm: row.hwm.as_u64(),
    }
}

/// The window of a record; `None` when it has no whole one.
#[must_use]
pub fn window(record: &v1::UsageRecord) -> Option<Window> {
    let level = match record.level() {
        v1::WindowLevel::Unspecified => return None,
        v1::WindowLevel::Hour => Level::Hour,
        v1::WindowLevel::Day => Level::Day,
        v1::WindowLevel::Month => Level::Month,
    };
    let start = record.window_start?;
    let window = Window::containing(level, pulso_domain::time::Instant::new(start.seconds, start.nanos)?);
    (window.start_seconds() == start.seconds && start.nanos == 0).then_some(window)
}

const fn wire_level(level: Level) -> v1::WindowLevel {
    match level {
        Level::Hour => v1::WindowLevel::Hour,
        Level::Day => v1::WindowLevel::Day,
        Level::Month => v1::WindowLevel::Month,
    }
}

/// A [`v1::UsageUpdate`] as JSON: the proto's field names, decimals as strings, times in RFC 3339.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JsonUpdate {
    /// The records.
    #[serde(default)]
    pub records: Vec<JsonRecord>,
    /// How far they go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<JsonProgress>,
}

/// A [`v1::UsageRecord`] as JSON.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each is the field of the same name in usage.proto")]
pub struct JsonRecord {
    pub tenant_id: String,
    pub product_sku: String,
    pub use_unit: String,
    #[serde(default)]
    pub region: String,
    /// `hour`, `day` or `month`.
    pub level: String,
    pub window_start: String,
    pub window_end: String,
    pub quantity: String,
    pub count: u64,
    pub min: String,
    pub max: String,
    pub last: String,
    pub hwm: u64,
}

/// A [`v1::UsageProgress`] as JSON.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each is the field of the same name in usage.proto")]
pub struct JsonProgress {
    pub partition: u32,
    pub from: u64,
    pub through: u64,
}

impl From<&v1::UsageUpdate> for JsonUpdate {
    fn from(update: &v1::UsageUpdate) -> Self {
        let progress = update.progress.map(|progress| JsonProgress {
            partition: progress.partition,
            from: progress.from,
            through: progress.through,
        });
        Self { records: update.records.iter().filter_map(json_record).collect(), progress }
    }
}

/// `None` for a record without a window, which Pulso never makes.
fn json_record(record: &v1::UsageRecord) -> Option<JsonRecord> {
    let window = window(record)?;
    Some(JsonRecord {
        tenant_id: record.tenant_id.clone(),
        product_sku: record.product_sku.clone(),
        use_unit: record.use_unit.clone(),
        region: record.region.clone(),
        level: window.level().as_str().to_owned(),
        window_start: window.start().to_string(),
        window_end: window.end().to_string(),
        quantity: record.quantity.clone(),
        count: record.count,
        min: record.min.clone(),
        max: record.max.clone(),
        last: record.last.clone(),
        hwm: record.hwm,
    })
}

impl JsonUpdate {
    /// The update as it goes on; the error names what is wrong.
    ///
    /// # Errors
    /// When a level or a time is none.
    pub fn into_update(self) -> Result<v1::UsageUpdate, String> {
        let records = self.records.into_iter().map(read_record).collect::<Result<_, _>>()?;
        let progress = self.progress.map(|progress| v1::UsageProgress {
            partition: progress.partition,
            from: progress.from,
            through: progress.through,
        });
        Ok(v1::UsageUpdate { format_version: FORMAT, records, progress })
    }
}

fn read_record(record: JsonRecord) -> Result<v1::UsageRecord, String> {
    let level = Level::ALL.into_iter().find(|level| level.as_str() == record.level);
    let level = level.ok_or("level: write hour, day or month")?;
    let time = |name: &str, text: &str| {
        let at = pulso_domain::time::Instant::parse_rfc3339(text);
        let at = at.ok_or_else(|| format!("{name}: write a time such as 2026-01-31T23:00:00Z"))?;
        Ok::<_, String>(Some(prost_types::Timestamp {
            seconds: at.seconds(),
            nanos: at.nanos().cast_signed(),
        }))
    };
    Ok(v1::UsageRecord {
        level: wire_level(level).into(),
        window_start: time("window_start", &record.window_start)?,
        window_end: time("window_end", &record.window_end)?,
        tenant_id: record.tenant_id,
        product_sku: record.product_sku,
        use_unit: record.use_unit,
        region: record.region,
        quantity: record.quantity,
        count: record.count,
        min: record.min,
        max: record.max,
        last: record.last,
        hwm: record.hwm,
    })
}

#[cfg(test)]
mod tests {
    use pulso_domain::position::{Position, Rank};
    use pulso_domain::quantity::Quantity;
    use pulso_domain::time::Instant;

    use super::*;

    #[test]
    fn a_row_comes_through_as_record_and_as_json_for_every_window() {
        let at = Instant::parse_rfc3339("2026-02-28T23:59:59Z").expect("a time");
        let position = Position::new(Rank::new(2, 7).expect("small"), 3);
        let row = UsageRow::first(Quantity::parse(b"-1.5").expect("a quantity"), at, position);
        for level in Level::ALL {
            let window_of = Window::containing(level, at);
            let key =
                RowKey { tenant_id: "t", window: window_of, product_sku: "s", use_unit: "u", region: "" };
            let sent = record(&key, &row);
            assert_eq!((window(&sent), sent.quantity.as_str()), (Some(window_of), "-1.5"));
            let progress = Some(v1::UsageProgress { partition: 1, from: 2, through: 3 });
            let update = v1::UsageUpdate { format_version: FORMAT, records: vec![sent], progress };
            assert_eq!(JsonUpdate::from(&update).into_update(), Ok(update));
        }
    }

    #[test]
    fn a_window_that_begins_between_two_is_none() {
        let start = Some(prost_types::Timestamp { seconds: 3601, nanos: 0 });
        let level = v1::WindowLevel::Hour.into();
        assert_eq!(window(&v1::UsageRecord { level, window_start: start, ..Default::default() }), None);
    }
}
