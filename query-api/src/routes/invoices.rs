//! `GET /v1/tenants/{tenant}/invoices` and one of them: what a tenant owes for a month, rounded once per line.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use pulso_domain::window::{Level, Window};
use pulso_pricing::invoice::{Invoice, InvoiceLine};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::Api;
use crate::http::format::json;
use crate::http::paging::{Paging, bad_token};
use crate::http::params::{Parameters, Segments, Strict, page_size};
use crate::problem::Problem;
use crate::read::wait::Until;
use crate::routes::usage::TenantPath;

/// Months of one tenant that are looked at: longer than any tenant lives.
const MONTHS_MAX: usize = 12_000;

/// Parameters of the list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct InvoicesParams {
    /// Most invoices of a page.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 1000, example = 100)]
    page_size: Option<String>,
    /// The `next_page_token` of the page before.
    page_token: Option<String>,
    /// Waits until this position, a receipt as `[generation:]partition:offset`, is folded and rated.
    #[param(pattern = r"^([0-9]{1,7}:)?[0-9]{1,5}:[0-9]{1,12}$", example = "0:0")]
    wait_for: Option<String>,
}

impl Parameters for InvoicesParams {}

/// Parameters of one invoice.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct InvoiceParams {
    /// Waits until this position, a receipt as `[generation:]partition:offset`, is folded and rated.
    #[param(pattern = r"^([0-9]{1,7}:)?[0-9]{1,5}:[0-9]{1,12}$", example = "0:0")]
    wait_for: Option<String>,
}

impl Parameters for InvoiceParams {}

/// The invoice in the path.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct InvoicePath {
    /// Whose.
    #[param(pattern = r"^[A-Za-z0-9._-]{1,64}$", example = "acme")]
    tenant: String,
    /// The invoice's id, as the list has it.
    #[param(pattern = r"^[A-Za-z0-9._-]{1,80}$", example = "acme-2026-01")]
    invoice: String,
}

/// A page of invoices.
#[derive(Serialize, ToSchema)]
pub(crate) struct Invoices {
    /// The invoices, by period.
    invoices: Vec<InvoiceSummary>,
    /// Asks for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next_page_token: Option<String>,
}

/// An invoice without its lines.
#[derive(Serialize, ToSchema)]
pub(crate) struct InvoiceSummary {
    /// Its id.
    #[schema(example = "acme-2026-01")]
    invoice_id: String,
    /// The month.
    #[schema(example = "2026-01")]
    period: String,
    /// The currency of all amounts.
    #[schema(example = "BRL")]
    currency: String,
    /// `draft` follows its charges.
    #[schema(value_type = InvoiceStateWord)]
    state: &'static str,
    /// The sum of its lines.
    #[schema(example = "47.25")]
    total: String,
}

/// Whether an invoice may still change.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = InvoiceState)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) enum InvoiceStateWord {
    /// It follows its charges.
    Draft,
    /// It never changes.
    Final,
}

/// An invoice.
#[derive(Serialize, ToSchema)]
#[schema(as = Invoice)]
pub(crate) struct InvoiceDocument {
    /// What the list shows of it.
    #[serde(flatten)]
    summary: InvoiceSummary,
    /// Who owes it.
    #[schema(example = "acme")]
    tenant_id: String,
    /// By SKU, unit, region, tier. They add up to the total.
    lines: Vec<Line>,
    /// Later corrections of earlier periods.
    adjustments: Vec<Line>,
}

/// All charges of one SKU, unit, region and tier, rounded once.
#[derive(Serialize, ToSchema)]
#[schema(as = InvoiceLine)]
pub(crate) struct Line {
    /// Its id, the same in every month.
    #[schema(example = "85944171f73967e8")]
    line_id: String,
    /// The SKU.
    #[schema(example = "egress")]
    product_sku: String,
    /// The unit of the quantity.
    #[schema(example = "GiB")]
    use_unit: String,
    /// The region; empty where pulses have none.
    #[schema(example = "br-se1")]
    region: String,
    /// The tier of the price, from 1; absent for a flat one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 2, nullable = false)]
    tier: Option<u32>,
    /// How much.
    #[schema(example = "150")]
    quantity: String,
    /// What it costs before rounding.
    #[schema(example = "47.25")]
    billed_cost: String,
    /// What it costs, rounded to the currency's minor unit.
    #[schema(example = "47.25")]
    amount: String,
}

