//! Makes the typed document from the tree of a text, entry by entry. A faulty entry is left out and reported; nothing of
//! a document with errors is ever used.

use pulso_domain::ids::is_tenant_id;

use super::document::{
    Aggregation, Contract, Discount, Document, Model, Override, Price, RateCard, Sku, TenantName, Tier,
};
use super::fields::{Errors, Fields, child};
use super::source::Node;
use super::words::SERVICE_CATEGORIES;

/// Bytes of a SKU, a rate card's name and other names.
const NAME_BYTES_MAX: usize = 128;
/// Bytes of a unit or region, as in a pulse.
const SHORT_BYTES_MAX: usize = 64;
/// Bytes of a text that only people read.
const TITLE_BYTES_MAX: usize = 512;
/// Aggregations that have a name but are not built.
const LATER_AGGREGATIONS: [&str; 3] = ["unique", "percentile", "time_weighted"];
/// Price models that have a name but are not built.
const LATER_MODELS: [&str; 4] = ["volume", "package", "stairstep", "percentage"];

/// The whole document.
pub(super) fn document(root: &Node, errors: &mut Errors) -> Document {
    let Some(mut fields) = Fields::of(root, String::new(), errors) else { return Document::default() };
    let document = Document {
        skus: entries(&mut fields, "skus", errors, sku),
        rate_cards: entries(&mut fields, "rate_cards", errors, rate_card),
        contracts: entries(&mut fields, "contracts", errors, contract),
        tenants: entries(&mut fields, "tenants", errors, tenant_name),
    };
    fields.finish("skus, rate_cards, contracts, tenants", errors);
    document
}

fn entries<T>(
    fields: &mut Fields<'_>,
    name: &str,
    errors: &mut Errors,
    read: impl Fn(&mut Fields<'_>, &mut Errors) -> Option<T>,
) -> Vec<T> {
    let mut all = Vec::new();
    for (node, pointer) in fields.list(name, errors) {
        let Some(mut entry) = Fields::of(node, pointer, errors) else { continue };
        all.extend(read(&mut entry, errors));
        entry.finish(known(name), errors);
    }
    all
}

/// The fields of an entry of each list, for the message about one that is not among them.
fn known(list: &str) -> &'static str {
    match list {
        "skus" => "product_sku, name, service_name, service_category, use_unit, aggregation",
        "rate_cards" => "name, currency, default, prices",
        "prices" => "product_sku, region, valid_from, valid_to, model",
        "tiers" => "up_to, unit_price",
        "contracts" => "tenant_id, rate_card, valid_from, valid_to, rounding, overrides, discounts",
        "overrides" => "product_sku, region, model",
        "discounts" => "product_sku, percent",
        _ => "tenant_id, name, source_id",
    }
}

fn sku(fields: &mut Fields<'_>, errors: &mut Errors) -> Option<Sku> {
    let product_sku = fields.required("product_sku", NAME_BYTES_MAX, errors);
    let name = fields.text("name", TITLE_BYTES_MAX, errors);
    let service_name = fields.text("service_name", TITLE_BYTES_MAX, errors);
    let service_category = service_category(fields, errors);
    let use_unit = fields.required("use_unit", SHORT_BYTES_MAX, errors);
    let aggregation = aggregation(fields, errors);
    let product_sku = product_sku?;
    let name = name.unwrap_or_else(|| product_sku.clone());
    Some(Sku {
        service_name: service_name.unwrap_or_else(|| name.clone()),
        name,
        product_sku,
        service_category,
        use_unit: use_unit?,
        aggregation: aggregation?,
    })
}

fn service_category(fields: &mut Fields<'_>, errors: &mut Errors) -> String {
    let line = fields.line_of("service_category");
    let category =
        fields.text("service_category", NAME_BYTES_MAX, errors).unwrap_or_else(|| "Other".to_owned());
    if !SERVICE_CATEGORIES.contains(&category.as_str()) {
        let detail =
            format!("\"{category}\" is no FOCUS service category; one of {}", SERVICE_CATEGORIES.join(", "));
        errors.push(&child(&fields.pointer, "service_category"), line, detail);
    }
    category
}

fn aggregation(fields: &mut Fields<'_>, errors: &mut Errors) -> Option<Aggregation> {
    let line = fields.line_of("aggregation");
    if !fields.has("aggregation") {
        return Some(Aggregation::Sum);
    }
    let text = fields.text("aggregation", NAME_BYTES_MAX, errors)?;
    let known = match text.as_str() {
        "sum" => Aggregation::Sum,
        "count" => Aggregation::Count,
        "min" => Aggregation::Min,
        "max" => Aggregation::Max,
        "avg" => Aggregation::Avg,
        "last" => Aggregation::Last,
        other => {
            let later = LATER_AGGREGATIONS.contains(&other);
            let why = if later { "is not supported yet" } else { "is no aggregation" };
            let detail = format!("\"{other}\" {why}; use sum, count, min, max, avg or last");
            errors.push(&child(&fields.pointer, "aggregation"), line, detail);
            return None;
        }
    };
    Some(known)
}

