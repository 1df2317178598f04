//! One row of a FOCUS file: which columns matter, and whether the row becomes a pulse or why it does not.

use std::borrow::Cow;

use pulso_domain::pulse::{RawPulse, check};
use pulso_domain::quantity::Quantity;
use pulso_domain::reason::Reason;
use pulso_domain::time::Instant;
use pulso_domain::window::{Level, Window};
use pulso_proto::v1;

use super::catalog::TITLE_BYTES_MAX;
use super::exact::{Exact, ExactError};
use super::identity;
use crate::cli::exit::Failure;

/// Why a row is no pulse. The list is closed; the codes of pulses that could not be sent are those of Pulso's own reasons.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Skip {
    /// `ChargeCategory` is not `Usage`.
    NotUsage,
    /// No `SubAccountId` and no `BillingAccountId`.
    MissingTenant,
    /// No `SkuPriceId` and no `SkuId`.
    MissingSku,
    /// No `PricingQuantity`.
    MissingQuantity,
    /// No `PricingUnit`.
    MissingUnit,
    /// No `ListUnitPrice`.
    MissingPrice,
    /// No `BillingCurrency`.
    MissingCurrency,
    /// A quantity below zero.
    NegativeQuantity,
    /// A price below zero.
    NegativePrice,
    /// A number that is none.
    InvalidNumber,
    /// A number with more decimals than are kept.
    TooPrecise,
    /// A number with more digits than are kept.
    TooLarge,
    /// No `ChargePeriodStart` that can be read.
    InvalidTime,
    /// A row in another currency than the one chosen.
    OtherCurrency,
    /// A unit other than the one its SKU has.
    UnitMismatch,
    /// Pulso would refuse the pulse.
    Pulse(Reason),
}

impl Skip {
    /// The stable code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::NotUsage => "NOT_USAGE",
            Self::MissingTenant => "MISSING_TENANT",
            Self::MissingSku => "MISSING_SKU",
            Self::MissingQuantity => "MISSING_QUANTITY",
            Self::MissingUnit => "MISSING_UNIT",
            Self::MissingPrice => "MISSING_PRICE",
            Self::MissingCurrency => "MISSING_CURRENCY",
            Self::NegativeQuantity => "NEGATIVE_QUANTITY",
            Self::NegativePrice => "NEGATIVE_PRICE",
            Self::InvalidNumber => "INVALID_NUMBER",
            Self::TooPrecise => "TOO_PRECISE",
            Self::TooLarge => "TOO_LARGE",
            Self::InvalidTime => "INVALID_TIME",
            Self::OtherCurrency => "OTHER_CURRENCY",
            Self::UnitMismatch => "UNIT_MISMATCH",
            Self::Pulse(reason) => reason.code(),
        }
    }
}

impl From<ExactError> for Skip {
    fn from(error: ExactError) -> Self {
        match error {
            ExactError::Malformed => Self::InvalidNumber,
            ExactError::TooPrecise => Self::TooPrecise,
            ExactError::TooLarge => Self::TooLarge,
        }
    }
}

/// A row that can become a pulse.
#[derive(Clone, PartialEq, Debug)]
pub struct Row {
    /// The tenant's name in the file.
    pub tenant_name: String,
    /// The SKU's name in the file.
    pub sku_name: String,
    /// The pulse; its id is still empty.
    pub pulse: v1::Pulse,
    /// The list price of one unit.
    pub price: Quantity,
    /// The currency of the price.
    pub currency: String,
    /// Quantity times price, exact.
    pub product: Exact,
    /// What the file says the row costs at list price.
    pub list_cost: Option<Exact>,
    /// The month the pulse falls into.
    pub month: Window,
    /// What people call the SKU.
    pub description: String,
    /// The service it belongs to.
    pub service_name: String,
    /// The service's category.
    pub service_category: String,
}

/// Moves rows to another time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Move {
    /// Each row stays where it is.
    Stay,
    /// Each row moves to the same day and time of this month, or to its last day.
    To(Window),
    /// Each row moves into the part of this month that lies before the instant, in proportion.
    ToPartOf(Window, Instant),
}

