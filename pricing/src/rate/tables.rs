//! A catalog made ready for rating: which price holds for a tenant, SKU, region and hour.
//!
//! Built once per version. It chooses nothing: validation has made sure that at most one entry holds at a time.

use std::collections::{BTreeMap, HashMap};

use ethnum::I256;
use pulso_domain::money::RoundingMode;
use pulso_domain::price::{Percent, UnitPrice};
use pulso_domain::window::{Level, Window};

use super::units::Ratio;
use crate::catalog::document::{Contract, Document, Model, Sku};

/// A catalog version and its tables.
#[derive(Debug)]
pub struct CompiledCatalog {
    version: u64,
    document: Document,
    skus: HashMap<String, usize>,
    cards: Vec<Card>,
    default_card: Option<usize>,
    contracts: HashMap<String, Vec<Agreement>>,
    tenants: HashMap<String, usize>,
}

/// A rate card by SKU, then region (none first), then time.
#[derive(Debug)]
struct Card {
    currency: String,
    prices: HashMap<String, BTreeMap<Option<String>, Vec<Entry>>>,
}

/// One price of a rate card with the hours it holds.
#[derive(Debug)]
pub(super) struct Entry {
    from: i64,
    to: i64,
    pub(super) version: String,
    pub(super) tiers: Tiers,
}

/// One contract with the hours it holds.
#[derive(Debug)]
pub(super) struct Agreement {
    from: i64,
    to: i64,
    pub(super) card: usize,
    pub(super) version: String,
    pub(super) rounding: RoundingMode,
    overrides: HashMap<String, BTreeMap<Option<String>, Tiers>>,
    discounts: Vec<(String, Percent)>,
}

/// A price model as tiers; a flat price is one open tier that has no number.
#[derive(Debug)]
pub(super) struct Tiers {
    pub(super) is_flat: bool,
    /// Upper border (none for the last) in quantity steps, and price.
    pub(super) tiers: Vec<(Option<I256>, UnitPrice)>,
}

impl Tiers {
    fn new(model: &Model) -> Self {
        match model {
            Model::Flat { unit_price } => Self { is_flat: true, tiers: vec![(None, *unit_price)] },
            Model::Graduated { tiers } => Self {
                is_flat: false,
                tiers: tiers
                    .iter()
                    .map(|tier| (tier.up_to.map(|up_to| I256::from(up_to.steps())), tier.unit_price))
                    .collect(),
            },
        }
    }

    /// The number that an invoice shows for a tier; none for a flat price.
    pub(super) fn number(&self, index: usize) -> Option<u32> {
        (!self.is_flat).then(|| u32::try_from(index + 1).unwrap_or(u32::MAX))
    }

    /// Where a tier begins.
    pub(super) fn begin(&self, index: usize) -> I256 {
        index.checked_sub(1).and_then(|before| self.tiers[before].0).unwrap_or(I256::ZERO)
    }
}

/// What holds for one SKU and region at one hour.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holding<'a> {
    pub(super) currency: &'a str,
    /// The rate card's entry, with the region it names.
    pub(super) listed: Option<(&'a Entry, Option<&'a str>)>,
    /// The contract's override, with the region it names.
    pub(super) overriding: Option<(&'a Tiers, Option<&'a str>)>,
    pub(super) agreement: Option<&'a Agreement>,
}

impl Holding<'_> {
    /// Whether both price everything alike.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let same = |one: Option<&Entry>, other: Option<&Entry>| match (one, other) {
            (Some(one), Some(other)) => std::ptr::eq(one, other),
            (None, None) => true,
            _ => false,
        };
        let agreed = |one: Option<&Agreement>, other: Option<&Agreement>| match (one, other) {
            (Some(one), Some(other)) => std::ptr::eq(one, other),
            (None, None) => true,
            _ => false,
        };
        same(self.listed.map(|(entry, _)| entry), other.listed.map(|(entry, _)| entry))
            && agreed(self.agreement, other.agreement)
            && self.currency == other.currency
    }
}

/// Behind every hour.
const FOREVER: i64 = i64::MAX;

