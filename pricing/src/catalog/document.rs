//! The catalog as it is written, stored and served: one document of SKUs, rate cards, contracts and tenant names.
//!
//! It stands between the text that a person or importer sends and the tables that rating reads. Its numbers are typed, so
//! a document that exists holds only good decimals and times; what relates its entries to each other is `validate`'s.

use pulso_domain::money::RoundingMode;
use pulso_domain::price::{Percent, UnitPrice};
use pulso_domain::quantity::Quantity;
use pulso_domain::time::Instant;
use serde::{Deserialize, Serialize};

use super::words::{as_text, as_text_option};

/// The whole catalog.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// What can be priced; by `product_sku`.
    #[serde(default)]
    pub skus: Vec<Sku>,
    /// Prices; by `name`.
    #[serde(default)]
    pub rate_cards: Vec<RateCard>,
    /// What tenants agreed; by `tenant_id` and `valid_from`.
    #[serde(default)]
    pub contracts: Vec<Contract>,
    /// How tenants are called; by `tenant_id`.
    #[serde(default)]
    pub tenants: Vec<TenantName>,
}

/// The priced thing and its meter.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sku {
    /// Its id, as pulses send it.
    pub product_sku: String,
    /// What an invoice calls it.
    pub name: String,
    /// The service it belongs to.
    pub service_name: String,
    /// The category of that service, from FOCUS's closed list.
    pub service_category: String,
    /// The unit its prices are for: what pulses send, or what converts to it exactly.
    pub use_unit: String,
    /// How pulses become a quantity.
    pub aggregation: Aggregation,
}

/// How the pulses of a window become its quantity.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aggregation {
    /// All amounts together.
    #[default]
    Sum,
    /// How many pulses.
    Count,
    /// The smallest amount of the month.
    Min,
    /// The largest amount of the month.
    Max,
    /// The mean amount of the month, half_even to 15 decimals.
    Avg,
    /// The amount with the latest time of the month.
    Last,
}

impl Aggregation {
    /// Whether quantities of parts of a month add up to the month's; the others come from the month row alone.
    #[must_use]
    pub const fn is_additive(self) -> bool {
        matches!(self, Self::Sum | Self::Count)
    }
}

/// Versioned prices in one currency.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateCard {
    /// Its id.
    pub name: String,
    /// The ISO 4217 code of all its prices.
    pub currency: String,
    /// Whether tenants without a contract are priced by it. Absent in a merge means: as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<bool>,
    /// Its entries; by `product_sku`, `region` and `valid_from`.
    #[serde(default)]
    pub prices: Vec<Price>,
}

impl RateCard {
    /// Whether tenants without a contract are priced by it.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.default == Some(true)
    }
}

/// One price entry: what a SKU costs from a time on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Of what.
    pub product_sku: String,
    /// Where; an entry that names the region goes before one that does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// From here on; a whole hour in UTC.
    #[serde(with = "as_text")]
    pub valid_from: Instant,
    /// Up to here; without it, up to the next entry of the same SKU and region.
    #[serde(default, with = "as_text_option", skip_serializing_if = "Option::is_none")]
    pub valid_to: Option<Instant>,
    /// The price itself.
    pub model: Model,
}

/// The shape of a price.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Model {
    /// One price for every unit.
    Flat {
        /// That price.
        #[serde(with = "as_text")]
        unit_price: UnitPrice,
    },
    /// Each tier has its own price for the units within it.
    Graduated {
        /// In order; the last one is open.
        tiers: Vec<Tier>,
    },
}

/// One tier of a graduated price.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tier {
    /// The last quantity within it, in the SKU's unit; absent for the last tier.
    #[serde(default, with = "as_text_option", skip_serializing_if = "Option::is_none")]
    pub up_to: Option<Quantity>,
    /// What each of its units costs.
    #[serde(with = "as_text")]
    pub unit_price: UnitPrice,
}

/// What one tenant agreed from a time on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contract {
    /// Who.
    pub tenant_id: String,
    /// The prices it starts from.
    pub rate_card: String,
    /// From here on; a whole hour in UTC.
    #[serde(with = "as_text")]
    pub valid_from: Instant,
    /// Up to here; without it, up to the tenant's next contract.
    #[serde(default, with = "as_text_option", skip_serializing_if = "Option::is_none")]
    pub valid_to: Option<Instant>,
    /// How an invoice line is rounded to the currency's minor unit.
    #[serde(default, with = "as_text")]
    pub rounding: RoundingMode,
    /// Prices in place of the rate card's; at most one of a SKU and region.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<Override>,
    /// Percentages taken off after overrides, one after the other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub discounts: Vec<Discount>,
}

/// A price in place of the rate card's.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Override {
    /// Of what.
    pub product_sku: String,
    /// Where; an override that names the region goes before one that does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The price itself.
    pub model: Model,
}

/// A percentage taken off.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Discount {
    /// Of what; `*` for everything.
    pub product_sku: String,
    /// How much of a hundred.
    #[serde(with = "as_text")]
    pub percent: Percent,
}

impl Discount {
    /// Whether it is taken off this SKU.
    #[must_use]
    pub fn meets(&self, product_sku: &str) -> bool {
        self.product_sku == ANY_SKU || self.product_sku == product_sku
    }
}

/// The SKU of a discount on everything.
pub const ANY_SKU: &str = "*";

/// How a tenant is called.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantName {
    /// Who.
    pub tenant_id: String,
    /// The name shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What the tenant is called where an importer found it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_id: Option<String>,
}

impl Document {
    /// Reads the stored form, which is the JSON of a checked document.
    ///
    /// # Errors
    /// When the bytes are none; such a store is damaged or newer.
    pub fn from_json(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// The stored form: always the same bytes for the same document.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a document has only texts, lists and objects")
    }
}
