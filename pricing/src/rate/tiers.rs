//! How far a tenant has come in the tiers of each price this month, and how the next quantity is split at their borders.
//!
//! A tier holds the quantity above the border before it, up to and including its own. A correction (a negative quantity)
//! walks back the same way, so that a month's tiers depend on what it adds up to.

use std::collections::HashMap;

use ethnum::I256;

use super::tables::{Holding, Tiers};

/// The counters of one tenant's SKU in one month.
#[derive(Default)]
pub(super) struct Counters<'a> {
    /// Per entry of a rate card, by its version: restarts with a new version.
    listed: HashMap<&'a str, I256>,
    /// Per region that an override names: restarts with the month only.
    overriding: HashMap<Option<&'a str>, I256>,
}

/// A quantity within one tier of each price that holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Part {
    pub(super) list_tier: usize,
    pub(super) override_tier: usize,
    pub(super) steps: I256,
}

impl<'a> Counters<'a> {
    /// Splits a quantity and moves the counters on.
    pub(super) fn split(&mut self, holding: &Holding<'a>, steps: I256) -> Vec<Part> {
        let mut spare = (I256::ZERO, I256::ZERO);
        let list = match holding.listed {
            Some((entry, _)) => (Some(&entry.tiers), self.listed.entry(entry.version.as_str()).or_default()),
            None => (None, &mut spare.0),
        };
        let over = match holding.overriding {
            Some((tiers, named)) => (Some(tiers), self.overriding.entry(named).or_default()),
            None => (None, &mut spare.1),
        };
        let mut parts = Vec::new();
        let mut rest = steps;
        while rest != I256::ZERO {
            let down = rest.is_negative();
            let (list_tier, list_room) = place(list.0, *list.1, down);
            let (override_tier, override_room) = place(over.0, *over.1, down);
            let room = [list_room, override_room].into_iter().flatten().fold(rest.abs(), I256::min);
            let part = if down { -room } else { room };
            *list.1 += part;
            *over.1 += part;
            rest -= part;
            parts.push(Part { list_tier, override_tier, steps: part });
        }
        parts
    }
}

/// The tier that the next quantity falls in, and how much of it is left in that direction.
fn place(tiers: Option<&Tiers>, counter: I256, down: bool) -> (usize, Option<I256>) {
    let Some(tiers) = tiers else { return (0, None) };
    let holds = |up_to: I256| if down { up_to >= counter } else { up_to > counter };
    let index = tiers.tiers.iter().position(|(up_to, _)| up_to.is_none_or(holds)).unwrap_or(0);
    let room = match down {
        false => tiers.tiers[index].0.map(|up_to| up_to - counter),
        true => (index > 0).then(|| counter - tiers.begin(index)),
    };
    (index, room)
}