impl Move {
    /// What makes the ids of moved rows other than those of rows that stay.
    #[must_use]
    pub fn salt(self) -> String {
        match self {
            Self::Stay => String::new(),
            Self::To(month) | Self::ToPartOf(month, _) => month.to_string(),
        }
    }

    /// Where an instant moves to.
    #[must_use]
    pub fn apply(self, at: Instant) -> Instant {
        let from = Window::containing(Level::Month, at);
        let into_month = at.seconds() - from.start_seconds();
        let seconds = match self {
            Self::Stay => return at,
            Self::To(month) => {
                // A month that is shorter takes the days it does not have on its last one.
                let last_day = month.end_seconds() - SECONDS_PER_DAY;
                let day = month.start_seconds() + into_month - into_month % SECONDS_PER_DAY;
                day.min(last_day) + into_month % SECONDS_PER_DAY
            }
            Self::ToPartOf(month, until) => {
                let length = i128::from(from.end_seconds() - from.start_seconds());
                let part = i128::from((until.seconds() - month.start_seconds()).max(0));
                // The share of a month is below the month's length.
                month.start_seconds() + i64::try_from(i128::from(into_month) * part / length).unwrap_or(0)
            }
        };
        // Both months lie within the years 1 to 9999.
        Instant::new(seconds, i32::try_from(at.nanos()).unwrap_or(0)).unwrap_or(at)
    }
}

const SECONDS_PER_DAY: i64 = 86_400;

/// Where the columns stand.
#[derive(Clone, Debug)]
pub struct Columns {
    category: usize,
    quantity: usize,
    unit: usize,
    time: usize,
    price: usize,
    currency: usize,
    tenants: [Option<usize>; 2],
    skus: [Option<usize>; 2],
    region: Option<usize>,
    resource: Option<usize>,
    list_cost: Option<usize>,
    description: Option<usize>,
    service_name: Option<usize>,
    service_category: Option<usize>,
}

impl Columns {
    /// Finds the columns by their names.
    ///
    /// # Errors
    /// When one that an import needs is not there.
    pub fn of(header: &csv::StringRecord) -> Result<Self, Failure> {
        let find = |name: &str| header.iter().position(|column| column == name);
        let need = |name: &str| {
            find(name).ok_or_else(|| {
                Failure::usage(format!(
                    "the file has no column {name}; is it a FOCUS cost and usage file with its header?"
                ))
            })
        };
        Ok(Self {
            category: need("ChargeCategory")?,
            quantity: need("PricingQuantity")?,
            unit: need("PricingUnit")?,
            time: need("ChargePeriodStart")?,
            price: need("ListUnitPrice")?,
            currency: need("BillingCurrency")?,
            tenants: either(find("SubAccountId"), need("BillingAccountId"))?,
            skus: either(find("SkuPriceId"), need("SkuId"))?,
            region: find("RegionId"),
            resource: find("ResourceId"),
            list_cost: find("ListCost"),
            description: find("ChargeDescription"),
            service_name: find("ServiceName"),
            service_category: find("ServiceCategory"),
        })
    }

    /// Reads one row.
    ///
    /// # Errors
    /// Why it becomes no pulse.
    pub fn read(&self, record: &csv::StringRecord, moved: Move) -> Result<Row, Skip> {
        let value = |place: usize| present(record.get(place));
        let first = |places: [Option<usize>; 2]| places.into_iter().flatten().find_map(value);
        let text = |place: Option<usize>| place.and_then(value).unwrap_or_default().to_owned();
        if value(self.category) != Some("Usage") {
            return Err(Skip::NotUsage);
        }
        let tenant_name = first(self.tenants).ok_or(Skip::MissingTenant)?;
        let sku_name = first(self.skus).ok_or(Skip::MissingSku)?;
        let quantity = amount(value(self.quantity).ok_or(Skip::MissingQuantity)?, Skip::NegativeQuantity)?;
        let use_unit = value(self.unit).ok_or(Skip::MissingUnit)?;
        let price = amount(value(self.price).ok_or(Skip::MissingPrice)?, Skip::NegativePrice)?;
        let currency = value(self.currency).ok_or(Skip::MissingCurrency)?;
        let list_cost = self.list_cost.and_then(value).map(Exact::parse).transpose()?;
        let occurred_at = moved.apply(value(self.time).and_then(instant).ok_or(Skip::InvalidTime)?);
        let pulse = v1::Pulse {
            id: String::new(),
            tenant_id: identity::tenant_id(tenant_name),
            product_sku: format!("{sku_name}@{price}"),
            used_amount: quantity.to_string(),
            use_unit: use_unit.to_owned(),
            occurred_at: Some(crate::client::timestamp(occurred_at)),
            region: text(self.region),
            resource_id: text(self.resource),
            tags: std::collections::HashMap::new(),
        };
        sendable(&pulse)?;
        keepable(tenant_name)?;
        Ok(Row {
            tenant_name: tenant_name.to_owned(),
            sku_name: sku_name.to_owned(),
            pulse,
            price,
            currency: currency.to_owned(),
            product: Exact::product(quantity, price).ok_or(Skip::TooLarge)?,
            list_cost,
            month: Window::containing(Level::Month, occurred_at),
            description: text(self.description),
            service_name: text(self.service_name),
            service_category: text(self.service_category),
        })
    }
}

