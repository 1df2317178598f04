//! Draft invoices: a pure view of a [`ChargeSet`]. Each line is rounded once, and the total is the sum of the lines, so
//! that they always add up. A draft changes with its charges; making one final is not decided here.

use std::collections::BTreeMap;

use iso_currency::Currency;
use pulso_domain::money::{Money, MoneyError};
use pulso_domain::quantity::QuantitySum;
use pulso_domain::window::Window;

use crate::charges::ChargeSet;

/// Whether an invoice may still change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InvoiceState {
    /// It follows its charges.
    Draft,
}

impl InvoiceState {
    /// The word of the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
        }
    }
}

/// What a tenant owes for a period in one currency.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Invoice {
    /// `{tenant}-{period}`; with a currency behind it where a month was priced in several.
    pub invoice_id: String,
    /// Who.
    pub tenant_id: String,
    /// When.
    pub period: Window,
    /// The currency of all amounts.
    pub currency: String,
    /// The decimals of its minor unit.
    pub decimals: u32,
    /// Whether it may still change.
    pub state: InvoiceState,
    /// By SKU, unit, region, then tier.
    pub lines: Vec<InvoiceLine>,
    /// The sum of the lines.
    pub total: Money,
}

/// All charges of one SKU, unit, region and tier.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InvoiceLine {
    /// Stable for the same SKU, unit, region and tier of any invoice: 16 hex digits.
    pub line_id: String,
    /// Of what.
    pub product_sku: String,
    /// The unit of the quantity.
    pub use_unit: String,
    /// Where; empty when not given.
    pub region: String,
    /// From 1; none for a flat price.
    pub tier: Option<u32>,
    /// How much.
    pub quantity: QuantitySum,
    /// Before rounding: the sum of the charges' billed costs.
    pub billed_cost: Money,
    /// Rounded to the currency's minor unit.
    pub amount: Money,
}

/// The draft invoices of a tenant's month: one, or one per currency where a contract changed it within the month; none
/// where the tenant has no charges and no prices.
///
/// # Errors
/// When a sum does not fit.
pub fn draft_invoices(set: &ChargeSet) -> Result<Vec<Invoice>, MoneyError> {
    let mut lines: BTreeMap<&str, BTreeMap<LineKey<'_>, (QuantitySum, Money)>> = BTreeMap::new();
    // A month with nothing to bill still has its empty invoice.
    if let Some(currency) = &set.currency {
        lines.insert(currency, BTreeMap::new());
    }
    for charge in &set.rated.charges {
        let key =
            (charge.product_sku.as_str(), charge.use_unit.as_str(), charge.region.as_str(), charge.tier);
        let line = lines.entry(&charge.currency).or_default().entry(key).or_default();
        line.0.add_sum(charge.quantity);
        line.1 = line.1.checked_add(charge.billed_cost)?;
    }
    lines.retain(|_, grouped| !grouped.is_empty() || set.rated.charges.is_empty());
    let several = lines.len() > 1;
    lines.into_iter().map(|(currency, grouped)| invoice(set, (currency, several), grouped)).collect()
}

/// The decimals of a currency's minor unit.
#[must_use]
pub fn minor_unit_decimals(currency: &str) -> u32 {
    // Currencies without a minor unit, such as XAU, are billed in whole units.
    Currency::from_code(currency).and_then(Currency::exponent).map_or(0, u32::from)
}

type LineKey<'a> = (&'a str, &'a str, &'a str, Option<u32>);

fn invoice(
    set: &ChargeSet,
    (currency, several): (&str, bool),
    grouped: BTreeMap<LineKey<'_>, (QuantitySum, Money)>,
) -> Result<Invoice, MoneyError> {
    let decimals = minor_unit_decimals(currency);
    let mut lines = Vec::with_capacity(grouped.len());
    let mut total = Money::ZERO;
    for (key, (quantity, billed_cost)) in grouped {
        let amount = billed_cost.round(set.rounding, decimals)?;
        total = total.checked_add(amount)?;
        let (product_sku, use_unit, region, tier) = key;
        lines.push(InvoiceLine {
            line_id: line_id(&key),
            product_sku: product_sku.to_owned(),
            use_unit: use_unit.to_owned(),
            region: region.to_owned(),
            tier,
            quantity,
            billed_cost,
            amount,
        });
    }
    let suffix = if several { format!("-{currency}") } else { String::new() };
    Ok(Invoice {
        invoice_id: format!("{}-{}{suffix}", set.tenant_id, set.month),
        tenant_id: set.tenant_id.clone(),
        period: set.month,
        currency: currency.to_owned(),
        decimals,
        state: InvoiceState::Draft,
        lines,
        total,
    })
}

/// FNV-1a with 64 bits over the key's length-prefixed texts: a name, not a secret, and the same for ever.
fn line_id((product_sku, use_unit, region, tier): &LineKey<'_>) -> String {
    let tier = tier.map(|tier| tier.to_string()).unwrap_or_default();
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for text in [product_sku, use_unit, region, tier.as_str()] {
        // Texts have no control characters, so a byte 0 ends each unambiguously.
        for byte in text.bytes().chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    format!("{hash:016x}")
}
