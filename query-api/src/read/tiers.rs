//! The pulses of a line with tiers. In tiers the order of time decides, which is not the order of positions; still no more
//! is held than a group for each hour, region and unit, the pulses of the groups that a tier's border parts, and a page.

use std::collections::{BTreeMap, BTreeSet};

use pulso_domain::position::Position;
use pulso_domain::quantity::QuantitySum;
use pulso_domain::window::Window;
use pulso_ingestor_consumer::archive::Next;
use pulso_pricing::catalog::document::Aggregation;
use pulso_pricing::rate::{PulseUse, trace};

use super::explain::{LineOf, LinePulse, Share, used};
use super::sources::Sources;
use crate::problem::Problem;

/// Pulses that follow each other in the order of tiers: of one hour, region and unit.
type GroupKey = (Window, String, String);

/// What is known of a group.
#[derive(Default)]
struct Group {
    sum: QuantitySum,
    /// An amount below zero may leave the tier and come back, which the sum does not show.
    has_negative: bool,
}

/// Which groups have pulses in the line.
#[derive(Default)]
struct Parting {
    /// All of them.
    inside: BTreeSet<GroupKey>,
    /// Perhaps some: each pulse must be looked at.
    border: BTreeSet<GroupKey>,
}

impl Sources {
    /// The pulses of a line with tiers at or behind a position, in order, `most` at most.
    pub(super) fn pulses_of_tier(
        &self,
        line: &LineOf<'_>,
        from: Position,
        most: usize,
    ) -> Result<Vec<LinePulse>, Problem> {
        let mut groups: BTreeMap<GroupKey, Group> = BTreeMap::new();
        self.visit_line(line, Position::default(), |pulse, _, _| {
            let group = groups.entry(key_of(&used(pulse))).or_default();
            group.sum.add(pulse.used_amount);
            group.has_negative |= pulse.used_amount.is_negative();
            Next::More
        })?;
        let parting = part(line, &groups);
        let looked_at = self.pulses_to_look_at(line, &parting, (from, most))?;
        let (uses, positions) = in_order(groups, looked_at);
        let shares = line.shares(&uses)?.into_iter();
        let placed = shares.filter_map(|(place, share)| Some((positions[place]?, share)));
        let page: BTreeMap<Position, Share> = placed.filter(|(position, _)| *position >= from).collect();
        let page: BTreeMap<Position, Share> = page.into_iter().take(most).collect();
        self.shown(line, &page)
    }

    /// All pulses of groups at a border, and of those inside as many as the page can show.
    fn pulses_to_look_at(
        &self,
        line: &LineOf<'_>,
        parting: &Parting,
        (from, most): (Position, usize),
    ) -> Result<BTreeMap<GroupKey, Vec<(PulseUse, Position)>>, Problem> {
        let mut looked_at: BTreeMap<GroupKey, Vec<(PulseUse, Position)>> = BTreeMap::new();
        let begin = if parting.border.is_empty() { from } else { Position::default() };
        let mut inside: usize = 0;
        self.visit_line(line, begin, |pulse, position, _| {
            let pulse = used(pulse);
            let key = key_of(&pulse);
            let shown = inside < most && position >= from && parting.inside.contains(&key);
            if shown || parting.border.contains(&key) {
                inside += usize::from(shown);
                looked_at.entry(key).or_default().push((pulse, position));
            }
            if inside == most && parting.border.is_empty() { Next::Enough } else { Next::More }
        })?;
        Ok(looked_at)
    }
}

fn key_of(pulse: &PulseUse) -> GroupKey {
    (pulse.hour, pulse.region.clone(), pulse.use_unit.clone())
}

/// A group as if it were one pulse.
fn whole((hour, region, use_unit): &GroupKey, quantity: QuantitySum) -> PulseUse {
    PulseUse { hour: *hour, use_unit: use_unit.clone(), region: region.clone(), quantity }
}

/// Tells by the sums of the groups which of them lie in the line as a whole.
fn part(line: &LineOf<'_>, groups: &BTreeMap<GroupKey, Group>) -> Parting {
    let sku = line.catalog.sku(&line.line.product_sku);
    if sku.is_none_or(|sku| sku.aggregation != Aggregation::Sum) {
        // Where pulses are counted, a sum says nothing.
        return Parting { border: groups.keys().cloned().collect(), ..Parting::default() };
    }
    let uses: Vec<PulseUse> = groups.iter().map(|(key, group)| whole(key, group.sum)).collect();
    let (mut held, mut elsewhere) = (BTreeSet::new(), BTreeSet::new());
    for (place, charge) in trace(line.catalog, &line.set.tenant_id, &line.line.product_sku, &uses) {
        if line.holds(&charge) {
            held.insert(place)
        } else {
            elsewhere.insert(place)
        };
    }
    let mut parting = Parting::default();
    for (place, (key, group)) in groups.iter().enumerate() {
        let is_held = held.contains(&place);
        if group.has_negative || (is_held && elsewhere.contains(&place)) {
            parting.border.insert(key.clone());
        } else if is_held {
            parting.inside.insert(key.clone());
        }
    }
    parting
}

/// Everything in the order of tiers: the pulses looked at one by one, the rest of each group as one.
fn in_order(
    groups: BTreeMap<GroupKey, Group>,
    mut looked_at: BTreeMap<GroupKey, Vec<(PulseUse, Position)>>,
) -> (Vec<PulseUse>, Vec<Option<Position>>) {
    let (mut uses, mut positions) = (Vec::new(), Vec::new());
    for (key, group) in groups {
        let mut rest = group.sum.steps();
        for (pulse, position) in looked_at.remove(&key).unwrap_or_default() {
            rest -= pulse.quantity.steps();
            uses.push(pulse);
            positions.push(Some(position));
        }
        if let Some(rest) = QuantitySum::from_steps(rest).filter(|rest| !rest.is_zero()) {
            uses.push(whole(&key, rest));
            positions.push(None);
        }
    }
    (uses, positions)
}