/// Lists a tenant's invoices.
///
/// One for each month with usage, by period; one more per currency where a contract changed it within the month.
#[utoipa::path(
    get,
    path = "/v1/tenants/{tenant}/invoices",
    operation_id = "listInvoices",
    tag = "money",
    params(TenantPath, InvoicesParams),
    responses((status = 200, description = "The invoices, by period.", body = Invoices)),
)]
pub(crate) async fn list_invoices(
    State(api): State<Arc<Api>>,
    Segments(path): Segments<TenantPath>,
    asked: Strict<InvoicesParams>,
) -> Result<Response, Problem> {
    let params = asked.params;
    let size = page_size(params.page_size.as_deref())?;
    let tenant = path.tenant;
    let paging = Paging::new(&api.sources.hash_key, &["invoices", &tenant]);
    let after = match paging.place(params.page_token.as_deref())? {
        None => None,
        Some(place) => Some(read_place(&place).ok_or_else(bad_token)?),
    };
    api.wait_for(params.wait_for.as_deref(), Until::Rated).await?;
    api.read(move |api| {
        api.known_tenant(&tenant)?;
        let mut invoices: Vec<Invoice> = Vec::new();
        for month in api.sources.months_of(&tenant, MONTHS_MAX)? {
            if after.as_ref().is_some_and(|(begun, _)| month < *begun) {
                continue;
            }
            let here = api.sources.invoices_of(&tenant, month)?.into_iter();
            invoices.extend(here.filter(|one| {
                after.as_ref().is_none_or(|(begun, id)| (one.period, &one.invoice_id) > (*begun, id))
            }));
            if invoices.len() > size {
                break;
            }
        }
        let more = invoices.len() > size;
        invoices.truncate(size);
        let next_page_token = invoices.last().filter(|_| more).map(|last| paging.token(&place(last)));
        json(&Invoices { invoices: invoices.iter().map(InvoiceSummary::of).collect(), next_page_token })
    })
    .await
}

fn place(invoice: &Invoice) -> Vec<u8> {
    [&invoice.period.index().to_be_bytes(), invoice.invoice_id.as_bytes()].concat()
}

fn read_place(place: &[u8]) -> Option<(Window, String)> {
    let (index, id) = place.split_first_chunk::<4>()?;
    let month = Window::from_index(Level::Month, i32::from_be_bytes(*index));
    Some((month, String::from_utf8(id.to_vec()).ok()?))
}

/// Shows an invoice with its lines.
///
/// Each line is rounded once, and the total is the sum of the lines.
#[utoipa::path(
    get,
    path = "/v1/tenants/{tenant}/invoices/{invoice}",
    operation_id = "getInvoice",
    tag = "money",
    params(InvoicePath, InvoiceParams),
    responses((status = 200, description = "The invoice.", body = InvoiceDocument)),
)]
pub(crate) async fn get_invoice(
    State(api): State<Arc<Api>>,
    Segments(path): Segments<InvoicePath>,
    asked: Strict<InvoiceParams>,
) -> Result<Response, Problem> {
    api.wait_for(asked.params.wait_for.as_deref(), Until::Rated).await?;
    api.read(move |api| {
        api.known_tenant(&path.tenant)?;
        let invoice = api.sources.invoice(&path.tenant, &path.invoice)?.invoice;
        json(&InvoiceDocument {
            summary: InvoiceSummary::of(&invoice),
            tenant_id: invoice.tenant_id,
            lines: invoice.lines.iter().map(Line::of).collect(),
            adjustments: Vec::new(),
        })
    })
    .await
}

impl InvoiceSummary {
    fn of(invoice: &Invoice) -> Self {
        Self {
            invoice_id: invoice.invoice_id.clone(),
            period: invoice.period.to_string(),
            currency: invoice.currency.clone(),
            state: invoice.state.as_str(),
            total: invoice.total.to_string(),
        }
    }
}

impl Line {
    /// A line as it is shown.
    pub(crate) fn of(line: &InvoiceLine) -> Self {
        Self {
            line_id: line.line_id.clone(),
            product_sku: line.product_sku.clone(),
            use_unit: line.use_unit.clone(),
            region: line.region.clone(),
            tier: line.tier,
            quantity: line.quantity.to_string(),
            billed_cost: line.billed_cost.to_string(),
            amount: line.amount.to_string(),
        }
    }
}
