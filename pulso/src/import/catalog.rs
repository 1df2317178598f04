//! The catalog that a bill's list prices imply, as additions to the one that is there: nothing that others applied is
//! replaced.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use pulso_pricing::catalog::words::SERVICE_CATEGORIES;
use serde_json::{Value, json};

use super::bill::{Bill, Sku};
use crate::cli::exit::Failure;
use crate::client::rest::entries;

/// Prices and contracts of an import hold from here on, whatever the age of the bill.
const VALID_FROM: &str = "1970-01-01T00:00:00Z";
/// Entries of one document: keeps it well under the API's bound on a body.
const ENTRIES_MAX: usize = 1000;
/// Most bytes of a name in the catalog.
pub const TITLE_BYTES_MAX: usize = 512;
/// What stands in the catalog before the import.
#[derive(Clone, Debug, Default)]
pub struct Existing {
    units: HashMap<String, String>,
    /// Rate cards: their currency and the SKUs they price.
    rate_cards: BTreeMap<String, (String, BTreeSet<String>)>,
    default_card: Option<String>,
    /// The rate cards of each tenant's contracts.
    contracts: BTreeMap<String, BTreeSet<String>>,
    /// Tenants that have usage already.
    tenants: BTreeSet<String>,
    sources: BTreeSet<String>,
}

impl Existing {
    /// Reads the catalog document and the list of tenants.
    #[must_use]
    pub fn read(document: &Value, tenants: &[Value]) -> Self {
        let mut existing = Self::default();
        for sku in entries(document, "skus") {
            existing.units.insert(text(sku, "product_sku"), text(sku, "use_unit"));
        }
        for card in entries(document, "rate_cards") {
            let skus = entries(card, "prices").iter().map(|price| text(price, "product_sku")).collect();
            existing.rate_cards.insert(text(card, "name"), (text(card, "currency"), skus));
            if card.get("default").and_then(Value::as_bool) == Some(true) {
                existing.default_card = Some(text(card, "name"));
            }
        }
        for contract in entries(document, "contracts") {
            let cards = existing.contracts.entry(text(contract, "tenant_id")).or_default();
            cards.insert(text(contract, "rate_card"));
        }
        existing.tenants = tenants.iter().map(|tenant| text(tenant, "tenant_id")).collect();
        existing.sources =
            entries(document, "tenants").iter().map(|tenant| text(tenant, "tenant_id")).collect();
        existing
    }

    /// The unit of each SKU: the one of the catalog, else the bill's.
    #[must_use]
    pub fn units(&self, bill: &Bill) -> HashMap<String, String> {
        let unit = |(product_sku, sku): (&String, &Sku)| {
            let unit = self.units.get(product_sku).unwrap_or(&sku.use_unit);
            (product_sku.clone(), unit.clone())
        };
        bill.skus.iter().map(unit).collect()
    }

    /// The documents to merge, in order: first what others refer to.
    ///
    /// # Errors
    /// When a tenant is already priced in another currency.
    pub fn additions(&self, bill: &Bill, currency: &str) -> Result<Vec<Value>, Failure> {
        let own_card = format!("focus-{}", currency.to_lowercase());
        let mut cards: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        let mut contracts = Vec::new();
        let mut card_of_tenant: HashMap<&str, Vec<&str>> = HashMap::new();
        for tenant_id in bill.tenants.values().collect::<BTreeSet<_>>() {
            let held = self.cards_of(tenant_id);
            for card in &held {
                self.same_currency(tenant_id, card, currency)?;
            }
            if held.is_empty() {
                contracts.push(json!({
                    "tenant_id": tenant_id, "rate_card": own_card, "valid_from": VALID_FROM, "rounding": "half_even",
                }));
                card_of_tenant.insert(tenant_id, vec![&own_card]);
            } else {
                card_of_tenant.insert(tenant_id, held);
            }
        }
        for key in bill.groups.keys() {
            for card in card_of_tenant.get(key.tenant_id.as_str()).into_iter().flatten() {
                if !self.prices(card, &key.product_sku) {
                    cards.entry(card).or_default().insert(&key.product_sku);
                }
            }
        }
        let mut documents = self.sku_documents(bill);
        documents.extend(self.price_documents(bill, currency, &cards));
        documents.extend(contracts.chunks(ENTRIES_MAX).map(|part| json!({ "contracts": part })));
        documents.extend(self.source_documents(bill));
        Ok(documents)
    }

