//! What stands behind an invoice line: its charges, and the pulses of which they are made, each with its share (G19).
//!
//! A pulse belongs to the line when its record is not behind the `hwm` of the row that the charges used: the shares then
//! add up to the line's quantity and cost exactly, also while new usage comes in.

use std::collections::BTreeMap;

use pulso_domain::money::Money;
use pulso_domain::position::{Position, Rank};
use pulso_domain::pulse::Pulse;
use pulso_domain::quantity::QuantitySum;
use pulso_domain::window::{Level, Window};
use pulso_ingestor_consumer::archive::{Next, PulseFilter};
use pulso_pricing::charges::ChargeSet;
use pulso_pricing::invoice::InvoiceLine;
use pulso_pricing::rate::{Charge, CompiledCatalog, PulseUse, trace};
use pulso_proto::walk;

use super::pulse::PulseView;
use super::sources::Sources;
use crate::problem::Problem;

/// A line to explain.
pub(crate) struct LineOf<'a> {
    /// The charges that it was made from.
    pub(crate) set: &'a ChargeSet,
    /// The currency of its invoice.
    pub(crate) currency: &'a str,
    /// The line.
    pub(crate) line: &'a InvoiceLine,
    /// The catalog that the charges were rated under.
    pub(crate) catalog: &'a CompiledCatalog,
}

/// What a pulse contributes to a line.
#[derive(Clone, Copy, Default)]
pub(crate) struct Share {
    /// How much of it, in the line's unit.
    pub(crate) quantity: QuantitySum,
    /// What that costs, unrounded.
    pub(crate) billed_cost: Money,
}

/// A pulse of a line.
pub(crate) struct LinePulse {
    /// Where it stands.
    pub(crate) position: Position,
    /// The pulse.
    pub(crate) pulse: PulseView,
    /// Its share; `None` where the quantity is no sum or count, so that single pulses have no share.
    pub(crate) share: Option<Share>,
}

impl LineOf<'_> {
    /// The charges of the line.
    pub(crate) fn charges(&self) -> impl Iterator<Item = &Charge> {
        self.set.rated.charges.iter().filter(|charge| self.holds(charge))
    }

    pub(super) fn holds(&self, charge: &Charge) -> bool {
        let line = self.line;
        (&charge.product_sku, &charge.use_unit, &charge.region, charge.tier)
            == (&line.product_sku, &line.use_unit, &line.region, line.tier)
            && charge.currency == self.currency
    }

    /// Whether the charges used the row of a pulse up to its record.
    fn used(&self, pulse: &Pulse<'_>, rank: Rank) -> bool {
        let row = (pulse.product_sku.to_owned(), pulse.use_unit.to_owned(), pulse.region.to_owned());
        self.set.rows.get(&row).is_some_and(|hwm| rank <= *hwm)
    }

    /// Whether single pulses have a share.
    pub(crate) fn is_additive(&self) -> bool {
        let sku = self.catalog.sku(&self.line.product_sku);
        sku.is_some_and(|sku| sku.aggregation.is_additive())
    }

    /// The shares of pulses in the line, each by its place among `uses`.
    pub(super) fn shares(&self, uses: &[PulseUse]) -> Result<BTreeMap<usize, Share>, Problem> {
        let mut shares: BTreeMap<usize, Share> = BTreeMap::new();
        for (place, charge) in trace(self.catalog, &self.set.tenant_id, &self.line.product_sku, uses) {
            if self.holds(&charge) {
                let share = shares.entry(place).or_default();
                share.quantity.add_sum(charge.quantity);
                let sum = share.billed_cost.checked_add(charge.billed_cost);
                share.billed_cost = sum.map_err(|error| Problem::internal(&error))?;
            }
        }
        Ok(shares)
    }
}

impl Sources {
    /// The pulses of a line at or behind a position, in order, `most` at most.
    pub(crate) fn pulses_of_line(
        &self,
        line: &LineOf<'_>,
        from: Position,
        most: usize,
    ) -> Result<Vec<LinePulse>, Problem> {
        if line.line.tier.is_some() && line.is_additive() {
            return self.pulses_of_tier(line, from, most);
        }
        // Without tiers each pulse stands for itself, so a page reads only its own part of the archive.
        let additive = line.is_additive();
        let mut pulses: Vec<LinePulse> = Vec::new();
        let mut failed = None;
        self.visit_line(line, from, |pulse, position, view| {
            let share = if additive {
                match line.shares(&[used(pulse)]).map(|mut shares| shares.remove(&0)) {
                    Ok(None) => return Next::More,
                    Ok(share) => share,
                    Err(problem) => {
                        failed = Some(problem);
                        return Next::Enough;
                    }
                }
            } else {
                None
            };
            let regional = additive || pulse.region == line.line.region;
            if regional {
                pulses.push(LinePulse { position, pulse: view(), share });
            }
            if pulses.len() == most { Next::Enough } else { Next::More }
        })?;
        failed.map_or(Ok(pulses), Err)
    }

    /// The pulses at these positions.
    pub(super) fn shown(
        &self,
        line: &LineOf<'_>,
        page: &BTreeMap<Position, Share>,
    ) -> Result<Vec<LinePulse>, Problem> {
        let mut ranks: Vec<Rank> = page.keys().map(|position| position.rank).collect();
        ranks.dedup();
        let mut pulses = Vec::with_capacity(page.len());
        let tenant_id = &line.set.tenant_id;
        for ranks in ranks.chunk_by(|one, other| one.generation() == other.generation()) {
            let partition = self.partition_at(tenant_id, ranks[0]);
            self.archive().visit_records(partition, ranks, Position::default(), &mut |archived| {
                if let Some(share) = page.get(&archived.position) {
                    let raw = walk::pulse(archived.bytes).unwrap_or_default();
                    let (position, share) = (archived.position, Some(*share));
                    pulses.push(LinePulse { position, pulse: PulseView::of(&raw), share });
                }
                Next::More
            })?;
        }
        Ok(pulses)
    }

    /// Shows the counted pulses of the line's SKU and month that its charges used, in order of position.
    pub(super) fn visit_line(
        &self,
        line: &LineOf<'_>,
        from: Position,
        mut visit: impl FnMut(&Pulse<'_>, Position, &dyn Fn() -> PulseView) -> Next,
    ) -> Result<(), Problem> {
        let month = line.set.month;
        let sku = line.line.product_sku.as_str();
        let filter =
            PulseFilter { product_sku: Some(sku), from, ..PulseFilter::window(&line.set.tenant_id, month) };
        self.counted_pulses(&filter, month, |pulse, position| {
            if !line.used(pulse, position.rank) {
                return Next::More;
            }
            visit(pulse, position, &|| PulseView::of_good(pulse))
        })
    }
}

/// A pulse as rating sees it.
pub(super) fn used(pulse: &Pulse<'_>) -> PulseUse {
    PulseUse {
        hour: Window::containing(Level::Hour, pulse.occurred_at),
        use_unit: pulse.use_unit.to_owned(),
        region: pulse.region.to_owned(),
        quantity: pulse.used_amount.into(),
    }
}