impl CompiledCatalog {
    /// The tables of one version of a checked document.
    #[must_use]
    pub fn new(version: u64, document: Document) -> Self {
        let skus =
            document.skus.iter().enumerate().map(|(place, sku)| (sku.product_sku.clone(), place)).collect();
        let card_of_name: HashMap<String, usize> =
            document.rate_cards.iter().enumerate().map(|(place, card)| (card.name.clone(), place)).collect();
        let tenants = document
            .tenants
            .iter()
            .enumerate()
            .map(|(place, name)| (name.tenant_id.clone(), place))
            .collect();
        Self {
            version,
            skus,
            cards: document.rate_cards.iter().map(card).collect(),
            default_card: document.rate_cards.iter().position(crate::catalog::document::RateCard::is_default),
            contracts: contracts(&document, &card_of_name),
            tenants,
            document,
        }
    }

    /// The version; 0 before the first apply.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// The whole document.
    #[must_use]
    pub const fn document(&self) -> &Document {
        &self.document
    }

    /// One SKU.
    #[must_use]
    pub fn sku(&self, product_sku: &str) -> Option<&Sku> {
        self.skus.get(product_sku).map(|place| &self.document.skus[*place])
    }

    /// The name shown for a tenant, and what an importer found it under.
    #[must_use]
    pub fn tenant_names(&self, tenant_id: &str) -> (Option<&str>, Option<&str>) {
        let Some(place) = self.tenants.get(tenant_id) else { return (None, None) };
        let entry = &self.document.tenants[*place];
        (entry.name.as_deref(), entry.source_id.as_deref())
    }

    /// Whether pulses of a unit can be priced for a SKU; `None` when the SKU is unknown.
    #[must_use]
    pub fn accepts_unit(&self, product_sku: &str, use_unit: &str) -> Option<bool> {
        let sku = self.sku(product_sku)?;
        // Pulses are counted whatever their unit is.
        let counts = sku.aggregation == crate::catalog::document::Aggregation::Count;
        Some(counts || Ratio::between(use_unit, &sku.use_unit).is_some())
    }

    /// How the lines of a tenant's month are rounded: by the last contract that holds within it.
    #[must_use]
    pub fn rounding(&self, tenant_id: &str, month: Window) -> RoundingMode {
        let (first, end) = hours_of(month);
        let mut held = self.contracts.get(tenant_id).into_iter().flatten();
        held.rfind(|agreement| agreement.from < end && agreement.to > first)
            .map(|agreement| agreement.rounding)
            .unwrap_or_default()
    }

    /// The currency that a tenant's month is billed in: of its last contract within it, else of the default rate card.
    #[must_use]
    pub fn currency(&self, tenant_id: &str, month: Window) -> Option<&str> {
        let (first, end) = hours_of(month);
        let mut held = self.contracts.get(tenant_id).into_iter().flatten();
        let agreement = held.rfind(|agreement| agreement.from < end && agreement.to > first);
        let card = agreement.map(|agreement| agreement.card).or(self.default_card)?;
        Some(&self.cards[card].currency)
    }

    /// What holds for a tenant's SKU and region in one hour; `None` without any rate card.
    pub(super) fn holding<'a>(
        &'a self,
        tenant_id: &str,
        product_sku: &str,
        region: &str,
        hour: i64,
    ) -> Option<Holding<'a>> {
        let agreements = self.contracts.get(tenant_id).map_or(&[][..], Vec::as_slice);
        let agreement = at(agreements, hour, |agreement| (agreement.from, agreement.to));
        let card = &self.cards[agreement.map(|agreement| agreement.card).or(self.default_card)?];
        let listed = card.prices.get(product_sku).and_then(|regions| {
            regional(regions, region).find_map(|(named, entries)| {
                Some((at(entries, hour, |entry| (entry.from, entry.to))?, named))
            })
        });
        let overriding = agreement
            .and_then(|agreement| agreement.overrides.get(product_sku))
            .and_then(|regions| regional(regions, region).next().map(|(named, tiers)| (tiers, named)));
        Some(Holding { currency: &card.currency, listed, overriding, agreement })
    }

    /// The hours within a month at which something may begin or end to hold for a tenant's SKU, in order.
    pub(super) fn borders(&self, tenant_id: &str, product_sku: &str, month: Window) -> Vec<i64> {
        let (first, end) = hours_of(month);
        let agreements = self.contracts.get(tenant_id).map_or(&[][..], Vec::as_slice);
        let mut borders: Vec<i64> =
            agreements.iter().flat_map(|agreement| [agreement.from, agreement.to]).collect();
        let cards = agreements.iter().map(|agreement| agreement.card).chain(self.default_card);
        for card in cards.map(|card| &self.cards[card]) {
            let entries = card.prices.get(product_sku).into_iter().flat_map(BTreeMap::values).flatten();
            borders.extend(entries.flat_map(|entry| [entry.from, entry.to]));
        }
        borders.retain(|hour| *hour > first && *hour < end);
        borders.sort_unstable();
        borders.dedup();
        borders
    }
}

