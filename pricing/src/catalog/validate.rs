//! Whether the entries of a catalog fit together. Collects every error; a catalog that passes has one price, or none, for
//! every SKU, region and hour, and rating never has to choose.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use iso_currency::Currency;
use pulso_domain::time::Instant;
use pulso_domain::window::{Level, Window};

use super::CatalogError;
use super::document::{ANY_SKU, Contract, Document, Model, RateCard};

/// More would need more decimals than money has.
const DISCOUNTS_MAX: usize = 4;

/// All errors of the whole document, with pointers into it.
#[must_use]
pub fn validate(document: &Document) -> Vec<CatalogError> {
    let mut errors = Vec::new();
    let skus: HashSet<&str> = document.skus.iter().map(|sku| sku.product_sku.as_str()).collect();
    unique(&document.skus, "/skus", &mut errors, |sku| sku.product_sku.as_str());
    unique(&document.rate_cards, "/rate_cards", &mut errors, |card| card.name.as_str());
    unique(&document.tenants, "/tenants", &mut errors, |tenant| tenant.tenant_id.as_str());
    for (index, sku) in document.skus.iter().enumerate() {
        if sku.product_sku == ANY_SKU {
            errors.push(CatalogError::new(
                format!("/skus/{index}/product_sku"),
                "`*` means every SKU; name another",
            ));
        }
    }
    for (index, card) in document.rate_cards.iter().enumerate() {
        check_card(card, &format!("/rate_cards/{index}"), &skus, &mut errors);
    }
    check_default_card(document, &mut errors);
    check_contracts(document, &skus, &mut errors);
    errors
}

fn unique<'a, T, K: Eq + Hash>(
    entries: &'a [T],
    pointer: &str,
    errors: &mut Vec<CatalogError>,
    key: impl Fn(&'a T) -> K,
) {
    let mut seen = HashMap::new();
    for (index, entry) in entries.iter().enumerate() {
        if let Some(first) = seen.insert(key(entry), index) {
            let detail = format!("has the same key as {pointer}/{first}; keep one");
            errors.push(CatalogError::new(format!("{pointer}/{index}"), detail));
        }
    }
}

fn check_card(card: &RateCard, pointer: &str, skus: &HashSet<&str>, errors: &mut Vec<CatalogError>) {
    if Currency::from_code(&card.currency).is_none() {
        let detail = format!("\"{}\" is no ISO 4217 currency code such as BRL", card.currency);
        errors.push(CatalogError::new(format!("{pointer}/currency"), detail));
    }
    let mut spans: HashMap<_, Vec<Span>> = HashMap::new();
    for (index, price) in card.prices.iter().enumerate() {
        let place = format!("{pointer}/prices/{index}");
        check_sku(&price.product_sku, &place, skus, errors);
        check_model(&price.model, &format!("{place}/model"), errors);
        let span = Span { from: price.valid_from, to: price.valid_to, pointer: place };
        spans.entry((&price.product_sku, &price.region)).or_default().push(span);
    }
    spans.into_values().for_each(|spans| check_spans(spans, errors));
    errors.sort_by_key(|error| error.pointer.starts_with(pointer).then(|| index_of(error, pointer)));
}

/// The place of the price that an error within a card is about, so that errors come in the document's order.
fn index_of(error: &CatalogError, pointer: &str) -> usize {
    let rest = error.pointer.get(pointer.len()..).and_then(|rest| rest.strip_prefix("/prices/"));
    rest.and_then(|rest| rest.split('/').next()?.parse().ok()).unwrap_or(0)
}

fn check_sku(product_sku: &str, pointer: &str, skus: &HashSet<&str>, errors: &mut Vec<CatalogError>) {
    if !skus.contains(product_sku) {
        let detail = format!("\"{product_sku}\" is not among the skus; add it there");
        errors.push(CatalogError::new(format!("{pointer}/product_sku"), detail));
    }
}

fn check_model(model: &Model, pointer: &str, errors: &mut Vec<CatalogError>) {
    let Model::Graduated { tiers } = model else { return };
    let Some((last, bounded)) = tiers.split_last() else {
        errors.push(CatalogError::new(format!("{pointer}/tiers"), "must have at least one tier"));
        return;
    };
    if last.up_to.is_some() {
        let place = format!("{pointer}/tiers/{}/up_to", bounded.len());
        errors.push(CatalogError::new(place, "the last tier must be open; leave its up_to out"));
    }
    for (index, tier) in bounded.iter().enumerate() {
        let place = format!("{pointer}/tiers/{index}/up_to");
        let before = index.checked_sub(1).and_then(|before| tiers[before].up_to);
        match tier.up_to {
            None => errors.push(CatalogError::new(place, "is missing; only the last tier is open")),
            Some(up_to) if before.is_some_and(|before| before >= up_to) => {
                errors.push(CatalogError::new(place, "must be above the up_to of the tier before it"));
            }
            Some(_) => {}
        }
    }
}

/// A time that an entry holds, by its own words.
struct Span {
    from: Instant,
    to: Option<Instant>,
    pointer: String,
}

