//! Every bad request gets its own code, names the field, and says how to mend it.

use axum::body::Body;
use axum::http::Request;

use crate::fixture::{World, pulse};

async fn filled() -> World {
    let mut world = World::new();
    world.count(vec![pulse("a", "1", "2026-03-01T00:00:00Z")]).await;
    world
}

#[tokio::test]
async fn unknown_and_repeated_parameters_are_refused_everywhere() {
    let world = filled().await;
    for path in [
        "/v1/tenants",
        "/v1/tenants/acme/usage",
        "/v1/tenants/acme/charges",
        "/v1/tenants/acme/invoices",
        "/v1/tenants/acme/invoices/acme-2026-03",
        "/v1/tenants/acme/invoices/acme-2026-03/lines/0000000000000000/explain",
        "/v1/catalog",
        "/v1/tenants/acme/pulses/a",
        "/v1/ledger",
        "/v1/dead-letters",
        "/v1/dead-letters/1:0:0:0",
    ] {
        world.problem(&format!("{path}?nonsense=1"), 400, "UNKNOWN_PARAMETER").await;
        world.problem(&format!("{path}?Wait_For=0:0"), 400, "UNKNOWN_PARAMETER").await;
        world.problem(&format!("{path}?wait_for=0:0&wait_for=0:0"), 400, "UNKNOWN_PARAMETER").await;
    }
}

#[tokio::test]
async fn a_bad_value_names_its_field() {
    let world = filled().await;
    let (usage, charges) = ("/v1/tenants/acme/usage", "/v1/tenants/acme/charges");
    for (path, field) in [
        (format!("{usage}?from=yesterday"), "from"),
        (format!("{usage}?from=2026-03-01"), "from"),
        (format!("{usage}?to=2026-02-30T00:00:00Z"), "to"),
        (format!("{usage}?from=2026-03-01T00:30:00Z&granularity=hour"), "from"),
        (format!("{usage}?from=2026-03-02T00:00:00Z&to=2026-03-01T00:00:00Z"), "to"),
        (format!("{usage}?from=2025-01-01T00:00:00Z&to=2026-03-01T00:00:00Z&granularity=hour"), "to"),
        (format!("{usage}?granularity=week"), "granularity"),
        (format!("{usage}?granularity="), "granularity"),
        (format!("{usage}?group_by=tags"), "group_by"),
        (format!("{usage}?group_by=region,region"), "group_by"),
        (format!("{usage}?group_by="), "group_by"),
        (format!("{usage}?product_sku="), "product_sku"),
        (format!("{usage}?page_size=0"), "page_size"),
        (format!("{usage}?page_size=1001"), "page_size"),
        (format!("{usage}?page_size=%2B5"), "page_size"),
        (format!("{usage}?page_size=ten"), "page_size"),
        (format!("{usage}?wait_for=1"), "wait_for"),
        (format!("{usage}?wait_for=9:0"), "wait_for"),
        (format!("{usage}?wait_for=0:-1"), "wait_for"),
        (format!("{usage}?wait_for=0:0:1:2"), "wait_for"),
        (format!("{usage}?wait_for=0:99999999999999999999"), "wait_for"),
        (format!("{charges}?period=2026-13"), "period"),
        (format!("{charges}?period=2026-1"), "period"),
        (format!("{charges}?period="), "period"),
        (format!("{charges}?period=2026-03&from=2026-03-01T00:00:00Z"), "period"),
        (format!("{charges}?from=2026-03-02T00:00:00Z"), "from"),
        (format!("{charges}?granularity=week&period=2026-03"), "granularity"),
        (format!("{charges}?page_size=0"), "page_size"),
        ("/v1/tenants/acme/invoices?page_size=0".to_owned(), "page_size"),
        ("/v1/tenants/acme/invoices/acme-2026-03?wait_for=x".to_owned(), "wait_for"),
        ("/v1/catalog?wait_for=x".to_owned(), "wait_for"),
        ("/v1/tenants/acme/pulses/a?position=1:2".to_owned(), "position"),
        ("/v1/tenants/acme/pulses/a?position=a:b:c".to_owned(), "position"),
        ("/v1/dead-letters?reason=BECAUSE".to_owned(), "reason"),
        ("/v1/dead-letters?tenant_id=a%20b".to_owned(), "tenant_id"),
        ("/v1/dead-letters?state=gone".to_owned(), "state"),
    ] {
        let problem = world.problem(&path, 400, "INVALID_PARAMETER").await;
        assert_eq!(problem["field"], field, "{path}");
    }
}

#[tokio::test]
async fn unknown_tenants_paths_and_methods_are_told() {
    let world = filled().await;
    for tenant in ["nobody", "a%20b", &"x".repeat(65), "%00"] {
        for what in ["usage", "charges", "invoices", "invoices/x", "invoices/x/lines/y/explain"] {
            world.problem(&format!("/v1/tenants/{tenant}/{what}"), 404, "TENANT_NOT_FOUND").await;
        }
    }
    for path in ["/v1", "/v2/tenants", "/v1/tenants/acme", "/v1/tenants/acme/usage/", "/v1/tenants/%ff/usage"]
    {
        world.problem(path, 404, "NOT_FOUND").await;
    }
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"] {
        let request = Request::builder().method(method).uri("/v1/ledger").body(Body::empty());
        let answer = world.answer(request.expect("a request")).await;
        answer.is_problem("/v1/ledger", 405, "METHOD_NOT_ALLOWED");
        assert_eq!(answer.header("allow"), "GET,HEAD", "{method}");
    }
}

#[tokio::test]
async fn a_type_that_is_not_offered_is_told() {
    let world = filled().await;
    let answer = world.get_as("/v1/tenants/acme/usage", "image/png").await;
    answer.is_problem("/v1/tenants/acme/usage", 406, "NOT_ACCEPTABLE");
    let answer = world.get_as("/v1/ledger", "text/csv").await;
    answer.is_problem("/v1/ledger", 406, "NOT_ACCEPTABLE");
}
