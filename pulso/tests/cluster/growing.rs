//! A log that grows under running roles, on a broker of its own: an ingestor sleeps across the seal and wakes behind it.

use std::collections::BTreeMap;
use std::thread;
use std::time::Instant;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::fixture::{Cluster, SOON, Servers};
use crate::harness::{http_get, now, post_event_to};
use crate::kill::signal;

const TENANTS: usize = 7;

fn tenant(number: usize) -> String {
    format!("growing-{}", number % TENANTS)
}

/// Sends one pulse to the events' listener of an ingestor and gives its receipt.
fn post(ingestor: &str, number: usize, at: &str) -> Value {
    let event = json!({
        "specversion": "1.0", "id": format!("p-{number}"), "source": "/meters/7", "type": "vm", "subject": tenant(number),
        "time": at, "data": { "used_amount": "1", "use_unit": "Hours" },
    });
    let (status, answer) = post_event_to(ingestor, "application/cloudevents+json", &event.to_string());
    assert_eq!((status, &answer["status"]), (200, &json!("ACCEPTED")), "{answer}");
    answer["receipt"].clone()
}

fn generation(receipt: &Value) -> u64 {
    receipt["generation"].as_u64().expect("a number")
}

/// Posts one pulse after the other until one of them stands in this generation; gives how many it took.
fn post_until(ingestor: &str, wanted: u64, (first, at): (usize, &str)) -> usize {
    let since = Instant::now();
    for sent in 0.. {
        if generation(&post(ingestor, first + sent, at)) == wanted {
            return sent + 1;
        }
        assert!(since.elapsed() < SOON, "it does not follow into generation {wanted}");
    }
    unreachable!("the loop has no end")
}

#[test]
fn g03_an_ingestor_that_sleeps_across_the_seal_is_counted_once_and_its_receipts_lead_on() {
    let cluster = Cluster::start_on(Servers::take_own("growing"), 2, "topic");
    let folder = tempfile::tempdir().expect("a folder");
    let (asleep, other) = (cluster.ingestor.pid(), cluster.servers.ingestor(folder.path(), &[]));
    let (sleeper, awake) = (cluster.ingestor.address("events"), other.address("events"));
    let at = now();
    for number in 0..40 {
        assert_eq!(generation(&post(sleeper, number, &at)), 1);
        post(awake, number / 2, &at);
    }
    signal(asleep, Signal::STOP);
    let grown = cluster.servers.pulso(&["log", "grow", "--partitions", "9", "--output", "json"]);
    let grown = grown.expect_code(0).json();
    assert_eq!((&grown["generation"], &grown["begun"]), (&json!(2), &json!(true)), "{grown}");
    let mut sent = 40 + post_until(awake, 2, (40, &at));
    let (first, late) = (sent, 30);
    let receipts: Vec<Value> = thread::scope(|scope| {
        let (post, at) = (&post, &at);
        let on_their_way: Vec<_> =
            (0..late).map(|number| scope.spawn(move || post(sleeper, first + number, at))).collect();
        thread::sleep(std::time::Duration::from_millis(500));
        signal(asleep, Signal::CONT);
        on_their_way.into_iter().map(|one| one.join().expect("answers")).collect()
    });
    sent += late;
    let behind = receipts.iter().filter(|receipt| generation(receipt) == 1).count();
    assert!(behind > 0, "something arrived behind the seal");
    sent += post_until(sleeper, 2, (sent, &at));
    for number in 0..sent {
        post(if number % 2 == 0 { sleeper } else { awake }, number, &at);
    }
    for (number, receipt) in receipts.iter().enumerate() {
        let place = format!("{}:{}:{}", receipt["generation"], receipt["partition"], receipt["offset"]);
        let path =
            format!("/v1/tenants/{}/pulses/p-{}?wait_for={place}", tenant(first + number), first + number);
        let (status, answer) = http_get(cluster.query.address("api"), &path);
        assert!(status == 200 && answer.contains(r#""fate":"counted""#), "{place}: {answer}");
    }
    cluster.drain();
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    (0..sent).for_each(|number| *expected.entry(tenant(number)).or_default() += 1);
    for (tenant, count) in expected {
        let usage = cluster.client(&["usage", &tenant, "--granularity", "month", "--output", "json"]).json();
        assert_eq!(
            (&usage["usage"][0]["count"], &usage["usage"].as_array().map(Vec::len)),
            (&json!(count), &Some(1)),
            "{usage}"
        );
    }
    operators_see_it(&cluster.servers);
    assert_eq!(other.stop(), 0);
    cluster.stop().audit();
}

/// What commands say of a log that has grown.
fn operators_see_it(servers: &Servers) {
    let again =
        servers.pulso(&["log", "grow", "--partitions", "9", "--output", "json"]).expect_code(0).json();
    assert_eq!((&again["generation"], &again["begun"]), (&json!(2), &json!(false)));
    let init = servers.init().expect_code(0).json();
    assert_eq!((&init["generation"], &init["made"]), (&json!(2), &json!("nothing")));
    servers.pulso(&["doctor", "--output", "json"]).expect_code(0);
    let status = servers.pulso(&["log", "status", "--output", "json"]).expect_code(0).json();
    let partitions = status["partitions"].as_array().expect("a list");
    assert_eq!(partitions.len(), 6 + 9, "{status}");
    assert!(partitions.iter().all(|one| one["end_offset"] == one["folded_offset"]), "{status}");
    let moved: u64 = partitions.iter().map(|one| one["moved"].as_u64().expect("a number")).sum();
    assert!(moved > 0, "{status}");
    let rewind = ["log", "rewind", "--generation", "2", "--partition", "1", "--to", "0"];
    servers.pulso(&rewind).expect_code(0);
}