/// The preferred column and the one to fall back to; one of them must be there.
fn either(preferred: Option<usize>, other: Result<usize, Failure>) -> Result<[Option<usize>; 2], Failure> {
    match (preferred, other) {
        (None, Err(missing)) => Err(missing),
        (preferred, other) => Ok([preferred, other.ok()]),
    }
}

/// Empty and the word NULL are missing.
fn present(value: Option<&str>) -> Option<&str> {
    value.map(str::trim).filter(|value| !value.is_empty() && *value != "NULL")
}

fn amount(text: &str, negative: Skip) -> Result<Quantity, Skip> {
    let exact = Exact::parse(text)?;
    if exact.is_negative() {
        return Err(negative);
    }
    Ok(exact.to_quantity()?)
}

/// RFC 3339, or `YYYY-MM-DD HH:MM:SS` which FOCUS files give in UTC.
fn instant(text: &str) -> Option<Instant> {
    let with_zone: Cow<'_, str> = format!("{text}Z").into();
    Instant::parse_rfc3339(text).or_else(|| Instant::parse_rfc3339(&with_zone))
}

/// The original name is kept in the catalog, which bounds it.
fn keepable(tenant_name: &str) -> Result<(), Skip> {
    if tenant_name.len() > TITLE_BYTES_MAX {
        return Err(Skip::Pulse(Reason::FieldTooLong));
    }
    if tenant_name.chars().any(char::is_control) {
        return Err(Skip::Pulse(Reason::InvalidText));
    }
    Ok(())
}

