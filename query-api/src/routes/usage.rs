//! `GET /v1/tenants/{tenant}/usage`: quantities, before any price.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use pulso_domain::position::{Rank, partition_index};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::Api;
use crate::http::format::{Format, csv, json};
use crate::http::paging::{Paging, bad_token};
use crate::http::params::{Parameters, Segments, Strict, page_size};
use crate::problem::Problem;
use crate::read::sources::Sources;
use crate::read::span::{Asked, Span};
use crate::read::usage::{Group, GroupBy, GroupKey, UsageQuery};
use crate::read::wait::Until;

/// How often a page is read again when a checkpoint came in between.
const READS_MAX: u32 = 3;

/// The tenant in the path.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct TenantPath {
    /// Whose.
    #[param(pattern = r"^[A-Za-z0-9._-]{1,64}$", example = "acme")]
    pub(crate) tenant: String,
}

/// Parameters of the list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct UsageParams {
    /// The first instant, on a window's border; by default the first of the month of the end.
    #[param(format = "date-time", example = "2026-01-01T00:00:00Z")]
    from: Option<String>,
    /// The first instant beyond, on a window's border; by default the end of the present window. At most 62 days of
    /// hours, 400 days of days, 1200 months.
    #[param(format = "date-time", example = "2026-02-01T00:00:00Z")]
    to: Option<String>,
    /// The window of each row; by default the coarsest whose borders `from` and `to` lie on.
    #[param(value_type = Option<super::usage::Granularity>)]
    granularity: Option<String>,
    /// One SKU only.
    #[param(min_length = 1, max_length = 128, example = "block-storage")]
    product_sku: Option<String>,
    /// Splits rows by `region`, `resource_id` or both, with a comma between; rows have these fields only then.
    #[param(pattern = r"^(region|resource_id|region,resource_id|resource_id,region)$", example = "region")]
    group_by: Option<String>,
    /// Most rows of a page.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 1000, example = 100)]
    page_size: Option<String>,
    /// The `next_page_token` of the page before.
    page_token: Option<String>,
    /// Waits until this position, a receipt as `[generation:]partition:offset`, is folded.
    #[param(pattern = r"^([0-9]{1,7}:)?[0-9]{1,5}:[0-9]{1,12}$", example = "0:0")]
    wait_for: Option<String>,
}

impl Parameters for UsageParams {
    const FORMATS: &'static [Format] = &[Format::Json, Format::Csv];
}

/// The window of a row.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) enum Granularity {
    /// An hour.
    Hour,
    /// A day in UTC.
    Day,
    /// A calendar month in UTC.
    Month,
}

/// A page of usage.
#[derive(Serialize, ToSchema)]
pub(crate) struct Usage {
    /// The rows, by window, SKU, unit, region, resource.
    usage: Vec<UsageRecord>,
    /// How far the log is counted in these rows.
    as_of: Vec<AsOf>,
    /// Asks for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next_page_token: Option<String>,
}

/// How far a partition of the log is counted.
#[derive(Serialize, ToSchema)]
pub(crate) struct AsOf {
    /// The partition.
    partition: u32,
    /// The generation.
    generation: u32,
    /// The first offset that is not counted.
    offset: u64,
}

/// The quantity of one SKU in one window.
#[derive(Serialize, ToSchema)]
#[schema(as = UsageRecord)]
pub(crate) struct UsageRecord {
    /// The SKU.
    #[schema(example = "block-storage")]
    product_sku: String,
    /// The unit of the amounts, as the pulses have it.
    #[schema(example = "GiB-Hours")]
    use_unit: String,
    /// The region; only when split by it, empty where pulses have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "br-se1", nullable = false)]
    region: Option<String>,
    /// The resource; only when split by it, empty where pulses have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "volume-17", nullable = false)]
    resource_id: Option<String>,
    /// The first instant of the window.
    #[schema(format = "date-time", example = "2026-01-01T00:00:00Z")]
    window_start: String,
    /// The first instant beyond it.
    #[schema(format = "date-time", example = "2026-02-01T00:00:00Z")]
    window_end: String,
    /// The sum of the amounts, as decimal text.
    #[schema(example = "1234.5")]
    quantity: String,
    /// How many pulses.
    count: u64,
    /// The smallest amount.
    #[schema(example = "0.5")]
    min: String,
    /// The largest amount.
    #[schema(example = "12")]
    max: String,
    /// The amount with the latest time.
    #[schema(example = "3")]
    last: String,
}

