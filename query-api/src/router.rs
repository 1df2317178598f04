//! The routes and what stands around them. The document lists every route, since both come from one list.

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use tokio::sync::Semaphore;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::OpenApi;
use utoipa::openapi::OpenApi as Document;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::Api;
use crate::http::finish::{finish, no_method, no_path, panicked};
use crate::openapi::{Start, complete};
use crate::read::sources::Sources;
use crate::routes::{
    catalog, charges, dead_letters, desk, explain, invoices, ledger, pages, pulses, tenants, usage,
};
use crate::settings::QuerySettings;

fn operations() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::with_openapi(Start::openapi())
        .routes(routes!(tenants::list_tenants))
        .routes(routes!(usage::list_usage))
        .routes(routes!(charges::list_charges))
        .routes(routes!(invoices::list_invoices))
        .routes(routes!(invoices::get_invoice))
        .routes(routes!(explain::explain_line))
        .routes(routes!(pulses::get_pulse))
        .routes(routes!(ledger::get_ledger))
        .routes(routes!(dead_letters::list_dead_letters))
        .routes(routes!(dead_letters::get_dead_letter))
        .routes(routes!(desk::fix_dead_letter))
        .routes(routes!(desk::preview_dead_letters))
        .routes(routes!(desk::replay_dead_letters))
        .routes(routes!(desk::drop_dead_letters))
        .routes(routes!(catalog::get_catalog))
        .routes(routes!(catalog::plan_catalog))
        .routes(routes!(catalog::apply_catalog))
}

/// The OpenAPI document.
#[must_use]
pub fn openapi() -> Document {
    complete(operations().into_openapi())
}

/// Everything that the API serves.
pub fn router(settings: QuerySettings, sources: Sources) -> Router {
    crate::metrics::describe();
    let room = Arc::new(Semaphore::new(settings.requests_max.min(Semaphore::MAX_PERMITS)));
    let (routes, document) = operations().split_for_parts();
    let document: Arc<str> = complete(document).to_pretty_json().unwrap_or_default().into();
    let routes = routes
        .with_state(Arc::new(Api { sources, settings }))
        .route("/", get(pages::home))
        .route("/errors", get(pages::errors))
        .route("/openapi.json", get(move || async move { pages::openapi(&document) }))
        .merge(pages::docs());
    guarded(routes, room)
}

/// What stands around every route: unknown paths and methods, panics, room, the last word on answers.
fn guarded(routes: Router, room: Arc<Semaphore>) -> Router {
    routes
        .method_not_allowed_fallback(no_method)
        .fallback(no_path)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(room, finish))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_a_bare_problem_without_internals() {
        let panics = || async { panic!("secret") as &'static str };
        let router = guarded(Router::new().route("/v1/x", get(panics)), Arc::new(Semaphore::new(1)));
        let request = Request::get("/v1/x").body(Body::empty()).unwrap();
        let answer = router.oneshot(request).await.unwrap();
        assert_eq!(answer.status(), 500);
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&body);
        assert!(text.contains("\"code\":\"INTERNAL\"") && !text.contains("secret"), "{text}");
    }
}
