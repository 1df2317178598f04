//! What applying a document would change. Pure: the service applies exactly what was planned.

use std::fmt;

use serde::Serialize;

use super::CatalogError;
use super::document::{Contract, Document, Price, RateCard};
use super::validate::validate;

/// What happens to what is there already.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// The document becomes the whole catalog.
    #[default]
    Replace,
    /// Its entries are added, or replace those of the same key; a rate card's prices likewise, one by one.
    Merge,
}

impl Mode {
    /// The mode of the API's word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "replace" => Some(Self::Replace),
            "merge" => Some(Self::Merge),
            _ => None,
        }
    }
}

/// What happens to one entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It is there with another content.
    Changed,
    /// It will be gone.
    Removed,
}

/// One entry that an apply touches.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Change {
    /// What happens.
    pub change: ChangeKind,
    /// Of which list: `sku`, `rate_card`, `price`, `contract` or `tenant`.
    pub entry: &'static str,
    /// Its key in words.
    pub key: String,
}

impl fmt::Display for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self.change {
            ChangeKind::Added => "add",
            ChangeKind::Changed => "change",
            ChangeKind::Removed => "remove",
        };
        write!(formatter, "{verb} {} {}", self.entry, self.key)
    }
}

/// A checked catalog and how it differs from the one in force.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// The whole catalog after the apply.
    pub document: Document,
    /// The differences; empty when nothing changes.
    pub changes: Vec<Change>,
}