/// Lists a tenant's usage.
///
/// A row is SKU x unit x window, or finer by `group_by`. Windows lie in UTC and are half-open. CSV has the same columns;
/// the header `x-next-page-token` then asks for the next page.
#[utoipa::path(
    get,
    path = "/v1/tenants/{tenant}/usage",
    operation_id = "listUsage",
    tag = "usage",
    params(TenantPath, UsageParams),
    responses((
        status = 200,
        description = "The usage, by window, SKU, unit, region, resource.",
        content((Usage = "application/json"), (String = "text/csv")),
    )),
)]
pub(crate) async fn list_usage(
    State(api): State<Arc<Api>>,
    Segments(path): Segments<TenantPath>,
    asked: Strict<UsageParams>,
) -> Result<Response, Problem> {
    let (params, format) = (asked.params, asked.format);
    let query = query(path.tenant, &params, &api.sources)?;
    let size = page_size(params.page_size.as_deref())?;
    let paging = paging(&api, &query);
    let after = match paging.place(params.page_token.as_deref())? {
        None => None,
        Some(place) => Some(GroupKey::decode(&query.span, &place).ok_or_else(bad_token)?),
    };
    api.wait_for(params.wait_for.as_deref(), Until::Folded).await?;
    api.read(move |api| {
        api.known_tenant(&query.tenant_id)?;
        let (mut groups, folded) = settled(&api.sources, &query, after.as_ref(), size + 1)?;
        let more = groups.len() > size;
        groups.truncate(size);
        let next_page_token = groups.last().filter(|_| more).map(|(key, _)| paging.token(&key.encode()));
        let usage: Vec<_> = groups.into_iter().map(|group| record(group, query.group_by)).collect();
        if format == Format::Csv {
            return csv(&columns(query.group_by), &usage, next_page_token.as_deref());
        }
        let partition = partition_index(api.sources.partition_at(&query.tenant_id, folded));
        let as_of = AsOf { partition, generation: folded.generation(), offset: folded.offset() };
        json(&Usage { usage, as_of: vec![as_of], next_page_token })
    })
    .await
}

fn query(tenant_id: String, params: &UsageParams, sources: &Sources) -> Result<UsageQuery, Problem> {
    let asked = Asked {
        from: params.from.as_deref(),
        to: params.to.as_deref(),
        granularity: params.granularity.as_deref(),
    };
    let sku = params.product_sku.as_deref();
    if sku.is_some_and(|sku| sku.is_empty() || sku.len() > 128) {
        return Err(Problem::parameter("product_sku", "name a SKU of 1 to 128 bytes"));
    }
    Ok(UsageQuery {
        tenant_id,
        span: Span::read(asked, None, sources.now())?,
        product_sku: sku.map(str::to_owned),
        group_by: group_by(params.group_by.as_deref())?,
    })
}

fn group_by(text: Option<&str>) -> Result<GroupBy, Problem> {
    let mut group_by = GroupBy::default();
    for field in text.into_iter().flat_map(|text| text.split(',')) {
        let flag = match field {
            "region" => &mut group_by.region,
            "resource_id" => &mut group_by.resource_id,
            _ => return Err(Problem::parameter("group_by", "use region, resource_id, or both with a comma")),
        };
        if std::mem::replace(flag, true) {
            return Err(Problem::parameter("group_by", format!("name {field} once")));
        }
    }
    Ok(group_by)
}

/// The span is named as it was understood: a page token of a list "to date" goes on where it began.
fn paging(api: &Api, query: &UsageQuery) -> Paging {
    let span = [query.span.first, query.span.end].map(|window| window.index().to_string());
    let group_by = format!("{:?}", query.group_by);
    let sku = query.product_sku.as_deref().unwrap_or_default();
    let level = query.span.level().as_str();
    let parts = ["usage", &query.tenant_id, level, &span[0], &span[1], sku, &group_by];
    Paging::new(&api.sources.hash_key, &parts)
}

/// Rows, and the rank that all of them are counted through: read again when a checkpoint came in between.
fn settled(
    sources: &Sources,
    query: &UsageQuery,
    after: Option<&GroupKey>,
    most: usize,
) -> Result<(Vec<Group>, Rank), Problem> {
    let mut before = sources.tenant_through(&query.tenant_id)?;
    for _ in 1..READS_MAX {
        let groups = sources.usage(query, after, most)?;
        let now = sources.tenant_through(&query.tenant_id)?;
        if now == before {
            return Ok((groups, now));
        }
        before = now;
    }
    Ok((sources.usage(query, after, most)?, before))
}

fn record((key, row): Group, group_by: GroupBy) -> UsageRecord {
    UsageRecord {
        product_sku: key.product_sku,
        use_unit: key.use_unit,
        region: group_by.region.then_some(key.region),
        resource_id: group_by.resource_id.then_some(key.resource_id),
        window_start: key.window.start().to_string(),
        window_end: key.window.end().to_string(),
        quantity: row.sum.to_string(),
        count: row.count,
        min: row.min.to_string(),
        max: row.max.to_string(),
        last: row.last.to_string(),
    }
}

fn columns(group_by: GroupBy) -> Vec<&'static str> {
    let mut columns = vec!["product_sku", "use_unit"];
    columns.extend(group_by.region.then_some("region"));
    columns.extend(group_by.resource_id.then_some("resource_id"));
    columns.extend(["window_start", "window_end", "quantity", "count", "min", "max", "last"]);
    columns
}
