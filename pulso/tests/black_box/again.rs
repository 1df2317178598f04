//! What is handed over or sent again changes nothing: republish, and the archive's export, on a folder.

use serde_json::Value;

use crate::harness::{Server, previous_month, pulso, sample};

fn charges(server: &Server, tenant: &str, month: &str) -> Value {
    server.client(&["charges", tenant, "--period", month, "--output", "json"]).expect_code(0).json()
}

#[test]
fn republished_usage_and_exported_pulses_change_no_total_and_no_charge() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let place = data.to_str().expect("UTF-8");
    let month = previous_month();
    let span = ["--from", "2000-01-01T00:00:00Z", "--to", "2100-01-01T00:00:00Z", "--data-dir", place];
    let server = Server::start_with(&data, &["--accept-past", "65d"]);
    let import = ["import", "focus", sample(), "--month", &month, "--output", "json"];
    let imported = server.client(&import).expect_code(0).json();
    let tenants = imported["tenants"].as_object().expect("an object");
    let tenant = tenants.values().next().and_then(Value::as_str).expect("a tenant").to_owned();
    let before = charges(&server, &tenant, &month);
    assert_eq!(server.stop(), 0);

    let republish = [&["republish", "--output", "json"][..], &span].concat();
    let republished = pulso(&republish).expect_code(0).json();
    assert_eq!(republished["months"].as_u64(), Some(tenants.len() as u64));
    let export = [&["archive", "export"][..], &span].concat();
    let exported = pulso(&export).expect_code(0).stdout;
    assert_eq!(exported.lines().count(), 985);
    let of_tenant = pulso(&[&export[..], &["--tenant", &tenant]].concat()).expect_code(0).stdout;
    assert!(of_tenant.lines().count() < 985 && of_tenant.lines().all(|line| exported.contains(line)));

    let server = Server::start_with(&data, &["--accept-past", "65d"]);
    assert_eq!(charges(&server, &tenant, &month), before);
    server.client_with_input(&["send", "-"], &exported).expect_code(0);
    assert_eq!(charges(&server, &tenant, &month), before);
    assert_eq!(server.stop(), 0);
    let audit = pulso(&["audit", "--data-dir", place, "--output", "json"]).expect_code(0).json();
    assert_eq!((&audit["pulses"], &audit["difference_count"]), (&(985 * 2).into(), &0.into()));
}

#[test]
fn a_span_that_ends_before_it_begins_is_a_wrong_call() {
    for command in [&["republish"][..], &["archive", "export"]] {
        let span = ["--from", "2026-02-01T00:00:00Z", "--to", "2026-01-01T00:00:00Z"];
        let refused = pulso(&[command, &span].concat()).expect_code(2);
        assert!(refused.stderr.contains("--from must lie before --to"), "{refused:?}");
    }
}