/// Applies the server's own checks here, so that what cannot be sent is told with the file's rows.
fn sendable(pulse: &v1::Pulse) -> Result<(), Skip> {
    let raw = RawPulse {
        // The id is made later and always good.
        id: b"-",
        tenant_id: pulse.tenant_id.as_bytes(),
        product_sku: pulse.product_sku.as_bytes(),
        used_amount: pulse.used_amount.as_bytes(),
        use_unit: pulse.use_unit.as_bytes(),
        occurred_at: pulse.occurred_at.map(|at| (at.seconds, at.nanos)),
        region: pulse.region.as_bytes(),
        resource_id: pulse.resource_id.as_bytes(),
        tags: Vec::new(),
    };
    check(&raw).map(|_| ()).map_err(|rejection| Skip::Pulse(rejection.reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: [&str; 11] = [
        "ChargeCategory",
        "PricingQuantity",
        "PricingUnit",
        "ChargePeriodStart",
        "ListUnitPrice",
        "BillingCurrency",
        "SubAccountId",
        "BillingAccountId",
        "SkuPriceId",
        "SkuId",
        "ListCost",
    ];
    const GOOD: [&str; 11] =
        ["Usage", "2E-3", "GB", "2024-09-18 22:00:00", "0.50", "USD", "NULL", "acme", "", "sku-1", "0.001"];

    fn read(changes: &[(&str, &str)], moved: Move) -> Result<Row, Skip> {
        let mut values = GOOD;
        for (name, value) in changes {
            values[HEADER.iter().position(|column| column == name).expect("a column")] = value;
        }
        let columns = Columns::of(&csv::StringRecord::from(HEADER.to_vec())).expect("all columns");
        columns.read(&csv::StringRecord::from(values.to_vec()), moved)
    }

    #[test]
    fn a_good_row_is_a_pulse_and_falls_back_to_the_other_columns() {
        let row = read(&[], Move::Stay).expect("good");
        assert_eq!((row.pulse.tenant_id.as_str(), row.pulse.product_sku.as_str()), ("acme", "sku-1@0.5"));
        assert_eq!((row.pulse.used_amount.as_str(), row.product.to_string().as_str()), ("0.002", "0.001"));
        assert_eq!(row.list_cost, Some(row.product));
        assert_eq!(row.month.to_string(), "2024-09");
        let row = read(&[("SubAccountId", "sub"), ("SkuPriceId", "p"), ("ListCost", "NULL")], Move::Stay)
            .expect("good");
        assert_eq!((row.pulse.tenant_id.as_str(), row.pulse.product_sku.as_str()), ("sub", "p@0.5"));
        assert_eq!(row.list_cost, None);
    }

    #[test]
    fn every_row_that_is_no_pulse_has_its_reason() {
        let long = "x".repeat(127);
        for (column, value, code) in [
            ("ChargeCategory", "Tax", "NOT_USAGE"),
            ("ChargeCategory", "NULL", "NOT_USAGE"),
            ("BillingAccountId", "", "MISSING_TENANT"),
            ("SkuId", "NULL", "MISSING_SKU"),
            ("PricingQuantity", "NULL", "MISSING_QUANTITY"),
            ("PricingQuantity", "-1", "NEGATIVE_QUANTITY"),
            ("PricingQuantity", "1e-16", "TOO_PRECISE"),
            ("PricingQuantity", "1e23", "TOO_LARGE"),
            ("PricingQuantity", "many", "INVALID_NUMBER"),
            ("PricingUnit", "", "MISSING_UNIT"),
            ("ListUnitPrice", "NULL", "MISSING_PRICE"),
            ("ListUnitPrice", "-0.1", "NEGATIVE_PRICE"),
            ("BillingCurrency", "", "MISSING_CURRENCY"),
            ("ChargePeriodStart", "yesterday", "INVALID_TIME"),
            ("ChargePeriodStart", "", "INVALID_TIME"),
            ("ListCost", "much", "INVALID_NUMBER"),
            ("SkuId", &long, "FIELD_TOO_LONG"),
            ("PricingUnit", "G\u{1}B", "INVALID_TEXT"),
        ] {
            assert_eq!(
                read(&[(column, value)], Move::Stay).map_err(Skip::code).err(),
                Some(code),
                "{column} {value:?}"
            );
        }
    }

    #[test]
    fn a_file_without_the_columns_is_no_focus_file() {
        let failure = Columns::of(&csv::StringRecord::from(vec!["a", "b"])).expect_err("no columns");
        assert!(failure.sentence.contains("ChargeCategory"));
    }

    #[test]
    fn a_bill_moves_to_another_month_by_day_and_its_shorter_month_takes_the_rest_on_its_last_day() {
        let at = |text: &str| Instant::parse_rfc3339(text).expect("good");
        let february = Window::parse_month("2026-02").expect("good");
        let moved = |text: &str| Move::To(february).apply(at(text)).to_string();
        assert_eq!(moved("2024-09-18T22:00:00Z"), "2026-02-18T22:00:00Z");
        assert_eq!(moved("2024-09-30T23:00:00.5Z"), "2026-02-28T23:00:00.5Z");
        assert_eq!(read(&[], Move::To(february)).expect("good").month, february);
        assert_eq!(Move::To(february).salt(), "2026-02");
    }

    #[test]
    fn a_month_that_has_just_begun_takes_the_whole_bill_before_now() {
        let at = |text: &str| Instant::parse_rfc3339(text).expect("good");
        let month = Window::parse_month("2026-02").expect("good");
        for now in ["2026-02-01T00:00:00Z", "2026-02-01T00:00:05Z", "2026-02-27T12:00:00Z"] {
            for from in ["2024-09-01T00:00:00Z", "2024-09-30T23:59:59Z"] {
                let moved = Move::ToPartOf(month, at(now)).apply(at(from));
                assert!(moved >= month.start() && moved <= at(now), "{from} at {now} is {moved}");
            }
        }
    }
}
