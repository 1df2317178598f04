//! Catalog documents: what is good is read, planned and stored; what is bad is refused whole, with every error and line.

use pulso_pricing::catalog::{CatalogError, ChangeKind, Document, Format, Mode, ParseError, parse, plan};

const GOOD: &str = include_str!("../data/catalog.yaml");

fn document(text: &str) -> Document {
    parse(text.as_bytes(), Format::Yaml).expect("good").document
}

/// Every error of a text, whether it is in a value or between entries.
fn errors(text: &str) -> Vec<CatalogError> {
    match parse(text.as_bytes(), Format::Yaml) {
        Err(ParseError::Invalid(errors)) => errors,
        Err(ParseError::Malformed(detail)) => panic!("{detail}"),
        Ok(parsed) => {
            let planned = plan(&Document::default(), &parsed.document, Mode::Replace);
            let mut errors = planned.expect_err("must be refused");
            parsed.locate(&mut errors);
            errors
        }
    }
}

fn only(text: &str) -> (String, String, u64) {
    let errors = errors(text);
    assert_eq!(errors.len(), 1, "{errors:?}");
    let error = errors.into_iter().next().expect("one");
    (error.pointer, error.detail, error.line.expect("a line"))
}

#[test]
fn a_good_document_is_read_and_survives_its_stored_form() {
    let good = document(GOOD);
    assert_eq!((good.skus.len(), good.rate_cards[0].prices.len(), good.contracts.len()), (4, 6, 1));
    let stored = good.to_json();
    assert_eq!(Document::from_json(&stored).expect("stored"), good);
    let again = parse(&stored, Format::Json).expect("its JSON is a good document too").document;
    assert_eq!(again, good);
    assert_eq!(again.to_json(), stored);
    assert_eq!(plan(&good, &again, Mode::Replace).expect("good").changes, []);
}

