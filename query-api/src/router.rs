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
    catalog, charges, dead_letters, explain, invoices, ledger, pages, pulses, tenants, usage,
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
    routes
        .with_state(Arc::new(Api { sources, settings }))
        .route("/", get(pages::home))
        .route("/errors", get(pages::errors))
        .route("/openapi.json", get(move || async move { pages::openapi(&document) }))
        .merge(pages::docs())
        .method_not_allowed_fallback(no_method)
        .fallback(no_path)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(room, finish))
}
