//! Events over HTTP against the real binary: durable when answered, counted once however they come.

use serde_json::{Value, json};

use crate::harness::{Server, now, post_event, pulse_line, pulso};

fn event(id: &str, at: &str) -> Value {
    json!({
        "specversion": "1.0", "id": id, "source": "/meters/7", "type": "block-storage", "subject": "acme", "time": at,
        "data": { "used_amount": "1.5", "use_unit": "GiB-Hours" },
    })
}

fn counted(server: &Server, receipt: &Value) -> Value {
    let place = format!("{}:{}:{}", receipt["generation"], receipt["partition"], receipt["offset"]);
    let (status, usage) = server.get(&format!("/v1/tenants/acme/usage?granularity=month&wait_for={place}"));
    assert_eq!(status, 200, "{usage}");
    json!([usage["usage"][0]["quantity"], usage["usage"][0]["count"]])
}

#[test]
fn g03_an_event_counts_once_over_http_over_grpc_and_after_a_kill() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let flags = ["--events-addr", "127.0.0.1:0"];
    let mut server = Server::start_with(&data, &flags);
    let at = now();
    let (status, answer) =
        post_event(&server, "application/cloudevents+json", &event("p-1", &at).to_string());
    assert_eq!((status, &answer["status"]), (200, &json!("ACCEPTED")), "{answer}");
    server.kill();

    let server = Server::start_with(&data, &flags);
    assert_eq!(counted(&server, &answer["receipt"]), json!(["1.5", 1]));
    let batch = json!([event("p-1", &at), event("p-2", &at)]).to_string();
    let (status, again) = post_event(&server, "application/cloudevents-batch+json", &batch);
    assert_eq!(status, 200, "{again}");
    let line = pulse_line(&[("id", "p-2"), ("occurred_at", &at)]);
    server.client_with_input(&["send", "-"], &line).expect_code(0);
    let (status, last) =
        post_event(&server, "application/json", &pulse_line(&[("id", "p-3"), ("occurred_at", &at)]));
    assert_eq!(status, 200, "{last}");
    assert_eq!(counted(&server, &last["receipt"]), json!(["4.5", 3]));
    assert_eq!(server.stop(), 0);
    pulso(&["audit", "--data-dir", data.to_str().expect("UTF-8")]).expect_code(0);
}

#[test]
fn the_ready_line_names_the_listener_last_and_only_if_there_is_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start_with(&folder.path().join("data"), &["--events-addr", "127.0.0.1:0"]);
    assert!(server.address("events").starts_with("127.0.0.1:"));
    let (status, problem) = post_event(&server, "application/json", &pulse_line(&[("used_amount", "1,5")]));
    assert_eq!((status, &problem["code"]), (422, &json!("INVALID_AMOUNT")));
    assert_eq!(server.stop(), 0);
    let server = Server::start(&folder.path().join("other"));
    assert_eq!(server.ready().get("events"), None);
    pulso(&["dev", "--events-addr", "0.0.0.0:0"]).expect_code(2);
}
