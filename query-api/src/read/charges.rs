//! Charges of a tenant: months as they are published, hours and days rated on read under the same catalog version.

use std::collections::BTreeMap;

use pulso_domain::quantity::QuantitySum;
use pulso_domain::window::Level;
use pulso_pricing::rate::{Charge, Rated, Unpriced, UnpricedReason, rate_windows};
use pulso_pricing::service::{Hours, month_usage, published};

use super::sources::Sources;
use super::span::Span;
use crate::problem::Problem;

impl Sources {
    /// The charges of the windows of a span, in the order of [`charge_place`], and what has no price.
    pub(crate) fn charges(&self, tenant_id: &str, span: &Span) -> Result<Rated, Problem> {
        let mut all = Rated::default();
        let mut unpriced = BTreeMap::new();
        for month in span.months() {
            let Some(set) = published(&*self.store, tenant_id, month)? else { continue };
            let rated = if span.level() == Level::Month {
                set.rated
            } else {
                let catalog = self.catalog_version(set.catalog_version)?;
                let usage = month_usage(&*self.store, &catalog, (tenant_id, month), Hours::All)?;
                let range = span.first.start()..span.end.start();
                rate_windows(&catalog, &usage, span.level(), &range)
            };
            all.charges.extend(rated.charges);
            rated.unpriced.into_iter().for_each(|one| add(&mut unpriced, one));
        }
        all.charges.sort_by_cached_key(charge_place);
        let one = |((product_sku, use_unit, region, reason), quantity)| Unpriced {
            product_sku,
            use_unit,
            region,
            quantity,
            reason,
        };
        all.unpriced = unpriced.into_iter().map(one).collect();
        Ok(all)
    }
}

type UnpricedKey = (String, String, String, UnpricedReason);

/// Several months of one thing without a price are one entry.
fn add(sums: &mut BTreeMap<UnpricedKey, QuantitySum>, one: Unpriced) {
    let key = (one.product_sku, one.use_unit, one.region, one.reason);
    sums.entry(key).or_default().add_sum(one.quantity);
}

/// The place of a charge in lists: by window, SKU, unit, region, then price and tier. Also the place of a page token.
pub(crate) fn charge_place(charge: &Charge) -> Vec<u8> {
    let mut place = (charge.window.index().cast_unsigned() ^ (1 << 31)).to_be_bytes().to_vec();
    let contract = charge.contract_version.as_deref().unwrap_or_default();
    let texts = [
        charge.product_sku.as_str(),
        &charge.use_unit,
        &charge.region,
        &charge.price_version,
        &charge.list_price_version,
        contract,
        &charge.currency,
    ];
    for text in texts {
        place.extend_from_slice(text.as_bytes());
        place.push(0);
    }
    for tier in [charge.tier, charge.list_tier] {
        place.extend_from_slice(&tier.unwrap_or_default().to_be_bytes());
    }
    place
}