impl Agreement {
    /// The discounts that meet a SKU, in the document's order.
    pub(super) fn discounts<'a>(&'a self, product_sku: &'a str) -> impl Iterator<Item = Percent> + 'a {
        let meets = move |sku: &str| sku == crate::catalog::document::ANY_SKU || sku == product_sku;
        self.discounts.iter().filter(move |(sku, _)| meets(sku)).map(|(_, percent)| *percent)
    }
}

/// The first and the first not hour of a month.
pub(super) fn hours_of(month: Window) -> (i64, i64) {
    debug_assert_eq!(month.level(), Level::Month);
    (month.start_seconds() / 3600, month.end_seconds() / 3600)
}

fn card(card: &crate::catalog::document::RateCard) -> Card {
    let mut prices: HashMap<String, BTreeMap<Option<String>, Vec<Entry>>> = HashMap::new();
    for price in &card.prices {
        let place = price.region.as_deref().map(|region| format!("/{region}")).unwrap_or_default();
        let entry = Entry {
            from: price.valid_from.seconds().div_euclid(3600),
            to: price.valid_to.map_or(FOREVER, |to| to.seconds().div_euclid(3600)),
            version: format!("{}{place}@{}", card.name, price.valid_from),
            tiers: Tiers::new(&price.model),
        };
        let regions = prices.entry(price.product_sku.clone()).or_default();
        regions.entry(price.region.clone()).or_default().push(entry);
    }
    for entries in prices.values_mut().flat_map(BTreeMap::values_mut) {
        entries.sort_by_key(|entry| entry.from);
        end_at_next(entries, |entry| entry.from, |entry, next| entry.to = entry.to.min(next));
    }
    Card { currency: card.currency.clone(), prices }
}

fn contracts(document: &Document, cards: &HashMap<String, usize>) -> HashMap<String, Vec<Agreement>> {
    let mut contracts: HashMap<String, Vec<Agreement>> = HashMap::new();
    for contract in &document.contracts {
        let Some(card) = cards.get(&contract.rate_card) else { continue };
        contracts.entry(contract.tenant_id.clone()).or_default().push(agreement(contract, *card));
    }
    for agreements in contracts.values_mut() {
        agreements.sort_by_key(|agreement| agreement.from);
        end_at_next(
            agreements,
            |agreement| agreement.from,
            |agreement, next| agreement.to = agreement.to.min(next),
        );
    }
    contracts
}

fn agreement(contract: &Contract, card: usize) -> Agreement {
    let mut overrides: HashMap<String, BTreeMap<Option<String>, Tiers>> = HashMap::new();
    for entry in &contract.overrides {
        let regions = overrides.entry(entry.product_sku.clone()).or_default();
        regions.insert(entry.region.clone(), Tiers::new(&entry.model));
    }
    let discounts =
        contract.discounts.iter().map(|discount| (discount.product_sku.clone(), discount.percent));
    Agreement {
        from: contract.valid_from.seconds().div_euclid(3600),
        to: contract.valid_to.map_or(FOREVER, |to| to.seconds().div_euclid(3600)),
        card,
        version: format!("contract:{}@{}", contract.tenant_id, contract.valid_from),
        rounding: contract.rounding,
        overrides,
        discounts: discounts.collect(),
    }
}

/// An open entry ends where the next one begins.
fn end_at_next<T>(entries: &mut [T], from: impl Fn(&T) -> i64, end: impl Fn(&mut T, i64)) {
    for place in 1..entries.len() {
        let next = from(&entries[place]);
        end(&mut entries[place - 1], next);
    }
}

/// The newest entry that has begun and not ended.
fn at<T>(entries: &[T], hour: i64, span: impl Fn(&T) -> (i64, i64)) -> Option<&T> {
    let begun = entries.partition_point(|entry| span(entry).0 <= hour);
    entries[..begun].last().filter(|entry| span(entry).1 > hour)
}

/// What names the region, then what names none.
fn regional<'a, T>(
    regions: &'a BTreeMap<Option<String>, T>,
    region: &str,
) -> impl Iterator<Item = (Option<&'a str>, &'a T)> {
    let named = (!region.is_empty()).then(|| regions.get_key_value(&Some(region.to_owned()))).flatten();
    let any = regions.get_key_value(&None);
    named.into_iter().chain(any).map(|(name, held)| (name.as_deref(), held))
}