    /// The rate cards that price a tenant already.
    fn cards_of(&self, tenant_id: &str) -> Vec<&str> {
        match (self.contracts.get(tenant_id), &self.default_card) {
            (Some(cards), _) => cards.iter().map(String::as_str).collect(),
            // Usage of a tenant without a contract is priced by the default card: a contract would take that away.
            (None, Some(card)) if self.tenants.contains(tenant_id) => vec![card],
            _ => Vec::new(),
        }
    }

    fn same_currency(&self, tenant_id: &str, card: &str, currency: &str) -> Result<(), Failure> {
        match self.rate_cards.get(card) {
            Some((other, _)) if other != currency => Err(Failure::usage(format!(
                "tenant {tenant_id} is already priced in {other} by the rate card {card}, the file is in {currency}; \
                 change its contract or import into another Pulso"
            ))),
            _ => Ok(()),
        }
    }

    fn prices(&self, card: &str, product_sku: &str) -> bool {
        self.rate_cards.get(card).is_some_and(|(_, skus)| skus.contains(product_sku))
    }

    fn sku_documents(&self, bill: &Bill) -> Vec<Value> {
        let new = bill.skus.iter().filter(|(product_sku, _)| !self.units.contains_key(*product_sku));
        let skus: Vec<Value> = new.map(|(product_sku, sku)| sku_entry(product_sku, sku)).collect();
        skus.chunks(ENTRIES_MAX).map(|part| json!({ "skus": part })).collect()
    }

    fn price_documents(
        &self,
        bill: &Bill,
        currency: &str,
        cards: &BTreeMap<&str, BTreeSet<&str>>,
    ) -> Vec<Value> {
        let mut documents = Vec::new();
        for (card, skus) in cards {
            let prices: Vec<Value> = skus
                .iter()
                .filter_map(|product_sku| Some((product_sku, bill.skus.get(*product_sku)?)))
                .map(|(product_sku, sku)| {
                    let model = json!({ "type": "flat", "unit_price": sku.price.to_string() });
                    json!({ "product_sku": product_sku, "valid_from": VALID_FROM, "model": model })
                })
                .collect();
            for part in prices.chunks(ENTRIES_MAX) {
                let card = json!({ "name": card, "currency": currency, "prices": part });
                documents.push(json!({ "rate_cards": [card] }));
            }
        }
        documents
    }

    fn source_documents(&self, bill: &Bill) -> Vec<Value> {
        let mapped =
            bill.tenants.iter().filter(|(name, id)| name != id && !self.sources.contains(id.as_str()));
        let sources: Vec<Value> =
            mapped.map(|(name, id)| json!({ "tenant_id": id, "source_id": name })).collect();
        sources.chunks(ENTRIES_MAX).map(|part| json!({ "tenants": part })).collect()
    }
}

fn sku_entry(product_sku: &str, sku: &Sku) -> Value {
    // A category that is not one of FOCUS is `Other`.
    let known = SERVICE_CATEGORIES.iter().find(|category| **category == sku.service_category);
    let or_sku = |text: &str| title(if text.is_empty() { &sku.sku_name } else { text });
    json!({
        "product_sku": product_sku,
        "name": or_sku(&sku.description),
        "service_name": or_sku(&sku.service_name),
        "service_category": known.unwrap_or(&"Other"),
        "use_unit": sku.use_unit,
        "aggregation": "sum",
    })
}

