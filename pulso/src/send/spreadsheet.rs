//! Pulses as CSV: the proto's field names as header, tags as `tags.KEY`.

use std::io::Read;

use pulso_domain::reason::Reason;
use pulso_ingestor_api::formats::{Unreadable, occurred_at};
use pulso_proto::v1;

use super::Numbered;
use crate::cli::exit::Failure;

/// Reads row by row.
pub(super) struct Reader<R: Read> {
    rows: csv::Reader<R>,
    columns: Vec<Column>,
    record: csv::ByteRecord,
}

/// What a column holds.
#[derive(Debug, PartialEq, Eq)]
enum Column {
    Id,
    TenantId,
    ProductSku,
    UsedAmount,
    UseUnit,
    OccurredAt,
    Region,
    ResourceId,
    Tag(String),
}

impl Column {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "id" => Self::Id,
            "tenant_id" => Self::TenantId,
            "product_sku" => Self::ProductSku,
            "used_amount" => Self::UsedAmount,
            "use_unit" => Self::UseUnit,
            "occurred_at" => Self::OccurredAt,
            "region" => Self::Region,
            "resource_id" => Self::ResourceId,
            _ => Self::Tag(name.strip_prefix("tags.")?.to_owned()),
        })
    }
}

impl<R: Read> Reader<R> {
    /// Reads the header.
    pub(super) fn new(input: R) -> Result<Self, Failure> {
        let mut rows = csv::ReaderBuilder::new().flexible(true).from_reader(input);
        let header =
            rows.headers().map_err(|error| Failure::usage(format!("cannot read the header: {error}")))?;
        let columns = header
            .iter()
            .map(|name| {
                // Spreadsheets put a byte order mark before the first name.
                let name = name.trim_start_matches('\u{feff}').trim();
                Column::of(name)
                    .ok_or_else(|| Failure::usage(format!("the header names an unknown column {name:?}")))
            })
            .collect::<Result<Vec<_>, _>>()?;
        if let Some(place) = (1..columns.len()).find(|place| columns[..*place].contains(&columns[*place])) {
            return Err(Failure::usage(format!("the header names column {} twice", place + 1)));
        }
        Ok(Self { rows, columns, record: csv::ByteRecord::new() })
    }

    /// The next row with the line it begins at; `None` at the end.
    pub(super) fn next_line(&mut self) -> Result<Option<Numbered>, Failure> {
        let more = self
            .rows
            .read_byte_record(&mut self.record)
            .map_err(|error| Failure::failed(format!("cannot read the file: {error}")))?;
        if !more {
            return Ok(None);
        }
        let line = self.record.position().map_or(0, csv::Position::line);
        Ok(Some((line, self.pulse())))
    }

    fn pulse(&self) -> Result<v1::Pulse, Unreadable> {
        if self.record.len() != self.columns.len() {
            let (found, wanted) = (self.record.len(), self.columns.len());
            return Err(Unreadable::whole(format!("has {found} columns, the header {wanted}")));
        }
        let mut pulse = v1::Pulse::default();
        for (column, bytes) in self.columns.iter().zip(&self.record) {
            let text = std::str::from_utf8(bytes).map_err(|_| Unreadable {
                reason: Reason::InvalidUtf8,
                field: "",
                detail: "save the file as UTF-8".to_owned(),
            })?;
            put(&mut pulse, column, text)?;
        }
        Ok(pulse)
    }
}

fn put(pulse: &mut v1::Pulse, column: &Column, text: &str) -> Result<(), Unreadable> {
    match column {
        Column::Id => text.clone_into(&mut pulse.id),
        Column::TenantId => text.clone_into(&mut pulse.tenant_id),
        Column::ProductSku => text.clone_into(&mut pulse.product_sku),
        Column::UsedAmount => text.clone_into(&mut pulse.used_amount),
        Column::UseUnit => text.clone_into(&mut pulse.use_unit),
        Column::Region => text.clone_into(&mut pulse.region),
        Column::ResourceId => text.clone_into(&mut pulse.resource_id),
        Column::OccurredAt => pulse.occurred_at = occurred_at(Some(text))?,
        // An empty cell is a pulse without that tag: CSV cannot tell it from an empty value.
        Column::Tag(key) if !text.is_empty() => {
            pulse.tags.insert(key.clone(), text.to_owned());
        }
        Column::Tag(_) => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_come_in_any_order_and_tags_by_their_key() {
        let text = "\u{feff}tags.team,id,used_amount,occurred_at\nblue,a,1.0,2026-01-01T00:00:00Z\n,b,2,\n";
        let mut reader = Reader::new(text.as_bytes()).expect("a header");
        let (line, first) = reader.next_line().expect("reads").expect("a row");
        let first = first.expect("a pulse");
        assert_eq!((line, first.id.as_str(), first.used_amount.as_str()), (2, "a", "1.0"));
        assert_eq!(first.tags["team"], "blue");
        let (line, second) = reader.next_line().expect("reads").expect("a row");
        let second = second.expect("a pulse");
        assert_eq!((line, second.tags.len(), second.occurred_at), (3, 0, None));
        assert!(reader.next_line().expect("reads").is_none());
    }

    #[test]
    fn an_unknown_or_repeated_column_and_a_short_row_are_told() {
        assert!(Reader::new("id,regoin\n".as_bytes()).is_err());
        assert!(Reader::new("id,id\n".as_bytes()).is_err());
        let mut reader = Reader::new("id,region\na\nb,c\n".as_bytes()).expect("a header");
        assert!(reader.next_line().expect("reads").expect("a row").1.is_err());
        assert!(reader.next_line().expect("reads").expect("a row").1.is_ok());
    }
}
