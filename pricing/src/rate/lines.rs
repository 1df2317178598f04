//! Adds parts of equal price up to charges, and computes the money of each charge once, at its end.

use std::collections::BTreeMap;

use ethnum::I256;
use pulso_domain::money::{Money, MoneyError};
use pulso_domain::price::{Percent, UnitPrice};
use pulso_domain::quantity::QuantitySum;
use pulso_domain::window::Window;

use super::pieces::Piece;
use super::tables::{CompiledCatalog, Holding};
use super::tiers::{Counters, Part};
use super::{Charge, Rated, Unpriced, UnpricedReason, UsedRow};
use crate::catalog::document::Sku;

/// What all parts of one charge have in common; also the order of charges.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct LineKey {
    product_sku: String,
    use_unit: String,
    region: String,
    window: Window,
    price_version: String,
    tier: Option<u32>,
    list_price_version: String,
    list_tier: Option<u32>,
    contract_version: Option<String>,
    currency: String,
}

/// What follows from the key.
struct Line {
    steps: I256,
    tier_begin: Option<QuantitySum>,
    list_price: UnitPrice,
    agreed_price: UnitPrice,
    discounts: Vec<Percent>,
}

/// Charges in the making.
#[derive(Default)]
pub(super) struct Lines {
    lines: BTreeMap<LineKey, Line>,
    unpriced: BTreeMap<(String, String, String, UnpricedReason), I256>,
}

impl Lines {
    /// Leaves the quantity of a row without a price.
    pub(super) fn leave(&mut self, row: &UsedRow, quantity: QuantitySum, reason: UnpricedReason) {
        self.leave_of(&row.product_sku, (&row.use_unit, &row.region), quantity.steps(), reason);
    }

    fn leave_of(&mut self, sku: &str, (unit, region): (&str, &str), steps: I256, reason: UnpricedReason) {
        let key = (sku.to_owned(), unit.to_owned(), region.to_owned(), reason);
        *self.unpriced.entry(key).or_insert(I256::ZERO) += steps;
    }

    /// Prices the pieces of one SKU's month, in order.
    pub(super) fn price(
        &mut self,
        catalog: &CompiledCatalog,
        tenant_id: &str,
        sku: &Sku,
        pieces: &[Piece<'_>],
    ) {
        self.price_on(catalog, tenant_id, (sku, pieces), &mut Counters::default());
    }

    /// Prices pieces that follow others of the same month.
    pub(super) fn price_on<'a>(
        &mut self,
        catalog: &'a CompiledCatalog,
        tenant_id: &str,
        (sku, pieces): (&Sku, &[Piece<'_>]),
        counters: &mut Counters<'a>,
    ) {
        for piece in pieces {
            let holding = catalog.holding(tenant_id, &sku.product_sku, piece.region, piece.hour);
            let reason = match &holding {
                None => Some(UnpricedReason::NoRateCard),
                Some(held) if held.listed.is_none() && held.overriding.is_none() => {
                    Some(UnpricedReason::NoPrice)
                }
                Some(_) => None,
            };
            if let Some(reason) = reason.filter(|_| piece.shown) {
                let place = (piece.use_unit, piece.region);
                self.leave_of(&sku.product_sku, place, piece.own_quantity.steps(), reason);
            }
            let Some(holding) = holding.filter(|_| reason.is_none()) else { continue };
            for part in counters.split(&holding, piece.quantity.steps()) {
                if piece.shown {
                    self.add(sku, piece, &holding, part);
                }
            }
        }
    }

    fn add(&mut self, sku: &Sku, piece: &Piece<'_>, holding: &Holding<'_>, part: Part) {
        let listed = holding.listed.map(|(entry, _)| (&entry.tiers, part.list_tier, entry.version.as_str()));
        let contract = holding.agreement.map(|agreement| agreement.version.as_str());
        let overriding =
            holding.overriding.map(|(tiers, _)| (tiers, part.override_tier, contract.unwrap_or_default()));
        // One of the two is there: a piece without either is unpriced.
        let (Some(agreed), Some(list)) = (overriding.or(listed), listed.or(overriding)) else { return };
        let key = LineKey {
            product_sku: sku.product_sku.clone(),
            use_unit: sku.use_unit.clone(),
            region: piece.region.to_owned(),
            window: piece.window,
            price_version: agreed.2.to_owned(),
            tier: agreed.0.number(agreed.1),
            list_price_version: list.2.to_owned(),
            list_tier: list.0.number(list.1),
            contract_version: contract.map(str::to_owned),
            currency: holding.currency.to_owned(),
        };
        let line = self.lines.entry(key).or_insert_with(|| Line {
            steps: I256::ZERO,
            tier_begin: (!agreed.0.is_flat)
                .then(|| QuantitySum::from_steps(agreed.0.begin(agreed.1)))
                .flatten(),
            list_price: list.0.tiers[list.1].1,
            agreed_price: agreed.0.tiers[agreed.1].1,
            discounts: holding
                .agreement
                .map(|held| held.discounts(&sku.product_sku).collect())
                .unwrap_or_default(),
        });
        line.steps += part.steps;
    }

    /// The charges and what has no price.
    pub(super) fn finish(mut self) -> Rated {
        let mut charges = Vec::with_capacity(self.lines.len());
        for (key, line) in std::mem::take(&mut self.lines) {
            // Corrections may have taken everything back: a row of quantity 0 does not exist.
            if line.steps == I256::ZERO {
                continue;
            }
            let (sku, place, steps) =
                (key.product_sku.clone(), (key.use_unit.clone(), key.region.clone()), line.steps);
            match charge(key, &line) {
                Ok(charge) => charges.push(charge),
                Err(_) => self.leave_of(&sku, (&place.0, &place.1), steps, UnpricedReason::Overflow),
            }
        }
        let unpriced =
            self.unpriced.into_iter().filter_map(|((product_sku, use_unit, region, reason), steps)| {
                let quantity = QuantitySum::from_steps(steps).unwrap_or_default();
                (steps != I256::ZERO).then_some(Unpriced { product_sku, use_unit, region, quantity, reason })
            });
        let unpriced = unpriced.collect();
        Rated { charges, unpriced }
    }
}

fn charge(key: LineKey, line: &Line) -> Result<Charge, MoneyError> {
    let quantity = QuantitySum::from_steps(line.steps).ok_or(MoneyError::Overflow)?;
    let discounted =
        |amount: Money| line.discounts.iter().try_fold(amount, |left, percent| percent.taken_off(left));
    let contracted_cost = discounted(line.agreed_price.cost(quantity)?)?;
    Ok(Charge {
        product_sku: key.product_sku,
        use_unit: key.use_unit,
        region: key.region,
        window: key.window,
        tier: key.tier,
        tier_begin: line.tier_begin,
        quantity,
        currency: key.currency,
        list_unit_price: line.list_price,
        contracted_unit_price: discounted(line.agreed_price.to_money()?)?,
        list_cost: line.list_price.cost(quantity)?,
        contracted_cost,
        effective_cost: contracted_cost,
        billed_cost: contracted_cost,
        price_version: key.price_version,
        list_price_version: key.list_price_version,
        list_tier: key.list_tier,
        contract_version: key.contract_version,
    })
}
