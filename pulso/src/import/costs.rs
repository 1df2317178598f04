//! What the file says, what quantity x price says, and what Pulso charges: per currency, exact.

use std::collections::{BTreeMap, BTreeSet};

use pulso_domain::window::Window;
use serde_json::{Value, json};

use super::bill::Bill;
use super::exact::Exact;
use crate::cli::exit::Failure;
use crate::cli::output::{self, Format};
use crate::client::rest::entries;

/// The costs of one currency.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cost {
    /// The currency.
    pub currency: String,
    /// What the file's `ListCost` adds up to.
    pub file: Exact,
    /// What quantity x price adds up to.
    pub product: Exact,
    /// The list cost of Pulso's charges.
    pub pulso: Exact,
    /// `pulso - product`.
    pub difference: Exact,
    /// `pulso - file`, both without the rows whose own arithmetic does not hold in the file.
    pub difference_to_file: Exact,
}

impl Cost {
    /// Compares a bill of one currency with what Pulso charges for it.
    #[must_use]
    pub fn of(bill: &Bill, currency: &str, pulso: Exact) -> Option<Self> {
        let (mut file, mut product, mut agreeing) = (Exact::ZERO, Exact::ZERO, Exact::ZERO);
        for group in bill.groups.values() {
            file = file.plus(group.file)?;
            product = product.plus(group.product)?;
            agreeing = agreeing.plus(group.agreeing)?;
        }
        // In an agreeing row the file's cost is the product, so what Pulso charges for the others is taken off.
        let others = product.minus(agreeing)?;
        Some(Self {
            currency: currency.to_owned(),
            file,
            product,
            pulso,
            difference: pulso.minus(product)?,
            difference_to_file: pulso.minus(others)?.minus(agreeing)?,
        })
    }

    /// As the summary has it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "currency": self.currency,
            "file": self.file.to_string(),
            "product": self.product.to_string(),
            "pulso": self.pulso.to_string(),
            "difference": self.difference.to_string(),
        })
    }
}

/// Adds the list costs of charges up: those of the bill's SKUs in its currency.
///
/// # Errors
/// When a cost is no decimal or the sum does not fit.
pub fn list_cost(charges: &Value, skus: &BTreeSet<&str>, currency: &str) -> Result<Exact, Failure> {
    let mut sum = Exact::ZERO;
    for charge in entries(charges, "charges") {
        let text = |name: &str| charge.get(name).and_then(Value::as_str).unwrap_or_default();
        if !skus.contains(text("product_sku")) || text("currency") != currency {
            continue;
        }
        let cost = Exact::parse(text("list_cost")).map_err(|error| {
            Failure::failed(format!("the list_cost {:?} of a charge {error}", text("list_cost")))
        })?;
        sum = sum.plus(cost).ok_or_else(|| Failure::failed("the charges add up to more digits than fit"))?;
    }
    Ok(sum)
}

/// The SKUs of each tenant-month of a bill.
#[must_use]
pub fn tenant_months(bill: &Bill) -> BTreeMap<(&str, Window), BTreeSet<&str>> {
    let mut months: BTreeMap<(&str, Window), BTreeSet<&str>> = BTreeMap::new();
    for key in bill.groups.keys() {
        months.entry((&key.tenant_id, key.month)).or_default().insert(&key.product_sku);
    }
    months
}

/// Prints costs as rows.
///
/// # Errors
/// When stdout cannot be written.
pub fn print(format: Format, costs: &[Cost]) -> Result<(), Failure> {
    let list: Vec<Value> = costs.iter().map(Cost::to_json).collect();
    output::rows(format, &Value::Null, &list, &["currency", "file", "product", "pulso", "difference"])
}