/// Plans a document against the current one.
///
/// # Errors
/// Everything that is wrong with the result; pointers lead into `sent` wherever the faulty entry stands there.
pub fn plan(current: &Document, sent: &Document, mode: Mode) -> Result<Plan, Vec<CatalogError>> {
    let document = match mode {
        Mode::Replace => sent.clone(),
        Mode::Merge => merged(current, sent),
    };
    let mut errors = validate(&document);
    if mode == Mode::Merge {
        // A key that is there twice would vanish in the merge.
        errors.extend(validate(sent).into_iter().filter(|error| error.detail.contains("same key")));
        errors.iter_mut().for_each(|error| error.pointer = sent_pointer(&error.pointer, &document, sent));
        errors.dedup();
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let changes = changes(current, &document);
    Ok(Plan { document, changes })
}

fn merged(current: &Document, sent: &Document) -> Document {
    let mut document = current.clone();
    merge(&mut document.skus, &sent.skus, |sku| sku.product_sku.clone(), |old, new| *old = new.clone());
    merge(&mut document.rate_cards, &sent.rate_cards, |card| card.name.clone(), merge_card);
    merge(&mut document.contracts, &sent.contracts, contract_key, |old, new| *old = new.clone());
    merge(
        &mut document.tenants,
        &sent.tenants,
        |tenant| tenant.tenant_id.clone(),
        |old, new| {
            old.name = new.name.clone().or_else(|| old.name.take());
            old.source_id = new.source_id.clone().or_else(|| old.source_id.take());
        },
    );
    document
}

fn merge_card(old: &mut RateCard, new: &RateCard) {
    old.currency.clone_from(&new.currency);
    old.default = new.default.or(old.default);
    merge(&mut old.prices, &new.prices, price_key, |old, new| *old = new.clone());
}

fn merge<T: Clone, K: std::hash::Hash + Eq>(
    entries: &mut Vec<T>,
    sent: &[T],
    key: impl Fn(&T) -> K,
    replace: impl Fn(&mut T, &T),
) {
    let mut places: std::collections::HashMap<K, usize> =
        entries.iter().enumerate().map(|(place, entry)| (key(entry), place)).collect();
    for entry in sent {
        match places.get(&key(entry)) {
            Some(place) => replace(&mut entries[*place], entry),
            None => {
                places.insert(key(entry), entries.len());
                entries.push(entry.clone());
            }
        }
    }
}

fn price_key(price: &Price) -> String {
    let region = price.region.as_deref().map(|region| format!(" in {region}")).unwrap_or_default();
    format!("{}{region} from {}", price.product_sku, price.valid_from)
}

fn contract_key(contract: &Contract) -> String {
    format!("{} from {}", contract.tenant_id, contract.valid_from)
}

/// The pointer of the same entry in what was sent; unchanged when the entry does not stand there.
fn sent_pointer(pointer: &str, document: &Document, sent: &Document) -> String {
    let steps: Vec<&str> = pointer.split('/').collect();
    let [_, list, index, rest @ ..] = steps.as_slice() else { return pointer.to_owned() };
    let Ok(index) = index.parse::<usize>() else { return pointer.to_owned() };
    let place = match *list {
        "skus" => place_of(&document.skus, index, &sent.skus, |sku| sku.product_sku.clone()),
        "rate_cards" => place_of(&document.rate_cards, index, &sent.rate_cards, |card| card.name.clone()),
        "contracts" => place_of(&document.contracts, index, &sent.contracts, contract_key),
        "tenants" => place_of(&document.tenants, index, &sent.tenants, |tenant| tenant.tenant_id.clone()),
        _ => None,
    };
    let Some(place) = place else { return pointer.to_owned() };
    let mut rest: Vec<String> = rest.iter().map(|step| (*step).to_owned()).collect();
    if *list == "rate_cards" && rest.first().is_some_and(|step| step == "prices") {
        let inner = rest.get(1).and_then(|step| step.parse::<usize>().ok());
        let (held, new) = (&document.rate_cards[index].prices, &sent.rate_cards[place].prices);
        if let Some(inner) = inner.and_then(|inner| place_of(held, inner, new, price_key)) {
            rest[1] = inner.to_string();
        }
    }
    let tail: String = rest.iter().map(|step| format!("/{step}")).collect();
    format!("/{list}/{place}{tail}")
}

fn place_of<T, K: Eq>(held: &[T], index: usize, sent: &[T], key: impl Fn(&T) -> K) -> Option<usize> {
    let wanted = key(held.get(index)?);
    sent.iter().rposition(|entry| key(entry) == wanted)
}

fn changes(current: &Document, next: &Document) -> Vec<Change> {
    let mut changes = Vec::new();
    compare("sku", &current.skus, &next.skus, &mut changes, |sku| sku.product_sku.clone());
    let bare = |cards: &[RateCard]| -> Vec<RateCard> {
        cards.iter().map(|card| RateCard { prices: Vec::new(), ..card.clone() }).collect()
    };
    compare("rate_card", &bare(&current.rate_cards), &bare(&next.rate_cards), &mut changes, |c| {
        c.name.clone()
    });
    let prices = |cards: &[RateCard]| -> Vec<(String, Price)> {
        let of_card = |card: &RateCard| -> Vec<_> {
            card.prices.iter().map(|price| (card.name.clone(), price.clone())).collect()
        };
        cards.iter().flat_map(of_card).collect()
    };
    let (held, new) = (prices(&current.rate_cards), prices(&next.rate_cards));
    compare("price", &held, &new, &mut changes, |(card, price)| format!("{card}: {}", price_key(price)));
    compare("contract", &current.contracts, &next.contracts, &mut changes, contract_key);
    compare("tenant", &current.tenants, &next.tenants, &mut changes, |tenant| tenant.tenant_id.clone());
    changes
}

fn compare<T: PartialEq>(
    entry: &'static str,
    held: &[T],
    next: &[T],
    changes: &mut Vec<Change>,
    key: impl Fn(&T) -> String,
) {
    let mut old: std::collections::BTreeMap<String, &T> = held.iter().map(|item| (key(item), item)).collect();
    for item in next {
        let name = key(item);
        match old.remove(&name) {
            None => changes.push(Change { change: ChangeKind::Added, entry, key: name }),
            Some(before) if before != item => {
                changes.push(Change { change: ChangeKind::Changed, entry, key: name });
            }
            Some(_) => {}
        }
    }
    let gone = old.into_keys().map(|key| Change { change: ChangeKind::Removed, entry, key });
    changes.extend(gone);
}
