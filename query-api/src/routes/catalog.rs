//! `GET /v1/catalog`, `POST /v1/catalog:plan` and `:apply`: what things cost, and how that changes.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use pulso_pricing::catalog::{Change, ChangeKind, Format, Mode, ParseError, Parsed, parse};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::Api;
use crate::http::body::{self, BodyBounds};
use crate::http::format::json;
use crate::http::params::{Parameters, Strict};
use crate::problem::{Code, Problem};
use crate::read::wait::Until;
use crate::routes::document::CatalogDocument;

/// Parameters of the read.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct CatalogParams {
    /// Waits until this position, a receipt as `[generation:]partition:offset`, is folded.
    #[param(pattern = r"^([0-9]{1,7}:)?[0-9]{1,5}:[0-9]{1,12}$", example = "0:0")]
    wait_for: Option<String>,
}

impl Parameters for CatalogParams {}

/// Parameters of plan and apply.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ChangeParams {
    /// `replace` (default): the document is the whole catalog. `merge`: its entries are added, or replace those of the
    /// same key.
    #[param(value_type = Option<ModeWord>)]
    mode: Option<String>,
}

impl Parameters for ChangeParams {}

/// What happens to what is there already.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = CatalogMode)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) enum ModeWord {
    /// The document becomes the whole catalog.
    Replace,
    /// Its entries are added, or replace those of the same key.
    Merge,
}

/// What a document changes.
#[derive(Serialize, ToSchema)]
pub(crate) struct CatalogChanges {
    /// The catalog version behind the change; the present one when nothing changes.
    version: u64,
    /// The differences, entry by entry.
    changes: Vec<CatalogChange>,
}

/// One entry that changes.
#[derive(Serialize, ToSchema)]
pub(crate) struct CatalogChange {
    /// What happens.
    #[schema(value_type = ActionWord)]
    action: &'static str,
    /// Of which list: `sku`, `rate_card`, `price`, `contract` or `tenant`.
    #[schema(example = "price")]
    kind: &'static str,
    /// Its key.
    #[schema(example = "public egress br-se1 2026-01-01T00:00:00Z")]
    key: String,
}

/// What happens to an entry.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = CatalogAction)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) enum ActionWord {
    /// It is new.
    Added,
    /// It is there with another content.
    Changed,
    /// It will be gone.
    Removed,
}

/// Shows the catalog in force.
///
/// The whole document, as it can be applied again; its version is the entity tag. Before the first apply it is empty.
#[utoipa::path(
    get,
    path = "/v1/catalog",
    operation_id = "getCatalog",
    tag = "catalog",
    params(CatalogParams),
    responses((status = 200, description = "The catalog document.", body = CatalogDocument)),
)]
pub(crate) async fn get_catalog(
    State(api): State<Arc<Api>>,
    asked: Strict<CatalogParams>,
) -> Result<Response, Problem> {
    api.wait_for(asked.params.wait_for.as_deref(), Until::Folded).await?;
    api.read(|api| {
        let catalog = api.sources.pricing.catalog();
        let mut response = json(catalog.document())?;
        let version = HeaderValue::from_str(&format!("\"{}\"", catalog.version()));
        response.headers_mut().extend(version.ok().map(|version| (header::ETAG, version)));
        Ok(response)
    })
    .await
}

/// Plans a catalog document.
///
/// Checks the document and says what applying it would change; changes nothing.
#[utoipa::path(
    post,
    path = "/v1/catalog:plan",
    operation_id = "planCatalog",
    tag = "catalog",
    params(ChangeParams),
    request_body(content((CatalogDocument = "application/json"), (CatalogDocument = "application/yaml"))),
    responses((status = 200, description = "What would change.", body = CatalogChanges)),
)]
pub(crate) async fn plan_catalog(
    State(api): State<Arc<Api>>,
    asked: Strict<ChangeParams>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let mode = mode(asked.params.mode.as_deref())?;
    let sent = document(&api, &headers, body).await?;
    api.read(move |api| {
        let pricing = &api.sources.pricing;
        let plan = pricing.plan(&parsed(sent)?, mode)?;
        let version = pricing.catalog().version() + u64::from(!plan.changes.is_empty());
        json(&CatalogChanges { version, changes: plan.changes.into_iter().map(shown).collect() })
    })
    .await
}

/// Applies a catalog document.
///
/// As a whole or not at all, as a new version; charges of open periods follow before it answers, within the bound of a
/// wait. Applying a document again changes nothing.
#[utoipa::path(
    post,
    path = "/v1/catalog:apply",
    operation_id = "applyCatalog",
    tag = "catalog",
    params(ChangeParams),
    request_body(content((CatalogDocument = "application/json"), (CatalogDocument = "application/yaml"))),
    responses((status = 200, description = "What changed.", body = CatalogChanges)),
)]
pub(crate) async fn apply_catalog(
    State(api): State<Arc<Api>>,
    asked: Strict<ChangeParams>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let mode = mode(asked.params.mode.as_deref())?;
    let sent = document(&api, &headers, body).await?;
    api.read(move |api| {
        let pricing = &api.sources.pricing;
        let applied = pricing.apply(&parsed(sent)?, mode)?;
        if !applied.changes.is_empty() && !pricing.settled(api.settings.wait_max) {
            tracing::info!(version = applied.version, "charges still follow the catalog that was applied");
        }
        let changes = applied.changes.into_iter().map(shown).collect();
        json(&CatalogChanges { version: applied.version, changes })
    })
    .await
}

fn mode(text: Option<&str>) -> Result<Mode, Problem> {
    let Some(text) = text else { return Ok(Mode::default()) };
    Mode::parse(text).ok_or_else(|| Problem::parameter("mode", "use replace or merge"))
}

/// The text that was sent, and what it is.
async fn document(api: &Api, headers: &HeaderMap, sent: Body) -> Result<(Vec<u8>, Format), Problem> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let format = content_type.and_then(Format::of_content_type).ok_or_else(|| {
        let mend = "send application/json or application/yaml, and say so in Content-Type";
        Problem::new(Code::UnsupportedMediaType, mend)
    })?;
    let (bytes_max, wait_max) = (api.settings.body_bytes_max, api.settings.body_wait_max);
    let bytes = body::read(headers, sent, BodyBounds { bytes_max, wait_max }).await?;
    Ok((bytes.to_vec(), format))
}

fn parsed((bytes, format): (Vec<u8>, Format)) -> Result<Parsed, Problem> {
    parse(&bytes, format).map_err(|error| match error {
        ParseError::Malformed(_) => Problem::new(Code::InvalidBody, error.to_string()),
        ParseError::Invalid(errors) => Problem::invalid_catalog(errors),
    })
}

fn shown(change: Change) -> CatalogChange {
    let action = match change.change {
        ChangeKind::Added => "added",
        ChangeKind::Changed => "changed",
        ChangeKind::Removed => "removed",
    };
    CatalogChange { action, kind: change.entry, key: change.key }
}
