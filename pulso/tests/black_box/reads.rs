//! The reading commands against a small hand-made case: a catalog, a few pulses, a conflict.

use serde_json::{Value, json};

use crate::harness::{Server, now, pulse_line};

const CATALOG: &str = r#"
skus:
  - { product_sku: block-storage, name: Block, service_name: Block Storage, service_category: Storage, use_unit: GiB-Hours, aggregation: sum }
rate_cards:
  - name: public
    currency: BRL
    default: true
    prices:
      - { product_sku: block-storage, valid_from: 2020-01-01T00:00:00Z, model: { type: flat, unit_price: "0.5" } }
"#;

fn server(folder: &tempfile::TempDir) -> Server {
    let server = Server::start(&folder.path().join("data"));
    apply_catalog(&server, folder);
    server
}

/// Gives the server its prices.
pub(crate) fn apply_catalog(server: &Server, folder: &tempfile::TempDir) {
    let file = folder.path().join("catalog.yaml");
    std::fs::write(&file, CATALOG).expect("writes");
    let file = file.to_str().expect("UTF-8");
    let planned = server.client(&["catalog", "plan", file]).expect_code(0);
    assert!(planned.stdout.starts_with("version 1, 3 changes"), "{planned:?}");
    let applied = server.client(&["catalog", "apply", file, "--output", "json"]).expect_code(0).json();
    assert_eq!(applied["version"], 1);
}

/// Sends pulses and waits, by the ledger, until they are folded and rated.
pub(crate) fn send(server: &Server, lines: &[String], code: i32) {
    server.client_with_input(&["send", "-"], &lines.concat()).expect_code(code);
    let (_, ledger) = server.get("/v1/ledger");
    for partition in ledger["partitions"].as_array().expect("a list") {
        let last = partition["end_offset"].as_u64().expect("an offset") - 1;
        let place = format!("{}:{last}", partition["partition"]);
        server.client(&["charges", "acme", "--wait-for", &place]).expect_code(0);
    }
}

#[test]
fn what_was_sent_is_read_as_usage_charges_invoice_and_explanation() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = server(&folder);
    send(&server, &[pulse_line(&[("id", "a"), ("used_amount", "1.50")]), pulse_line(&[("id", "b")])], 0);

    let usage = server.client(&["usage", "acme", "--output", "json"]).expect_code(0).json();
    assert_eq!((&usage["usage"][0]["quantity"], &usage["usage"][0]["count"]), (&json!("3"), &json!(2)));
    let charges = server.client(&["charges", "acme", "--output", "csv"]).expect_code(0);
    let row = charges.stdout.lines().nth(1).expect("a row");
    assert!(row.contains(",block-storage,GiB-Hours,") && row.contains(",3,BRL,0.5,1.5,1.5,1.5,1.5"), "{row}");

    let invoices = server.client(&["invoice", "acme", "--output", "json"]).expect_code(0).json();
    let invoice = &invoices["invoices"][0];
    assert_eq!((&invoice["total"], &invoice["state"]), (&json!("1.5"), &json!("draft")), "{invoice}");
    let invoice = invoice["invoice_id"].as_str().expect("an id");
    let document = server.client(&["invoice", "acme", invoice, "--output", "json"]).expect_code(0).json();
    let line = document["lines"][0]["line_id"].as_str().expect("an id");
    let explained =
        server.client(&["explain", "acme", invoice, line, "--output", "json"]).expect_code(0).json();
    let ids: Vec<&Value> =
        explained["pulses"].as_array().expect("a list").iter().map(|pulse| &pulse["id"]).collect();
    assert_eq!(ids, [&json!("a"), &json!("b")], "{explained}");
    let table = server.client(&["explain", "acme", invoice, line]).expect_code(0);
    assert!(table.stdout.contains("GiB-Hours"), "{table:?}");
}

#[test]
fn a_conflict_is_listed_with_its_reason_and_shown_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = server(&folder);
    let at = now();
    let line = |amount: &str| pulse_line(&[("id", "a"), ("used_amount", amount), ("occurred_at", &at)]);
    send(&server, &[line("1"), line("2"), line("1")], 0);
    let letters =
        server.client(&["dlq", "list", "--reason", "ID_CONFLICT", "--output", "json"]).expect_code(0).json();
    let letters = letters["dead_letters"].as_array().expect("a list").clone();
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!((&letters[0]["reason"], &letters[0]["tenant_id"]), (&json!("ID_CONFLICT"), &json!("acme")));
    let shown =
        server.client(&["dlq", "show", letters[0]["id"].as_str().expect("an id")]).expect_code(0).json();
    assert_eq!(shown["id"], letters[0]["id"]);
    let usage = server.client(&["usage", "acme", "--output", "json"]).expect_code(0).json();
    assert_eq!(usage["usage"][0]["quantity"], "1");
}

#[test]
fn a_unit_that_cannot_be_converted_is_refused_as_soon_as_the_catalog_is_applied() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = server(&folder);
    let lines = [
        pulse_line(&[("id", "a"), ("use_unit", "Hours")]),
        pulse_line(&[("id", "b"), ("use_unit", "MiB-Hours"), ("used_amount", "1024")]),
        pulse_line(&[("id", "c"), ("product_sku", "unknown"), ("use_unit", "Widgets")]),
    ];
    let sent = server.client_with_input(&["send", "-"], &lines.concat()).expect_code(4);
    assert!(sent.stderr.contains("line 1: UNIT_MISMATCH: use_unit"), "{sent:?}");
    send(&server, &lines, 4);
    let charges = server.client(&["charges", "acme"]).expect_code(0);
    assert!(charges.stderr.contains("unpriced: 1.5 Widgets of unknown"), "{charges:?}");
}

#[test]
fn a_catalog_that_is_wrong_is_refused_whole_with_the_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = server(&folder);
    let wrong = CATALOG.replace("\"0.5\"", "0.5").replace("currency: BRL", "currency: XXL");
    let refused = server.client_with_input(&["catalog", "apply", "-"], &wrong).expect_code(2);
    assert!(
        refused.stderr.contains("INVALID_CATALOG")
            && refused.stderr.contains("/rate_cards/0")
            && refused.stderr.contains(" (line "),
        "{refused:?}"
    );
    let held = server.client(&["catalog", "get"]).expect_code(0).json();
    assert_eq!(held["rate_cards"][0]["currency"], "BRL");
    let merge = r#"{"rate_cards":[{"name":"public","currency":"BRL","prices":[]}]}"#;
    let same = server.client_with_input(&["catalog", "apply", "-", "--mode", "merge"], merge).expect_code(0);
    assert!(same.stdout.contains("0 changes"), "{same:?}");
}

#[test]
fn what_does_not_exist_is_exit_3() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = server(&folder);
    server.client(&["charges", "nobody"]).expect_code(3);
    server.client(&["usage", "nobody"]).expect_code(3);
    server.client(&["dlq", "show", "none"]).expect_code(3);
}
