//! `GET /v1/tenants`: who has usage or a place in the catalog.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::Api;
use crate::http::format::json;
use crate::http::paging::{Paging, bad_token};
use crate::http::params::{Parameters, Strict, page_size};
use crate::problem::Problem;
use crate::read::wait::Until;

/// Parameters of the list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct TenantsParams {
    /// Most tenants of a page.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 1000, example = 100)]
    page_size: Option<String>,
    /// The `next_page_token` of the page before.
    page_token: Option<String>,
    /// Waits until this position, a receipt as `[generation:]partition:offset`, is folded.
    #[param(pattern = r"^([0-9]{1,7}:)?[0-9]{1,5}:[0-9]{1,12}$", example = "0:0")]
    wait_for: Option<String>,
}

impl Parameters for TenantsParams {}

/// A page of tenants.
#[derive(Serialize, ToSchema)]
pub(crate) struct Tenants {
    /// The tenants, by id.
    tenants: Vec<Tenant>,
    /// Asks for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next_page_token: Option<String>,
}

/// A tenant.
#[derive(Serialize, ToSchema)]
pub(crate) struct Tenant {
    /// Its id.
    #[schema(example = "acme")]
    tenant_id: String,
    /// Its name in the catalog.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "Acme Ltda", nullable = false)]
    name: Option<String>,
    /// Its name where it was imported from.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "Acme & Sons", nullable = false)]
    source_id: Option<String>,
}

/// Lists the tenants that Pulso knows.
///
/// Those with counted usage, and those that the catalog names.
#[utoipa::path(
    get,
    path = "/v1/tenants",
    operation_id = "listTenants",
    tag = "tenants",
    params(TenantsParams),
    responses((status = 200, description = "The tenants, by id.", body = Tenants)),
)]
pub(crate) async fn list_tenants(
    State(api): State<Arc<Api>>,
    asked: Strict<TenantsParams>,
) -> Result<Response, Problem> {
    let params = asked.params;
    let size = page_size(params.page_size.as_deref())?;
    let paging = Paging::new(&api.sources.hash_key, &["tenants"]);
    let after = paging.place(params.page_token.as_deref())?;
    let after = String::from_utf8(after.unwrap_or_default()).map_err(|_| bad_token())?;
    api.wait_for(params.wait_for.as_deref(), Until::Folded).await?;
    api.read(move |api| {
        let mut all = api.sources.tenants_after(&after, size + 1)?;
        let profiles = api.sources.profiles();
        all.extend(profiles.keys().filter(|tenant| **tenant > after).cloned());
        let mut page: Vec<String> = all.into_iter().take(size + 1).collect();
        let more = page.len() > size;
        page.truncate(size);
        let next_page_token = page.last().filter(|_| more).map(|last| paging.token(last.as_bytes()));
        let mut stored = api.sources.sources_of(&page)?;
        let tenants = page
            .into_iter()
            .map(|tenant_id| {
                let profile = profiles.get(&tenant_id);
                let named = profile.and_then(|profile| profile.source_id.clone());
                Tenant {
                    name: profile.and_then(|profile| profile.name.clone()),
                    source_id: named.or_else(|| stored.remove(&tenant_id)),
                    tenant_id,
                }
            })
            .collect();
        json(&Tenants { tenants, next_page_token })
    })
    .await
}