/// A text as the catalog takes it: bounded, without control characters.
fn title(text: &str) -> String {
    let end = text.floor_char_boundary(TITLE_BYTES_MAX);
    text[..end].chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

fn text(entry: &Value, name: &str) -> String {
    entry.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::bill::{Group, GroupKey};
    use super::*;
    use pulso_domain::quantity::Quantity;
    use pulso_domain::window::Window;

    fn bill(tenants: &[(&str, &str)]) -> Bill {
        let mut bill = Bill::default();
        let sku = Sku {
            sku_name: "S".into(),
            price: Quantity::parse(b"0.5").expect("good"),
            use_unit: "GB".into(),
            description: String::new(),
            service_name: "Store".into(),
            service_category: "Storage".into(),
        };
        bill.skus.insert("S@0.5".into(), sku);
        for (name, tenant_id) in tenants {
            bill.tenants.insert((*name).into(), (*tenant_id).into());
            let key = GroupKey {
                currency: "USD".into(),
                tenant_id: (*tenant_id).into(),
                month: Window::parse_month("2026-01").expect("good"),
                product_sku: "S@0.5".into(),
                use_unit: "GB".into(),
            };
            bill.groups.insert(key, Group::default());
        }
        bill
    }

    #[test]
    fn an_empty_catalog_gets_skus_prices_contracts_and_original_names() {
        let bill = bill(&[("acme", "acme"), ("a b", "ab-c8687a08aa5d6ed2")]);
        let documents = Existing::read(&json!({}), &[]).additions(&bill, "USD").expect("adds");
        assert_eq!(documents.len(), 4);
        assert_eq!(documents[0]["skus"][0]["product_sku"], "S@0.5");
        assert_eq!(documents[1]["rate_cards"][0]["name"], "focus-usd");
        assert_eq!(documents[1]["rate_cards"][0]["prices"][0]["model"]["unit_price"], "0.5");
        assert_eq!(documents[2]["contracts"].as_array().map(Vec::len), Some(2));
        assert_eq!(
            documents[3]["tenants"],
            json!([{ "tenant_id": "ab-c8687a08aa5d6ed2", "source_id": "a b" }])
        );
    }

    #[test]
    fn what_is_there_is_never_sent_again() {
        let there = json!({
            "skus": [{ "product_sku": "S@0.5", "use_unit": "GB" }],
            "rate_cards": [{ "name": "focus-usd", "currency": "USD", "prices": [{ "product_sku": "S@0.5" }] }],
            "contracts": [{ "tenant_id": "acme", "rate_card": "focus-usd" }],
        });
        let documents =
            Existing::read(&there, &[]).additions(&bill(&[("acme", "acme")]), "USD").expect("adds");
        assert!(documents.is_empty(), "{documents:?}");
    }

    #[test]
    fn a_tenant_with_its_own_contract_gets_the_prices_into_its_rate_card() {
        let there = json!({
            "rate_cards": [{ "name": "own", "currency": "USD", "prices": [{ "product_sku": "other" }] }],
            "contracts": [{ "tenant_id": "acme", "rate_card": "own" }],
        });
        let documents =
            Existing::read(&there, &[]).additions(&bill(&[("acme", "acme")]), "USD").expect("adds");
        assert_eq!(documents.len(), 2);
        assert_eq!(documents[1]["rate_cards"][0]["name"], "own");
    }

    #[test]
    fn a_tenant_already_priced_in_another_currency_is_an_error() {
        let there = json!({ "rate_cards": [{ "name": "public", "currency": "BRL", "default": true }] });
        let known = [json!({ "tenant_id": "acme" })];
        let bill = bill(&[("acme", "acme")]);
        let failure = Existing::read(&there, &known).additions(&bill, "USD").expect_err("another currency");
        assert!(failure.sentence.contains("acme is already priced in BRL"), "{failure}");
        assert!(Existing::read(&there, &[]).additions(&bill, "USD").is_ok());
    }
}
