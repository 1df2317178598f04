//! The OpenAPI document: committed, complete, and served with its pages.

use std::path::Path;

use serde_json::Value;

use crate::fixture::World;

fn generated() -> String {
    let mut text = pulso_query_api::router::openapi().to_pretty_json().expect("JSON");
    text.push('\n');
    text
}

#[test]
fn the_committed_document_is_what_the_code_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(&path, generated()).expect("writes");
    }
    let committed = std::fs::read_to_string(&path).expect("query-api/openapi.json");
    assert!(
        committed == generated(),
        "run `UPDATE_OPENAPI=1 cargo test -p pulso-query-api` and commit the result"
    );
}

#[test]
fn every_operation_is_described_with_its_answers() {
    let document: Value = serde_json::from_str(&generated()).expect("JSON");
    assert_eq!(document["openapi"], "3.1.0");
    let mut ids = std::collections::BTreeSet::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let id = operation["operationId"].as_str().expect("an operationId");
            assert!(ids.insert(id.to_owned()), "{id} is there twice");
            for text in ["summary", "description"] {
                assert!(operation[text].is_string(), "{method} {path} has no {text}");
            }
            let responses = operation["responses"].as_object().expect("responses");
            assert!(responses.contains_key("200") && responses.contains_key("400"), "{method} {path}");
            assert_eq!(responses.contains_key("422"), method == "post", "{method} {path}");
            assert_eq!(responses.contains_key("504"), method == "get", "{method} {path}");
            for (status, response) in responses {
                assert!(response["description"].is_string(), "{method} {path} {status}");
                if status != "200" {
                    let content = &response["content"]["application/problem+json"];
                    assert_eq!(content["schema"]["$ref"], "#/components/schemas/Problem", "{path} {status}");
                    assert!(content["example"].is_object(), "{path} {status}");
                }
            }
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                assert!(parameter["description"].is_string(), "{method} {path} {parameter}");
            }
        }
    }
}

#[test]
fn every_reference_of_the_document_leads_somewhere() {
    let text = generated();
    let document: Value = serde_json::from_str(&text).expect("JSON");
    let references = text.split("\"$ref\": \"#").skip(1).map(|rest| rest.split('"').next().expect("ends"));
    for reference in references {
        assert!(document.pointer(reference).is_some(), "{reference}");
    }
}

#[tokio::test]
async fn every_path_of_the_document_is_served() {
    let world = World::new();
    let document = world.read("/openapi.json").await;
    assert_eq!(document, serde_json::from_str::<Value>(&generated()).expect("JSON"));
    for path in document["paths"].as_object().expect("paths").keys() {
        let concrete = path.replace("{tenant}", "acme").replace(['{', '}'], "");
        let answer = world.get(&concrete).await;
        assert!(answer.status != 404 || answer.json()["code"] != "NOT_FOUND", "{path}");
    }
}

#[tokio::test]
async fn pages_load_nothing_from_elsewhere_and_carry_their_headers() {
    let world = World::new();
    for path in ["/", "/errors", "/docs/", "/docs/swagger-initializer.js"] {
        let answer = world.get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        let text = answer.text().replace("http://www.w3.org", "");
        for elsewhere in ["src=\"http", "href=\"http", "url(http", "src=\"//", "href=\"//"] {
            assert!(!text.contains(elsewhere), "{path} has {elsewhere}");
        }
        assert!(answer.header("content-security-policy").starts_with("default-src 'self'"), "{path}");
    }
    assert!(world.get("/docs").await.status.is_redirection());
    assert!(world.get("/docs/swagger-initializer.js").await.text().contains("/openapi.json"));
    let answer = world.get("/v1/ledger").await;
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert_eq!(answer.header("content-security-policy"), "default-src 'none'; frame-ancestors 'none'");
    assert_eq!(answer.header("cache-control"), "no-store");
}
