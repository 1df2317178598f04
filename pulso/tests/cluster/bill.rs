//! The sample bill through the cluster, by each way to pricing: the same numbers, to the digit, as through one process.

use pulso_domain::window::{Level, Window};
use serde_json::Value;

use crate::fixture::{Cluster, bill_of};
use crate::harness::{Server, sample};

/// The n-th month before this one.
fn month_before(months: i32) -> String {
    let now = pulso_platform::service::clock::Clock::System.now();
    let current = Window::containing(Level::Month, now);
    Window::from_index(Level::Month, current.index() - months).to_string()
}

fn tenants(imported: &Value) -> Vec<String> {
    let tenants = imported["tenants"].as_object().expect("an object").values();
    tenants.map(|tenant| tenant.as_str().expect("a text").to_owned()).collect()
}

/// Each way has a month of its own, since all share the servers.
fn the_bill_is_the_same(handoff: &str, months: i32) {
    let month = month_before(months);
    let import = ["import", "focus", sample(), "--month", &month, "--output", "json"];
    let folder = tempfile::tempdir().expect("a folder");
    let one = Server::start_with(&folder.path().join("data"), &["--accept-past", "200d"]);
    let expected = one.client(&import).expect_code(0).json();

    let cluster = Cluster::start(2, handoff);
    let imported = cluster.client(&import).expect_code(0).json();
    assert_eq!(imported, expected);
    assert_eq!(imported["costs"][0]["difference"], "0");
    for tenant in tenants(&imported) {
        let expected = bill_of(&tenant, &month, &|arguments| one.client(arguments));
        assert_eq!(cluster.bill(&tenant, &month), expected, "{tenant} by {handoff}");
    }
    // Sending it again counts none twice, and a marker ends the wait for duplicates.
    let before = cluster.drain();
    assert_eq!(cluster.client(&import).expect_code(0).json(), imported);
    let after = cluster.drain();
    assert_eq!(after["counted"], before["counted"]);
    cluster.stop().audit();
}

#[test]
fn g07_g14_the_sample_bill_by_the_topic_is_that_of_one_process() {
    the_bill_is_the_same("topic", 1);
}

#[test]
fn g07_g14_the_sample_bill_by_grpc_is_that_of_one_process() {
    the_bill_is_the_same("grpc", 2);
}

#[test]
fn g07_g14_the_sample_bill_by_http_is_that_of_one_process() {
    the_bill_is_the_same("http", 3);
}
