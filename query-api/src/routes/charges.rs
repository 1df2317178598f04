//! `GET /v1/tenants/{tenant}/charges`: what usage costs, unrounded.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use pulso_domain::window::{Level, Window};
use pulso_pricing::charges::{Totals, totals};
use pulso_pricing::rate::{Charge, Unpriced};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::Api;
use crate::http::format::{Format, csv, json};
use crate::http::paging::Paging;
use crate::http::params::{Parameters, Segments, Strict, page_size};
use crate::problem::Problem;
use crate::read::charges::charge_place;
use crate::read::sources::Sources;
use crate::read::span::{Asked, Span};
use crate::read::wait::Until;
use crate::routes::usage::TenantPath;

/// Parameters of the list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ChargesParams {
    /// The month; not together with `from` and `to`. By default, without these, the current one.
    #[param(pattern = r"^[0-9]{4}-(0[1-9]|1[0-2])$", example = "2026-01")]
    period: Option<String>,
    /// The first instant, on a window's border; by default the first of the month of the end.
    #[param(format = "date-time", example = "2026-01-01T00:00:00Z")]
    from: Option<String>,
    /// The first instant beyond, on a window's border; by default the end of the present window. At most 62 days of
    /// hours, 400 days of days, 1200 months.
    #[param(format = "date-time", example = "2026-02-01T00:00:00Z")]
    to: Option<String>,
    /// The window of each row; by default the month.
    #[param(value_type = Option<super::usage::Granularity>)]
    granularity: Option<String>,
    /// Most rows of a page.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 1000, example = 100)]
    page_size: Option<String>,
    /// The `next_page_token` of the page before.
    page_token: Option<String>,
    /// Waits until this position, a receipt as `[generation:]partition:offset`, is folded and rated.
    #[param(pattern = r"^([0-9]{1,7}:)?[0-9]{1,5}:[0-9]{1,12}$", example = "0:0")]
    wait_for: Option<String>,
}

impl Parameters for ChargesParams {
    const FORMATS: &'static [Format] = &[Format::Json, Format::Csv];
}

/// A page of charges; totals and what has no price are those of the whole list.
#[derive(Serialize, ToSchema)]
pub(crate) struct Charges {
    /// The charges, by window, SKU, unit, region, price, tier.
    charges: Vec<ChargeRow>,
    /// The sums of the whole list.
    totals: Vec<ChargeTotals>,
    /// Usage that has no price: never billed at zero.
    unpriced: Vec<UnpricedUsage>,
    /// Asks for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next_page_token: Option<String>,
}

/// The quantity of one SKU, region and price tier in one window, with what it costs. Every cost is unit price x quantity.
#[derive(Serialize, ToSchema)]
#[schema(as = Charge)]
pub(crate) struct ChargeRow {
    /// The SKU.
    #[schema(example = "egress")]
    product_sku: String,
    /// The unit of the quantity and of the prices.
    #[schema(example = "GiB")]
    use_unit: String,
    /// The region; empty where pulses have none.
    #[schema(example = "br-se1")]
    region: String,
    /// The first instant of the window.
    #[schema(format = "date-time", example = "2026-01-01T00:00:00Z")]
    window_start: String,
    /// The first instant beyond it.
    #[schema(format = "date-time", example = "2026-02-01T00:00:00Z")]
    window_end: String,
    /// The tier of the price, from 1; absent for a flat one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 2, nullable = false)]
    tier: Option<u32>,
    /// How much.
    #[schema(example = "150")]
    quantity: String,
    /// The currency of all amounts.
    #[schema(example = "BRL")]
    currency: String,
    /// What the rate card says for a unit.
    #[schema(example = "0.35")]
    list_unit_price: String,
    /// What the tenant agreed for a unit.
    #[schema(example = "0.315")]
    contracted_unit_price: String,
    /// Quantity x list price.
    #[schema(example = "52.5")]
    list_cost: String,
    /// Quantity x agreed price.
    #[schema(example = "47.25")]
    contracted_cost: String,
    /// After commitments.
    #[schema(example = "47.25")]
    effective_cost: String,
    /// After allowances and credits.
    #[schema(example = "47.25")]
    billed_cost: String,
    /// The entry that gave the price.
    #[schema(example = "public@2026-01-01T00:00:00Z")]
    price_version: String,
}

/// Sums in one currency.
#[derive(Serialize, ToSchema)]
pub(crate) struct ChargeTotals {
    /// The currency.
    #[schema(example = "BRL")]
    currency: String,
    /// The sum of list costs.
    #[schema(example = "52.5")]
    list_cost: String,
    /// The sum of contracted costs.
    #[schema(example = "47.25")]
    contracted_cost: String,
    /// The sum of effective costs.
    #[schema(example = "47.25")]
    effective_cost: String,
    /// The sum of billed costs.
    #[schema(example = "47.25")]
    billed_cost: String,
}

/// Usage without a price.
#[derive(Serialize, ToSchema)]
pub(crate) struct UnpricedUsage {
    /// The SKU.
    #[schema(example = "gpu")]
    product_sku: String,
    /// The unit, as the pulses have it.
    #[schema(example = "GPU-Hours")]
    use_unit: String,
    /// The region; empty where pulses have none.
    #[schema(example = "br-se1")]
    region: String,
    /// How much.
    #[schema(example = "12")]
    quantity: String,
    /// Why it has none.
    #[schema(value_type = UnpricedReasonWord, example = "UNKNOWN_SKU")]
    reason: &'static str,
}

