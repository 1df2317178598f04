//! The published charges of a tenant's month: one set, named by what it was made from, so that a reader sees one
//! truth and no writer can take it back.
//!
//! It stands in [`Table::Charges`](pulso_platform::store::Table::Charges) as JSON with decimals as strings and changes by
//! compare-and-set only. A set supersedes another when it used at least as much of every row and as new a catalog.

use std::collections::BTreeMap;

use pulso_domain::money::{Money, MoneyError, RoundingMode};
use pulso_domain::position::Rank;
use pulso_domain::price::UnitPrice;
use pulso_domain::quantity::QuantitySum;
use pulso_domain::window::Window;
use serde::{Deserialize, Serialize};

use crate::catalog::words::{Word, as_text, as_text_option};
use crate::rate::{Charge, CompiledCatalog, MonthUsage, Rated, Unpriced, UnpricedReason, rate};

/// The version of the stored form.
const FORMAT: u32 = 1;

/// All charges of one tenant's month.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChargeSet {
    /// Who.
    pub tenant_id: String,
    /// When.
    pub month: Window,
    /// The catalog version it was rated under.
    pub catalog_version: u64,
    /// Everything of the tenant below this rank is in it.
    pub as_of: Rank,
    /// How invoice lines are rounded.
    pub rounding: RoundingMode,
    /// The currency that the month is billed in; `None` when the tenant has no prices at all.
    pub currency: Option<String>,
    /// What each usage row was made from: SKU, unit and region of the month row, and its hwm.
    pub rows: BTreeMap<(String, String, String), Rank>,
    /// Charges and what has no price.
    pub rated: Rated,
}

/// The sums of charges in one currency, unrounded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Totals {
    /// The currency.
    pub currency: String,
    /// The sum of list costs.
    pub list_cost: Money,
    /// The sum of contracted costs.
    pub contracted_cost: Money,
    /// The sum of effective costs.
    pub effective_cost: Money,
    /// The sum of billed costs.
    pub billed_cost: Money,
}

/// The sums of charges, by currency.
///
/// # Errors
/// When a sum does not fit.
pub fn totals(charges: &[Charge]) -> Result<Vec<Totals>, MoneyError> {
    let mut sums: BTreeMap<&str, [Money; 4]> = BTreeMap::new();
    for charge in charges {
        let sum = sums.entry(&charge.currency).or_default();
        let costs = [charge.list_cost, charge.contracted_cost, charge.effective_cost, charge.billed_cost];
        for (sum, cost) in sum.iter_mut().zip(costs) {
            *sum = sum.checked_add(cost)?;
        }
    }
    let total = |(currency, sum): (&str, [Money; 4])| Totals {
        currency: currency.to_owned(),
        list_cost: sum[0],
        contracted_cost: sum[1],
        effective_cost: sum[2],
        billed_cost: sum[3],
    };
    Ok(sums.into_iter().map(total).collect())
}

impl ChargeSet {
    /// Rates a tenant's month and names the result by what it was made from.
    #[must_use]
    pub fn new(catalog: &CompiledCatalog, usage: &MonthUsage, as_of: Rank) -> Self {
        let row_of = |row: &crate::rate::UsedRow| {
            let key = (row.product_sku.clone(), row.use_unit.clone(), row.region.clone());
            (key, row.usage.hwm)
        };
        Self {
            tenant_id: usage.tenant_id.clone(),
            month: usage.month,
            catalog_version: catalog.version(),
            as_of,
            rounding: catalog.rounding(&usage.tenant_id, usage.month),
            currency: catalog.currency(&usage.tenant_id, usage.month).map(str::to_owned),
            rows: usage.month_rows.iter().map(row_of).collect(),
            rated: rate(catalog, usage),
        }
    }

    /// Whether this set may take the place of another of the same tenant-month: it takes back nothing of it.
    #[must_use]
    pub fn supersedes(&self, other: &Self) -> bool {
        let covers = |(row, hwm): (_, &Rank)| self.rows.get(row).is_some_and(|own| own >= hwm);
        self.catalog_version >= other.catalog_version && other.rows.iter().all(covers)
    }

    /// Whether both were made from the same rows and catalog, and so are equal but for `as_of`.
    #[must_use]
    pub fn is_of_same_inputs(&self, other: &Self) -> bool {
        self.catalog_version == other.catalog_version && self.rows == other.rows
    }

    /// The stored form: always the same bytes for the same set.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(&StoredSet::of(self)).expect("a set has only texts, numbers, lists and objects")
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// When the bytes are none of this version.
    pub fn from_json(bytes: &[u8]) -> Result<Self, ChargesDamaged> {
        let stored: StoredSet =
            serde_json::from_slice(bytes).map_err(|error| ChargesDamaged(error.to_string()))?;
        if stored.format != FORMAT {
            return Err(ChargesDamaged(format!("format {} is not {FORMAT}", stored.format)));
        }
        stored.into_set().ok_or_else(|| ChargesDamaged("a period is none".to_owned()))
    }
}

/// Stored charges that cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("stored charges cannot be read: {0}")]
pub struct ChargesDamaged(String);