fn rate_card(fields: &mut Fields<'_>, errors: &mut Errors) -> Option<RateCard> {
    let name = fields.required("name", NAME_BYTES_MAX, errors);
    let currency = fields.required("currency", NAME_BYTES_MAX, errors);
    let default = fields.flag("default", errors);
    let prices = entries(fields, "prices", errors, price);
    Some(RateCard { name: name?, currency: currency?, default, prices })
}

fn price(fields: &mut Fields<'_>, errors: &mut Errors) -> Option<Price> {
    let product_sku = fields.required("product_sku", NAME_BYTES_MAX, errors);
    let region = fields.text("region", SHORT_BYTES_MAX, errors);
    let valid_from = fields.required_word("valid_from", errors);
    let valid_to = fields.word("valid_to", errors);
    let model = model(fields, errors);
    Some(Price { product_sku: product_sku?, region, valid_from: valid_from?, valid_to, model: model? })
}

fn model(fields: &mut Fields<'_>, errors: &mut Errors) -> Option<Model> {
    let mut model = fields.object("model", errors)?;
    let line = model.line_of("type");
    let kind = model.required("type", NAME_BYTES_MAX, errors)?;
    match kind.as_str() {
        "flat" => {
            let unit_price = model.required_word("unit_price", errors);
            model.finish("type, unit_price", errors);
            Some(Model::Flat { unit_price: unit_price? })
        }
        "graduated" => {
            if !model.has("tiers") {
                model.missing("tiers", errors);
            }
            let tiers = entries(&mut model, "tiers", errors, tier);
            model.finish("type, tiers", errors);
            Some(Model::Graduated { tiers })
        }
        other => {
            let later = LATER_MODELS.contains(&other);
            let why = if later { "is not supported yet" } else { "is no price model" };
            let pointer = child(&model.pointer, "type");
            errors.push(&pointer, line, format!("\"{other}\" {why}; use flat or graduated"));
            None
        }
    }
}

fn tier(fields: &mut Fields<'_>, errors: &mut Errors) -> Option<Tier> {
    let up_to = fields.word("up_to", errors);
    let unit_price = fields.required_word("unit_price", errors);
    Some(Tier { up_to, unit_price: unit_price? })
}

fn contract(fields: &mut Fields<'_>, errors: &mut Errors) -> Option<Contract> {
    let tenant_id = tenant_id(fields, errors);
    let rate_card = fields.required("rate_card", NAME_BYTES_MAX, errors);
    let valid_from = fields.required_word("valid_from", errors);
    let valid_to = fields.word("valid_to", errors);
    let rounding = fields.word("rounding", errors).unwrap_or_default();
    let overrides = entries(fields, "overrides", errors, override_);
    let discounts = entries(fields, "discounts", errors, discount);
    Some(Contract {
        tenant_id: tenant_id?,
        rate_card: rate_card?,
        valid_from: valid_from?,
        valid_to,
        rounding,
        overrides,
        discounts,
    })
}

fn override_(fields: &mut Fields<'_>, errors: &mut Errors) -> Option<Override> {
    let product_sku = fields.required("product_sku", NAME_BYTES_MAX, errors);
    let region = fields.text("region", SHORT_BYTES_MAX, errors);
    let model = model(fields, errors);
    Some(Override { product_sku: product_sku?, region, model: model? })
}

fn discount(fields: &mut Fields<'_>, errors: &mut Errors) -> Option<Discount> {
    let product_sku = fields.required("product_sku", NAME_BYTES_MAX, errors);
    let percent = fields.required_word("percent", errors);
    Some(Discount { product_sku: product_sku?, percent: percent? })
}

fn tenant_name(fields: &mut Fields<'_>, errors: &mut Errors) -> Option<TenantName> {
    let tenant_id = tenant_id(fields, errors);
    let name = fields.text("name", TITLE_BYTES_MAX, errors);
    let source_id = fields.text("source_id", TITLE_BYTES_MAX, errors);
    Some(TenantName { tenant_id: tenant_id?, name, source_id })
}

fn tenant_id(fields: &mut Fields<'_>, errors: &mut Errors) -> Option<String> {
    let line = fields.line_of("tenant_id");
    let text = fields.required("tenant_id", NAME_BYTES_MAX, errors)?;
    if !is_tenant_id(text.as_bytes()) {
        let detail = "must have 1 to 64 characters of A-Z, a-z, 0-9, dot, underscore and dash";
        errors.push(&child(&fields.pointer, "tenant_id"), line, detail);
        return None;
    }
    Some(text)
}
