//! The catalog over HTTP: planned, applied, refused whole.

use std::time::Duration;

use pulso_query_api::settings::QuerySettings;
use serde_json::json;

use crate::fixture::{World, pulse};
use crate::money::{CATALOG, rows};

#[tokio::test]
async fn a_document_is_planned_applied_and_read_back() {
    let world = World::new();
    let empty = world.get("/v1/catalog").await;
    assert_eq!((empty.header("etag"), empty.json()["skus"].clone()), ("\"0\"", json!([])));
    let planned = world.post("/v1/catalog:plan", "application/yaml", CATALOG).await.json();
    assert_eq!(planned["version"], 1);
    assert!(rows(&planned, "changes").iter().all(|change| change["action"] == "added"));
    assert_eq!(world.get("/v1/catalog").await.header("etag"), "\"0\"", "a plan changes nothing");
    let applied = world.post("/v1/catalog:apply", "application/yaml; charset=utf-8", CATALOG).await.json();
    assert_eq!(applied, planned);
    let stored = world.get("/v1/catalog").await;
    assert_eq!(stored.header("etag"), "\"1\"");
    let again = world.post("/v1/catalog:apply?mode=replace", "application/json", stored.bytes).await.json();
    assert_eq!(again, json!({ "version": 1, "changes": [] }));
    let more = json!({ "tenants": [{ "tenant_id": "other", "name": "Other" }] }).to_string();
    let merged = world.post("/v1/catalog:apply?mode=merge", "application/json", more).await.json();
    assert_eq!(merged["version"], 2);
    let tenants = world.read("/v1/tenants").await;
    assert_eq!(rows(&tenants, "tenants").len(), 2, "a tenant of the catalog is known before it has usage");
    let charges = world.read("/v1/tenants/other/charges").await;
    assert_eq!(charges["charges"], json!([]));
}

#[tokio::test]
async fn charges_follow_an_applied_catalog() {
    let mut world = World::new();
    world.count(vec![pulse("a", "10", "2026-03-01T00:00:00Z")]).await;
    world.rate();
    let before = world.read("/v1/tenants/acme/charges").await;
    assert_eq!(
        (rows(&before, "charges").len(), &before["unpriced"][0]["reason"]),
        (0, &json!("UNKNOWN_SKU"))
    );
    assert_eq!(world.post("/v1/catalog:apply", "application/yaml", CATALOG).await.status, 200);
    world.rate();
    let after = world.read("/v1/tenants/acme/charges").await;
    assert_eq!(
        (after["charges"][0]["list_cost"].as_str(), &after["unpriced"]),
        (Some("1.23456789"), &json!([]))
    );
}

#[tokio::test]
async fn a_bad_document_is_refused_whole_and_every_place_is_named() {
    let world = World::new();
    let bad = CATALOG.replace("\"0.123456789\"", "0.5").replace("up_to: \"25\"", "up_to: \"5\"");
    for path in ["/v1/catalog:plan", "/v1/catalog:apply"] {
        let answer = world.post(path, "application/yaml", bad.clone()).await;
        let problem = answer.is_problem(path, 422, "INVALID_CATALOG");
        assert!(!rows(&problem, "errors").is_empty());
        for error in rows(&problem, "errors") {
            assert!(error["pointer"].as_str().is_some_and(|pointer| pointer.starts_with('/')), "{error}");
            assert!(error["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{error}");
            assert!(error["line"].as_u64().is_some_and(|line| line > 0), "{error}");
        }
        for (content_type, body, status, code) in [
            ("application/json", "{", 400, "INVALID_BODY"),
            ("application/json", "", 400, "INVALID_BODY"),
            ("application/json", "\u{0}", 400, "INVALID_BODY"),
            ("application/yaml", "a: [", 400, "INVALID_BODY"),
            ("application/json", "[]", 422, "INVALID_CATALOG"),
            ("application/json", r#"{"nonsense":[]}"#, 422, "INVALID_CATALOG"),
            ("text/plain", "{}", 415, "UNSUPPORTED_MEDIA_TYPE"),
            ("application/x-www-form-urlencoded", "a=b", 415, "UNSUPPORTED_MEDIA_TYPE"),
        ] {
            world.post(path, content_type, body).await.is_problem(path, status, code);
        }
        let both = format!("{path}?mode=both");
        world.post(&both, "application/json", "{}").await.is_problem(&both, 400, "INVALID_PARAMETER");
        let other = format!("{path}?dry_run=1");
        world.post(&other, "application/json", "{}").await.is_problem(&other, 400, "UNKNOWN_PARAMETER");
    }
    assert_eq!(world.get("/v1/catalog").await.header("etag"), "\"0\"");
}

#[tokio::test]
async fn g11_a_body_over_the_bound_or_too_slow_is_refused() {
    let settings = QuerySettings {
        body_bytes_max: 100,
        body_wait_max: Duration::from_millis(50),
        ..QuerySettings::default()
    };
    let world = World::with(settings);
    let path = "/v1/catalog:plan";
    let answer = world.post(path, "application/json", " ".repeat(101)).await;
    answer.is_problem(path, 413, "BODY_TOO_LARGE");
    world.post(path, "application/json", "{}").await;
    let pending = axum::body::Body::new(Endless);
    world.post(path, "application/json", pending).await.is_problem(path, 408, "REQUEST_TIMEOUT");
    let crowded = World::with(QuerySettings { requests_max: 0, ..QuerySettings::default() });
    let answer = crowded.get("/v1/ledger").await;
    answer.is_problem("/v1/ledger", 503, "OVERLOADED");
    assert_eq!(answer.header("retry-after"), "1");
}

/// A body of which nothing comes.
struct Endless;

impl http_body::Body for Endless {
    type Data = bytes::Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        std::task::Poll::Pending
    }
}
