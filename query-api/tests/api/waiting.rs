//! `?wait_for=`: read your own writes, within a bound.

use crate::fixture::{World, pulse};

#[tokio::test]
async fn a_read_waits_until_its_receipt_is_folded() {
    let mut world = World::new();
    world.count(vec![pulse("a", "1", "2026-03-01T00:00:00Z")]).await;
    let receipt = world.append(vec![pulse("b", "2", "2026-03-01T00:00:00Z")]).await;
    let path = format!("/v1/tenants/acme/usage?wait_for={}:{}", receipt.partition, receipt.offset);
    let router = world.router.clone();
    let (document, ()) = tokio::join!(read(router, path), async {
        tokio::task::yield_now().await;
        world.fold();
    });
    assert!(document.contains("\"quantity\":\"3\""), "{document}");
}

async fn read(router: axum::Router, path: String) -> String {
    use http_body_util::BodyExt;
    use tower::ServiceExt;
    let request = axum::http::Request::get(path).body(axum::body::Body::empty()).expect("a request");
    let response = router.oneshot(request).await.expect("never fails");
    String::from_utf8_lossy(&response.into_body().collect().await.expect("complete").to_bytes()).into_owned()
}

#[tokio::test]
async fn a_position_that_does_not_come_is_a_timeout() {
    let mut world = World::new();
    let receipt = world.count(vec![pulse("a", "1", "2026-03-01T00:00:00Z")]).await;
    let next = format!("{}:{}", receipt.partition, receipt.offset + 1);
    for path in [
        "/v1/tenants",
        "/v1/tenants/acme/usage",
        "/v1/tenants/acme/pulses/a",
        "/v1/ledger",
        "/v1/dead-letters",
    ] {
        for place in [next.clone(), format!("1:{next}"), format!("2:{next}")] {
            let problem = world.problem(&format!("{path}?wait_for={place}"), 504, "WAIT_TIMEOUT").await;
            assert_eq!(problem["field"], "wait_for");
        }
        world.read(&format!("{path}?wait_for={}:{}", receipt.partition, receipt.offset)).await;
    }
}
