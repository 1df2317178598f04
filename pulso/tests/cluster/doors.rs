//! How roles start and end: what they listen on, what they say of a wrong configuration, and that `init` is done once.

use serde_json::json;

use crate::fixture::{Cluster, Servers};
use crate::harness::{http_get, now, post_event, pulse_line};

#[test]
fn init_again_changes_nothing_and_doctor_finds_nothing() {
    let servers = Servers::take();
    let again = servers.init().expect_code(0).json();
    assert_eq!(
        (&again["generation"], &again["partitions"], &again["made"]),
        (&1.into(), &6.into(), &"nothing".into())
    );
    let doctor = servers.pulso(&["doctor", "--output", "json"]).expect_code(0).json();
    let checks = doctor["findings"].as_array().expect("a list").iter();
    let checks: Vec<_> = checks.map(|finding| finding["check"].as_str().expect("a text")).collect();
    assert_eq!(checks, ["clock", "kafka", "topics", "store"]);
}

#[test]
fn a_role_says_what_it_listens_on_and_stops_cleanly() {
    let cluster = Cluster::start(1, "grpc");
    for (role, listens) in [
        (&cluster.ingestor, &["event", "ingest", "admin", "events"][..]),
        (&cluster.query, &["event", "api", "admin"]),
        (&cluster.pricing, &["event", "pricing", "admin"]),
        (&cluster.consumers[0], &["event", "admin"]),
    ] {
        let ready: Vec<_> = role.ready().as_object().expect("an object").keys().collect();
        let mut expected = listens.to_vec();
        expected.sort_unstable();
        assert_eq!(ready, expected);
        let since = std::time::Instant::now();
        while http_get(role.address("admin"), "/readyz").0 != 200 {
            assert!(since.elapsed() < crate::fixture::SOON, "{}", role.stderr());
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
    cluster.stop();
}

#[test]
fn an_event_over_http_and_the_same_pulse_by_grpc_count_once() {
    let cluster = Cluster::start(1, "topic");
    let at = now();
    let event = json!({
        "specversion": "1.0", "id": "p-1", "source": "/meters/7", "type": "block-storage", "subject": "events", "time": at,
        "data": { "used_amount": "1.5", "use_unit": "GiB-Hours" },
    });
    let (status, answer) = post_event(&cluster.ingestor, "application/cloudevents+json", &event.to_string());
    assert_eq!((status, &answer["status"]), (200, &json!("ACCEPTED")), "{answer}");
    let line = pulse_line(&[("id", "p-1"), ("tenant_id", "events"), ("occurred_at", &at)]);
    cluster.client_with_input(&["send", "-"], &line).expect_code(0);
    cluster.drain();
    let usage = cluster.client(&["usage", "events", "--granularity", "month", "--output", "json"]).json();
    assert_eq!((&usage["usage"][0]["quantity"], &usage["usage"][0]["count"]), (&json!("1.5"), &json!(1)));
    cluster.stop().audit();
}

#[test]
fn a_source_of_the_ingestor_whose_broker_is_not_there_is_told() {
    let servers = Servers::take();
    let folder = tempfile::tempdir().expect("a folder");
    let ingestor =
        servers.ingestor(folder.path(), &["--rabbitmq-url", "amqp://guest:hunter2@127.0.0.1:1/%2f"]);
    let since = std::time::Instant::now();
    while !ingestor.admin("/readyz").1.contains("--rabbitmq-url") {
        assert!(since.elapsed() < crate::fixture::SOON, "{}", ingestor.stderr());
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(!ingestor.admin("/readyz").1.contains("hunter2") && !ingestor.stderr().contains("hunter2"));
    assert_eq!(ingestor.stop(), 0);
    let no_url = ["ingestor", "--redis-url", "http://x", "--events-addr", "127.0.0.1:0"];
    servers.pulso(&no_url).expect_code(2);
}

#[test]
fn flags_that_do_not_go_together_and_an_open_port_are_one_sentence_and_exit_2() {
    let servers = Servers::take();
    let user = ["query", "--api-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0", "--kafka-user", "u"];
    let open = ["query", "--api-addr", "127.0.0.1:0", "--admin-addr", "0.0.0.0:0"];
    let events = ["ingestor", "--ingest-addr", "127.0.0.1:0", "--events-addr", "0.0.0.0:0"];
    for (arguments, mend) in
        [(&user[..], "--kafka-user"), (&open, "--trust-network"), (&events, "--trust-network")]
    {
        let refused = servers.pulso(arguments).expect_code(2);
        let sentence = refused.stderr.lines().last().expect("a sentence");
        assert!(sentence.starts_with("error: ") && sentence.contains(mend), "{arguments:?}: {sentence}");
    }
}
