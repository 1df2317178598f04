//! What the tests of this crate share: a catalog from text, and usage rows from a list of pulses.

use std::collections::BTreeMap;

use pulso_domain::position::{Position, Rank};
use pulso_domain::quantity::Quantity;
use pulso_domain::time::Instant;
use pulso_domain::usage::UsageRow;
use pulso_domain::window::{Level, Window};
use pulso_pricing::catalog::{Document, Format, Mode, parse, plan};
use pulso_pricing::rate::{CompiledCatalog, MonthUsage, UsedRow};

/// Hour, SKU, unit, region, amount.
pub(crate) type Pulse<'a> = (&'a str, &'a str, &'a str, &'a str, &'a str);

/// January 2026.
pub(crate) fn month() -> Window {
    Window::parse_month("2026-01").expect("good")
}

/// A document that must be good.
pub(crate) fn document(text: &str) -> Document {
    let parsed = parse(text.as_bytes(), Format::Yaml).expect("good values");
    plan(&Document::default(), &parsed.document, Mode::Replace).expect("good entries").document
}

/// Its tables, as version 1.
pub(crate) fn catalog(text: &str) -> CompiledCatalog {
    CompiledCatalog::new(1, document(text))
}

/// The hour and month rows of pulses of one tenant, as the fold would leave them.
pub(crate) fn usage(pulses: &[Pulse<'_>]) -> MonthUsage {
    let mut rows: BTreeMap<(Window, String, String, String), UsageRow> = BTreeMap::new();
    for (offset, (hour, sku, unit, region, amount)) in pulses.iter().enumerate() {
        let at = Instant::parse_rfc3339(&format!("{hour}:00:00Z")).expect(hour);
        let amount = Quantity::parse(amount.as_bytes()).expect(amount);
        let position = Position::new(Rank::new(1, offset as u64).expect("small"), 0);
        for level in [Level::Hour, Level::Month] {
            let window = Window::containing(level, at);
            let key = (window, (*sku).to_owned(), (*unit).to_owned(), (*region).to_owned());
            let fresh = UsageRow::first(amount, at, position);
            rows.entry(key).and_modify(|row| row.add(amount, at, position)).or_insert(fresh);
        }
    }
    let used = |((window, product_sku, use_unit, region), usage): (_, UsageRow)| UsedRow {
        window,
        product_sku,
        use_unit,
        region,
        usage,
    };
    let rows: Vec<UsedRow> = rows.into_iter().map(used).collect();
    let (month_rows, hour_rows) = rows.into_iter().partition(|row| row.window.level() == Level::Month);
    MonthUsage { tenant_id: "acme".to_owned(), month: month(), month_rows, hour_rows }
}