/// Why usage has no price.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[schema(as = UnpricedReason)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) enum UnpricedReasonWord {
    /// The catalog does not know the SKU.
    UnknownSku,
    /// The tenant has no contract at that time and no rate card is the default.
    NoRateCard,
    /// Neither the rate card nor the contract has a price at that time.
    NoPrice,
    /// The pulses' unit does not convert exactly to the SKU's.
    UnitMismatch,
    /// The cost does not fit the money type.
    Overflow,
}

const COLUMNS: [&str; 15] = [
    "product_sku",
    "use_unit",
    "region",
    "window_start",
    "window_end",
    "tier",
    "quantity",
    "currency",
    "list_unit_price",
    "contracted_unit_price",
    "list_cost",
    "contracted_cost",
    "effective_cost",
    "billed_cost",
    "price_version",
];

/// Lists a tenant's charges, unrounded.
///
/// A charge is SKU x unit x region x price tier x window. Months are as published; hours and days are rated on read under
/// the same catalog version. CSV has the same columns; the header `x-next-page-token` then asks for the next page.
#[utoipa::path(
    get,
    path = "/v1/tenants/{tenant}/charges",
    operation_id = "listCharges",
    tag = "money",
    params(TenantPath, ChargesParams),
    responses((
        status = 200,
        description = "The charges, by window, SKU, unit, region, price, tier.",
        content((Charges = "application/json"), (String = "text/csv")),
    )),
)]
pub(crate) async fn list_charges(
    State(api): State<Arc<Api>>,
    Segments(path): Segments<TenantPath>,
    asked: Strict<ChargesParams>,
) -> Result<Response, Problem> {
    let (params, format) = (asked.params, asked.format);
    let span = span(&params, &api.sources)?;
    let size = page_size(params.page_size.as_deref())?;
    let tenant = path.tenant;
    let ends = [span.first, span.end].map(|window| window.index().to_string());
    let request = ["charges", &tenant, span.level().as_str(), &ends[0], &ends[1]];
    let paging = Paging::new(&api.sources.hash_key, &request);
    let after = paging.place(params.page_token.as_deref())?;
    api.wait_for(params.wait_for.as_deref(), Until::Rated).await?;
    api.read(move |api| {
        api.known_tenant(&tenant)?;
        let rated = api.sources.charges(&tenant, &span)?;
        let totals = totals(&rated.charges).map_err(|error| Problem::internal(&error))?;
        let places = rated.charges.into_iter().map(|charge| (charge_place(&charge), charge));
        let rest = places.skip_while(|(place, _)| after.as_ref().is_some_and(|after| place <= after));
        let mut page: Vec<_> = rest.take(size + 1).collect();
        let more = page.len() > size;
        page.truncate(size);
        let next_page_token = page.last().filter(|_| more).map(|(place, _)| paging.token(place));
        let charges: Vec<_> = page.into_iter().map(|(_, charge)| ChargeRow::of(charge)).collect();
        if format == Format::Csv {
            return csv(&COLUMNS, &charges, next_page_token.as_deref());
        }
        let totals = totals.into_iter().map(ChargeTotals::of).collect();
        let unpriced = rated.unpriced.into_iter().map(UnpricedUsage::of).collect();
        json(&Charges { charges, totals, unpriced, next_page_token })
    })
    .await
}

fn span(params: &ChargesParams, sources: &Sources) -> Result<Span, Problem> {
    let (from, to) = (params.from.as_deref(), params.to.as_deref());
    let granularity = params.granularity.as_deref();
    let Some(period) = params.period.as_deref() else {
        return Span::read(Asked { from, to, granularity }, Some(Level::Month), sources.now());
    };
    if from.is_some() || to.is_some() {
        return Err(Problem::parameter("period", "give either period, or from and to"));
    }
    let month = Window::parse_month(period)
        .ok_or_else(|| Problem::parameter("period", "write a month as YYYY-MM, such as 2026-01"))?;
    let (from, to) = (month.start().to_string(), month.end().to_string());
    match granularity {
        None | Some("month") => Ok(Span::of(month)),
        _ => Span::read(Asked { from: Some(&from), to: Some(&to), granularity }, None, sources.now()),
    }
}

impl ChargeRow {
    /// A charge as it is shown.
    pub(crate) fn of(charge: Charge) -> Self {
        Self {
            product_sku: charge.product_sku,
            use_unit: charge.use_unit,
            region: charge.region,
            window_start: charge.window.start().to_string(),
            window_end: charge.window.end().to_string(),
            tier: charge.tier,
            quantity: charge.quantity.to_string(),
            currency: charge.currency,
            list_unit_price: charge.list_unit_price.to_string(),
            contracted_unit_price: charge.contracted_unit_price.to_string(),
            list_cost: charge.list_cost.to_string(),
            contracted_cost: charge.contracted_cost.to_string(),
            effective_cost: charge.effective_cost.to_string(),
            billed_cost: charge.billed_cost.to_string(),
            price_version: charge.price_version,
        }
    }
}

impl ChargeTotals {
    fn of(totals: Totals) -> Self {
        Self {
            currency: totals.currency,
            list_cost: totals.list_cost.to_string(),
            contracted_cost: totals.contracted_cost.to_string(),
            effective_cost: totals.effective_cost.to_string(),
            billed_cost: totals.billed_cost.to_string(),
        }
    }
}

impl UnpricedUsage {
    fn of(unpriced: Unpriced) -> Self {
        Self {
            product_sku: unpriced.product_sku,
            use_unit: unpriced.use_unit,
            region: unpriced.region,
            quantity: unpriced.quantity.to_string(),
            reason: unpriced.reason.as_str(),
        }
    }
}