/// Entries of one key: an open one ends where the next begins, a closed one must not reach behind it.
fn check_spans(mut spans: Vec<Span>, errors: &mut Vec<CatalogError>) {
    for span in spans.iter().filter(|span| span.to.is_some_and(|to| to <= span.from)) {
        let place = format!("{}/valid_to", span.pointer);
        errors.push(CatalogError::new(place, "must be behind valid_from"));
    }
    spans.sort_by_key(|span| span.from);
    for pair in spans.windows(2) {
        let (one, next) = (&pair[0], &pair[1]);
        if one.from == next.from {
            let detail = format!("overlaps {}: both have the same valid_from", one.pointer);
            errors.push(CatalogError::new(format!("{}/valid_from", next.pointer), detail));
        } else if one.to.is_some_and(|to| to > next.from) {
            let detail = format!("overlaps {}: it is behind that one's valid_from", next.pointer);
            errors.push(CatalogError::new(format!("{}/valid_to", one.pointer), detail));
        }
    }
}

fn check_default_card(document: &Document, errors: &mut Vec<CatalogError>) {
    let mut cards = document.rate_cards.iter().enumerate().filter(|(_, card)| card.is_default());
    let Some((first, _)) = cards.next() else { return };
    for (index, _) in cards {
        let detail = format!("/rate_cards/{first} is the default already; only one can be");
        errors.push(CatalogError::new(format!("/rate_cards/{index}/default"), detail));
    }
}

fn check_contracts(document: &Document, skus: &HashSet<&str>, errors: &mut Vec<CatalogError>) {
    let currencies: HashMap<&str, &str> =
        document.rate_cards.iter().map(|card| (card.name.as_str(), card.currency.as_str())).collect();
    let mut spans: HashMap<&str, Vec<Span>> = HashMap::new();
    let mut order: Vec<&str> = Vec::new();
    for (index, contract) in document.contracts.iter().enumerate() {
        let pointer = format!("/contracts/{index}");
        if !currencies.contains_key(contract.rate_card.as_str()) {
            let detail = format!("\"{}\" is not among the rate_cards", contract.rate_card);
            errors.push(CatalogError::new(format!("{pointer}/rate_card"), detail));
        }
        check_contract(contract, &pointer, skus, errors);
        if !spans.contains_key(contract.tenant_id.as_str()) {
            order.push(&contract.tenant_id);
        }
        let span = Span { from: contract.valid_from, to: contract.valid_to, pointer };
        spans.entry(&contract.tenant_id).or_default().push(span);
    }
    for tenant in order {
        spans.remove(tenant).into_iter().for_each(|spans| check_spans(spans, errors));
    }
    check_contract_currencies(document, &currencies, errors);
}

fn check_contract(contract: &Contract, pointer: &str, skus: &HashSet<&str>, errors: &mut Vec<CatalogError>) {
    let overrides = format!("{pointer}/overrides");
    unique(&contract.overrides, &overrides, errors, |entry| (&entry.product_sku, &entry.region));
    for (index, entry) in contract.overrides.iter().enumerate() {
        let place = format!("{overrides}/{index}");
        check_sku(&entry.product_sku, &place, skus, errors);
        check_model(&entry.model, &format!("{place}/model"), errors);
    }
    let for_all = contract.discounts.iter().filter(|discount| discount.product_sku == ANY_SKU).count();
    let mut named: HashMap<&str, usize> = HashMap::new();
    for (index, discount) in contract.discounts.iter().enumerate() {
        let place = format!("{pointer}/discounts/{index}");
        let is_any = discount.product_sku == ANY_SKU;
        if !is_any {
            check_sku(&discount.product_sku, &place, skus, errors);
        }
        let own = named.entry(&discount.product_sku).or_default();
        *own += 1;
        let meeting = if is_any { *own } else { *own + for_all };
        if meeting == DISCOUNTS_MAX + 1 || (*own == 1 && meeting > DISCOUNTS_MAX) {
            let what = if is_any { "every SKU" } else { "this SKU" };
            let detail = format!("more than {DISCOUNTS_MAX} discounts meet {what}; leave some out");
            errors.push(CatalogError::new(place, detail));
        }
    }
}

/// An invoice has one currency, so a tenant's contracts change it only where a month begins.
fn check_contract_currencies(
    document: &Document,
    currencies: &HashMap<&str, &str>,
    errors: &mut Vec<CatalogError>,
) {
    let mut by_tenant: HashMap<&str, Vec<(usize, &Contract)>> = HashMap::new();
    for (index, contract) in document.contracts.iter().enumerate() {
        by_tenant.entry(&contract.tenant_id).or_default().push((index, contract));
    }
    for (index, contract) in document.contracts.iter().enumerate() {
        let month = Window::containing(Level::Month, contract.valid_from);
        if month.start() == contract.valid_from {
            continue;
        }
        let before = by_tenant[contract.tenant_id.as_str()]
            .iter()
            .filter(|(other, held)| *other != index && held.valid_from < contract.valid_from)
            .filter(|(_, held)| held.valid_to.is_none_or(|to| to > month.start()))
            .max_by_key(|(_, held)| held.valid_from);
        let currency = |contract: &Contract| currencies.get(contract.rate_card.as_str()).copied();
        if let Some((other, held)) = before
            && currency(held) != currency(contract)
        {
            let detail =
                format!("changes the currency of /contracts/{other} within a month; let it begin with one");
            errors.push(CatalogError::new(format!("/contracts/{index}/valid_from"), detail));
        }
    }
}