#[test]
fn every_faulty_value_is_reported_with_pointer_and_line() {
    let text = "\
skus:
  - { product_sku: vm, use_unit: Hours, aggregation: percentile }
  - { product_sku: 7, use_unit: Hours, colour: red }
  - { product_sku: x, use_unit: Hours, service_category: Toys }
rate_cards:
  - name: public
    currency: BRL
    prices:
      - { product_sku: vm, valid_from: 2026-01-01T00:30:00Z, model: { type: flat, unit_price: 0.5 } }
      - { product_sku: vm, valid_from: 2026-01-01, model: { type: volume, tiers: [] } }
      - { product_sku: vm, valid_from: 2026-01-01T00:00:00Z, model: { type: flat, unit_price: \"-1\" } }
      - { product_sku: vm, valid_from: 2026-01-01T00:00:00Z, model: { type: flat, unit_price: \"0.0000000000000001\" } }
contracts: {}
extra: 1
";
    let found: Vec<(String, u64)> =
        errors(text).into_iter().map(|error| (error.pointer, error.line.expect("a line"))).collect();
    let expected = [
        ("/skus/0/aggregation", 2),
        ("/skus/1/product_sku", 3),
        ("/skus/1/colour", 3),
        ("/skus/2/service_category", 4),
        ("/rate_cards/0/prices/0/valid_from", 9),
        ("/rate_cards/0/prices/0/model/unit_price", 9),
        ("/rate_cards/0/prices/1/valid_from", 10),
        ("/rate_cards/0/prices/1/model/type", 10),
        ("/rate_cards/0/prices/2/model/unit_price", 11),
        ("/rate_cards/0/prices/3/model/unit_price", 12),
        ("/contracts", 13),
        ("/extra", 14),
    ];
    assert_eq!(found, expected.map(|(pointer, line)| (pointer.to_owned(), line)));
}

#[test]
fn numbers_for_money_are_refused_in_json_too_with_their_line() {
    let text = r#"{"skus": [{"product_sku": "a", "use_unit": "GB"}],
 "rate_cards": [{"name": "p", "currency": "USD", "prices": [
  {"product_sku": "a", "valid_from": "2026-01-01T00:00:00Z", "model": {"type": "flat", "unit_price": 1.5}}]}]}"#;
    let Err(ParseError::Invalid(errors)) = parse(text.as_bytes(), Format::Json) else { panic!("accepted") };
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].pointer, "/rate_cards/0/prices/0/model/unit_price");
    assert_eq!(errors[0].line, Some(3));
    assert!(errors[0].detail.contains("must be a string, not a number"), "{}", errors[0].detail);
}

#[test]
fn what_does_not_parse_is_malformed() {
    for (text, format) in [("{", Format::Json), ("a: [", Format::Yaml), ("", Format::Json)] {
        let parsed = parse(text.as_bytes(), format);
        assert!(matches!(parsed, Err(ParseError::Malformed(_))), "{text:?}: {parsed:?}");
    }
    assert!(matches!(parse(&[0xff], Format::Yaml), Err(ParseError::Malformed(_))));
}

/// A document with one SKU `a` and these prices.
fn priced(prices: &str) -> String {
    format!(
        "skus:\n- {{ product_sku: a, use_unit: GB }}\nrate_cards:\n- name: p\n  currency: BRL\n  prices:\n{prices}"
    )
}

#[test]
fn entries_that_do_not_fit_together_are_refused() {
    let flat = "model: { type: flat, unit_price: \"1\" }";
    let from = |time: &str| format!("  - {{ product_sku: a, valid_from: {time}, {flat} }}\n");
    let (one, two) = ("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z");
    let same = only(&priced(&format!("{}{}", from(one), from(one))));
    assert_eq!((same.0.as_str(), same.2), ("/rate_cards/0/prices/1/valid_from", 8));
    let closed =
        format!("  - {{ product_sku: a, valid_from: {one}, valid_to: 2026-03-01T00:00:00Z, {flat} }}\n");
    let behind = only(&priced(&format!("{closed}{}", from(two))));
    assert_eq!((behind.0.as_str(), behind.2), ("/rate_cards/0/prices/0/valid_to", 7));
    let unknown = only(&priced(&format!("  - {{ product_sku: b, valid_from: {one}, {flat} }}\n")));
    assert_eq!(unknown.0, "/rate_cards/0/prices/0/product_sku");
    let tiers = |tiers: &str| {
        let model = format!("model: {{ type: graduated, tiers: [{tiers}] }}");
        only(&priced(&format!("  - {{ product_sku: a, valid_from: {one}, {model} }}\n"))).0
    };
    let at = |rest: &str| format!("/rate_cards/0/prices/0/model/tiers{rest}");
    assert_eq!(tiers(""), at(""));
    assert_eq!(tiers("{ up_to: \"5\", unit_price: \"1\" }"), at("/0/up_to"));
    let falling =
        "{ up_to: \"5\", unit_price: \"1\" }, { up_to: \"5\", unit_price: \"1\" }, { unit_price: \"1\" }";
    assert_eq!(tiers(falling), at("/1/up_to"));
    assert_eq!(tiers("{ unit_price: \"1\" }, { unit_price: \"2\" }"), at("/0/up_to"));
    let currency = only(&priced(&from(one)).replace("BRL", "ZZZ"));
    assert_eq!(currency.0, "/rate_cards/0/currency");
}

#[test]
fn contracts_name_what_exists_and_at_most_four_discounts_meet() {
    let with = |contract: &str| {
        format!(
            "{}contracts:\n- {{ tenant_id: t, valid_from: 2026-01-01T00:00:00Z, {contract} }}\n",
            priced("")
        )
    };
    assert_eq!(only(&with("rate_card: q")).0, "/contracts/0/rate_card");
    let discount = |sku: &str| format!("{{ product_sku: \"{sku}\", percent: \"1\" }}");
    let several = |skus: [&str; 5]| format!("rate_card: p, discounts: [{}]", skus.map(discount).join(", "));
    assert_eq!(only(&with(&several(["*", "*", "a", "a", "a"]))).0, "/contracts/0/discounts/4");
    assert_eq!(only(&with(&several(["a", "*", "*", "*", "*"]))).0, "/contracts/0/discounts/0");
    assert_eq!(only(&with(&several(["*", "*", "*", "*", "*"]))).0, "/contracts/0/discounts/4");
    assert_eq!(
        only(&with("rate_card: p, discounts: [{ product_sku: b, percent: \"1\" }]")).0,
        "/contracts/0/discounts/0/product_sku"
    );
    let two =
        "rate_cards: [{ name: p, currency: BRL, default: true }, { name: q, currency: BRL, default: true }]";
    assert_eq!(only(two).0, "/rate_cards/1/default");
}

#[test]
fn a_merge_adds_and_replaces_by_key_and_keeps_the_rest() {
    let held = document(GOOD);
    let sent = document(
        "skus: [{ product_sku: vm, use_unit: Hours }]\n\
         rate_cards: [{ name: public, currency: BRL, prices: [\n\
         { product_sku: vm, valid_from: 2026-01-01T00:00:00Z, model: { type: flat, unit_price: \"2\" } },\n\
         { product_sku: peak, valid_from: 2026-01-01T00:00:00Z, model: { type: flat, unit_price: \"3\" } }] }]\n",
    );
    let planned = plan(&held, &sent, Mode::Merge).expect("good");
    assert!(planned.document.rate_cards[0].is_default(), "a merge leaves the default card alone");
    let changes: Vec<String> = planned.changes.iter().map(ToString::to_string).collect();
    assert_eq!(
        changes,
        [
            "add sku vm",
            "change price public: peak from 2026-01-01T00:00:00Z",
            "add price public: vm from 2026-01-01T00:00:00Z"
        ]
    );
    let replaced = plan(&held, &sent, Mode::Replace).expect_err("peak is gone with the other SKUs");
    assert_eq!(replaced[0].pointer, "/rate_cards/0/prices/1/product_sku");
    let empty = plan(&held, &Document::default(), Mode::Replace).expect("empty is good");
    assert!(empty.changes.iter().all(|change| change.change == ChangeKind::Removed));
}

#[test]
fn errors_of_a_merge_point_into_what_was_sent() {
    let held = document(GOOD);
    let sent = document(
        "rate_cards: [{ name: public, currency: BRL, prices: [\n\
         { product_sku: nope, valid_from: 2026-01-01T00:00:00Z, model: { type: flat, unit_price: \"2\" } }] }]\n",
    );
    let errors = plan(&held, &sent, Mode::Merge).expect_err("unknown SKU");
    assert_eq!(errors[0].pointer, "/rate_cards/0/prices/0/product_sku");
}
