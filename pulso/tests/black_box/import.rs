//! `import focus` and `demo` on the shipped sample: exact charges, and nothing counted twice.

use serde_json::{Value, json};

use crate::harness::{Server, command, previous_month, pulso, sample};

fn ledger(server: &Server) -> Value {
    let (status, ledger) = server.get("/v1/ledger");
    assert_eq!(status, 200, "{ledger}");
    ledger["total"].clone()
}

#[test]
fn importing_the_sample_twice_gives_the_same_totals_and_every_second_pulse_is_a_duplicate() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let server = Server::start_with(&data, &["--accept-past", "65d"]);
    let month = previous_month();
    let import = ["import", "focus", sample(), "--month", &month, "--output", "json"];

    let first = server.client(&import).expect_code(0).json();
    assert_eq!(
        (&first["rows"], &first["pulses"], &first["disagreeing_rows"]),
        (&json!(1000), &json!(985), &json!(482))
    );
    let skipped =
        json!([{ "reason": "NOT_USAGE", "rows": 3 }, { "reason": "NEGATIVE_QUANTITY", "rows": 12 }]);
    assert_eq!(first["skipped"], skipped);
    let cost = &first["costs"][0];
    assert_eq!((&cost["currency"], &cost["difference"]), (&json!("USD"), &json!("0")), "{cost}");
    assert_eq!(cost["pulso"], cost["product"]);
    assert_eq!(ledger(&server)["counted"], 985);

    let second = server.client(&import).expect_code(0).json();
    assert_eq!(second, first);
    let total = ledger(&server);
    assert_eq!((&total["counted"], &total["duplicate"]), (&json!(985), &json!(985)), "{total}");
    assert_eq!(total["pulses"], 1970);

    let tenants = server.client(&["tenants", "--output", "json"]).expect_code(0).json();
    let mapped = first["tenants"].as_object().expect("an object").iter().find(|(name, id)| *id != *name);
    let (name, tenant_id) = mapped.expect("a name that is no tenant id");
    let listed = tenants["tenants"].as_array().expect("a list").iter();
    let found = listed.clone().find(|tenant| tenant["tenant_id"] == *tenant_id).expect("listed");
    assert_eq!(found["source_id"], *name);

    assert_eq!(server.stop(), 0);
    let data = data.to_str().expect("UTF-8");
    let audit = pulso(&["audit", "--data-dir", data, "--output", "json"]).expect_code(0).json();
    assert_eq!((&audit["pulses"], &audit["difference_count"]), (&json!(1970), &json!(0)));
}

#[test]
fn a_re_sorted_file_counts_each_row_once_and_another_month_is_another_bill() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start_with(&folder.path().join("data"), &["--accept-past", "65d"]);
    let month = previous_month();
    let text = std::fs::read_to_string(sample()).expect("reads");
    let (header, rows) = text.split_once('\n').expect("a header");
    let mut rows: Vec<&str> = rows.lines().take(60).collect();
    let first = folder.path().join("first.csv");
    std::fs::write(&first, format!("{header}\n{}\n", rows[..40].join("\n"))).expect("writes");
    rows.reverse();
    let all = folder.path().join("all.csv");
    std::fs::write(&all, format!("{header}\n{}\n", rows.join("\n"))).expect("writes");

    let import = |file: &std::path::Path| {
        let file = file.to_str().expect("UTF-8");
        server.client(&["import", "focus", file, "--month", &month, "--output", "json"]).expect_code(0).json()
    };
    let (some, more) = (import(&first)["pulses"].clone(), import(&all)["pulses"].clone());
    let total = ledger(&server);
    assert_eq!((&total["counted"], &total["duplicate"]), (&more, &some), "{total}");
}

#[test]
fn rows_older_than_the_acceptance_limit_are_refused_with_the_flag_that_opens_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&folder.path().join("data"));
    let refused = server.client(&["import", "focus", sample()]).expect_code(1);
    assert!(refused.stderr.contains("--accept-past") && refused.stderr.contains("--month"), "{refused:?}");
    assert!(refused.stdout.contains("rejected TOO_OLD"), "{refused:?}");
    assert_eq!(ledger(&server)["pulses"], 0);
}

#[test]
fn a_file_of_several_currencies_needs_a_choice_and_a_tenant_has_one_currency() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start_with(&folder.path().join("data"), &["--accept-past", "65d"]);
    let file = folder.path().join("two.csv");
    let header = "ChargeCategory,PricingQuantity,PricingUnit,ChargePeriodStart,ListUnitPrice,BillingCurrency,SubAccountId,\
                  BillingAccountId,SkuPriceId,SkuId,ListCost";
    let row = |currency: &str, tenant: &str| {
        format!("Usage,2,GB,2024-09-18 22:00:00,0.5,{currency},{tenant},b,p,s,1")
    };
    let text = [header.to_owned(), row("USD", "a"), row("EUR", "b")].join("\n");
    std::fs::write(&file, text).expect("writes");
    let month = previous_month();
    let import = |more: &[&str]| {
        let file = file.to_str().expect("UTF-8");
        server.client(&[&["import", "focus", file, "--month", &month, "--output", "json"], more].concat())
    };
    assert!(import(&[]).expect_code(2).stderr.contains("EUR, USD"));
    let euros = import(&["--currency", "EUR"]).expect_code(0).json();
    assert_eq!(euros["skipped"], json!([{ "reason": "OTHER_CURRENCY", "rows": 1 }]));
    assert_eq!((&euros["costs"][0]["pulso"], &euros["costs"][0]["difference"]), (&json!("1"), &json!("0")));
    std::fs::write(&file, [header.to_owned(), row("USD", "b")].join("\n")).expect("writes");
    let refused = import(&[]).expect_code(2);
    assert!(refused.stderr.contains("tenant b is already priced in EUR"), "{refused:?}");
}

#[test]
fn the_demo_ends_with_a_summary_whose_differences_are_zero() {
    let free = ["--ingest-addr", "127.0.0.1:0", "--api-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"];
    let elsewhere = tempfile::tempdir().expect("a folder");
    let mut demo = command(&[&["demo", "--exit", "--output", "json"], &free[..]].concat());
    let output = demo.current_dir(elsewhere.path()).output().expect("runs");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{stdout}\n{stderr}");
    let (ready, summary) = stdout.split_once('\n').expect("the ready line and the summary");
    assert!(ready.starts_with("{\"event\":\"ready\",\"ingest\":"), "{ready}");
    let summary: Value = serde_json::from_str(summary).expect("JSON");
    assert_eq!(summary["periods"][0], json!(previous_month()));
    let costs = summary["costs"].as_array().expect("a list");
    assert_eq!(costs.len(), 2);
    for cost in costs {
        assert_eq!((&cost["difference"], &cost["difference_to_file"]), (&json!("0"), &json!("0")), "{cost}");
        assert_eq!(cost["pulses"], 985);
    }
    assert!(stderr.contains("Every charge is exact"), "{stderr}");
    assert_eq!(std::fs::read_dir(elsewhere.path()).expect("reads").count(), 0, "it leaves nothing behind");
}
