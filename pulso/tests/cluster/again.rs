//! What is handed over or sent again changes nothing: republish, and the archive's export.

use crate::fixture::Cluster;
use crate::harness::pulse_line;

#[test]
fn republished_usage_and_exported_pulses_change_no_total_and_no_charge() {
    let cluster = Cluster::start(1, "topic");
    let month = crate::harness::previous_month();
    let span = ["--from", "2000-01-01T00:00:00Z", "--to", "2100-01-01T00:00:00Z", "--tenant", "again"];
    let lines: String = (0..500)
        .map(|id| {
            let at = format!("{month}-{:02}T10:30:00Z", id % 28 + 1);
            let id = format!("p-{id}");
            pulse_line(&[("id", &id), ("tenant_id", "again"), ("occurred_at", &at), ("region", "br-se1")])
        })
        .collect();
    cluster.client_with_input(&["send", "-"], &lines).expect_code(0);
    let before = cluster.drain();
    let bill = |cluster: &Cluster| {
        let usage = ["usage", "again", "--from", &format!("{month}-01T00:00:00Z"), "--output", "csv"];
        let charges = ["charges", "again", "--period", &month, "--output", "json"];
        (cluster.client(&usage).stdout, cluster.client(&charges).json())
    };
    let expected = bill(&cluster);

    let republish = [&["republish", "--output", "json"][..], &span].concat();
    let republished = cluster.servers.pulso(&republish).expect_code(0).json();
    assert_eq!(republished["months"], 1);
    // 28 hours, 28 days and the month.
    assert_eq!(republished["records"], 57, "{republished}");
    assert_eq!(bill(&cluster), expected);

    let export = [&["archive", "export"][..], &span].concat();
    let exported = cluster.servers.pulso(&export).expect_code(0).stdout;
    assert_eq!(exported.lines().count(), 500);
    cluster.client_with_input(&["send", "-"], &exported).expect_code(0);
    let after = cluster.drain();
    assert_eq!(after["counted"], before["counted"]);
    let duplicates = |total: &serde_json::Value| total["duplicate"].as_u64().expect("a count");
    assert_eq!(duplicates(&after), duplicates(&before) + 500);
    assert_eq!(bill(&cluster), expected);
    cluster.stop().audit();
}