/// The stored form of a set.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredSet {
    format: u32,
    tenant_id: String,
    period: String,
    catalog_version: u64,
    as_of: u64,
    #[serde(with = "as_text")]
    rounding: RoundingMode,
    currency: Option<String>,
    rows: Vec<(String, String, String, u64)>,
    charges: Vec<StoredCharge>,
    unpriced: Vec<StoredUnpriced>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredCharge {
    product_sku: String,
    use_unit: String,
    region: String,
    tier: Option<u32>,
    #[serde(with = "as_text_option")]
    tier_begin: Option<QuantitySum>,
    #[serde(with = "as_text")]
    quantity: QuantitySum,
    currency: String,
    #[serde(with = "as_text")]
    list_unit_price: UnitPrice,
    #[serde(with = "as_text")]
    contracted_unit_price: Money,
    #[serde(with = "as_text")]
    list_cost: Money,
    #[serde(with = "as_text")]
    contracted_cost: Money,
    #[serde(with = "as_text")]
    effective_cost: Money,
    #[serde(with = "as_text")]
    billed_cost: Money,
    price_version: String,
    list_price_version: String,
    list_tier: Option<u32>,
    contract_version: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredUnpriced {
    product_sku: String,
    use_unit: String,
    region: String,
    #[serde(with = "as_text")]
    quantity: QuantitySum,
    reason: UnpricedReason,
}

impl Word for Money {
    fn read(text: &str) -> Result<Self, String> {
        Self::parse(text).map_err(|error| error.to_string())
    }
    fn written(&self) -> String {
        self.to_string()
    }
}

impl Word for QuantitySum {
    fn read(text: &str) -> Result<Self, String> {
        // A sum has the decimals of a quantity but more digits, as money can read; money has 39 decimals more.
        let spare = ethnum::I256::from(10).pow(15);
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = |part: &str| part.parse::<ethnum::I256>().map_err(|error| error.to_string());
        let steps = digits(&format!("{whole}{fraction:0<15}"))?;
        if fraction.len() > 15 || fraction.contains(['-', '+']) || steps / spare != digits(whole)? {
            return Err("is no quantity".to_owned());
        }
        Self::from_steps(steps).ok_or_else(|| "is too large".to_owned())
    }
    fn written(&self) -> String {
        self.to_string()
    }
}

impl StoredSet {
    fn of(set: &ChargeSet) -> Self {
        let row = |((sku, unit, region), hwm): (&(String, String, String), &Rank)| {
            (sku.clone(), unit.clone(), region.clone(), hwm.as_u64())
        };
        Self {
            format: FORMAT,
            tenant_id: set.tenant_id.clone(),
            period: set.month.to_string(),
            catalog_version: set.catalog_version,
            as_of: set.as_of.as_u64(),
            rounding: set.rounding,
            currency: set.currency.clone(),
            rows: set.rows.iter().map(row).collect(),
            charges: set.rated.charges.iter().map(StoredCharge::of).collect(),
            unpriced: set.rated.unpriced.iter().map(StoredUnpriced::of).collect(),
        }
    }

    fn into_set(self) -> Option<ChargeSet> {
        let month = Window::parse_month(&self.period)?;
        let rows = self.rows.into_iter();
        let charges = self.charges.into_iter().map(|charge| charge.into_charge(month)).collect();
        let unpriced = self.unpriced.into_iter().map(StoredUnpriced::into_unpriced).collect();
        Some(ChargeSet {
            tenant_id: self.tenant_id,
            month,
            catalog_version: self.catalog_version,
            as_of: Rank::from_u64(self.as_of),
            rounding: self.rounding,
            currency: self.currency,
            rows: rows.map(|(sku, unit, region, hwm)| ((sku, unit, region), Rank::from_u64(hwm))).collect(),
            rated: Rated { charges, unpriced },
        })
    }
}

impl StoredCharge {
    fn of(charge: &Charge) -> Self {
        let charge = charge.clone();
        Self {
            product_sku: charge.product_sku,
            use_unit: charge.use_unit,
            region: charge.region,
            tier: charge.tier,
            tier_begin: charge.tier_begin,
            quantity: charge.quantity,
            currency: charge.currency,
            list_unit_price: charge.list_unit_price,
            contracted_unit_price: charge.contracted_unit_price,
            list_cost: charge.list_cost,
            contracted_cost: charge.contracted_cost,
            effective_cost: charge.effective_cost,
            billed_cost: charge.billed_cost,
            price_version: charge.price_version,
            list_price_version: charge.list_price_version,
            list_tier: charge.list_tier,
            contract_version: charge.contract_version,
        }
    }

    fn into_charge(self, month: Window) -> Charge {
        Charge {
            product_sku: self.product_sku,
            use_unit: self.use_unit,
            region: self.region,
            window: month,
            tier: self.tier,
            tier_begin: self.tier_begin,
            quantity: self.quantity,
            currency: self.currency,
            list_unit_price: self.list_unit_price,
            contracted_unit_price: self.contracted_unit_price,
            list_cost: self.list_cost,
            contracted_cost: self.contracted_cost,
            effective_cost: self.effective_cost,
            billed_cost: self.billed_cost,
            price_version: self.price_version,
            list_price_version: self.list_price_version,
            list_tier: self.list_tier,
            contract_version: self.contract_version,
        }
    }
}

impl StoredUnpriced {
    fn of(unpriced: &Unpriced) -> Self {
        let one = unpriced.clone();
        Self {
            product_sku: one.product_sku,
            use_unit: one.use_unit,
            region: one.region,
            quantity: one.quantity,
            reason: one.reason,
        }
    }

    fn into_unpriced(self) -> Unpriced {
        Unpriced {
            product_sku: self.product_sku,
            use_unit: self.use_unit,
            region: self.region,
            quantity: self.quantity,
            reason: self.reason,
        }
    }
}
