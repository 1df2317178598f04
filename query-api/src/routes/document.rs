//! The catalog document as the API's reference shows it. Pricing reads and checks the text; nothing is read into these.

use serde::Serialize;
use utoipa::ToSchema;

/// The whole catalog: what can be priced, prices, what tenants agreed, how tenants are called.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Catalog)]
#[schema(example = json!({
    "skus": [{ "product_sku": "egress", "name": "Saida de dados", "service_name": "Network",
        "service_category": "Networking", "use_unit": "GiB", "aggregation": "sum" }],
    "rate_cards": [{ "name": "public", "currency": "BRL", "default": true, "prices": [
        { "product_sku": "egress", "valid_from": "2026-01-01T00:00:00Z", "model": { "type": "graduated",
            "tiers": [{ "up_to": "100", "unit_price": "0" }, { "unit_price": "0.35" }] } }] }],
    "contracts": [{ "tenant_id": "acme", "rate_card": "public", "valid_from": "2026-01-01T00:00:00Z",
        "rounding": "half_even", "discounts": [{ "product_sku": "*", "percent": "10" }] }],
    "tenants": [{ "tenant_id": "acme", "name": "Acme Ltda" }],
}))]
pub(crate) struct CatalogDocument {
    /// What can be priced; by `product_sku`. Fields: `product_sku`, `name`, `service_name`, `service_category`, `use_unit`,
    /// `aggregation` (sum, count, min, max, avg, last).
    #[schema(value_type = Option<Vec<Object>>)]
    skus: Option<Vec<serde_json::Value>>,
    /// Prices; by `name`. Fields: `name`, `currency`, `default`, `prices[]`: `product_sku`, `region`, `valid_from`,
    /// `valid_to`, `model` of `type` flat (`unit_price`) or graduated (`tiers[]`: `up_to`, `unit_price`).
    #[schema(value_type = Option<Vec<Object>>)]
    rate_cards: Option<Vec<serde_json::Value>>,
    /// What tenants agreed; by `tenant_id` and `valid_from`. Fields: `tenant_id`, `rate_card`, `valid_from`, `valid_to`,
    /// `rounding`, `overrides[]`: `product_sku`, `region`, `model`; `discounts[]`: `product_sku` or `*`, `percent`.
    #[schema(value_type = Option<Vec<Object>>)]
    contracts: Option<Vec<serde_json::Value>>,
    /// How tenants are called; by `tenant_id`. Fields: `tenant_id`, `name`, `source_id`.
    #[schema(value_type = Option<Vec<Object>>)]
    tenants: Option<Vec<serde_json::Value>>,
}
